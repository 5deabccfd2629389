"""Models whose output is one vector of a text: a stock encoder, and how the states of its tokens become a vector."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.auto_factory import _get_model_class

from students.models.pooling import Pooling, PoolingMode, read_pooling, write_pooling


def text_vectors(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return the vector of each text, [B, H], in the precision of its states.

    Args:
        states: of the tokens, [B, S, H].
        mask: 1 at tokens and 0 at padding, on either side, [B, S].
        pooling: the mean of the tokens (Reimers and Gurevych 2019, arXiv 1908.10084), the first, or the last one.
    """
    if pooling.mode == "mean":
        weights = mask[..., None].to(states.dtype)
        # Not a product: a state at padding may be infinite.
        total = states.masked_fill(mask[..., None] == 0, 0.0).sum(1)
        vectors = total / weights.sum(1).clamp(min=1)
    else:
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask.ne(0)
        if pooling.mode == "cls":
            places = (mask.shape[1] + 1 - places) * mask.ne(0)
        index = places.argmax(1)[:, None, None].expand(-1, 1, states.shape[-1])
        vectors = states.gather(1, index).squeeze(1)
    return F.normalize(vectors.float(), dim=-1).to(vectors.dtype) if pooling.normalize else vectors


@cache
def vector_model(base: type[PreTrainedModel], pooling: Pooling) -> type[PreTrainedModel]:
    """Return the class of a base model whose output is the vector of each text, as ``logits``.

    It has the name of the base, so that its files are those of a plain base model, without a pooler, which it does not
    need; with them its pooling is saved.
    """

    def build(self: PreTrainedModel, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, config, *args, **kwargs)
        if getattr(self, "pooler", None) is not None:
            self.pooler = None

    def save(self: PreTrainedModel, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        base.save_pretrained(self, save_directory, **kwargs)
        write_pooling(Path(save_directory), pooling, self.config.hidden_size)

    return type(
        base.__name__,
        (base,),
        {
            "__module__": __name__,
            "__doc__": f"A {base.__name__} that gives the vector of a text.",
            "__init__": build,
            "forward": _pooled(base.forward, pooling),
            "pooling": pooling,
            "save_pretrained": save,
            "_keys_to_ignore_on_load_unexpected": [r"^pooler\."],
        },
    )


def _pooled(forward: Callable[..., Any], pooling: Pooling) -> Callable[..., SequenceClassifierOutput]:
    """Return the forward pass of a base model with the vectors of texts as its output."""

    @wraps(forward)  # its parameters tell which inputs the model takes
    def vectors(self: PreTrainedModel, *args: Any, **kwargs: Any) -> SequenceClassifierOutput:
        states = forward(self, *args, **kwargs)[0]
        mask = kwargs.get("attention_mask")
        mask = states.new_ones(states.shape[:2], dtype=torch.long) if mask is None else mask
        return SequenceClassifierOutput(logits=text_vectors(states, mask, pooling))

    return vectors


class AutoModelForVectors:
    """Makes models that give one vector of a text, like an Auto class of transformers.

    Args:
        mode: of the pooling; None for a model's own.
        normalize: whether a vector has length 1; None for a model's own.
    """

    __name__ = "AutoModelForVectors"
    _model_mapping = AutoModel._model_mapping

    def __init__(self, mode: PoolingMode | None = None, normalize: bool | None = None):
        self.mode, self.normalize = mode, normalize

    def from_config(self, config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
        """Return a model of this config, initialized at random; its pooling is read where the config was."""
        return self._class(config, read_pooling(config.name_or_path))._from_config(config, **kwargs)

    def from_pretrained(self, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Any:
        """Return the model of a folder or a hub name, and more if it is asked for; its pooling is read there.

        Raises:
            ValueError: if a text has no vector there, or one that needs more than pooling.
        """
        source = str(pretrained_model_name_or_path)
        config = kwargs.pop("config", None) or AutoConfig.from_pretrained(source, trust_remote_code=False)
        kind = self._class(config, read_pooling(source))
        kwargs.pop("trust_remote_code", None)
        return kind.from_pretrained(source, config=config, trust_remote_code=False, **kwargs)

    def _class(self, config: PretrainedConfig, pooling: Pooling | None) -> type[PreTrainedModel]:
        pooling = pooling or Pooling()
        if config.is_encoder_decoder:
            raise ValueError(f"model: a {config.model_type} has a decoder, and no vector of a text; use its encoder")
        if type(config) not in self._model_mapping:
            raise ValueError(f"model: transformers has no base model of a {config.model_type}")
        mode = self.mode or pooling.mode
        normalize = pooling.normalize if self.normalize is None else self.normalize
        return vector_model(_get_model_class(config, self._model_mapping), Pooling(mode, normalize))
