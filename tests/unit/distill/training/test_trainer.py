"""How long a run is, and how its processes keep together."""

from pathlib import Path

import pytest
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from distill.config.loader import ConfigError, load
from distill.experiment.experiment import Experiment
from distill.training.trainer import make_timeline, make_trainer
from tests.helpers.families import tiny
from tests.helpers.mistakes.mistakes import GOOD


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
    assert make_timeline(None, trainer, 5).total_steps == total


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


TORCHRUN = {"TORCHELASTIC_RUN_ID": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
SRUN = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
SBATCH = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the trainer of a config where these variables are set."""
    (tmp_path / "x.yaml").write_text(GOOD)
    monkeypatch.setattr(rank_zero_only, "rank", 0)

    def make(variables: dict[str, str], given: dict[str, object]) -> Trainer:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return make_trainer(load(tmp_path / "x.yaml", Experiment, given), tmp_path)

    return make


@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp2"])
@pytest.mark.parametrize("variables", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
@pytest.mark.parametrize("devices", [None, "auto", -1, 2])
def test_processes_that_were_started_are_those_of_the_run(made, variables, devices, strategy) -> None:
    named = {} if devices is None else {"trainer.devices": devices}
    trainer = made(variables, named | {"trainer.strategy": strategy})
    assert trainer.world_size == 2 and trainer.strategy.cluster_environment.creates_processes_externally


@pytest.mark.parametrize(
    ("variables", "given", "why"),
    [
        (TORCHRUN, {"trainer.devices": 1}, "torchrun has 2 processes, and this makes 1"),
        (TORCHRUN, {"trainer.devices": 4}, "torchrun has 2 processes, and this makes 4"),
        (TORCHRUN, {"trainer.num_nodes": 2, "trainer.devices": 2}, "torchrun has 2 processes, and this makes 4"),
        (SRUN, {"trainer.devices": 1}, "srun has 2 processes, and this makes 1"),
        (SBATCH, {}, "SLURM has 2 processes, and each would be a run of its own; start it by srun"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, {}, "mpirun has 2 processes, and each would be a run of its own"),
        ({"WORLD_SIZE": "4", "RANK": "1"}, {}, "WORLD_SIZE has 4 processes, and each would be a run of its own"),
    ],
)
def test_processes_that_would_each_be_a_run_are_refused(made, variables, given, why) -> None:
    with pytest.raises(ConfigError, match=f"trainer(.devices)?: (devices: )?{why}"):
        made(variables, given)


@pytest.mark.parametrize(
    "variables", [SRUN | {"SLURM_JOB_NAME": "bash"}, SRUN | {"SLURM_NTASKS": "1"}, {"WORLD_SIZE": "1"}]
)
def test_one_process_is_one_run(made, variables) -> None:
    assert made(variables, {}).world_size == 1


SCORE = """
from distill import ScoredPruner


class Whole(ScoredPruner):
    \"\"\"Needs to see whole models.\"\"\"

    needs_full_weights = True

    def scores(self):
        return self.magnitudes()


class Any(ScoredPruner):
    \"\"\"Says nothing of models in shards.\"\"\"

    def scores(self):
        return self.magnitudes()
"""


def test_a_pruner_says_whether_it_can_do_shards(made, tmp_path) -> None:
    (tmp_path / "scores.py").write_text(SCORE)
    given = {"imports": [str(tmp_path / "scores.py")], "trainer.strategy": "fsdp2", "trainer.devices": 1}
    pruner = {"sparsity": 0.5}
    made({}, given | {"prune": pruner | {"kind": "Any"}})
    with pytest.raises(ConfigError, match=r"prune\.kind: Whole needs full weights, and the models of this run are"):
        made({}, given | {"prune": pruner | {"kind": "Whole"}})
