"""Quantizers of weights and activations, and fake quantization in training."""

from quant_aware.quantizers.codebook import Codebook, KMeans
from quant_aware.quantizers.product import Product
from quant_aware.quantizers.quantizer import Quantizer
from quant_aware.quantizers.ternary import Binary, Ternary
from quant_aware.quantizers.uniform import PowerOfTwo, Uniform

__all__ = ["Binary", "Codebook", "KMeans", "PowerOfTwo", "Product", "Quantizer", "Ternary", "Uniform"]
