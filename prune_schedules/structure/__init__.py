"""Cutting masked units out of a model for good, after training and during it."""
