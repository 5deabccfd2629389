"""The result of a run in one sentence, and the answers of the page's first screen."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.reporting.numbers import COUNT, SIZE, SPEED, format_number, join, look_up, range_text, ratio_text

LOWER_IS_BETTER = {"loss", "perplexity", "mse", "rmse", "mae"}


@dataclass
class Answer:
    """The answer to a question about a run.

    Args:
        question: as a heading.
        amount: the answer as a number, or in a few words.
        text: what it is about.
        facts: more of it, (name, value) each.
        is_warning: whether it speaks against the student.
    """

    question: str
    amount: str
    text: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    is_warning: bool = False


def model_noun(report: dict) -> str:
    """Return what the deployed model is called: without a teacher it is no student."""
    return "student" if report["models"].get("teacher") else "model"


def engine(model: dict) -> str:
    """Return runtime and precision of a model, as in "onnxruntime int8"."""
    return join(" ", model.get("runtime"), model.get("precision"))


def conditions(report: dict) -> str:
    """Return how latencies were measured, as in "2 threads, 23 tokens"."""
    threads = report.get("hardware", {}).get("threads")
    tokens = look_up(report["models"]["student"], ("latency_tokens", "batch_1"))
    return join(", ", threads and f"{threads} thread{'s' * (threads > 1)}", tokens and f"{tokens} tokens")


def main_metric(report: dict) -> str:
    """Return the main metric of the report, else the student's first."""
    metrics = report["models"]["student"].get("metrics") or {}
    return report.get("main_metric") or next(iter(metrics), "quality")


def summary_sentence(report: dict) -> str:
    """Return the result of the run in one sentence."""
    student, ratios, metric = report["models"]["student"], report.get("ratios") or {}, main_metric(report)
    score, batch_1 = look_up(student, ("metrics", metric)), look_up(student, ("latency_ms", "batch_1"))
    name, parts = metric.replace("_", " "), []
    if ratios.get("retained") and metric in LOWER_IS_BETTER:
        parts.append(f"has {format_number(ratios['retained'])} times the teacher's {name}")
    elif ratios.get("retained"):
        parts.append(f"keeps {format_number(ratios['retained'], '%')} of the teacher's {name}")
    elif score is not None:
        parts.append(f"reaches {name} {format_number(score)}")
    if ratios.get("smaller"):
        number, word = ratio_text(ratios["smaller"], SIZE)
        parts.append(f"{number.replace('×', 'times')} {word}")
    elif student.get("bytes"):
        parts.append(f"takes {format_number(student['bytes'], 'B')}")
    if ratios.get("faster_batch_1"):
        parts.append(_speed(report, student))
    elif batch_1:
        parts.append(f"answers in {format_number(batch_1, 'ms')} at batch 1 in {engine(student) or 'torch'}")
    how = f" ({conditions(report)})" if conditions(report) and batch_1 else ""
    return f"The {model_noun(report)} {', '.join(parts)}{how}." if parts else "Nothing was measured."


def _speed(report: dict, student: dict) -> str:
    """Return the speed as deployed, and that in the teacher's runtime, which the architecture alone has changed."""
    number, word = ratio_text(report["ratios"]["faster_batch_1"], SPEED)
    text = f"{number.replace('×', 'times')} {word} at batch 1 in {engine(student) or 'torch'}"
    in_torch = look_up(report.get("speedups"), ("batch_1", "torch"))
    if not in_torch or student.get("runtime") in (None, "torch"):
        return text
    number, other = ratio_text(in_torch, SPEED)
    return f"{text}, {number.replace('×', 'times')}{f' {other}' * (other != word)} in torch"


def answers(report: dict) -> list[Answer]:
    """Return the answers of the first screen: what did I get, what did I lose, is it faster here, can I ship it."""
    if not report["models"]["student"].get("metrics"):
        return []
    return [_got(report), _lost(report), _faster(report), _ship(report)]


def _got(report: dict) -> Answer:
    teacher, student = report["models"].get("teacher") or {}, report["models"]["student"]
    exports = [export for export in report.get("exports") or [] if is_deployed(export, student)]
    facts = [("file", exports[0]["path"] if exports else "student/"), ("weights", engine(student))]
    counts = {"parameters": "parameters", "non-zero": "nonzero_parameters", "FLOPs": "flops_per_example"}
    for label, key in counts.items():
        if after := student.get(key):
            before = teacher.get(key)
            number, word = ratio_text(before / after, COUNT) if before else ("", "")
            facts.append((label, join(", ", format_number(after, "n"), join(" ", number, word))))
    ratio = (report.get("ratios") or {}).get("smaller")
    number, word = ratio_text(ratio, SIZE) if ratio else ("", "")
    size = teacher.get("bytes")
    text = join(", ", join(" ", number, word), f"was {format_number(size, 'B')}" if size else "")
    return Answer("What did I get?", format_number(student.get("bytes"), "B"), text, facts)


