"""Recorded traffic of the OpenAI provider: what the `openai` package sends, and answers written by its own types.

    pip install openai && python scripts/reference/remote_openai.py
"""

from openai import OpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types import Completion

from remote_traffic import Recorder, converse, events, response, write

KEY = "sk-loopback-1234"
recorder = Recorder()
client = OpenAI(api_key=KEY, base_url=recorder.address("/v1"), http_client=recorder.client(), max_retries=0)
HEADERS = ["authorization", "content-type"]
cases = []


def dump(model):
    return model.model_dump_json(exclude_unset=True)


def chunk(delta=None, reason=None, usage=None, **extra):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason, **extra}]
    fields = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1764000000, "model": "m-2026", "choices": choices}
    if usage:
        fields["usage"] = usage
    return dump(ChatCompletionChunk.model_validate(fields))


def stream(*chunks):
    return events([(None, text) for text in chunks] + [(None, "[DONE]")])


def usage(prompt, completion, cached=0):
    fields = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**fields, "prompt_tokens_details": {"cached_tokens": cached}} if cached else fields


def whole(message, reason, tokens, **extra):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason, **extra}
    fields = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1764000000, "model": "m-2026", "choices": [choice]}
    return dump(ChatCompletion.model_validate({**fields, "usage": tokens}))


def case(name, request, answer, expected, **sdk):
    streaming = sdk.get("stream", False)
    recorder.answer = (200, "text/event-stream" if streaming else "application/json", answer)
    result = client.chat.completions.create(model="m", **sdk)
    if streaming:
        list(result)
    cases.append({"name": name, "model": "m", "stream": streaming, "converse": request,
                  **recorder.last(HEADERS), **expected})


OPTIONS = {"stream": True, "stream_options": {"include_usage": True}}

case(
    "text, sampling and stop, streamed",
    converse([("user", [{"text": "Say hi."}])], system=[{"text": "Be brief."}, {"text": "Be kind."}],
             inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
             additionalModelRequestFields={"seed": 7}, additionalModelResponseFieldPaths=["/id", "/choices/0/finish_reason"]),
    stream(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hé"}), chunk({"content": "llo\n"}),
           chunk({}, "length"), chunk(usage=usage(12, 9, cached=8))),
    response([{"text": "Héllo\n"}], "max_tokens", {"inputTokens": 4, "outputTokens": 9, "totalTokens": 21, "cacheReadInputTokens": 8},
             additionalModelResponseFields={"id": "chatcmpl-1", "choices": {"0": {"finish_reason": "length"}}}),
    messages=[{"role": "system", "content": "Be brief.\n\nBe kind."}, {"role": "user", "content": "Say hi."}],
    max_tokens=9, temperature=0.5, top_p=0.25, stop=["END"], seed=7, **OPTIONS,
)

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"tools": [{"toolSpec": {"name": "weather", "description": "Weather of a city", "inputSchema": {"json": WEATHER}, "strict": True}},
                   {"toolSpec": {"name": "clock", "inputSchema": {"json": {"type": "object"}}}}]}
THEIR_TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": WEATHER, "strict": True}},
               {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}]


def call(index, id=None, name=None, arguments=None):
    function = {key: value for key, value in [("name", name), ("arguments", arguments)] if value is not None}
    return {"tool_calls": [{key: value for key, value in [("index", index), ("id", id), ("type", "function" if id else None), ("function", function)] if value is not None}]}


case(
    "two calls, their arguments in fragments",
    converse([("user", [{"text": "Weather?"}])], toolConfig={**TOOLS, "toolChoice": {"any": {}}}),
    stream(chunk({"role": "assistant", "content": "Let me "}), chunk({"content": "look."}),
           chunk(call(0, "call_a", "weather", "")), chunk(call(0, arguments="{\"ci")), chunk(call(0, arguments="ty\":\"Pär")), chunk(call(0, arguments="nu\"}")),
           chunk(call(1, "call_b", "clock", "")), chunk({}, "tool_calls"), chunk(usage=usage(50, 20))),
    response([{"text": "Let me look."}, {"toolUse": {"toolUseId": "call_a", "name": "weather", "input": {"city": "Pärnu"}}},
              {"toolUse": {"toolUseId": "call_b", "name": "clock", "input": {}}}],
             "tool_use", {"inputTokens": 50, "outputTokens": 20, "totalTokens": 70}),
    messages=[{"role": "user", "content": "Weather?"}], tools=THEIR_TOOLS, tool_choice="required", **OPTIONS,
)

