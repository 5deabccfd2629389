"""Data, tokenizers and models that do not fit: joined by what is proved, refused in one line before the first step.

The teacher's head is fitted, so that its accuracy tells whether outputs and classes were joined rightly.
"""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, normalizers, processors
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
)

from distill.config.nodes import ConfigError
from distill.data.batches import Collate
from distill.evaluation.measure import evaluate_model, torch_predict
from distill.experiment.runs import read
from distill.tasks.task import Task
from distill.training.prepare.plan import Plan, plan
from tests.helpers.repositories import save_model, save_tokenizer, sentences
from tests.helpers.tables import write

CONFIG = """\
task: {{name: classification, data: {folder}/data, text: text, batch_size: 8, max_length: 100}}
teacher: {teacher}
student: {{kind: Transformer, layers: 1}}
losses: {{logits: {{kind: Logits}}}}
trainer: {{max_epochs: 1, accelerator: cpu}}
output: {folder}/runs
"""
NAMES = ["negative", "positive"]


def save_data(folder: Path, name: str, labels: list) -> None:
    """Reviews whose label, of 0 and 1, is written as one of ``labels``; validation are the first of training."""
    (folder / name).mkdir(exist_ok=True)
    for split, count in {"train": 96, "validation": 24}.items():
        rows = [{"text": row["sentence"], "label": labels[row["label"]]} for row in sentences(96, 0)[:count]]
        write(folder / name / f"{split}.jsonl", rows)


