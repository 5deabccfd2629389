"""Collectives write into the tensors that they are given: ours stand in one file, and never do."""

import ast
from pathlib import Path

import pytest
import torch
from torch import distributed

from students import processes

ROOT = Path(__file__).parents[3]
HARMLESS = {
    "is_available",
    "is_initialized",
    "is_torchelastic_launched",
    "get_rank",
    "get_world_size",
    "new_group",
    "barrier",
    "destroy_process_group",
    "tensor",
}
"""What of ``torch.distributed`` writes into no tensor."""
COLLECTIVES = {name for name in dir(distributed) if name.startswith(("all_", "reduce", "broadcast"))}
"""Lightning's ``reduce_boolean_decision`` is none of them: it makes its own tensor."""


def called(file: Path) -> set[str]:
    """The collectives that a file calls: what is named so on anything, as in ``strategy.reduce``, and all else that
    is called on ``distributed``.
    """
    calls = (node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    actual = set()
    for call in (call for call in calls if isinstance(call, ast.Attribute)):
        of_torch = isinstance(call.value, ast.Name) and call.value.id == "distributed"
        if call.attr in COLLECTIVES or (of_torch and call.attr not in HARMLESS):
            actual.add(call.attr)
    return actual


def test_one_file_calls_collectives() -> None:
    assert {"all_reduce", "all_gather", "broadcast", "reduce", "reduce_scatter"} < COLLECTIVES
    rooms = ("distill", "losses", "prune_schedules", "quant_aware", "students", "benchmarks")
    files = [file for room in rooms for file in sorted((ROOT / room).glob("**/*.py"))]
    assert len(files) > 80
    actual = {str(file.relative_to(ROOT)): calls for file in files if (calls := called(file))}
    assert actual == {"students/processes.py": {"all_reduce", "all_gather_object"}}


@pytest.mark.parametrize("others", [False, True])
def test_what_is_given_stays_as_it_was(monkeypatch: pytest.MonkeyPatch, others: bool) -> None:
    """Of one process, and of two, the other of which has three times as much."""

    def all_reduce(tensor: torch.Tensor, op: object = distributed.ReduceOp.SUM) -> None:
        tensor.mul_(4 if op == distributed.ReduceOp.SUM else 3)

    if others:
        monkeypatch.setattr(processes, "world_size", lambda: 2)
        monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    given = torch.tensor([1.0, 2.0], requires_grad=True)
    actual = processes.all_reduce_sum(given)
    assert actual.tolist() == ([4.0, 8.0] if others else [1.0, 2.0]) and not actual.requires_grad
    actual.zero_()
    assert given.tolist() == [1.0, 2.0]
    assert processes.all_reduce_max(5, torch.device("cpu")) == (15 if others else 5)
