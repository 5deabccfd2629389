"""Units leave the tensors of every family while it trains, and it goes on as with masks."""

import pytest

from students.structure.units import heads, neurons
from tests.helpers.pruning.learner import pair


@pytest.mark.parametrize("quantize", [False, True])
def test_trains_on_as_with_masks(name, quantize):
    masked, cut = pair(name, {"elements": 0.3, "neurons": 0.5, "heads": 0.5}, quantize=quantize)
    for number in range(1, 9):
        before, after = masked.step(number), cut.step(number)
        # Rounding to 8 bits makes a step of a grid of what was a difference of float32.
        assert after == pytest.approx(before, abs=5e-3 if quantize and number > 3 else 1e-5), number
    sizes = [sum(p.numel() for p in learner.model.parameters()) for learner in (masked, cut)]
    assert sizes[1] < 0.9 * sizes[0]
    assert sum(units.count for units in neurons(cut.model)) == sum(units.count for units in neurons(masked.model)) // 2
    assert all(p is q for p, q in zip(cut.model.parameters(), cut.optimizer.param_groups[0]["params"], strict=True))


@pytest.mark.parametrize("more", [{}, {"neurons": 0.5, "heads": 0.5, "elements": 0.3}], ids=["alone", "with units"])
def test_branches_that_are_gone_leave_too(name, more):
    """Three quarters of the attentions and feed-forwards; what added their bias adds nothing, and learns nothing."""
    masked, cut = pair(name, {"layers": 0.75} | more)
    for number in range(1, 9):
        before, after = masked.step(number), cut.step(number)
        assert after == pytest.approx(before, abs=1e-5), number
    sizes = [sum(p.numel() for p in learner.model.parameters()) for learner in (masked, cut)]
    gone = [units.name for units in neurons(cut.model) + heads(cut.model) if units.count == 0]
    there = [part for part in masked.pruners["layers"].targets if not part.kept_units().any()]
    stay = {part.units.name for part in there if name == "t5" and part.units.name.endswith(".self")}
    assert gone and set(gone) == {part.units.name for part in there} - stay - {"decoder.0.self"}
    assert sizes[1] < sizes[0] and all(not bias.any() for bias in cut.idle)
    assert all(p is q for p, q in zip(cut.model.parameters(), cut.optimizer.param_groups[0]["params"], strict=True))
    assert masked.pruners["layers"].current_sparsity() == cut.pruners["layers"].current_sparsity() >= 0.5