def save_fitted(folder: Path, names: list[str], order: list[int], **config: object) -> None:
    """A random encoder whose output ``order[i]`` was fitted, by least squares, to the reviews of label i."""
    sizes = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
    save_model(folder, BertConfig(**({"vocab_size": save_tokenizer(folder)} | sizes | config)), names)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = sentences(96, 0)
    given = tokenizer([row["sentence"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model.eval().bert(**given).pooler_output
        wanted = torch.full((len(rows), len(names)), -1.0)
        for row, label in enumerate(row["label"] for row in rows):
            wanted[row, order[label]] = 1.0
        states, wanted = torch.cat([states, torch.ones(len(rows), 1)], 1).double(), wanted.double()
        solution = torch.linalg.solve(states.T @ states + 1e-6 * torch.eye(states.shape[1]), states.T @ wanted)
        model.classifier.weight.copy_(solution[:-1].T)
        model.classifier.bias.copy_(solution[-1])
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews with texts and with numbers as labels; teachers whose outputs are named, turned, or not named."""
    folder = tmp_path_factory.mktemp("fit")
    save_data(folder, "data", NAMES)
    save_data(folder, "numbers", [0, 1])
    save_data(folder, "moods", ["sad", "happy"])
    write(folder / "words.jsonl", [{"text": "one zebra", "label": name} for name in NAMES] * 10)
    save_fitted(folder / "named", NAMES, [0, 1])
    save_fitted(folder / "turned", ["POSITIVE", "Negative "], [1, 0])
    save_fitted(folder / "unnamed", ["LABEL_0", "LABEL_1"], [0, 1])
    save_fitted(folder / "three", ["positive", "mixed", "negative"], [2, 0])
    return folder


ALONE = {"teacher": None, "losses": {"labels": {"kind": "Labels"}}}


def planned(folder: Path, taught_by: str, **given: object) -> tuple[Plan, Task]:
    """A run before its first step, and its task."""
    file = folder / "x.yaml"
    file.write_text(CONFIG.format(folder=folder, teacher=folder / taught_by))
    (config,) = read(file, given)
    return plan(config, folder / "runs" / "x"), config.value.task


def refused(folder: Path, taught_by: str, **given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(folder, taught_by, **given)
    assert "\n" not in str(caught.value)
    assert not (folder / "runs").exists()
    return str(caught.value)


def accuracies(made: Plan, task: Task) -> dict[str, float]:
    """On validation, of the teacher and of the student, as the run would measure them."""
    parts = made.parts
    rows = parts.rows["validation"].remove_columns(["length", "row"])
    batches = list(DataLoader(rows, 8, collate_fn=Collate(parts.tokenizer)))
    models = {name: teacher.model for name, teacher in parts.teachers.items()} | {"student": parts.student}
    return {
        name: evaluate_model(task, torch_predict(model), batches).metrics["accuracy"] for name, model in models.items()
    }


LEARNT = 0.9


@pytest.mark.parametrize(
    ("teacher", "data", "given"),
    [
        ("named", "data", {}),
        ("turned", "data", {}),
        ("unnamed", "numbers", {}),
        ("named", "numbers", {}),
        ("unnamed", "moods", {"task.labels": {"sad": "LABEL_0", "happy": "LABEL_1"}}),
        ("unnamed", "moods", {"task.labels": {"sad": "0", "happy": "1"}}),
        ("turned", "moods", {"task.labels": {"sad": "negative", "happy": "positive"}}),
        ("three", "data", {"task.labels": {"negative": "negative", "positive": "positive"}}),
    ],
)
def test_a_teacher_is_as_good_as_it_is_by_name(folder, teacher, data, given):
    given = {"task.data": str(folder / data)} | given
    made, task = planned(folder, teacher, **given)
    assert accuracies(made, task)["teacher"] > LEARNT
    assert made.parts.student.config.num_labels == (3 if teacher == "three" else 2)


def test_a_student_that_exists_is_as_good_as_it_is_by_name(folder):
    """Beside a teacher of another order, and without one; its names are then those of the run's classes."""
    for given in ({"student": str(folder / "turned")}, {"student": str(folder / "three")}):
        labels = {"task.labels": dict(zip(NAMES, NAMES, strict=True))} if "three" in given["student"] else {}
        assert accuracies(*planned(folder, "named", **ALONE, **given, **labels))["student"] > LEARNT
    made, task = planned(folder, "named", student=str(folder / "turned"))
    assert min(accuracies(made, task).values()) > LEARNT
    assert made.parts.student.config.id2label == {0: "negative", 1: "positive"}


def test_integers_leave_a_student_its_names(folder):
    given = {"student": str(folder / "turned"), "task.data": str(folder / "numbers")} | ALONE
    made, _ = planned(folder, "named", **given)
    assert list(made.parts.student.config.id2label.values()) == ["POSITIVE", "Negative "]


def test_codes_make_as_many_outputs_as_there_are_codes(folder):
    rows = [{"text": f"a {word} film", "label": code} for word in ("good", "bad") for code in range(100, 117)]
    write(folder / "codes.jsonl", rows * 2)
    given = {"task.data": str(folder / "codes.jsonl")} | ALONE
    made, _ = planned(folder, "named", student=str(folder / "named"), **given)
    assert list(made.parts.student.config.id2label.values()) == [str(code) for code in range(100, 117)]


MISFITS = {
    "outputs without names": (
        "unnamed",
        {"task.data": "moods"},
        "2: teacher.model: its outputs are LABEL_0, LABEL_1, the classes of the data happy, sad",
    ),
    "other names": ("named", {"task.data": "moods"}, "are negative, positive, the classes of the data happy, sad"),
    "a subset": ("three", {}, "it has 3 outputs (positive, mixed, negative), the data 2 classes (negative, positive)"),
    "a student's outputs without names": (
        "named",
        {"student": "unnamed"},
        "student: its outputs are LABEL_0, LABEL_1, the classes of the data negative, positive",
    ),
    "a class that labels leaves out": (
        "named",
        {"task.labels": {"negative": "negative"}},
        "task.data: {folder}/data/train.jsonl line 2, 4, 6, 8, 10, 12, 14, 16, 18, 20: 'label' is 'positive', "
        "not one of negative",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("teacher", "given", "said"), MISFITS.values(), ids=MISFITS.keys())
def test_what_nothing_proves_is_refused(folder, teacher, given, said):
    given = {key: str(folder / value) if isinstance(value, str) else value for key, value in given.items()}
    assert said.format(folder=folder) in refused(folder, teacher, **given)


def test_a_teacher_of_several_labels_at_once(folder):
    save_fitted(folder / "several", NAMES, [0, 1], problem_type="multi_label_classification")
    assert "teacher.model: its outputs are labels of which several may hold" in refused(folder, "several")
    said = refused(folder, "named", student=str(folder / "several"))
    assert "student: its outputs are labels of which several may hold" in said


# What a tokenizer gives, and what each model reads


def test_rows_longer_than_the_student_reads(folder):
    write(folder / "long.jsonl", [{"text": "film " * 90, "label": name} for name in NAMES] * 10)
    save_fitted(folder / "short", NAMES, [0, 1], max_position_embeddings=64)
    given = {"task.data": str(folder / "long.jsonl")}
    said = "has 92 tokens, and the student has 64 positions; write a smaller task.max_length"
    assert said in refused(folder, "named", student=str(folder / "short"), **given)
    assert f"teacher.model: row 1 of the training rows has 92 tokens, and '{folder}/short' has 64 positions" in refused(
        folder, "short", **given
    )


def test_a_model_whose_tokenizer_names_no_limit(folder):
    """The table of a RoBERTa has places that no text may take."""
    save_fitted(folder / "boundless", NAMES, [0, 1], max_position_embeddings=64)
    tokenizer = AutoTokenizer.from_pretrained(folder / "boundless")
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(folder / "boundless")
    given = {"task.data": str(folder / "long.jsonl")}
    assert "has 64 positions" in refused(folder, "boundless", **given)
    sizes = {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 24}
    size = save_tokenizer(folder / "roberta")
    config = RobertaConfig(vocab_size=size, max_position_embeddings=93, type_vocab_size=2, pad_token_id=0, **sizes)
    save_model(folder / "roberta", config, NAMES)
    assert planned(folder, "roberta", **given)
    config.pad_token_id = 1
    save_model(folder / "roberta", config, NAMES)
    assert "has 91 positions" in refused(folder, "roberta", **given)


def test_token_types_that_a_model_does_not_have(folder):
    pairs = [{"text": "a film", "other": "a plot", "label": name} for name in NAMES] * 10
    write(folder / "pairs.jsonl", pairs)
    save_fitted(folder / "typeless", NAMES, [0, 1], type_vocab_size=1)
    given = {"task.data": str(folder / "pairs.jsonl"), "task.text": ["text", "other"]}
    said = "row 1 of the training rows has token type 1, and '{}' has embeddings for 1 token type;"
    assert said.format(folder / "typeless") in refused(folder, "typeless", **given)
    assert planned(folder, "typeless"), "single texts have none"


def test_tokens_that_were_added_to_a_tokenizer_alone(folder):
    save_fitted(folder / "added", NAMES, [0, 1])
    tokenizer = AutoTokenizer.from_pretrained(folder / "added")
    tokenizer.add_tokens(["charming"], special_tokens=True)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder / "added")
    size = len(tokenizer) - 1
    assert planned(folder, "added"), "a word that no row has does no harm"
    said = refused(folder, "added", **{"task.data": str(folder / "words.jsonl")})
    assert f"has token {size} ('zebra'), and '{folder}/added' has embeddings for {size} tokens; resize them" in said
    tokenizer.add_special_tokens({"pad_token": "[MY PAD]"})
    tokenizer.save_pretrained(folder / "added")
    assert f"the padding token '[MY PAD]' is {size + 1}, and" in refused(folder, "added")


def test_a_decoder_that_does_not_say_how_it_begins(folder):
    size = save_tokenizer(folder / "t5")
    sizes = {"d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 24, "num_layers": 2, "eos_token_id": 3}
    save_model(folder / "t5", T5Config(vocab_size=size, **sizes), NAMES)
    said = refused(folder, "t5")
    assert f"teacher.model: the config of '{folder}/t5' has no decoder_start_token_id" in said


# Tokenizers


def other_tokenizer(folder: Path, name: str, change) -> str:
    """A student like the teacher ``named``, whose tokenizer was changed; its folder."""
    save_fitted(folder / name, NAMES, [0, 1])
    backend = Tokenizer.from_str(AutoTokenizer.from_pretrained(folder / name).backend_tokenizer.to_str())
    change(backend)
    special = {f"{part}_token": f"[{part.upper()}]" for part in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, **special).save_pretrained(folder / name)
    return str(folder / name)


def cased(backend: Tokenizer) -> None:
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)


def without_begin(backend: Tokenizer) -> None:
    backend.post_processor = processors.TemplateProcessing("$A [SEP]", special_tokens=[("[SEP]", 3)])


def with_more_words(backend: Tokenizer) -> None:
    backend.add_tokens(["zebra"])


def test_the_same_vocabulary_read_otherwise_is_refused(folder):
    rows = [{"text": f"A {word.title()} Film", "label": name} for word in ("Warm", "Dull") for name in NAMES] * 10
    write(folder / "titles.jsonl", rows)
    student = other_tokenizer(folder, "cased", cased)
    said = refused(folder, "named", student=student, **{"task.data": str(folder / "titles.jsonl")})
    assert "teacher.model: it reads other tokens: row 1 of the training rows is '… [CLS] [UNK]" in said
    assert planned(folder, "named", student=student), "rows in small letters are the same for both"
    student = other_tokenizer(folder, "beginless", without_begin)
    assert "it reads other tokens: row 1 of the training rows is" in refused(folder, "named", student=student)


def test_more_words_do_no_harm_where_rows_are_equal(folder):
    student = other_tokenizer(folder, "more", with_more_words)
    assert planned(folder, "named", student=student)
    assert "it reads other tokens" in refused(
        folder, "named", student=student, **{"task.data": str(folder / "words.jsonl")}
    )
    said = refused(folder, "named", student=student, **{"task.augment": {"kind": "Masking", "share": 0.2}})
    assert "it has another vocabulary, and tokens are predicted or drawn from it here" in said
