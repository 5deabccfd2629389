"""Layers in two factors: against singular values in float64, the teacher at full rank, and the model that is loaded."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from students.forms.low_rank import LowRank
from students.kinds.transformer import Transformer
from students.recording.input_grams import collect_initial_grams
from students.structure.factored import rank_of
from students.structure.places import select_modules
from tests.helpers.families import batch, low_rank, tiny
from tests.helpers.students.low_rank import build


def test_the_data_is_read_in_the_students_own_mode_and_attention_and_leaves_nothing():
    model = tiny("bert").train()
    before = model.config._attn_implementation, torch.get_rng_state()
    collect_initial_grams(model, [model.bert.encoder.layer[0].intermediate.dense], [batch("bert")])
    assert model.training and model.config._attn_implementation == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_it_starts_as_the_truncation_of_what_a_transformer_student_has(name):
    fields = {"layers": 1, "intermediate": 48}
    full_model, student = Transformer(**fields).build(tiny(name), None, None), build(name, rank=5, **fields)
    layers = select_modules(full_model, ["attention", "ffn"])[0]
    actual = dict(student.named_modules())
    for path, layer in layers.items():
        turned = isinstance(layer, Conv1D)
        weight, first = ((module.weight.T if turned else module.weight) for module in (layer, actual[path]))
        left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
        nearest = left[:, :5] * values[:5] @ right[:5]
        torch.testing.assert_close(
            first.double() @ actual[path].input_factor.weight.double(), nearest, rtol=0, atol=1e-5
        )


def test_energy_is_what_is_left_of_the_squares():
    student, full_model = build("bert", energy=0.6), tiny("bert")
    chosen = select_modules(full_model, ["attention", "ffn"])[0]
    actual = {path: rank_of(student.get_submodule(path)) for path in chosen}
    assert len(set(actual.values())) > 1
    for path, rank in actual.items():
        squares = torch.linalg.svdvals(chosen[path].weight.double()).square()
        assert squares[:rank].sum() >= 0.6 * squares.sum() > squares[: rank - 1].sum()


def test_layers_that_would_be_no_smaller_stay_whole_and_are_told():
    # 19 is the last rank whose factors of 32 by 64 are smaller, and 15 the last of 32 by 32.
    with pytest.warns(
        UserWarning, match="stay at full rank, as two factors would be no smaller: .*query.*, .*key"
    ) as info:
        student = low_rank(rule={"rank": 16}).build(tiny("bert"), None, None)
    assert "intermediate" not in str(info[0].message)
    assert [path for path, module in student.bert.encoder.layer[0].named_modules() if rank_of(module)] == [
        "intermediate.dense",
        "output.dense",
    ]
    with pytest.raises(ValueError, match="^low_rank: rank: 22 makes no layer in attention, ffn smaller$"):
        build("bert", rank=22)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"rank": 0}, "rank: at least 1 is needed, not 0"),
        ({"param_ratio": 1.0}, "param_ratio: must lie between 0 and 1, not 1.0"),
        ({"energy": -0.5}, "energy: must lie between 0 and 1, not -0.5"),
        ({"rank": 4, "energy": 0.9}, "energy: rank is set already; set one of them"),
        ({"batches": -1}, "batches: at least 0 is needed, not -1"),
        ({"where": []}, "where: .* is not a choice of attention, ffn, head"),
        ({"where": ["embeddings"]}, "where: .* is not a choice of attention, ffn, head"),
    ],
)
def test_wrong_values_are_told_in_a_line(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        LowRank(**fields)


def test_a_table_that_is_the_head_too_stays_one():
    model = build("bert", "language", param_ratio=0.5, where=["embeddings"])
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert table.weight is head.weight and table.output_factor is not head.input_factor
    assert table.weight.shape == (100, rank_of(table)) and head.input_factor.weight.shape == (rank_of(table), 32)
    model = build("t5", "language", param_ratio=0.5, where=["head"])
    words = [model.shared, model.encoder.embed_tokens, model.decoder.embed_tokens]
    assert len({id(embedding.output_factor) for embedding in words}) == 1
    assert len({id(embedding.weight) for embedding in (*words, model.lm_head)}) == 1
