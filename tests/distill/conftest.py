"""A tokenizer for the tests of the data."""

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.repositories import save_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)
