"""Recorded traffic of the Anthropic provider: what the `anthropic` package sends, and events written by its own types.

    pip install anthropic && python scripts/reference/remote_anthropic.py
"""

import json

import httpx2
from anthropic import Anthropic
from anthropic.types import MessageTokensCount, RawMessageStreamEvent
from pydantic import TypeAdapter

from remote_traffic import Recorder, converse, events, response, write

recorder = Recorder(httpx2)
client = Anthropic(api_key="sk-loopback-1234", base_url=recorder.address(""), http_client=recorder.client(), max_retries=0)
HEADERS = ["authorization", "anthropic-version", "content-type"]
EVENT = TypeAdapter(RawMessageStreamEvent)
cases = []


def written(*parts):
    """Events, each through the package's own type."""
    out = [("ping", '{"type": "ping"}')]
    for part in parts:
        event = EVENT.validate_python(part)
        out.append((event.type, event.model_dump_json(exclude_unset=True)))
    return events(out[1:2] + out[:1] + out[2:])


def start(**usage):
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-2026", "content": [], "stop_reason": None, "stop_sequence": None}
    return {"type": "message_start", "message": {**message, "usage": {"output_tokens": 1, **usage}}}


def block(index, content, *deltas):
    return [{"type": "content_block_start", "index": index, "content_block": content},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index}]


