"""Check that rows, tokenizers and models fit one another: sizes of embeddings, tokens, order of outputs.

Each check raises a ValueError with a message of one line; the caller adds the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from datasets import Dataset, DatasetDict
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.data.limit import text_lengths
from distill.tasks.task import Task
from students.recording.limits import input_limits
from students.recording.second_text import TEXTS
from students.structure.outputs import check_problem_type, head_names, reorder_outputs

_SPLIT_NAMES = {"train": "the training rows", "validation": "the validation rows", "test": "the test rows"}


def check_limits(
    model: PreTrainedModel,
    name: str,
    rows: DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    limit: str = "task.max_length",
) -> None:
    """Check the longest row, the largest token and the largest token type against the embeddings of a model.

    Args:
        model: the model that reads the rows.
        name: its name in messages.
        rows: the rows as tokens.
        tokenizer: gives the text of a token for the message.
        limit: the key that shortens the rows.

    Raises:
        ValueError: naming the model, the embeddings and the row.
    """
    maxima = input_limits(model)
    for split, part in rows.items():
        writes = "decoder_attention_mask" in part.column_names
        columns = (*(f"{prefix}input_ids" for prefix in TEXTS), *(["labels"] if writes else []))
        for column in (name for name in columns if name in part.column_names):
            is_text = column == "input_ids"
            row, length = _largest(text_lengths(part) if is_text else [len(row) for row in _lists(part, column)])
            if length > maxima.get("positions", length):
                size = f"{length} tokens, and {name} has {maxima['positions']} positions"
                raise ValueError(f"row {row} of {_SPLIT_NAMES[split]} has {size}; write a smaller {limit}")
            row, token = _largest([max(row, default=0) for row in _lists(part, column)])
            if token >= maxima["tokens"]:
                word = tokenizer.convert_ids_to_tokens(token)
                embeddings = f"{name} has embeddings for {maxima['tokens']} tokens"
                message = f"row {row} of {_SPLIT_NAMES[split]} has token {token} ({word!r}), and {embeddings}"
                raise ValueError(f"{message}; resize them to the tokenizer (resize_token_embeddings) and train them")
        if "token_type_ids" in part.column_names and "types" in maxima:
            row, kind = _largest([max(row, default=0) for row in _lists(part, "token_type_ids")])
            if kind >= maxima["types"]:
                embeddings = f"{name} has embeddings for {maxima['types']} token type{'s' * (maxima['types'] > 1)}"
                message = f"row {row} of {_SPLIT_NAMES[split]} has token type {kind}, and {embeddings}"
                raise ValueError(f"{message}; its tokenizer is that of another family")
    if tokenizer.pad_token_id >= maxima["tokens"]:
        pad = f"the padding token {tokenizer.pad_token!r} is {tokenizer.pad_token_id}"
        raise ValueError(
            f"{pad}, and {name} has embeddings for {maxima['tokens']} tokens; resize them to the tokenizer"
        )


def _lists(part: Dataset, column: str) -> Iterator[list[int]]:
    """Yield a column of lists row by row; six times as fast as iterating over the rows of ``datasets``."""
    for batch in part.select_columns(column).iter(1_000):
        yield from batch[column]


def _largest(values: list[int]) -> tuple[int, int]:
    """Return the position of the largest value, from 1, and the value."""
    largest = max(values)
    return values.index(largest) + 1, largest


def check_decoder_start(config: PretrainedConfig, name: str) -> None:
    """Raise ValueError if a model has a decoder but no ``decoder_start_token_id``."""
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        message = f"the config of {name} has no decoder_start_token_id, so its decoder has nothing to begin with"
        raise ValueError(f"{message}; T5's is its padding token, {config.pad_token_id}")


def same_tokenizer(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Return whether the saved files of two fast tokenizers are equal except for truncation and padding."""
    if not (tokenizer.is_fast and other.is_fast):
        return False
    texts = []
    for compared in (tokenizer, other):
        backend = deepcopy(compared.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        texts.append(backend.to_str())
    return texts[0] == texts[1] and tokenizer.model_input_names == other.model_input_names


def check_tokenization(
    task: Task, rows: DatasetDict, tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> None:
    """Check that another tokenizer makes the same tokens of all rows.

    Args:
        task: the task after ``setup``.
        rows: the rows as ``tokenizer`` encoded them.
        tokenizer: the tokenizer of the run.
        other: the tokenizer of a model that reads these rows.

    Raises:
        ValueError: naming the first row that differs; also if the vocabularies differ where tokens are predicted or
            drawn at random.
    """
    if same_tokenizer(tokenizer, other):
        return
    if tokenizer.get_vocab() != other.get_vocab() and (task.predicts_tokens or task.augments):
        message = "it has another vocabulary, and tokens are predicted or drawn from it here"
        raise ValueError(f"{message}; they must be equal")
    other_rows = prepare_data(deepcopy(task), other)
    for split, column in ((split, f"{prefix}input_ids") for split in rows for prefix in TEXTS):
        if column not in rows[split].column_names:
            continue
        ids, other_ids = rows[split][column], other_rows[split][column]
        different = (i for i, (a, b) in enumerate(zip(ids, other_ids, strict=False)) if a != b)
        row = next(different, None if len(ids) == len(other_ids) else min(len(ids), len(other_ids)) - 1)
        if row is not None:
            difference = _difference(row, split, (tokenizer, ids), (other, other_ids))
            raise ValueError(f"it reads other tokens: {difference}")


def _difference(row: int, split: str, *encodings: tuple[PreTrainedTokenizerBase, Dataset]) -> str:
    """Return as text the first difference of a row in two encodings (tokenizer, token ids)."""
    texts = [tokenizer.convert_ids_to_tokens(ids[row]) for tokenizer, ids in encodings]
    if texts[0] == texts[1]:
        pairs = zip(texts[0], *(ids[row] for _, ids in encodings), strict=True)
        word, token, other_token = next(pair for pair in pairs if pair[1] != pair[2])
        return f"row {row + 1} of {_SPLIT_NAMES[split]} has token {token} ({word!r}), which is its {other_token}"
    position = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    excerpts = [" ".join(text[max(position - 1, 0) : position + 4]) for text in texts]
    return f"row {row + 1} of {_SPLIT_NAMES[split]} is '… {excerpts[0]} …' for the run and '… {excerpts[1]} …' for it"


def align_outputs(model: PreTrainedModel, task: Task) -> dict[str, str]:
    """Put the outputs of a trained head in the order of the task's classes.

    Returns:
        {name of an output: class} in the new order; empty where the task has no classes.

    Raises:
        ValueError: if the order of the outputs is unknown, or the head is a multi-label one.
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
