"""Which blocks of a model have experts, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from students.families.families import find_stack

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def expert_layers(config: PretrainedConfig, stack: str | None = None) -> list[int]:
    """Return the numbers, from 1, of the blocks of a stack (by default the first one) that have experts.

    A model is built for it, without memory for its weights.

    Raises:
        ValueError: if no experts are known.
    """
    from students.families.derive.stacks import build_base  # not above: a config is read without transformers

    _, facts = find_stack(config, stack)
    if not facts.experts:
        raise ValueError(f"a {config.model_type} has no experts, or its experts are not known")
    blocks = build_base(config, "meta").get_submodule(facts.blocks)
    return [i for i, block in enumerate(blocks, start=1) if facts.experts.router in dict(block.named_modules())]


def experts_per_block(config: PretrainedConfig, stack: str | None = None) -> int | list[int]:
    """Return the number of experts of each block; a list if blocks of a pruned model differ."""
    name, facts = find_stack(config, stack)
    sizes = (getattr(config, "block_sizes", None) or {}).get(name, [])
    pruned = [block["experts"] for block in sizes if "experts" in block]
    return pruned if len(set(pruned)) > 1 else (pruned or [getattr(config, facts.experts.num_experts)])[0]
