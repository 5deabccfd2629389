"""Write the tables of measured effects on the pages of docs/techniques/, from the reports in docs/results/.

python -m benchmarks.pages.measured
"""

from __future__ import annotations

import json

from benchmarks.pages.results import DOCS, main_metric, significant
from benchmarks.pages.tables import table, write

EFFECTS = {
    "outputs.md": [
        ("SST-2, small student: labels alone, seed 0", "sst2/small-labels-s0"),
        ("the same, seed 1", "sst2/small-labels-s1"),
        ("`Logits`, labels, unlabelled text, seed 0", "sst2/small-more-s0"),
        ("the same, seed 1", "sst2/small-more-s1"),
        ("the same, seed 2", "sst2/small-more-s2"),
        ("quickstart: labels alone", "quickstart-labels"),
        ("quickstart: distilled", "quickstart"),
        ("STS-B, 2 layers: labels alone", "stsb-labels"),
        ("STS-B, 2 layers: `HiddenMSE`, `LogitsMSE`, labels", "stsb-student"),
        ("translation: labels alone", "multi30k-labels"),
        ("translation: `HiddenMSE`, `Logits`, labels", "multi30k-student"),
    ],
    "pruning.md": [
        ("`Magnitude`, 6 layers, 90 % of single weights", "sst2/sparse-magnitude-90-s0"),
        ("3 layers, distilled from the dense student: 90 %", "sst2/sparse-magnitude-90-self-s0"),
        ("3 layers, twice 60,000 more sentences: 90 %", "sst2/sparse-magnitude-90-longer-s1"),
        ("3 layers: `Magnitude`, 95 %", "sst2/sparse-magnitude-95-s0"),
        ("3 layers: `Movement`, 95 %", "sst2/sparse-movement-95-s0"),
        ("3 layers: `Magnitude`, 97 %", "sst2/sparse-magnitude-97-s0"),
        ("3 layers: `Movement`, 97 %", "sst2/sparse-movement-97-s0"),
        ("STS-B: `Magnitude`, 90 %, unlabelled pairs", "stsb-sparse-90-pairs"),
        ("`Taylor`, half of layers, neurons, heads; more text", "sst2/structured-more-s0"),
        ("the same, seed 1", "sst2/structured-more-s1"),
        ("the same shape, labels alone, from scratch", "sst2/scratch-same-s0"),
    ],
    "quantization.md": [
        ("SST-2, 3 layers, float32", "sst2/qat-float-s0"),
        ("int8, seed 0", "sst2/qat-int8-epyc-s0"),
        ("int8, seed 1", "sst2/qat-int8-s1"),
        ("int8, seed 2", "sst2/qat-int8-s2"),
        ("4 bits, learned scales, seed 0", "sst2/qat-lsq4-s0"),
        ("4 bits, learned scales, seed 1", "sst2/qat-lsq4-s1"),
        ("ternary, distilled from itself, seed 0", "sst2/qat-ternary-self-s0"),
        ("ternary, distilled from itself, seed 1", "sst2/qat-ternary-self-s1"),
        ("binary, distilled from itself", "sst2/qat-binary-self-s0"),
        ("STS-B: int8 after training", "stsb-ptq-int8"),
        ("STS-B: int8 in training", "stsb-qat-int8"),
        ("STS-B: 4 bits after training", "stsb-ptq-lsq4"),
        ("STS-B: 4 bits in training", "stsb-qat-lsq4"),
        ("STS-B: ternary after training", "stsb-ptq-ternary"),
        ("STS-B: ternary in training, 8 epochs", "stsb-qat-ternary-8-epochs"),
    ],
    "students.md": [
        ("half of the blocks, neurons pruned, int8", "sst2/minilm-s1"),
        ("`LSTM`, unlabelled text, int8", "sst2/bilstm-s0"),
    ],
    "forms.md": [
        ("`share_layers`, hidden states", "sst2/shared-hidden-s0"),
        ("and then unlabelled text", "sst2/shared-s0"),
        ("512 tokens, full attention, 4 layers", "long/full"),
        ("512 tokens, `LinearAttention`, 4 layers", "long/linear"),
    ],
}
"""For each page: what was done, and its report."""
COLUMNS = ("what", "teacher", "student", "MB", "batch 1, ms", "report")


def row(what: str, name: str) -> list[str]:
    """Return the cells of a report."""
    report = json.loads((DOCS / "results" / f"{name}.json").read_text())
    models = [report["models"][key] for key in ("teacher", "student")]
    return [
        what,
        *(f"{model['metrics'][main_metric(report)]:.4f}" for model in models),
        " → ".join(significant(model["bytes"] / 1e6) for model in models),
        " → ".join(significant(model["latency_ms"]["batch_1"]) for model in models),
        f"[report](../results/{name}.json)",
    ]


def text(page: str) -> str:
    """Return the table of a page."""
    return table(COLUMNS, [row(*effect) for effect in EFFECTS[page]])


if __name__ == "__main__":
    for name in EFFECTS:
        write(DOCS / "techniques" / name, text(name))
