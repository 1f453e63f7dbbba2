"""Retrieval by sentence-transformers on the chunks of the `retrieval` example, compared with all of them: what the example is held to.

    cargo build --release --examples
    python benches/peers/sentence_transformers_retrieval.py DIR --model FOLDER --chunk target/release/examples/chunk

DIR is as the `retrieval` example takes it (docs.jsonl, queries.jsonl, qrels.tsv). Documents are cut by the `chunk` example, one by one, which
takes some minutes; a document's score is that of its best chunk. Prints the number of chunks, which must be the example's, and nDCG@10.
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def chunks(folder, document, arguments):
    title = document.get("title")
    text = f"{title}\n\n{document['text']}" if title else document["text"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=folder) as file:
        file.write(text)
        file.flush()
        command = [arguments.chunk, file.name, "--embedder", arguments.model, "--threads", "1"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [(document["id"], (chunk["head"] or "") + chunk["text"]) for chunk in map(json.loads, found.splitlines())]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True, help="folder of the model, as both take it")
    parser.add_argument("--chunk", required=True, help="the chunk example, built")
    arguments = parser.parse_args()
    documents, queries = lines(arguments.folder / "docs.jsonl"), lines(arguments.folder / "queries.jsonl")
    relevances = {}
    for line in (arguments.folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, relevance = line.split("\t")
        relevances.setdefault(query, {})[document] = float(relevance)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        cut = list(pool.map(lambda document: chunks(folder, document, arguments), documents))
    owners, texts = zip(*[chunk for some in cut for chunk in some])
    model = SentenceTransformer(arguments.model, device="cpu")
    base = model.encode(texts, normalize_embeddings=True)
    asked = [query for query in queries if any(value > 0 for value in relevances.get(query["id"], {}).values())]
    total = 0.0
    for query, vector in zip(asked, model.encode([query["text"] for query in asked], normalize_embeddings=True)):
        ranking = []
        for index in np.argsort(-(base @ vector), kind="stable"):
            if owners[index] not in ranking:
                ranking.append(owners[index])
            if len(ranking) == 10:
                break
        relevance = relevances[query["id"]]
        gain = lambda values: sum(value / math.log2(place + 2) for place, value in enumerate(values))
        ideal = sorted(relevance.values(), reverse=True)[:10]
        total += gain(max(relevance.get(document, 0.0), 0.0) for document in ranking) / gain(ideal)
    print(json.dumps({"chunks": len(texts), "queries": len(asked), "ndcg_at_10": total / len(asked)}))


if __name__ == "__main__":
    main()
