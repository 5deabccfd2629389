"""Real files of few bits: ONNX, and packed codes."""
