"""How long a run is."""

import pytest
from lightning import Trainer

from distill.trainer import time_of


@pytest.mark.parametrize(
    ("limits", "total"),
    [
        ({"max_epochs": 3}, 15),
        ({"max_epochs": 3, "max_steps": 7}, 7),
        ({"max_epochs": 3, "max_steps": 70}, 15),
        ({"max_epochs": None, "max_steps": 70}, 70),
        ({"max_epochs": -1, "max_steps": 70}, 70),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 9),
        ({"max_epochs": 3, "limit_train_batches": 2}, 6),
    ],
)
def test_a_run_ends_with_the_first_of_its_limits(limits: dict, total: int) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **limits)
    assert time_of(None, trainer, 5).total_steps == total
