"""A tiny run that does everything: data, teacher and config in a temporary folder."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distill.evaluation.measure import measure_latencies
from distill.reporting.page import render
from tests.helpers.repositories import save_sst2, save_tiny_bert, save_tokenizer
from tests.helpers.runs import CONFIG

# The examples of property tests are the same in every run.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


def unwritten(report: dict, rows: list[dict], details: dict) -> str:
    """The page, its figures made but not written out as SVG."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.reporting.page.svg", lambda figure: "<svg></svg>")
        return render(report, rows, details)


@pytest.fixture(autouse=True, scope="session")
def brief() -> Iterator[None]:
    """Measure each latency in five rounds and not for seconds, resample metrics a few times, export no teacher,
    and draw no pictures, which take as long as a small run.

    For runs in fixtures of a module too; a test of the pictures sets ``render`` back.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.evaluation.evaluate.measure_latencies", partial(measure_latencies, seconds=0.0))
        patch.setattr("distill.reporting.publish.render", unwritten)
        patch.setattr("distill.evaluation.intervals.RESAMPLES", 20)
        patch.setattr("distill.runner.exported_teacher", lambda *given: nullcontext())
        yield


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test leaves in the environment goes with it: after a run under DDP Lightning leaves ``LOCAL_RANK``, by
    which the next one would start no second process.
    """
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For int8 LSTMs in onnxruntime: of several threads each has rows of their own, and the range of their states."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_of_one() -> Iterator[None]:
    """Lightning leaves the group of processes that it made, and another test may want its own."""
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """A tokenizer for the tests of the data."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def materials(tmp_path_factory) -> Path:
    """A folder with ``data`` (64 and 16 rows) and ``teacher`` (4 layers, in half precision as real ones often are)."""
    folder = tmp_path_factory.mktemp("materials")
    save_sst2(folder / "repository", 64)
    (folder / "data").mkdir()
    for split in ("train", "validation"):
        (folder / "repository" / "sst2" / f"{split}-00000-of-00001.parquet").rename(
            folder / "data" / f"{split}.parquet"
        )
    save_tiny_bert(folder / "teacher", layers=4, hidden=32, heads=4, labels=["negative", "positive"])
    return folder


@pytest.fixture
def tiny_run(materials, tmp_path) -> Path:
    """The config file of a run of 16 steps whose output goes to a folder of its own."""
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=tmp_path / "runs"))
    return file
