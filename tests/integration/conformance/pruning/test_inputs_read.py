"""What the layers of every family read does not depend on padding and the split into batches."""

import torch

from prune_schedules.scores.wanda import Wanda
from tests.helpers.families import tiny
from tests.helpers.pruning.inputs import ONCE, attach, hear, padded, read


def test_padding_and_the_split_into_batches_do_not_matter(name):
    inputs = padded(name)
    pruner = Wanda(sparsity=ONCE)
    read(name, pruner, inputs)
    halves = Wanda(sparsity=ONCE)
    model = hear(tiny(name).eval(), halves)
    for rows in (slice(0, 1), slice(1, None)):
        part = {key: value[rows] for key, value in inputs.items()}
        attach(model, halves, part)
    for scores, expected in zip(pruner.scores(), halves.scores(), strict=True):
        torch.testing.assert_close(scores, expected)
