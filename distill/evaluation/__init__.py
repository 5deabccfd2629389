"""Evaluation of models: metrics, size, latency, agreement."""
