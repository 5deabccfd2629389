"""Facts about the data of a run: files, columns, classes, truncation and duplicates."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FileFacts:
    """Facts about one file, or one split of a data set.

    Args:
        path: of the file; for a data set its name and the split.
        split: ``train``, ``validation``, ``test`` or ``unlabelled``.
        format: ``csv``, ``tsv``, ``json``, ``jsonl``, ``parquet``, ``arrow``, or ``dataset``.
        dialect: what the reader detected or skipped: separator, encoding, line ends, blank lines.
        rows_read: rows of the file, including unusable ones.
        rows_kept: rows of this file that are trained or validated on.
        rows_held_out: rows of a training file that are used for validation.
        rows_left_out: rows beyond ``max_train_samples``.
        rows_refused: unusable rows; above 0 only if the run was refused.
        columns_used: {column: its use}.
        columns_ignored: the other columns.
    """

    path: str
    split: str
    format: str
    dialect: list[str] = field(default_factory=list)
    rows_read: int = 0
    rows_kept: int = 0
    rows_held_out: int = 0
    rows_left_out: int = 0
    rows_refused: int = 0
    columns_used: dict[str, str] = field(default_factory=dict)
    columns_ignored: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the facts in one line."""
        counts = {
            "kept": self.rows_kept,
            "held out for validation": self.rows_held_out,
            "left out by max_train_samples": self.rows_left_out,
            "refused": self.rows_refused,
        }
        rows = ", ".join([f"{self.rows_read:,} rows", *(f"{n:,} {label}" for label, n in counts.items() if n)])
        file_format = ", ".join([self.format, *self.dialect])
        return f"{self.split}: {self.path} ({file_format}): {rows}"

    def columns_line(self) -> str:
        """Return the used columns with their use, and the ignored ones, in one line."""
        used = ", ".join(f"{name} ({use})" for name, use in self.columns_used.items())
        ignored = f"; ignored: {', '.join(self.columns_ignored)}" if self.columns_ignored else ""
        return f"columns: {used}{ignored}"


@dataclass
class Truncation:
    """The tokens of a split that ``max_length`` truncates.

    Args:
        rows: truncated rows.
        tokens: lost tokens.
        of_rows: all rows.
        of_tokens: all tokens, including lost ones.
    """

    rows: int
    tokens: int
    of_rows: int
    of_tokens: int

    def line(self, split: str) -> str:
        """Return the truncation of a split in one line."""
        fraction = self.tokens / max(self.of_tokens, 1)
        return (
            f"truncated to max_length: {self.rows:,} of {self.of_rows:,} {split} rows, {fraction:.1%} of their tokens"
        )


@dataclass
class DataFacts:
    """Facts about the data of one task.

    Args:
        files: in the order of reading.
        classes: {class: {split: number of its rows}}, in the order of the outputs; if a row has several labels, these
            are counted. Empty for a task without classes.
        truncation: by split, for splits with truncated rows.
        duplicates: training rows whose tokens are those of a validation row.
        test_duplicates: training rows whose tokens are those of a test row.
        warnings: possible mistakes that are not refused.
        notes: other remarks of the task on the rows.
    """

    files: list[FileFacts] = field(default_factory=list)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    truncation: dict[str, Truncation] = field(default_factory=dict)
    duplicates: int = 0
    test_duplicates: int = 0
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def table_lines(self, max_classes: int = 20) -> list[str]:
        """Return the facts as lines of a table.

        Args:
            max_classes: number of classes that are shown.
        """
        lines = []
        for file in self.files:
            lines.append(file.line())
        lines += list(dict.fromkeys(file.columns_line() for file in self.files if file.columns_used))
        for name, counts in list(self.classes.items())[:max_classes]:
            lines.append(f"class {name!r}: " + ", ".join(f"{n:,} {split}" for split, n in counts.items()))
        if len(self.classes) > max_classes:
            lines.append(f"and {len(self.classes) - max_classes:,} more classes")
        lines += [truncation.line(split) for split, truncation in self.truncation.items()]
        for split, count in {"validation": self.duplicates, "test": self.test_duplicates}.items():
            if count:
                rows = "row is" if count == 1 else "rows are"
                lines.append(f"duplicates: {count:,} training {rows} also in {split}")
        lines += self.notes
        return lines + [f"warning: {warning}" for warning in self.warnings]
