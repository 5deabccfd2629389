"""A text encoder runs from data to a folder that sentence-transformers loads, with the same vectors everywhere."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedTokenizerFast

from distill import load
from students.models.pooling import Pooling, write_pooling
from tests.helpers import runs
from tests.helpers.repositories import save_tokenizer, sentences

CONFIG = """\
task: {{name: embedding, data: {folder}/data, max_length: 16, batch_size: 8}}
teacher: {folder}/teacher
student: {{kind: Transformer, layers: 1}}
losses: {{cosine: {{kind: VectorCosine}}}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 1, accelerator: cpu}}
output: {folder}/runs
"""
TEXTS = ["a great film", "the plot is dull", "warm"]


trained, refusal = partial(runs.trained, CONFIG), partial(runs.refusal, CONFIG)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with pairs of texts as ``data``, and a ``teacher`` that normalizes the mean."""
    folder = tmp_path_factory.mktemp("embedding")
    (folder / "data").mkdir()
    for seed, (split, count) in enumerate({"train": 24, "validation": 12}.items()):
        texts = [row["sentence"] for row in sentences(2 * count, seed)]
        rows = [{"sentence1": texts[2 * i], "sentence2": texts[2 * i + 1], "score": i % 5 / 4} for i in range(count)]
        Dataset.from_list(rows).rename_column("score", "label").to_parquet(folder / "data" / f"{split}.parquet")
    size = save_tokenizer(folder / "teacher")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=size, max_position_embeddings=32, **sizes)).save_pretrained(folder / "teacher")
    write_pooling(folder / "teacher", Pooling("mean", True), 24)
    return folder


def vectors(folder: Path, runtime: str | None = None) -> np.ndarray:
    return np.array([answer["vector"] for answer in load(folder, runtime=runtime)(TEXTS)])


def test_the_vectors_are_those_of_sentence_transformers_and_of_onnx(world):
    folder = trained(world, "plain", ("output", "export: onnx\noutput"))
    library = SentenceTransformer(str(folder / "student"), device="cpu")
    expected = library.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors(folder, "torch"), expected, atol=1e-5)
    np.testing.assert_allclose(vectors(folder, "onnxruntime"), expected, atol=1e-5)
    assert library.max_seq_length == 16
    report = json.loads((folder / "report.json").read_text())
    assert report["main_metric"] == "spearman"
    assert report["models"]["teacher"]["metrics"].keys() == {"spearman", "pearson"}
    low, high = report["models"]["student"]["intervals"]["spearman"]
    assert low < report["models"]["student"]["metrics"]["spearman"] < high
    assert "SentenceTransformer" in (folder / "student" / "README.md").read_text()


def test_an_int8_student_that_is_pruned_and_cut_gives_the_same_vectors_in_its_files(world):
    prune = "prune: {kind: Magnitude, shape: neurons, sparsity: {kind: Cubic, to: 0.5, start: 10%, stop: 60%}}"
    folder = trained(world, "small", ("output", f"{prune}\nquantize: {{start: 50%}}\noutput"))
    model = AutoModel.from_pretrained(folder / "student")
    assert model.config.intermediate_size == 24
    expected = SentenceTransformer(str(folder / "student"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(folder, "torch"), expected, atol=1e-5)
    report = json.loads((folder / "report.json").read_text())
    assert report["exports"][0]["precision"].endswith("int8")
    cosines = (vectors(folder, "onnxruntime") * expected).sum(1)
    assert cosines.min() > 0.98


def test_a_narrow_student_learns_through_a_projection_that_is_not_deployed(world):
    student = "layers: 1, hidden: 12, heads: 2, intermediate: 24, weights: random"
    losses = "VectorMSE, dims: [6, 12]}, similarity: {kind: SimilarityKL, dims: [6, 12]"
    folder = trained(world, "narrow", ("layers: 1", student), ("VectorCosine", losses))
    assert vectors(folder).shape == (3, 12)
    names = {name for name, _ in AutoModel.from_pretrained(folder / "student").named_parameters()}
    assert not any("projection" in name for name in names)


def test_static_vectors_start_from_the_teachers(world):
    change = ("kind: Transformer, layers: 1", "kind: Static, width: 8")
    folder = trained(world, "static", change, ("VectorCosine", "SimilarityKL"))
    import students  # noqa: F401 — registers static models for the library

    expected = SentenceTransformer(str(folder / "student"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(folder), expected, atol=1e-5)


def test_a_form_is_kept(world):
    folder = trained(world, "form", ("layers: 1", "low_rank: {rank: 8}"))
    found = vectors(folder)
    assert found.shape == (3, 24) and np.isfinite(found).all()


def test_a_teacher_may_read_tokens_of_its_own(world):
    words = sorted({word for row in sentences(100, 3) for word in row["sentence"].split()})
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<pad>", "<unk>", *words])}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    tokenizer.save_pretrained(world / "decoder")
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=32)
    torch.manual_seed(0)
    GPT2Model(config).save_pretrained(world / "decoder")
    write_pooling(world / "decoder", Pooling("last"), 16)
    student = f"student: {{kind: Pretrained, model: {world}/teacher}}"
    change = ("student: {kind: Transformer, layers: 1}", student)
    folder = trained(world, "own", (f"teacher: {world}/teacher", f"teacher: {world}/decoder"), change)
    report = json.loads((folder / "report.json").read_text())
    model, texts = (
        AutoModel.from_pretrained(world / "decoder").eval(),
        Dataset.from_parquet(str(world / "data" / "validation.parquet"), cache_dir=str(world / "cache")),
    )
    tokenizer = AutoTokenizer.from_pretrained(world / "decoder")
    cosines = []
    for row in texts:
        ids = [torch.tensor([tokenizer(row[name])["input_ids"][:16]]) for name in ("sentence1", "sentence2")]
        with torch.no_grad():
            cosines.append(float(torch.cosine_similarity(*(model(i).last_hidden_state[0, -1] for i in ids), dim=0)))
    expected = spearmanr(cosines, texts["label"][:]).statistic
    assert report["models"]["teacher"]["metrics"]["spearman"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "VectorCosine",
            "Labels",
            "losses.cosine: compares predictions, and embedding gives vectors; use",
        ),
        ("VectorCosine", "LogitsMSE", "losses.cosine: compares predictions, and embedding gives vectors"),
        ("teacher: {folder}/teacher\n", "", "task: learns a teacher's vectors, and the run has no teacher"),
        ("name: embedding", "name: regression", "losses.cosine: compares vectors; embedding and search give them"),
        ("max_length: 16", "max_length: 16, pooling: max", "task.pooling: "),
    ],
)
def test_what_does_not_fit_is_refused(world, old, new, message):
    changes = [(old.format(folder=world), new)]
    if not new:  # and without a teacher the student is a model
        changes.append(("kind: Transformer, layers: 1", f"kind: Pretrained, model: {world}/teacher"))
    assert message in refusal(world, *changes)


