"""Students of fewer experts: the most used ones, or means of several; one expert is a dense student."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from students.kinds.transformer import Transformer
from students.structure.experts import experts, routed_weights
from students.structure.merged_experts import count_tokens
from tests.helpers.families import tiny
from tests.helpers.pruning.mixtures import MIXTURES, logits, mixture, texts

PART = texts()["attention_mask"].bool()


def used(model: PreTrainedModel) -> list[Tensor]:
    """The weights with which tokens are sent to the experts, one by one in float64, of a family that norms them."""
    with torch.no_grad():
        routed = model(**texts(), output_router_logits=True).router_logits
    sums = [torch.zeros(6, dtype=torch.float64) for _ in routed]
    for layer, scores in enumerate(routed):
        for token in PART.flatten().nonzero().flatten():
            top = scores[token].double().softmax(0).topk(2)
            for expert, value in zip(top.indices, top.values, strict=True):
                sums[layer][expert] += value / top.values.sum()
    return sums


def feed_forward(model: PreTrainedModel, layer: int, expert: int, states: Tensor) -> Tensor:
    """What a SwiGLU expert gives, by hand."""
    module = model.model.layers[layer].mlp.experts
    gate, up = (module.gate_up_proj[expert] @ states).chunk(2)
    return module.down_proj[expert] @ (torch.nn.functional.silu(gate) * up)


def test_weights_are_added_up_by_expert() -> None:
    states, chosen = torch.zeros(2, 2), torch.tensor([[0, 2], [2, 1]])
    weights, valid = torch.tensor([[0.75, 0.25], [1.0, 0.0]]), torch.tensor([[True, True]])
    assert routed_weights((states[:, :1], chosen, weights), {}, valid, 4).tolist() == [0.75, 0.0, 1.25, 0.0]
    given = {"top_k_index": chosen, "top_k_weights": weights}
    assert routed_weights((states[:, :1],), given, valid, 4, weighted=False).tolist() == [1.0, 0.0, 2.0, 0.0]
    assert routed_weights((), given, torch.tensor([[True, False]]), 4).tolist() == [0.75, 0.0, 0.25, 0.0]


def test_tokens_are_counted_over_batches_without_padding() -> None:
    model = mixture("mixtral")
    parts = [{key: value[i : i + 1] for key, value in texts().items()} for i in range(3)]
    for batches in ([texts()], parts):
        usage = count_tokens(model, batches)
        for layer, expected in enumerate(used(model)):
            torch.testing.assert_close(usage[f"decoder.{layer}.experts"].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_student_of_the_most_used_experts_is_a_stock_model(name: str, tmp_path: Path) -> None:
    teacher = mixture(name)
    student = Transformer(experts=3).build(teacher, None, None, batches=[texts()]).eval()
    assert type(student) is type(teacher) and [units.count for units in experts(student)] == [3, 3]
    usage = count_tokens(teacher, [texts()])
    for before, after in zip(experts(teacher), experts(student), strict=True):
        most_used = usage[before.name].topk(3).indices.sort().values
        for old, new in zip(before.slices, after.slices, strict=True):
            kept = getattr(old.module, old.name).index_select(old.axis, most_used)
            assert torch.equal(getattr(new.module, new.name), kept)
    student.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path).eval()), logits(student))


def test_one_expert_is_a_dense_student() -> None:
    """Every token gets it, with a weight of 1: the mean of all, by the tokens of each."""
    teacher = mixture("mixtral")
    student = Transformer(experts=1, merge_experts=True).build(teacher, None, None, batches=[texts()]).eval()
    assert student.config.num_local_experts == student.config.num_experts_per_tok == 1
    for layer, usage in enumerate(used(teacher)):
        for name in ("gate_up_proj", "down_proj"):
            all_experts = getattr(teacher.model.layers[layer].mlp.experts, name).double()
            mean = sum(share * weight for share, weight in zip(usage / usage.sum(), all_experts, strict=True))
            merged = getattr(student.model.layers[layer].mlp.experts, name)[0].double()
            torch.testing.assert_close(merged, mean, atol=1e-6, rtol=1e-5)
    states = torch.randn(32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given = student.model.layers[0].mlp(states[None, None])[0, 0]
        torch.testing.assert_close(given, feed_forward(student, 0, 0, states), atol=1e-5, rtol=1e-5)


def test_equal_experts_are_their_own_mean() -> None:
    """Merging changes nothing where there is nothing to lose."""
    teacher = mixture("mixtral")
    with torch.no_grad():
        for units in experts(teacher):
            for part in units.slices[1:]:
                weight = getattr(part.module, part.name)
                weight.copy_(weight[:1].expand_as(weight))
    student = Transformer(experts=1, merge_experts=True).build(teacher, None, None, batches=[texts()]).eval()
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-5, rtol=1e-5)


def test_others_join_the_expert_whose_router_is_most_like_theirs() -> None:
    teacher = mixture("mixtral")
    usage = count_tokens(teacher, [texts()])["decoder.0.experts"].double()
    kept = usage.topk(2).indices.sort().values.tolist()
    student = Transformer(experts=2, merge_experts=True).build(teacher, None, None, batches=[texts()]).eval()
    rows = torch.nn.functional.normalize(teacher.model.layers[0].mlp.gate.weight.detach(), dim=1)
    groups = {expert: [expert] for expert in kept}
    for expert in range(6):
        if expert not in kept:
            groups[max(kept, key=lambda other: float(rows[expert] @ rows[other]))].append(expert)
    for index, group in enumerate(groups.values()):
        shares = usage[group] / usage[group].sum()
        mean = torch.einsum("e,ehi->hi", shares, teacher.model.layers[0].mlp.experts.down_proj[group].double())
        torch.testing.assert_close(
            student.model.layers[0].mlp.experts.down_proj[index].double(), mean, atol=1e-6, rtol=1e-5
        )


def test_without_batches_the_largest_stay() -> None:
    teacher = mixture("mixtral")
    with torch.no_grad():
        teacher.model.layers[0].mlp.experts.down_proj[4] *= 3
    student = Transformer(experts=1).build(teacher, None, None)
    assert torch.equal(
        student.model.layers[0].mlp.experts.down_proj[0], teacher.model.layers[0].mlp.experts.down_proj[4]
    )


@pytest.mark.parametrize(
    ("teacher", "given", "message"),
    [
        (mixture, {"experts": 7}, "experts: the teacher has 6 in a block, not 7"),
        (mixture, {"merge_experts": True}, "merge_experts: experts are merged into the number of experts"),
        (mixture, {"experts": 0}, "experts: at least 1"),
        (mixture, {"intermediate": 16}, "intermediate: neurons of the experts of a mixtral are not known"),
        (lambda name: tiny("llama"), {"experts": 1}, "experts: a llama has none"),
    ],
    ids=["more", "none", "zero", "neurons", "dense"],
)
def test_what_cannot_be_is_refused(teacher, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transformer(**given).build(teacher("mixtral"), None, None)
