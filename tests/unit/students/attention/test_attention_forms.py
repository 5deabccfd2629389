"""Each attention against what its paper says, written down again in float64: masks over all pairs, loops, sums."""

import math

import pytest
import torch
from torch import Tensor

from students.attention.blocks import BlockCore, FixedCore
from students.attention.linear import EfficientCore, EluCore, FavorCore, orthogonal_directions
from students.attention.linformer import LinformerCore
from students.attention.local import LocalCore
from students.attention.softmax import AttentionArgs

HEADS, WIDTH = 4, 8


def qkv(length: int, queries: int | None = None, heads: int = HEADS) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(3, heads, length, WIDTH, generator=draw, dtype=torch.float64) for _ in range(3)]
    return [made[0][:, :, -(queries or length) :], *made[1:]]


def lengths(length: int, left: bool = False) -> Tensor:
    """Three rows, the first of them full."""
    short = torch.arange(length) < torch.tensor([length, length * 2 // 3, 5])[:, None]
    return short.flip(1) if left else short


def softmax(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scale: float) -> Tensor:
    """Over all pairs that are seen, [B, A or 1, Sq, Sk]."""
    scores = query @ key.mT * scale
    return torch.where(seen, scores, -math.inf).softmax(-1).nan_to_num() @ value


def ask(attention: torch.nn.Module, tensors: list[Tensor], padding: Tensor, causal: bool, plain: bool) -> Tensor:
    return attention(*tensors, padding, AttentionArgs(0.5, causal, eager=plain))


def same(actual: Tensor, expected: Tensor, padding: Tensor) -> None:
    """At the places that are tokens; elsewhere it is finite, for it goes on to the next layer."""
    assert actual.isfinite().all()
    queries = padding[:, None, -actual.shape[2] :, None]
    torch.testing.assert_close(
        torch.where(queries, actual, 0.0), torch.where(queries, expected, 0.0), rtol=1e-9, atol=1e-9
    )


def local_pairs(padding: Tensor, half: int, first: int, causal: bool) -> Tensor:
    """Who sees whom, pair by pair."""
    batch, length = padding.shape
    seen = torch.zeros(batch, 1, length, length, dtype=torch.bool)
    for row in range(batch):
        tokens = padding[row].nonzero().flatten().tolist()
        chosen = set(tokens[:first])
        for i in tokens:
            for j in tokens:
                near = abs(i - j) <= half or j in chosen or i in chosen
                seen[row, 0, i, j] = near and (j <= i or not causal)
    return seen


@pytest.fixture
def by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of long texts also where a short one would take another."""
    monkeypatch.setattr("torch.compiler.is_exporting", lambda: True)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window, first", [(12, 1), (40, 3), (80, 0)])
def test_a_window_is_a_mask_over_pairs(window, first, causal, left, plain):
    padding = lengths(130, left)
    tensors = qkv(130)
    expected = softmax(*tensors, local_pairs(padding, window // 2, first, causal), 0.5)
    same(ask(LocalCore(window, first), tensors, padding, causal, plain), expected, padding)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 31, 60])
def test_a_window_of_twice_the_length_is_full_attention(length, causal, by_chunks):
    padding, tensors = lengths(length), qkv(length)
    seen = padding[:, None, None] & (torch.ones(length, length).tril().bool() if causal else torch.tensor(True))
    same(ask(LocalCore(120, 1), tensors, padding, causal, False), softmax(*tensors, seen, 0.5), padding)


def test_more_global_tokens_than_there_are_tokens(by_chunks):
    padding, tensors = lengths(40), qkv(40)
    same(ask(LocalCore(4, 60), tensors, padding, False, False), softmax(*tensors, padding[:, None, None], 0.5), padding)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_own_block_and_summaries_of_all_are_a_mask_over_pairs(causal, plain):
    padding, tensors = lengths(50), qkv(50)
    seen = torch.zeros(50, 50, dtype=torch.bool)
    for i in range(50):
        for j in range(50):
            seen[i, j] = (i // 8 == j // 8 or j % 8 in (6, 7)) and (j <= i or not causal)
    expected = softmax(*tensors, seen & padding[:, None, None], 0.5)
    same(ask(FixedCore(8, 2), tensors, padding, causal, plain), expected, padding)


def test_heads_of_blocks_look_one_way_each():
    assert BlockCore(2, 512, 12).shifts.tolist() == [0] * 10 + [1] * 2
    assert BlockCore(3, 512, 12).shifts.tolist() == [0] * 8 + [1] * 2 + [2] * 2
    assert BlockCore(4, 512, 4).shifts.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_blocks_are_a_mask_over_pairs(blocks, plain):
    """A row has as many blocks as its own length needs, and they stand in a circle."""
    padding, tensors = lengths(45), qkv(45)
    size = -(-60 // blocks)
    seen = torch.zeros(3, HEADS, 45, 45, dtype=torch.bool)
    for row in range(3):
        count = -(-int(padding[row].sum()) // size)
        for head, shift in enumerate(BlockCore(blocks, 60, HEADS).shifts.tolist()):
            for i in range(45):
                for j in range(45):
                    seen[row, head, i, j] = padding[row, j] and j // size == (i // size + shift) % count
    same(ask(BlockCore(blocks, 60, HEADS), tensors, padding, False, plain), softmax(*tensors, seen, 0.5), padding)


@pytest.mark.parametrize("left", [False, True])
def test_causal_linear_attention_is_its_recurrence(left):
    padding = lengths(150, left)
    query, key, value = tensors = qkv(150)
    phi = [torch.where(x > 0, x + 1, x.exp()) for x in (query, key)]
    expected = torch.zeros_like(value)
    for row in range(3):
        state, total = torch.zeros(HEADS, WIDTH, WIDTH).double(), torch.zeros(HEADS, WIDTH).double()
        for i in padding[row].nonzero().flatten().tolist():
            state = state + phi[1][row, :, i, :, None] * value[row, :, i, None]
            total = total + phi[1][row, :, i]
            queries = phi[0][row, :, i]
            expected[row, :, i] = torch.einsum("hf,hfd->hd", queries, state) / (queries * total).sum(-1, keepdim=True)
    same(ask(EluCore(), tensors, padding, True, False), expected, padding)


def test_both_orders_of_the_product_of_linear_attention_agree():
    padding = lengths(70)
    query, key, value = tensors = qkv(70)
    phi = [torch.where(x > 0, x + 1, x.exp()) for x in (query, key)]
    weights = (phi[0] @ phi[1].mT) * padding[:, None, None]
    expected = weights / weights.sum(-1, keepdim=True) @ value
    same(ask(EluCore(), tensors, padding, False, False), expected, padding)


def test_both_orders_of_the_product_of_efficient_attention_agree_and_its_weights_sum_to_1():
    padding = lengths(70)
    query, key, value = tensors = qkv(70)
    weights = query.softmax(-1) @ torch.where(padding[:, None, :, None], key, -math.inf).softmax(2).mT
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, HEADS, 70).double())
    same(ask(EfficientCore(), tensors, padding, False, False), weights @ value, padding)


@pytest.mark.parametrize(
    "attention",
    [LocalCore(8, 1), FixedCore(8, 2), EluCore(), FavorCore(16, WIDTH)],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.parametrize("queries", [1, 7])
def test_fewer_queries_than_keys_are_the_last_ones(attention, queries):
    """As in generation, when what came before is in the cache."""
    padding = lengths(100, left=not isinstance(attention, FixedCore))
    if isinstance(attention, FixedCore):
        padding = torch.ones_like(padding)
    attention = attention.double()
    full = ask(attention, qkv(100), padding, True, False)
    same(ask(attention, qkv(100, queries), padding, True, False), full[:, :, -queries:], padding)


@pytest.mark.parametrize("causal", [False, True])
def test_the_estimate_of_a_performer_gets_better_with_features(causal):
    torch.manual_seed(0)
    padding, (query, key, value) = lengths(30), qkv(30)
    tensors = [query / 2, key / 2, value]
    seen = padding[:, None, None] & (torch.ones(30, 30).tril().bool() if causal else torch.tensor(True))
    expected = softmax(*tensors, seen, 0.5)
    errors = []
    for features in (32, 512, 8192):
        actual = ask(FavorCore(features, WIDTH).double(), tensors, padding, causal, False)
        errors.append(float(torch.where(padding[:, None, :, None], actual - expected, 0.0).abs().mean()))
    # by a quarter at best, as sixteen times as many draws do
    assert errors[0] > 2.5 * errors[1] and errors[1] > 2.5 * errors[2] and errors[2] < 0.01


def test_positive_features_are_right_in_expectation():
    """exp(x . y) is the mean of exp(w . x - x . x / 2) exp(w . y - y . y / 2) over the directions w."""
    torch.manual_seed(0)
    x, y = torch.randn(2, WIDTH).double() * 0.5
    means = []
    for _ in range(400):
        w = orthogonal_directions(WIDTH, WIDTH).double()
        means.append(((w @ x - x @ x / 2).exp() * (w @ y - y @ y / 2).exp()).mean())
    means = torch.stack(means)
    assert abs(means.mean() - (x @ y).exp()) < 4 * means.std() / 20


def test_directions_are_orthogonal_and_as_long_as_normal_ones():
    torch.manual_seed(0)
    w = orthogonal_directions(12, WIDTH)
    assert orthogonal_directions(4096, WIDTH).mean(0).norm() < 0.15, "no direction is likelier than its opposite"
    products = w[:WIDTH] @ w[:WIDTH].T
    torch.testing.assert_close(products, products.diagonal().diag(), atol=1e-4, rtol=0)
    assert orthogonal_directions(4096, WIDTH).square().sum(1).mean() == pytest.approx(WIDTH, rel=0.1)


@pytest.mark.parametrize("shared", [False, True])
def test_a_linformer_is_softmax_over_projected_keys(shared):
    torch.manual_seed(0)
    attention = LinformerCore(6, 40, shared).double()
    torch.nn.init.normal_(attention.keys)
    projections = [attention.keys, attention.keys if shared else torch.nn.init.normal_(attention.values)]
    query, key, value = tensors = qkv(40)
    key, value = (torch.einsum("kn,bhnd->bhkd", e, x) for e, x in zip(projections, (key, value), strict=True))
    expected = softmax(query, key, value, torch.tensor(True), 0.5)
    padding = torch.ones(3, 40, dtype=torch.bool)
    same(ask(attention, tensors, padding, False, False).detach(), expected.detach(), padding)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("length", [5, 30, 40])
def test_a_linformer_of_as_many_keys_as_positions_begins_as_full_attention(length, plain):
    padding, tensors = lengths(length), qkv(length)
    actual = ask(LinformerCore(40, 40, False).double(), tensors, padding, False, plain).detach()
    same(actual, softmax(*tensors, padding[:, None, None], 0.5), padding)


def test_a_linformer_begins_with_means_over_pieces():
    expected = torch.zeros(2, 5)
    expected[0, :3], expected[1, 3:] = 1 / 3, 1 / 2
    assert torch.equal(LinformerCore(2, 5, False).keys, expected)


def test_a_linformer_reads_no_more_than_its_positions():
    with pytest.raises(ValueError, match="of 40 positions cannot read 41 tokens"):
        ask(LinformerCore(8, 40, False).double(), qkv(41), lengths(41), False, False)
