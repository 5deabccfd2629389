"""Processes that another program has started for a run: torchrun, srun, mpirun. They make one run together, or none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from lightning import Trainer
from torch import distributed


@dataclass(frozen=True)
class Launch:
    """What a launcher has started.

    Args:
        by: its name.
        processes: of all machines.
        nodes: the machines.
        joins: whether Lightning finds the other processes by itself.
    """

    by: str
    processes: int
    nodes: int = 1
    joins: bool = True


def find_launch() -> Launch | None:
    """What has started this process beside others; nothing if it is alone."""
    named = os.environ
    if distributed.is_available() and distributed.is_torchelastic_launched():
        return Launch("torchrun", int(named["WORLD_SIZE"]), int(named.get("GROUP_WORLD_SIZE", "1")))
    if "SLURM_NTASKS" in named and named.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        # What srun has not started has the variables of the job, but is one process and waits for others in vain.
        return Launch("srun" if "SLURM_STEP_ID" in named else "SLURM", *_of_slurm(), "SLURM_STEP_ID" in named)
    for size, by in (("OMPI_COMM_WORLD_SIZE", "mpirun"), ("PMI_SIZE", "mpirun"), ("WORLD_SIZE", "WORLD_SIZE")):
        if size in named:
            return Launch(by, int(named[size]), joins=False)
    return None


def _of_slurm() -> tuple[int, int]:
    return int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))


def with_launched_devices(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a Trainer, with as many devices and nodes as were started where none are named."""
    found = find_launch()
    if not found or not found.joins or found.processes == 1 or given.get("devices", "auto") not in ("auto", -1, "-1"):
        return given
    nodes = given.get("num_nodes", found.nodes)
    return given | {"devices": max(1, found.processes // nodes), "num_nodes": nodes}


def check_launch(trainer: Trainer) -> None:
    """Raises ValueError if the processes that were started would not be those of one run."""
    found = find_launch()
    if not found or found.processes == 1:
        return
    has, makes = f"{found.by} has {found.processes} processes", trainer.num_devices * trainer.num_nodes
    if not found.joins and makes == 1:
        instead = "start it by srun" if found.by == "SLURM" else "start it by torchrun, or name devices"
        raise ValueError(f"devices: {has}, and each would be a run of its own; {instead}")
    if found.joins and makes != found.processes:
        raise ValueError(f"devices: {has}, and this makes {makes}; leave devices and num_nodes out")