def _lost(report: dict) -> Answer:
    metric, models = main_metric(report), report["models"]
    name, teacher, student = metric.replace("_", " "), models.get("teacher"), models["student"]
    scores = [look_up(model, ("metrics", metric)) for model in (teacher, student)]
    facts = [
        (label, with_range(format_number(score), look_up(model, ("intervals", metric))))
        for label, model, score in zip(("teacher", model_noun(report)), (teacher, student), scores, strict=True)
        if model
    ]
    baseline = look_up(report.get("baseline"), (metric,))
    if baseline is not None:
        facts.append(("constant prediction", format_number(baseline)))
    facts.append(("in brackets", "95 % interval"))
    if any(score is None for score in scores):
        unknown = scores[1] is None
        amount = "unknown" if unknown else format_number(scores[1])
        return Answer("How good is it?", amount, name, facts, is_warning=unknown)
    change, edges = scores[1] - scores[0], (report.get("difference") or {}).get(metric)
    text, is_worse = f"{name}, student minus teacher", (change > 0) == (metric in LOWER_IS_BETTER) and change != 0
    is_certain = False
    if range_text(edges):
        facts.insert(2, ("difference", _signed_range(edges)))
        is_certain = edges[0] > 0 or edges[1] < 0
        text += ", more than noise" if is_certain else ", within noise"
    if metric in LOWER_IS_BETTER or not (report.get("ratios") or {}).get("retained"):
        return Answer("What did I lose?", signed(change), text, facts, is_warning=is_worse and is_certain)
    retained = format_number(report["ratios"]["retained"], "%")
    facts.insert(2, ("kept", f"{retained} of the teacher's {name}"))
    return Answer("What did I lose?", signed(change), text, facts, is_warning=is_worse and is_certain)


def table_on_test(report: dict) -> list[list[str]]:
    """Return the metrics on test rows as text: a head, the models, and the difference; empty without test rows."""
    test, noun = report.get("test"), model_noun(report)
    if not test:
        return []
    names = list(test["metrics"]["student"])
    table = [[f"{test['rows']:,} test rows", *(name.replace("_", " ") for name in names)]]
    for model, metrics in test["metrics"].items():
        edges = test["intervals"][model]
        cells = [with_range(format_number(metrics[name]), edges.get(name)) for name in names]
        table.append([model.replace("student", noun), *cells])
    if test["difference"]:
        table.append(["student minus teacher", *(_signed_range(test["difference"].get(name)) for name in names)])
    return table


def _signed_range(edges: list[float | None] | None) -> str:
    return f"{signed(edges[0])} to {signed(edges[1])}" if range_text(edges) else "–"


def with_range(text: str, edges: list[float] | None, unit: str = "") -> str:
    """Return a number with its interval in brackets, if that is known."""
    interval = range_text(edges, unit)
    return f"{text} ({interval})" if interval else text


def signed(value: float) -> str:
    """Return a number with its sign."""
    return f"{'−' if value < 0 else '+'}{format_number(abs(value))}"


def _faster(report: dict) -> Answer:
    student, ratios = report["models"]["student"], report.get("ratios") or {}
    facts, ratio = [], ratios.get("faster_batch_1")
    for batch in ("batch_1", "batch_32"):
        if median := look_up(student, ("latency_ms", batch)):
            time = with_range(format_number(median, "ms"), look_up(student, ("latency_spread_ms", batch)), "ms")
            ratio_of = ratios.get(f"faster_{batch}")
            change = " ".join(ratio_text(ratio_of, SPEED)) if ratio_of else ""
            facts.append((batch.replace("_", " "), join(", ", time, change)))
    for runtime in ("torch", "onnxruntime"):
        of = look_up(report.get("speedups"), ("batch_1", runtime))
        if of and student.get("runtime") != "torch":
            what = "architecture" if runtime == "torch" else "architecture and precision"
            facts.append((f"both in {runtime}", f"{' '.join(ratio_text(of, SPEED))}: {what}"))
    facts.append(("measured", join(", ", look_up(report.get("hardware"), ("cpu",)), conditions(report)) or "here"))
    text = f"at batch 1 in {engine(student) or 'torch'}"
    if not ratio:
        median = format_number(look_up(student, ("latency_ms", "batch_1")), "ms")
        return Answer("How fast is it here?", median, text, facts)
    number, word = ratio_text(ratio, SPEED)
    return Answer("Is it faster here?", number, f"{word} {text}", facts, is_warning=ratio < 1)


def _ship(report: dict) -> Answer:
    """Return whether a measurement speaks against serving the student; its user knows whether it is good enough."""
    warnings, metric, student = report.get("warnings") or [], main_metric(report), report["models"]["student"]
    score, baseline = look_up(student, ("metrics", metric)), look_up(report.get("baseline"), (metric,))
    learnt = score is not None and (
        baseline is None or (score < baseline if metric in LOWER_IS_BETTER else score > baseline)
    )
    facts = []
    for export in report.get("exports") or []:
        if export.get("agreement") is not None:
            facts.append((export["path"], f"{format_number(export['agreement'], '%')} of answers as trained"))
    if baseline is not None:
        facts.append(("beats a constant prediction", "yes" if learnt else "no"))
    facts.append(("warnings", str(len(warnings)) if warnings else "none"))
    question = "Can I ship it?"
    if not learnt:
        return Answer(question, "No", "it is no better than a constant prediction", facts, is_warning=True)
    if warnings:
        count = f"{len(warnings)} warning{'s' * (len(warnings) > 1)}"
        return Answer(question, "Read first", f"{count} about the run or its result", facts, is_warning=True)
    return Answer(question, "Yes", "if that quality is enough: nothing measured speaks against it", facts)


def is_deployed(export: dict, student: dict) -> bool:
    """Return whether the measurements of the student are those of this export."""
    same = all(export.get(key) == student.get(key) for key in ("bytes", "metrics", "latency_ms"))
    return export.get("is_deployed", same)
