"""A layer of a recurrent network, held against torch's own on each row alone."""

import pytest
import torch
from torch import nn

from students.models.recurrent_layer import reverse_tokens
from students.models.recurrent_models import RecurrentConfig, RecurrentModel
from tests.helpers.students.recurrent import padded

SHAPES = [
    ("lstm", 2, True, None),
    ("lstm", 1, False, None),
    ("lstm", 2, True, 3),
    ("gru", 2, True, None),
    ("gru", 1, False, None),
    ("rnn", 2, True, None),
]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def network(cell: str, layers: int, both: bool, projection: int | None) -> RecurrentModel:
    """A random one in eval mode, in float64."""
    torch.manual_seed(0)
    config = RecurrentConfig(
        vocab_size=50,
        cell=cell,
        embedding_size=6,
        units=5,
        num_hidden_layers=layers,
        bidirectional=both,
        projection_size=projection,
    )
    return RecurrentModel(config).eval().double()


def stock(model: RecurrentModel) -> nn.RNNBase:
    """The network of torch with the same numbers."""
    config = model.config
    torch_layer = getattr(nn, config.cell.upper())(
        config.embedding_size,
        config.units,
        config.num_hidden_layers,
        batch_first=True,
        bidirectional=config.bidirectional,
        **({"proj_size": config.projection_size} if config.projection_size else {}),
    ).double()
    names = {"weight_ih": "input.weight", "weight_hh": "recurrent.weight", "weight_hr": "projection.weight"}
    names |= {"bias_ih": "input.bias", "bias_hh": "recurrent.bias"}
    with torch.no_grad():
        for name, parameter in torch_layer.named_parameters():
            kind, rest = name.split("_l")
            direction = "backward_direction" if rest.endswith("_reverse") else "forward_direction"
            parameter.copy_(model.get_parameter(f"layers.{rest[0]}.{direction}.{names[kind]}"))
    return torch_layer


@pytest.mark.parametrize(("cell", "layers", "both", "projection"), SHAPES)
def test_states_are_those_of_torch_on_each_row_alone(cell, layers, both, projection):
    model = network(cell, layers, both, projection)
    plain, (ids, mask) = stock(model), padded()
    states = model(ids, mask).last_hidden_state
    assert states.shape == (4, 7, model.config.hidden_size) == (4, 7, (1 + both) * (projection or 5))
    for row, (state, length) in enumerate(zip(states, mask.sum(1).tolist(), strict=True)):
        expected = plain(model.embeddings(ids[row : row + 1, :length]))[0][0]
        torch.testing.assert_close(state[:length], expected, rtol=0, atol=1e-12)
        assert (state[length:] == 0).all()


@pytest.mark.parametrize(("cell", "layers", "both", "projection"), SHAPES)
def test_gradients_are_those_of_torch(cell, layers, both, projection):
    model = network(cell, layers, both, projection)
    plain, ids = stock(model), padded()[0]
    model(ids).last_hidden_state.sin().sum().backward()
    plain(model.embeddings(ids).detach())[0].sin().sum().backward()
    norms = sorted(p.grad.norm().item() for p in model.layers.parameters())
    assert norms == pytest.approx(sorted(p.grad.norm().item() for p in plain.parameters()), abs=1e-12)


@pytest.mark.parametrize(("cell", "layers", "both", "projection"), SHAPES)
def test_there_are_as_many_parameters_as_the_formula_says(cell, layers, both, projection):
    model, parameters = network(cell, layers, both, projection), 50 * 6
    out, ways = projection or 5, 1 + both
    for layer in range(layers):
        read = 6 if layer == 0 else ways * out
        parameters += ways * (GATES[cell] * 5 * (read + out + 2) + (projection or 0) * 5)
    assert model.num_parameters() == parameters


def test_steps_one_by_one_are_the_kernel():
    model, (ids, mask) = network("lstm", 2, True, None), padded()
    expected = model(ids, mask).last_hidden_state
    seen = []
    for layer in model.layers:
        for direction in layer.directions:
            direction.recurrent.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    torch.testing.assert_close(model(ids, mask).last_hidden_state, expected, rtol=0, atol=1e-12)
    assert len(seen) == 4 * 7
    assert (seen[6][mask[:, 5] == 0] == 0).all(), "rows that have ended are zeros"


def test_the_way_back_begins_at_the_last_token():
    rows = torch.arange(8.0).view(2, 4, 1)
    reversed_rows = reverse_tokens(rows, torch.tensor([4, 2]))
    assert reversed_rows[..., 0].tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]
    assert torch.equal(reverse_tokens(reversed_rows, torch.tensor([4, 2])), rows)
