"""Quantization-aware training and real low-bit export, with the numerics of ONNX Runtime's dynamic int8."""
