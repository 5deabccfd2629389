"""Whole runs with weights of few bits: the file is small, and gives the very student that was trained."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.evaluation.measure import torch_predict
from quant_aware.export.packed import load, load_packed
from tests.helpers.runs import checkpoint, interrupted, resumes_bit_for_bit, rows
from tests.helpers.worlds import ready_task, save_data, save_teacher

NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "40%"}}
LANGUAGE = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8{more}}}
teacher: {folder}/teacher
student: {{kind: Transformer, layers: 1}}
losses: {{logits: {{kind: Logits}}}}
quantize: {{weights: {{kind: Ternary}}, start: 30%}}
trainer: {{max_steps: 6, accelerator: cpu}}
output: {folder}/runs
"""
ELEMENTS = {"kind": "Magnitude", "sparsity": {"kind": "Cubic", "to": 0.5, "stop": "40%"}}


@pytest.mark.parametrize(
    ("weights", "activations", "prune", "precision"),
    [
        (4, None, {"neurons": NEURONS}, "4-bit"),
        ({"kind": "Ternary"}, 8, {"elements": ELEMENTS}, "2-bit"),
        ({"kind": "Binary", "granularity": "tensor"}, None, {"elements": ELEMENTS}, "1-bit"),
        ({"kind": "Uniform", "bits": 3, "granularity": 8}, 8, {"elements": ELEMENTS}, "3-bit"),
        (
            {"kind": "Uniform", "bits": 4, "learn": True},
            {"bits": 8, "granularity": "token"},
            {"neurons": NEURONS},
            "4-bit",
        ),
        ({"kind": "Ternary", "learn": True}, None, {"elements": ELEMENTS}, "2-bit"),
        ({"kind": "KMeans", "bits": 2}, None, {"elements": ELEMENTS, "neurons": NEURONS}, "2-bit"),
    ],
    ids=["uniform", "ternary", "binary", "groups", "learned", "learned ternary", "means"],
)
def test_the_file_is_the_student_that_was_trained(tiny_run: Path, weights, activations, prune, precision) -> None:
    given = {"weights": weights, "activations": activations, "start": "50%"}
    report = run(tiny_run, name="packed", prune=prune, quantize=given)
    (export,) = report.exports
    assert (export.format, export.path, export.precision) == ("packed", "student.packed.safetensors", precision)
    assert export.largest_difference < 1e-4 and export.agreement == 1.0
    student = report.models["student"]
    assert (student.precision, student.runtime, student.bytes) == (precision, "torch", export.bytes)
    assert student.metrics == report.models["student in torch"].metrics or activations
    assert student.bytes == (report.folder / export.path).stat().st_size
    assert student.bytes < report.models["student in bfloat16"].bytes
    plain = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    packed = load(report.folder, AutoModelForSequenceClassification)
    for (name, weight), expected in zip(packed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, msg=name, rtol=1e-5, atol=1e-7)
        assert torch.equal(weight == 0, expected == 0), name
    batch = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    same = torch.allclose(torch_predict(packed)(batch), torch_predict(plain)(batch), atol=1e-6)
    assert same == (activations is None), "inputs are rounded where they were in training, and only there"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["masked_lm", "causal_lm", "seq2seq"])
def test_a_table_that_is_the_head_too_is_written_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data")
    save_teacher(name, tmp_path / "teacher", layers=2)
    more = ", source: left, target: right" if name == "seq2seq" else ""
    (tmp_path / "x.yaml").write_text(LANGUAGE.format(name=name, folder=tmp_path, more=more))
    report = run(tmp_path / "x.yaml")
    (export,) = report.exports
    assert export.largest_difference < 1e-4 and export.agreement == 1.0, "the inputs of the head are rounded, too"
    student = load(report.folder, ready_task(name, tmp_path).head)
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    saved = load_packed(report.folder / export.path)
    assert saved.keys() == {key for key, _ in student.named_parameters()}


def test_a_token_embedding_is_written_in_pieces(tiny_run: Path) -> None:
    given = {"weights": 8, "overrides": {"*word_embeddings*": PIECES}, "activations": None, "start": "50%"}
    report = run(tiny_run, name="pieces", prune={"neurons": NEURONS}, quantize=given)
    (export,) = report.exports
    assert export.largest_difference < 1e-4 and export.agreement == 1.0
    table = load(report.folder, AutoModelForSequenceClassification).get_input_embeddings().weight
    assert all(len(piece.unique(dim=0)) <= 2**3 + 1 for piece in table.unflatten(1, (-1, 4)).unbind(1))


