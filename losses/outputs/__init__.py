"""The student's outputs against labels and the teacher's outputs."""
