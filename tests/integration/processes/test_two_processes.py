"""Two processes are one: on the same global batches they have the curves of one process, whatever is in the run.

All runs stand in one chain, which one process and two go through.
"""

import json
from pathlib import Path

import pytest
import yaml

from tests.helpers.repositories import save_tiny_bert
from tests.helpers.runs import CONFIG, command, rows, weights
from tests.helpers.students.other_tokenizers import save_byte_level_teacher
from tests.helpers.worlds import COLUMNS, save_data, save_teacher

TASK = """\
task: {{name: {name}, data: {folder}/{name}, max_length: {length}, batch_size: 8}}
teacher: {folder}/{name}/teacher
student: {{kind: Transformer, layers: 1}}
losses: {{labels: {{kind: Labels}}, logits: {{kind: Logits}}}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
"""
RANKS = """\
student:
  kind: Transformer
  low_rank: {param_ratio: 0.8, where: [attention, ffn, head]}
  embeddings: {kind: Factorised, param_ratio: 0.8}
prune: {kind: L0, shape: ranks, sparsity: {kind: Steps, at: {1 steps: 0.2, 4 steps: 0.4}}}
quantize: null
"""
PRUNED = """\
prune:
  units: {kind: Taylor, shape: neurons, sparsity: {kind: Cubic, to: 0.5, start: 1 steps, stop: 3 steps}}
  gates: {kind: L0, shape: heads, sparsity: {kind: Cubic, to: 0.5, start: 1 steps, stop: 4 steps}}
  moved:
    {kind: Movement, dropout: 0.2, where: [attention], sparsity: {kind: Cubic, to: 0.5, start: 1 steps, stop: 4 steps}}
  read: {kind: Wanda, where: [ffn], batches: 2, sparsity: {kind: Steps, at: {4 steps: 0.3}}}
  stream: {kind: Taylor, shape: hidden, sparsity: {kind: Cubic, to: 0.25, start: 1 steps, stop: 3 steps}}
"""
SEVERAL = """\
task:
  name: multi_task
  batch_size: 8
  tasks: {{taste: {{name: classification, data: {data}}}, praise: {{name: regression, data: {folder}/regression}}}}
teacher: {folder}/several
quantize: null
"""
CACHED = """\
teacher: {{model: {folder}/still, cache: true}}
losses: {{hidden: {{kind: HiddenMSE}}, logits: {{kind: Logits}}}}
quantize: null
"""
ENSEMBLE = """\
teacher: {{members: {{one: {folder}/still, two: {folder}/still-2}}, weights: {{two: 2.0}}}}
losses: {{hidden: {{kind: HiddenMSE, teacher: two}}, logits: {{kind: Logits}}}}
quantize: null
"""
OWN = """\
teacher: {{model: {folder}/gpt2, check: false, cache: true}}
student: {folder}/still
losses: {{hidden: {{kind: HiddenMSE, pooling: mean, layers: top}}, logits: {{kind: Logits}}}}
quantize: null
"""
AVERAGE = """\
teacher: {{decay: 0.5}}
student: {folder}/still
losses: {{labels: {{kind: Labels}}, hidden: {{kind: HiddenMSE}}, logits: {{kind: Logits}}}}
quantize: null
"""
LEARNT = "losses: {{labels: {{kind: Labels}}, logits: {{kind: Logits}}}}\n"
# Ranges of activations are those of a process, so no curve of a step with rounded inputs is compared.
SENTENCES = {
    "cut": "student: {folder}/still\nquantize: {{weights: 8, activations: 8, target: onnxruntime, start: 60%}}",
    # bits by a loss that is more than rounding; what one process cuts and two mask would have other draws
    "allotted": LEARNT + "prune: null\nquantize: {{weights: 4, activations: null, bit_allocation: 3, start: 60%}}",
    "means": LEARNT + "quantize: {{weights: {{kind: KMeans, bits: 3}}, activations: null, start: 40%}}",
    "replaced": "student: {{kind: Transformer, layers: 1}}\nlosses: {{logits: {{kind: Logits}}}}\nreplace: 0.5",
    "shared": "student: {{kind: Transformer, share_layers: {{shared_modules: attention}}}}\nquantize: null",
    "ranks": RANKS.replace("{", "{{").replace("}", "}}"),
    "train": "student: {{kind: Transformer, layers: 2, embeddings: {{kind: TensorTrain, rank: 4}}}}\nquantize: null",
    "linformer": "student: {{kind: Transformer, layers: 2, attention: {{kind: Linformer, length: 8}}}}\nquantize: null",
    "cached": CACHED,
    "ensemble": ENSEMBLE,
    "own-tokens": OWN,
    "average": AVERAGE,
    "several": SEVERAL,
}
STATIC = "student: {kind: Static, width: 16, dropout: 0.0}\nlosses: {logits: {kind: LogitsMSE}}"
TASKS = {
    "tokens": ("token_classification", 32, ""),
    "drawn-anew": ("masked_lm", 6, ""),
    "pruned": ("token_classification", 32, PRUNED),
    "recurrent": ("token_classification", 32, "student: {kind: LSTM, hidden: 12, dropout: 0.0}"),
    "static": ("regression", 32, STATIC),
    "answers": ("question_answering", 32, ""),
    "next": ("causal_lm", 6, ""),
    "written": ("seq2seq", 32, ""),
    "labels": (
        "multi_label",
        32,
        "losses: {labels: {kind: Labels, focal: 2.0, class_weights: balanced}, logits: {kind: Logits}}",
    ),
    "passages": (
        "ranking",
        32,
        "losses: {labels: {kind: Labels}, logits: {kind: MarginMSE}, list: {kind: ListwiseKL}}\n"
        "trainer: {max_epochs: 4, accelerator: cpu, log_every_n_steps: 1}",  # all six queries are a batch
    ),
    "numbers": ("regression", 32, "losses: {labels: {kind: Labels}, logits: {kind: LogitsMSE}}"),
}


