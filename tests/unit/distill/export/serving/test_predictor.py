"""A deployed student answers as transformers' own classes do, whatever is batched with a text."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    pipeline,
)

from distill import load
from distill.config.errors import ConfigError
from distill.export.export import write_onnx
from distill.export.serving.deployment import Deployment
from distill.export.serving.folder import write_folder
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.language.masked import MaskedLM
from distill.tasks.kinds.language.sequences import Seq2Seq
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.spans import QuestionAnswering
from distill.tasks.kinds.texts import Classification, Regression
from distill.tasks.kinds.tokens import TokenClassification
from distill.tasks.task import Task
from quant_aware.export.packed import FILE as PACKED
from quant_aware.export.packed import QuantizedInputs, save_packed
from quant_aware.quantizers.activations import ActivationQuantizer
from tests.helpers.repositories import GOOD, NOUNS, save_tokenizer

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
TEXTS = ["a bright film", "this is one very dull and messy ending of a film", "script", "not a warm plot"]


def bert(cls: type, size: int, labels: list[str] | None = None, **settings: Any) -> PreTrainedModel:
    names = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}} if labels else {}
    torch.manual_seed(0)
    return cls(BertConfig(vocab_size=size, max_position_embeddings=64, **SIZES, **names, **settings)).eval()


def save(folder: Path, model: PreTrainedModel, task: Task, columns: dict[str, dict[str, str]]) -> Path:
    """A run's folder with a student, as ``write_report`` leaves it."""
    model.save_pretrained(folder / "student")
    Deployment(imports=[], task=task, columns=columns, labels={}, name="x").write(folder / "student")
    return folder


@pytest.fixture
def size(tmp_path: Path) -> int:
    """The size of the vocabulary of the tokenizer in ``student``."""
    return save_tokenizer(tmp_path / "student")


@pytest.fixture
def classifier(tmp_path: Path, size: int) -> Path:
    model = bert(BertForSequenceClassification, size, ["bad", "good", "neither"])
    return save(tmp_path, model, Classification(data="x.csv"), {"": {"review": "text", "label": "label"}})


def test_a_classifier_answers_as_the_pipeline_does(classifier: Path) -> None:
    predictor = load(classifier)
    assert predictor.columns == ["review"]
    expected = pipeline("text-classification", str(classifier / "student"), top_k=None)
    for text, answer in zip(TEXTS, predictor(TEXTS, batch_size=2), strict=True):
        (scores,) = expected([text])
        assert answer["scores"] == pytest.approx({entry["label"]: entry["score"] for entry in scores}, abs=1e-6)
        assert answer["label"] == scores[0]["label"] and answer["score"] == max(answer["scores"].values())


def test_one_text_is_one_answer_and_no_text_is_none(classifier: Path) -> None:
    predictor = load(classifier)
    assert predictor(TEXTS[1])["scores"] == pytest.approx(predictor(TEXTS)[1]["scores"], abs=1e-6)
    assert predictor({"review": TEXTS[0], "id": 7}) == predictor(TEXTS[0])
    assert predictor([]) == []


def test_the_student_alone_is_enough(classifier: Path, tmp_path: Path) -> None:
    (classifier / "student").rename(tmp_path / "served")
    assert load(tmp_path / "served")(TEXTS[0])["label"] in ("bad", "good", "neither")


