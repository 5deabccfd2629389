"""Losses on pooled states of a teacher that reads other tokens: against float64, and padding does not count."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from losses.pairing import LayerLoss
from losses.states.contextual import Contextual
from losses.states.contrastive import Contrastive
from losses.states.flow import Flow
from losses.states.hidden import HiddenCosine, HiddenMSE
from students.recording.signals import Trace
from tests.helpers.traces import cosine, first, pair, projected, set_up

LENGTHS, OWN_LENGTHS = [5, 3, 2], [7, 2, 6]


def made(loss: LayerLoss, padding: int = 0) -> tuple[Trace, Trace, dict[str, torch.Tensor]]:
    """Traces of random states, each side with a length and a mask of its own."""
    generator = torch.Generator().manual_seed(0)
    traces, masks = [], []
    for lengths, width, signals in ((LENGTHS, 24, loss.student_signals), (OWN_LENGTHS, 32, loss.teacher_signals)):
        mask = torch.arange(max(lengths) + padding) < torch.tensor(lengths)[:, None]
        hidden = {}
        for site in sorted(signals.hidden):
            states = torch.randn(3, max(lengths), width, generator=generator)
            hidden[site] = torch.cat([states, torch.full((3, padding, width), torch.nan)], 1) if padding else states
        traces.append(Trace(None, hidden, {}, {"encoder": mask}))
        masks.append(mask)
    batch = {"input_ids": torch.ones(masks[0].shape, dtype=torch.long), "attention_mask": masks[0].long()}
    return *traces, batch


def rows(loss: LayerLoss, traces: tuple[Trace, Trace], side: int, layer: int) -> list[np.ndarray]:
    """The states of the tokens of each text, those of the student projected, in float64."""
    state = traces[side].hidden["encoder", layer]
    state = projected(loss, layer, state) if side == 0 and hasattr(loss, "projections") else state.double()
    return [part[:length].numpy() for part, length in zip(state, (LENGTHS, OWN_LENGTHS)[side], strict=True)]


def mean_mse(loss: LayerLoss, traces: tuple[Trace, Trace]) -> float:
    """HiddenMSE over means."""
    return sum(
        np.square(a.mean(0) - b.mean(0)).mean()
        for s, t in loss.pairing.pairs
        for a, b in zip(rows(loss, traces, 0, s), rows(loss, traces, 1, t), strict=True)
    )


def first_cosine(loss: LayerLoss, traces: tuple[Trace, Trace]) -> float:
    """HiddenCosine over first tokens."""
    return sum(
        1 - cosine(a[0], b[0])
        for s, t in loss.pairing.pairs
        for a, b in zip(rows(loss, traces, 0, s), rows(loss, traces, 1, t), strict=True)
    )


def flows(loss: LayerLoss, traces: tuple[Trace, Trace]) -> float:
    """Flow: the products of neighbouring layers, averaged over each side's own tokens."""
    total, pairs = 0.0, loss.pairing.pairs
    for (s, t), (next_s, next_t) in pairwise(pairs):
        for i in range(3):
            a, b, c, d = (
                rows(loss, traces, side, layer)[i] for side, layer in ((0, s), (0, next_s), (1, t), (1, next_t))
            )
            total += np.square(a.T @ b / len(a) - c.T @ d / len(c)).mean()
    return total


def contrast(loss: LayerLoss, traces: tuple[Trace, Trace]) -> float:
    """Contrastive: the cross entropy of the text's own teacher among those of the batch."""
    total = 0.0
    for s, t in loss.pairing.pairs:
        a, b = ([x.mean(0) for x in rows(loss, traces, side, layer)] for side, layer in ((0, s), (1, t)))
        for i in range(3):
            scores = np.array([cosine(a[i], y) for y in b]) / loss.temperature
            total -= scores[i] - np.log(np.exp(scores).sum())
    return total


CASES = {
    "mean": (HiddenMSE(pooling="mean", layers="uniform"), mean_mse),
    "first": (HiddenCosine(pooling="first", layers="top"), first_cosine),
    "flow": (Flow(layers="uniform"), flows),
    "contrastive": (Contrastive(layers="top"), contrast),
}


@pytest.mark.parametrize("case", CASES)
def test_each_side_is_pooled_over_its_own_tokens(case):
    loss, reference = CASES[case]
    set_up(loss, *pair("bert"))
    assert not loss.compares_tokens
    *traces, batch = made(loss)
    total, count = loss(*traces, batch, first(loss))
    assert int(count) == 3
    assert float(total.detach()) == pytest.approx(reference(loss, traces), rel=1e-5)


@pytest.mark.parametrize("loss", [*(loss for loss, _ in CASES.values()), Contextual(over="examples")], ids=repr)
def test_padding_of_either_side_does_not_count(loss):
    set_up(loss, *pair("bert"))
    plain, padded = made(loss), made(loss, padding=3)
    with torch.no_grad():
        torch.testing.assert_close(
            loss(*plain[:2], plain[2], first(loss)), loss(*padded[:2], padded[2], first(loss)), equal_nan=False
        )
