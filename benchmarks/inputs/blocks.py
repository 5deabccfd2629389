"""Save a model with evenly spaced blocks of another one, and its tokenizer: the base of students of any teacher.

python -m benchmarks.inputs.blocks ../shared/models/minilm-l6 3 runs/minilm-3
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from students.kinds.transformer import Transformer


def save_blocks(source: str, layers: int, folder: str) -> None:
    """Save a student of ``layers`` blocks of a model, with a head for two classes at random (seed 0)."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
    Transformer(layers=layers).build(model, None, None).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


if __name__ == "__main__":
    save_blocks(sys.argv[1], int(sys.argv[2]), sys.argv[3])
