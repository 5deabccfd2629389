"""What is derived of the layers of a family: units that are cut leave what the masked model computes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

import students  # noqa: F401 — compact models are loaded
from prune_schedules.structure.cut import cut
from students.families.families import family, is_compact
from students.kinds.transformer import Transformer
from students.structure.units import heads, neurons
from students.weights import fold
from tests.helpers.pruning.models import mask
from tests.helpers.students.derived import STRUCTURE, model_of, texts

GROUPED = ("phi", "mixtral", "qwen3_moe", "starcoder2")
"""Those whose keys several queries share."""
FIXED = ("mpnet", "bloom", "gpt_oss")
"""Those whose heads a position bias, or a sink, has entries for."""
OTHERS = ("mixtral", "qwen3_moe", "gpt_oss", "bloom")
"""Those whose number of neurons cannot be set."""
SHAPES = [
    (name, shape)
    for name in STRUCTURE
    for shape in ("neurons", "heads", "hidden", "layers")
    if shape != "neurons" or name not in ("mixtral", "qwen3_moe", "gpt_oss")  # whose neurons are in experts
    if shape not in ("heads", "hidden") or name != "xlnet"  # whose attention has no linear layers
    if shape != "heads" or name not in FIXED
    if shape != "layers" or name != "gpt_oss"  # neither branch of which can be cut off
]


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(**texts()).logits


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_a_model_without_its_masked_units_computes_the_same(name: str, shape: str, tmp_path: Path) -> None:
    model = model_of(name)
    before = logits(model)
    mask(model, 0.5, shape)
    masked = logits(model)
    assert not torch.allclose(masked, before, atol=1e-3)
    fold(model)
    report = cut(model)
    assert report.parameters[1] < report.parameters[0]
    torch.testing.assert_close(logits(model), masked, rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert type(loaded) is type(model) and is_compact(loaded.config) is not report.is_stock
    torch.testing.assert_close(logits(loaded), masked, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_narrower_student_is_a_stock_model(name: str, tmp_path: Path) -> None:
    teacher = model_of(name)
    sizes = {"layers": 2, "hidden": 24} | ({} if name in OTHERS else {"intermediate": 40})
    if name == "xlnet":
        with pytest.raises(ValueError, match="hidden: the layers of attention of a xlnet are not known, so it stays"):
            Transformer(**sizes).build(teacher, None, None, None)
        del sizes["hidden"]
    student = Transformer(**sizes).build(teacher, None, None, None)
    assert student.config.hidden_size == sizes.get("hidden", 32) and not is_compact(student.config)
    assert {units.count for units in neurons(student)} <= {96 if name == "bloom" else 40}
    student.save_pretrained(tmp_path)
    loaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    torch.testing.assert_close(logits(loaded), logits(student))


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_student_of_fewer_heads_has_the_largest_of_the_teacher(name: str) -> None:
    grouped = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4}
    teacher = model_of(name, **(grouped if name in GROUPED else {}))
    if not family(teacher.config).head_size:
        with pytest.raises(ValueError, match=r"^heads: 2 heads in a hidden size of 32 are 16 wide, the teacher's 8"):
            Transformer(heads=2).build(teacher, None, None, None)
        return
    student = Transformer(heads=4).build(teacher, None, None, None)
    (old, *_), (new, *others) = heads(teacher), heads(student)
    assert [units.count for units in (new, *others)] == [2] * 3  # two queries share a key
    rows = [part.rows(getattr(part.module, part.name), old.count) for part in old.slices]
    largest = sum(part.square().sum(1) for part in rows).topk(2).indices.sort().values
    for part, kept in zip(rows, new.slices, strict=True):
        weight = getattr(kept.module, kept.name)
        assert torch.equal(part[largest], kept.rows(weight, 2))


def test_heads_that_are_no_linear_layers_are_not_pruned() -> None:
    model = model_of("xlnet")
    with pytest.raises(ValueError, match="where: there is nothing to prune in attention"):
        mask(model, 0.5, "heads")
    with pytest.raises(ValueError, match="shape: there is no xlnet of another hidden size: .*d_head"):
        mask(model, 0.5, "hidden")


@pytest.mark.parametrize("name", ["phi", "starcoder2"])
def test_query_heads_that_share_one_key_are_units(name: str, tmp_path: Path) -> None:
    """As a pruner of whole groups does nothing where there is one (onnxsim 1103)."""
    model = model_of(name, num_key_value_heads=1)
    mask(model, 0.5, "heads")
    masked = logits(model)
    fold(model)
    assert {kind: after for kind, (_, after) in cut(model).units.items() if kind.endswith("self")} == {
        f"decoder.{i}.self": 2 for i in range(3)
    }
    torch.testing.assert_close(logits(model), masked, rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded), masked, rtol=1e-5, atol=1e-5)
