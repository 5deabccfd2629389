"""What was read before the first step, as data: files, columns, classes, what is cut off, and duplicates."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FileFacts:
    """One file of the data, or one split of a data set.

    Args:
        path: of the file; of a data set its name and the split.
        split: ``train``, ``validation`` or ``unlabelled``.
        format: ``csv``, ``tsv``, ``json``, ``jsonl``, ``parquet``, ``arrow``, or ``dataset``.
        dialect: what the reader decided or skipped: separator, encoding, line ends, blank lines.
        rows_read: rows that stand in the file, the refused ones among them.
        rows_kept: rows that are trained or validated on from this file.
        rows_held_out: rows of a training file that validation takes.
        rows_left_out: rows that ``train_rows`` leaves out.
        rows_refused: rows that cannot be used; above 0 only if the run was refused.
        columns_used: {column: what it is used for}.
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
        """The file in one line of the table."""
        counts = {
            "kept": self.rows_kept,
            "held out for validation": self.rows_held_out,
            "left out by train_rows": self.rows_left_out,
            "refused": self.rows_refused,
        }
        rows = ", ".join([f"{self.rows_read:,} rows", *(f"{n:,} {what}" for what, n in counts.items() if n)])
        how = ", ".join([self.format, *self.dialect])
        return f"{self.split}: {self.path} ({how}): {rows}"

    def columns_line(self) -> str:
        """Which columns are used for what, and which are not used."""
        used = ", ".join(f"{name} ({use})" for name, use in self.columns_used.items())
        ignored = f"; ignored: {', '.join(self.columns_ignored)}" if self.columns_ignored else ""
        return f"columns: {used}{ignored}"


@dataclass
class Truncation:
    """What ``max_length`` cuts off of the texts that are read, in a split.

    Args:
        rows: rows that lose tokens.
        tokens: tokens that are lost.
        of_rows: all rows.
        of_tokens: all tokens, the lost ones among them.
    """

    rows: int
    tokens: int
    of_rows: int
    of_tokens: int

    def line(self, split: str) -> str:
        """In words."""
        share = self.tokens / max(self.of_tokens, 1)
        return f"cut off at max_length: {self.rows:,} of {self.of_rows:,} {split} rows, {share:.1%} of their tokens"


@dataclass
class DataFacts:
    """What was read of the data of one task.

    Args:
        files: in the order in which they were read.
        classes: {class: {split: its rows}}, in the order of the outputs; tags are counted, not rows, where a row has
            several. Empty for a task without classes.
        truncation: by split, where rows lose tokens.
        duplicates: training rows that validation has, too, as the model reads them.
        warnings: what may be a mistake and is not refused.
        notes: what else a task tells of how it reads the rows.
    """

    files: list[FileFacts] = field(default_factory=list)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    truncation: dict[str, Truncation] = field(default_factory=dict)
    duplicates: int = 0
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def table_lines(self, classes: int = 20) -> list[str]:
        """The table, one fact a line.

        Args:
            classes: so many are shown; of more, the rest is counted.
        """
        lines = []
        for file in self.files:
            lines.append(file.line())
        lines += list(dict.fromkeys(file.columns_line() for file in self.files if file.columns_used))
        shown = list(self.classes.items())[:classes]
        for name, counts in shown:
            lines.append(f"class {name!r}: " + ", ".join(f"{n:,} {split}" for split, n in counts.items()))
        if len(self.classes) > classes:
            lines.append(f"and {len(self.classes) - classes:,} more classes")
        lines += [cut.line(split) for split, cut in self.truncation.items()]
        if self.duplicates:
            lines.append(f"in both: {self.duplicates:,} training rows stand in validation, too")
        lines += self.notes
        return lines + [f"warning: {warning}" for warning in self.warnings]
