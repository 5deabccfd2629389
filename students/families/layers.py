"""Pair student layers with teacher layers: layer 0 is the input of the first block, layer i the output of block i."""

from __future__ import annotations

from typing import Literal

LayerRule = Literal["uniform", "skip", "first", "last", "top"]


def layer_pairs(
    rule: LayerRule | dict[int, int], student: int, teacher: int, blocks_only: bool = False
) -> list[tuple[int, int]]:
    """Return the pairs (student layer, teacher layer) of a rule.

    - ``uniform`` pairs i with round(i N / M), 0 with 0 (TinyBERT).
    - ``skip`` does so for the inner blocks only, and leaves the top one to the logits (PKD-Skip, Sun et al. 2019, arXiv
      1908.09355).
    - ``first`` pairs i with i.
    - ``last`` pairs i with N - M + i.
    - ``top`` pairs the last blocks alone (MiniLM).
    - A mapping {student layer: teacher layer} is taken as it is.

    Args:
        rule: see above.
        student: M, the number of the student's blocks.
        teacher: N, the number of the teacher's blocks.
        blocks_only: leave out layer 0, which has no attention.

    Raises:
        ValueError: if a layer lies outside its model or no pair is left; the message names both depths.
    """
    lowest = 1 if blocks_only else 0
    if isinstance(rule, dict):
        pairs = sorted(rule.items())
        for name, layer, count in [("student", s, student) for s, _ in pairs] + [
            ("teacher", t, teacher) for _, t in pairs
        ]:
            if not lowest <= layer <= count:
                raise ValueError(
                    f"layers: the {name} has layers {lowest} to {count}, not {layer} "
                    f"(student {student} blocks, teacher {teacher} blocks)"
                )
    elif student > teacher and rule != "top":
        raise ValueError(
            f"layers: '{rule}' needs a teacher at least as deep as the student "
            f"(student {student} blocks, teacher {teacher} blocks); name the pairs, as in {{1: 1, 2: 2}}"
        )
    elif rule == "uniform":
        pairs = [(i, evenly_spaced_layer(i, student, teacher)) for i in range(lowest, student + 1)]
    elif rule == "skip":
        pairs = [(i, evenly_spaced_layer(i, student, teacher)) for i in range(1, student)]
    elif rule == "first":
        pairs = [(i, i) for i in range(1, student + 1)]
    elif rule == "last":
        pairs = [(i, teacher - student + i) for i in range(1, student + 1)]
    else:
        pairs = [(student, teacher)]
    if not pairs:
        raise ValueError(f"layers: '{rule}' leaves no pair for a student of {student} blocks")
    return pairs


def evenly_spaced_layer(i: int, student: int, teacher: int) -> int:
    """Return the teacher layer at the same relative depth as student layer ``i``: i N / M, rounded half up."""
    return (2 * i * teacher + student) // (2 * student)
