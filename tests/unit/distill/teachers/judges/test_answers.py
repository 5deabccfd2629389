"""Answers are kept line by line, and damaged ones asked for again."""

from pathlib import Path

from distill.teachers.judges.answers import Answers


def test_answers_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    Answers(path, 2).add(["a", "b"], [[-0.5, -1.0], [-2.0, -0.25]])
    answers = Answers(path, 2)
    assert answers.get("b") == [-2.0, -0.25] and answers.missing(["c", "a", "c"]) == ["c"]


def test_a_torn_line_is_missing_and_what_follows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    Answers(path, 2).add(["a", "b"], [[-0.5, -1.0], [-2.0, -0.25]])
    path.write_text(path.read_text()[:-8])
    answers = Answers(path, 2)
    assert answers.missing(["a", "b"]) == ["b"]
    answers.add(["b"], [[-3.0, -0.1]])
    assert Answers(path, 2).get("b") == [-3.0, -0.1]


def test_answers_of_other_classes_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    Answers(path, 2).add(["a"], [[-0.5, -1.0]])
    path.write_text(path.read_text() + '["x", [1.0]]\n["y", ["a", "b"]]\n[]\n')
    assert list(Answers(path, 2).by_key) == list(Answers(path, 2).by_key)[:1]
    assert not Answers(path, 3).by_key


def test_another_process_finds_them_when_it_may_ask(tmp_path: Path) -> None:
    first, second = Answers(tmp_path / "new" / "judge.jsonl", 2), Answers(tmp_path / "new" / "judge.jsonl", 2)
    with first.locked():
        first.add(["a"], [[-0.5, -1.0]])
    assert second.missing(["a"]) == ["a"]
    with second.locked():
        assert second.missing(["a"]) == []
