"""Cut a model down to a smaller vocabulary: its embeddings, its LM head, and the token ids in its config."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from students.tokenizer.pieces import rebuild_tokenizer, required_ids


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that stay (Abdaoui 2020, arXiv 2010.05609)."""

    tokenizer: PreTrainedTokenizerBase
    """With these tokens alone."""
    keep: Tensor
    """Their old ids [V]."""
    num_seen: int
    """The number of tokens that occur in the data; the others encode the remaining texts."""
    num_before: int
    """The number of tokens before."""


def select_vocabulary(tokenizer: PreTrainedTokenizerBase, seen: set[int], model: PreTrainedModel) -> Vocabulary:
    """Return the vocabulary of the tokens seen, those that encode all other texts, and those in the model's config.

    Args:
        tokenizer: of the model.
        seen: the ids that occur in the data.
        model: the model.

    Raises:
        ValueError: if the tokenizer or the model cannot be reduced.
    """
    config_ids = {i for config in model_configs(model) for ids in _ids(config).values() for i in ids}
    keep = torch.tensor(required_ids(tokenizer, seen | config_ids.intersection(range(len(tokenizer)))))
    embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise ValueError("the token embeddings are no matrix, so they have no row of each token to remove")
    if keep[-1] >= embeddings.num_embeddings:
        raise ValueError(f"the tokenizer has a token {keep[-1]}, and the model only {embeddings.num_embeddings} rows")
    vocabulary = Vocabulary(rebuild_tokenizer(tokenizer, keep.tolist()), keep, len(seen), len(tokenizer))
    others = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not embeddings]
    padding_moves = tokenizer.pad_token_id != vocabulary.tokenizer.pad_token_id
    if padding_moves and any(m.padding_idx is not None for m in others):
        raise ValueError("the model counts positions from the id of the padding token, which would change")
    return vocabulary


def cut_vocabulary(model: PreTrainedModel, keep: Tensor) -> None:
    """Remove, in place, all tokens that are not in ``keep``; ties stay.

    The ids in the configs are adapted; the id of a removed token becomes None.

    Args:
        model: its weights must have no transforms (``weights.fold``).
        keep: old ids in their new order [V].
    """
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    padding = embeddings.padding_idx
    parameters = [embeddings.weight] + ([head.weight, head.bias] if head else [])
    with torch.no_grad():
        # A tied one once: reordering it twice would lose rows.
        for parameter in {id(parameter): parameter for parameter in parameters if parameter is not None}.values():
            parameter[: len(keep)] = parameter[keep.to(parameter.device)]
    model.resize_token_embeddings(len(keep))
    new = {old: i for i, old in enumerate(keep.tolist())}
    model.get_input_embeddings().padding_idx = new.get(padding)
    for config in model_configs(model):
        for name, ids in _ids(config).items():
            is_list = isinstance(getattr(config, name), list)
            setattr(config, name, [new[i] for i in ids if i in new] if is_list else new.get(ids[0]))


def model_configs(model: PreTrainedModel) -> list[object]:
    """Return the configs of the model, its parts and its generation, each once."""
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    configs += [model.generation_config] if getattr(model, "generation_config", None) else []
    return list({id(config): config for config in configs}.values())


def _ids(config: object) -> dict[str, list[int]]:
    """Return the token ids of a config, by key."""
    ids = {name: value for name, value in vars(config).items() if name.endswith("_token_id") and value is not None}
    return {name: value if isinstance(value, list) else [value] for name, value in ids.items()}
