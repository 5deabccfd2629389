"""Losses on the student's outputs, against labels or the teacher's outputs."""
