"""Training rows that differ in every epoch, for the teacher to judge anew."""

from distill.tasks.augment.augmentation import Augmentation, Augmented, Row
from distill.tasks.augment.hiding import Masking, NGrams
from distill.tasks.augment.words import WordReplacement

__all__ = ["Augmentation", "Augmented", "Masking", "NGrams", "Row", "WordReplacement"]
