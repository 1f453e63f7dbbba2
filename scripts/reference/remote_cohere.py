"""Recorded traffic of the Cohere provider: what the `cohere` package sends, and answers that it reads.

    pip install cohere && python scripts/reference/remote_cohere.py
"""

import json
import sys

# A script beside this one has the name of a package that `cohere` imports.
sys.path.append(sys.path.pop(0))

import cohere

from remote_traffic import Recorder, converse, events, response, write

recorder = Recorder()
client = cohere.ClientV2(api_key="sk-loopback-1234", base_url=recorder.address(""), httpx_client=recorder.client())
HEADERS = ["authorization", "content-type"]
cases = []


def content(**fields):
    return {"message": {"content": fields}}


def event(kind, **fields):
    return {"type": kind, **fields}


def written(*parts):
    return events([(part["type"], json.dumps(part, ensure_ascii=False)) for part in parts])


def end(reason, tokens, cached=None):
    usage = {"billed_units": {"input_tokens": 1, "output_tokens": 1}, "tokens": dict(zip(("input_tokens", "output_tokens"), tokens))}
    return event("message-end", delta={"finish_reason": reason, "usage": {**usage, "cached_tokens": cached} if cached else usage})


START = event("message-start", id="m1", delta={"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}})


def case(name, request, parts, expected, **sdk):
    recorder.answer = (200, "text/event-stream", written(*parts))
    read = [item.type for item in client.chat_stream(model="m", citation_options={"mode": "OFF"}, **sdk)]
    assert read == [part["type"] for part in parts], read
    cases.append({"name": name, "model": "m", "stream": True, "converse": request, **recorder.last(HEADERS), **expected})


case(
    "reasoning, text, sampling and stop, log-probabilities",
    converse([("user", [{"text": "Say hi."}, {"image": {"format": "png", "source": {"bytes": "AQID"}}}])], system=[{"text": "Be brief."}],
             inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
             additionalModelRequestFields={"k": 5, "logprobs": True}, additionalModelResponseFieldPaths=["/id"]),
    [START, event("content-start", index=0, delta=content(type="thinking", thinking="")), event("content-delta", index=0, delta=content(thinking="Hm.")), event("content-end", index=0),
     event("content-start", index=1, delta=content(type="text", text="")), event("content-delta", index=1, delta=content(text="Hé"), logprobs={"token_ids": [1], "text": "Hé", "logprobs": [-0.5]}),
     event("content-delta", index=1, delta=content(text="llo")), event("content-end", index=1), end("STOP_SEQUENCE", (12.0, 3.0), 8.0)],
    response([{"reasoningContent": {"reasoningText": {"text": "Hm."}}}, {"text": "Héllo"}], "stop_sequence",
             {"inputTokens": 4, "outputTokens": 3, "totalTokens": 15, "cacheReadInputTokens": 8},
             additionalModelResponseFields={"id": "m1", "logprobs": [{"token_ids": [1], "text": "Hé", "logprobs": [-0.5]}]}),
    messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Say hi."}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}}]}],
    max_tokens=9, temperature=0.5, p=0.25, stop_sequences=["END"], k=5, logprobs=True,
)

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def call(**fields):
    return {"message": {"tool_calls": fields}}


case(
    "calls, a plan, answers of tools",
    converse([("user", [{"text": "Weather?"}]),
              ("assistant", [{"reasoningContent": {"reasoningText": {"text": "Hm."}}}, {"text": "I look."}, {"toolUse": {"toolUseId": "a1", "name": "weather", "input": {"city": "Oslo"}}}]),
              ("user", [{"toolResult": {"toolUseId": "a1", "content": [{"json": {"c": 3}}]}}]),
              ("assistant", [{"reasoningContent": {"reasoningText": {"text": "So."}}}, {"text": "Cold."}]), ("user", [{"text": "And here?"}])],
             toolConfig={"tools": [{"toolSpec": {"name": "weather", "description": "d", "inputSchema": {"json": SCHEMA}, "strict": True}}], "toolChoice": {"any": {}}}),
    [START, event("tool-plan-delta", delta={"message": {"tool_plan": "I will "}}), event("tool-plan-delta", delta={"message": {"tool_plan": "look."}}),
     event("tool-call-start", index=0, delta=call(id="t1", type="function", function={"name": "weather", "arguments": ""})),
     event("tool-call-delta", index=0, delta=call(function={"arguments": "{\"city\": "})), event("tool-call-delta", index=0, delta=call(function={"arguments": "\"Rome\"}"})), event("tool-call-end", index=0),
     event("tool-call-start", index=1, delta=call(id="t2", type="function", function={"name": "weather", "arguments": ""})), event("tool-call-end", index=1), end("TOOL_CALL", (20.0, 7.0))],
    response([{"text": "I will look."}, {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Rome"}}}, {"toolUse": {"toolUseId": "t2", "name": "weather", "input": {}}}],
             "tool_use", {"inputTokens": 20, "outputTokens": 7, "totalTokens": 27}),
    messages=[{"role": "user", "content": "Weather?"},
              {"role": "assistant", "tool_plan": "I look.", "content": [{"type": "thinking", "thinking": "Hm."}], "tool_calls": [{"id": "a1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}}]},
              {"role": "tool", "tool_call_id": "a1", "content": "{\"c\":3}"},
              {"role": "assistant", "content": [{"type": "thinking", "thinking": "So."}, {"type": "text", "text": "Cold."}]}, {"role": "user", "content": "And here?"}],
    tools=[{"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}], strict_tools=True, tool_choice="REQUIRED",
)

case(
    "a schema",
    converse([("user", [{"text": "x?"}])], outputConfig={"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": json.dumps(SCHEMA), "name": "n"}}}}),
    [START, event("content-start", index=0, delta=content(type="text", text="")), event("content-delta", index=0, delta=content(text="{}")), event("content-end", index=0), end("COMPLETE", (5.0, 1.0))],
    response([{"text": "{}"}], "end_turn", {"inputTokens": 5, "outputTokens": 1, "totalTokens": 6}),
    messages=[{"role": "user", "content": "x?"}], response_format={"type": "json_object", "json_schema": SCHEMA},
)

case(
    "a failure within the stream",
    converse([("user", [{"text": "x?"}])]),
    [START, event("message-end", delta={"finish_reason": "ERROR", "error": "out of sk-loopback-1234"})],
    {"error": {"exception": "ModelStreamErrorException", "message": "out of [redacted]"}},
    messages=[{"role": "user", "content": "x?"}],
)

recorder.answer = (200, "application/json", json.dumps({"id": "1", "embeddings": {"float": [[3.0, 4.0], [1.0, 0.0]]}, "texts": ["a", "b"], "meta": {"billed_units": {"input_tokens": 4.0}}}))
assert client.embed(model="e", texts=["a", "b"], input_type="search_document", embedding_types=["float"], truncate="NONE", output_dimension=2).embeddings.float_ == [[3.0, 4.0], [1.0, 0.0]]
cases.append({"name": "vectors", "model": "e", **recorder.last(HEADERS)})

recorder.answer = (200, "application/json", json.dumps({"id": "1", "results": [{"index": 2, "relevance_score": 0.9}, {"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.5}], "meta": {"billed_units": {"search_units": 1.0}}}))
assert client.rerank(model="r", query="q", documents=["a", " ", "c"]).results[0].index == 2
cases.append({"name": "a ranking", "model": "r", **recorder.last(HEADERS)})

write("cohere", cases)