def test_tokens_that_no_text_has_are_cut_from_both_texts_of_a_pair(world):
    folder = trained(world, "cut", ("output", "vocabulary: seen\noutput"))
    report = json.loads((folder / "report.json").read_text())
    assert report["parity"]["vocabulary"] < 1e-5
    expected = SentenceTransformer(str(folder / "student"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(folder), expected, atol=1e-5)
    sizes = [AutoModel.from_pretrained(path).config.vocab_size for path in (folder / "student", world / "teacher")]
    assert sizes[0] < sizes[1]
    rows = Dataset.from_parquet(str(world / "data" / "validation.parquet"), cache_dir=str(world / "cache"))
    library = SentenceTransformer(str(folder / "student"), device="cpu")
    left, right = (torch.tensor(library.encode(rows[name][:])) for name in ("sentence1", "sentence2"))
    expected = spearmanr(torch.cosine_similarity(left, right), rows["label"][:]).statistic
    assert report["models"]["student"]["metrics"]["spearman"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("mode", ["cls", "last"])
def test_the_place_of_a_token_is_found_in_onnx(world, mode):
    """ONNX Runtime has no ArgMax of int64 (sentence-transformers 2510)."""
    folder = trained(
        world, mode, ("max_length: 16", f"max_length: 16, pooling: {mode}"), ("output", "export: onnx\noutput")
    )
    expected = SentenceTransformer(str(folder / "student"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(folder, "onnxruntime"), expected, atol=1e-5)
    np.testing.assert_allclose(vectors(folder, "torch"), expected, atol=1e-5)


def test_half_precision_trains(world):
    folder = trained(
        world, "half", ("VectorCosine", "SimilarityKL"), ("max_epochs: 1", "max_epochs: 1, precision: bf16-mixed")
    )
    rows = (folder / "metrics.csv").read_text()
    assert "nan" not in rows.lower()


def test_an_encoder_is_judged_by_what_it_finds(world):
    """The metric is that of the vectors that sentence-transformers gives."""
    (world / "pairs").mkdir()
    for split in ("train", "validation"):
        table = Dataset.from_parquet(str(world / "data" / f"{split}.parquet"), cache_dir=str(world / "cache"))
        table = table.remove_columns("label")
        table.to_parquet(world / "pairs" / f"{split}.parquet")
    changes = (("name: embedding", "name: search"), ("/data", "/pairs"), ("output", "export: onnx\noutput"))
    folder = trained(world, "found", *changes)
    report = json.loads((folder / "report.json").read_text())
    student = report["models"]["student"]
    assert report["main_metric"] == "ndcg_10" and student["metrics"].keys() == {"ndcg_10", "recall_10", "mrr_10"}
    library = SentenceTransformer(str(folder / "student"), device="cpu")
    texts = [table[name][:] for name in ("sentence1", "sentence2")]
    assert [len(set(column)) for column in texts] == [12, 12]
    queries, passages = map(library.encode, texts)
    ranks = [1 + int((line > line[number]).sum()) for number, line in enumerate(queries @ passages.T)]
    expected = np.mean([1 / rank if rank <= 10 else 0 for rank in ranks])
    assert student["metrics"]["mrr_10"] == pytest.approx(expected, abs=1e-6)
    low, high = student["intervals"]["mrr_10"]
    assert low < expected < high
