"""A kind of student: how to build the model to train."""

import copy
from dataclasses import dataclass

from transformers import PreTrainedModel

from distill import Student


@dataclass(kw_only=True)
class Resized(Student):
    """A model of the teacher's family and vocabulary with other sizes; its weights are initialized at random.

    Args:
        sizes: values that replace those of the teacher's config, by their names in transformers.
    """

    sizes: dict[str, int]

    def build_base(self, teacher, id2label, problem_type, head) -> PreTrainedModel:
        config = copy.deepcopy(teacher.config)
        config.update(self.sizes)
        return head.from_config(config).float()
