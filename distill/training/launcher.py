"""Processes started by a launcher (torchrun, srun, mpirun): check that they form one run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from lightning import Trainer
from torch import distributed


@dataclass(frozen=True)
class Launch:
    """The processes that a launcher has started.

    Args:
        launcher: its name.
        processes: their number on all machines.
        nodes: the number of machines.
        is_known: whether Lightning connects to the other processes by itself.
    """

    launcher: str
    processes: int
    nodes: int = 1
    is_known: bool = True


def find_launch() -> Launch | None:
    """Return the launch that this process is part of; None if it was started alone."""
    environment = os.environ
    if distributed.is_available() and distributed.is_torchelastic_launched():
        return Launch("torchrun", int(environment["WORLD_SIZE"]), int(environment.get("GROUP_WORLD_SIZE", "1")))
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        # A process not started by srun has the job's variables too, but it is alone and would wait for others in vain.
        by_srun = "SLURM_STEP_ID" in environment
        return Launch("srun" if by_srun else "SLURM", *_slurm_size(), by_srun)
    for size, launcher in (("OMPI_COMM_WORLD_SIZE", "mpirun"), ("PMI_SIZE", "mpirun"), ("WORLD_SIZE", "WORLD_SIZE")):
        if size in environment:
            return Launch(launcher, int(environment[size]), is_known=False)
    return None


def _slurm_size() -> tuple[int, int]:
    """Return the numbers of processes and of nodes."""
    return int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))


def with_launched_devices(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a Trainer's arguments, with the launched numbers of devices and nodes where none are set."""
    launch = find_launch()
    if not launch or not launch.is_known or launch.processes == 1:
        return arguments
    if arguments.get("devices", "auto") not in ("auto", -1, "-1"):
        return arguments
    nodes = arguments.get("num_nodes", launch.nodes)
    return arguments | {"devices": max(1, launch.processes // nodes), "num_nodes": nodes}


def check_launch(trainer: Trainer) -> None:
    """Check that the launched processes form one run.

    Raises:
        ValueError: if each would be a run of its own, or their number is not that of the trainer.
    """
    launch = find_launch()
    if not launch or launch.processes == 1:
        return
    started, world_size = f"{launch.launcher} has {launch.processes} processes", trainer.num_devices * trainer.num_nodes
    if not launch.is_known and world_size == 1:
        instead = "start it by srun" if launch.launcher == "SLURM" else "start it by torchrun, or name devices"
        raise ValueError(f"devices: {started}, and each would be a run of its own; {instead}")
    if launch.is_known and world_size != launch.processes:
        raise ValueError(f"devices: {started}, and this makes {world_size}; leave devices and num_nodes out")
