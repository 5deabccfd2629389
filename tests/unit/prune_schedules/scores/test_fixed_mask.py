"""What is zero where training begins stays zero: elements, 2:4, tied weights, beside other steps."""

import pytest
import torch
from torch import nn

from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.fixed_mask import FixedMask, lost_zeros_warning
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.cut import cut
from quant_aware.quantize import Quantize
from students.weights import count_nonzeros, fold, get_weight_transforms, model_sparsity
from tests.helpers.families import batch, tiny
from tests.helpers.pruning.models import learns, without

TIMELINE = Timeline(total_steps=10, epoch_steps=10)


def sparse(name="bert", share=0.5, head="classification", **given):
    """A tiny model with plain weights, this share of the matrices of its blocks zero."""
    model = without(tiny(name, head=head), {"elements": share}, **given)
    fold(model)
    return model.train()


def zero_places(model):
    return {name: p == 0 for name, p in model.named_parameters() if p.ndim == 2}


def trained(model, name="bert", head="classification"):
    """After five steps of AdamW, with weight decay, folded."""
    before = zero_places(model)
    keep = FixedMask()
    keep.attach(model)
    assert learns(model, batch(name, head=head))
    now = keep.current_sparsity()
    fold(model)
    return before, keep, now


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5", "albert"])
def test_zeros_stay_where_they_are(name):
    model = sparse(name)
    begun = count_nonzeros(model)
    before, _, _ = trained(model, name)
    after = zero_places(model)
    assert begun[0] < 0.75 * begun[1] and count_nonzeros(model) == begun
    for key, places in before.items():
        assert torch.equal(after[key], places), key


def test_without_it_training_fills_them_and_both_shares_are_told():
    model = sparse()
    begun = count_nonzeros(model)
    assert learns(model, batch("bert"))
    (line,) = lost_zeros_warning(begun, count_nonzeros(model))
    share = 1 - begun[0] / begun[1]
    assert share == pytest.approx(0.4, abs=0.05)
    assert line.startswith(
        f"the sparsity of the student was {share:.1%} before training and is {model_sparsity(model):.1%}"
    )
    assert model_sparsity(model) < 0.01
    assert lost_zeros_warning(begun, begun) == [] and lost_zeros_warning((99, 100), (100, 100)) == []
    assert lost_zeros_warning((50, 100), (40, 50)) == []  # ten more are zero, and the other half was cut out


def test_two_of_four_stays_two_of_four():
    model = sparse(scope=4)
    trained(model)
    weight = model.bert.encoder.layer[0].output.dense.weight
    assert (weight.view(32, -1, 4) == 0).sum(-1).eq(2).all()


@pytest.mark.parametrize("name", ["gpt2", "t5", "bert"])
def test_a_tied_table_keeps_its_zeros_and_stays_tied(name):
    model = tiny(name, head="language").train()
    table = model.get_input_embeddings()
    with torch.no_grad():
        table.weight[torch.rand(table.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5] = 0
    before, keep, share = trained(model, name, head="language")
    head = model.get_output_embeddings()
    assert head.weight is model.get_input_embeddings().weight
    places = next(places for key, places in before.items() if places.shape == table.weight.shape)
    assert torch.equal(table.weight == 0, places) and 0.45 < places.float().mean() < 0.55
    assert share == pytest.approx(float(places.float().mean()))
    assert sum(keep.sizes.values()) == table.weight.numel()  # counted once


def test_an_untied_table_learns_its_padding_row_no_more_than_before():
    model = sparse()
    assert get_weight_transforms(model.bert.embeddings.word_embeddings) == []
    keep = FixedMask()
    keep.attach(model)
    assert get_weight_transforms(model.bert.embeddings.word_embeddings) == []  # its padding row is not looked at
    assert len(keep.targets) == 12


def test_other_pruners_remove_more_and_units_are_cut():
    model = sparse(share=0.3)
    before = zero_places(model)
    keep, more = FixedMask(), Magnitude(sparsity=Constant(0.6))
    keep.attach(model)
    more.attach(model)
    neurons = Magnitude(sparsity=Constant(0.5), shape="neurons")
    neurons.attach(model)
    for pruner in (more, neurons):
        pruner.update(0, TIMELINE)
    inputs = batch("bert")
    masked = model.eval()(**inputs).logits
    fold(model)
    inner = model.bert.encoder.layer[0].attention.self.query.weight
    assert (inner == 0)[before["bert.encoder.layer.0.attention.self.query.weight"]].all()
    assert (inner == 0).float().mean() == pytest.approx(0.6, abs=0.01)
    cut(model)
    torch.testing.assert_close(model(**inputs).logits, masked, rtol=0, atol=1e-5)
    assert model.config.intermediate_size == 32


def test_eight_bits_leave_zeros_at_zero():
    model = sparse()
    before = zero_places(model)
    FixedMask().attach(model)
    quantize = Quantize()
    quantize.attach(model)
    quantize.update(0, TIMELINE)
    assert learns(model, batch("bert"))
    quantize.quantize_full_embeddings()
    fold(model)
    for name, weight in model.named_parameters():
        if name in before and "embeddings" not in name:
            assert (weight[before[name]] == 0).all(), name


def test_what_is_not_sparse_and_what_means_nothing_here_is_refused():
    with pytest.raises(ValueError, match=r"fixed_mask: the student is not sparse: 0.00% of its weights"):
        FixedMask().find(tiny("bert"))
    for given in ({"sparsity": Constant(0.5)}, {"shape": "heads"}, {"scope": "global"}, {"dropout": Constant(0.1)}):
        with pytest.raises(ValueError, match=f"{next(iter(given))}: FixedMask removes nothing; leave it out"):
            FixedMask(**given)
    only = FixedMask(where=["ffn"])
    assert {type(module) for module in only.find(sparse())} == {nn.Linear} and len(only.weights) == 4
