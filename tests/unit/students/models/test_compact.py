import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
)

from students.families.families import is_compact
from students.models.compact import become_compact
from students.models.record import record_sizes
from students.structure.resized import block_sizes, resize_blocks
from students.structure.units import neurons, shrink
from tests.helpers.families import batch, tiny
from tests.helpers.students.uneven import uneven


def test_sizes_are_what_they_are_said_to_be():
    blocks = [{"intermediate": 61, "heads": 4}, {"intermediate": 58, "heads": 3}]
    assert uneven("bert").config.block_sizes == {"encoder": blocks}
    assert uneven("albert").config.block_sizes == {"encoder": [{"intermediate": 61, "heads": 3}]}


def test_a_model_that_was_read_from_a_folder_becomes_one_of_ours_once(tmp_path):
    tiny("bert").save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for _ in range(2):
        become_compact(model)
        assert is_compact(model.config) and model.config.model_type == "compact-bert"
    model.save_pretrained(tmp_path)
    assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is type(model)


def test_copies_and_pickles():
    model, inputs = uneven("bert"), batch("bert")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model) and torch.equal(other(**inputs).logits, model(**inputs).logits)


def test_the_bare_model_and_the_tokenizer_load_from_the_folder_too(tmp_path):
    model = uneven("bert")
    model.save_pretrained(tmp_path)
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"]))
    BertTokenizer(str(words)).save_pretrained(tmp_path)
    assert block_sizes(AutoModel.from_pretrained(tmp_path)) == block_sizes(model)
    assert AutoTokenizer.from_pretrained(tmp_path)("good")["input_ids"] == [2, 5, 3]


@pytest.mark.slow
def test_without_us_transformers_says_that_it_does_not_know_the_type(tmp_path):
    uneven("bert").save_pretrained(tmp_path)
    code = f"from transformers import AutoConfig; AutoConfig.from_pretrained({str(tmp_path)!r})"
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "`compact-bert`" in done.stderr and "ValueError" in done.stderr


def test_a_model_that_was_loaded_becomes_one_of_ours_once(tmp_path):
    tiny("bert").save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for _ in range(2):
        shrink(neurons(model)[0], torch.arange(neurons(model)[0].count) > 0)
        record_sizes(model)
        assert model.config.model_type == "compact-bert" and type(model).__name__.count("Compact") == 1


def test_equal_blocks_and_all_heads_stay_stock():
    model = tiny("gpt2")
    for units in neurons(model):
        shrink(units, torch.arange(units.count) < 40)
    record_sizes(model)
    assert model.config.model_type == "gpt2" and model.config.n_inner == 40


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"encoder": [{"intermediate": 8, "heads": 2}]}, "does not list the blocks"),
        ({"decoder": [{"intermediate": 8, "heads": 2}] * 2}, "does not list the blocks"),
        ({"encoder": [{"intermediate": 65, "heads": 2}] * 2}, "encoder.0.ffn has 64 units, not 65"),
        ({"encoder": [{"intermediate": 8, "heads": -1}] * 2}, "encoder.0.self has 4 units, not -1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wanted, message):
    with pytest.raises(ValueError, match=f"^block_sizes: .*{message}"):
        resize_blocks(tiny("bert"), wanted)


def test_it_can_be_exported_with_any_batch_and_length():
    model, inputs = uneven("bert"), batch("bert")
    inputs.pop("labels")
    shapes = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in inputs}
    program = torch.export.export(model, (), inputs, dynamic_shapes=shapes)
    wider = {name: tensor for name, tensor in batch("bert", size=5, length=11).items() if name in inputs}
    torch.testing.assert_close(program.module()(**wider).logits, model(**wider).logits)