case(
    "a whole answer with a call; answers of tools; one tool must be used",
    converse([("user", [{"text": "Weather?"}]),
              ("assistant", [{"text": "Looking."}, {"toolUse": {"toolUseId": "a1", "name": "weather", "input": {"city": "Oslo"}}},
                             {"toolUse": {"toolUseId": "a2", "name": "clock", "input": {}}}]),
              ("user", [{"toolResult": {"toolUseId": "a1", "content": [{"json": {"c": 3}}, {"text": "cold"}]}},
                        {"toolResult": {"toolUseId": "a2", "content": [{"text": "no clock"}], "status": "error"}},
                        {"text": "And now?"}])],
             toolConfig={**TOOLS, "toolChoice": {"tool": {"name": "weather"}}}),
    # Where one tool is forced, the reason is `stop`.
    whole({"content": None, "tool_calls": [{"id": "call_c", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]},
          "stop", usage(80, 11)),
    response([{"toolUse": {"toolUseId": "call_c", "name": "weather", "input": {"city": "Rome"}}}], "tool_use",
             {"inputTokens": 80, "outputTokens": 11, "totalTokens": 91}),
    messages=[{"role": "user", "content": "Weather?"},
              {"role": "assistant", "content": "Looking.", "tool_calls": [
                  {"id": "a1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
                  {"id": "a2", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]},
              {"role": "tool", "tool_call_id": "a1", "content": "{\"c\":3}\ncold"},
              {"role": "tool", "tool_call_id": "a2", "content": "Error: no clock"},
              {"role": "user", "content": "And now?"}],
    tools=THEIR_TOOLS, tool_choice={"type": "function", "function": {"name": "weather"}},
)

case(
    "a picture, sound, a PDF file and a text",
    converse([("user", [{"text": "What is this?"}, {"image": {"format": "png", "source": {"bytes": "AQID"}}},
                        {"audio": {"format": "wav", "source": {"bytes": "BAUG"}}},
                        {"document": {"format": "pdf", "name": "report", "source": {"bytes": "JVBERg=="}}},
                        {"document": {"format": "txt", "name": "note", "source": {"bytes": "aGVsbG8="}, "context": "a letter"}}])]),
    whole({"content": "Things."}, "stop", usage(9, 2)),
    response([{"text": "Things."}], "end_turn", {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}),
    messages=[{"role": "user", "content": [
        {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}},
        {"type": "input_audio", "input_audio": {"data": "BAUG", "format": "wav"}},
        {"type": "file", "file": {"filename": "report.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
        {"type": "text", "text": "note\na letter\nhello"}]}],
)

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}
entry = lambda token, value: {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": [{"token": token, "logprob": value, "bytes": None}]}
case(
    "a schema, log-probabilities, effort and a queue",
    converse([("user", [{"text": "x?"}])],
             outputConfig={"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": __import__("json").dumps(SCHEMA), "name": "point", "description": "A point"}}}, "effort": "low"},
             serviceTier={"type": "flex"}, additionalModelRequestFields={"logprobs": True, "top_logprobs": 1}),
    stream(chunk({"content": "{\"x\":"}, logprobs={"content": [entry("{\"x\":", -0.5)], "refusal": None}),
           chunk({"content": "1}"}, logprobs={"content": [entry("1}", -0.25)], "refusal": None}), chunk({}, "stop"), chunk(usage=usage(5, 2))),
    response([{"text": "{\"x\":1}"}], "end_turn", {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7},
             additionalModelResponseFields={"logprobs": [entry("{\"x\":", -0.5), entry("1}", -0.25)]}),
    messages=[{"role": "user", "content": "x?"}], reasoning_effort="low", service_tier="flex", logprobs=True, top_logprobs=1,
    response_format={"type": "json_schema", "json_schema": {"name": "point", "description": "A point", "schema": SCHEMA, "strict": True}}, **OPTIONS,
)

case(
    "a refusal",
    converse([("user", [{"text": "x?"}])]),
    stream(chunk({"refusal": "I can't."}), chunk({}, "stop"), chunk(usage=usage(5, 2))),
    response([{"text": "I can't."}], "content_filtered", {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}),
    messages=[{"role": "user", "content": "x?"}], **OPTIONS,
)

# What other servers of this interface add; the package keeps fields that it does not know.
case(
    "reasoning and a stop sequence, as vLLM sends them",
    converse([("user", [{"text": "x?"}]), ("assistant", [{"reasoningContent": {"reasoningText": {"text": "Hm."}}}, {"text": "y"}]), ("user", [{"text": "z?"}])],
             inferenceConfig={"stopSequences": ["\n"]}, additionalModelResponseFieldPaths=["/stop_sequence"]),
    stream(chunk({"reasoning_content": "Think"}), chunk({"reasoning_content": "ing."}), chunk({"content": "w"}),
           chunk({}, "stop", stop_reason="\n"), chunk(usage=usage(5, 4))),
    response([{"reasoningContent": {"reasoningText": {"text": "Thinking."}}}, {"text": "w"}], "stop_sequence",
             {"inputTokens": 5, "outputTokens": 4, "totalTokens": 9}, additionalModelResponseFields={"stop_sequence": "\n"}),
    messages=[{"role": "user", "content": "x?"}, {"role": "assistant", "content": "y", "reasoning_content": "Hm."}, {"role": "user", "content": "z?"}],
    stop=["\n"], **OPTIONS,
)

# A failure within the stream; the package raises it.
recorder.answer = (200, "text/event-stream", events([(None, chunk({"content": "a"})), (None, '{"error": {"message": "overloaded by sk-loopback-1234", "type": "server_error"}}')]))
try:
    list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], **OPTIONS))
    raise SystemExit("the package saw no error")
