"""``make quickstart``: data that every Python carries, a small teacher, and a student that is distilled, pruned and
8-bit.

Also a student of the same shape that never sees the teacher: started at random, trained on labels alone, with the same
pruning and quantization, to tell what the teacher gave.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, set_seed

from benchmarks.stdlib_text import train_tokenizer, write
from distill.cli import silence_libraries
from distill.reporting.page import show
from distill.reporting.report import Report
from distill.runner import run

RUNS = Path("runs")


def main(words: list[str]) -> int:
    """Makes the data, trains teacher, student without distillation and student, and prints the table of the three.

    ``--steps N`` trains for N steps each, only to see that everything works.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quickstart")
    parser.add_argument("--steps", type=int, help="train for so many steps each, only to see that everything works")
    steps = parser.parse_args(words).steps
    short = {"max_steps": steps} if steps else {}
    only = {f"trainer.{key}": value for key, value in short.items()}
    silence_libraries()
    for name in ("quickstart-teacher", "quickstart-labels", "quickstart"):
        shutil.rmtree(RUNS / name, ignore_errors=True)
    print("1 of 4: the documentation of Python's standard library, to be classed by area", flush=True)
    data, blank = RUNS / "quickstart-data", RUNS / "quickstart-blank"
    write(data)
    untrained(data, blank)
    print("2 of 4: a teacher, trained on the labels", flush=True)
    run(
        "finetune.yaml",
        name="quickstart-teacher",
        task={
            "name": "classification",
            "data": str(data),
            "text": "text",
            "max_length": 96,
            "augment": {"kind": "Masking", "probability": 0.3},
        },
        student=str(blank),
        optimizer={"lr": 1e-3},
        trainer={"max_epochs": 5} | short,
    )
    print("3 of 4: a student without a teacher, from labels alone", flush=True)
    labels = run(
        "quickstart.yaml",
        name="quickstart-labels",
        losses={"labels": {"kind": "Labels"}},
        **{"student.weights": "random"},
        **only,
    )
    print("4 of 4: the student, from its teacher", flush=True)
    student = run("quickstart.yaml", **only)
    print(f"\n{three(labels, student)}\n\nreport: {student.folder / 'report.html'}")
    return 0


def untrained(data: Path, folder: Path) -> None:
    """A small BERT with random weights, and a tokenizer trained on the data."""
    train_tokenizer(data, folder)
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertForSequenceClassification(config).save_pretrained(folder)


def three(labels: Report, student: Report) -> str:
    """The table: teacher, student without distillation, student."""
    rows = [
        ("teacher", student.models["teacher"]),
        ("student, no teacher", labels.models["student"]),
        ("student, distilled", student.models["student"]),
    ]
    lines = [f"{'':<22}{'accuracy':>10}{'size':>10}{'batch 1':>12}{'batch 32':>12}  runtime"]
    for name, model in rows:
        lines.append(
            f"{name:<22}{show(model.metrics['accuracy'], '%'):>10}{show(model.bytes, 'B'):>10}"
            f"{show(model.latency_ms['batch_1'], 'ms'):>12}"
            f"{show(model.latency_ms['batch_32'], 'ms'):>12}  {model.runtime} {model.precision}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
