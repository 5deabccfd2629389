"""A kind of student: how to build the model to train."""

import copy
from dataclasses import dataclass

from transformers import AutoModelForSequenceClassification, PreTrainedModel

from distill import AutoClass, Student


@dataclass(kw_only=True)
class Resized(Student):
    """A model of the teacher's family and vocabulary with other sizes; its weights are initialized at random.

    Args:
        sizes: values that replace those of the teacher's config, by their names in transformers.
    """

    sizes: dict[str, int]

    def build_base(
        self,
        teacher: PreTrainedModel | None,
        id2label: dict[int, str] | None,
        problem_type: str | None,
        head: AutoClass | None,
    ) -> PreTrainedModel:
        if teacher is None:
            raise ValueError("sizes: replace those of a teacher, and the run has none")
        config = copy.deepcopy(teacher.config)
        config.update(self.sizes)
        student: PreTrainedModel = (head or AutoModelForSequenceClassification).from_config(config)
        student.float()
        return student