except Exception as error:
    assert "overloaded" in str(error), error
cases.append({"name": "a failure within the stream", "model": "m", "stream": True, "converse": converse([("user", [{"text": "x"}])]),
              **recorder.last(HEADERS), "error": {"exception": "ModelStreamErrorException", "message": "overloaded by [redacted]"}})

# Raw text.
recorder.answer = (200, "application/json", dump(Completion.model_validate(
    {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "text": " world", "finish_reason": "stop", "logprobs": {"tokens": [" world"], "token_logprobs": [-0.5], "text_offset": [5], "top_logprobs": [{" world": -0.5}]}}],
     "usage": usage(1, 1)})))
client.completions.create(model="m", prompt="Hello", max_tokens=1, temperature=0.0, logprobs=1)
cases.append({"name": "raw text", "model": "m", "stream": False, "completions": True,
              "converse": converse([("user", [{"text": "Hello"}])], inferenceConfig={"maxTokens": 1, "temperature": 0.0}, additionalModelRequestFields={"logprobs": 1}),
              **recorder.last(HEADERS), **response([{"text": " world"}], "end_turn", {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
              additionalModelResponseFields={"logprobs": [{"token": " world", "logprob": -0.5, "top_logprobs": {" world": -0.5}}]})})

# Vectors.
recorder.answer = (200, "application/json", dump(CreateEmbeddingResponse.model_validate(
    {"object": "list", "model": "e", "data": [{"object": "embedding", "index": 1, "embedding": [0.0, -2.0]}, {"object": "embedding", "index": 0, "embedding": [3.0, 4.0]}],
     "usage": {"prompt_tokens": 5, "total_tokens": 5}})))
client.embeddings.create(model="e", input=["a", " "], dimensions=2, encoding_format="float")
cases.append({"name": "vectors", "model": "e", **recorder.last(HEADERS)})

write("openai", cases)
