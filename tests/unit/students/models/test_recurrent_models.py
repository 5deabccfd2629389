"""Recurrent networks, held against torch's own on each row alone, and as models that are saved and traced."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from losses.pairs.attention import AttentionKL
from losses.pairs.relations import Relations
from losses.states.hidden import HiddenMSE
from students.kinds.recurrent import GRU, LSTM, RNN, reduce_embedding_width
from students.kinds.transformer import Transformer
from students.models.recurrent_layer import reverse_tokens
from students.models.recurrent_models import RecurrentConfig, RecurrentForSequenceClassification, RecurrentModel
from students.recording.model_io import model_inputs
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.weights import select_modules
from tests.helpers.families import batch, everything, tiny
from tests.helpers.traces import first

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
    actual = getattr(nn, config.cell.upper())(
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
        for name, parameter in actual.named_parameters():
            kind, rest = name.split("_l")
            direction = "backward_direction" if rest.endswith("_reverse") else "forward_direction"
            parameter.copy_(model.get_parameter(f"layers.{rest[0]}.{direction}.{names[kind]}"))
    return actual


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask of four rows of 7, 2, 5 and 1 tokens."""
    lengths = torch.tensor([7, 2, 5, 1])
    mask = (torch.arange(7) < lengths[:, None]).long()
    return torch.randint(1, 50, (4, 7), generator=torch.Generator().manual_seed(1)), mask


@pytest.mark.parametrize(("cell", "layers", "both", "projection"), SHAPES)
def test_states_are_those_of_torch_on_each_row_alone(cell, layers, both, projection):
    model = network(cell, layers, both, projection)
    plain, (ids, mask) = stock(model), padded()
    states = model(ids, mask).last_hidden_state
    assert states.shape == (4, 7, model.config.hidden_size) == (4, 7, (1 + both) * (projection or 5))
    for row, (actual, length) in enumerate(zip(states, mask.sum(1).tolist(), strict=True)):
        expected = plain(model.embeddings(ids[row : row + 1, :length]))[0][0]
        torch.testing.assert_close(actual[:length], expected, rtol=0, atol=1e-12)
        assert (actual[length:] == 0).all()


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
    model, actual = network(cell, layers, both, projection), 50 * 6
    out, ways = projection or 5, 1 + both
    for layer in range(layers):
        read = 6 if layer == 0 else ways * out
        actual += ways * (GATES[cell] * 5 * (read + out + 2) + (projection or 0) * 5)
    assert model.num_parameters() == actual


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
    actual = reverse_tokens(rows, torch.tensor([4, 2]))
    assert actual[..., 0].tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]
    assert torch.equal(reverse_tokens(actual, torch.tensor([4, 2])), rows)


@pytest.mark.parametrize("student", [LSTM(hidden=5), GRU(hidden=5, bidirectional=False), RNN(hidden=5, layers=2)])
def test_neither_padding_nor_the_batch_matter(student):
    model = student.build(tiny("bert"), {0: "a", 1: "b"}, None).eval().double()
    given = model_inputs(model, batch("bert"))
    logits = model(**given).logits
    wider = {name: nn.functional.pad(tensor, (0, 3), value=1) for name, tensor in given.items()}
    wider["attention_mask"][:, -3:] = 0
    torch.testing.assert_close(model(**wider).logits, logits, rtol=0, atol=1e-12)
    for row, length in enumerate(given["attention_mask"].sum(1).tolist()):
        alone = {name: tensor[row : row + 1, :length] for name, tensor in given.items()}
        torch.testing.assert_close(model(**alone).logits[0], logits[row], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="padding must be on the right"):
        model(given["input_ids"], given["attention_mask"].flip(1))


def test_a_class_is_read_off_the_end_of_each_direction():
    model = LSTM(hidden=5).build(tiny("bert"), {0: "a", 1: "b"}, None).eval()
    ids, mask = padded()
    states = model.encoder(ids, mask).last_hidden_state
    ends = torch.stack([torch.cat([states[i, n - 1, :5], states[i, 0, 5:]]) for i, n in enumerate(mask.sum(1))])
    expected = model.classifier(model.dense(ends).relu())
    torch.testing.assert_close(model(ids, mask).logits, expected)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "electra", "albert"])
def test_embeddings_start_as_the_words_of_any_teacher(name):
    teacher = tiny(name)
    table = teacher.get_input_embeddings().weight
    student = LSTM(hidden=4).build(teacher, None, None)
    assert torch.equal(student.get_input_embeddings().weight, table)
    assert student.config.num_labels == 3 and student.training
    assert student.config.pad_token_id == teacher.config.pad_token_id
    narrow = LSTM(hidden=4, embedding=5).build(teacher, None, None).get_input_embeddings().weight
    left, sizes, _ = torch.linalg.svd(table.detach().double(), full_matrices=False)
    expected = (left[:, :5] * sizes[:5]) @ (left[:, :5] * sizes[:5]).T
    torch.testing.assert_close(narrow.double() @ narrow.double().T, expected, rtol=1e-4, atol=1e-5)


def test_narrowed_tables():
    table = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert reduce_embedding_width(table, 4) is table and reduce_embedding_width(table, 9) is table
    mirrored = reduce_embedding_width(table * torch.tensor([1.0, -1.0, 1.0, -1.0]), 2)
    assert torch.equal(
        reduce_embedding_width(table, 2), reduce_embedding_width(table.clone(), 2)
    ) and mirrored.shape == (20, 2)


