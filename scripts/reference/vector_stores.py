"""What the vendors' own clients send, for the tests of stores over HTTP.

    pip install qdrant-client==1.20.0 opensearch-py==3.2.0 pinecone==10.2.0
    python scripts/reference/vector_stores.py > bedrock-rag/tests/fixtures/vector_stores/requests.json

Plays a server on loopback that writes down each request: method, path, body.
"""

import http.server
import json
import sys
import threading
import warnings

warnings.filterwarnings("ignore")
requests = []
ANSWERS = {}


class Recorder(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        try:
            body = json.loads(body) if body else None
        except ValueError:
            body = [json.loads(line) for line in body.splitlines()]
        requests.append({"method": self.command, "path": self.path, "body": body, "key": self.headers.get("api-key") or self.headers.get("authorization")})
        found = next((answer for part, answer in ANSWERS.items() if part in self.path), {})
        content = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def log_message(self, *_):
        pass


def taken():
    some = list(requests)
    requests.clear()
    return some


def qdrant(port):
    from qdrant_client import QdrantClient, models

    ok = {"status": "ok", "time": 0.0, "result": {"operation_id": 1, "status": "completed"}}
    ANSWERS.update({
        "/points/query": {**ok, "result": {"points": []}}, "/points/count": {**ok, "result": {"count": 0}},
        "/points": ok, "/index": ok, "/collections": {**ok, "result": True},
    })
    client = QdrantClient(url=f"http://127.0.0.1:{port}", api_key="the key", check_compatibility=False)
    name, where = "chunks", models.FieldCondition
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
    client.create_payload_index(name, "attributes", models.PayloadSchemaType.KEYWORD, wait=True)
    point = models.PointStruct(id="11111111-1111-8111-8111-111111111111", vector=[1.0, 0.0], payload={"id": "a"})
    client.upsert(name, [point], wait=True)
    wanted = models.Filter(must=[
        models.Filter(must=[where(key="attributes", match=models.MatchAny(any=["XdXsit"]))]),
        models.Filter(must_not=[where(key="attributes", match=models.MatchAny(any=["XeXb1"]))]),
        models.Filter(should=[
            models.Filter(must=[where(key="nn", range=models.Range(gt=2.0))]),
            models.Filter(must=[where(key="attributes", match=models.MatchText(text="XdXspe"))])]),
    ])
    client.query_points(name, query=[1.0, 0.0], query_filter=wanted, limit=19, with_payload=["id", "text", "metadata"], with_vectors=False)
    client.count(name, exact=True)
    client.delete(name, models.PointIdsList(points=["11111111-1111-8111-8111-111111111111"]), wait=True)


def opensearch(port):
    from opensearchpy import OpenSearch

    client = OpenSearch([{"host": "127.0.0.1", "port": port}], http_auth=("me", "the key"))
    client.indices.get_mapping(index="chunks")
    client.bulk(body=[{"index": {"_id": "a"}}, {"id": "a"}, {"delete": {"_id": "b"}}], index="chunks", refresh=True)
    client.search(index="chunks", body={"size": 19, "query": {"knn": {"vector": {"vector": [1.0, 0.0], "k": 19, "filter": {"terms": {"attributes": ["XdXsit"]}}}}}})
    client.count(index="chunks", body={"query": {"match_all": {}}})


def pinecone(port):
    from pinecone import Pinecone

    ANSWERS.update({
        "/describe_index_stats": {"namespaces": {}, "dimension": 2, "indexFullness": 0, "totalVectorCount": 0},
        "/query": {"matches": [], "namespace": "n"}, "/vectors/upsert": {"upsertedCount": 1},
    })
    index = Pinecone(api_key="the key").Index(host=f"http://127.0.0.1:{port}")
    index.describe_index_stats()
    index.upsert(vectors=[{"id": "a", "values": [1.0, 0.0], "metadata": {"id": "a", "attributes": ["XdXsit"]}}], namespace="n")
    wanted = {"$and": [{"attributes": {"$in": ["XdXsit"]}}, {"nn": {"$gt": 2.0}}]}
    index.query(vector=[1.0, 0.0], top_k=19, filter=wanted, include_metadata=True, include_values=False, namespace="n")
    index.delete(ids=["a"], namespace="n")


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    recorded = {}
    for ask in [qdrant, opensearch, pinecone]:
        ANSWERS.clear()
        try:
            ask(server.server_port)
        except Exception as error:
            sys.exit(f"{ask.__name__}: {error!r}")
        recorded[ask.__name__] = taken()
    json.dump(recorded, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
