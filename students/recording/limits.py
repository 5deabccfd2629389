"""The sizes of a model's embeddings: the ids, token types and positions that its input may have."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def input_limits(model: PreTrainedModel) -> dict[str, int]:
    """Return the number of ``tokens``, ``types`` and ``positions`` of a model; a key without a limit is missing.

    Ids and types count from 0. Positions are those of a text: RoBERTa's first rows do not count.
    """
    config, limits = model.config, {}
    embeddings = model.get_input_embeddings()
    limits["tokens"] = getattr(embeddings, "num_embeddings", None) or config.vocab_size
    num_positions = getattr(config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Embedding):
            continue
        if name.endswith("token_type_embeddings"):
            limits["types"] = module.num_embeddings
        elif "position" in name and module.padding_idx is not None and module.num_embeddings == num_positions:
            # Positions are counted from the padding token's id on.
            num_positions = module.num_embeddings - module.padding_idx - 1
    if num_positions is not None and num_positions > 0:
        limits["positions"] = num_positions
    return limits
