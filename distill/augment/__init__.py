"""Training rows that differ in every epoch, for the teacher to judge anew."""

from distill.augment.augmentation import Augmentation, Augmented, Row
from distill.augment.hiding import Masking, NGrams
from distill.augment.words import WordReplacement

__all__ = ["Augmentation", "Augmented", "Masking", "NGrams", "Row", "WordReplacement"]
