"""Fake quantization as a part of a model: switches, shared inputs, copies, autocast, compilation, state."""

import copy
import pickle
import weakref

import torch
from torch import nn
from torch.nn.utils import parametrize

from quant_aware.quantizers.activations import FakeQuantInput, InputCache, fake_quantize_activation
from quant_aware.quantizers.fake_quant import FakeQuant, fake_quantize_weight, weight_axis


class Block(nn.Module):
    """An embedding, a norm, and three layers that read the very same tensor."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(50, 16), nn.LayerNorm(16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embedding(ids))
        return self.q(x) + self.k(x) * self.v(x)


IDS = torch.arange(10).view(2, 5)


def quantised(model: nn.Module) -> nn.Module:
    cache = InputCache()
    for module in list(model.modules()):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            parametrize.register_parametrization(module, "weight", FakeQuant(axis=weight_axis(module)))
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(FakeQuantInput(cache))
    return model


def switch(model: nn.Module, on: bool) -> nn.Module:
    for module in model.modules():
        for part in [module, *module._forward_pre_hooks.values()]:
            if isinstance(part, (FakeQuant, FakeQuantInput)):
                part.enabled = on
    return model


def hook(module: nn.Module) -> FakeQuantInput:
    return next(iter(module._forward_pre_hooks.values()))


def by_hand(plain: Block) -> torch.Tensor:
    for module in (plain.embedding, plain.q, plain.k, plain.v):
        module.weight.data = fake_quantize_weight(module.weight.data)
    x = fake_quantize_activation(plain.norm(plain.embedding(IDS)))
    return plain.q(x) + plain.k(x) * plain.v(x)


def test_switched_off_nothing_changes_and_switched_on_everything_is_quantised():
    plain, model = Block(), quantised(Block())
    assert torch.equal(model(IDS), plain(IDS))
    on = switch(model, True)(IDS)
    assert not torch.equal(on, plain(IDS))
    assert torch.equal(on, by_hand(plain))


def test_three_readers_share_one_computation(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "quant_aware.quantizers.activations.fake_quantize_activation",
        lambda x, bits: calls.append(x) or fake_quantize_activation(x, bits),
    )
    switch(quantised(Block()), True)(IDS).sum().backward()
    assert len(calls) == 1


def test_shared_computation_has_the_right_gradients():
    model, separate = switch(quantised(Block()), True), switch(quantised(Block()), True)
    for module in (separate.q, separate.k, separate.v):
        module._forward_pre_hooks.clear()
        wrapper = FakeQuantInput(InputCache())
        wrapper.enabled = True
        module.register_forward_pre_hook(wrapper)
    for m in (model, separate):
        m(IDS).square().sum().backward()
    for (name, a), (_, b) in zip(model.named_parameters(), separate.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
        assert a.grad.abs().sum() > 0


def test_memo_forgets_changed_content_and_another_gradient_mode():
    cache, x = InputCache(), torch.ones(4, 4).requires_grad_()
    with torch.no_grad():
        assert not cache(x).requires_grad
        cached = cache(x)
        assert cache(x) is cached
    assert cache(x).requires_grad
    with torch.no_grad():
        x.mul_(2)
    assert torch.equal(cache(x), fake_quantize_activation(x))


def test_memo_keeps_nothing_alive():
    cache, x = InputCache(), torch.ones(4, 4)
    result = weakref.ref(cache(x))
    assert result() is not None
    del x
    assert result() is None
    model = switch(quantised(Block()), True)
    loss = model(IDS).sum()
    loss.backward()
    assert hook(model.q).cache._result is None  # although the graph still stands


def test_copies_work_and_share_a_memo_of_their_own():
    model = switch(quantised(Block()), True)
    x = torch.ones(2, 16).requires_grad_() * 1  # no leaf: deepcopy of the cache's content would raise
    model.q(x)
    clone, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(hook(model.q)))
    assert torch.equal(clone(IDS), model(IDS))
    assert hook(clone.q).cache is hook(clone.k).cache is not hook(model.q).cache
    assert pickled.enabled and pickled.cache.quantizer.bits == 8


def test_inference_mode_and_autocast():
    model = switch(quantised(Block()), True)
    expected = model(IDS)
    with torch.inference_mode():
        assert torch.equal(model(IDS), expected)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(IDS)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, atol=0.05, rtol=0.05)


def test_compiled_without_graph_breaks_and_switched_while_compiled():
    model = quantised(Block())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for on in (False, True, False):
        switch(model, on)
        expected = model(IDS)
        expected.sum().backward()
        grads = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        y = compiled(IDS)
        assert torch.equal(y, expected)
        y.sum().backward()
        for p, g in zip(model.parameters(), grads, strict=True):
            torch.testing.assert_close(p.grad, g)
        model.zero_grad()


def test_state_dict_has_nothing_but_the_weights():
    counts = [sum(t.numel() for t in m.state_dict().values()) for m in (Block(), quantised(Block()))]
    assert counts[0] == counts[1]
