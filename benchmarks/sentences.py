"""Sentences of IMDB without labels, for SST-2: ``python -m benchmarks.sentences REVIEWS.parquet OUT.parquet``."""

import argparse
import random
import re

import pyarrow
import pyarrow.parquet


def sentences(reviews: list[str], rows: int) -> list[str]:
    """The first ``rows`` sentences of 4 to 20 words, in lower case as in SST-2, of the reviews in an order drawn."""
    found = []
    for review in random.Random(0).sample(reviews, len(reviews)):
        parts = re.split(r"(?<=[.!?])\s+", review.lower().replace("\n", " "))
        found += [part for part in parts if 4 <= len(part.split()) <= 20]
        if len(found) >= rows:
            break
    return found[:rows]


def main() -> None:
    """Reads the column `text` of one Parquet file, writes the column `sentence` of another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reviews")
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=120_000)
    given = parser.parse_args()
    reviews = pyarrow.parquet.read_table(given.reviews, columns=["text"])["text"].to_pylist()
    pyarrow.parquet.write_table(pyarrow.table({"sentence": sentences(reviews, given.rows)}), given.out)


if __name__ == "__main__":
    main()
