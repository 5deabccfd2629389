"""The choice of quantized weights, of their bits, and rounding that looks at inputs (GPTQ)."""
