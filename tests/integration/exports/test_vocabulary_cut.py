"""A student is deployed without the tokens that training never showed, and judged by what it reads then."""

import json
import random
import shutil

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from markupsafe import escape
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill import run
from distill.config.loader import ConfigError
from distill.data import prepare_data
from distill.data.vocabulary import reachable_tokens, retokenize
from distill.tasks.augment.hiding import Masking, NGrams
from distill.tasks.augment.words import WordReplacement
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.texts import Classification, Regression
from quant_aware.export.onnx_model import OnnxModel
from students.tokenizer.pieces import rebuild_tokenizer, required_ids
from tests.helpers.repositories import BAD, GOOD, NOUNS, save_tiny_bert
from tests.helpers.runs import interrupted, weights
from tests.helpers.tables import write
from tests.helpers.worlds import WORLDS, ready_task, save_data, save_teacher

CONFIG = """\
task: {{name: {name}, data: {folder}/data, max_length: 32, batch_size: 8}}
teacher: {{model: {folder}/teacher, check: false}}
student: {{kind: Transformer, layers: 2, hidden: 24, intermediate: 32}}
losses:
  labels: {{kind: Labels}}
  logits: {{kind: Logits}}
prune: {{kind: Magnitude, shape: neurons, sparsity: {{kind: Cubic, to: 0.25, stop: 60%}}}}
quantize: {{start: 70%}}
vocabulary: seen
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""
TRAINED, OTHERS = GOOD[:5] + BAD[:5], GOOD[5:] + BAD[5:]


def reviews(words: list[str], rows: int, seed: int) -> list[dict]:
    draw = random.Random(seed)
    made = []
    for _ in range(rows):
        word, noun = draw.choice(words), draw.choice(NOUNS)
        made.append({"sentence": f"a very {word} {noun}", "label": int(word in GOOD)})
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Reviews whose validation has words that training has not."""
    folder = tmp_path_factory.mktemp("reviews")
    (folder / "data").mkdir()
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    splits = {"train": reviews(TRAINED, 48, 0), "validation": reviews(TRAINED, 10, 1) + reviews(OTHERS, 6, 2)}
    for split, rows in splits.items():
        Dataset.from_list(rows, features=features).to_parquet(folder / "data" / f"{split}.parquet")
    save_tiny_bert(folder / "teacher", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    (folder / "x.yaml").write_text(CONFIG.format(name="classification", folder=folder))
    return folder


@pytest.fixture(scope="module")
def finished(world):
    return run(world / "x.yaml"), world / "runs" / "x"


class TestRun:
    def test_the_deployed_student_has_the_words_of_training(self, finished, world):
        _, folder = finished
        tokenizer, model = (
            kind.from_pretrained(folder / "student") for kind in (AutoTokenizer, AutoModelForSequenceClassification)
        )
        vocab = tokenizer.get_vocab()
        assert set(TRAINED) <= vocab.keys() and not set(OTHERS) & vocab.keys()
        assert model.config.vocab_size == len(vocab) == model.get_input_embeddings().num_embeddings
        assert tokenizer.unk_token_id not in tokenizer(OTHERS[0])["input_ids"]
        assert "".join(tokenizer.tokenize(OTHERS[0])).replace("##", "") == OTHERS[0]

    def test_it_says_what_it_said_with_all_tokens(self, finished):
        report, _ = finished
        assert report.parity["vocabulary"] == report.parity["cut"] < 1e-4
        assert report.exports[0].agreement == 1.0

    def test_the_report_tells_what_is_left(self, finished, world):
        report, folder = finished
        (note,) = [note for note in report.notes if note.startswith("vocabulary: ")]
        total = len(AutoTokenizer.from_pretrained(world / "teacher"))
        left = len(AutoTokenizer.from_pretrained(folder / "student"))
        after = report.models["student in torch"].parameters
        assert note.startswith(f"vocabulary: {left} of {total} tokens are left")
        assert f"{after + 24 * (total - left):,} parameters became {after:,}; 6 of 16 validation rows" in note
        assert escape(note) in (folder / "report.html").read_text()
        assert json.loads((folder / "report.json").read_text())["notes"] == report.notes
        assert report.models["teacher"].parameters > 32 * total

    def test_it_is_judged_by_what_it_reads(self, finished, world):
        """Validation by hand: the text, the saved tokenizer, the saved file."""
        report, folder = finished
        tokenizer, export = AutoTokenizer.from_pretrained(folder / "student"), OnnxModel(folder / "student.onnx")
        rows = list(Dataset.from_parquet(str(world / "data" / "validation.parquet")))
        answers = [int(export(dict(tokenizer([row["sentence"]], return_tensors="pt")))[0].argmax()) for row in rows]
        right = sum(row["label"] == answer for row, answer in zip(rows, answers, strict=True))
        assert report.models["student"].metrics["accuracy"] == pytest.approx(right / len(rows))

    def test_training_is_as_without(self, world, monkeypatch):
        names = ("with", "without")
        for name, vocabulary in zip(names, ("seen", None), strict=True):
            interrupted(monkeypatch, 6, world / "x.yaml", name=name, vocabulary=vocabulary)
        left, right = (weights(world / "runs" / name) for name in names)
        assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)

    def test_a_later_run_reads_the_smaller_vocabulary(self, world):
        """As the teacher of a later run, or as its student, whose teacher reads the old tokens as its own."""
        first = CONFIG.format(name="classification", folder=world) + "name: first\n"
        second = first.replace("vocabulary: seen\n", "").replace("name: first", "name: second")
        fits = second.replace(f"model: {world}/teacher", f"model: {world}/runs/first")
        fits = fits.replace("layers: 2, hidden: 24, intermediate: 32", "layers: 1")
        other = second.replace("student: {kind: Transformer, layers: 2, hidden: 24, intermediate: 32}", "")
        other += f"student: {world}/runs/first\n"
        (world / "fits.yaml").write_text(first + "---\n" + fits)
        (world / "other.yaml").write_text(first + "---\n" + other.replace("name: second", "name: third"))
        report = run(world / "other.yaml", quantize=None)
        assert any("teacher: reads the texts in tokens of its own" in note for note in report.notes)
        shutil.rmtree(world / "runs" / "first")
        report = run(world / "fits.yaml", quantize=None)
        assert report.models["teacher"].metrics and "vocabulary" not in report.parity


