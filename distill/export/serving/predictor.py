"""``load``: a deployed student that answers about texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from distill.config.errors import ConfigError, suggest
from distill.data.batches import Collator
from distill.evaluation.measure import torch_predict
from distill.export.serving.deployment import find_student, read_deployment
from distill.tasks.data_task import DataTask
from distill.tasks.kinds.multi_label import MultiLabel
from distill.tasks.kinds.texts import Classification
from distill.tasks.kinds.tokens import TokenClassification
from distill.tasks.task import Predict, Task
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.export.packed import FILE as PACKED
from quant_aware.export.packed import load as load_packed
from students.loading.adapters import NO_REMOTE_CODE, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from students.loading.auto_class import AutoClass

Input = str | Sequence[Any] | Mapping[str, Any]
"""A text; or one value for each input column, in their order or by name."""
Runtime = Literal["onnxruntime", "torch"]


class Predictor:
    """A deployed student that answers about texts.

    Args:
        model: the network in torch; None if a file in another runtime computes the logits.
        predict: returns the task's logits of a batch.
        task: restored.
        names: of the outputs.
        start: the token before a decoder's text.
        path: of the file or folder that computes the logits.
    """

    def __init__(
        self,
        model: PreTrainedModel | None,
        predict: Predict,
        task: DataTask,
        names: list[str],
        start: int | None,
        path: Path,
    ):
        self.model, self.predict, self.task, self.names = model, predict, task, names
        self.path = path
        self.collate = Collator(task.tokenizer, start)

    @property
    def columns(self) -> list[str]:
        """The input columns, as in the training data."""
        return self.task.input_columns

    def __call__(self, inputs: Input | Sequence[Input], batch_size: int = 32) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the answer about an input, or those about a list of inputs.

        Args:
            inputs: a text, or a list of texts. Where a model reads several columns, a tuple or mapping of their values
                takes the place of a text.
            batch_size: the number of inputs that are computed together, those of similar length.

        Returns:
            ``label``, ``score`` and ``scores`` of a classification; ``labels`` and ``scores`` where a text may have
            several labels; ``score`` of a regression; ``words`` of a token
            classification; ``answer`` of a question; ``text`` of a model that writes.

        Raises:
            ValueError: if an input is not a text, or has another number of columns.
        """
        if not isinstance(inputs, list):
            return self.answers([self._row(inputs)], batch_size)[0]
        return self.answers([self._row(value) for value in inputs], batch_size)

    def answers(self, rows: list[dict[str, Any]], batch_size: int = 32) -> list[dict[str, Any]]:
        """Return the answers about rows, {column: value} each, in their order."""
        if not rows:
            return []
        encoded = self.task.encode_inputs({name: [row[name] for row in rows] for name in self.columns})
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(rows)), key=lengths.__getitem__)
        answers: dict[int, dict[str, Any]] = {}
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = self.collate([{name: values[i] for name, values in encoded.items()} for i in chosen])
            with torch.inference_mode():
                outputs = self.task.outputs(self.model, self.predict, batch)
            for i, output in zip(chosen, outputs, strict=True):
                output = output if self.task.writes_text or output.dim() == 1 else output[: lengths[i]]
                answers[i] = self.task.answer(output, rows[i], self.names)
        return [answers[i] for i in range(len(rows))]

    def _row(self, value: Input) -> dict[str, Any]:
        if isinstance(value, Mapping):
            missing = [name for name in self.columns if name not in value]
            if missing:
                raise ValueError(f"an input lacks {', '.join(missing)}; the model reads {', '.join(self.columns)}")
            return {name: value[name] for name in self.columns}
        values = [value] if len(self.columns) == 1 else value
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != len(self.columns):
            raise ValueError(f"{value!r}: an input has {len(self.columns)} parts: {', '.join(self.columns)}")
        allowed = str | list if self.task.reads_words else str
        for part in values:
            if not isinstance(part, allowed):
                raise ValueError(f"{part!r} is not a text")
        return dict(zip(self.columns, values, strict=True))


