"""Makes the vectors that the `ann` bench and its peers are measured on: clustered unit vectors, as embeddings of documents are.

    python benches/peers/clustered.py --output FOLDER [--rows 100000] [--dimensions 384] [--queries 1000] [--clusters 1000]

Writes base.npy, queries.npy (f32) and truth.npy (i64: the 100 nearest rows of each query by exhaustive search). Centres and the
spread around them are Gaussian with a spectrum that falls, so that the vectors have fewer directions that matter than dimensions;
queries are drawn as the rows are. The same arguments give the same files.
"""

import argparse
from pathlib import Path

import numpy as np


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def nearest(base, queries, k):
    truth = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), 100):
        scores = queries[start:start + 100] @ base.T
        part = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1, kind="stable")
        truth[start:start + 100] = np.take_along_axis(part, order, axis=1)
    return truth


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--spread", type=float, default=1.5, help="of a cluster, relative to that of the centres")
    parser.add_argument("--decay", type=float, default=0.4, help="of the spectrum: the i-th direction counts 1 / i^decay")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    spectrum = np.arange(1, arguments.dimensions + 1) ** -arguments.decay
    centres = random.standard_normal((arguments.clusters, arguments.dimensions)) * spectrum
    turn = np.linalg.qr(random.standard_normal((arguments.dimensions, arguments.dimensions)))[0]

    def draw(count):
        rows = []
        for start in range(0, count, 50_000):
            size = min(50_000, count - start)
            around = random.standard_normal((size, arguments.dimensions)) * spectrum * arguments.spread
            rows.append(unit((centres[random.integers(0, arguments.clusters, size)] + around) @ turn))
        return np.concatenate(rows)

    base, queries = draw(arguments.rows), draw(arguments.queries)
    arguments.output.mkdir(parents=True, exist_ok=True)
    np.save(arguments.output / "base.npy", base)
    np.save(arguments.output / "queries.npy", queries)
    np.save(arguments.output / "truth.npy", nearest(base, queries, 100))


if __name__ == "__main__":
    main()
