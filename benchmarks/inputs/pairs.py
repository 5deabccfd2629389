"""Unlabelled pairs of sentences for STS-B: ``python -m benchmarks.inputs.pairs OUT.parquet FILE.parquet:COLUMN …``."""

import argparse
import random

import numpy
import pyarrow
import pyarrow.parquet
from sklearn.feature_extraction.text import TfidfVectorizer

NEIGHBOURS = 8
"""The number of nearest sentences with which a sentence may be paired."""


def nearest_sentences(sentences: list[str]) -> numpy.ndarray:
    """Return the nearest other sentences of each by TF-IDF, nearest first, ``[sentences, NEIGHBOURS]``."""
    vectors = TfidfVectorizer(sublinear_tf=True, dtype=numpy.float32).fit_transform(sentences)
    batches = []
    for start in range(0, len(sentences), 256):
        similarities = (vectors[start : start + 256] @ vectors.T).toarray()
        positions = numpy.arange(len(similarities))
        similarities[positions, start + positions] = -1
        nearest = numpy.argpartition(-similarities, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        order = numpy.take_along_axis(-similarities, nearest, axis=1).argsort(axis=1)
        batches.append(numpy.take_along_axis(nearest, order, axis=1))
    return numpy.concatenate(batches)


def make_pairs(sentences: list[str], rows: int) -> list[tuple[str, str]]:
    """Return ``rows`` pairs: four of five of a sentence and a near one, the others of two random sentences."""
    generator, nearest = random.Random(0), nearest_sentences(sentences)
    pairs = []
    while len(pairs) < rows:
        first = generator.randrange(len(sentences))
        is_random = generator.random() < 0.2
        second = generator.randrange(len(sentences)) if is_random else int(generator.choice(nearest[first]))
        pair = [sentences[first], sentences[second]]
        generator.shuffle(pair)
        pairs.append(tuple(pair))
    return pairs


def main() -> None:
    """Read text columns of Parquet files, and write another file with the columns `sentence1` and `sentence2`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("columns", nargs="+", metavar="FILE.parquet:COLUMN")
    parser.add_argument("--rows", type=int, default=90_000)
    parser.add_argument("--words", type=int, default=16, help="the largest number of words in a sentence")
    options = parser.parse_args()
    texts = set()
    for column in options.columns:
        path, name = column.rsplit(":", 1)
        column_texts = pyarrow.parquet.read_table(path, columns=[name])[name].to_pylist()
        texts |= {text for text in column_texts if len(text.split()) <= options.words}
    first, second = zip(*make_pairs(sorted(texts), options.rows), strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"sentence1": first, "sentence2": second}), options.out)


if __name__ == "__main__":
    main()
