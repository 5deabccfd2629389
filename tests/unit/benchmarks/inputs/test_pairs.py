"""Pairs of sentences: near ones and drawn ones, of the lengths asked for, the same each time."""

import pyarrow
import pyarrow.parquet

from benchmarks.inputs.pairs import main, make_pairs, nearest_sentences

SENTENCES = [f"the {animal} {verb}" for animal in ("dog", "cat", "hen", "cow") for verb in ("runs", "eats", "sleeps")]


def test_neighbours_share_words() -> None:
    nearest = nearest_sentences([*SENTENCES, "a red tractor"])
    assert nearest.shape == (13, 8)
    for row, sentence in enumerate(SENTENCES):
        near = {SENTENCES[index] for index in nearest[row, :5]}  # two of the same animal, three of the same verb
        assert sentence not in near
        assert all(set(sentence.split()[1:]) & set(other.split()[1:]) for other in near)


def test_pairs_are_of_different_near_or_any_sentences() -> None:
    pairs = make_pairs(SENTENCES, 400)
    assert len(pairs) == 400 and pairs == make_pairs(SENTENCES, 400)
    near = {
        (SENTENCES[sentence], SENTENCES[other])
        for sentence, row in enumerate(nearest_sentences(SENTENCES))
        for other in row
    }
    share = sum(pair in near or pair[::-1] in near for pair in pairs) / len(pairs)
    assert 0.8 < share < 1


def test_long_sentences_are_left_out(tmp_path, monkeypatch) -> None:
    table = pyarrow.table({"text": [*SENTENCES, "the hen " * 9]})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    words = ["pairs", f"{tmp_path}/out.parquet", f"{tmp_path}/in.parquet:text", "--rows", "50"]
    monkeypatch.setattr("sys.argv", words)
    main()
    written = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert written.column_names == ["sentence1", "sentence2"] and written.num_rows == 50
    assert set(written["sentence1"].to_pylist()) | set(written["sentence2"].to_pylist()) <= set(SENTENCES)