def still(teacher: Path) -> None:
    """Takes dropout out of a saved model: two processes draw other numbers than one."""
    file = teacher / "config.json"
    config = json.loads(file.read_text())
    dropped = [name for name in config if "dropout" in name or name.endswith("_pdrop")]
    file.write_text(json.dumps(config | dict.fromkeys((n for n in dropped if isinstance(config[n], float)), 0.0)))


@pytest.fixture(scope="module")
def done(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs of ``one`` process and of ``two``."""
    folder = tmp_path_factory.mktemp("processes")
    for name, layers, labels in (
        ("still", 4, ["negative", "positive"]),
        ("still-2", 3, ["negative", "positive"]),
        ("several", 3, ["taste/negative", "taste/positive", "praise"]),
    ):
        save_tiny_bert(folder / name, layers=layers, hidden=32, heads=4, labels=labels)
        still(folder / name)
    save_byte_level_teacher(folder / "gpt2", ["negative", "positive"])
    still(folder / "gpt2")
    base = yaml.safe_load(CONFIG.format(data=materials / "data", teacher=folder / "still", output=""))
    base["trainer"]["max_epochs"] = 1
    documents = []
    for name, text in SENTENCES.items():
        documents.append(base | yaml.safe_load(text.format(folder=folder, data=materials / "data")) | {"name": name})
    for name, (task, length, more) in TASKS.items():
        if not (folder / task).exists():
            (folder / task).mkdir()
            save_data(task, folder / task, rows=28)  # seven for validation: one more for one rank than for the other
            save_teacher(task, folder / task / "teacher", layers=2)
            still(folder / task / "teacher")
        document = yaml.safe_load(TASK.format(name=task, folder=folder, length=length))
        document["task"] |= COLUMNS.get(task, {})
        documents.append(document | yaml.safe_load(more or "{}") | {"name": name})
    for document in documents:
        document.pop("output", None)
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    started = {
        "one": command(file, f"--output={folder / 'one'}"),
        # no strategy is named: Lightning makes it DDP, also where a part of the model has no gradient
        "two": command(file, f"--output={folder / 'two'}", "--trainer.devices=2"),
    }
    for process in started.values():
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, output
        for name in [*SENTENCES, *TASKS]:
            assert sum(line.startswith(f"{name}: ") and " steps, " in line for line in output.splitlines()) == 1, output
    return {name: folder / name for name in started}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SENTENCES, *TASKS])
def test_curves_are_the_same(done: dict[str, Path], name: str) -> None:
    first, second = (rows(folder / name) for folder in done.values())
    assert len(first) == len(second) > 4
    compared, whole_inputs = set(), name in ("allotted", "means")
    for a, b in zip(first, second, strict=True):
        for key in a:
            if key.endswith("pearson"):
                continue  # torchmetrics joins its sums in float32: of numbers that hardly vary three digits are left
            logged = key.startswith(("train/", "val/", "sparsity")) and a[key]
            if logged and (whole_inputs or float(a.get("bits") or 32) == 32):
                compared.add(key)
                # a divergence of float32 logarithms is known to some 1e-7, however small it is
                # scores of a tiny model that are nearly equal may change places, and a rank is a jump of mAP
                near = 0.02 if key.endswith("mAP") else 5e-7
                assert float(a[key]) == pytest.approx(float(b[key]), abs=near, rel=1e-4), (a["step"], key)
    assert "train/logits" in compared and any(float(row["train/logits"] or 0) > 1e-6 for row in first)
    assert name not in ("cut", "shared", "ranks", "pruned") or any(float(row["sparsity"] or 0) > 0.3 for row in first)
    assert name not in TASKS or any(float(row[key] or 0) for row in first for key in row if key.startswith("val/"))


@pytest.mark.slow
def test_one_process_cuts_and_two_mask_to_the_end(done: dict[str, Path]) -> None:
    layer = "student.bert.encoder.layer.0.intermediate.dense"
    assert weights(done["one"] / "cut")[f"{layer}.bias"].shape == (48,)
    assert weights(done["two"] / "cut")[f"{layer}.parametrizations.bias.original"].shape == (64,)
