"""A few of the fuzzer's configs (``python -m tests.fuzz.fuzz`` has ten thousand), and kinds that once were faults."""

import re
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForSequenceClassification, BertForSequenceClassification

from distill.config.aliases import MAX_DEPTH
from distill.config.config import WRAPPED
from distill.config.errors import ConfigError
from distill.experiment.runs import read_runs
from distill.training.prepare.plan import plan
from tests.fuzz.fuzz import fault, plans, reads
from tests.fuzz.mutations import written
from tests.fuzz.tiny import configs
from tests.helpers.mistakes.mistakes import GOOD
from tests.helpers.repositories import save_tokenizer, sentences


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def test_configs_that_are_almost_right_are_read_or_refused_in_a_line(tmp_path: Path) -> None:
    ends = list(reads(iter(range(200)), tmp_path))
    assert [end for end in ends if end[1] == "fault"] == []
    assert {how for _, how, _ in ends} == {"done", "refused"}


def test_runs_that_are_almost_right_are_planned_or_refused_in_a_line(tmp_path: Path) -> None:
    ends = list(plans(iter(range(12)), tmp_path, configs(tmp_path)))
    assert [end for end in ends if end[1] in ("fault", "wrapped")] == []


def test_the_fuzzer_sees_a_fault(tmp_path: Path) -> None:
    def lines() -> None:
        raise ConfigError("two\nlines")

    def wrapped() -> None:
        raise ConfigError(f"x.yaml:1: student: {WRAPPED} KeyError: 'x'")

    assert fault(lines, 1) == ("refused", "two lines"), "an error makes one line of what it is given"
    assert fault(wrapped, 1)[0] == "wrapped"
    assert fault(lambda: {}["x"], 1)[0] == "fault"
    assert fault(lambda: [None for _ in iter(int, 1)], 0.05) == ("fault", "more than 0.05 s")
    assert fault(lambda: None, 1) == ("done", "")


