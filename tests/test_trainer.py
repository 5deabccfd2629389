"""How long a run is, and how its processes keep together."""

from pathlib import Path

import pytest
from lightning import Trainer

from distill.config import load
from distill.experiment import Experiment
from distill.trainer import make_trainer, time_of
from tests.families import tiny
from tests.mistakes import GOOD


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


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_ddp_sends_no_masks_and_seeks_idle_parameters_where_there_are_some(tmp_path: Path, strategy: str) -> None:
    """A loss whose window ends leaves its projection without a gradient."""
    (tmp_path / "x.yaml").write_text(GOOD)
    for window, idle in (("50%", True), ("100%", False)):
        given = {"losses.hidden.stop": window, "trainer.strategy": strategy, "trainer.devices": 2}
        config = load(tmp_path / "x.yaml", Experiment, given)
        for loss in config.value.losses.values():
            loss.setup(tiny("bert").config, tiny("bert").config)
        trainer = make_trainer(config, tmp_path)
        assert trainer.strategy._ddp_kwargs == {"find_unused_parameters": idle, "broadcast_buffers": False}
