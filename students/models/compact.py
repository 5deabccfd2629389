"""Compact models: stock models with forms that no stock config can describe.

``import students`` (or this file) registers them with the Auto classes of transformers. A ``compact-bert`` is built as
a BERT, and then changed by each key of ``FORMS`` in its config; it is saved and loaded like any other model.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

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
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
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
from students.families.table import COMPACT, FAMILIES
from students.forms.attention import replace_attention
from students.forms.embeddings import set_embeddings
from students.structure.factored import apply_ranks
from students.structure.hidden import restore_widths, shrink_hidden
from students.structure.resized import resize_blocks
from students.structure.sharing import name_shared_layers, share_layers

FORMS: dict[str, Callable[[PreTrainedModel, Any], None]] = {
    "attention": replace_attention,  # first: blocks that share all layers share the parameters of their attention
    "share_layers": share_layers,  # before ranks: the mean of weights is factored, not the factors averaged
    "ranks": apply_ranks,
    "embeddings": set_embeddings,
    "block_sizes": resize_blocks,
}
"""By the key of the config, the function that applies each form to a model, in this order, before weights are loaded.
``original_widths``, the widths of a model before its hidden dimensions were pruned, are applied last."""


def become_compact(model: PreTrainedModel) -> None:
    """Make a stock model compact, in place; its config then has the keys of ``FORMS``, empty."""
    if not is_compact(model.config):
        register(model.config.model_type)
        # The modules inside share the config object, so it changes in place.
        model.__class__ = compact_model(type(model))
        model.config.__class__ = model.config_class
        model.config.__dict__.pop("model_type", None)  # of a config from a file; it would hide the class's
        for key in ("original_widths", *FORMS):
            setattr(model.config, key, None)


@cache
def compact_config(base: type[PretrainedConfig]) -> type[PretrainedConfig]:
    """Return the config class of a compact model: the stock one with ``original_widths`` and the keys of ``FORMS``."""
    keys = ("original_widths", *FORMS)
    compact = type(
        f"Compact{base.__name__}",
        (base,),
        {
            "__module__": __name__,
            "__annotations__": dict.fromkeys(keys, dict | None),
            **dict.fromkeys(keys),
            "_attn_implementation": property(attn_implementation, PretrainedConfig._attn_implementation.fset),
            "validate_architecture": lambda self: None,  # heads need not divide a pruned hidden size
            "model_type": COMPACT + base.model_type,
            "__doc__": f"A {base.__name__} with forms, pruned from ``original_widths``.",
        },
    )
    return _publish(strict(compact))


@cache
def compact_model(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Return the compact class of a model class: built as the stock one, then changed by the forms of its config."""

    def build(self, config: PretrainedConfig):
        original, size = config.original_widths, config.hidden_size
        if original:
            restore_widths(config)
        base.__init__(self, config)
        for key, apply_form in FORMS.items():
            if (form := getattr(config, key)) is not None:
                apply_form(self, form)
        name_shared_layers(self)
        if original:
            shrink_hidden(self, torch.arange(original["hidden_size"], device="cpu") < size)
            config.original_widths = original

    return _publish(
        type(
            f"Compact{base.__name__}",
            (base,),
            {
                "__module__": __name__,
                "__init__": build,
                "config_class": compact_config(base.config_class),
                "__doc__": f"A {base.__name__} with the forms of its config.",
            },
        )
    )


def _publish(new_class: type) -> type:
    """Make a generated class an attribute of this module, where pickle looks for it."""
    globals()[new_class.__name__] = new_class
    return new_class


_HEADS = {
    AutoModel: MODEL_MAPPING,  # Llama's classifier creates its inner model through it
    AutoModelForSequenceClassification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForTokenClassification: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForQuestionAnswering: MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    AutoModelForMaskedLM: MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForSeq2SeqLM: MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
}


def register(name: str) -> type[PretrainedConfig]:
    """Register the compact models of a family with the Auto classes, and return their config class."""
    stock = CONFIG_MAPPING[name]
    compact = compact_config(stock)
    if CONFIG_MAPPING[COMPACT + name] is not compact:
        AutoConfig.register(COMPACT + name, compact, exist_ok=True)
        for head, models in _HEADS.items():
            if stock in models:
                head.register(compact, compact_model(models[stock]))
        # files may hold the weights under other names than the model, or in parts, as those of experts
        if conversions := get_checkpoint_conversion_mapping(name):
            register_checkpoint_conversion_mapping(COMPACT + name, conversions, overwrite=True)
    return compact


class _Unasked:
    """Stands for the config class of a family's compact models until one is asked for: there are some hundred."""

    stock: ClassVar[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> PretrainedConfig:
        return register(cls.stock)(*args, **kwargs)

    @classmethod
    def from_dict(cls, *args: Any, **kwargs: Any) -> PretrainedConfig:
        return register(cls.stock).from_dict(*args, **kwargs)


for _name in CONFIG_MAPPING_NAMES:
    AutoConfig.register(COMPACT + _name, type("_Unasked", (_Unasked,), {"stock": _name}))
    if _name in FAMILIES:
        register(_name)  # now: their classes may be asked for by name
