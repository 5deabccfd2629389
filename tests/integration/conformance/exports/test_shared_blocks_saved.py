"""A file of a student with shared layers holds each weight once, in every family."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from students.families.families import blocks
from students.structure.sharing import group_shared_blocks
from tests.helpers.families import _auto, tiny
from tests.helpers.students.shared import SHARING, WAYS, build, logits


@pytest.mark.parametrize("head, fields", [*(("classification", form) for form in WAYS), ("language", {})], ids=str)
@pytest.mark.parametrize("name", SHARING)
def test_the_file_holds_each_weight_once(name, fields, head, tmp_path):
    student = build(tiny(name, layers=4, head=head), **fields)
    student.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert sum(weight.numel() for weight in saved.values()) == sum(p.numel() for p in student.parameters())
    assert saved.keys() <= dict(student.named_parameters()).keys()
    loaded, report = _auto(name, head).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert loaded.config.model_type == f"compact-{name}" and loaded.num_parameters() == student.num_parameters()
    torch.testing.assert_close(logits(loaded, name, head), logits(student, name, head), rtol=0, atol=1e-6)
    bare = AutoModel.from_pretrained(tmp_path)
    assert [len(group) for group in group_shared_blocks(blocks(bare))] == [
        len(group) for group in group_shared_blocks(blocks(student))
    ]
