"""Students whose blocks share layers are pruned and cut: what is there once goes once, in all blocks that use it."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from prune_schedules.structure.cut import cut
from students.structure.places import select_modules
from students.structure.units import branches, heads, neurons, shrink
from tests.helpers.families import _auto, batch, tiny
from tests.helpers.students.shared import WAYS, build, logits


def test_units_and_weights_are_there_once():
    student = build(tiny("bert", layers=4), shared_modules="attention", groups=2)
    assert [units.name for units in heads(student)] == ["encoder.0.self", "encoder.2.self"]
    assert [units.name for units in neurons(student)] == [f"encoder.{i}.ffn" for i in range(4)]
    assert len(branches(student)) == 6
    chosen, skipped = select_modules(student, ["attention", "ffn"])
    assert len(chosen) == 2 * 4 + 4 * 2 and not skipped


@pytest.mark.parametrize("fields", WAYS, ids=str)
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "distilbert"])
def test_what_is_cut_is_cut_in_all_blocks(name, fields, tmp_path):
    student = build(tiny(name, layers=4), **fields)
    given = batch(name)
    with torch.no_grad():
        for units, dead in ((heads(student)[0], 1), (neurons(student)[-1], 20)):
            for (module, key), (axis, stay) in units.kept_entries(torch.arange(units.count) >= dead).items():
                getattr(module, key).movedim(axis, 0)[~stay] = 0.0
    before = logits(student, name)
    report = cut(student)
    assert not report.is_stock and report.parameters[1] < report.parameters[0]
    torch.testing.assert_close(logits(student, name), before, rtol=1e-4, atol=1e-5)
    student.save_pretrained(tmp_path)
    loaded, loading_info = _auto(name, "classification").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading_info.values()), loading_info
    assert torch.equal(loaded(**given).logits, student(**given).logits)
    assert loaded.num_parameters() == report.parameters[1]


def test_sizes_that_differ_where_layers_are_shared_are_refused(tmp_path):
    student = build(tiny("bert", layers=4))
    shrink(neurons(student)[0], torch.arange(64) < 40)
    cut(student)
    student.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.block_sizes["encoder"][2]["intermediate"] = 41
    with pytest.raises(ValueError, match=r"^block_sizes: encoder.2.ffn runs the layers of encoder.0.ffn"):
        AutoModel.from_config(config)
