"""The score of an expert is what routers send to it."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from prune_schedules.schedule import Steps
from prune_schedules.scores.routing import Routing
from prune_schedules.scores.wanda import Wanda
from students.structure.experts import experts
from tests.helpers.families import tiny
from tests.helpers.pruning.inputs import ONCE, TIMELINE, attach, hear
from tests.helpers.pruning.mixtures import logits, mixture, texts

THIRD = Steps(at={"25%": 1 / 3})


def expected(model: PreTrainedModel, inputs: dict[str, Tensor], weighted: bool) -> list[Tensor]:
    """The sums over tokens, one by one in float64, from the logits that the routers give out."""
    with torch.no_grad():
        routed = model(**inputs, output_router_logits=True).router_logits
    sums = [torch.zeros(6, dtype=torch.float64) for _ in routed]
    for layer, scores in enumerate(routed):
        for token in inputs["attention_mask"].flatten().nonzero().flatten():
            top = scores[token].double().softmax(0).topk(2)
            shares = top.values / top.values.sum()
            for expert, share in zip(top.indices, shares, strict=True):
                sums[layer][expert] += share if weighted else 1.0
    return sums


def read(pruner: Routing, *batches: dict[str, Tensor], name: str = "mixtral") -> PreTrainedModel:
    """A model whose tokens have been counted."""
    model = hear(mixture(name), pruner)
    for inputs in batches:
        pruner.before_forward(4, TIMELINE, inputs)
        model(**inputs)
    pruner.before_optimizer_step(4, TIMELINE)
    return model


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_scores_are_sums_over_the_tokens_that_are_no_padding(name: str, weighted: bool) -> None:
    pruner = Routing(sparsity=ONCE, weighted=weighted)
    read(pruner, texts(), name=name)
    for score, sums in zip(pruner.scores(), expected(mixture(name), texts(), weighted), strict=True):
        torch.testing.assert_close(score.double(), sums, atol=1e-5, rtol=1e-5)
    tokens = int(texts()["attention_mask"].sum()) * (1 if weighted else 2)
    assert sum(pruner.scores()[0].tolist()) == pytest.approx(tokens, rel=1e-5)


def test_a_batch_may_be_read_in_parts() -> None:
    whole, parts = Routing(sparsity=ONCE), Routing(sparsity=ONCE)
    read(whole, texts())
    read(parts, *({key: value[i : i + 1] for key, value in texts().items()} for i in range(3)))
    for one, other in zip(whole.scores(), parts.scores(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_experts_with_the_fewest_tokens_go_and_stay_away() -> None:
    pruner = Routing(sparsity=THIRD)
    model = read(pruner, texts())
    order = [score.argsort() for score in pruner.scores()]
    pruner.update(5, TIMELINE)
    for target, lowest in zip(pruner.targets, order, strict=True):
        assert set((~target.kept_units()).nonzero().flatten().tolist()) == set(lowest[:2].tolist())
    gone = [target.kept_units() for target in pruner.targets]
    attach(model, pruner, texts())
    assert all((score[~kept] == -1).all() for score, kept in zip(pruner.scores(), gone, strict=True))
    pruner.update_masks(1 / 3)
    assert all(torch.equal(target.kept_units(), kept) for target, kept in zip(pruner.targets, gone, strict=True))


def test_one_expert_stays() -> None:
    pruner = Routing(sparsity=Steps(at={"25%": 1.0}))
    model = read(pruner, texts())
    pruner.update(5, TIMELINE)
    assert [int(target.kept_units().sum()) for target in pruner.targets] == [1, 1]
    assert logits(model).isfinite().all()


def test_statistics_are_saved() -> None:
    pruner, resumed = Routing(sparsity=ONCE), Routing(sparsity=ONCE)
    read(pruner, texts())
    hear(mixture("mixtral"), resumed)
    resumed.load_state_dict(pruner.state_dict())
    assert all(torch.equal(*pair) for pair in zip(pruner.scores(), resumed.scores(), strict=True))


def test_what_has_no_experts_is_refused() -> None:
    with pytest.raises(ValueError, match="shape: a llama has no experts"):
        Routing(sparsity=ONCE).attach(tiny("llama"))
    with pytest.raises(ValueError, match="shape: Routing ranks experts, not neurons"):
        Routing(sparsity=ONCE, shape="neurons")
    with pytest.raises(ValueError, match="kind: Routing ranks experts"):
        Wanda(sparsity=ONCE, shape="experts")
    assert experts(mixture("mixtral"))
