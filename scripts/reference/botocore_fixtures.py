#!/usr/bin/env python3
"""Writes bedrock-core/tests/fixtures: JSON of every shape of the API, as the service's own Python SDK writes and reads it.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install botocore==1.44.5
    /tmp/venv/bin/python scripts/reference/botocore_fixtures.py

The service model that botocore carries is walked, so that every member of every structure and union and every value of
every enum occurs at least once (asserted at the end). Requests go through botocore's parameter check and serializer, and
what is kept is the body it would send. Responses and stream events are written by hand-made encoders, read by botocore's
parsers, and kept if the parser gives back the value they were made from.
"""

import base64
import binascii
import datetime
import itertools
import json
import pathlib
import struct

import botocore
import botocore.eventstream
import botocore.parsers
import botocore.serialize
import botocore.session
import botocore.validate

OUT = pathlib.Path(__file__).resolve().parents[2] / "bedrock-core" / "tests" / "fixtures"
SESSION = botocore.session.get_session()


class Walk:
    """Values of a shape that together visit every member and every enum value below it.

    A structure or union is spread out where it is met first; where it is met again, one value stands for it. So the size of
    all values grows with the number of shapes and not with the number of paths to them.
    """

    def __init__(self):
        self.seen = set()
        self.counter = itertools.count(1)
        self.spread = set()

    def variants(self, shape):
        """At least one value; lists and maps gather all variants of what they hold in one value."""
        return getattr(self, "_" + shape.type_name)(shape)

    def _structure(self, shape):
        if getattr(shape, "is_document_type", False):
            return [
                {"nested": [1, -0.5, None, "\u00e9\"\\\n\u2028", {"\u732b": True}], "empty": {}},
                ["a", []],
                "text",
            ]
        again = shape.name in self.spread
        self.spread.add(shape.name)
        if getattr(shape, "is_tagged_union", False):
            if again:
                name, member = min(shape.members.items(), key=lambda item: item[1].type_name in ("list", "map"))
                return [{name: self.variants(member)[0]}]
            values = []
            for name, member in shape.members.items():
                self.seen.add((shape.name, name))
                values += [{name: value} for value in self.variants(member)]
            return values
        members = {name: self.variants(member) for name, member in shape.members.items()}
        self.seen |= {(shape.name, name) for name in members}
        full = {name: values[0] for name, values in members.items()}
        if again:
            return [full]
        required = {name: self.variants(shape.members[name])[0] for name in shape.required_members}
        values = [full]
        for name, others in members.items():
            values += [dict(required, **{name: value}) for value in others[1:]]
        if required != full and required not in values:
            values.append(required)
        return values

    def _list(self, shape):
        values = self.variants(shape.member)
        while len(values) < shape.metadata.get("min", 0):
            values = values + values[:1]
        return [values]

    def _map(self, shape):
        return [{f"key-{n}": value for n, value in enumerate(self.variants(shape.value))}]

    def _string(self, shape):
        if shape.enum:
            self.seen |= {(shape.name, value) for value in shape.enum}
            return list(shape.enum)
        count = next(self.counter)
        text = f"text {count}"
        if count % 16 == 1:
            text += " \u00e9\u732b\U0001f980 \"q\" \\ \n</script>"
        return [text.ljust(shape.metadata.get("min", 0), "x")]

    def _integer(self, shape):
        return [max(shape.metadata.get("min", 0), next(self.counter))]

    _long = _integer

    def _float(self, shape):
        return [round(0.001 + next(self.counter) % 997 / 1000, 6)]

    _double = _float

    def _boolean(self, _shape):
        return [True, False]

    def _blob(self, _shape):
        return [bytes([0, 255, next(self.counter) % 256]) + b"blob"]

    def _timestamp(self, _shape):
        return [datetime.datetime(2026, 11, 17, 10, 20, 30, tzinfo=datetime.timezone.utc)]


def wire(value):
    """The JSON of a value: bytes in base64, times in ISO 8601."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, dict):
        return {key: wire(item) for key, item in value.items()}
    if isinstance(value, list):
        return [wire(item) for item in value]
    return value


def reachable(shape, into):
    """Every (shape, member) and (enum, value) below a shape."""
    if getattr(shape, "is_document_type", False):
        return
    if shape.type_name == "structure":
        fresh = [(name, member) for name, member in shape.members.items() if (shape.name, name) not in into]
        into |= {(shape.name, name) for name, _ in fresh}
        for _, member in fresh:
            reachable(member, into)
    elif shape.type_name == "list":
        reachable(shape.member, into)
    elif shape.type_name == "map":
        reachable(shape.value, into)
    elif shape.type_name == "string" and shape.enum:
        into |= {(shape.name, value) for value in shape.enum}


def complete(walk, shape):
    all_of_them = set()
    reachable(shape, all_of_them)
    missing = all_of_them - walk.seen
    assert not missing, f"{shape.name}: not visited {sorted(missing)}"


def requests(model, name):
    operation = model.operation_model(name)
    walk = Walk()
    bodies = []
    for params in walk.variants(operation.input_shape):
        report = botocore.validate.ParamValidator().validate(params, operation.input_shape)
        # The minimal values of lists may be shorter than the service wants; nothing else may be wrong.
        assert not report.has_errors(), report.generate_report()
        serializer = botocore.serialize.create_serializer(model.metadata["protocol"])
        bodies.append(json.loads(serializer.serialize_to_request(params, operation)["body"] or "{}"))
    complete(walk, operation.input_shape)
    return unique(bodies)


def responses(model, name):
    operation = model.operation_model(name)
    walk = Walk()
    bodies = []
    for value in walk.variants(operation.output_shape):
        body = wire(value)
        raw = {"body": json.dumps(body).encode(), "headers": {}, "status_code": 200}
        parsed = botocore.parsers.create_parser(model.metadata["protocol"]).parse(raw, operation.output_shape)
        parsed.pop("ResponseMetadata")
        assert parsed == value, (name, parsed, value)
        bodies.append(body)
    complete(walk, operation.output_shape)
    return unique(bodies)


def frame(headers, payload):
    """One message of the event stream encoding."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack("!I", binascii.crc32(prelude))
    return prelude + head + payload + struct.pack("!I", binascii.crc32(prelude + head + payload))


