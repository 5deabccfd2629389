"""The student's hidden states against the teacher's."""
