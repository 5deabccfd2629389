"""The facts of a family that no table lists: derived from its config and a tiny random model."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, get_args

from students.families.parts import Family, Level, layer_paths

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def derive_family(config: PretrainedConfig, config_class: type[PretrainedConfig] | None = None) -> Family:
    """Return what can be derived of a family: its blocks, and the attention in them; in the worst case, nothing.

    Blocks are those module lists that grow with a number of layers in the config, and that hand hidden states on
    from one to the next. An attention is known if its recorded inputs give the weights that
    the model itself computes without a fused kernel. The layers are those of ``structure.derive_structure``.

    Args:
        config: of a model of the family.
        config_class: that of the family's stock models, if this is the config of a compact one.
    """
    known = _FACTS.get(id(config))
    if known and known[0]() is config:
        return known[1]
    settings = {key: value for key, value in config.to_dict().items() if key not in _LABELS}
    settings |= settings.get("original_widths") or {}  # as the compact model was before its hidden dimensions were cut
    facts = _derive(config_class or type(config), json.dumps(settings, sort_keys=True, default=str))
    _FACTS[id(config)] = weakref.ref(config), facts
    weakref.finalize(config, _FACTS.pop, id(config), None)
    return facts


_FACTS: dict[int, tuple[weakref.ref[PretrainedConfig], Family]] = {}
"""By the id of a config, which has no hash: each step asks for its facts, and to write it as JSON takes 0.1 ms."""
_LABELS = ("id2label", "label2id", "_name_or_path", "problem_type", "dtype", "finetuning_task")


@lru_cache(maxsize=64)
def _derive(config_class: type[PretrainedConfig], settings: str) -> Family:
    from students.families.derive.expert_parts import with_experts  # not above: a config is read without transformers

    config = config_class.from_dict(json.loads(settings))
    facts = _known(config)
    return replace(facts, stacks=with_experts(config, facts.stacks))


def _known(config: PretrainedConfig) -> Family:
    """Return the facts without experts."""
    facts = _facts(config)
    if facts.level != "structure" or facts.has_fixed_heads:
        # Sizes may hide what a family is: a single head, or so few neurons that all follow from one another.
        usual = _facts(_with_default_sizes(config))
        if _rank(usual) > _rank(facts) and _fits(config, usual):
            return usual
    return facts


def _facts(config: PretrainedConfig) -> Family:
    import torch

    from students.families.derive.attention_sites import find_attention
    from students.families.derive.probe import probe  # not above: a config is read without transformers
    from students.families.derive.stacks import find_stacks
    from students.families.derive.structure import derive_structure

    # The facts may be asked for while another model is made on the meta device, and leave its random numbers alone;
    # also where gradients are off, without which the layers are not found.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        try:
            probed = probe(config, find_stacks(config))
        except Exception as error:  # the code of any model may raise anything here; its outputs are known all the same
            failure = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
            return Family({}, position_embeddings=None, level="outputs", failure=failure)
        try:
            probed = probed._replace(stacks=find_attention(config, probed))
        except Exception:  # as above
            probed = probed._replace(stacks={key: replace(s, attention={}) for key, s in probed.stacks.items()})
        try:
            structure = derive_structure(probed.model, probed.stacks)
            # the first blocks are dense, others have experts (GLM-4)
            if structure and not _has_paths(config, structure):
                without = {name: replace(stack, ffn=None) for name, stack in structure.stacks.items()}
                structure = replace(structure, stacks=without)
                structure = structure if _has_paths(config, structure) else None
        except Exception:  # as above
            structure = None
    level: Level = "attention" if all(stack.attention for stack in probed.stacks.values()) else "hidden"
    return structure or Family(probed.stacks, position_embeddings=None, level=level if probed.stacks else "outputs")


def _rank(facts: Family) -> tuple[int, bool]:
    """Return a number that is higher the more is known."""
    return get_args(Level).index(facts.level), not facts.has_fixed_heads


def _with_default_sizes(config: PretrainedConfig) -> PretrainedConfig:
    """Return the default config of a family with the switches and names of another one."""
    names = {key: value for key, value in config.to_dict().items() if isinstance(value, bool | str)}
    try:
        return type(config)(**{key: value for key, value in names.items() if key != "model_type"})
    except Exception:  # names that need other sizes
        return type(config)()


def _fits(config: PretrainedConfig, facts: Family) -> bool:
    """Return whether the facts of a model of default sizes are those of this one."""
    if any(site.layers for stack in facts.stacks.values() for site in stack.attention.values()):
        return False  # they are those of another depth
    return _has_paths(config, facts)


def _has_paths(config: PretrainedConfig, facts: Family) -> bool:
    """Return whether a model has the blocks, attentions and layers that are known of its family."""
    from students.families.derive.stacks import build_base

    model = build_base(config, "meta")
    try:
        blocks = [(stack, block) for stack in facts.stacks.values() for block in model.get_submodule(stack.blocks)]
        for stack, block in blocks:
            for path in layer_paths(stack):
                block.get_submodule(path)
    except AttributeError:
        return False
    return True
