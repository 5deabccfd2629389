"""Unlabelled sentences of IMDB for SST-2: ``python -m benchmarks.inputs.sentences REVIEWS.parquet OUT.parquet``."""

import argparse
import random
import re

import pyarrow
import pyarrow.parquet


def sample_sentences(reviews: list[str], rows: int) -> list[str]:
    """Return ``rows`` sentences of 4 to 20 words, in lower case as in SST-2, of the reviews in random order."""
    sentences = []
    for review in random.Random(0).sample(reviews, len(reviews)):
        parts = re.split(r"(?<=[.!?])\s+", review.lower().replace("\n", " "))
        sentences += [part for part in parts if 4 <= len(part.split()) <= 20]
        if len(sentences) >= rows:
            break
    return sentences[:rows]


def main() -> None:
    """Read the column `text` of a Parquet file, and write another file with the column `sentence`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reviews")
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=120_000)
    options = parser.parse_args()
    reviews = pyarrow.parquet.read_table(options.reviews, columns=["text"])["text"].to_pylist()
    pyarrow.parquet.write_table(pyarrow.table({"sentence": sample_sentences(reviews, options.rows)}), options.out)


if __name__ == "__main__":
    main()
