"""Recorded traffic of the Bedrock provider: what botocore sends, and answers that botocore reads.

    pip install boto3 && python scripts/reference/remote_bedrock.py
"""

import base64
import binascii
import io
import json
import struct

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from remote_traffic import converse, response, write

HEADERS = ["content-type"]
sent, answer, cases = [], None, []
client = boto3.client("bedrock-runtime", region_name="eu-north-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                      config=Config(retries={"total_max_attempts": 1}))


class Raw(io.BytesIO):
    def stream(self, size=16, **_):
        while part := self.read(size):
            yield part


def record(request, **_):
    sent.append(request)
    status, kind, body, headers = answer
    return AWSResponse(request.url, status, {"content-type": kind, **headers}, Raw(body))


client.meta.events.register("before-send.bedrock-runtime", record)


def frame(payload, **headers):
    block = b"".join(struct.pack(">B", len(name)) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode() for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    return prelude + block + payload + struct.pack(">I", binascii.crc32(prelude + block + payload))


def event(name, value):
    return frame(json.dumps({**value, "p": "abcdefgh"}).encode(), **{":event-type": name, ":content-type": "application/json", ":message-type": "event"})


def exception(name, value):
    return frame(json.dumps(value).encode(), **{":exception-type": name, ":content-type": "application/json", ":message-type": "exception"})


def call(operation, status, kind, content, headers=None, **arguments):
    """What was sent and answered; what botocore made of it."""
    global answer
    answer = (status, kind, content, headers or {})
    try:
        result = getattr(client, operation)(modelId=MODEL, **arguments)
        for key in ("stream", "body"):
            if key in result:
                result[key] = list(result[key]) if kind == STREAM else json.loads(result[key].read())
    except Exception as error:
        result = error
    request = sent.pop()
    path = request.url.split("amazonaws.com", 1)[1]
    text = {"base64": base64.b64encode(content).decode()} if kind == STREAM else {"body": content.decode()}
    recorded = {"sent": {"path": path, "headers": {name: request.headers[name].decode() if isinstance(request.headers[name], bytes) else request.headers[name] for name in HEADERS}, "body": json.loads(request.body)},
                "answer": {"status": status, "content_type": kind, "headers": headers or {}, **text}}
    return recorded, result


STREAM, JSON = "application/vnd.amazon.eventstream", "application/json"
MODEL = "arn:aws:bedrock:eu-north-1::foundation-model/meta.llama3-8b-instruct-v1:0"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
REQUEST = converse([("user", [{"text": "Weather?"}])], system=[{"text": "Be brief."}],
                   inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
                   toolConfig={"tools": [{"toolSpec": {"name": "weather", "description": "d", "inputSchema": {"json": SCHEMA}}}], "toolChoice": {"any": {}}},
                   guardrailConfig={"guardrailIdentifier": "g1", "guardrailVersion": "1"}, requestMetadata={"team": "blue"},
                   performanceConfig={"latency": "optimized"}, additionalModelRequestFields={"top_k": 5}, additionalModelResponseFieldPaths=["/stop_sequence"])
PICTURE = converse([("user", [{"text": "What?"}, {"image": {"format": "png", "source": {"bytes": "AQID"}}}])])
THEIR_PICTURE = converse([("user", [{"text": "What?"}, {"image": {"format": "png", "source": {"bytes": b"\x01\x02\x03"}}}])])
USAGE = {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}
EVENTS = [event("messageStart", {"role": "assistant"}), event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hé"}}),
          event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "llo"}}), event("contentBlockStop", {"contentBlockIndex": 0}),
          event("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "weather"}}}),
          event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{\"city\":"}}}),
          event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "\"Oslo\"}"}}}),
          event("contentBlockStop", {"contentBlockIndex": 1}),
          event("messageStop", {"stopReason": "tool_use", "additionalModelResponseFields": {"stop_sequence": None}}),
          event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 3}, "performanceConfig": {"latency": "optimized"}})]
SAID = response([{"text": "Héllo"}, {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}}], "tool_use", USAGE,
                additionalModelResponseFields={"stop_sequence": None}, performanceConfig={"latency": "optimized"})

recorded, result = call("converse_stream", 200, STREAM, b"".join(EVENTS), **REQUEST)
assert [list(part) for part in result["stream"]][-1] == ["metadata"], result
cases.append({"name": "ConverseStream", "model": MODEL, "stream": True, "converse": REQUEST, **recorded, **SAID})

body = json.dumps({**SAID["response"], "metrics": {"latencyMs": 3}}, ensure_ascii=False).encode()
recorded, result = call("converse", 200, JSON, body, **REQUEST)
assert result["output"] == SAID["response"]["output"], result
cases.append({"name": "Converse", "model": MODEL, "stream": False, "converse": REQUEST, **recorded, **SAID})

recorded, result = call("converse", 200, JSON, json.dumps({**response([{"text": "A cat."}], "end_turn", USAGE)["response"], "metrics": {"latencyMs": 1}}).encode(), **THEIR_PICTURE)
cases.append({"name": "a picture", "model": MODEL, "stream": False, "converse": PICTURE, **recorded, **response([{"text": "A cat."}], "end_turn", USAGE)})

