"""Checks before the first step: rows, tokenizers, teachers and student fit one another."""