def test_weights_have_grids_by_their_names(tiny_run: Path) -> None:
    mixed = {"*word_embeddings*": 8, "*.layer.0.*": {"kind": "Ternary"}, "classifier.*": None}
    report = run(tiny_run, name="mixed", prune=None, quantize={"weights": {"10%": 8, "50%": 4}, "overrides": mixed})
    (export,) = report.exports
    assert (export.format, export.precision) == ("packed", "2 and 4 and 8-bit")
    student = load(report.folder, AutoModelForSequenceClassification)
    weights = {name: weight for name, weight in student.named_parameters() if weight.ndim == 2}
    values = {name: max(len(row.unique()) for row in weight) for name, weight in weights.items()}
    assert all(count <= 3 for name, count in values.items() if ".layer.0." in name)
    assert 3 < values["bert.pooler.dense.weight"] <= 15 < values["bert.embeddings.word_embeddings.weight"]
    assert values["classifier.weight"] == weights["classifier.weight"].shape[1]
    assert export.largest_difference < 1e-4


PIECES = {"kind": "Product", "bits": 3, "subvector_size": 4}
ROUNDED = {"20%": 8, "40%": {"kind": "Ternary"}, "60%": {"kind": "PowerOfTwo", "bits": 3}}
LEARNED = {
    "20%": {"kind": "Uniform", "learn": True},
    "40%": {"kind": "Ternary", "learn": True},
    "60%": {"kind": "KMeans", "bits": 3},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stairs", [ROUNDED, LEARNED], ids=["rounded", "learned"])
def test_it_resumes_bit_for_bit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, stairs: dict) -> None:
    given = {"weights": stairs, "quant_noise": {"kind": "Linear", "initial": 0.2, "to": 1.0}}
    given |= {"gptq": 2, "overrides": {"*word_embeddings*": PIECES}} if stairs is LEARNED else {}
    folder = resumes_bit_for_bit(monkeypatch, 8, 16, tiny_run, quantize=given, prune=None)
    first = {row["bits"]: int(row["step"]) for row in reversed(rows(folder)) if row["bits"]}
    assert first == {"32": 0, "8": 3, "2": 6, "3": 10}


@pytest.mark.filterwarnings("ignore")
def test_what_a_grid_learns_is_stepped_only_while_it_is_on(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"losses": {"logits": {"kind": "Logits"}}, "prune": None, "quantize": {"weights": LEARNED}}
    interrupted(monkeypatch, 16, tiny_run, **given)
    saved = checkpoint(tiny_run.parent / "runs" / "tiny")
    fits = sum(".learned_qparams." in name for name in saved["state_dict"])
    (states,) = (optimizer["state"].values() for optimizer in saved["optimizer_states"])
    steps = Counter(int(state["step"]) for state in states)
    assert steps == {16: len(states) - fits, 3: fits / 3, 4: fits / 3, 6: fits / 3}, "of 3 grids"


ALLOTTED = {
    "weights": {"kind": "Uniform", "bits": 6, "learn": True},
    "bit_allocation": {"average_bits": 3.5, "batches": 2},
    "start": "40%",
}


@pytest.mark.filterwarnings("ignore")
def test_bits_are_allotted_under_a_limit(tiny_run: Path) -> None:
    report = run(tiny_run, quantize=ALLOTTED, prune=None)
    (bits,) = (state["bits"] for state in checkpoint(report.folder)["callbacks"].values() if "bits" in state)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    sizes = {name: student.get_parameter(name).numel() for name in bits}
    assert len(set(bits.values())) > 1 and set(bits.values()) <= {2, 3, 4, 5, 6}
    average = sum(bits[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert 3 < average <= 3.5 and sum(sizes.values()) > 0.95 * student.num_parameters()
    loaded = load(report.folder, AutoModelForSequenceClassification)
    for name, width in bits.items():
        assert max(len(row.unique()) for row in loaded.get_parameter(name)) <= 2**width - 1, name
    (export,) = report.exports
    assert export.precision == "2 to 6-bit" and export.agreement == 1.0 and export.largest_difference < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_allotted_bits_are_taken_up_again(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resumes_bit_for_bit(monkeypatch, 9, 16, tiny_run, quantize=ALLOTTED)
    (bits,) = (state["bits"] for state in checkpoint(folder)["callbacks"].values() if "bits" in state)
    assert len(set(bits.values())) > 1


THREE_BITS = {"weights": {"kind": "Uniform", "bits": 3, "learn": True}, "start": "40%"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantize", [THREE_BITS, ALLOTTED], ids=["learned", "allotted"])
def test_a_run_stopped_after_its_last_step_is_deployed_as_it_was_trained(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, quantize: dict
) -> None:
    """As after Ctrl-C while it was measured: Lightning has nothing left to train. What was pruned stays so, too."""
    given = {"quantize": quantize, "trainer.max_steps": 16}
    uninterrupted = run(tiny_run, name="whole", **given)
    interrupted(monkeypatch, 16, tiny_run, name="parts", **given)
    parts = run(tiny_run, name="parts", resume=True, **given)
    first, second = (load_file(report.folder / "student" / "model.safetensors") for report in (uninterrupted, parts))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert parts.parity == uninterrupted.parity and parts.warnings == uninterrupted.warnings
    assert parts.models["student"].metrics == uninterrupted.models["student"].metrics
