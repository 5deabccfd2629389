"""The facts of a family that no table lists: derived from its config and a tiny random model."""

from __future__ import annotations

import json
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING

from students.families.parts import Family, Level

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def derive_family(config: PretrainedConfig) -> Family:
    """Return what can be derived of a family: its blocks, and the attention in them; in the worst case, nothing.

    Blocks are those module lists that grow with a number of layers in the config, and that hand hidden states on
    from one to the next. An attention is known if each block has it, and its recorded inputs give the weights that
    the model itself computes without a fused kernel.
    """
    known = _FACTS.get(id(config))
    if known and known[0]() is config:
        return known[1]
    settings = {key: value for key, value in config.to_dict().items() if key not in _LABELS}
    facts = _derive(type(config), json.dumps(settings, sort_keys=True, default=str))
    _FACTS[id(config)] = weakref.ref(config), facts
    weakref.finalize(config, _FACTS.pop, id(config), None)
    return facts


_FACTS: dict[int, tuple[weakref.ref[PretrainedConfig], Family]] = {}
"""By the id of a config, which has no hash: each step asks for its facts, and to write it as JSON takes 0.1 ms."""
_LABELS = ("id2label", "label2id", "_name_or_path", "problem_type", "dtype", "finetuning_task")


@lru_cache(maxsize=64)
def _derive(config_class: type[PretrainedConfig], settings: str) -> Family:
    from students.families.derive.probe import probe  # not above: a config is read without transformers
    from students.families.derive.stacks import find_stacks

    config = config_class.from_dict(json.loads(settings))
    try:
        stacks = probe(config, find_stacks(config))
    except Exception as error:  # the code of any model may raise anything here; its outputs are known all the same
        failure = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        return Family({}, position_embeddings="", level="outputs", failure=failure)
    level: Level = "attention" if all(stack.attention for stack in stacks.values()) else "hidden"
    return Family(stacks, position_embeddings="", level=level if stacks else "outputs")
