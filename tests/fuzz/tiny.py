"""Good configs of every task on tiny data and models, for the fuzzer to spoil."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.mutations import data_of
from tests.helpers.repositories import save_sst2, save_tiny_bert
from tests.helpers.worlds import COLUMNS, WORLDS, save_data, save_teacher

WHOLE = """\
task: {{name: classification, data: sst2, max_length: 32, batch_size: 8}}
teacher: {{model: teacher}}
student: {{kind: Transformer, layers: 2, hidden: 24, heads: 4, intermediate: 32}}
losses:
  hidden: {{kind: HiddenMSE, layers: uniform, stop: 50%}}
  attention: {{kind: AttentionScores, layers: uniform, stop: 50%}}
  relations: {{kind: Relations, layers: top, heads: 4, stop: 50%}}
  logits: {{kind: Logits, temperature: {{kind: Linear, initial: 4.0, to: 1.0}}}}
prune:
  elements: {{kind: Magnitude, sparsity: {{kind: Cubic, to: 0.5, start: 10%, stop: 60%}}}}
  neurons: {{kind: Taylor, shape: neurons, sparsity: {{kind: Cubic, to: 0.25, start: 10%, stop: 60%}}}}
quantize: {{weights: 8, activations: 8, target: onnxruntime, start: 70%}}
optimizer: {{lr: 1e-3, warmup: 10%, freeze: {{'bert.embeddings.*': 10%}}}}
trainer: {trainer}
"""
STARTS = [
    "teacher: teacher\nstudent: {kind: Transformer, layers: 2}",
    "student: teacher",
    "teacher: {members: {a: teacher, b: teacher}, weights: {a: 2.0}}\nstudent: {kind: Pretrained, model: teacher}",
    "teacher: {decay: 0.99}\nstudent: teacher",
    "teacher: {peer: {kind: Transformer, layers: 1}}\nstudent: teacher",
    "teacher: teacher\nstudent: {kind: LSTM, hidden: 16}",
    "teacher: teacher\nstudent: {kind: Transformer, low_rank: {param_ratio: 0.5}}",
    "teacher: teacher\nstudent: {kind: Transformer, share_layers: {groups: 1}}",
    "teacher: teacher\nstudent: {kind: Transformer, layers: 2, attention: {kind: LocalAttention, window: 8}}",
    "teacher: teacher\nreplace: 0.5\nstudent: {kind: Transformer, layers: 2}",
]
TRAINER = "{max_epochs: 2, accelerator: cpu, devices: 1, log_every_n_steps: 1}"


def configs(folder: Path) -> list[list[dict]]:
    """Makes data and models in ``folder``; paths in the configs are relative to it."""
    save_sst2(folder / "made", 48)
    (folder / "sst2").mkdir()
    for split in ("train", "validation"):
        (folder / "made" / "sst2" / f"{split}-00000-of-00001.parquet").rename(folder / "sst2" / f"{split}.parquet")
    save_tiny_bert(folder / "teacher", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    texts = [WHOLE.format(trainer=TRAINER)]
    for start in STARTS:
        of_teacher = "" if start.startswith("student") else ", logits: {kind: Logits}"
        losses = f"{{labels: {{kind: Labels}}{of_teacher}}}"
        task = "{name: classification, data: sst2, max_length: 32, batch_size: 8}"
        texts.append(f"task: {task}\n{start}\nlosses: {losses}\noptimizer: {{lr: 1e-3}}\ntrainer: {TRAINER}\n")
    for name in WORLDS:
        (folder / name).mkdir()
        save_data(name, folder / name)
        save_teacher(name, folder / f"{name}-teacher", layers=2)
        columns = "".join(f", {key}: {column}" for key, column in COLUMNS.get(name, {}).items())
        texts.append(
            f"task: {{name: {name}, data: {name}, max_length: 32, batch_size: 8{columns}}}\n"
            f"teacher: {name}-teacher\nstudent: {{kind: Transformer, layers: 1}}\n"
            f"losses: {{hidden: {{kind: HiddenMSE}}, labels: {{kind: Labels}}}}\ntrainer: {TRAINER}\n"
        )
    tasks = "{a: {name: classification, data: sst2}, b: {name: regression, data: regression}}"
    texts.append(
        f"task: {{name: multi_task, tasks: {tasks}, batch_size: 8}}\nstudent: teacher\n"
        f"losses: {{labels: {{kind: Labels}}}}\ntrainer: {TRAINER}\n"
    )
    return [data_of(text) for text in texts]
