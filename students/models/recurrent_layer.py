"""A layer of a recurrent network: torch's kernel over packed rows, with its weights in linear layers.

So masks, quantizers and everything else that acts on the ``weight`` of a linear layer acts on recurrent weights too.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""The number of gates of each cell."""
_KERNELS = {"rnn": torch.rnn_tanh, "gru": torch.gru, "lstm": torch.lstm}
ONNX_DOMAIN = "students"
"""The domain of the operators in an ONNX graph that ``quant_aware.export.recurrent`` replaces by standard ones."""


class RecurrentKernel(nn.Linear):
    """A linear layer whose weight a kernel uses and which is never called: its inputs cannot be quantized."""


class Direction(nn.Module):
    """The weights of a layer in one direction: input, recurrent, and projection weights (Sak 2014, arXiv 1402.1128).

    Gates are in torch's order.
    """

    def __init__(self, cell: str, inputs: int, units: int, projection: int | None):
        super().__init__()
        # ONNX Runtime has an 8-bit LSTM without projection, and no other 8-bit cell.
        linear = nn.Linear if cell == "lstm" and not projection else RecurrentKernel
        self.input = linear(inputs, GATES[cell] * units)
        self.recurrent = linear(projection or units, GATES[cell] * units)
        if projection:
            self.projection = RecurrentKernel(units, projection, bias=False)

    def weights(self) -> list[Tensor]:
        """Return the weights in the order of torch's kernels: input, recurrent, both biases, projection if any."""
        weights = [self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias]
        return [*weights, self.projection.weight] if hasattr(self, "projection") else weights

    @property
    def has_input_hooks(self) -> bool:
        """Whether a hook needs the inputs of the linear layers, such as a quantizer of activations."""
        hooks = [*self.input._forward_pre_hooks.values(), *self.recurrent._forward_pre_hooks.values()]
        return any(getattr(hook, "enabled", True) for hook in hooks)

    def step_by_step(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return the states of an LSTM, [B, S, units], by calling its linear layers, the recurrent one at each step.

        After the end of a row its states are zeros, as in ONNX Runtime.

        Args:
            states: the inputs, [B, S, inputs].
            lengths: of the rows, [B].
        """
        outputs, hidden = [], states.new_zeros(len(states), self.recurrent.in_features)
        cell = torch.zeros_like(hidden)
        with parametrize.cached():  # the weight transforms give the same at each step
            for position, projected in enumerate(self.input(states).unbind(1)):
                input_gate, forget_gate, candidate, output_gate = (projected + self.recurrent(hidden)).chunk(4, -1)
                cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
                hidden = torch.where((lengths > position)[:, None], output_gate.sigmoid() * cell.tanh(), 0.0)
                outputs.append(hidden)
        return torch.stack(outputs, 1)


class Layer(nn.Module):
    """A layer of RNN, GRU or LSTM cells, [B, S, inputs] to [B, S, outputs], with zeros at padding.

    In a bidirectional layer the second half of the outputs is that of the backward direction.

    Args:
        cell: ``rnn``, ``gru`` or ``lstm``.
        inputs: width of the inputs.
        units: number of cells in one direction.
        bidirectional: whether there is a backward direction.
        projection: width to which an LSTM projects its states; None for no projection.
    """

    def __init__(self, cell: str, inputs: int, units: int, bidirectional: bool, projection: int | None = None):
        super().__init__()
        self.cell, self.units = cell, units
        self.forward_direction = Direction(cell, inputs, units, projection)
        self.backward_direction = Direction(cell, inputs, units, projection) if bidirectional else None

    @property
    def directions(self) -> list[Direction]:
        """The forward direction, and the backward one if there is one."""
        return (
            [self.forward_direction]
            if self.backward_direction is None
            else [self.forward_direction, self.backward_direction]
        )

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return the states of rows of these lengths, [B], on the CPU; zeros at padding."""
        if torch.onnx.is_in_onnx_export():
            return self._exported(states, lengths)
        if any(direction.has_input_hooks for direction in self.directions):
            return self._step_by_step(states, lengths.to(states.device))
        packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        weights = [weight for direction in self.directions for weight in direction.weights()]
        initial = [states.new_zeros(len(self.directions), len(states), width) for width in (self.outputs, self.units)]
        output = _KERNELS[self.cell](
            packed.data,
            packed.batch_sizes,
            initial if self.cell == "lstm" else initial[0],
            weights,
            True,  # biases
            1,  # layers
            0.0,  # dropout
            torch.is_grad_enabled(),  # "training": whether cuDNN keeps what a gradient needs
            self.backward_direction is not None,
        )[0]
        packed = PackedSequence(output, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return pad_packed_sequence(packed, batch_first=True, total_length=states.shape[1])[0]

    @property
    def outputs(self) -> int:
        """The width of the states of one direction."""
        return self.forward_direction.recurrent.in_features

    def _step_by_step(self, states: Tensor, lengths: Tensor) -> Tensor:
        outputs = [self.forward_direction.step_by_step(states, lengths)]
        if self.backward_direction is not None:
            outputs.append(
                reverse_tokens(self.backward_direction.step_by_step(reverse_tokens(states, lengths), lengths), lengths)
            )
        return torch.cat(outputs, -1)

    def _exported(self, states: Tensor, lengths: Tensor) -> Tensor:
        weights = [weight for direction in self.directions for weight in direction.weights()]
        return torch.onnx.ops.symbolic(
            f"{ONNX_DOMAIN}::{self.cell}",
            (states, lengths.to(torch.int32), *weights),
            {"directions": len(self.directions)},
            dtype=states.dtype,
            shape=(*states.shape[:2], len(self.directions) * self.outputs),
            version=1,
        )


def reverse_tokens(states: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the tokens of rows [B, S, H] of these lengths, [B]; padding stays where it is."""
    index = torch.arange(states.shape[1], device=states.device)
    index = torch.where(index < lengths[:, None], lengths[:, None] - 1 - index, index)
    return states.gather(1, index[..., None].expand_as(states))
