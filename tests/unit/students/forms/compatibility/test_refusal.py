"""Forms that a student cannot have, each with its reason; the docs show what goes together."""

import itertools
import textwrap
from pathlib import Path

import pytest
import torch

from prune_schedules.structure.cut import cut
from students.families.families import blocks
from students.forms.attention import Linformer
from students.forms.compatibility import check_forms, refusal
from students.forms.embeddings import Factorised
from students.forms.low_rank import LowRank
from students.forms.share_layers import ShareLayers
from students.kinds.recurrent import GRU, LSTM, RNN
from students.kinds.student import Pretrained
from students.models.recurrent_models import RecurrentConfig
from tests.helpers.families import FAMILIES, tiny, tiny_config
from tests.helpers.students.derived import config_of
from tests.helpers.students.forms import ATTENTIONS, FORMS, build, key_of, student_of

DOCS = Path(__file__).parents[5] / "docs" / "techniques" / "forms.md"


@pytest.mark.parametrize(
    "names, given, message",
    [
        (
            ["low_rank"],
            {"share_layers": ShareLayers()},
            "share_layers: the model has ranks already, and",
        ),
        (
            ["share_layers"],
            {"share_layers": ShareLayers()},
            "share_layers: the model has share_layers already",
        ),
        (
            ["share_layers"],
            {"attention": Linformer(length=4)},
            "attention: the model has share_layers already",
        ),
        (["TensorTrain"], {"embeddings": Factorised(rank=4)}, "embeddings: the model has embeddings already"),
    ],
)
def test_forms_of_a_model_that_exists_keep_the_order(names, given, message, tmp_path):
    build(student_of(*names), tiny("bert", layers=3)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"^{message}"):
        build(Pretrained(model=str(tmp_path), **given), None)


def test_a_model_that_was_cut_takes_none(tmp_path):
    model = tiny("bert", layers=3)
    with torch.no_grad():
        blocks(model)[0].intermediate.dense.weight[:3] = 0
        blocks(model)[0].intermediate.dense.bias[:3] = 0
        blocks(model)[0].output.dense.weight[:, :3] = 0
    cut(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="^low_rank: the model is pruned already; set LowRank in the run that prunes it"
    ):
        build(Pretrained(model=str(tmp_path), low_rank=LowRank()), None)


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_a_recurrent_network_takes_none(kind):
    with pytest.raises(ValueError, match="^low_rank: forms change Transformers, and this is a recurrent network"):
        kind(low_rank=LowRank()).check(tiny_config("bert"))


def test_attention_in_the_code_of_a_model_is_not_replaced():
    with pytest.raises(ValueError, match="^attention: kind: a deberta-v2 computes attention in code of its own"):
        check_forms({"attention": Linformer(length=4)}, config_of("deberta-v2"))


def pair_rows() -> list[str]:
    """The table of the docs: for each two forms, whether they go together."""
    columns = [name for name in FORMS if name not in ATTENTIONS]
    rows = ["| | " + " | ".join(f"`{name}`" for name in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in FORMS:
        others = {other: "one of both" if key_of(name) == key_of(other) else "yes" for other in columns}
        cells = ["" if name == other else cell for other, cell in others.items()]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return rows


def refusal_rows() -> list[str]:
    """Return the list of the docs: for each reason, the forms and families that it is about."""
    configs = {name: tiny_config(name) for name in FAMILIES} | {"LSTM, GRU, RNN": RecurrentConfig()}
    reasons: dict[str, dict[str, list[str]]] = {}
    for (name, form), (family, config) in itertools.product(FORMS.items(), configs.items()):
        if reason := refusal(form, config):
            plain = reason.replace(name, "it").replace(type(form).__name__, "it").removeprefix("kind: ")
            plain = plain.replace(f" only, not for a {family}", " only")
            reasons.setdefault(plain, {}).setdefault(name, []).append(family)
    rows = []
    for reason, forms in reasons.items():
        families = list(dict.fromkeys(itertools.chain(*forms.values())))
        named = "all" if len(forms) == len(FORMS) else ", ".join(f"`{name}`" for name in forms)
        named = "every attention" if list(forms) == list(ATTENTIONS) else named
        rows.append(f"- {named}, not of {', '.join(families)}:")
        rows += textwrap.wrap(reason, 116, initial_indent="  ", subsequent_indent="  ")
    return rows


@pytest.mark.parametrize("rows", [pair_rows(), refusal_rows()], ids=["pairs", "refused"])
def test_the_docs_show_what_goes_together(rows):
    assert "\n".join(rows) in DOCS.read_text(), "docs/techniques/forms.md lacks:\n" + "\n".join(rows)
