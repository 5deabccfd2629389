"""Which units are the largest, and that each weight of a narrower student comes from the right place."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification

from students.families.families import blocks, repeats_blocks
from students.families.table import FAMILIES as FACTS
from students.kinds.transformer import Transformer
from students.structure.inherit import head_shape, largest_units, unit_entries
from tests.helpers.families import tiny, tiny_config
from tests.helpers.students.built import build, logits


def test_the_largest_units_over_all_their_parts_in_order():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(9, 4, generator=generator), torch.randn(9, 1, generator=generator)]
    norms = torch.cat(parts, dim=1).double().norm(dim=1)
    assert largest_units(parts, 4).tolist() == sorted(norms.topk(4).indices.tolist())


def test_equal_units_are_kept_from_the_front():
    assert largest_units([torch.ones(5, 2)], 3).tolist() == [0, 1, 2]


def test_half_precision_does_not_overflow():
    assert largest_units([torch.tensor([[300.0], [400.0], [1.0]], dtype=torch.float16)], 1).tolist() == [1]


@pytest.mark.parametrize("name, expected", [("bert", (4, 1, 8)), ("llama", (2, 2, 8)), ("t5", (4, 1, 8))])
def test_head_shape(name, expected):
    assert head_shape(tiny_config(name)) == expected


def test_a_fused_layer_keeps_the_same_heads_in_all_its_parts():
    teacher = tiny("gpt2", layers=1)
    student = build(teacher, hidden=16, heads=2)
    actual = unit_entries(teacher, student.config)["transformer.h.0.attn.c_attn.weight", 1].view(3, 16)
    assert torch.equal(actual[1], actual[0] + 32) and torch.equal(actual[2], actual[0] + 64)


def test_only_a_shared_block_repeats():
    repeating = [repeats_blocks(tiny_config(*given)) for given in (("albert",), ("bert",), ("albert", 1))]
    assert repeating == [True, False, False]


def test_a_student_without_dead_llama_heads_is_the_teacher():
    teacher = tiny("llama", heads=8)  # 4 keys, each shared by 2 of the 8 queries, 4 wide
    with torch.no_grad():
        for number, block in enumerate(blocks(teacher)):
            dead = (1, 2 + number)
            attention = block.self_attn
            for layer, size in ((attention.q_proj, 8), (attention.k_proj, 4), (attention.v_proj, 4)):
                for unit in dead:
                    layer.weight[unit * size : (unit + 1) * size] = 0
            for unit in dead:
                attention.o_proj.weight[:, unit * 8 : (unit + 1) * 8] = 0
    student = build(teacher, heads=4)
    assert (student.config.num_key_value_heads, student.config.head_dim) == (2, 4)
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-5, rtol=1e-5)


def test_a_student_without_dead_hidden_dimensions_is_the_teacher():
    """With half of the dimensions at zero, the teacher's mean squares are half of the student's."""
    teacher, kept_units = tiny("llama"), torch.arange(0, 32, 2)
    dead = kept_units + 1
    with torch.no_grad():
        for path, module in teacher.named_modules():
            if path.endswith(("embed_tokens", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "score")):
                module.weight[:, dead] = 0
            elif path.endswith(("o_proj", "down_proj", "norm")):
                module.weight[dead] = 0
    student = build(teacher, hidden=16, heads=4)
    with torch.no_grad():
        for path, module in student.named_modules():
            if path.endswith("norm"):
                module.weight.mul_(2**0.5)
    torch.testing.assert_close(logits(student), logits(teacher), atol=2e-4, rtol=1e-4)


def hidden_dimensions(teacher, student):
    """Which of the teacher's hidden dimensions the student has, by the bias of the last feed-forward."""
    outer = next(iter(FACTS[teacher.config.model_type].stacks.values())).ffn.outer
    source = blocks(teacher)[-1].get_submodule(outer).bias
    return [int((source == value).nonzero()) for value in blocks(student)[-1].get_submodule(outer).bias]


def test_one_set_of_hidden_dimensions_and_it_is_the_largest():
    teacher = tiny("bert")
    strong = [0, 5, 6, 7, 11, 12, 20, 31]
    with torch.no_grad():
        teacher.bert.embeddings.word_embeddings.weight[:, strong] *= 100
    student = build(teacher, hidden=8, heads=4)
    assert hidden_dimensions(teacher, student) == strong
    for key in (
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.position_embeddings.weight",
        "classifier.weight",
        "bert.pooler.dense.weight",
    ):
        weight = teacher.state_dict()[key][:, strong]
        weight = weight[strong] if len(weight) == 32 else weight
        assert torch.equal(student.state_dict()[key], weight), key
    assert torch.equal(student.classifier.bias, teacher.classifier.bias)


def test_sizes_that_coincide_are_not_mixed_up():
    """32 is the hidden size, the vocabulary, the neurons and the number of positions."""
    teacher = tiny("gpt2", hidden=32, intermediate=32, vocab=32)
    student = build(teacher, hidden=16)
    assert student.transformer.wte.weight.shape == (32, 16)
    assert student.transformer.h[0].mlp.c_fc.weight.shape == (16, 32)
    assert student.transformer.h[0].mlp.c_proj.weight.shape == (32, 16)
    assert student.transformer.h[0].attn.c_attn.weight.shape == (16, 48)


def test_electra_without_a_projection_stays_so():
    config = tiny_config("electra")
    config.embedding_size = 32
    teacher = AutoModelForSequenceClassification.from_config(config)
    student = build(teacher, hidden=16)
    assert student.config.embedding_size == 16
    assert student.electra.embeddings.word_embeddings.weight.shape == (100, 16)


def test_electra_cannot_lose_its_projection():
    with pytest.raises(ValueError, match=r"^hidden: .*16 has no place for .* electra.embeddings_project"):
        build(tiny("electra"), hidden=16)


class FirstWithoutNorm(LlamaForSequenceClassification):
    """As ModernBERT, whose first block has no norm before its attention: the embeddings are normed."""

    def __init__(self, config):
        super().__init__(config)
        self.model.layers[0].input_layernorm = torch.nn.Identity()


def test_a_weight_that_only_some_blocks_have_is_not_taken_from_another_block():
    teacher = FirstWithoutNorm(tiny_config("llama", layers=3))
    for block in teacher.model.layers[1:]:
        torch.nn.init.normal_(block.input_layernorm.weight)
    with pytest.warns(UserWarning) as caught:
        student = Transformer(teacher_layers=[2, 1, 3]).build(teacher, None, None)
    assert [str(warning.message) for warning in caught] == [
        "no block of the student has a place for the teacher's model.layers.1.input_layernorm.weight",
        "not taken from the teacher, newly initialized: model.layers.1.input_layernorm.weight",
    ]
    assert torch.equal(student.model.layers[1].input_layernorm.weight, torch.ones(32))  # as a norm starts
    last = [model.model.layers[2].input_layernorm.weight for model in (student, teacher)]
    assert torch.equal(*last)
