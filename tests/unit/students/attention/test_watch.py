"""What is watched of an attention is what the model computes: weights in float64, gradients, nothing left behind."""

import weakref
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from students.attention.recorded import attention_weights, join_values, record_watched
from students.attention.watch import AttentionWatch, WatchedAttention
from students.families.families import blocks
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import everything
from tests.helpers.students.derived import model_of, texts

WATCHED = ("deberta-v2", "mpnet", "bloom", "xlnet", "gpt_oss")
QUERY, KEY, VALUE = (torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))


def watch(compute: object) -> list[WatchedAttention]:
    with AttentionWatch() as mode:
        compute()
    return mode.found


def in_double(model: PreTrainedModel) -> PreTrainedModel:
    if model._can_set_experts_implementation():  # the usual one knows no float64
        model.set_experts_implementation("eager")
    return model.double()


def reference(model: PreTrainedModel) -> list[Tensor]:
    """The weights that the model's own code returns in float64, of queries that are tokens."""
    model = in_double(model)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model.base_model(**texts(), output_attentions=True, use_cache=False).attentions
    return [weights.transpose(1, 2)[texts()["attention_mask"].bool()] for weights in own]


@pytest.mark.parametrize("name", WATCHED)
def test_the_weights_are_those_of_the_model_in_float64(name: str) -> None:
    model = model_of(name)
    trace = Recorder(model).trace(texts(), everything(model.config))
    expected = reference(model_of(name))
    assert len(trace.attention) == len(expected) == 3
    for (_, layer), attention in trace.attention.items():
        actual = attention.probabilities().transpose(1, 2)[texts()["attention_mask"].bool()]
        torch.testing.assert_close(actual.double(), expected[layer - 1], atol=2e-6, rtol=0)
        assert not attention.mask[1, :, :6, 6:].any()  # XLNet's padding sees itself


@pytest.mark.parametrize("name", WATCHED)
def test_the_gradient_of_scores_is_that_of_the_models_own_scores(name: str) -> None:
    """By a finite difference along a random direction of one weight, in float64."""
    model = in_double(model_of(name))
    signals = Signals(attention=frozenset({(next(iter(everything(model.config).attention))[0], 2)}))
    recorder, weight = Recorder(model), next(blocks(model)[0].parameters())
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss() -> Tensor:
        (attention,) = recorder.trace(texts(), signals).attention.values()
        rows = texts()["attention_mask"].bool()
        return attention.probabilities().transpose(1, 2)[rows].square().sum() + attention.value.square().sum()

    loss().backward()
    slope = (weight.grad * direction).sum()
    with torch.no_grad():
        weight += 1e-3 * direction
        above = loss()
        weight -= 2e-3 * direction
        below = loss()
    torch.testing.assert_close((above - below) / 2e-3, slope, rtol=2e-3, atol=1e-3)


def test_a_model_computes_the_same_while_it_is_watched_and_only_requested_layers_are() -> None:
    model = model_of("deberta-v2")
    with torch.no_grad():
        expected = model(**texts()).logits
        trace = Recorder(model).trace(texts(), Signals(True, attention=frozenset({("encoder", 2)})))
    assert torch.equal(trace.logits, expected)
    assert list(trace.attention) == [("encoder", 2)]


def test_without_a_request_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("deberta-v2")
    recorder, implementation = Recorder(model), model.config._attn_implementation
    monkeypatch.setattr(AttentionWatch, "start", lambda self: pytest.fail("watched"))
    recorder.trace(texts(), Signals(True, hidden=everything(model.config).hidden))
    assert model.config._attn_implementation == implementation


def test_a_failure_inside_attention_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("deberta-v2")
    recorder = Recorder(model)
    monkeypatch.setattr(blocks(model)[1].attention.self, "value_proj", nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="shapes"):
        recorder.trace(texts(), everything(model.config))
    assert not torch._C._len_torch_function_stack()


def test_a_trace_that_is_dropped_is_freed() -> None:
    model = model_of("deberta-v2")
    trace = Recorder(model).trace(texts(), everything(model.config))
    query = weakref.ref(trace.attention["encoder", 1].query)
    del trace
    assert query() is None


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    model = model_of("deberta-v2").eval()
    recorder = Recorder(model)

    def gradients() -> Iterator[Tensor]:
        model.zero_grad()
        trace = recorder.trace(texts(), everything(model.config))
        sum(a.probabilities().square().sum() + a.query.square().mean() for a in trace.attention.values()).backward()
        return (parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)

    expected = list(gradients())
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StableDropout":
            module.eval()
    model.activation_checkpointing_enable({"use_reentrant": False})
    actual = list(gradients())
    assert len(actual) == len(expected) > 15
    for gradient, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


def test_a_compiled_model_is_refused() -> None:
    model = model_of("deberta-v2")
    recorder = Recorder(model)
    model.compile(backend="eager")
    with pytest.raises(ValueError, match="the attention of a deberta-v2 cannot be recorded in a compiled model"):
        recorder.trace(texts(), everything(model.config))


