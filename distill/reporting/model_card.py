"""The model card of a deployed student: ``student/README.md``, which the hub shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml
from huggingface_hub import metadata_load

from distill.evaluation.measure import ModelStats
from distill.reporting.page import format_number
from distill.reporting.report import Report
from distill.reporting.summary import summary_sentence, table_on_test
from distill.run_dir.files import write_text
from distill.tasks.task import Task

CARD = "README.md"


def write_model_card(report: Report, task: Task, is_stock: bool) -> None:
    """Write the model card into ``student/``; licence and base model of the card that is there stay.

    Args:
        report: of the run.
        task: of the run.
        is_stock: whether plain transformers load the student.
    """
    path = report.folder / "student" / CARD
    metadata = (metadata_load(path) if path.is_file() else None) or {}
    library = "sentence-transformers" if task.gives_vectors else "transformers"
    metadata |= {"library_name": library, "tags": ["distill-compress"]}
    if task.pipeline:
        metadata["pipeline_tag"] = task.pipeline
    sections = [
        f"# {report.name}",
        summary_sentence(report.to_json()),
        _models(report),
        _markdown(table_on_test(report.to_json())),
        *_use(report, task, is_stock),
        _threshold(report, task),
        "## How it was made",
        f"`{report.command}` (seed {report.seed}, {format_number(report.seconds / 60, '')} minutes).",
        _list(_data(report)),
        _list(f"{entry['what']}: steps {entry['start_step']} to {entry['stop_step']}" for entry in report.timeline),
        "## Limits",
        _quality_limit(report),
        _list(report.to_json()["warnings"]),
    ]
    text = "\n\n".join(section for section in sections if section)
    write_text(path, f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n{text}\n")


def _quality_limit(report: Report) -> str:
    chosen = "; the best state was chosen on validation rows" if report.test else ""
    return f"Quality is that on the data above, with 95 % intervals{chosen}; on other data it was not measured."


def _models(report: Report) -> str:
    """Return a table of all models."""
    names = list(report.models["student"].metrics)
    head = ["model", *names, "size", "batch 1", "batch 32", "runtime"]

    def cells(name: str, model: ModelStats) -> list[str]:
        return [
            name,
            *(_with_interval(model, key) for key in names),
            format_number(model.bytes, "B"),
            *(format_number(model.latency_ms.get(key), "ms") for key in ("batch_1", "batch_32")),
            f"{model.runtime} {model.precision}".strip(),
        ]

    return _markdown([head, *(cells(name, model) for name, model in report.models.items())])


def _markdown(table: list[list[str]]) -> str:
    """Return a table whose first row is the head; empty without rows."""
    rows = [table[0], ["---"] * len(table[0]), *table[1:]] if table else []
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _with_interval(model: ModelStats, metric: str) -> str:
    """Return a metric with its 95 % interval."""
    text = format_number(model.metrics.get(metric))
    low, high = model.intervals.get(metric, (None, None))
    return text if low is None else f"{text} ({format_number(low)} to {format_number(high)})"


def _use(report: Report, task: Task, is_stock: bool) -> list[str]:
    """Return how to load it, from the folder of runs: by this library, transformers, ONNX Runtime, transformers.js."""
    folder, head = report.folder.name, task.auto_class
    ours = "" if is_stock else "import students  # of distill-compress: the model has a form of its own\n"
    code = [
        f'from distill import load\n\nprint(load("{folder}")({_example(report, task)}))',
        f"{ours}from sentence_transformers import SentenceTransformer\n\n"
        f'print(SentenceTransformer("{folder}/student").encode(["a text"]))'
        if task.gives_vectors
        else f"{ours}from transformers import AutoTokenizer, {head}\n\n"
        f'model = {head}.from_pretrained("{folder}/student")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{folder}/student")',
    ]
    exported = {export.format: export for export in report.exports}.get("onnx")
    if exported:
        code.append(
            "from onnxruntime import InferenceSession\nfrom transformers import AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{folder}/student")\n'
            f'session = InferenceSession("{folder}/{exported.path}")'
        )
    sections = ["## Use", *(f"```python\n{snippet}\n```" for snippet in code)]
    if exported and task.pipeline and not task.groups_passages:  # transformers.js has no pipeline that ranks
        dtype = "q8" if "int8" in exported.precision else "fp32"
        sections.append(
            f"`distill export {folder} FOLDER` writes a folder for transformers.js:\n\n"
            '```js\nimport { pipeline } from "@huggingface/transformers";\n\n'
            f'const answer = await pipeline("{task.pipeline}", "FOLDER", {{ dtype: "{dtype}" }});\n```'
        )
    if exported and "int8" in exported.precision:
        sections.append(
            "On x86 CPUs without VNNI, ONNX Runtime's int8 products may overflow; set the session config entry "
            '`session.x64quantprecision` to `"1"` there, as `load` does. WebAssembly is exact.'
        )
    return sections


def _threshold(report: Report, task: Task) -> str:
    """Return from which probability a label holds, if a row may have several."""
    threshold = report.models["student"].threshold
    if not task.is_multi_label or threshold is None:
        return ""
    return (
        f"A label holds from a probability of {threshold:.2f} on. `load` returns these labels; with `top_k=None` a "
        "pipeline of transformers returns the probabilities of all."
    )


def _example(report: Report, task: Task) -> str:
    """Return an input of a model that reads texts or pairs, as Python."""
    if task.gives_vectors:
        return '"a text"'
    files = next(iter(report.preflight.get("data", {}).values()), {"files": []})["files"]
    uses = files[0]["columns_used"].values() if files else []
    pair = sum(use.startswith("text") for use in uses) == 2 or "context" in uses
    return '("a text", "another text")' if pair else '"a text"'


def _data(report: Report) -> Iterable[str]:
    for facts in report.preflight.get("data", {}).values():
        for file in facts["files"]:
            yield f"data: {Path(file['path']).name}, {file['split']}, {file['rows_kept']:,} rows"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