def stop(reason, output, sequence=None, **usage):
    return [{"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence}, "usage": {"output_tokens": output, **usage}},
            {"type": "message_stop"}]


def text(*pieces):
    return [{"type": "text_delta", "text": piece} for piece in pieces]


def case(name, request, body, expected, **sdk):
    recorder.answer = (200, "text/event-stream; charset=utf-8", body)
    list(client.messages.create(model="m", stream=True, **sdk))
    cases.append({"name": name, "model": "m", "stream": True, "converse": request, **recorder.last(HEADERS), **expected})


case(
    "text, sampling, stop sequence, cache points",
    converse([("user", [{"text": "Say hi."}, {"cachePoint": {"type": "default", "ttl": "1h"}}, {"text": "Now."}])],
             system=[{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
             inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
             additionalModelRequestFields={"top_k": 5}, additionalModelResponseFieldPaths=["/stop_sequence"]),
    written(start(input_tokens=4, cache_read_input_tokens=100, cache_creation_input_tokens=30, cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}),
            *block(0, {"type": "text", "text": ""}, *text("Hé", "llo")), *block(1, {"type": "text", "text": ""}, *text("!")), *stop("stop_sequence", 3, "END")),
    response([{"text": "Héllo"}, {"text": "!"}], "stop_sequence",
             {"inputTokens": 4, "outputTokens": 3, "totalTokens": 137, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 30,
              "cacheDetails": [{"ttl": "5m", "inputTokens": 10}, {"ttl": "1h", "inputTokens": 20}]},
             additionalModelResponseFields={"stop_sequence": "END"}),
    system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    messages=[{"role": "user", "content": [{"type": "text", "text": "Say hi.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"type": "text", "text": "Now."}]}],
    max_tokens=9, stop_sequences=["END"],
    # What the package no longer names, the interface takes for the models that know it.
    extra_body={"temperature": 0.5, "top_p": 0.25, "top_k": 5},
)

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = {"tools": [{"toolSpec": {"name": "weather", "description": "Weather of a city", "inputSchema": {"json": SCHEMA}, "strict": True}},
                   {"toolSpec": {"name": "clock", "inputSchema": {"json": {"type": "object"}}}}, {"cachePoint": {"type": "default"}}]}
THEIRS = [{"name": "weather", "description": "Weather of a city", "input_schema": SCHEMA, "strict": True},
          {"name": "clock", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}]

case(
    "reasoning and calls",
    converse([("user", [{"text": "Weather?"}])], toolConfig={**TOOLS, "toolChoice": {"auto": {}}}, inferenceConfig={"maxTokens": 2000},
             additionalModelRequestFields={"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    written(start(input_tokens=50), *block(0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "Let "}, {"type": "thinking_delta", "thinking": "me."}, {"type": "signature_delta", "signature": "c2ln"}),
            *block(1, {"type": "redacted_thinking", "data": "RW5j"}), *block(2, {"type": "text", "text": ""}, *text("Looking.")),
            *block(3, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}, *({"type": "input_json_delta", "partial_json": piece} for piece in ["", "{\"city\"", ": \"Pär", "nu\"}"])),
            *block(4, {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}}), *stop("tool_use", 20)),
    response([{"reasoningContent": {"reasoningText": {"text": "Let me.", "signature": "c2ln"}}}, {"reasoningContent": {"redactedContent": "Ulc1ag=="}}, {"text": "Looking."},
              {"toolUse": {"toolUseId": "toolu_1", "name": "weather", "input": {"city": "Pärnu"}}}, {"toolUse": {"toolUseId": "toolu_2", "name": "clock", "input": {}}}],
             "tool_use", {"inputTokens": 50, "outputTokens": 20, "totalTokens": 70}),
    messages=[{"role": "user", "content": [{"type": "text", "text": "Weather?"}]}], tools=THEIRS, tool_choice={"type": "auto"}, max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024},
)

case(
    "answers of tools, reasoning sent back, a turn to continue",
    converse([("user", [{"text": "Weather?"}]),
              ("assistant", [{"reasoningContent": {"reasoningText": {"text": "Let me.", "signature": "c2ln"}}}, {"reasoningContent": {"redactedContent": "Ulc1ag=="}},
                             {"toolUse": {"toolUseId": "a1", "name": "weather", "input": {"city": "Oslo"}}}, {"toolUse": {"toolUseId": "a2", "name": "clock", "input": {}}}]),
              ("user", [{"toolResult": {"toolUseId": "a1", "content": [{"json": {"c": 3}}, {"image": {"format": "jpeg", "source": {"bytes": "AQID"}}}], "status": "success"}},
                        {"toolResult": {"toolUseId": "a2", "content": [{"text": "no clock"}], "status": "error"}}]),
              ("assistant", [{"text": "It is"}])],
             toolConfig={**TOOLS, "toolChoice": {"tool": {"name": "clock"}}}),
    written(start(input_tokens=80), *block(0, {"type": "text", "text": ""}, *text(" cold.")), *stop("end_turn", 3, input_tokens=81)),
    response([{"text": " cold."}], "end_turn", {"inputTokens": 81, "outputTokens": 3, "totalTokens": 84}),
    messages=[{"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
              {"role": "assistant", "content": [{"type": "thinking", "thinking": "Let me.", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "RW5j"},
                  {"type": "tool_use", "id": "a1", "name": "weather", "input": {"city": "Oslo"}}, {"type": "tool_use", "id": "a2", "name": "clock", "input": {}}]},
              {"role": "user", "content": [
                  {"type": "tool_result", "tool_use_id": "a1", "content": [{"type": "text", "text": "{\"c\":3}"}, {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AQID"}}]},
                  {"type": "tool_result", "tool_use_id": "a2", "content": [{"type": "text", "text": "no clock"}], "is_error": True}]},
              {"role": "assistant", "content": [{"type": "text", "text": "It is"}]}],
    tools=THEIRS, tool_choice={"type": "tool", "name": "clock"}, max_tokens=4096,
)

CITED = {"type": "char_location", "cited_text": "sky is blue", "document_index": 1, "document_title": "note", "start_char_index": 4, "end_char_index": 15, "file_id": None}
FOUND = {"type": "search_result_location", "cited_text": "grass", "search_result_index": 0, "source": "https://x.test", "title": "Lawn", "start_block_index": 0, "end_block_index": 1}
SENT = {key: value for key, value in CITED.items() if key != "file_id"}
case(
    "documents, a search result, citations, a schema and effort",
    converse([("user", [{"text": "Why?"}, {"document": {"format": "pdf", "name": "report", "source": {"bytes": "JVBERg=="}}},
                        {"document": {"format": "txt", "name": "note", "source": {"bytes": "dGhlIHNreSBpcyBibHVl"}, "context": "a letter", "citations": {"enabled": True}}},
                        {"document": {"name": "pieces", "source": {"content": [{"text": "a"}, {"text": "b"}]}}},
                        {"searchResult": {"source": "https://x.test", "title": "Lawn", "content": [{"text": "grass"}], "citations": {"enabled": True}}}]),
              ("assistant", [{"citationsContent": {"content": [{"text": "Blue."}], "citations": [
                  {"title": "note", "sourceContent": [{"text": "sky is blue"}], "location": {"documentChar": {"documentIndex": 1, "start": 4, "end": 15}}}]}}]),
              ("user", [{"image": {"format": "png", "source": {"bytes": "AQID"}}}])],
             outputConfig={"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": json.dumps(SCHEMA)}}}, "effort": "low"}),
    written(start(input_tokens=9), *block(0, {"type": "text", "text": "", "citations": []}, *text("It "), *text("is blue."), {"type": "citations_delta", "citation": CITED}, {"type": "citations_delta", "citation": FOUND}),
            *block(1, {"type": "text", "text": ""}, *text(" So.")), *stop("refusal", 4)),
    response([{"citationsContent": {"content": [{"text": "It is blue."}], "citations": [
                  {"title": "note", "sourceContent": [{"text": "sky is blue"}], "location": {"documentChar": {"documentIndex": 1, "start": 4, "end": 15}}},
                  {"title": "Lawn", "source": "https://x.test", "sourceContent": [{"text": "grass"}], "location": {"searchResultLocation": {"searchResultIndex": 0, "start": 0, "end": 1}}}]}},
              {"text": " So."}], "content_filtered", {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}),
    messages=[{"role": "user", "content": [{"type": "text", "text": "Why?"},
                {"type": "document", "title": "report", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}},
                {"type": "document", "title": "note", "context": "a letter", "citations": {"enabled": True}, "source": {"type": "text", "media_type": "text/plain", "data": "the sky is blue"}},
                {"type": "document", "title": "pieces", "source": {"type": "content", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}},
                {"type": "search_result", "source": "https://x.test", "title": "Lawn", "content": [{"type": "text", "text": "grass"}], "citations": {"enabled": True}}]},
              {"role": "assistant", "content": [{"type": "text", "text": "Blue.", "citations": [SENT]}]},
              {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AQID"}}]}],
    max_tokens=4096, output_config={"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"},
)

recorder.answer = (200, "text/event-stream", written(start(input_tokens=9), *block(0, {"type": "text", "text": ""}, *text("It "))) + events([("error", '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}')]))
try:
    list(client.messages.create(model="m", stream=True, max_tokens=4096, messages=[{"role": "user", "content": [{"type": "text", "text": "x"}]}]))
    raise SystemExit("the package saw no error")
except Exception as error:
    assert "verloaded" in str(error), error
cases.append({"name": "a failure within the stream", "model": "m", "stream": True, "converse": converse([("user", [{"text": "x"}])]), **recorder.last(HEADERS),
              "error": {"exception": "ServiceUnavailableException", "message": "Overloaded"}})

recorder.answer = (200, "application/json", MessageTokensCount(input_tokens=77).model_dump_json())
client.messages.count_tokens(model="m", system=[{"type": "text", "text": "Be brief."}], messages=[{"role": "user", "content": [{"type": "text", "text": "Weather?"}]}], tools=THEIRS, tool_choice={"type": "any"})
cases.append({"name": "a count", "model": "m", "count": converse([("user", [{"text": "Weather?"}])], system=[{"text": "Be brief."}], toolConfig={**TOOLS, "toolChoice": {"any": {}}}, inferenceConfig={"maxTokens": 5, "temperature": 0.5}), **recorder.last(HEADERS)})

write("anthropic", cases)
