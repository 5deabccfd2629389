"""A model cut down to a smaller vocabulary: its embeddings, an output for each token, and the ids its config names."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from students.tokenizer.pieces import rebuild_tokenizer, required_ids


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that stay (Abdaoui 2020, arXiv 2010.05609)."""

    tokenizer: PreTrainedTokenizerBase
    """Of these alone."""
    keep: Tensor
    """Of each of them the id that it had [V]."""
    seen: int
    """How many of them are there for their own sake, and not to spell others."""
    before: int
    """How many there were."""


def select_vocabulary(tokenizer: PreTrainedTokenizerBase, seen: set[int], model: PreTrainedModel) -> Vocabulary:
    """The tokens seen, those that spell all others, and those that the model's config names.

    Raises:
        ValueError: if the tokenizer or the model cannot be cut.
    """
    named = {i for config in _configs(model) for ids in _ids(config).values() for i in ids}
    keep = torch.tensor(required_ids(tokenizer, seen | named.intersection(range(len(tokenizer)))))
    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise ValueError("the token embeddings have no row for each of them, as they are no matrix")
    if keep[-1] >= table.num_embeddings:
        raise ValueError(f"the tokenizer has a token {keep[-1]}, and the model only {table.num_embeddings} rows")
    vocabulary = Vocabulary(rebuild_tokenizer(tokenizer, keep.tolist()), keep, len(seen), len(tokenizer))
    others = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not table]
    moved = tokenizer.pad_token_id != vocabulary.tokenizer.pad_token_id
    if moved and any(m.padding_idx is not None for m in others):
        raise ValueError("the model counts positions from the id of the padding token, which would change")
    return vocabulary


def cut_vocabulary(model: PreTrainedModel, keep: Tensor) -> None:
    """Leave, in place, only the tokens in ``keep`` (old ids in their new order [V]); ties stay.

    Weights must be plain (``fold``). Ids in the configs follow; one that names no kept token becomes None.
    """
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    padding = table.padding_idx
    tables = [table.weight] + ([head.weight, head.bias] if head else [])
    with torch.no_grad():
        # A tied one once: reordering it twice would lose rows.
        for values in {id(values): values for values in tables if values is not None}.values():
            values[: len(keep)] = values[keep.to(values.device)]
    model.resize_token_embeddings(len(keep))
    new = {old: i for i, old in enumerate(keep.tolist())}
    model.get_input_embeddings().padding_idx = new.get(padding)
    for config in _configs(model):
        for name, ids in _ids(config).items():
            several = isinstance(getattr(config, name), list)
            setattr(config, name, [new[i] for i in ids if i in new] if several else new.get(ids[0]))


def _configs(model: PreTrainedModel) -> list[object]:
    """The configs of the model and its parts, and of its generation, each once."""
    found = [module.config for module in model.modules() if hasattr(module, "config")]
    found += [model.generation_config] if getattr(model, "generation_config", None) else []
    return list({id(config): config for config in found}.values())


def _ids(config: object) -> dict[str, list[int]]:
    """The ids of tokens by the names that a config has for them."""
    found = {name: value for name, value in vars(config).items() if name.endswith("_token_id") and value is not None}
    return {name: value if isinstance(value, list) else [value] for name, value in found.items()}
