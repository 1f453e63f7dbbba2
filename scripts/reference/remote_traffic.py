"""Records what a Python package sends over httpx, and answers it. Used by the remote_*.py beside this file."""

import base64
import json
import pathlib

import httpx

FOLDER = pathlib.Path(__file__).parents[2] / "bedrock-models/tests/fixtures/remote"


class Recorder:
    """A transport of httpx (or of a package that took its place) that answers every request with `answer`: status, content type, body."""

    def __init__(self, http=httpx):
        self.http = http
        self.answer, self.request = None, None

    def address(self, path):
        return "http://loopback.test" + path

    def client(self):
        return self.http.Client(transport=self.http.MockTransport(self.handle))

    def handle(self, request):
        self.request = request
        status, kind, body = self.answer
        return self.http.Response(status, headers={"content-type": kind}, content=body)

    def last(self, headers):
        """The last request and its answer, as they stand in a case."""
        status, kind, body = self.answer
        body = body.encode() if isinstance(body, str) else body
        try:
            answer = {"body": body.decode()}
        except UnicodeDecodeError:
            answer = {"base64": base64.b64encode(body).decode()}
        request = self.request
        path = request.url.raw_path.decode()
        sent = {"path": path, "headers": {name: request.headers[name] for name in headers}, "body": json.loads(request.content)}
        return {"sent": sent, "answer": {"status": status, "content_type": kind, **answer}}


def converse(messages, **fields):
    return {"messages": [{"role": role, "content": content} for role, content in messages], **fields}


def response(content, stop, usage, **fields):
    message = {"output": {"message": {"role": "assistant", "content": content}}}
    return {"response": {**message, "stopReason": stop, "usage": usage, **fields}}


def events(pairs):
    """Server-sent events of (name, data)."""
    return "".join((f"event: {name}\n" if name else "") + f"data: {data}\n\n" for name, data in pairs)


def write(name, cases):
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
    print(path, len(cases), "cases")
