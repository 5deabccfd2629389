"""Anchors, aliases and merge keys, as YAML 1.1 has them."""

from pathlib import Path

import pytest

from distill.config.errors import ConfigError
from distill.config.nodes import apply_override, construct_value, load_documents, parse_override

ANCHORS = """\
first: &first {kind: Logits, temperature: 2.0}
second: {<<: *first, temperature: 3.0}
third: {<<: [{kind: Labels}, *first]}
nested: &nested {<<: *first, more: [*first]}
fourth: *nested
"""


@pytest.fixture
def root(tmp_path: Path):
    (tmp_path / "x.yaml").write_text(ANCHORS)
    return load_documents(tmp_path / "x.yaml")[0]


def test_a_key_beside_a_merge_key_has_precedence_then_the_first_mapping(root) -> None:
    values = construct_value(root)
    assert values["second"] == {"kind": "Logits", "temperature": 3.0}
    assert values["third"] == {"kind": "Labels", "temperature": 2.0}
    assert values["fourth"] == values["nested"] == {**values["first"], "more": [values["first"]]}


def test_an_override_changes_one_of_several_aliases(root) -> None:
    before = construct_value(root)
    apply_override(root, "fourth.temperature", parse_override("9.0", "--fourth.temperature"))
    apply_override(root, "second.kind", parse_override("Labels", "--second.kind"))
    after = construct_value(root)
    assert after["fourth"] == before["fourth"] | {"temperature": 9.0}
    assert after["second"] == {"kind": "Labels", "temperature": 3.0}
    assert {key: after[key] for key in ("first", "third", "nested")} == {
        key: before[key] for key in ("first", "third", "nested")
    }


@pytest.mark.parametrize("merged", ["3", "[1, 2]", "text", "[{a: 1}, 2]"])
def test_only_mappings_are_merged(tmp_path: Path, merged: str) -> None:
    (tmp_path / "x.yaml").write_text(f"first: 1\nsecond: {{<<: {merged}}}\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:2: <<: only mappings can be merged"):
        load_documents(tmp_path / "x.yaml")
