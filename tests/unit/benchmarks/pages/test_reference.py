"""The reference has what is public and what a config can name, each once; and no page else is changed."""

from types import SimpleNamespace

import distill
from benchmarks.pages.reference import MARK, on_page_markdown, reference, sections
from losses.outputs.logits import Logits


def names() -> list[str]:
    return [thing.__name__ for things in sections().values() for thing in things]


def test_what_is_public_is_listed():
    assert set(distill.__all__) <= set(names())


def test_nothing_is_listed_twice():
    assert len(names()) == len(set(names()))


def test_classes_are_by_the_key_that_names_them():
    assert Logits in sections()["losses"] and Logits not in sections()["prune"]
    assert "\n::: losses.outputs.logits.Logits\n" in reference()


def test_other_pages_stay_as_they_are():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="usage.md"))
    assert on_page_markdown(f"a {MARK}", page, config=None, files=None) == f"a {MARK}"
