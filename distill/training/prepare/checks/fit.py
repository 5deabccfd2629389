"""Whether rows, tokenizers and models fit each other: what a model reads, and what its outputs mean.

Each check raises a ValueError of one line; the caller names the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from datasets import Dataset, DatasetDict
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.tasks.task import Task
from students.families.limits import input_limits
from students.structure.outputs import check_problem_type, head_names, reorder_outputs

_READ = {"train": "the training rows", "validation": "the validation rows"}


def check_limits(model: PreTrainedModel, name: str, rows: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    """Hold the longest row, and the largest token and type of the rows, against the tables of a model.

    Args:
        model: that is to read the rows.
        name: of the model, for the message.
        rows: as they were encoded.
        tokenizer: names a token.

    Raises:
        ValueError: naming the model, the table and the row.
    """
    most = input_limits(model)
    for split, part in rows.items():
        for column in ("input_ids", "labels") if "decoder_attention_mask" in part.column_names else ("input_ids",):
            row, length = _largest([len(row) for row in _lists(part, column)])
            if length > most.get("positions", length):
                size = f"{length} tokens, and {name} has {most['positions']} positions"
                raise ValueError(f"row {row} of {_READ[split]} has {size}; write a smaller task.max_length")
            row, token = _largest([max(row, default=0) for row in _lists(part, column)])
            if token >= most["tokens"]:
                word = tokenizer.convert_ids_to_tokens(token)
                table = f"{name} has embeddings for {most['tokens']} tokens"
                why = f"row {row} of {_READ[split]} has token {token} ({word!r}), and {table}"
                raise ValueError(f"{why}; resize them to the tokenizer (resize_token_embeddings) and train them")
        if "token_type_ids" in part.column_names and "types" in most:
            row, kind = _largest([max(row, default=0) for row in _lists(part, "token_type_ids")])
            if kind >= most["types"]:
                table = f"{name} has embeddings for {most['types']} token type{'s' * (most['types'] > 1)}"
                why = f"row {row} of {_READ[split]} has token type {kind}, and {table}"
                raise ValueError(f"{why}; its tokenizer is that of another family")
    if tokenizer.pad_token_id >= most["tokens"]:
        pad = f"the padding token {tokenizer.pad_token!r} is {tokenizer.pad_token_id}"
        raise ValueError(f"{pad}, and {name} has embeddings for {most['tokens']} tokens; resize them to the tokenizer")


def _lists(part: Dataset, column: str) -> Iterator[list[int]]:
    """Give a column of lists row by row; ``datasets`` itself takes six times as long, one row at a time."""
    for batch in part.select_columns(column).iter(1_000):
        yield from batch[column]


def _largest(values: list[int]) -> tuple[int, int]:
    """Where the largest value stands, from 1, and the value."""
    most = max(values)
    return values.index(most) + 1, most


def check_decoder_start(config: PretrainedConfig, name: str) -> None:
    """Raise ValueError if a model has a decoder and does not say with which token it begins."""
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        why = f"the config of {name} has no decoder_start_token_id, so its decoder has nothing to begin with"
        raise ValueError(f"{why}; T5's is its padding token, {config.pad_token_id}")


def same_spelling(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers are the same but for limits and padding, by what is saved of them."""
    if not (one.is_fast and other.is_fast):
        return False
    texts = []
    for tokenizer in (one, other):
        backend = deepcopy(tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        texts.append(backend.to_str())
    return texts[0] == texts[1] and one.model_input_names == other.model_input_names


def check_spelling(
    task: Task, rows: DatasetDict, tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> None:
    """Prove that another tokenizer makes the same tokens of all rows.

    Args:
        task: that is set up.
        rows: as ``tokenizer`` encoded them.
        tokenizer: of the run.
        other: of a model that reads these rows.

    Raises:
        ValueError: naming the first row that differs; also if the outputs are tokens, or tokens are drawn at random,
            and the vocabularies differ.
    """
    if same_spelling(tokenizer, other):
        return
    if tokenizer.get_vocab() != other.get_vocab() and (task.predicts_tokens or task.augments):
        why = "tokens are predicted or drawn from it here"
        raise ValueError(f"it has another vocabulary, and {why}; they must be equal")
    again = deepcopy(task)
    others = prepare_data(again, other)
    for split, part in rows.items():
        mine, theirs = part["input_ids"], others[split]["input_ids"]
        different = (i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b)
        row = next(different, None if len(mine) == len(theirs) else min(len(mine), len(theirs)) - 1)
        if row is not None:
            raise ValueError(f"it reads other tokens: {_difference(row, split, (tokenizer, mine), (other, theirs))}")


def _difference(row: int, split: str, *read: tuple[PreTrainedTokenizerBase, Dataset]) -> str:
    texts = [tokenizer.convert_ids_to_tokens(ids[row]) for tokenizer, ids in read]
    if texts[0] == texts[1]:
        pairs = zip(texts[0], *(ids[row] for _, ids in read), strict=True)
        word, one, other = next(pair for pair in pairs if pair[1] != pair[2])
        return f"row {row + 1} of {_READ[split]} has token {one} ({word!r}), which is its {other}"
    at = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    shown = [" ".join(text[max(at - 1, 0) : at + 4]) for text in texts]
    return f"row {row + 1} of {_READ[split]} is '… {shown[0]} …' for the run and '… {shown[1]} …' for it"


def align_outputs(model: PreTrainedModel, task: Task) -> dict[str, str]:
    """Put the outputs of a trained head in the order of the task's classes.

    Returns:
        {name of an output: class} in the new order; empty where the task has no classes.

    Raises:
        ValueError: if nothing proves which output is which class, or the head is for several labels at once.
    """
    if not task.classes:
        return {}
    check_problem_type(model.config, task.problem)
    names = head_names(model)
    order = task.head_order(names)
    if len(order) < len(names):
        raise ValueError(f"it has {len(names)} outputs, and the run {len(order)}")
    reorder_outputs(model, order)
    return {names[output]: name for output, name in zip(order, task.classes.names, strict=True)}
