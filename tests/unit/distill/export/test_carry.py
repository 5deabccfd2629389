"""What the folder of a model has is in the student's, or told."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import metadata_load
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from distill import run
from distill.export.carry import copy_model_card, reset_tokenizer
from students.forms.share_layers import ShareLayers
from students.kinds.recurrent import GRU
from students.kinds.student import Pretrained
from students.kinds.transformer import Transformer
from tests.helpers.families import tiny
from tests.helpers.repositories import save_tokenizer
from tests.helpers.worlds import save_data

CONFIG = """\
task: {{name: causal_lm, data: {folder}/data, max_length: 16, batch_size: 8}}
teacher: {folder}/teacher
student: {student}
losses: {{logits: {{kind: Logits}}}}
trainer: {{max_steps: 2, accelerator: cpu}}
output: {folder}/runs
"""
SETTINGS = {"eos_token_id": [1, 3], "repetition_penalty": 1.3, "do_sample": True, "temperature": 0.7, "bos_token_id": 2}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A teacher with everything a folder may have, and data."""
    folder = tmp_path / "teacher"
    size = save_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", truncation_side="left", model_max_length=40)
    tokenizer.add_tokens(["<x>"])
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=size + 1, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**SETTINGS)
    model.save_pretrained(folder)
    card = {"license": "other", "license_name": "films", "license_link": "LICENSE", "tags": ["x"]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n# Films\n")
    (folder / "LICENSE").write_text("yours")
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    save_data("causal_lm", tmp_path / "data")
    return tmp_path


def student_of(world: Path, student: str) -> tuple[Path, list[str]]:
    (world / "x.yaml").write_text(CONFIG.format(folder=world, student=student))
    report = run(world / "x.yaml")
    return world / "runs" / "x" / "student", report.notes


@pytest.mark.parametrize(
    "student", ["{kind: Transformer, layers: 1}", "FOLDER/teacher", "{kind: GRU, hidden: 8, bidirectional: false}"]
)
def test_all_that_a_teacher_has_is_carried_or_told(student, world):
    folder, notes = student_of(world, student.replace("FOLDER", str(world)))
    wanted, actual = (AutoTokenizer.from_pretrained(path) for path in (world / "teacher", folder))
    for name in ("padding_side", "truncation_side", "model_max_length", "chat_template", "special_tokens_map"):
        assert getattr(actual, name) == getattr(wanted, name)
    assert actual.get_added_vocab() == wanted.get_added_vocab() and actual.get_vocab() == wanted.get_vocab()
    files = [json.loads((path / "tokenizer.json").read_text()) for path in (world / "teacher", folder)]
    assert files[0] == files[1], "no padding, no cutting off that came with its use"
    assert (folder / "LICENSE").read_text() == "yours"
    card = metadata_load(folder / "README.md")
    assert {key: value for key, value in card.items() if key.startswith("license")} == {
        "license": "other", "license_name": "films", "license_link": "LICENSE",
    }  # fmt: skip
    left = f"not copied from {world / 'teacher'}: "
    if "GRU" in student:  # it has no `generate`
        assert f"{left}generation_config.json, notes.txt" in notes
        return
    assert f"{left}notes.txt" in notes
    model = AutoModelForCausalLM.from_pretrained(folder)
    given = model.generation_config.to_diff_dict()
    assert {name: given[name] for name in SETTINGS} == SETTINGS
    teacher = AutoModelForCausalLM.from_pretrained(world / "teacher").generation_config.to_diff_dict()
    assert given == teacher


@pytest.mark.parametrize(
    "kind",
    [Transformer(layers=1), Transformer(share_layers=ShareLayers()), Transformer(layers=1, weights="random")],
)
def test_built_students_end_as_their_teacher_does(kind, tmp_path):
    teacher = tiny("llama", head="language")
    teacher.generation_config = GenerationConfig(**SETTINGS)
    student = kind.build(teacher, None, None, AutoModelForCausalLM)
    assert student.generation_config.to_dict() == teacher.generation_config.to_dict()
    assert student.generation_config is not teacher.generation_config
    student.save_pretrained(tmp_path)
    longer = None if kind.forms else 128
    again = Pretrained(model=str(tmp_path), max_position_embeddings=longer).build(
        None, None, None, AutoModelForCausalLM
    )
    assert again.generation_config.eos_token_id == [1, 3] and again.generation_config.repetition_penalty == 1.3


def test_what_cannot_write_has_no_settings():
    teacher = tiny("gpt2", head="language")
    teacher.generation_config = GenerationConfig(**SETTINGS)
    GRU(hidden=4, bidirectional=False).build(teacher, None, None, AutoModelForCausalLM)
    assert not hasattr(Transformer(layers=1).build(tiny("bert"), None, None), "generation_config")


def test_of_an_adapter_the_licence_of_both_is_kept(tmp_path):
    for name, licence in (("base", "mit"), ("adapter", "cc-by-4.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
        (tmp_path / name / "LICENSE.txt").write_text(licence)
        (tmp_path / name / "config.json").write_text("{}")
    given = {"base_model_name_or_path": str(tmp_path / "base"), "task_type": "CAUSAL_LM"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(given))
    (tmp_path / "student").mkdir()
    notes = copy_model_card(str(tmp_path / "adapter"), tmp_path / "student")
    assert metadata_load(tmp_path / "student" / "README.md") == {"license": "cc-by-4.0"}
    texts = {file.name: file.read_text() for file in (tmp_path / "student").glob("LICENSE*")}
    assert texts == {"LICENSE.txt": "cc-by-4.0", "LICENSE.txt-base": "mit"}
    assert notes == [f"licences: cc-by-4.0 of {tmp_path / 'adapter'}, mit of {tmp_path / 'base'}"]


def test_cards_that_say_nothing_or_nonsense_are_no_fault(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "config.json").write_text("{}")
    for text in (None, "# no head", "---\n: [\n---\n", "---\ntags: [x]\n---\n", "---\nlicense: null\n---\n"):
        if text is not None:
            (tmp_path / "README.md").write_text(text)
        assert copy_model_card(str(tmp_path), tmp_path / "student") == [
            "not copied from " + str(tmp_path) + ": student"
        ]
        assert not (tmp_path / "student" / "README.md").exists()


def test_a_tokenizer_that_cuts_off_by_itself_does_so_again(tmp_path):
    save_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.backend_tokenizer.enable_truncation(9)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text("{}")
    used = AutoTokenizer.from_pretrained(tmp_path)
    used(["a film"] * 2, truncation=True, max_length=3, padding=True)
    reset_tokenizer(used, str(tmp_path))
    assert used.backend_tokenizer.truncation["max_length"] == 9 and used.backend_tokenizer.padding["length"] == 9