def load(run: str | Path, runtime: Runtime | None = None, task: str | None = None) -> Predictor:
    """Return the student of a finished run, ready to answer: ``load("runs/tinybert")("a fine film")``.

    Args:
        run: the folder of the run, or of its student alone.
        runtime: ``onnxruntime`` (student.onnx) or ``torch``; by default the file that the report measured: the exported
            one if there is one.
        task: the name of one of several tasks.

    Raises:
        ConfigError: if the folder is not that of a finished run, or lacks the file of the runtime.
    """
    from transformers import AutoConfig

    import students.loading.own_models  # noqa: F401 — not above: it takes seconds

    student = find_student(run)
    deployment = read_deployment(student)
    part, name = _part(deployment.task, task, run)
    part.restore(load_tokenizer(str(student)), deployment.columns[name])
    config = AutoConfig.from_pretrained(student, **NO_REMOTE_CODE)
    names, outputs = _names(config.id2label, name)
    if (labels := deployment.labels.get(name)) and isinstance(part, Classification | MultiLabel | TokenClassification):
        part.labels = {value: str(output) for value, output in labels.items()}
    model, predict, path = _open(student, deployment.task.head, runtime, part.writes_text)
    if outputs is not None:
        predict = _select(predict, outputs)
    return Predictor(model, predict, part, names, getattr(config, "decoder_start_token_id", None), path)


def _part(task: Task, name: str | None, run: str | Path) -> tuple[DataTask, str]:
    """Return the task to answer for, and its name, which is empty for a single one."""
    parts = task.parts
    if name is None and len(parts) > 1:
        raise ConfigError(f"{run}: the model has several tasks, {', '.join(parts)}; choose one with task")
    if name is not None and (len(parts) == 1 or name not in parts):
        raise ConfigError(f"{run}: there is no task {name!r}{suggest(name, parts) if len(parts) > 1 else ''}")
    # A task with a single data set is a DataTask; the others are made of them.
    return cast(DataTask, copy(parts[name or ""])), name or ""


def _select(predict: Predict, outputs: slice) -> Predict:
    """Return a function to some of a model's outputs."""
    return lambda batch: predict(batch)[..., outputs]


def _names(labels: Mapping[int, str], task: str) -> tuple[list[str], slice | None]:
    """Return the names of a task's outputs, and which of the model's outputs they are; None if all are."""
    names = [labels[i] for i in range(len(labels))]
    if not task:
        return names, None
    own = [i for i, name in enumerate(names) if name.split("/")[0] == task]
    return [names[i].removeprefix(f"{task}/") for i in own], slice(own[0], own[-1] + 1)


def _open(
    student: Path, head: AutoClass, runtime: Runtime | None, writes: bool
) -> tuple[PreTrainedModel | None, Predict, Path]:
    """Return the network, its predict function and its file; the exported file is preferred unless it must write."""
    exported = _files(student, "student.onnx", "onnx/*.onnx")
    if runtime == "onnxruntime" and (writes or not exported):
        reason = "a text is written by torch" if writes else "the run has no student.onnx; `distill export` writes it"
        raise ConfigError(f"{student}: cannot run in onnxruntime: {reason}")
    if exported and runtime != "torch" and not writes:
        return None, OnnxModel(exported[0]), exported[0]
    if packed := _files(student, PACKED, PACKED):
        model = load_packed(packed[0].parent, head)
        return model, torch_predict(model), packed[0]
    model = head.from_pretrained(student, dtype="auto", **NO_REMOTE_CODE).eval()
    return model, torch_predict(model), student


def _files(student: Path, beside: str, inside: str) -> list[Path]:
    """Return the exported files of a student: beside it in a run folder, or in a deployed folder, as a pattern."""
    in_run = [student.parent / beside] if student.name == "student" else []
    return [path for path in [*in_run, *sorted(student.glob(inside))] if path.is_file()]
