"""Weights & Biases, offline: what a run logs is read back from the file that it wrote."""

import json
import struct
import time
import zlib
from pathlib import Path

import pytest

from distill import run
from tests.helpers.runs import CONFIG

BLOCK = 32768


def records(path: Path):
    """The protobuf records of a ``.wandb`` file, as far as it is written: LevelDB's log framing in blocks of 32 KiB
    after a header of 7 bytes.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, []
    assert data[:4] == b":W&B"
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        if len(data) - at < 7:
            return
        crc, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0:
            at += left
            continue
        piece = data[at + 7 : at + 7 + length]
        if len(piece) < length:
            return
        assert crc == zlib.crc32(data[at + 6 : at + 7 + length])
        at += 7 + length
        parts.append(piece)
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def all_records(path: Path) -> list:
    """All records. A process of wandb's own writes them; on a busy machine the last ones come after the run's end."""
    for _ in range(600):
        entries = list(records(path))
        if entries and entries[-1].WhichOneof("record_type") == "exit":
            return entries
        time.sleep(0.1)
    raise AssertionError("wandb did not write the end of the run in a minute")


def items(entries) -> dict:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in entries}


@pytest.fixture(scope="module")
def logged(materials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    file = folder / "tiny.yaml"
    file.write_text(CONFIG.format(data=materials / "data", teacher=materials / "teacher", output=folder / "runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        report = run(file, tracking={"wandb": "testing"})
    (path,) = (folder / "runs" / "tiny" / "wandb").glob("offline-run-*/run-*.wandb")
    return report, all_records(path)


def test_curves_config_and_report_reach_weights_and_biases(logged):
    report, records = logged
    history = [items(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]
    curve = {row["trainer/global_step"]: row["train/logits"] for row in history if "train/logits" in row}
    rows = [line.split(",") for line in (report.folder / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("train/logits")
    written = {int(row[0]): float(row[column]) for row in rows[1:] if row[column]}
    assert curve == pytest.approx(written)
    assert any("val/accuracy" in row for row in history)
    assert any(row.get("report/_type") == "table-file" for row in history)
    pictures = {key for row in history for key in row if key.startswith("pictures/")}
    assert {key.split("/")[1] for key in pictures} == {"curves", "layers", "agreement"}
    (start,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    config = items(start.config.update)
    assert config["quantize"]["weights"] == 8
    assert config["losses"]["logits"]["kind"] == "Logits"
    assert start.project == "testing"
    summary = [items(record.summary.update) for record in records if record.WhichOneof("record_type") == "summary"]
    merged = {key: value for part in summary for key, value in part.items()}
    assert merged["retained"] == pytest.approx(report.ratios["retained"])
    assert merged["timeline"][0]["what"] == report.timeline[0]["what"]
