"""Facts of a model and of data from which a first config is written."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import pyarrow as pa

from distill.command.starter.multi_label_columns import multi_label_columns
from distill.config.errors import ConfigError
from distill.config.schema import subclasses
from distill.data.files import read_splits
from distill.tasks.classes import Classes, is_unnamed
from distill.tasks.columns import find_text_columns, is_list, is_text, list_names, values_of
from distill.tasks.task import Task
from students.kinds.student import resolve
from students.loading.adapters import load_config, load_tokenizer
from students.models.pooling import read_pooling

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

LABELS = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "score", "rating", "stars")
"""Names that a column of labels is looked for by."""
MAX_ROWS = 2000
"""The number of rows that are tokenized to choose ``max_length``."""


@dataclass(frozen=True)
class StarterFacts:
    """What a first config depends on.

    Args:
        task: the name of the task in YAML.
        columns: {key of the task: column or columns}, as the data names them.
        rows: of training.
        max_length: tokens of nearly all texts, rounded up.
        layers: the blocks of the model.
        labels: {label value: number of an output}, by alphabet, where the model does not name its outputs and the data
            has names; else empty.
    """

    task: str
    columns: dict[str, str | list[str]]
    rows: int
    max_length: int
    layers: int
    labels: dict[str, str]


def look_at(model: str, data: str, label: str | None) -> StarterFacts:
    """Return the facts of a fine-tuned model and its data.

    Args:
        model: a folder or a hub name.
        data: a file, a folder or a hub name.
        label: the column of the labels; by default it is looked for.

    Raises:
        ConfigError: if one of them cannot be read, or does not say what the task is.
    """
    try:
        source = resolve(model)
        config, tokenizer = load_config(source), load_tokenizer(source)
        rows = read_splits(data)["train"].rows
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{model}: {error}") from error
    task = _task(model, config)
    names = [config.id2label[i] for i in range(config.num_labels)]
    columns = _columns(task, rows, label, names)
    task = "ranking" if task == "regression" and _has_passages(rows, columns["text"]) else task
    texts = [name for key, names in columns.items() if key in ("text", "words", "source") for name in _as_list(names)]
    length = _length(tokenizer, rows, texts, getattr(config, "max_position_embeddings", None))
    labels = _labels(rows, columns, names) if task == "classification" else {}
    return StarterFacts(task, columns, len(rows), length, config.num_hidden_layers, labels)


def _labels(rows: Dataset, columns: dict[str, str | list[str]], names: list[str]) -> dict[str, str]:
    """Return an output for each label value if names do not say it."""
    column = columns["label"]
    classes = Classes.from_column(rows.features[column], values_of(rows, column), {})
    try:
        classes.order(names)
    except ValueError:
        is_guess = is_unnamed(names) and len(classes.names) == len(names)
        return {name: str(output) for output, name in enumerate(classes.names)} if is_guess else {}
    return {}


def _task(model: str, config: PretrainedConfig) -> str:
    """Return the task whose head a model has."""
    import transformers  # not above: --help must not wait for it

    names = config.architectures or []
    for name, cls in subclasses(Task).items():
        if cls.is_multi_task or (cls.gives_vectors and read_pooling(resolve(model)) is None):
            continue
        heads = getattr(transformers, cls.auto_class)._model_mapping.get(type(config), ())
        heads = heads if isinstance(heads, tuple) else (heads,)
        problem = "regression" if config.num_labels == 1 else config.problem_type or "single_label_classification"
        if cls.problem in (None, problem) and any(head.__name__ in names for head in heads):
            return name
    found = ", ".join(names) or "no architecture"
    raise ConfigError(f"{model}: has no head of a task ({found}); fine-tune it first, as configs/finetune.yaml does")


def _columns(task: str, rows: Dataset, label: str | None, outputs: list[str]) -> dict[str, str | list[str]]:
    """Return the columns by key of the task, whose model has these outputs."""
    cls = subclasses(Task)[task]
    keys = {field.name for field in fields(cls)}
    types = {name: rows.data.schema.field(name).type for name in rows.column_names}
    texts = [name for name, kind in types.items() if is_text(kind)]
    lists = [name for name, kind in types.items() if is_list(kind)]
    try:
        if "label" in keys:
            if cls.is_multi_label:
                labels = multi_label_columns(rows, label, outputs, (*LABELS, "tags"))
            else:
                labels = {"label": label or _label(rows, 1 if cls.gives_vectors else len(outputs))}
            columns = find_text_columns(rows, None, _as_list(labels["label"]), max_columns=2)
            return {"text": columns[0] if len(columns) == 1 else columns, **labels}
        if "words" in keys:
            words = next((name for name in lists if is_text(types[name].value_type)), None)
            tags = label or next((name for name in lists if name != words), None)
            if words is None or tags is None:
                raise ValueError(f"words: no columns of lists of words and tags; there are {list_names(list(types))}")
            return {"words": words, "tags": tags}
        if "source" in keys:
            if len(texts) != 2:
                raise ValueError(f"source: two columns of texts are needed; there are {list_names(list(types))}")
            return {"source": texts[0], "target": texts[1]}
        return {"text": find_text_columns(rows, None, [], max_columns=1)[0]} if "text" in keys else {}
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _has_passages(rows: Dataset, texts: str | list[str]) -> bool:
    """Return whether two columns of texts are queries, by name and because they repeat, and passages."""
    if isinstance(texts, str) or texts[0].lower() not in ("query", "question"):
        return False
    return len(set(values_of(rows, texts[0]))) < len(rows)


def _label(rows: Dataset, num_labels: int) -> str:
    """Return the column of the labels: by its name, or the only one with values that the model's outputs could be.

    Raises:
        ValueError: if there is none, or more than one.
    """
    lower = {name.lower(): name for name in rows.column_names}
    if named := [lower[name] for name in LABELS if name in lower]:
        return named[0]
    fitting = [name for name in rows.column_names if _fits(rows, name, num_labels)]
    if len(fitting) != 1:
        columns = list_names(rows.column_names)
        raise ValueError(f"label: which column has the labels? --label names it; there are {columns}")
    return fitting[0]


def _fits(rows: Dataset, column: str, num_labels: int) -> bool:
    """Return whether a column has as many values as there are classes, or for a single output numbers.

    Whole numbers that are all different count rows.
    """
    kind = rows.data.schema.field(column).type
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return False
    values = set(values_of(rows, column)) - {None}
    if num_labels > 1:
        return len(values) == num_labels
    return not is_text(kind) and len(values) > 1 and not (pa.types.is_integer(kind) and len(values) == len(rows))


def _length(tokenizer: PreTrainedTokenizerBase, rows: Dataset, texts: list[str], limit: int | None) -> int:
    """Return the 99th percentile of the tokens of a text, rounded up to a multiple of 16, at most the model's limit."""
    if not texts:
        return 384
    some = rows.select(range(min(MAX_ROWS, len(rows))))
    values = [list(values_of(some, name)) for name in texts]
    clean = [[v if isinstance(v, str | list) else "" for v in column] for column in values]
    words = bool(clean[0]) and isinstance(clean[0][0], list)
    lengths = sorted(len(ids) for ids in tokenizer(*clean, is_split_into_words=words)["input_ids"])
    percentile = lengths[int(0.99 * (len(lengths) - 1))]
    return max(16, min(-(-percentile // 16) * 16, limit or 512, 512))


def _as_list(names: str | list[str]) -> list[str]:
    return names if isinstance(names, list) else [names]
