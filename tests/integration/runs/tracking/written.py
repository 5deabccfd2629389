"""What trackers have written: records of wandb's files, and a stand-in for Trackio, which pins older packages."""

import json
import struct
import sys
import time
import types
import zlib
from pathlib import Path

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


class StandInTrackio(types.ModuleType):
    """Trackio, as far as a run uses it: everything is kept by run."""

    def __init__(self):
        super().__init__("trackio")
        self.runs: list[StandInRun] = []

    def init(self, project, name, resume, config, embed):
        """Return the latest run of the name if ``resume`` allows it, else a new one."""
        print("* Trackio project initialized")
        earlier = [run for run in self.runs if (run.project, run.name) == (project, name)]
        if not earlier or resume == "never":
            self.runs.append(StandInRun(project, name, config))
            return self.runs[-1]
        return earlier[-1]

    def finish(self):
        """End the latest run."""
        print("* Run finished")
        self.runs[-1].is_finished = True

    def Table(self, columns, data):
        """Return a table."""
        return {"columns": columns, "data": data}


class StandInRun:
    """A run of the stand-in."""

    def __init__(self, project: str, name: str, config: dict):
        self.project, self.name, self.config, self.rows, self.is_finished = project, name, config, [], False

    def log(self, metrics: dict, step: int | None = None) -> None:
        """Keep a row."""
        self.rows.append((step, metrics))


def stand_in_trackio(monkeypatch) -> StandInTrackio:
    """Put the stand-in in the place of the package."""
    module = StandInTrackio()
    module.__spec__ = types.SimpleNamespace(name="trackio")  # what find_spec returns of an imported module
    monkeypatch.setitem(sys.modules, "trackio", module)
    return module
