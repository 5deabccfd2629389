"""A file of rows that several processes make at once."""

import numpy as np

from distill.teachers.row_file import RowFile


def test_two_that_make_the_files_at_once_get_the_same(tmp_path):
    rows, keys = np.array([2]), np.array([7], np.uint64)
    first, second = (RowFile.create(tmp_path / "logits", 4, (3,), np.dtype(np.float32)) for _ in range(2))
    first.write(rows, keys, np.full((1, 3), 5, np.float32))
    values, intact, damaged = second.read(rows, keys)
    assert (values == 5).all() and intact.all() and not damaged.any()
    assert [file.name for file in tmp_path.iterdir()] == ["logits"]
