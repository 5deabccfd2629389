"""Which layer teaches which: 0 is the input of the first block, i the output of block i."""

from __future__ import annotations

from typing import Literal

LayerRule = Literal["uniform", "skip", "first", "last", "top"]


def layer_pairs(
    rule: LayerRule | dict[int, int], student: int, teacher: int, blocks_only: bool = False
) -> list[tuple[int, int]]:
    """The pairs (student layer, teacher layer) of a rule, for a student and a teacher of so many blocks.

    ``uniform`` pairs i with round(i N / M), 0 with 0 (TinyBERT); ``skip`` does so for the inner blocks only, the top
    one being left to the logits (PKD-Skip, Sun et al. 2019, arXiv 1908.09355); ``first`` pairs i with i, ``last``
    with N - M + i; ``top`` is the pair of the last blocks alone (MiniLM); a mapping {student layer: teacher layer}
    is taken as it is. ``blocks_only`` leaves out layer 0, which has no attention.

    Raises:
        ValueError: naming both depths, if a layer lies outside its model or no pair is left.
    """
    if isinstance(rule, dict):
        chosen = sorted(rule.items())
        for name, layer, count in [("student", s, student) for s, _ in chosen] + [
            ("teacher", t, teacher) for _, t in chosen
        ]:
            if not (1 if blocks_only else 0) <= layer <= count:
                low = 1 if blocks_only else 0
                raise ValueError(
                    f"layers: the {name} has layers {low} to {count}, not {layer} "
                    f"(student {student} blocks, teacher {teacher} blocks)"
                )
    elif student > teacher and rule != "top":
        raise ValueError(
            f"layers: '{rule}' needs a teacher at least as deep as the student "
            f"(student {student} blocks, teacher {teacher} blocks); name the pairs, as in {{1: 1, 2: 2}}"
        )
    elif rule == "uniform":
        chosen = [(i, evenly_spaced_layer(i, student, teacher)) for i in range(1 if blocks_only else 0, student + 1)]
    elif rule == "skip":
        chosen = [(i, evenly_spaced_layer(i, student, teacher)) for i in range(1, student)]
    elif rule == "first":
        chosen = [(i, i) for i in range(1, student + 1)]
    elif rule == "last":
        chosen = [(i, teacher - student + i) for i in range(1, student + 1)]
    else:
        chosen = [(student, teacher)]
    if not chosen:
        raise ValueError(f"layers: '{rule}' leaves no pair for a student of {student} blocks")
    return chosen


def evenly_spaced_layer(i: int, student: int, teacher: int) -> int:
    """The teacher layer that lies at the same share of the depth as student layer ``i``: i N / M, rounded half up."""
    return (2 * i * teacher + student) // (2 * student)