def stream_events(model, name):
    """Every event of the operation's stream, and every exception that may come in it."""
    output = model.operation_model(name).output_shape
    stream = output.members[output.serialization.get("payload") or "stream"]
    walk = Walk()
    events, exceptions = [], []
    for member, shape in stream.members.items():
        is_exception = shape.metadata.get("exception", False)
        walk.seen.add((stream.name, member))
        for value in walk.variants(shape):
            body = wire(value)
            kind = {":message-type": "exception", ":exception-type": member}
            if not is_exception:
                kind = {":message-type": "event", ":event-type": member}
            buffer = botocore.eventstream.EventStreamBuffer()
            buffer.add_data(frame({**kind, ":content-type": "application/json"}, json.dumps(body).encode()))
            (message,) = list(buffer)
            parser = botocore.parsers.EventStreamJSONParser()
            parsed = parser.parse(message.to_response_dict(), stream)
            if is_exception:
                assert parsed["Error"]["Code"] == member, parsed
                exceptions.append({"name": member, "body": body})
            else:
                assert parsed == {member: value}, (member, parsed, value)
                events.append({member: body})
    complete(walk, stream)
    return unique(events), unique(exceptions)


def errors(model, operations):
    """Every exception of the operations, with its HTTP code."""
    found = {}
    for name in operations:
        for shape in model.operation_model(name).error_shapes:
            for value in Walk().variants(shape):
                key = shape.name + json.dumps(value)
                found[key] = {
                    "service": model.service_name,
                    "name": shape.name,
                    "status": shape.metadata["error"]["httpStatusCode"],
                    "body": wire(value),
                }
    return unique(found.values())


def unique(values):
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def write(name, values):
    lines = ",\n".join(json.dumps(value, ensure_ascii=True, separators=(",", ":")) for value in values)
    (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n")
    print(f"{name}.json: {len(values)} values, {len(lines)} bytes")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    runtime = SESSION.get_service_model("bedrock-runtime")
    agents = SESSION.get_service_model("bedrock-agent-runtime")
    control = SESSION.get_service_model("bedrock")

    for name, model, operation in [
        ("converse", runtime, "Converse"),
        ("apply_guardrail", runtime, "ApplyGuardrail"),
        ("retrieve", agents, "Retrieve"),
        ("retrieve_and_generate", agents, "RetrieveAndGenerate"),
        ("create_guardrail", control, "CreateGuardrail"),
    ]:
        write(f"{name}_request", requests(model, operation))
        write(f"{name}_response", responses(model, operation))

    for name, operation in [
        ("list_foundation_models", "ListFoundationModels"),
        ("get_foundation_model", "GetFoundationModel"),
        ("list_imported_models", "ListImportedModels"),
        ("get_imported_model", "GetImportedModel"),
        ("get_model_import_job", "GetModelImportJob"),
    ]:
        write(f"{name}_response", responses(control, operation))

    write("converse_stream_request", requests(runtime, "ConverseStream"))
    converse_events, converse_exceptions = stream_events(runtime, "ConverseStream")
    write("converse_stream_events", converse_events)
    generate_events, generate_exceptions = stream_events(agents, "RetrieveAndGenerateStream")
    write("retrieve_and_generate_stream_events", generate_events)
    write("stream_exceptions", unique(converse_exceptions + generate_exceptions))
    write(
        "errors",
        errors(runtime, ["Converse", "ConverseStream", "ApplyGuardrail", "InvokeModel", "StartAsyncInvoke"])
        + errors(agents, ["Retrieve", "RetrieveAndGenerate", "InvokeAgent"]),
    )
    (OUT / "SOURCE.md").write_text(
        "# Where these files come from\n\n"
        "Written by `scripts/reference/botocore_fixtures.py` with the serializers, parsers and service models of\n"
        f"botocore {botocore.__version__} (Copyright Amazon.com, Inc. or its affiliates; Apache License 2.0). The shapes, member names\n"
        "and enum values are the service model's; the values were made up by the script.\n"
    )


if __name__ == "__main__":
    main()
