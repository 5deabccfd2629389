"""The base class of forms: changes of a student's architecture that are combined in one YAML mapping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(kw_only=True)
class Form(ABC):
    """One change of a student's architecture; its fields are set by the user.

    The class attributes are flags for the rules in ``students.forms.compatibility``.
    """

    key: ClassVar[str]
    """The key of the student's config that describes the change, one of ``students.models.compact.FORMS``."""
    not_after: ClassVar[tuple[str, ...]] = ()
    """The config keys that a pretrained model must not have yet; within one student, FORMS gives the order."""
    replaces_attention: ClassVar[bool] = False
    """Whether attention is computed in another way, without a relative position bias."""
    shares_layers: ClassVar[bool] = False
    """Whether blocks run the same layers."""
    encoder_only: ClassVar[str] = ""
    """Why a decoder cannot have this form; empty if it can."""

    def check(self, student: PretrainedConfig) -> None:
        """Check the fields against the student's config.

        Raises:
            ValueError: if a field does not fit; the message starts with its name.
        """

    @abstractmethod
    def apply(self, student: PreTrainedModel, batches: Iterable[dict[str, Tensor]], is_trained: bool) -> None:
        """Change a compact model in place, and describe the change in its config, so that it can be repeated on load.

        Args:
            student: with its initial weights and the forms before this one.
            batches: of training; without them only values differ, and no shape.
            is_trained: whether the weights come from a trained model.

        Raises:
            ValueError: if the form is not possible; the message starts with the field.
        """


def check_sizes(settings: object, *names: str, minimum: int = 1) -> None:
    """Raise ValueError if one of these fields of an object is set to a size that is not possible."""
    for name in names:
        size, maximum = getattr(settings, name), MAX_SIZES.get(name, 2**16)
        if size is not None and not minimum <= size <= maximum:
            reason = f"at least {minimum} is needed" if size < minimum else f"at most {maximum:,} are possible"
            raise ValueError(f"{name}: {reason}, not {size}")


MAX_SIZES = {"layers": 1_000, "max_position_embeddings": 2**20}
"""A larger student would take hours to build or run out of memory before any other check."""
