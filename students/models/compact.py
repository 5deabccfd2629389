"""Models of a form that no stock config can say: built as the stock ones, altered as their config says, then loaded.

``import students`` (or this file) makes transformers know them: a ``compact-bert`` is a BERT that is built as its
config says, and then altered by each key of ``FORMS`` that its config holds; they are saved and loaded like any other.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)

from students.attention.interface import attn_implementation
from students.families.families import is_compact
from students.families.table import COMPACT, FAMILIES, RECURRENT
from students.forms.attention import replace_attention
from students.forms.embeddings import set_embeddings
from students.structure.factored import apply_ranks
from students.structure.hidden import restore_widths, shrink_hidden
from students.structure.resized import resize_blocks
from students.structure.sharing import name_shared_layers, share_layers

FORMS: dict[str, Callable[[PreTrainedModel, Any], None]] = {
    "attention": replace_attention,  # first: blocks that share all layers share what an attention learns
    "share_layers": share_layers,  # before ranks: the mean of weights is factored, once; the mean of factors is no mean
    "ranks": apply_ranks,
    "embeddings": set_embeddings,
    "block_sizes": resize_blocks,
}
"""By the key of the config that holds it, each form: what brings a model to it, in this order, before weights are
loaded. ``built``, the widths that a model was built with before it was cut to those of its config, comes last."""


def become_compact(model: PreTrainedModel) -> None:
    """Make a stock model one of ours, in place; its config then has the keys of ``FORMS``, empty."""
    if not is_compact(model.config):
        # The config objects are shared with the modules inside, which read them: they change in place.
        model.__class__ = compact_model(type(model))
        model.config.__class__ = model.config_class
        model.config.__dict__.pop("model_type", None)  # one that was read from a file has it, and it hides the class's
        for key in ("original_widths", *FORMS):
            setattr(model.config, key, None)


@cache
def compact_config(base: type[PretrainedConfig]) -> type[PretrainedConfig]:
    """The config of the compact models of a family: the stock one, ``built`` and the keys of ``FORMS``."""
    keys = ("original_widths", *FORMS)
    made = type(
        f"Compact{base.__name__}",
        (base,),
        {
            "__module__": __name__,
            "__annotations__": dict.fromkeys(keys, dict | None),
            **dict.fromkeys(keys),
            "_attn_implementation": property(attn_implementation, PretrainedConfig._attn_implementation.fset),
            "validate_architecture": lambda self: None,  # heads need not divide a hidden size that was cut
            "model_type": COMPACT + base.model_type,
            "__doc__": f"A {base.__name__} of a form of its own, cut from the widths ``built``.",
        },
    )
    return _publish(strict(made))


@cache
def compact_model(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The compact form of a model class: built as the stock one, then altered as its config says."""

    def build(self, config: PretrainedConfig):
        built, size = config.original_widths, config.hidden_size
        if built:
            restore_widths(config)
        base.__init__(self, config)
        for key, alter in FORMS.items():
            if (form := getattr(config, key)) is not None:
                alter(self, form)
        name_shared_layers(self)
        if built:
            shrink_hidden(self, torch.arange(built["hidden_size"], device="cpu") < size)
            config.original_widths = built

    return _publish(
        type(
            f"Compact{base.__name__}",
            (base,),
            {
                "__module__": __name__,
                "__init__": build,
                "config_class": compact_config(base.config_class),
                "__doc__": f"A {base.__name__} of the form that its config names.",
            },
        )
    )


def _publish(made: type) -> type:
    """Give a class made here a place in this module, where pickle looks for it."""
    globals()[made.__name__] = made
    return made


_HEADS = {
    AutoModel: MODEL_MAPPING,  # Llama's classifier makes its inner model through it
    AutoModelForSequenceClassification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForTokenClassification: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForQuestionAnswering: MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    AutoModelForMaskedLM: MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForSeq2SeqLM: MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
}
for _family in (name for name in FAMILIES if name != RECURRENT):
    _stock = CONFIG_MAPPING[_family]
    AutoConfig.register(COMPACT + _family, compact_config(_stock))
    for _head, _models in _HEADS.items():
        if _stock in _models:
            _head.register(compact_config(_stock), compact_model(_models[_stock]))
