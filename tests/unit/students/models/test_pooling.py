"""The pooling that a sentence-transformers folder states, in the forms of old and new versions."""

import json

import pytest
from sentence_transformers.sentence_transformer.modules import Pooling as LibraryPooling

from students.models.pooling import Pooling, read_pooling, write_max_length, write_pooling


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def change(folder, name: str, **values: object) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_plain_folder_states_none(folder):
    assert read_pooling(str(folder)) is None


@pytest.mark.parametrize("pooling", [Pooling(), Pooling("cls", True), Pooling("last")])
def test_what_is_written_is_read(folder, pooling):
    write_pooling(folder, pooling, 16)
    assert read_pooling(str(folder)) == pooling
    write_max_length(folder, 64)
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 64


@pytest.mark.parametrize("mode", ["mean", "cls", "last"])
def test_the_form_of_the_library_is_read(folder, mode):
    write_pooling(folder, Pooling(), 16)
    LibraryPooling(16, {"last": "lasttoken"}.get(mode, mode)).save(str(folder / "1_Pooling"))
    assert read_pooling(str(folder)) == Pooling(mode)


def test_other_pooling_is_refused(folder):
    write_pooling(folder, Pooling(), 16)
    change(folder, "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)
    with pytest.raises(ValueError, match="its pooling is pooling_mode_max_tokens .*not one of mean, cls and last"):
        read_pooling(str(folder))
    change(folder, "1_Pooling/config.json", pooling_mode_mean_tokens=True)
    with pytest.raises(ValueError, match="its pooling is mean, pooling_mode_max_tokens"):
        read_pooling(str(folder))


def test_other_modules_and_prompts_are_refused(folder):
    write_pooling(folder, Pooling(), 16)
    change(folder, "config_sentence_transformers.json", default_prompt_name="query")
    with pytest.raises(ValueError, match="its texts begin with the prompt 'query'"):
        read_pooling(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ValueError, match="its vectors also need a Dense module"):
        read_pooling(str(folder))