def test_the_exported_file_is_preferred(classifier: Path) -> None:
    in_torch = load(classifier)
    batch = dict(in_torch.task.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    write_onnx(in_torch.model, batch, classifier / "student.onnx", None)
    exported = load(classifier)
    assert exported.path.name == "student.onnx" and exported.model is None
    assert load(classifier, "torch").path.name == "student"
    for answer, expected in zip(exported(TEXTS), in_torch(TEXTS), strict=True):
        assert answer["scores"] == pytest.approx(expected["scores"], abs=1e-5)


def test_an_exported_folder_keeps_the_codes_and_the_rounded_inputs(classifier: Path, tmp_path: Path) -> None:
    """Its plain weights alone would answer otherwise."""
    plain = load(classifier)
    layers = [name for name, module in plain.model.named_modules() if isinstance(module, torch.nn.Linear)]
    inputs = QuantizedInputs(ActivationQuantizer(bits=3), layers)
    save_packed(dict(plain.model.named_parameters()), {}, classifier / PACKED, inputs)
    write_folder(classifier, tmp_path / "deployed")
    packed, deployed = load(classifier), load(tmp_path / "deployed")
    assert packed.path.name == deployed.path.name == PACKED
    for text in TEXTS:
        assert deployed(text) == packed(text) != plain(text)


def test_a_pair_is_a_tuple(tmp_path: Path, size: int) -> None:
    model = bert(BertForSequenceClassification, size, num_labels=1, problem_type="regression")
    columns = {"": {"sentence1": "text 1 of 2", "sentence2": "text 2 of 2", "label": "label"}}
    predictor = load(save(tmp_path, model, Regression(data="x.csv"), columns))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    for pair, answer in zip(pairs, predictor(pairs), strict=True):
        expected = model(**tokenizer(*pair, return_tensors="pt")).logits
        assert answer == {"score": pytest.approx(expected.item(), abs=1e-6)}
    with pytest.raises(ValueError, match="an input has 2 parts: sentence1, sentence2"):
        predictor("one text")


def test_words_have_a_label_each(tmp_path: Path, size: int) -> None:
    model = bert(BertForTokenClassification, size, ["O", "B-X"])
    predictor = load(save(tmp_path, model, TokenClassification(data="x.jsonl", max_length=12), {"": {}}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    words = ["a", "zebra", "film"]
    encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    scores = model(**encoded).logits.softmax(-1)[0]
    first = [encoded.word_ids(0).index(i) for i in range(3)]
    answers = predictor([words, "a zebra film", ["zebra"] * 9])
    assert answers[0] == answers[1]
    assert [entry["word"] for entry in answers[0]["words"]] == words
    for entry, token in zip(answers[0]["words"], first, strict=True):
        assert entry["label"] == ["O", "B-X"][scores[token].argmax()]
        assert entry["score"] == pytest.approx(scores[token].max().item(), abs=1e-6)
    assert 0 < len(answers[2]["words"]) < 9, "truncated words have no label"


def test_an_answer_is_a_span_of_the_context(tmp_path: Path, size: int) -> None:
    model = bert(BertForQuestionAnswering, size)
    predictor = load(save(tmp_path, model, QuestionAnswering(data="x", max_length=32), {"": {}}))
    context = "this film is one very warm comedy of a bright actor"
    for answer in predictor([("what is it", context), ("and", "a film")]):
        assert set(answer) == {"answer", "begin", "end", "score"} and 0 < answer["score"] <= 1
    answer = predictor(("what is it", context))
    assert context[answer["begin"] : answer["end"]] == answer["answer"] != ""


def test_masks_are_filled(tmp_path: Path, size: int) -> None:
    model = bert(BertForMaskedLM, size)
    predictor = load(save(tmp_path, model, MaskedLM(data="x"), {"": {"line": "text"}}))
    (expected,) = pipeline("fill-mask", str(tmp_path / "student"), top_k=1)("a [MASK] film")
    (token,) = predictor("a [MASK] film")["tokens"]
    assert token == {"text": expected["token_str"], "score": pytest.approx(expected["score"], abs=1e-6)}
    assert predictor("no mask") == {"tokens": []}


def test_a_decoder_writes_on_whatever_is_batched_with_a_text(tmp_path: Path, size: int) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=size, n_embd=24, n_layer=2, n_head=4, n_positions=64, eos_token_id=1, bos_token_id=1)
    model = GPT2LMHeadModel(config).eval()
    predictor = load(save(tmp_path, model, CausalLM(data="x", max_length=6), {"": {"line": "text"}}))
    together = predictor(TEXTS)
    assert together == [predictor(text) for text in TEXTS] and all(answer["text"] for answer in together)
    with pytest.raises(ConfigError, match="a text is written by torch"):
        load(tmp_path, "onnxruntime")


def test_an_encoder_decoder_writes(tmp_path: Path, size: int) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=size,
        d_model=24,
        d_ff=32,
        d_kv=6,
        num_heads=4,
        num_layers=2,
        decoder_start_token_id=0,
        eos_token_id=3,
    )
    model = T5ForConditionalGeneration(config).eval()
    predictor = load(save(tmp_path, model, Seq2Seq(data="x", source="en", target="de", max_length=5), {"": {}}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    tokens = model.generate(tokenizer(TEXTS[0], return_tensors="pt")["input_ids"], max_new_tokens=5, do_sample=False)
    assert predictor(TEXTS[0]) == {"text": tokenizer.decode(tokens[0], skip_special_tokens=True)}
    assert predictor(TEXTS)[0] == predictor(TEXTS[0])


def test_one_of_several_tasks(tmp_path: Path, size: int) -> None:
    model = bert(BertForSequenceClassification, size, ["mood/bad", "mood/good", "near/"])
    task = MultiTask(tasks={"mood": Classification(data="x"), "near": Regression(data="y")})
    folder = save(tmp_path, model, task, {"mood": {"text": "text"}, "near": {"a": "text 1 of 2", "b": "text 2 of 2"}})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    logits = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0]
    answer = load(folder, task="mood")(TEXTS[0])
    expected = logits[:2].softmax(-1).tolist()
    assert answer["scores"] == pytest.approx({"bad": expected[0], "good": expected[1]}, abs=1e-6)
    near = model(**tokenizer("a film", "the film", return_tensors="pt")).logits[0, 2]
    assert load(folder, task="near")(("a film", "the film")) == {"score": pytest.approx(float(near), abs=1e-6)}
    with pytest.raises(ConfigError, match="the model has several tasks, mood, near; choose one with task"):
        load(folder)
    with pytest.raises(ConfigError, match="there is no task 'mod'; did you mean 'mood'"):
        load(folder, task="mod")


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder; name the folder of a run"):
        load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is not the folder of a run, nor of a student: it has no task.yaml"):
        load(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="the run is not finished; continue it with --resume"):
        load(tmp_path)


def test_what_is_no_text_is_refused(classifier: Path) -> None:
    predictor = load(classifier)
    for value in (7, None, ["a", "b"]):
        with pytest.raises(ValueError, match="is not a text"):
            predictor([value])
    with pytest.raises(ValueError, match="an input lacks review; the model reads review"):
        predictor({"text": "a film"})


def test_many_texts_of_many_lengths_keep_their_order(classifier: Path) -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(GOOD + NOUNS, k=draw.randint(1, 12))) for _ in range(40)]
    predictor = load(classifier)
    for text, answer in zip(texts, predictor(texts, batch_size=7), strict=True):
        assert answer["scores"] == pytest.approx(predictor(text)["scores"], abs=1e-6)