for name, status, kind, exc, part in [("throttlingException", 200, STREAM, "ThrottlingException", "slow down"), ("modelStreamErrorException", 200, STREAM, "ModelStreamErrorException", "boom"),
                                      ("AccessDeniedException", 403, JSON, "AccessDeniedException", "no access"), ("ValidationException", 400, JSON, "ValidationException", "too long"),
                                      ("ModelErrorException", 424, JSON, "ModelErrorException", "no")]:
    if kind == STREAM:
        recorded, result = call("converse_stream", 200, STREAM, b"".join(EVENTS[:2]) + exception(name, {"message": part}), **THEIR_PICTURE)
    else:
        recorded, result = call("converse", status, JSON, json.dumps({"message": part}).encode(), {"x-amzn-errortype": name + ":http://internal.amazon.com/coral/"}, **THEIR_PICTURE)
    assert isinstance(result, Exception) and part in str(result), result
    cases.append({"name": f"{name} {status}", "model": MODEL, "stream": kind == STREAM, "converse": PICTURE, **recorded, "error": {"exception": exc, "message": part}})

recorded, result = call("count_tokens", 200, JSON, b'{"inputTokens": 41}', input={"converse": {key: REQUEST[key] for key in ("messages", "system", "toolConfig", "additionalModelRequestFields")}})
assert result["inputTokens"] == 41
cases.append({"name": "a count", "model": MODEL, "count": REQUEST, **recorded})


def invoke(name, model, body, answer, headers=None, **case):
    global MODEL
    MODEL = model
    recorded, result = call("invoke_model", 200, JSON, json.dumps(answer).encode(), headers, body=json.dumps(body), contentType=JSON, accept=JSON)
    assert result["body"] == answer
    cases.append({"name": name, "model": model, **recorded, **case})


TEXT = converse([("user", [{"text": "Once upon"}])], inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]})
MODEL = "amazon.titan-text-express-v1"
chunks = [{"index": 0, "inputTextTokenCount": 2, "totalOutputTextTokenCount": None, "outputText": " a", "completionReason": None},
          {"index": 0, "inputTextTokenCount": 2, "totalOutputTextTokenCount": 3, "outputText": " timé", "completionReason": "LENGTH",
           "amazon-bedrock-invocationMetrics": {"inputTokenCount": 2, "outputTokenCount": 3}}]
recorded, result = call("invoke_model_with_response_stream", 200, STREAM, b"".join(event("chunk", {"bytes": base64.b64encode(json.dumps(chunk).encode()).decode()}) for chunk in chunks),
                        body=json.dumps({"inputText": "Once upon", "textGenerationConfig": {"maxTokenCount": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]}}), contentType=JSON, accept=JSON)
assert json.loads(result["body"][1]["chunk"]["bytes"]) == chunks[1], result
recorded["sent"]["headers"]["x-amzn-bedrock-accept"] = JSON
cases.append({"name": "Titan Text", "model": MODEL, "family": "titan", "stream": True, "converse": TEXT, **recorded,
              **response([{"text": " a timé"}], "max_tokens", {"inputTokens": 2, "outputTokens": 3, "totalTokens": 5})})
invoke("Jurassic-2", "ai21.j2-ultra-v1", {"prompt": "Once upon", "maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
       {"id": 1, "prompt": {"text": "Once upon", "tokens": [{}, {}]}, "completions": [{"data": {"text": " a time", "tokens": [{}, {}, {}]}, "finishReason": {"reason": "endoftext"}}]},
       family="jurassic", stream=False, converse=TEXT, **response([{"text": " a time"}], "end_turn", {"inputTokens": 2, "outputTokens": 3, "totalTokens": 5}))
invoke("Titan vectors", "amazon.titan-embed-text-v2:0", {"inputText": "a", "dimensions": 2, "normalize": True}, {"embedding": [0.6, 0.8], "inputTextTokenCount": 3, "embeddingsByType": {"float": [0.6, 0.8]}})
invoke("Titan G1 vectors", "amazon.titan-embed-text-v1", {"inputText": "a"}, {"embedding": [3.0, 4.0], "inputTextTokenCount": 3})
invoke("Cohere vectors", "cohere.embed-english-v3", {"texts": ["a", "b"], "input_type": "search_query", "truncate": "NONE", "embedding_types": ["float"]},
       {"id": "1", "response_type": "embeddings_by_type", "texts": ["a", "b"], "embeddings": {"float": [[0.6, 0.8], [1.0, 0.0]]}}, {"x-amzn-bedrock-input-token-count": "4"})
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode()
invoke("Titan picture", "amazon.titan-image-generator-v2:0", {"taskType": "TEXT_IMAGE", "textToImageParams": {"text": "a cat", "negativeText": "dogs"},
       "imageGenerationConfig": {"numberOfImages": 1, "seed": 7, "width": 512, "height": 256, "cfgScale": 8.0}}, {"images": [PNG], "error": None})
invoke("SDXL picture", "stability.stable-diffusion-xl-v1", {"text_prompts": [{"text": "a cat", "weight": 1.0}, {"text": "dogs", "weight": -1.0}], "seed": 7, "samples": 1, "steps": 30, "cfg_scale": 8.0,
       "init_image": "AQID", "mask_source": "MASK_IMAGE_WHITE", "mask_image": "BAUG", "image_strength": 0.25}, {"result": "success", "artifacts": [{"seed": 7, "base64": PNG, "finishReason": "SUCCESS"}]})
write("bedrock", cases)
