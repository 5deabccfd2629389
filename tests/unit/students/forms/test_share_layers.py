"""Students whose blocks share layers: what they compute; what is there, saved, exported once; what is refused."""

import pytest
import torch
from transformers import AlbertConfig, AlbertModel

from distill.training.callbacks.replace import block_groups
from students.families.families import blocks, family
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.structure.sharing import group_shared_blocks, shared_module_paths
from tests.helpers.families import batch, tiny, tiny_config
from tests.helpers.students.shared import build, student_of


def apart(model, name, layers=4):
    """A stock model of the same weights, in which each block has its own."""
    stock = tiny(name, layers=layers)
    stock.load_state_dict(model.state_dict())
    return stock


def test_sharing_all_is_albert():
    """Its model in transformers, given the shared block, computes the same."""
    student = build(tiny("bert", layers=4)).bert
    sizes = {"hidden_size": 32, "embedding_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    albert = AlbertModel(
        AlbertConfig(vocab_size=100, num_hidden_layers=4, hidden_act="gelu", layer_norm_eps=1e-12, **sizes),
        add_pooling_layer=False,
    ).eval()
    names = {
        "attention.self.": "attention.",
        "attention.output.": "attention.",
        "intermediate.dense": "ffn",
        "output.dense": "ffn_output",
        "output.LayerNorm": "full_layer_layer_norm",
    }
    block = {}
    for key, weight in student.encoder.layer[2].state_dict().items():
        old = next(old for old in names if key.startswith(old))
        block[key.replace(old, names[old], 1)] = weight
    albert.encoder.albert_layer_groups[0].albert_layers[0].load_state_dict(block)
    albert.encoder.embedding_hidden_mapping_in = torch.nn.Identity()
    given = {name: tensor for name, tensor in batch("bert").items() if name != "labels"}
    with torch.no_grad():
        embedded = student.embeddings(given["input_ids"], given["token_type_ids"])
        actual = student(**given).last_hidden_state
        expected = albert(inputs_embeds=embedded, attention_mask=given["attention_mask"])
        # ALBERT adds positions and types of its own: only its blocks are compared.
        mask = torch.zeros_like(given["attention_mask"], dtype=torch.float).masked_fill(
            given["attention_mask"] == 0, torch.finfo(torch.float).min
        )
        for _ in range(4):
            embedded = albert.encoder.albert_layer_groups[0].albert_layers[0](embedded, mask[:, None, None])
            embedded = embedded[0] if isinstance(embedded, tuple) else embedded
    assert expected.last_hidden_state.shape == actual.shape
    torch.testing.assert_close(embedded, actual, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "fields, count",
    [
        ({}, lambda block, attention, ffn: block),
        ({"groups": 3}, lambda block, attention, ffn: 3 * block),
        ({"keep_ends": True}, lambda block, attention, ffn: 3 * block),
        ({"keep_ends": True, "groups": 2}, lambda block, attention, ffn: 4 * block),
        ({"shared_modules": "ffn"}, lambda block, attention, ffn: 6 * (block - ffn) + ffn),
        (
            {"shared_modules": "attention", "groups": 2},
            lambda block, attention, ffn: 6 * (block - attention) + 2 * attention,
        ),
    ],
    ids=["all", "groups", "ends", "ends and groups", "ffn", "attention"],
)
def test_parameters_are_as_many_as_are_not_shared(fields, count):
    hidden, inner = 32, 64
    attention = 4 * (hidden * hidden + hidden)
    ffn = 2 * hidden * inner + inner + hidden
    norms = 4 * hidden
    student = build(tiny("bert", layers=6), **fields)
    expected = count(attention + ffn + norms, attention, ffn)
    assert sum(p.numel() for p in student.bert.encoder.parameters()) == expected


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_gradient_is_the_sum_over_all_uses(name):
    student = build(tiny(name, layers=4), shared_modules="ffn").double()
    stock = apart(student, name).double()
    for model in (student, stock):
        model(**batch(name)).loss.backward()
    gradients = {key: p.grad for key, p in stock.named_parameters()}
    names: dict[int, list[str]] = {}
    for key, parameter in student.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(key)
    assert max(map(len, names.values())) == 4
    for parameter in student.parameters():
        expected = sum(gradients[key] for key in names[id(parameter)] if key in gradients)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({}, [[0, 1, 2, 3, 4, 5]]),
        ({"groups": 2}, [[0, 1, 2], [3, 4, 5]]),
        ({"groups": 4}, [[0, 1], [2], [3, 4], [5]]),
        ({"keep_ends": True}, [[0], [1, 2, 3, 4], [5]]),
        ({"keep_ends": True, "groups": 2, "shared_modules": "attention"}, [[0], [1, 2], [3, 4], [5]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["bert", "t5"])
def test_a_group_starts_from_the_mean_of_its_blocks(name, fields, expected):
    teacher = tiny(name, layers=6)
    student = build(teacher, **fields)
    stack = family(teacher.config).stacks["encoder"]
    for numbers in expected:
        sources = [blocks(teacher)[number].state_dict() for number in numbers]
        for number in numbers:
            block = blocks(student)[number]
            shared = tuple(
                f"{path}." for path in shared_module_paths(stack, block, fields.get("shared_modules", "all"))
            )
            for key, weight in block.state_dict().items():
                if key in sources[-1] and key.startswith(shared):
                    torch.testing.assert_close(weight, sum(source[key] for source in sources) / len(sources))
                else:
                    assert torch.equal(weight, blocks(teacher)[number].state_dict()[key])
    assert [len(group) for group in group_shared_blocks(blocks(student))] == [len(numbers) for numbers in expected]


def test_norms_are_not_shared_with_linear_layers():
    teacher = tiny("bert", layers=4)
    student = build(teacher, shared_modules="ffn")
    for block, teacher_block in zip(blocks(student), blocks(teacher), strict=True):
        assert torch.equal(block.output.LayerNorm.weight, teacher_block.output.LayerNorm.weight)
        assert block.output.dense is blocks(student)[0].output.dense


def test_it_is_as_narrow_as_it_says_and_may_start_at_random():
    narrow = build(tiny("bert", layers=4), layers=3, hidden=16, intermediate=24, groups=2)
    assert narrow.config.hidden_size == 16 and len(set(blocks(narrow))) == 3
    fresh = build(tiny("bert", layers=2), layers=12, weights="random")
    assert fresh.num_parameters() == build(tiny("bert", layers=2)).num_parameters()


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_blocks_that_share_have_caches_of_their_own(name):
    """What is written with keys and values kept is what is written without."""
    student = build(tiny(name, layers=4, head="language"))
    given = {key: batch(name, size=1)[key] for key in ("input_ids", "attention_mask")}
    written = [
        student.generate(**given, max_new_tokens=6, min_new_tokens=6, do_sample=False, use_cache=cached)
        for cached in (True, False)
    ]
    assert torch.equal(*written)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_each_layer_leaves_its_own_trace(name):
    student = build(tiny(name, layers=4))
    stack = next(iter(family(student.config).stacks))
    sites = frozenset((stack, layer) for layer in range(1, 5))
    given = {key: value for key, value in batch(name).items() if key != "labels"}
    traces = []
    for model in (student, apart(student, name)):
        recorder = Recorder(model)
        with torch.no_grad():
            traces.append(recorder.trace(given, Signals(hidden=sites, attention=sites)))
        recorder.close()
    for site in sites:
        assert torch.equal(traces[0].hidden[site], traces[1].hidden[site])
        assert torch.equal(traces[0].attention[site].query, traces[1].attention[site].query)


def test_its_blocks_can_stand_for_those_of_a_teacher():
    teacher = tiny("bert", layers=4)
    student = build(teacher, layers=2)
    assert [len(replaced) for _, replaced in block_groups(student, teacher)] == [2, 2]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"groups": 0}, "groups: at least 1 is needed, not 0"),
        ({"groups": 4}, "groups: 4 groups of the 4 blocks share nothing"),
        ({"groups": 2, "keep_ends": True}, "groups: 2 groups of the 2 blocks between the ends share nothing"),
        ({"layers": 2, "keep_ends": True}, "groups: 1 groups of the 0 blocks between the ends share nothing"),
        ({"layers": 1}, "groups: 1 groups of the 1 blocks share nothing"),
    ],
)
def test_what_shares_nothing_is_refused(fields, message):
    with pytest.raises(ValueError, match=f"^(share_layers: )?{message}"):
        student_of(**fields).check(tiny_config("bert", layers=4))


def test_what_shares_already_is_refused():
    with pytest.raises(ValueError, match="^share_layers: a albert shares its blocks already"):
        build(tiny("albert", layers=4))
    with pytest.raises(ValueError, match="compact teacher"):
        Transformer().check(build(tiny("bert", layers=4)).config)
