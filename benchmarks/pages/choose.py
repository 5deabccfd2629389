"""Write the table of docs/guide/choose.md: for each need a recipe, and what the reports in docs/results/ say of it.

python -m benchmarks.pages.choose
"""

from __future__ import annotations

import json

from benchmarks.pages.results import DOCS, main_metric, significant
from benchmarks.pages.tables import table, write

PAGE = DOCS / "guide" / "choose.md"
NEEDS = [
    ("fast on a CPU, one text at a time", "sst2-minilm.yaml", "sst2/minilm-s1"),
    ("1 ms on a CPU, short texts", "bilstm.yaml", "sst2/bilstm-s0"),
    ("a small download, full depth", "shared.yaml", "sst2/shared-s0"),
    ("many texts at once, in float32", "sst2-structured.yaml", "sst2/structured-more-s1"),
    ("under 5 MB on disk", "ternary weights", "sst2/qat-ternary-self-s1"),
    ("next to nothing lost", "int8, all layers", "stsb-qat-int8"),
    ("half of int8's bytes", "4 bits, all layers", "stsb-qat-lsq4"),
    ("long texts", "512.yaml", "long/full"),
    ("a new small model, in minutes", "quickstart.yaml", "quickstart"),
]
"""What somebody needs, the recipe, and the report that has its figures."""
COLUMNS = ("need", "recipe", "kept", "MB", "batch 1, ms", "batch 32, ms", "minutes", "report")


def row(need: str, recipe: str, name: str) -> list[str]:
    """Return the cells of a need."""
    report = json.loads((DOCS / "results" / f"{name}.json").read_text())
    teacher, student = (report["models"][key] for key in ("teacher", "student"))
    metric = main_metric(report)
    return [
        need,
        recipe,
        f"{100 * student['metrics'][metric] / teacher['metrics'][metric]:.1f} %",
        f"{significant(teacher['bytes'] / 1e6)} → {significant(student['bytes'] / 1e6)}",
        *(
            f"{significant(teacher['latency_ms'][batch])} → {significant(student['latency_ms'][batch])}"
            for batch in ("batch_1", "batch_32")
        ),
        f"{report['seconds'] / 60:.0f}",
        f"[report](../results/{name}.json)",
    ]


def text() -> str:
    """Return the table."""
    return table(COLUMNS, [row(*need) for need in NEEDS])


if __name__ == "__main__":
    write(PAGE, text())