def test_with_random_weights_embeddings_may_be_wider():
    student = GRU(hidden=4, embedding=40, weights="random").build(tiny("bert"), None, None)
    assert student.get_input_embeddings().weight.shape == (100, 40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(hidden=0), "hidden: at least 1"),
        (lambda: GRU(layers=0), "layers: at least 1"),
        (lambda: GRU(embedding=0), "embedding: at least 1"),
        (lambda: RNN(dropout=1.0), "dropout: must be a probability"),
        (lambda: RNN(weights="hub"), "weights: 'teacher' or 'random'"),
        (lambda: LSTM(hidden=8, projection=8), "projection: from 1 to below the 8 cells, not 8"),
        (lambda: LSTM().check(None), "LSTM student has its teacher's vocabulary"),
        (lambda: LSTM(embedding=33).check(tiny("bert").config), "the teacher's embeddings are 32 wide, not 33"),
        (
            lambda: LSTM(bidirectional=True).build(tiny("gpt2", head="language"), None, None, AutoModelForCausalLM),
            "bidirectional: a causal language model reads forward only",
        ),
        (lambda: Transformer().check(small().config), "a Transformer student cannot be cut from a recurrent teacher"),
    ],
)
def test_what_cannot_be_built_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def small(**given) -> RecurrentForSequenceClassification:
    """A small BiLSTM of two layers in eval mode."""
    torch.manual_seed(0)
    return LSTM(hidden=8, layers=2, embedding=6, **given).build(tiny("bert"), {0: "a", 1: "b"}, None).eval()


def test_a_language_model_reads_ahead_and_its_table_is_its_head():
    model = GRU(hidden=5).build(tiny("gpt2", head="language"), None, None, AutoModelForCausalLM).eval()
    assert model.lm_head.weight is model.get_input_embeddings().weight and not model.config.bidirectional
    ids = padded()[0]
    changed = ids.clone()
    changed[:, 4:] = 7
    assert torch.equal(model(ids).logits[:, :4], model(changed).logits[:, :4])
    assert not torch.equal(model(ids).logits[:, 4], model(changed).logits[:, 4])


LOAD = """
import sys, torch, transformers
import students
given = torch.load(sys.argv[2])
for head in sys.argv[3:]:
    model = getattr(transformers, head).from_pretrained(sys.argv[1] + "/" + head)
    assert type(model).__module__ == "students.models.recurrent_models", type(model)
    output = model(**given)
    found = torch.stack([output.start_logits, output.end_logits]) if "start_logits" in output else output[0]
    assert torch.equal(found, torch.load(f"{sys.argv[1]}/{head}.pt")), head
"""


def test_saved_models_load_in_another_process(tmp_path):
    heads = ["Model", "ModelForSequenceClassification", "ModelForTokenClassification", "ModelForQuestionAnswering"]
    heads = [f"Auto{head}" for head in (*heads, "ModelForMaskedLM", "ModelForCausalLM")]
    given = model_inputs(tiny("bert"), batch("bert"))  # token types too, as a tokenizer of BERT gives them
    torch.save(given, tmp_path / "given.pt")
    for head in heads:
        cls = getattr(__import__("transformers"), head)
        model = LSTM(hidden=5, projection=3).build(tiny("bert"), None, None, cls).eval()
        output = model(**given)
        logits = torch.stack([output.start_logits, output.end_logits]) if "start_logits" in output else output[0]
        torch.save(logits, tmp_path / f"{head}.pt")
        model.save_pretrained(tmp_path / head)
    command = [sys.executable, "-c", LOAD, tmp_path, tmp_path / "given.pt", *heads]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_states_of_each_layer_are_recorded():
    model = small()
    actual = Recorder(model).trace(batch("bert"), everything(model.config))
    assert {site: state.shape[-1] for site, state in actual.hidden.items()} == {
        ("encoder", 0): 6,
        ("encoder", 1): 16,
        ("encoder", 2): 16,
    }
    given = model_inputs(model, batch("bert"))
    assert torch.equal(actual.hidden["encoder", 2], model.encoder(**given).last_hidden_state)
    early = Recorder(model).trace(batch("bert"), Signals(hidden=frozenset({("encoder", 1)})), stop_early=True)
    assert torch.equal(early.hidden["encoder", 1], actual.hidden["encoder", 1]) and early.logits is None


def test_hidden_losses_know_the_width_of_each_layer():
    loss, student, teacher = HiddenMSE(), small(), tiny("bert", layers=4)
    loss.setup(student.config, teacher.config)
    assert [(p.in_features, p.out_features) for p in loss.projections.values()] == [(6, 32), (16, 32), (16, 32)]
    actual = [
        Recorder(m).trace(batch("bert"), s)
        for m, s in ((student, loss.student_signals), (teacher, loss.teacher_signals))
    ]
    assert torch.isfinite(loss(*actual, batch("bert"), first(loss))[0])
    loss.setup(tiny("bert").config, student.config)  # the other way round
    assert [p.out_features for p in loss.projections.values()] == [6, 16, 16]


@pytest.mark.parametrize("loss", [AttentionKL(), Relations()])
def test_losses_on_attention_are_refused(loss):
    with pytest.raises(ValueError, match="attention: a recurrent network has none"):
        loss.setup(small().config, tiny("bert").config)


def test_every_matrix_can_be_meant():
    model = small(projection=3)
    actual, skipped = select_modules(model, ["recurrence"])
    assert len(actual) == 2 * 2 * 3 and skipped == {}
    assert select_modules(model, ["attention", "ffn"]) == ({}, {})
    assert list(select_modules(model, ["embeddings"])[0]) == ["encoder.embeddings"]
    assert list(select_modules(model, ["head"])[0]) == ["dense", "classifier"]