@pytest.mark.parametrize(
    "scores",
    [
        lambda q, k: q @ k.mT * 0.5,
        lambda q, k: torch.matmul(q / 2, k.transpose(-1, -2)),
        lambda q, k: torch.einsum("bnid,bnjd->bnij", q * 0.25, k) * 2,
        lambda q, k: torch.bmm((q * 0.5).flatten(0, 1), k.flatten(0, 1).mT).view(2, 4, 5, 5),
        lambda q, k: torch.baddbmm(torch.ones(8, 5, 5), q.flatten(0, 1), k.flatten(0, 1).mT, beta=0, alpha=0.5),
        lambda q, k: (q @ k.mT).div_(2).masked_fill(torch.zeros(5, 5, dtype=torch.bool), -1e9),
    ],
)
def test_the_scale_and_the_factors_are_found_however_they_are_written(scores: object) -> None:
    def attend() -> None:
        weights = F.dropout(F.softmax(scores(QUERY, KEY), dim=-1), 0.1, training=False)
        weights.view(8, 5, 5) @ VALUE.flatten(0, 1)

    (found,) = watch(attend)
    recorded = record_watched(found, 2)
    assert recorded.scale == 0.5
    torch.testing.assert_close(recorded.query, QUERY)
    torch.testing.assert_close(recorded.key, KEY)
    assert torch.equal(recorded.value, VALUE)
    torch.testing.assert_close(recorded.scores, QUERY @ KEY.mT * 0.5)


def test_a_bias_is_part_of_the_scores_and_a_mask_is_not() -> None:
    bias, mask = torch.randn(4, 5, 5), torch.full((5, 5), -10_000.0).triu(1)
    (found,) = watch(lambda: torch.softmax(QUERY @ KEY.mT + bias + mask, -1) @ VALUE)
    recorded = record_watched(found, 2)
    assert torch.equal(recorded.mask, (mask == 0).expand(2, 1, 5, 5))
    expected = (QUERY @ KEY.mT + bias).masked_fill(mask != 0, 0)
    torch.testing.assert_close(recorded.scores, expected)


@pytest.mark.parametrize("first", [False, True])
def test_a_sink_is_a_column_beside_the_scores(first: bool) -> None:
    """Two columns, one of them masked, before or after the keys, under a shift that a softmax does not see."""
    sinks, mask = torch.randn(2, 4, 5, 2), torch.full((5, 5), -1e9).triu(1)
    scores, keys = QUERY @ KEY.mT * 0.5, slice(2, None) if first else slice(None, -2)

    def weigh() -> Tensor:
        own = QUERY @ KEY.mT * 0.5 + mask
        columns = torch.cat([sinks, own] if first else [own, sinks], dim=-1)
        return F.softmax(columns - columns.max(-1, keepdim=True).values, -1)[..., keys]

    (found,) = watch(lambda: F.dropout(weigh(), 0.1, training=False) @ VALUE)
    recorded = record_watched(found, 2)
    assert recorded.scale == 0.5
    torch.testing.assert_close(recorded.scores, scores.masked_fill(mask != 0, 0))
    torch.testing.assert_close(recorded.sink, sinks.double().logsumexp(-1, keepdim=True).float())
    torch.testing.assert_close(attention_weights(recorded), weigh())


def test_a_query_with_two_values_is_one_attention() -> None:
    values = VALUE, VALUE.flip(0)
    found = watch(lambda: [torch.softmax(QUERY @ KEY.mT, -1) @ value for value in values])
    (joined,) = join_values(found)
    assert torch.equal(record_watched(joined, 2).value, torch.cat(values, -1))
    assert torch.equal(joined.context, torch.cat([part.context for part in found], -1))
    others = watch(lambda: [torch.softmax(query @ KEY.mT, -1) @ VALUE for query in (QUERY, QUERY.flip(0))])
    assert join_values(others) == others


@pytest.mark.parametrize(
    "compute",
    [
        lambda: torch.softmax(torch.cat([QUERY @ KEY.mT, QUERY[..., :1]], -1), -1)[..., 1:] @ VALUE,  # a key is cut off
        lambda: torch.softmax(torch.cat([QUERY @ KEY.mT] * 2, -1), -1)[..., :5] @ VALUE,  # other keys beside
        lambda: torch.softmax(QUERY @ KEY.mT, -2) @ VALUE,  # over queries
        lambda: torch.softmax(QUERY, -1) @ VALUE.mT,  # of no product
        lambda: torch.softmax((QUERY @ KEY.mT).flip(-1), -1) @ VALUE,  # moved
        lambda: torch.softmax(QUERY @ KEY.mT, -1) * 2,  # of no value
    ],
)
def test_what_is_no_attention_is_not_found(compute: object) -> None:
    assert watch(compute) == []
