"""The type of the Auto classes of transformers, which have none in common that is public."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class AutoClass(Protocol):
    """An Auto class of transformers, which makes models with one kind of head."""

    def from_config(self, config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
        """Return a model of this config, initialized at random."""

    def from_pretrained(self, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Any:
        """Return the model of a folder or a hub name, and more if it is asked for."""
