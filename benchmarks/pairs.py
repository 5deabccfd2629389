"""Pairs of sentences without labels, for STS-B: ``python -m benchmarks.pairs OUT.parquet FILE.parquet:COLUMN …``."""

import argparse
import random

import numpy
import pyarrow
import pyarrow.parquet
from sklearn.feature_extraction.text import TfidfVectorizer

NEIGHBOURS = 8
"""So many of the nearest sentences of each may become its other half."""


def neighbours(sentences: list[str]) -> numpy.ndarray:
    """The ``NEIGHBOURS`` nearest other sentences of each by TF-IDF, nearest first, ``[sentences, NEIGHBOURS]``."""
    vectors = TfidfVectorizer(sublinear_tf=True, dtype=numpy.float32).fit_transform(sentences)
    found = []
    for start in range(0, len(sentences), 256):
        alike = (vectors[start : start + 256] @ vectors.T).toarray()
        alike[numpy.arange(len(alike)), start + numpy.arange(len(alike))] = -1
        nearest = numpy.argpartition(-alike, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        order = numpy.take_along_axis(-alike, nearest, axis=1).argsort(axis=1)
        found.append(numpy.take_along_axis(nearest, order, axis=1))
    return numpy.concatenate(found)


def pairs(sentences: list[str], rows: int) -> list[tuple[str, str]]:
    """``rows`` pairs: of five, four of a sentence and one near it, and one of two that chance brought together."""
    drawn, near = random.Random(0), neighbours(sentences)
    found = []
    while len(found) < rows:
        one = drawn.randrange(len(sentences))
        other = drawn.randrange(len(sentences)) if drawn.random() < 0.2 else int(drawn.choice(near[one]))
        both = [sentences[one], sentences[other]]
        drawn.shuffle(both)
        found.append(tuple(both))
    return found


def main() -> None:
    """Reads columns of text of Parquet files, writes the columns `sentence1` and `sentence2` of another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("columns", nargs="+", metavar="FILE.parquet:COLUMN")
    parser.add_argument("--rows", type=int, default=90_000)
    parser.add_argument("--words", type=int, default=16, help="the longest sentence taken")
    given = parser.parse_args()
    texts = set()
    for column in given.columns:
        path, name = column.rsplit(":", 1)
        found = pyarrow.parquet.read_table(path, columns=[name])[name].to_pylist()
        texts |= {text for text in found if len(text.split()) <= given.words}
    first, second = zip(*pairs(sorted(texts), given.rows), strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"sentence1": first, "sentence2": second}), given.out)


if __name__ == "__main__":
    main()
