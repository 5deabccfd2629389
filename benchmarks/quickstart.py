"""``make quickstart``: data from Python's standard library, a small teacher, and a distilled, pruned, 8-bit student.

For comparison, a student of the same shape without a teacher: random initial weights, trained on labels alone, with the
same pruning and quantization.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, set_seed

from benchmarks.inputs.stdlib_text import train_tokenizer, write
from distill.reporting.page import format_number
from distill.reporting.report import Report
from distill.runner import run
from distill.training.callbacks.display.quiet import silence_libraries

RUNS = Path("runs")


def main(words: list[str]) -> int:
    """Make the data, train teacher, student without distillation and student, and print a table of the three.

    ``--steps N`` trains for N steps each, only to check that everything works.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quickstart")
    parser.add_argument("--steps", type=int, help="train for so many steps each, only to check that everything works")
    steps = parser.parse_args(words).steps
    limit = {"max_steps": steps} if steps else {}
    overrides = {f"trainer.{key}": value for key, value in limit.items()}
    silence_libraries()
    for name in ("quickstart-teacher", "quickstart-labels", "quickstart"):
        shutil.rmtree(RUNS / name, ignore_errors=True)
    print("1 of 4: the documentation of Python's standard library, classified by area", flush=True)
    data, blank = RUNS / "quickstart-data", RUNS / "quickstart-blank"
    write(data)
    save_untrained(data, blank)
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
        trainer={"max_epochs": 5} | limit,
    )
    print("3 of 4: a student without a teacher, from labels alone", flush=True)
    labels = run(
        "quickstart.yaml",
        name="quickstart-labels",
        losses={"labels": {"kind": "Labels"}},
        **{"student.weights": "random"},
        **overrides,
    )
    print("4 of 4: the student, from its teacher", flush=True)
    student = run("quickstart.yaml", **overrides)
    print(f"\n{comparison_table(labels, student)}\n\nreport: {student.folder / 'report.html'}")
    print(f"the two students on the same rows: distill compare {student.folder} {labels.folder}")
    return 0


def save_untrained(data: Path, folder: Path) -> None:
    """Save a small BERT with random weights, and a tokenizer trained on the data."""
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


def comparison_table(labels: Report, student: Report) -> str:
    """Return a table of teacher, student without distillation, and student."""
    rows = [
        ("teacher", student.models["teacher"]),
        ("student, no teacher", labels.models["student"]),
        ("student, distilled", student.models["student"]),
    ]
    lines = [f"{'':<22}{'accuracy':>10}{'size':>10}{'batch 1':>12}{'batch 32':>12}  runtime"]
    for name, model in rows:
        lines.append(
            f"{name:<22}{format_number(model.metrics['accuracy'], '%'):>10}{format_number(model.bytes, 'B'):>10}"
            f"{format_number(model.latency_ms['batch_1'], 'ms'):>12}"
            f"{format_number(model.latency_ms['batch_32'], 'ms'):>12}  {model.runtime} {model.precision}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