@pytest.mark.parametrize("name", ["token_classification", "question_answering"])
def test_words_are_found_again_where_there_are_fewer_tokens(name, tmp_path):
    (tmp_path / "data").mkdir()
    save_data(name, tmp_path / "data")
    save_teacher(name, tmp_path / "teacher")
    known = Dataset.from_parquet(str(tmp_path / "data" / "train.parquet"))
    without = known.filter(lambda row: "film" not in str(row) and "great" not in str(row))
    assert 4 < len(without) < len(known)
    without.to_parquet(tmp_path / "data" / "train.parquet")
    (tmp_path / "x.yaml").write_text(CONFIG.format(name=name, folder=tmp_path))
    report = run(tmp_path / "x.yaml", quantize=None)
    assert report.parity["vocabulary"] < 1e-4
    assert "film" not in AutoTokenizer.from_pretrained(tmp_path / "runs" / "x" / "student").get_vocab()
    (note,) = [note for note in report.notes if note.startswith("vocabulary: ")]
    assert "; 0 of 12 validation rows" not in note


@pytest.mark.parametrize("name", ["masked_lm", "causal_lm", "seq2seq"])
def test_predicted_tokens_are_not_taken_away(name, tmp_path):
    columns = ", source: left, target: right" if name == "seq2seq" else ""
    text = CONFIG.format(name=name, folder=tmp_path).replace(", max_length", f"{columns}, max_length")
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"vocabulary: {name} predicts tokens, and its metrics cannot"):
        run(tmp_path / "x.yaml")


def test_a_wrong_word_is_told(world):
    with pytest.raises(ConfigError, match="vocabulary: 'used' is not seen; did you mean 'seen'"):
        run(world / "x.yaml", vocabulary="used")


@pytest.fixture
def fewer(tokenizer):
    """The tokenizer without most words."""
    return rebuild_tokenizer(tokenizer, required_ids(tokenizer, tokenizer("a warm film")["input_ids"]))


class TestRespelled:
    @pytest.mark.parametrize("name", ["token_classification", "question_answering"])
    def test_rows_are_those_that_the_tokenizer_would_have_made(self, name, tokenizer, fewer, tmp_path):
        assert name in WORLDS
        save_data(name, tmp_path)
        task, direct = ready_task(name, tmp_path), ready_task(name, tmp_path)
        rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
        shorter = retokenize(task, rows, fewer)
        wanted = {row["row"]: row for row in prepare_data(direct, fewer)["validation"].remove_columns("length")}
        assert shorter["row"] == rows["row"]
        assert [wanted[row["row"]] for row in shorter] == list(shorter)
        assert shorter["input_ids"] != rows["input_ids"] and task.tokenizer is tokenizer

    def test_of_several_tasks_each_is_spelled_by_its_own_columns(self, tokenizer, fewer, tmp_path):
        draw = random.Random(0)
        one = [{"text": draw.choice(NOUNS), "label": i % 2} for i in range(20)]
        two = [{"left": draw.choice(GOOD), "right": draw.choice(NOUNS), "label": i / 7} for i in range(20)]
        tasks = {
            "one": Classification(data=str(write(tmp_path / "one.jsonl", one)), text="text"),
            "two": Regression(data=str(write(tmp_path / "two.jsonl", two)), text=["left", "right"]),
        }
        task = MultiTask(tasks=tasks)
        rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
        shorter = retokenize(task, rows, fewer)
        for old, new in zip(rows, shorter, strict=True):
            part = list(tasks.values())[old["task"]]
            texts = [part.validation[old["row"]][column] for column in part.texts]
            assert new["input_ids"] == fewer(*texts)["input_ids"]
            assert {key: new[key] for key in ("labels", "task", "row")} == {
                key: old[key] for key in ("labels", "task", "row")
            }


class TestShown:
    def test_of_plain_rows_those_in_them(self):
        assert reachable_tokens(Dataset.from_dict({"input_ids": [[1, 2], [2, 5]]}), []) == {1, 2, 5}

    def test_words_that_may_take_the_place_of_others_count(self, tokenizer, tmp_path):
        save_tiny_bert(tmp_path, layers=1, hidden=24, heads=2)
        steps = [WordReplacement(model=str(tmp_path), candidates=3), Masking(), NGrams()]
        for step in steps:
            step.setup(tokenizer)
        rows = Dataset.from_dict({"input_ids": [tokenizer("a warm film")["input_ids"]]})
        reachable = reachable_tokens(rows, steps)
        drawn = set()
        for seed in range(300):
            row, draw = rows[0], torch.Generator().manual_seed(seed)
            for step in steps:
                row = step.apply(row, draw)
            drawn |= set(row["input_ids"])
        assert drawn <= reachable and len(reachable) > 5 and tokenizer.mask_token_id in reachable
        assert reachable <= drawn | set(rows[0]["input_ids"])
