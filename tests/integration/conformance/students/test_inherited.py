"""Each weight of a narrower student comes from the right place, in every family."""

import pytest
import torch

from students.families.families import blocks
from students.families.parts import Projection
from students.families.table import FAMILIES as FACTS
from tests.helpers.families import FAMILIES, tiny
from tests.helpers.students.built import build, logits

DIVIDED = [name for name in FAMILIES if name not in ("llama", "t5")]  # the heads divide the hidden size


def rows(module, part=0, parts=1):
    """The outputs of a linear layer as rows of one tensor, a view: [outputs, inputs], and the bias."""
    weight = module.weight if isinstance(module, torch.nn.Linear) else module.weight.T
    size = len(weight) // parts
    bias = None if module.bias is None else module.bias[part * size : (part + 1) * size]
    return weight[part * size : (part + 1) * size], bias


def test_a_student_without_dead_neurons_is_the_teacher(name):
    teacher, dead = tiny(name), torch.tensor([0, 3, 17, 40, 63])
    with torch.no_grad():
        for stack, facts in FACTS[name].stacks.items():
            for block in set(blocks(teacher, stack)):
                for path, module in block.named_modules():
                    if Projection(path) in facts.ffn.inner:
                        weight, bias = rows(module)
                        weight[dead] = 0
                        if bias is not None:
                            bias[dead] = 0
                rows(block.get_submodule(facts.ffn.outer))[0][:, dead] = 0
    torch.testing.assert_close(logits(build(teacher, intermediate=59)), logits(teacher), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", DIVIDED)
def test_weights_are_where_they_belong(name):
    """The attention of a student has its numbers from the right rows and columns of the teacher's."""
    teacher = tiny(name, layers=1, hidden=32, heads=4)
    facts = next(iter(FACTS[name].stacks.values()))
    strong, leading = [1, 2, 3], [0, 1, 2, 3, 4, 5]  # 4 heads of 8 become 3 of 6
    parts = facts.attention["self"]
    outputs = [head * 8 + dim for head in strong for dim in leading]
    with torch.no_grad():
        for layer in (*parts.queries, *parts.keys):
            weight, bias = rows(blocks(teacher)[0].get_submodule(layer.path), layer.part, layer.parts)
            weight[:8], bias[:8] = 0, 0
        rows(blocks(teacher)[0].get_submodule(parts.output))[0][:, :8] = 0
    student = build(teacher, hidden=18, heads=3)
    hidden = hidden_dimensions(teacher, student)
    for layer in (*parts.queries, *parts.keys):
        weight, bias = rows(blocks(student)[0].get_submodule(layer.path), layer.part, layer.parts)
        source, source_bias = rows(blocks(teacher)[0].get_submodule(layer.path), layer.part, layer.parts)
        assert torch.equal(weight, source[outputs][:, hidden]), layer
        assert torch.equal(bias, source_bias[outputs]), layer
    weight, bias = rows(blocks(student)[0].get_submodule(parts.output))
    source, source_bias = rows(blocks(teacher)[0].get_submodule(parts.output))
    assert torch.equal(weight, source[hidden][:, outputs]) and torch.equal(bias, source_bias[hidden])


def hidden_dimensions(teacher, student):
    """Which of the teacher's hidden dimensions the student has, by the bias of the last feed-forward."""
    outer = next(iter(FACTS[teacher.config.model_type].stacks.values())).ffn.outer
    source = blocks(teacher)[-1].get_submodule(outer).bias
    return [int((source == value).nonzero()) for value in blocks(student)[-1].get_submodule(outer).bias]
