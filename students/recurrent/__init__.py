"""Recurrent networks: their layer, their models, and the students that are made of a teacher's words."""
