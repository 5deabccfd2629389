"""Whole runs of a student with all forms at once: distilled, pruned, int8 or few bits, cut, resumed; and mistakes."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from distill import run
from distill.config.loader import ConfigError, load
from distill.config.writer import to_yaml
from quant_aware.export import packed
from students.kinds.student import Student
from students.structure.factored import get_ranks, rank_of
from students.structure.sharing import group_shared_blocks
from tests.helpers.runs import resumes_bit_for_bit

STUDENT = {
    "kind": "Transformer",
    "layers": 2,
    "attention": {"kind": "LocalAttention", "window": 8},
    "share_layers": {"groups": 1},
    "low_rank": {"param_ratio": 0.7},
    "embeddings": {"kind": "Factorised", "param_ratio": 0.7},
}
NEURONS = {"kind": "Magnitude", "shape": "neurons", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "40%"}}
RANKS = {"kind": "Magnitude", "shape": "ranks", "sparsity": {"kind": "Cubic", "to": 0.25, "stop": "40%"}}
GIVEN = {"student": STUDENT, "prune": {"neurons": NEURONS, "ranks": RANKS}}


@dataclass(kw_only=True)
class Holder:
    student: Student


@pytest.mark.filterwarnings("ignore")
def test_all_forms_are_pruned_and_int8_and_saved(tiny_run: Path) -> None:
    report = run(tiny_run, **GIVEN, **{"quantize.target": "onnxruntime"})
    assert report.parity["folded"] < 1e-5 and report.parity["cut"] < 1e-4
    assert report.exports[0].precision.endswith("int8") and report.exports[0].agreement > 0.9
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    config = json.loads((report.folder / "student" / "config.json").read_text())
    assert config["attention"]["window"] == 8 and config["share_layers"]["blocks"] == {"encoder": [0, 0]}
    assert config["ranks"] == get_ranks(student) and rank_of(student.get_input_embeddings())
    blocks = list(student.bert.encoder.layer)
    assert [len(group) for group in group_shared_blocks(blocks)] == [2] and blocks[
        1
    ].intermediate.dense.out_features == 48
    assert report.models["student"].parameters == student.num_parameters()


@pytest.mark.filterwarnings("ignore")
def test_it_resumes_bit_for_bit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before neurons and ranks have been cut and after."""
    resumes_bit_for_bit(monkeypatch, 8, 16, tiny_run, **GIVEN)


@pytest.mark.filterwarnings("ignore")
def test_few_bits_are_packed_once(tiny_run: Path) -> None:
    report = run(tiny_run, quantize={"weights": 4, "start": "50%"}, **GIVEN)
    (export,) = report.exports
    assert export.format == "packed" and export.agreement == 1.0
    model = packed.load(report.folder, AutoModelForSequenceClassification)
    plain = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    for (name, weight), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, msg=name, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (
            {"kind": "LowRank", "param_ratio": 0.5},
            r"student.kind: no Student 'LowRank'; write low_rank: \{...\} beside 'kind'",
        ),
        ({"kind": "Shared"}, r"no Student 'Shared'; write share_layers: \{...\} beside 'kind'"),
        ({"kind": "TensorTrain"}, r"'TensorTrain'; write embeddings: \{kind: TensorTrain, ...\} beside 'kind'"),
        ({"kind": "Performer"}, r"'Performer'; write attention: \{kind: Performer, ...\} beside 'kind'"),
        ({"kind": "Transformr"}, "no Student 'Transformr'; did you mean 'Transformer'"),
        ({"kind": "Transformer", "lowrank": {}}, "Transformer has no 'lowrank'; did you mean 'low_rank'"),
        ({"kind": "LSTM", "low_rank": {}}, "student.low_rank: forms change Transformers, and this is a recurrent"),
        (
            {"kind": "Transformer", "embeddings": {"rank": 4}},
            "student.embeddings: no 'kind'; expected one of",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_new_key(tiny_run: Path, student: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        run(tiny_run, student=student)
    assert "\n" not in str(error.value)


def test_a_resolved_config_reads_back(tmp_path: Path) -> None:
    """``kind`` is written where several classes can be, and nowhere else."""
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"student": STUDENT}))
    value = load(tmp_path / "x.yaml", Holder).value
    text = to_yaml(value)
    assert "kind" not in yaml.safe_load(text)["student"]["low_rank"]
    (tmp_path / "again.yaml").write_text(text)
    assert load(tmp_path / "again.yaml", Holder).value == value
