"""The level of every family of transformers: what works with its models.

python -m benchmarks.pages.families [NAME ...]   all families, or some; without names it writes docs/guide/families.md

Of each family a tiny random model is built from its default config, with a head for classification and one for causal
language modelling. A family whose code does not run here (a library that is missing, a default config that nobody can
use) has no level.
"""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import get_args

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.utils import logging

from benchmarks.pages.tables import table, write
from students.families.derive.probe import MAX_PARAMETERS, SHRINKS, shrink
from students.families.derive.stacks import FEW, depth_keys, with_depths
from students.families.families import family
from students.families.parts import Level
from students.recording.model_io import model_inputs, output_logits

PAGE = Path("docs/guide/families.md")
HEADS = {
    "classification": (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, AutoModelForSequenceClassification),
    "causal LM": (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, AutoModelForCausalLM),
}
COMPLETED = {
    "deepseek_v2": {"num_experts_per_tok": 2},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
}
"""What default configs lack, and those of published models say."""


def main(names: list[str]) -> int:
    """Print the level of families, and write the page if all are asked for."""
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    families = names or sorted({name for head, _ in HEADS.values() for name in head})
    levels: dict[str, Level] = {}
    heads: dict[str, list[str]] = {}
    for name in families:
        config = default_config(name)
        heads[name] = [head for head in HEADS if config is not None and gives_logits(name, config, head)]
        if heads[name]:
            levels[name] = family(config).level
        print(f"{name:<28}{levels.get(name, 'none'):<12}{', '.join(heads[name])}", flush=True)
    if not names:
        write(PAGE, page_text(levels, heads))
    return 0


def default_config(name: str) -> PretrainedConfig | None:
    """Return the default config of a family, completed; None if it has none that can be built."""
    try:
        return CONFIG_MAPPING[name](**COMPLETED.get(name, {}))
    except Exception:  # a config may ask for libraries that are not here
        return None


def gives_logits(name: str, config: PretrainedConfig, head: str) -> bool:
    """Return whether a tiny model with a head runs, and gives logits."""
    architectures, auto = HEADS[head]
    if name not in architectures:
        return False
    for smallest, divisor in SHRINKS:
        try:
            small = with_depths(copy.deepcopy(config), dict.fromkeys(depth_keys(config), FEW))
            shrink(small, smallest, divisor)
            small.pad_token_id = getattr(small, "pad_token_id", None) or 0
            small.use_cache = False
            with torch.device("meta"):
                size = sum(parameter.numel() for parameter in auto.from_config(small).parameters())
            if size > MAX_PARAMETERS:
                return False
            model = auto.from_config(small).eval()
            if model._can_set_experts_implementation():
                model.set_experts_implementation("eager")
            ids = torch.arange(8)[None] + model.get_input_embeddings().num_embeddings // 2
            end = getattr(small, "eos_token_id", None)
            ids[0, -1] = end if isinstance(end, int) else ids[0, -1]
            with torch.no_grad():
                output = model(**model_inputs(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}))
            logits = output_logits(output)
        except Exception:  # sizes that do not go together: the next ones may
            continue
        return logits is not None and bool(logits.isfinite().all())
    return False


def page_text(levels: dict[str, Level], heads: dict[str, list[str]]) -> str:
    """Return the counts by level and head, and the names of each level."""
    rows = []
    for place, level in enumerate(get_args(Level)):
        reached = {name for name, other in levels.items() if get_args(Level).index(other) >= place}
        counts = [f"{len({n for n in reached if head in heads[n]})} of {len(HEADS[head][0])}" for head in HEADS]
        rows.append((f"`{level}`", *counts))
    parts = [table(("at least", *HEADS), rows)]
    for level in reversed(get_args(Level)):
        names = [f"`{name}`" for name, other in sorted(levels.items()) if other == level]
        parts.append(f"## {level}\n\n" + ",\n".join(_lines(names)) + "\n")
    return "\n".join(parts)


def _lines(names: list[str], width: int = 110) -> list[str]:
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) + 2 <= width:
            lines[-1] += f", {name}"
        else:
            lines.append(name)
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
