"""Models whose vocabulary was cut say the same of the tokens that stayed, in all families, also when loaded again."""

import pytest
import torch
from transformers import AutoTokenizer

from students.tokenizer.vocabulary import cut_vocabulary, model_configs, select_vocabulary
from tests.helpers.families import tiny
from tests.helpers.repositories import save_tokenizer

KEEP = torch.tensor([0, 1, 2, 3, *range(5, 100, 3), 99])


def test_ids_in_configs_follow():
    model = tiny("t5", head="language")
    model.config.eos_token_id = model.generation_config.eos_token_id = [1, 8]
    model.config.bos_token_id, model.config.sep_token_id = 6, 11
    cut_vocabulary(model, KEEP)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == [1, 5]
    assert model.config.bos_token_id is None and model.config.sep_token_id == 6
    assert [config.decoder_start_token_id for config in model_configs(model)] == [0] * 4


def test_padding_moves_with_its_token():
    model = tiny("bert")
    model.get_input_embeddings().padding_idx = model.config.pad_token_id = 99
    cut_vocabulary(model, KEEP)
    assert model.get_input_embeddings().padding_idx == model.config.pad_token_id == len(KEEP) - 1


class TestSmaller:
    def test_keeps_what_the_config_names(self, tmp_path):
        size = save_tokenizer(tmp_path)
        tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), tiny("bert", vocab=size)
        model.config.decoder_start_token_id, model.config.eos_token_id = size - 1, size + 5
        vocabulary = select_vocabulary(tokenizer, {size - 3}, model)
        assert {size - 1, size - 3} <= set(vocabulary.keep.tolist()) and size - 2 not in vocabulary.keep
        assert (vocabulary.num_before, len(vocabulary.tokenizer)) == (size, len(vocabulary.keep))

    def test_a_model_with_fewer_rows_is_refused(self, tmp_path):
        size = save_tokenizer(tmp_path)
        with pytest.raises(ValueError, match=f"a token {size - 1}, and the model only {size - 1} rows"):
            select_vocabulary(AutoTokenizer.from_pretrained(tmp_path), {size - 1}, tiny("bert", vocab=size - 1))

    def test_positions_that_are_counted_from_the_padding_are_not_moved(self, tmp_path):
        size = save_tokenizer(tmp_path)
        tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), tiny("roberta", vocab=size)
        select_vocabulary(tokenizer, {size - 1}, model)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(size - 1)
        with pytest.raises(ValueError, match="counts positions from the id of the padding token"):
            select_vocabulary(tokenizer, {size - 1}, model)
