"""The sentence and the answers of the first screen: what a run gave and lost, and what speaks against it."""

from distill.reporting.summary import Answer, answers, summary_sentence
from tests.helpers.reports.samples import minimal_report, sample_report


def test_sentence_with_a_teacher():
    assert summary_sentence(sample_report()) == (
        "The student keeps 98.1 % of the teacher's accuracy, 30 times smaller, "
        "12 times faster at batch 1 in onnxruntime int8, 3.4 times in torch (2 threads, 23 tokens)."
    )


def test_sentence_does_not_boast():
    report = sample_report()
    report["main_metric"], report["models"]["student"]["metrics"] = "perplexity", {"perplexity": 21.0}
    report["ratios"] = {"retained": 1.05, "smaller": 4.0, "faster_batch_1": 0.5}
    assert summary_sentence(report) == (
        "The student has 1.050 times the teacher's perplexity, 4.0 times smaller, "
        "2.0 times slower at batch 1 in onnxruntime int8, 3.4 times faster in torch (2 threads, 23 tokens)."
    )
    report["ratios"] = {"smaller": 1.0, "faster_batch_1": 0.97}
    report["speedups"]["batch_1"]["torch"] = 0.85
    report["models"]["student"]["metrics"] = {"perplexity": 20.0}
    assert summary_sentence(report) == (
        "The student reaches perplexity 20.00, 1.0 times as large, "
        "1.0 times as fast at batch 1 in onnxruntime int8, 1.2 times slower in torch (2 threads, 23 tokens)."
    )


def test_sentence_without_a_teacher():
    report = sample_report()
    report["models"]["teacher"], report["ratios"] = None, {}
    assert summary_sentence(report) == (
        "The model reaches accuracy 0.9071, takes 14.6 MB, "
        "answers in 3.12 ms at batch 1 in onnxruntime int8 (2 threads, 23 tokens)."
    )


def by_question(report: dict) -> dict[str, Answer]:
    return {answer.question: answer for answer in answers(report)}


def test_answers_of_a_run_with_a_teacher():
    found = by_question(sample_report())
    assert [(answer.amount, answer.is_warning) for answer in found.values()] == [
        ("14.6 MB", False), ("−0.0172", True), ("12 ×", False), ("Read first", True)]  # fmt: skip
    got, lost, faster, ship = found.values()
    assert got.text == "30 × smaller, was 438 MB" and ("file", "student.onnx") in got.facts
    assert lost.text == "accuracy, student minus teacher, more than noise"
    assert ("student", "0.9071 (0.8876–0.9255)") in lost.facts and ("constant prediction", "0.5092") in lost.facts
    assert ("difference", "−0.0298 to −0.0046") in lost.facts
    assert ("batch 1", "3.12 ms (3.02–3.41 ms), 12 × faster") in faster.facts
    assert ("both in torch", "3.4 × faster: architecture") in faster.facts
    assert ("both in onnxruntime", "6.4 × faster: architecture and precision") in faster.facts
    assert faster.facts[-1] == ("measured", "AMD EPYC 7763, 2 threads, 23 tokens")
    assert ("student.onnx", "99.7 % of answers as trained") in ship.facts


def test_a_difference_that_may_be_chance_is_no_warning():
    report = sample_report() | {"difference": {"accuracy": [-0.0298, 0.0046]}}
    lost = by_question(report)["What did I lose?"]
    assert lost.text.endswith("within noise") and not lost.is_warning
    better = sample_report() | {"difference": {"accuracy": [0.001, 0.02]}}
    better["models"]["student"]["metrics"]["accuracy"] = 0.93
    lost = by_question(better)["What did I lose?"]
    assert (lost.amount, lost.is_warning) == ("+0.0057", False)


def test_of_perplexity_more_is_worse():
    report = sample_report() | {"main_metric": "perplexity", "difference": {"perplexity": [2.0, 4.0]}}
    for name, value in (("teacher", 20.0), ("student", 23.0)):
        report["models"][name] |= {"metrics": {"perplexity": value}}
    report |= {"baseline": {"perplexity": 900.0}, "ratios": {"retained": 1.15}, "warnings": []}
    found = by_question(report)
    assert (found["What did I lose?"].amount, found["What did I lose?"].is_warning) == ("+3.000", True)
    assert found["Can I ship it?"].amount == "Yes"


def test_what_learnt_nothing_is_not_to_be_shipped():
    report = sample_report() | {"baseline": {"accuracy": 0.95}, "warnings": []}
    ship = by_question(report)["Can I ship it?"]
    assert (ship.amount, ship.is_warning) == ("No", True)
    assert by_question(sample_report() | {"warnings": []})["Can I ship it?"].amount == "Yes"


def test_a_model_without_a_teacher_has_other_questions():
    report = sample_report() | {"ratios": {}, "speedups": {}, "difference": {}}
    report["models"] = {"student": report["models"]["student"]}
    found = by_question(report)
    assert list(found) == ["What did I get?", "How good is it?", "How fast is it here?", "Can I ship it?"]
    assert found["How good is it?"].facts[0] == ("model", "0.9071 (0.8876–0.9255)")
    assert found["How fast is it here?"].amount == "3.12 ms"


def test_a_metric_that_is_not_known_is_a_warning():
    report = sample_report()
    report["models"]["student"]["metrics"] = {"accuracy": None}
    found = by_question(report)
    assert (found["How good is it?"].amount, found["How good is it?"].is_warning) == ("unknown", True)
    assert found["Can I ship it?"].amount == "No"


def test_nothing_measured_has_no_answers():
    assert answers(minimal_report()) == []
