"""Give a model the vocabulary of another tokenizer: each new token starts as the mean of the old pieces of its text.

As in WECHSEL (Minixhofer 2022, arXiv 2112.06598) and FOCUS (Dobler and de Melo 2023, arXiv 2305.14481), without vectors
from elsewhere: a token that both vocabularies have keeps its row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from students.loading.adapters import load_tokenizer, set_padding, tokenizer_source
from students.loading.hub import loading
from students.tokenizer.spelling import Spelling
from students.tokenizer.vocabulary import model_configs

ROLES = {"cls": "bos", "sep": "eos", "mask": None, "unk": None, "pad": None, "bos": "cls", "eos": "sep"}
"""{role of a special token: the role whose token stands in where the other tokenizer has none}."""


def change_vocabulary(model: PreTrainedModel, tokenizer: str, teacher: str | None) -> None:
    """Give a student the vocabulary of a tokenizer by name, in place.

    Args:
        model: the student.
        tokenizer: a hub name or a folder.
        teacher: the model whose tokens its embeddings have now, loaded by this name; None if they are random.

    Raises:
        ValueError: if a tokenizer or the model does not allow it; the message starts with the field.
    """
    try:
        source = tokenizer_source(tokenizer)
        with loading(source):
            new = set_padding(load_tokenizer(source))
        if teacher is None:
            resize_vocabulary(model, new)
            return
        if not teacher:
            raise ValueError("the teacher was not loaded by a name, so its own tokenizer is not known")
        with loading(teacher):
            old = load_tokenizer(teacher)
        transfer_vocabulary(model, old, new)
    except ValueError as error:
        raise ValueError(f"tokenizer: {error}") from error


def transfer_vocabulary(model: PreTrainedModel, old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> None:
    """Change the vocabulary of a model in place: its embeddings, its LM head, and the token ids in its configs.

    Ties stay; position embeddings do not change.

    Args:
        model: its weights must have no transforms.
        old: its tokenizer.
        new: the tokenizer that it will have; it must have a padding token.

    Raises:
        ValueError: if a tokenizer or the model does not allow it.
    """
    resize_vocabulary(model, new, token_sources(old, new))


def resize_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sources: list[list[int]] | None = None
) -> None:
    """Give a model as many token embeddings as a tokenizer has tokens, and its special ids.

    Args:
        model: changed in place.
        tokenizer: the tokenizer that it will have.
        sources: for each new token the old ones whose mean it becomes, of none that of all; None if the weights do not
            matter, as they are random.

    Raises:
        ValueError: if the embeddings are no matrix, or positions are counted from another padding id.
    """
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise ValueError("the token embeddings are no matrix, so they have no row of each token")
    others = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not embeddings]
    counted = next((m.padding_idx for m in others if m.padding_idx is not None), tokenizer.pad_token_id)
    if counted != tokenizer.pad_token_id:
        reason = f"the model counts positions from the id of its padding token, {counted}"
        raise ValueError(f"{reason}, and this tokenizer's is {tokenizer.pad_token_id}")
    parameters = [embeddings.weight] + ([head.weight, head.bias] if head is not None else [])
    unique = {id(parameter): parameter for parameter in parameters if parameter is not None}
    rows = {key: mean_rows(parameter.detach(), sources) for key, parameter in unique.items()} if sources else {}
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    resized = [embeddings.weight] + ([head.weight, head.bias] if head is not None else [])
    with torch.no_grad():
        for before, after in zip(parameters, resized, strict=True):
            if before is not None and id(before) in rows:
                after.copy_(rows[id(before)])
    embeddings.padding_idx = tokenizer.pad_token_id
    for config in model_configs(model):
        for role in ROLES:
            if getattr(config, f"{role}_token_id", None) is not None:
                setattr(config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))
    model.config.pad_token_id = tokenizer.pad_token_id


def token_sources(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return for each token of ``new`` the tokens of ``old`` that it is made of.

    A special token is that of the same role. A token that both have is itself; another one is the old tokenizer's
    pieces of its text. A token without a text, such as a part of a character, has none.

    Raises:
        ValueError: if the type of a tokenizer is not supported.
    """
    spelled, read = Spelling(new), Spelling(old)
    special = _special_sources(old, new)
    sources = []
    for token in range(len(new)):
        word = None if token in special or token in spelled.special else spelled.text(token)
        sources.append(special.get(token, []) if word is None else read.pieces(*word))
    return sources


def _special_sources(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> dict[int, list[int]]:
    """Return {special token of ``new``: that of ``old`` with its role}; of several roles, the first counts."""
    sources: dict[int, list[int]] = {}
    for role, other in ROLES.items():
        ids = [getattr(old, f"{name}_token_id") for name in (role, other) if name]
        found = next((i for i in ids if i is not None), None)
        if found is not None and (token := getattr(new, f"{role}_token_id")) is not None:
            sources.setdefault(token, [found])
    return sources


def mean_rows(table: Tensor, sources: list[list[int]]) -> Tensor:
    """Return the mean [V, ...] of the rows of a table [U, ...] that each list names; for an empty list, of all rows."""
    lengths = torch.tensor([len(ids) for ids in sources])
    flat = torch.tensor([i for ids in sources for i in ids], dtype=torch.long)
    owner = torch.arange(len(sources)).repeat_interleave(lengths)
    double = table.double()
    total = double.new_zeros(len(sources), *table.shape[1:]).index_add_(0, owner, double[flat])
    means = total / lengths.clamp(min=1).view(-1, *[1] * (table.ndim - 1))
    means[lengths == 0] = double.mean(0)
    return means.to(table.dtype)
