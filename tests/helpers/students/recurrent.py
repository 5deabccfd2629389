"""Small recurrent networks, and padded rows for them."""

import torch

from students.kinds.recurrent import LSTM
from students.models.recurrent_models import RecurrentForSequenceClassification
from tests.helpers.families import tiny


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask of four rows of 7, 2, 5 and 1 tokens."""
    lengths = torch.tensor([7, 2, 5, 1])
    mask = (torch.arange(7) < lengths[:, None]).long()
    return torch.randint(1, 50, (4, 7), generator=torch.Generator().manual_seed(1)), mask


def small(**given) -> RecurrentForSequenceClassification:
    """A small BiLSTM of two layers in eval mode."""
    torch.manual_seed(0)
    return LSTM(hidden=8, layers=2, embedding=6, **given).build(tiny("bert"), {0: "a", 1: "b"}, None).eval()
