"""Recorded traffic of the AI21 provider: what the `ai21` package sends, and answers that it reads.

    pip install ai21 && python scripts/reference/remote_ai21.py
"""

import json

from ai21 import AI21Client
from ai21.models.chat import ChatMessage

from remote_traffic import Recorder, converse, events, response, write

recorder = Recorder()
client = AI21Client(api_key="sk-loopback-1234", api_host=recorder.address("/studio/v1"), http_client=recorder.client())
HEADERS = ["authorization", "content-type"]
cases = []


def chunk(delta, reason=None, usage=None):
    fields = {"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    return json.dumps({**fields, "usage": usage} if usage else fields, ensure_ascii=False)


def usage(prompt, completion):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


recorder.answer = (200, "text/event-stream", events([(None, chunk({"role": "assistant"})), (None, chunk({"content": "Hé"})), (None, chunk({"content": "llo"}, "length", usage(4, 3))), (None, "[DONE]")]))
read = list(client.chat.completions.create(model="m", stream=True, messages=[ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Say hi.")],
                                           max_tokens=3, temperature=0.5, top_p=0.25, stop=["END"]))
assert "".join(part.choices[0].delta.content or "" for part in read) == "Héllo", read
cases.append({"name": "text, sampling and stop, streamed", "model": "m", "stream": True,
              "converse": converse([("user", [{"text": "Say hi."}])], system=[{"text": "Be brief."}], inferenceConfig={"maxTokens": 3, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]}),
              **recorder.last(HEADERS), **response([{"text": "Héllo"}], "max_tokens", {"inputTokens": 4, "outputTokens": 3, "totalTokens": 7})})

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
answer = {"id": "c1", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None, "tool_calls": [
    {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]}}], "usage": usage(9, 5)}
recorder.answer = (200, "application/json", json.dumps(answer))
tools = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}]
read = client.chat.completions.create(model="m", messages=[ChatMessage(role="user", content="Weather?")], tools=tools)
assert read.choices[0].message.tool_calls[0].id == "t1", read
cases.append({"name": "a call", "model": "m", "stream": False,
              "converse": converse([("user", [{"text": "Weather?"}])], toolConfig={"tools": [{"toolSpec": {"name": "weather", "description": "d", "inputSchema": {"json": SCHEMA}}}]}),
              **recorder.last(HEADERS), **response([{"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Rome"}}}], "tool_use", {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14})})
write("ai21", cases)
