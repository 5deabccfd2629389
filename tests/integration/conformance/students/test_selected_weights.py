"""The linear layers of every family are selected by place, each once."""

from torch import nn
from transformers.pytorch_utils import Conv1D

from students.structure.places import select_modules
from tests.helpers.families import tiny

LINEAR_LAYERS = {
    "bert": (8, 4),
    "roberta": (8, 4),
    "electra": (8, 4),
    "distilbert": (8, 4),
    "albert": (4, 2),
    "gpt2": (4, 4),
    "llama": (8, 6),
    "t5": (24, 8),
}


def test_the_linear_layers_of_the_blocks_are_found_once_each(name):
    model = tiny(name)
    attention, ffn = LINEAR_LAYERS[name]
    for where, count in (("attention", attention), ("ffn", ffn)):
        chosen, skipped = select_modules(model, [where])
        assert (len(chosen), skipped) == (count, {})
        assert all(model.get_submodule(path) is module for path, module in chosen.items())


def test_everything_linear_is_attention_ffn_or_head(name):
    model = tiny(name)
    chosen, _ = select_modules(model, ["attention", "ffn", "head"])
    linear = {path for path, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    assert set(chosen) == linear
