"""Low-bit files: ONNX, and packed codes."""
