"""Check which forms a student can have: rules over the flags of forms and the facts of its config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from students.families.families import family, is_causal, is_cut, is_watched, own_kind, repeats_blocks, require
from students.forms.form import Form

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_forms(forms: dict[str, Form], student: PretrainedConfig) -> None:
    """Check forms against the student that they will change.

    Args:
        forms: by YAML key.
        student: the config before any form is applied.

    Raises:
        ValueError: if a form is not possible; the message starts with its key, and its field if one is at fault.
    """
    for key, form in forms.items():
        if reason := refusal(form, student):
            raise ValueError(f"{key}: {reason}")
        try:
            require(student, "structure")
            form.check(student)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error


def refusal(form: Form, student: PretrainedConfig) -> str:
    """Return why a student of this config cannot have a form; an empty text if it can."""
    kind, model = type(form).__name__, student.model_type
    if own := own_kind(student):
        return f"forms change Transformers, and this is a {own}"
    if is_cut(student):
        return f"the model is pruned already; set {kind} in the run that prunes it"
    if present := [key for key in form.not_after if getattr(student, key, None)]:
        return f"the model has {' and '.join(present)} already, and {kind} must be applied before"
    if form.replaces_attention and is_watched(student):
        return f"kind: a {model} computes attention in code of its own, which {kind} cannot replace"
    if form.replaces_attention and family(student).has_fixed_heads:
        return f"kind: the heads of a {model} are bound together, as by a position bias, which {kind} does not support"
    if form.encoder_only and is_causal(student):
        return f"kind: {kind} is for encoders only, not for a {model}: {form.encoder_only}"
    if form.shares_layers and repeats_blocks(student):
        return f"a {model} shares its blocks already"
    return ""