LAUGHS = ", ".join(f"&a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(8))
KINDS = {
    "a tag of another type": ("seed: !!bool maybe", "x.yaml:1: cannot be read as YAML: 'maybe' is not of type bool"),
    "an empty whole number": ("seed: !!int ''", "x.yaml:1: cannot be read as YAML: '' is not of type int"),
    "a list as a whole number": ("seed: !!int [1]", "x.yaml:1: cannot be read as YAML: "),
    "a time that is none": ("seed: !!timestamp x", "x.yaml:1: cannot be read as YAML: 'x' is not of type timestamp"),
    "deep nesting": ("seed: " + "[" * 3000, f"x.yaml:1: not valid YAML: nested deeper than {MAX_DEPTH} levels"),
    "nesting that is not quite as deep": (
        "seed: " + "[" * 60 + "]" * 60,
        f"x.yaml:1: not valid YAML: nested deeper than {MAX_DEPTH} levels",
    ),
    "deep blocks": ("seed:\n" + "- " * 60, f"x.yaml:2: not valid YAML: nested deeper than {MAX_DEPTH} levels"),
    "aliases of aliases": (
        "seed: [&a0 [0], " + ", ".join(f"&a{i + 1} [*a{i}]" for i in range(200)) + "]",
        "x.yaml:1: has aliases that stand for too many values, or",
    ),
    "a list that holds itself": ("seed: &a [*a]", "x.yaml:1: has aliases that stand for too many values, or"),
    "a billion laughs": (
        f"seed: [&a0 [0], {LAUGHS}]",
        "x.yaml:1: has aliases that stand for too many values, or",
    ),
    "a large file": ("#" + "x" * 1_000_000, "x.yaml: is too large for a config, it has 1,000,"),
    "a character of control": ("name: a\x1bb", "x.yaml: not valid YAML: unacceptable character #x001b"),
    "an escaped NUL": ('name: "a\\0b"', "x.yaml:1: name: 'a\\x00b' has a character that cannot be stored"),
    "half a character": (
        'name: "\\uD800"',
        "x.yaml:1: name: '\\ud800' has a character that cannot be stored in a file",
    ),
    "a line break in a key": ('"a\\nb": 1', "x.yaml:1: a b: Experiment has no 'a\\nb'; it has "),
    "a key of 5 000 letters": ("x" * 900 + ": 1", "x.yaml:1: xxx"),
    "no number": ("seed: .nan", "x.yaml:1: seed: nan is not a finite number"),
    "no finite number": ("--optimizer.lr=.inf", "--optimizer.lr: inf is not a finite number"),
    "an inner number that is none": ("--trainer.max_time=1", "--trainer.max_time: not a Trainer argument"),
    "a number of too many digits": (
        "--trainer.max_steps=" + "9" * 30,
        "--trainer.max_steps: is an integer of more than 64",
    ),
    "a number of 5 000 digits": ("seed: " + "9" * 5000, "x.yaml:1: cannot be read as YAML: "),
    "a loss named with a dot": (
        "losses: {a.b: {kind: Labels}}",
        "x.yaml:1: losses: 'a.b' is not a valid name",
    ),
    "a loss without a name": (
        "losses: {'': {kind: Labels}}",
        "x.yaml:1: losses: '' is not a valid name",
    ),
    "a loss that torch holds already": ("losses: {values: {kind: Labels}}", "x.yaml:1: losses: 'values' is a name of"),
    "a loss that is another's weight": (
        "losses: {a: {kind: Labels}, a_weight: {kind: Labels}}",
        "x.yaml:1: losses: 'a_weight' is the curve of another loss's weight",
    ),
    "a pruner named with a slash": (
        "prune: {a/b: {kind: Magnitude, sparsity: 0.5}}",
        "x.yaml:1: prune: 'a/b' is not a valid name",
    ),
    "no user": ("--task.data=~nobody-of-that-name/x", "--task.data: '~nobody-of-that-name/x': there is no such user"),
    "blocks of an average": (
        "teacher: {decay: 0.9}\nreplace: 0.5",
        "x.yaml:2: replace: there is no teacher whose blocks could replace",
    ),
    "layers without end": (
        "student: {kind: Transformer, layers: 2147483648}",
        "x.yaml:1: student.layers: at most 1,000",
    ),
}


@pytest.mark.parametrize(("line", "message"), KINDS.values(), ids=KINDS.keys())
def test_a_kind_that_once_was_a_fault(tmp_path: Path, line: str, message: str) -> None:
    key, equals, value = line.partition("=") if line.startswith("--") else (line.partition(": ")[0], "", "")
    sections = re.split(r"^(?=\S)", GOOD, flags=re.M)
    rest = "".join(section for section in sections if not section.startswith(f"{key}:"))
    Path("x.yaml").write_text(GOOD if equals else f"{line}\n{rest}", errors="surrogatepass")
    words = {key[2:]: value} if equals else {}
    with pytest.raises(ConfigError) as caught:
        read_runs("x.yaml", words)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 1100 and str(caught.value).isprintable()


LACKING = {
    "heads to prune": (
        "big_bird",
        "student: foreign\nlosses: {labels: {kind: Labels}}\nprune: {kind: Magnitude, shape: heads, sparsity: 0.5}",
        "x.yaml:4: prune.shape: heads: this needs the level 'structure', and a big_bird has the level 'hidden'",
    ),
    "a narrower student": (
        "big_bird",
        "teacher: foreign\nstudent: {kind: Transformer, hidden: 8}\nlosses: {logits: {kind: Logits}}",
        "x.yaml:3: student.hidden: this needs the level 'structure', and a big_bird has the level 'hidden'",
    ),
    "a form": (
        "big_bird",
        "teacher: foreign\nstudent: {kind: Transformer, share_layers: {}}\nlosses: {logits: {kind: Logits}}",
        "x.yaml:3: student.share_layers: this needs the level 'structure', and a big_bird has the level 'hidden'",
    ),
    "attention": (
        "big_bird",
        "teacher: foreign\nstudent: {kind: Transformer}\nlosses: {a: {kind: AttentionKL}}",
        "x.yaml:4: losses.a: this needs the level 'attention', and a big_bird has the level 'hidden'",
    ),
    "hidden states": (
        "xlm",
        "teacher: foreign\nstudent: foreign\nlosses: {h: {kind: HiddenMSE}}",
        "x.yaml:4: losses.h: this needs the level 'hidden', and a xlm has the level 'outputs'",
    ),
    "blocks to take": (
        "xlm",
        "teacher: foreign\nstudent: {kind: Transformer}\nlosses: {logits: {kind: Logits}}",
        "x.yaml:3: student: this needs the level 'hidden', and a xlm has the level 'outputs'",
    ),
}


@pytest.mark.parametrize(("model_type", "part", "message"), LACKING.values(), ids=LACKING.keys())
def test_what_the_level_of_a_family_lacks_is_refused_at_its_key(
    tmp_path: Path, model_type: str, part: str, message: str
) -> None:
    save_foreign(tmp_path, model_type)
    trainer = "trainer: {max_epochs: 1, accelerator: cpu, devices: 1}"
    Path("x.yaml").write_text(f"task: {{name: classification, data: data.csv}}\n{part}\n{trainer}\n")
    (config,) = read_runs("x.yaml", {})
    with pytest.raises(ConfigError) as caught:
        plan(config, tmp_path / "runs")
    assert str(caught.value).startswith(message)


def save_foreign(folder: Path, model_type: str) -> None:
    """A model whose family no table lists, in ``foreign``, and rows for it."""
    config = AutoConfig.for_model(
        model_type,
        vocab_size=save_tokenizer(folder / "foreign"),
        num_hidden_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        id2label={0: "negative", 1: "positive"},
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "foreign")
    rows = "".join(f"{row['sentence']},{['negative', 'positive'][row['label']]}\n" for row in sentences(20, 0))
    (folder / "data.csv").write_text(f"text,label\n{rows}")


def test_a_model_that_cannot_be_recorded_is_refused_at_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The families that are known all can; a model says itself whether it does."""
    Path("x.yaml").write_text(written(configs(tmp_path)[0][0]))
    (config,) = read_runs("x.yaml", {})
    monkeypatch.setattr(BertForSequenceClassification, "_supports_sdpa", False)
    with pytest.raises(ConfigError, match=r"^x.yaml:\d+: student: the attention of bert cannot be recorded"):
        plan(config, tmp_path / "runs")
