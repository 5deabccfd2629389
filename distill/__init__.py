"""Distillation, pruning and quantization in one training run; what is public of it, and stable.

``run`` does what a YAML file says. The other names are what a module of one's own needs to add a loss, a pruning score,
a quantizer, a schedule, an augmentation, a task or a student (docs/extending.md). They are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from distill.config.own_packages import check_own_packages

if TYPE_CHECKING:  # the same names for type checkers and editors; a test compares the two lists
    from distill.config.errors import ConfigError as ConfigError
    from distill.export.serving.predictor import Predictor as Predictor
    from distill.export.serving.predictor import load as load
    from distill.reporting.report import Report as Report
    from distill.runner import run as run
    from distill.tasks.augment.augmentation import Augmentation as Augmentation
    from distill.tasks.data_task import DataTask as DataTask
    from distill.tasks.kinds.embedding import Embedding as Embedding
    from distill.tasks.kinds.language.causal import CausalLM as CausalLM
    from distill.tasks.kinds.language.masked import MaskedLM as MaskedLM
    from distill.tasks.kinds.language.sequences import Seq2Seq as Seq2Seq
    from distill.tasks.kinds.multi_label import MultiLabel as MultiLabel
    from distill.tasks.kinds.rankings import Ranking as Ranking
    from distill.tasks.kinds.searches import Search as Search
    from distill.tasks.kinds.spans import QuestionAnswering as QuestionAnswering
    from distill.tasks.kinds.texts import Classification as Classification
    from distill.tasks.kinds.texts import Regression as Regression
    from distill.tasks.kinds.tokens import TokenClassification as TokenClassification
    from distill.tasks.task import Task as Task
    from losses.loss import Loss as Loss
    from losses.loss import LossValues as LossValues
    from losses.loss import PerExample as PerExample
    from losses.loss import PerPrediction as PerPrediction
    from losses.outputs.logits import LogitsLoss as LogitsLoss
    from prune_schedules.schedule import Ramp as Ramp
    from prune_schedules.schedule import Schedule as Schedule
    from prune_schedules.scores.pruner import Pruner as Pruner
    from prune_schedules.scores.pruner import ScoredPruner as ScoredPruner
    from prune_schedules.timeline import Timeline as Timeline
    from prune_schedules.timeline import TimePoint as TimePoint
    from quant_aware.quantizers.quantizer import Quantizer as Quantizer
    from students.attention.softmax import AttentionArgs as AttentionArgs
    from students.attention.softmax import softmax_attention as softmax_attention
    from students.forms.attention import Attention as Attention
    from students.forms.embeddings import Embeddings as Embeddings
    from students.forms.low_rank import LowRank as LowRank
    from students.forms.share_layers import ShareLayers as ShareLayers
    from students.kinds.student import Student as Student
    from students.loading.auto_class import AutoClass as AutoClass
    from students.recording.signals import Signals as Signals
    from students.recording.signals import Trace as Trace

_MODULES = {
    "distill.config.errors": ["ConfigError"],
    "distill.reporting.report": ["Report"],
    "distill.runner": ["run"],
    "distill.export.serving.predictor": ["Predictor", "load"],
    "distill.tasks.augment.augmentation": ["Augmentation"],
    "distill.tasks.kinds.embedding": ["Embedding"],
    "distill.tasks.kinds.language.causal": ["CausalLM"],
    "distill.tasks.kinds.language.masked": ["MaskedLM"],
    "distill.tasks.kinds.multi_label": ["MultiLabel"],
    "distill.tasks.kinds.rankings": ["Ranking"],
    "distill.tasks.kinds.language.sequences": ["Seq2Seq"],
    "distill.tasks.kinds.searches": ["Search"],
    "distill.tasks.kinds.spans": ["QuestionAnswering"],
    "distill.tasks.kinds.texts": ["Classification", "Regression"],
    "distill.tasks.kinds.tokens": ["TokenClassification"],
    "distill.tasks.data_task": ["DataTask"],
    "distill.tasks.task": ["Task"],
    "losses.loss": ["Loss", "LossValues", "PerExample", "PerPrediction"],
    "losses.outputs.logits": ["LogitsLoss"],
    "prune_schedules.schedule": ["Ramp", "Schedule"],
    "prune_schedules.scores.pruner": ["Pruner", "ScoredPruner"],
    "prune_schedules.timeline": ["TimePoint", "Timeline"],
    "quant_aware.quantizers.quantizer": ["Quantizer"],
    "students.attention.softmax": ["AttentionArgs", "softmax_attention"],
    "students.forms.attention": ["Attention"],
    "students.forms.embeddings": ["Embeddings"],
    "students.forms.low_rank": ["LowRank"],
    "students.forms.share_layers": ["ShareLayers"],
    "students.kinds.student": ["Student"],
    "students.loading.auto_class": ["AutoClass"],
    "students.recording.signals": ["Signals", "Trace"],
}
"""Where the public names are defined: `import distill` imports none of these modules."""
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


if not TYPE_CHECKING:  # a checker would take any other name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Not when `distill` itself is imported: the command says it in one line, without a traceback.
        check_own_packages()
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
