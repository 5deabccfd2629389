"""One layer of a recurrent network: torch's kernel over packed rows, its weights held by linear layers.

So masks, quantizers and all else that act on the ``weight`` of a linear layer act on those of a recurrent one.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""By cell, how many gates it has."""
_KERNELS = {"rnn": torch.rnn_tanh, "gru": torch.gru, "lstm": torch.lstm}
ONNX_DOMAIN = "students"
"""Of the operators that stand in an ONNX graph until ``quant_aware.export.recurrent`` writes standard ones for them."""


class RecurrentKernel(nn.Linear):
    """A linear layer whose weight a kernel reads, and which is never called: its inputs cannot be rounded."""


class Direction(nn.Module):
    """The weights of a layer that reads in one direction: of its inputs, of its own states, and those of a projection
    of these (Sak 2014, arXiv 1402.1128). Gates stand in torch's order.
    """

    def __init__(self, cell: str, inputs: int, units: int, projection: int | None):
        super().__init__()
        # ONNX Runtime knows an LSTM of 8 bits, without a projection, and no other cell.
        linear = nn.Linear if cell == "lstm" and not projection else RecurrentKernel
        self.input = linear(inputs, GATES[cell] * units)
        self.recurrent = linear(projection or units, GATES[cell] * units)
        if projection:
            self.projection = RecurrentKernel(units, projection, bias=False)

    def weights(self) -> list[Tensor]:
        """As torch's kernels take them: of inputs, of states, both biases, of the projection if there is one."""
        found = [self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias]
        return [*found, self.projection.weight] if hasattr(self, "projection") else found

    @property
    def has_input_hooks(self) -> bool:
        """Whether something wants what its linear layers are given, as a quantizer that rounds it."""
        hooks = [*self.input._forward_pre_hooks.values(), *self.recurrent._forward_pre_hooks.values()]
        return any(getattr(hook, "enabled", True) for hook in hooks)

    def step_by_step(self, states: Tensor, lengths: Tensor) -> Tensor:
        """What an LSTM makes of [B, S, inputs], [B, S, units], its linear layers called: once on all inputs, then on
        the states of each step. Of rows that have ended the states are zeros, as in ONNX Runtime.
        """
        found, before = [], states.new_zeros(len(states), self.recurrent.in_features)
        memory = torch.zeros_like(before)
        with parametrize.cached():  # what steps make of a weight is the same throughout
            for place, given in enumerate(self.input(states).unbind(1)):
                enter, forget, new, leave = (given + self.recurrent(before)).chunk(4, -1)
                memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
                before = torch.where((lengths > place)[:, None], leave.sigmoid() * memory.tanh(), 0.0)
                found.append(before)
        return torch.stack(found, 1)


class Layer(nn.Module):
    """A layer of RNN, GRU or LSTM cells, [B, S, inputs] to [B, S, outputs], zeros at padding; of one that reads both
    ways the second half of the outputs is of the way back.

    Args:
        cell: ``rnn``, ``gru`` or ``lstm``.
        inputs: width of what it reads.
        units: cells in one direction.
        bidirectional: whether it reads both ways.
        projection: width to which states are projected, of an LSTM; None for none.
    """

    def __init__(self, cell: str, inputs: int, units: int, bidirectional: bool, projection: int | None = None):
        super().__init__()
        self.cell, self.units = cell, units
        self.forward_direction = Direction(cell, inputs, units, projection)
        self.backward_direction = Direction(cell, inputs, units, projection) if bidirectional else None

    @property
    def directions(self) -> list[Direction]:
        """The one ahead, and the one back if there is one."""
        return (
            [self.forward_direction]
            if self.backward_direction is None
            else [self.forward_direction, self.backward_direction]
        )

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Reads rows of these lengths, [B], on the CPU; zeros stand at padding."""
        if torch.onnx.is_in_onnx_export():
            return self._exported(states, lengths)
        if any(direction.has_input_hooks for direction in self.directions):
            return self._step_by_step(states, lengths.to(states.device))
        packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        weights = [weight for direction in self.directions for weight in direction.weights()]
        begin = [states.new_zeros(len(self.directions), len(states), width) for width in (self.outputs, self.units)]
        found = _KERNELS[self.cell](
            packed.data,
            packed.batch_sizes,
            begin if self.cell == "lstm" else begin[0],
            weights,
            True,  # biases
            1,  # layers
            0.0,  # dropout
            torch.is_grad_enabled(),  # "training": whether cuDNN keeps what a gradient needs
            self.backward_direction is not None,
        )[0]
        packed = PackedSequence(found, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return pad_packed_sequence(packed, batch_first=True, total_length=states.shape[1])[0]

    @property
    def outputs(self) -> int:
        """Width of the states of one direction."""
        return self.forward_direction.recurrent.in_features

    def _step_by_step(self, states: Tensor, lengths: Tensor) -> Tensor:
        found = [self.forward_direction.step_by_step(states, lengths)]
        if self.backward_direction is not None:
            found.append(
                reverse_tokens(self.backward_direction.step_by_step(reverse_tokens(states, lengths), lengths), lengths)
            )
        return torch.cat(found, -1)

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
    """Rows [B, S, H] with the tokens that they have, [B], in the opposite order; padding stays where it is."""
    places = torch.arange(states.shape[1], device=states.device)
    places = torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
    return states.gather(1, places[..., None].expand_as(states))
