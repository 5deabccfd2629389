"""What can be asked, and the arithmetic of a recorded attention against float64."""

import pytest
import torch

from students.recording.signals import Attention, Signals, check_signals
from students.recording.trace import Recorder
from tests.helpers.families import batch, tiny, tiny_config


@pytest.mark.parametrize("autocast", [False, True])
def test_scores_and_probabilities_against_float64(autocast: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value, bias = (
        torch.randn(1, heads, *shape, generator=generator)
        for heads, shape in ((4, (3, 8)), (2, (3, 8)), (2, (3, 8)), (4, (3, 3)))
    )
    attention = Attention(query, key, value, mask=None, scale=0.5, bias=bias, causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        scores, probabilities = attention.scores(), attention.probabilities()
    assert scores.dtype == probabilities.dtype == torch.float32
    for head in range(4):
        for i in range(3):
            q, b = query[0, head, i].double(), bias[0, head, i].double()
            row = torch.stack([q.dot(key[0, head // 2, j].double()) * 0.5 + b[j] for j in range(3)])
            torch.testing.assert_close(scores[0, head, i].double(), row, atol=1e-6, rtol=1e-6)
            weights = row[: i + 1].exp() / row[: i + 1].exp().sum()
            expected = torch.cat([weights, torch.zeros(2 - i, dtype=torch.float64)])
            torch.testing.assert_close(probabilities[0, head, i].double(), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(attention.repeated_value()[:, 1], value[:, 0])


def test_signals_join_and_know_when_they_are_empty() -> None:
    a = Signals(hidden=frozenset({("encoder", 0)}))
    b = Signals(logits=True, attention=frozenset({("cross", 1)}))
    assert a | b == Signals(True, frozenset({("encoder", 0)}), frozenset({("cross", 1)}))
    assert a and b and not Signals()


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (Signals(hidden=frozenset({("encoder", 3)})), "hidden: the encoder has layers 0 to 2, not 3"),
        (Signals(attention=frozenset({("encoder", 0)})), "attention: the encoder has layers 1 to 2, not 0"),
        (Signals(attention=frozenset({("cross", 1)})), "attention: bert has no 'cross', it has encoder"),
        (Signals(hidden=frozenset({("decoder", 1)})), "hidden: bert has no 'decoder', it has encoder"),
    ],
)
def test_a_site_that_does_not_exist_is_named_with_the_depth(signals: Signals, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_signals(tiny_config("bert"), signals)
    with pytest.raises(ValueError, match=message):
        Recorder(tiny("bert")).trace(batch("bert"), signals)
