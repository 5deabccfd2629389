"""A kind of student: how the model that is trained is made."""

import copy
from dataclasses import dataclass

from transformers import PreTrainedModel

from distill import Student


@dataclass(kw_only=True)
class Resized(Student):
    """A model of the teacher's family and vocabulary with other sizes; its weights start at random.

    Args:
        sizes: what is other than in the teacher's config, by transformers' names.
    """

    sizes: dict[str, int]

    def build_base(self, teacher, labels, problem, head) -> PreTrainedModel:
        config = copy.deepcopy(teacher.config)
        config.update(self.sizes)
        return head.from_config(config).float()
