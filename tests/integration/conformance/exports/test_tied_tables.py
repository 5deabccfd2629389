"""A table that is the head too is quantized in every family and stays one."""

import pytest
import torch

from quant_aware.quantize import Quantize
from quant_aware.quantizers.codebook import KMeans
from quant_aware.quantizers.ternary import Ternary
from quant_aware.quantizers.uniform import Uniform
from students.weights import fold, parameter_names
from tests.helpers.families import batch, tiny
from tests.helpers.students.quantized import attached


@torch.no_grad()
@pytest.mark.parametrize("weights", [Uniform(), Ternary(learn=True), KMeans()], ids=["int8", "ternary", "means"])
def test_a_table_that_is_the_head_too_is_quantized_and_stays_one(name, weights):
    model, inputs = tiny(name, head="lm").eval(), batch(name, head="lm")
    del inputs["labels"]
    tied = {
        key for names in parameter_names(model).values() if len(names) > 1 for key in names if key.endswith(".weight")
    }
    quantize, parameters = Quantize(weights=weights), len(list(model.parameters()))
    plain = model(**inputs).logits
    assert attached(model, quantize) == {}
    trained = model(**inputs).logits
    assert not torch.allclose(trained, plain)
    quantize.quantize_full_embeddings()
    assert tied <= quantize.quantized_weights(model).keys()
    assert torch.equal(model(**inputs).logits, trained)
    fold(model)
    assert torch.equal(model(**inputs).logits, trained) and len(list(model.parameters())) == parameters
    assert all(len(row.unique()) <= weights.levels for key in tied for row in model.get_parameter(key))
