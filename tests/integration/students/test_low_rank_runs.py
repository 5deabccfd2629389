"""Whole runs of students in two factors: distilled, pruned of their ranks, in 8 bits; resumed."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError
from distill.experiment.runs import read_runs
from distill.training.prepare import assemble
from distill.training.prepare.documents import dry_run
from quant_aware.export.packed import load
from students.structure.factored import get_ranks, rank_of
from tests.helpers.runs import interrupted, resumes_bit_for_bit, weights
from tests.helpers.worlds import ready_task, save_data, save_teacher

SCHEDULE = {"kind": "Cubic", "to": 0.4, "start": "10%", "stop": "40%"}
RANKS = {"kind": "Magnitude", "shape": "ranks", "where": ["attention", "ffn", "embeddings"], "sparsity": SCHEDULE}
FLOP = {"kind": "L0", "shape": "ranks", "sparsity": SCHEDULE}
NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "40%"}}
STUDENT = {
    "student": {
        "kind": "Transformer",
        "layers": 2,
        "low_rank": {"param_ratio": 0.8, "where": ["attention", "ffn", "head"]},
        "embeddings": {"kind": "Factorised", "param_ratio": 0.8},
    },
}
LAYER = "bert.encoder.layer.0.intermediate.dense"
LANGUAGE = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8{more}}}
teacher: {folder}/teacher
student:
  {{kind: Transformer, layers: 1, low_rank: {{param_ratio: 0.7}}, embeddings: {{kind: Factorised, param_ratio: 0.7}}}}
losses: {{logits: {{kind: Logits}}}}
prune: {{kind: Magnitude, shape: ranks, sparsity: {{kind: Steps, at: {{2 steps: 0.4}}}}}}
quantize: {{weights: 8, start: 50%}}
trainer: {{max_steps: 6, accelerator: cpu}}
output: {folder}/runs
"""


def left(state: dict[str, torch.Tensor], prefix: str = "student.") -> int:
    """The rank of a layer in a checkpoint."""
    plain = {name.replace("parametrizations.", "").replace(".original", ""): value for name, value in state.items()}
    return len(plain[f"{prefix}{LAYER}.input_factor.weight"])


@pytest.mark.filterwarnings("ignore")
def test_a_run_leaves_the_factors_that_were_trained(tiny_run: Path) -> None:
    pruners = {"ranks": RANKS, "neurons": NEURONS}
    report = run(tiny_run, prune=pruners, **STUDENT, **{"quantize.target": "onnxruntime"})
    (export,) = report.exports
    # So small a model takes half of the file in names: it is called partly int8.
    assert export.format == "onnx" and export.precision.endswith("int8") and export.agreement > 0.9
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-4
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert student.config.ranks == get_ranks(student)
    # 64 by 32, of which 0.8 may stay: 17, less 0.4 of them.
    assert rank_of(student.get_submodule(LAYER)) == 10 == left(weights(report.folder))
    assert len(student.get_submodule(LAYER).bias) == 48
    assert report.models["student"].parameters == student.num_parameters()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop", [3, 9])
def test_it_resumes_bit_for_bit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """While gates are learned, and after the ranks they closed have been cut out (at step 6)."""
    folder = resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, prune={"ranks": FLOP, "neurons": NEURONS}, **STUDENT)
    assert left(weights(folder)) < 17


@pytest.mark.filterwarnings("ignore")
def test_it_looks_at_the_data_once(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it begins: a rehearsal throws its weights away, and a run that goes on has them."""
    real, seen = assemble.first_batches, []

    def counted(*args):
        for entry in real(*args):
            seen.append(entry)
            yield entry

    monkeypatch.setattr(assemble, "first_batches", counted)
    given = {"student": {"kind": "Transformer", "low_rank": {"batches": 3}}, "prune": None, "quantize": None}
    dry_run(read_runs(tiny_run, given))
    assert seen == []
    for stop, resume in ((1, False), (2, True)):
        interrupted(monkeypatch, stop, tiny_run, resume=resume, **given)
        assert len(seen) == 3 and all(entry["input_ids"].shape[0] == 8 for entry in seen)


@pytest.mark.filterwarnings("ignore")
def test_few_bits_are_packed_factor_by_factor(tiny_run: Path) -> None:
    given = {"weights": 4, "overrides": {"*.output_factor.*": 8}, "start": "50%"}
    report = run(tiny_run, prune=RANKS, quantize=given, **STUDENT)
    (export,) = report.exports
    assert export.format == "packed" and export.largest_difference < 1e-4 and export.agreement == 1.0
    packed = load(report.folder, AutoModelForSequenceClassification)
    plain = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    for (name, weight), expected in zip(packed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, msg=name, rtol=1e-5, atol=1e-7)
    assert len(packed.get_submodule(LAYER).input_factor.weight[0].unique()) <= 15


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["masked_lm", pytest.param("causal_lm", marks=pytest.mark.slow), "seq2seq"])
def test_tables_that_are_heads_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data")
    save_teacher(name, tmp_path / "teacher", layers=2)
    more = ", source: left, target: right" if name == "seq2seq" else ""
    (tmp_path / "x.yaml").write_text(LANGUAGE.format(name=name, folder=tmp_path, more=more))
    report = run(tmp_path / "x.yaml")
    assert report.parity["folded"] < 1e-4 and report.parity["cut"] < 1e-4 and report.exports[0].agreement > 0.8
    student = ready_task(name, tmp_path).head.from_pretrained(report.folder / "student")
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    assert student.num_parameters() == report.models["student"].parameters


@pytest.mark.parametrize(
    "given, message",
    [
        ({"student.low_rank.rank": 400}, "student.low_rank.rank: 400 makes no layer in attention, ffn smaller"),
        (
            {"student.low_rank.rank": 4, "student.low_rank.energy": 0.5},
            "energy: rank is set already; set one of them",
        ),
        ({"student.low_rank.param_ratio": 2}, "param_ratio: must lie between 0 and 1, not 2"),
        ({"student.low_rank.where": ["tables"]}, "'tables' is not one of attention, ffn, head"),
        (
            {"student": {"kind": "Transformer"}},
            "prune.shape: ranks needs low-rank layers, as student.low_rank makes",
        ),
    ],
)
def test_wrong_values_are_told_in_a_line(tiny_run: Path, given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **{"student": {"kind": "Transformer", "low_rank": {}}, "prune": RANKS} | given)


def test_groups_of_inputs_are_not_torn(tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match="cutting ranks would break up groups"):
        run(tiny_run, prune=RANKS, quantize={"weights": {"kind": "Uniform", "bits": 4, "granularity": 4}}, **STUDENT)


def test_it_is_a_student_that_exists(tiny_run: Path) -> None:
    """For a second run, with its own teacher."""
    run(tiny_run, name="first", prune=None, quantize=None, **STUDENT)
    report = run(tiny_run, name="second", student=str(tiny_run.parent / "runs" / "first"), quantize=None)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert rank_of(student.get_submodule(LAYER)) == 17
