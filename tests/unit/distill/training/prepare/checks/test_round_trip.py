"""A student is saved, loaded and compared before the first step, as it is and as pruning will leave it."""

import tempfile

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from distill import run
from distill.config.loader import ConfigError
from distill.training.prepare.checks.round_trip import cut_fully, prune_fully, round_trip
from prune_schedules.schedule import Cubic, Timeline
from prune_schedules.scores.l0 import L0
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.scores.wanda import Wanda
from students.structure.hidden import shrink_hidden
from tests.helpers.families import batch, tiny, tiny_config
from tests.helpers.repositories import save_tokenizer
from tests.helpers.worlds import save_data, save_teacher

TIMELINE = Timeline(total_steps=20, epoch_steps=10)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_of("bert", tmp_path_factory.mktemp("tokenizer"))


def tokenizer_of(name, folder):
    """As transformers reads it beside a model of a family: for some it takes their own class, whatever was saved."""
    save_tokenizer(folder)
    tiny_config(name).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, empty again after each test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    yield tmp_path / "tmp"
    assert list((tmp_path / "tmp").iterdir()) == []


def ends(shape, share):
    return Magnitude(shape=shape, sparsity=Cubic(to=share))


def test_hidden_dimensions_are_cut_where_the_config_has_no_head_size(tmp_path):
    """Plain transformers loads what is left, with heads as wide as before."""
    student, rows = tiny("qwen2", head="language"), batch("qwen2", length=24)
    assert not hasattr(student.config, "head_dim")
    smaller, _ = prune_fully(student, {"hidden": ends("hidden", 0.25)}, TIMELINE)
    cut_fully(smaller, rows)
    assert smaller.config.model_type == "qwen2" and (smaller.config.hidden_size, smaller.config.head_dim) == (24, 8)
    round_trip(smaller, tokenizer_of("qwen2", tmp_path), rows, AutoModelForCausalLM)


def test_a_tokenizer_that_transformers_reads_as_another_beside_the_model_is_told(tokenizer):
    """Beside a Qwen 2 it makes a tokenizer of that family of whatever was saved."""
    with pytest.raises(ValueError, match="its tokenizer, saved and loaded again, has other tokens"):
        round_trip(tiny("qwen2"), tokenizer, batch("qwen2"))


def test_a_model_that_is_another_once_it_is_loaded_is_told(tokenizer):
    student = tiny("bert")
    student.config.num_hidden_layers = 1
    with pytest.raises(ValueError, match="saved and loaded again, there is no place for bert.encoder.layer.1"):
        round_trip(student, tokenizer, batch("bert"))
    student = tiny("bert")
    student.config.hidden_act = "relu"  # of what is saved, not of what runs
    with pytest.raises(ValueError, match=r"saved and loaded again, it is another model: logits differ by up to"):
        round_trip(student, tokenizer, batch("bert"))
    student = tiny("bert")
    shrink_hidden(student, torch.arange(32) < 24)
    with pytest.raises(ValueError, match="would start at random, bert.encoder.layer.0.attention"):
        round_trip(student, tokenizer, batch("bert"))


def test_a_model_of_no_numbers_and_one_that_cannot_be_saved_are_told(tokenizer, monkeypatch):
    student = tiny("qwen3")
    student.config.layer_types = student.config.layer_types[:1]
    with pytest.raises(ValueError, match="it cannot be run on a batch of training: IndexError: list index"):
        round_trip(student, tokenizer, batch("qwen3"))
    student = tiny("bert")
    with torch.no_grad():
        student.classifier.bias[0] = torch.nan
    with pytest.raises(ValueError, match="before the first step its outputs are not finite"):
        round_trip(student, tokenizer, batch("bert"))

    def full(*given, **more):
        raise OSError(28, "No space left on device")

    student = tiny("bert")
    monkeypatch.setattr(student, "save_pretrained", full)
    with pytest.raises(ValueError, match="cannot be saved in .*tmp: No space left on device; set TMPDIR to"):
        round_trip(student, tokenizer, batch("bert"))


def test_shares_are_those_of_units_whatever_scores_them():
    pruners = {"gated": L0(shape="heads", sparsity=Cubic(to=0.5)), "read": Wanda(sparsity=Cubic(to=0.4))}
    _, shares = prune_fully(tiny("bert"), pruners, TIMELINE)
    assert shares["gated"] == (0.5, 0.5, 8) and shares["read"].reachable == pytest.approx(0.4, abs=1e-3)
    _, shares = prune_fully(tiny("bert"), {"few": ends("heads", 0.1)}, TIMELINE)
    assert shares["few"] == (0.1, 0.0, 4)


def test_a_run_refuses_what_would_fail_at_its_end(tiny_run, monkeypatch):
    given = {"losses": {"logits": {"kind": "Logits"}}, "quantize": None}
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", _refuse)
    with pytest.raises(ConfigError, match="student: it cannot be saved: nothing fits"):
        run(tiny_run, **given)
    assert not (tiny_run.parent / "runs").exists()


def _refuse(model, folder):
    raise ValueError("nothing fits")


def test_a_share_that_removes_nothing_is_refused_and_one_that_falls_short_is_told(tiny_run):
    heads = {"kind": "Magnitude", "shape": "heads", "sparsity": {"kind": "Cubic", "to": 0.1}}
    given = {"losses": {"logits": {"kind": "Logits"}}, "quantize": None}
    why = "sparsity: 0.1 of the heads removes none of them: of 4 that compete one at least stays; write 0.25 or more"
    with pytest.raises(ConfigError, match=why):
        run(tiny_run, prune=heads, **given)
    assert not (tiny_run.parent / "runs").exists()
    heads["sparsity"]["to"] = 0.35
    report = run(tiny_run, prune=heads, **given)
    assert "prune: 35.0% of the heads are to be removed, and 25.0% can be" in report.warnings


def test_a_language_model_with_windows_goes_through_a_run(tmp_path):
    """Qwen3 with layer_types, 2 of 4 layers: saved, loaded by plain transformers, and of the kinds that were taken."""
    (tmp_path / "data").mkdir()
    save_data("causal_lm", tmp_path / "data", rows=24)
    save_teacher("causal_lm", tmp_path / "teacher")
    size = len(AutoTokenizer.from_pretrained(tmp_path / "teacher"))
    kinds = ["sliding_attention", "full_attention"] * 2
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    config = Qwen3Config(vocab_size=size, num_key_value_heads=2, head_dim=8, layer_types=kinds, **sizes)
    config.sliding_window, config.use_sliding_window = 4, True
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "teacher")
    file = tmp_path / "x.yaml"
    task = f"{{name: causal_lm, data: {tmp_path}/data, max_length: 32, batch_size: 8}}"
    losses = "{logits: {kind: Logits}, attention: {kind: AttentionScores}}"
    student = "{kind: Transformer, teacher_layers: [1, 4]}"
    trainer = "{max_steps: 3, accelerator: cpu}"
    file.write_text(
        f"task: {task}\nteacher: {tmp_path}/teacher\nstudent: {student}\nlosses: {losses}\n"
        f"trainer: {trainer}\noutput: {tmp_path}/runs\n"
    )
    report = run(file)
    loaded, info = AutoModelForCausalLM.from_pretrained(report.folder / "student", output_loading_info=True)
    assert not any(info.values()) and loaded.config.layer_types == [kinds[0], kinds[3]]
    assert loaded.config.sliding_window == 4
