"""Rounding of weights and inputs in training: the values, and the gradient."""

from quant_aware.quantizers.codebook import Codebook, KMeans
from quant_aware.quantizers.grids import PowerOfTwo, Quantizer, Uniform
from quant_aware.quantizers.product import Product
from quant_aware.quantizers.signs import Binary, Ternary

__all__ = ["Binary", "Codebook", "KMeans", "PowerOfTwo", "Product", "Quantizer", "Ternary", "Uniform"]
