"""hnswlib on the files of the `ann` bench, for comparison: the same arguments, the same JSON.

    python benches/peers/hnswlib_ann.py --base base.npy --queries queries.npy --truth truth.npy [--threads 2]

`resident_mib` is what the process grows by with the index (with `--index`: one that was freed before leaves memory behind that is used again).
Queries are asked one at a time on one thread, as the bench asks them; hnswlib is built from source by pip for the processor at hand.
"""

import argparse
import json
import os
import tempfile
import time

import hnswlib
import numpy as np


def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=128)
    parser.add_argument("--ef", default="16,32,64,96,128,192,256,384")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="that build")
    parser.add_argument("--index", help="a saved index to search instead of building one; written there if it is missing")
    arguments = parser.parse_args()
    base, queries, truth = (np.load(path) for path in (arguments.base, arguments.queries, arguments.truth))
    rows, dimensions = base.shape
    index = hnswlib.Index(space="ip", dim=dimensions)
    build_s = None
    path = arguments.index or os.path.join(tempfile.mkdtemp(), "index.bin")
    if not os.path.exists(path):
        started = time.perf_counter()
        index.init_index(max_elements=rows, M=arguments.m, ef_construction=arguments.ef_construction)
        index.add_items(base, np.arange(rows), num_threads=arguments.threads)
        build_s = time.perf_counter() - started
        index.save_index(path)
    index = hnswlib.Index(space="ip", dim=dimensions)
    before = resident_mib()
    started = time.perf_counter()
    index.load_index(path)
    load_s = time.perf_counter() - started
    index.set_num_threads(1)
    points = []
    for ef in map(int, arguments.ef.split(",")):
        index.set_ef(max(ef, arguments.k))
        for query in queries[:100]:
            index.knn_query(query, k=arguments.k, num_threads=1)
        # One call for all is hnswlib at its best: no call from Python a query.
        started = time.perf_counter()
        labels, _ = index.knn_query(queries, k=arguments.k, num_threads=1)
        elapsed = time.perf_counter() - started
        hits = sum(len(np.intersect1d(found, right[:arguments.k])) for found, right in zip(labels, truth))
        points.append({"ef": ef, "recall": hits / (len(queries) * arguments.k), "qps": len(queries) / elapsed})
    result = {"build_s": build_s, "load_s": load_s, "bytes_on_disk": os.path.getsize(path)}
    result |= {"resident_mib": resident_mib() - before, "points": points}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
