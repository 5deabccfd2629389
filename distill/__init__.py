"""Distillation, pruning and quantization in one training run; what is public of it, and stable.

``run`` does what a YAML file says. The other names are what a module of one's own needs to add a loss, a pruning score,
a quantizer, a schedule, an augmentation, a task or a student (docs/extending.md). They are imported when first used.
"""

from importlib import import_module
from typing import Any

from distill.config.own_packages import check_own_packages

_MODULES = {
    "distill.config.errors": ["ConfigError"],
    "distill.reporting.report": ["Report"],
    "distill.runner": ["run"],
    "distill.export.serving.predictor": ["Predictor", "load"],
    "distill.tasks.augment.augmentation": ["Augmentation"],
    "distill.tasks.kinds.causal": ["CausalLM"],
    "distill.tasks.kinds.masked": ["MaskedLM"],
    "distill.tasks.kinds.sequences": ["Seq2Seq"],
    "distill.tasks.kinds.spans": ["QuestionAnswering"],
    "distill.tasks.kinds.texts": ["Classification", "Regression"],
    "distill.tasks.kinds.tokens": ["TokenClassification"],
    "distill.tasks.data_task": ["DataTask"],
    "distill.tasks.task": ["Task"],
    "losses.loss": ["Loss", "LossValues", "PerExample", "PerPrediction"],
    "losses.outputs.logits": ["LogitsLoss"],
    "prune_schedules.schedule": ["TimePoint", "Ramp", "Schedule", "Timeline"],
    "prune_schedules.scores.pruner": ["Pruner", "ScoredPruner"],
    "quant_aware.quantizers.quantizer": ["Quantizer"],
    "students.attention.softmax": ["softmax_attention"],
    "students.forms.attention": ["Attention"],
    "students.forms.embeddings": ["Embeddings"],
    "students.forms.low_rank": ["LowRank"],
    "students.forms.share_layers": ["ShareLayers"],
    "students.kinds.student": ["Student"],
    "students.recording.signals": ["Signals", "Trace"],
}
"""Where the public names are defined: `import distill` imports none of these modules."""
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not when `distill` itself is imported: the command says it in one line, without a traceback.
    check_own_packages()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
