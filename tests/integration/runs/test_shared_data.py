"""The configs of our own measurements on a few rows of the shared data, where these are: every run to its report."""

import re
from math import isfinite
from pathlib import Path

import pyarrow.parquet
import pytest
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks.inputs.translator import train_tokenizer
from distill import run
from distill.evaluation.measure import measure_latencies

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared"
CONFIGS = [
    "sst2-structured",
    "bilstm",
    "shared",
    "stsb-sparse",
    "mt-dnn",
    "wnut17",
    "stsb",
    "squad",
    "wikitext",
    "stories",
    "multi30k",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data"),
    pytest.mark.filterwarnings("ignore"),
]


def few(source: Path, folder: Path) -> Path:
    """A copy of a data file, or of a folder of them, with its first 24 rows."""
    if source.is_dir():
        for file in source.glob("*.parquet"):
            few(file, folder / source.name)
        return folder / source.name
    folder.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(source).slice(0, 24), folder / source.name)
    return folder / source.name


def save_translator(folder: Path) -> None:
    """A tiny T5 with random weights that reads the pairs."""
    pairs = pyarrow.parquet.read_table(SHARED / "data" / "multi30k_en_de" / "validation.parquet")
    tokenizer = train_tokenizer([*pairs["en"].to_pylist(), *pairs["de"].to_pylist()], 500)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_run_of_a_config_comes_to_its_report(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "distill.evaluation.evaluate.measure_latencies",
        lambda models, batches: measure_latencies(models, batches, seconds=0.1),
    )
    (tmp_path / "data").mkdir()
    save_translator(tmp_path / "t5")
    (file,) = (ROOT / "benchmarks" / "configs").glob(f"*/{name}.yaml")
    text = file.read_text().replace("google-t5/t5-small", str(tmp_path / "t5"))
    for path in set(re.findall(r"\.\./shared/data/[\w/.]+", text)):
        text = text.replace(path, str(few(ROOT / path, tmp_path / "data")))
    more = re.search(r"data: ([^,\s}]+)", text)[1] + "/train.parquet"
    text = re.sub(r"unlabelled: runs/\w+\.parquet", f"unlabelled: {more}", text)
    text = re.sub(r"batch_size: \d+", "batch_size: 2", text)
    (tmp_path / f"{name}.yaml").write_text(text.replace("../shared/models", str(SHARED / "models")))
    report = run(
        tmp_path / f"{name}.yaml",
        output=str(tmp_path / "runs"),
        **{"trainer.max_epochs": 1, "trainer.accelerator": "cpu"},
    )
    for folder in (tmp_path / "runs").glob("[!.]*"):
        assert (folder / "report.json").exists() and (folder / "student" / "config.json").exists(), folder.name
    assert {"teacher", "student"} <= report.models.keys()
    for name, value in ((name, value) for model in report.models.values() for name, value in model.metrics.items()):
        # a correlation may be below 0, and is none where a model says nearly the same of all the few rows
        assert value >= -1 if isfinite(value) else name.endswith(("pearson", "spearman", "mean")), (name, value)
