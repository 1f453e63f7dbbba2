"""What MongoDB's own client sends, for the test of the store on MongoDB Atlas.

    pip install pymongo==4.20.1
    python scripts/reference/mongodb.py > bedrock-rag/tests/fixtures/vector_stores/mongodb.json

Plays a server on loopback that writes down each command, without what says who asks and how long an answer may be.
"""

import json
import socketserver
import struct
import sys
import threading

import bson
from bson.binary import Binary, BinaryVectorDtype
from pymongo import DeleteMany, MongoClient, ReplaceOne, WriteConcern
from pymongo.operations import SearchIndexModel
from pymongo.server_api import ServerApi

ASIDE = ["lsid", "$db", "apiVersion", "$clusterTime", "maxTimeMS", "$readPreference", "txnNumber"]
HELLO = {
    "ok": 1.0, "isWritablePrimary": True, "helloOk": True, "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000,
    "maxWriteBatchSize": 100000, "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0, "maxWireVersion": 25,
}
commands = []


class Recorder(socketserver.BaseRequestHandler):
    def whole(self, length):
        content = b""
        while len(content) < length:
            part = self.request.recv(length - len(content))
            if not part:
                raise EOFError
            content += part
        return content

    def handle(self):
        try:
            while True:
                length, ident, _, _, _ = struct.unpack("<iiiii", self.whole(20))
                rest, command = self.whole(length - 20), {}
                while rest:
                    kind, size = rest[0], struct.unpack("<i", rest[1:5])[0]
                    section, rest = rest[1:1 + size], rest[1 + size:]
                    if kind == 0:
                        command.update(bson.decode(section))
                    else:
                        name, documents = section[4:].split(b"\0", 1)
                        command[name.decode()] = bson.decode_all(documents)
                name = next(iter(command))
                if name == "hello":
                    answer = HELLO
                else:
                    if name != "endSessions":
                        kept = {field: value for field, value in command.items() if field not in ASIDE}
                        if "cursor" in kept:
                            kept["cursor"] = {}
                        commands.append(kept)
                    found = [{"_id": 1, "n": 1}] if "$match" in str(command.get("pipeline")) else []
                    answer = {"ok": 1.0, "n": 1, "nModified": 1, "indexesCreated": [{"id": "1", "name": "x"}]}
                    if name == "aggregate":
                        answer["cursor"] = {"id": 0, "ns": "d.chunks", "firstBatch": found}
                body = bson.encode(answer)
                self.request.sendall(struct.pack("<iiiii", 21 + len(body), 1, ident, 2013, 0) + b"\0" + body)
        except (EOFError, OSError):
            pass


def ask(port):
    client = MongoClient(f"mongodb://127.0.0.1:{port}/", server_api=ServerApi("1"))
    database = client.get_database("d", write_concern=WriteConcern("majority"))
    chunks = database.get_collection("chunks")
    # `create_collection` would look whether there is one.
    database.command({"create": "chunks"})
    list(chunks.list_search_indexes())
    vector = {"type": "vector", "path": "vector", "numDimensions": 2, "similarity": "cosine"}
    fields = {"text": {"type": "string"}, "attributes": {"type": "token"}}
    chunks.create_search_index(SearchIndexModel(
        {"fields": [vector, {"type": "filter", "path": "attributes"}]}, name="bedrock_vector", type="vectorSearch"))
    chunks.create_search_index(SearchIndexModel(
        {"mappings": {"dynamic": False, "fields": fields}}, name="bedrock_text", type="search"))
    floats = Binary.from_vector([1.0, 0.0], BinaryVectorDtype.FLOAT32)
    record = {"_id": "a", "vector": floats, "text": "t", "metadata": '{"d":"it"}', "attributes": ["all", "XdXp", "XdXsit"]}
    chunks.bulk_write([ReplaceOne({"_id": "a"}, record, upsert=True)], ordered=False)
    above = ["XnXoc", "XnXod", "XnXoe", "XnXof"]
    wanted = {"$and": [
        {"attributes": {"$in": ["XdXsit"]}}, {"attributes": {"$nin": ["XeXb1"]}},
        {"$or": [{"attributes": {"$in": above}}, {"attributes": {"$gte": "XdXspe", "$lt": "XdXspf"}}]}]}
    search = {"index": "bedrock_vector", "path": "vector", "queryVector": floats, "limit": 19, "numCandidates": 380, "filter": wanted}
    list(chunks.aggregate([{"$vectorSearch": search}, {"$project": {"text": 1, "metadata": 1, "score": {"$meta": "vectorSearchScore"}}}]))

    def has(any_of):
        return {"in": {"path": "attributes", "value": any_of}}

    either = {"compound": {"should": [has(above), has(["XdXp"])], "minimumShouldMatch": 1}}
    without = {"compound": {"filter": [has(["all"])], "mustNot": [has(["XeXb1"])]}}
    compound = {
        "must": [{"text": {"path": "text", "query": "some words"}}],
        "filter": [{"compound": {"filter": [has(["XdXsit"]), without, either]}}],
    }
    list(chunks.aggregate([
        {"$search": {"index": "bedrock_text", "compound": compound}}, {"$limit": 19},
        {"$project": {"text": 1, "metadata": 1, "score": {"$meta": "searchScore"}}}]))
    chunks.count_documents({})
    chunks.bulk_write([DeleteMany({"_id": {"$in": ["a"]}})], ordered=False)
    client.close()


def shown(value):
    if isinstance(value, dict):
        return {field: shown(inner) for field, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    return {"float32": value.as_vector().data} if isinstance(value, Binary) else value


def main():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Recorder)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask(server.server_address[1])
    json.dump(shown(commands), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
