"""How far a model's tables reach: the ids, token types and positions that it can read."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def input_limits(model: PreTrainedModel) -> dict[str, int]:
    """Of ``tokens``, ``types`` and ``positions`` how many the model can tell apart; what has no limit is left out.

    Ids and types count from 0. Positions are those that are free for a text: RoBERTa's first entries are not.
    """
    config, found = model.config, {}
    table = model.get_input_embeddings()
    found["tokens"] = getattr(table, "num_embeddings", None) or config.vocab_size
    most = getattr(config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Embedding):
            continue
        if name.endswith("token_type_embeddings"):
            found["types"] = module.num_embeddings
        elif "position" in name and module.padding_idx is not None and module.num_embeddings == most:
            # Positions are counted from the padding token's number on.
            most = module.num_embeddings - module.padding_idx - 1
    if most is not None and most > 0:
        found["positions"] = most
    return found
