"""A missing hub is told within seconds and in one line, and what is in the cache still loads."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import datasets.config
import pytest
from huggingface_hub import constants
from transformers import AutoConfig

from students.loading import hub
from tests.helpers.repositories import save_sst2, save_tiny_bert
from tests.helpers.servers.hub import Hub

ROOT = Path(__file__).parents[4]
SCRIPT = """
import json
from datasets import load_dataset
from transformers import AutoConfig, AutoModel, AutoTokenizer
from students.loading.hub import loading

def tried(load, name):
    try:
        with loading(name):
            load(name)
    except ValueError as error:
        return str(error)
    return "loaded"

print(json.dumps({
    "tokenizer": tried(AutoTokenizer.from_pretrained, "tiny/bert"),
    "model": tried(AutoModel.from_pretrained, "tiny/bert"),
    "data": tried(lambda name: load_dataset(name, "sst2"), "nyu-mll/glue"),
    "other config": tried(lambda name: load_dataset(name, "mrpc"), "nyu-mll/glue"),
    "weights not cached": tried(AutoModel.from_pretrained, "tiny/half"),
    "half": tried(AutoConfig.from_pretrained, "tiny/half"),
    "no model": tried(AutoModel.from_pretrained, "nobody/nothing"),
    "no data": tried(load_dataset, "nobody/nothing"),
}))
"""


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """This process as if it had just begun, online; put back afterwards."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    reach = hub.check_hub  # a test may put another in its place
    reach.cache_clear()
    yield monkeypatch
    reach.cache_clear()


def offline() -> tuple[bool, bool, str | None]:
    """What the three places say that a library may look at."""
    return constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE")


@pytest.fixture
def silent() -> Iterator[str]:
    """Endpoint that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://hub.invalid", "silent", "no address"])
def test_without_an_answer_everything_goes_offline(process: pytest.MonkeyPatch, silent: str, endpoint: str) -> None:
    endpoint = silent if endpoint == "silent" else endpoint
    process.setattr(hub, "TIMEOUT", 0.3)
    process.setattr(constants, "ENDPOINT", endpoint)
    assert hub.check_hub() == f"the hub cannot be reached ({endpoint}; HF_ENDPOINT names another)"
    assert offline() == (True, True, "1")
    for load in (AutoConfig.from_pretrained, datasets.load_dataset):
        with pytest.raises(ValueError, match="^the hub cannot be reached .* and 'nobody/nothing' is not"):
            with hub.loading("nobody/nothing"):
                load("nobody/nothing")


def test_a_name_look_up_that_hangs_is_not_waited_for(process: pytest.MonkeyPatch) -> None:
    stop, finished = threading.Event(), threading.Event()

    def hang(*arguments: object, **options: object) -> list:
        stop.wait(20)
        finished.set()
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answered")

    process.setattr(hub, "TIMEOUT", 0.3)
    process.setattr(constants, "ENDPOINT", "https://hub.invalid")
    process.setattr(socket, "getaddrinfo", hang)
    assert "cannot be reached" in hub.check_hub()
    assert not finished.is_set()
    stop.set()
    finished.wait(20)


@pytest.mark.parametrize(("status", "reached"), [(200, True), (401, True), (404, True), (503, False)])
def test_any_answer_but_that_of_a_gateway_will_do(process: pytest.MonkeyPatch, status: int, reached: bool) -> None:
    session = SimpleNamespace(head=lambda *arguments, **options: SimpleNamespace(status_code=status))
    process.setattr(hub, "get_session", lambda: session)
    assert (hub.check_hub() is None) is reached
    assert offline() == ((False, False, None) if reached else (True, True, "1"))


def test_a_hub_that_answers_is_asked_once(process: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Hub(tmp_path) as stand_in:
        process.setattr(constants, "ENDPOINT", stand_in.endpoint)
        assert hub.check_hub() is None
        assert hub.check_hub() is None
        assert len(stand_in.requests) == 1
    assert offline() == (False, False, None)


@pytest.mark.parametrize("value", ["0", "1"])
def test_what_the_user_decided_stands_and_nothing_is_asked(
    process: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    process.setenv("HF_HUB_OFFLINE", value)
    process.setattr(constants, "HF_HUB_OFFLINE", value == "1")
    with Hub(tmp_path) as stand_in:
        process.setattr(constants, "ENDPOINT", stand_in.endpoint)
        assert hub.check_hub() == ("HF_HUB_OFFLINE is set" if value == "1" else None)
        assert not stand_in.requests
    assert offline() == (value == "1", False, value)


def test_a_path_that_is_not_there_is_told_without_the_hub(process: pytest.MonkeyPatch) -> None:
    process.setattr(hub, "check_hub", lambda: pytest.fail("the hub was asked for a path"))
    with pytest.raises(ValueError, match="'runs/no/such' is neither a folder nor a name on the hub"):
        with hub.loading("runs/no/such"):
            pytest.fail("the block was entered")


def test_a_folder_needs_no_hub(process: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process.setattr(hub, "check_hub", lambda: pytest.fail("the hub was asked for a folder"))
    with pytest.raises(ValueError, match=r"cannot be loaded: no config\.json in it$") as caught:
        with hub.loading(str(tmp_path)):
            raise OSError("no config.json\n  in it")
    assert isinstance(caught.value.__cause__, OSError)


def test_offline_a_fault_of_the_disk_is_not_blamed_on_the_hub(process: pytest.MonkeyPatch) -> None:
    process.setattr(constants, "HF_HUB_OFFLINE", True)
    full = OSError(errno.ENOSPC, "No space left on device")
    assert hub.explain_load_error("a/b", full) == "'a/b' cannot be loaded: [Errno 28] No space left on device"
    assert hub.explain_load_error("a/b", OSError("not found")) == (
        "HF_HUB_OFFLINE is set and 'a/b' is not, or not whole, in the local cache; give a local folder"
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """What SCRIPT says while the hub is there, and the environment with the cache that this filled."""
    root = tmp_path_factory.mktemp("hub")
    save_tiny_bert(root / "models" / "tiny" / "bert", layers=1)
    save_tiny_bert(root / "models" / "tiny" / "half", layers=1)
    (root / "models" / "tiny" / "half" / "model.safetensors").unlink()
    save_sst2(root / "datasets" / "nyu-mll" / "glue", rows=8)
    with Hub(root) as stand_in:
        yield said(stand_in.environment), stand_in.environment


def said(environment: dict[str, str]) -> dict[str, str]:
    # Without a hub the client alone would retry for 185 s in all; the limit leaves room for slow imports.
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_with_the_hub_there_the_library_says_what_is_wrong(
    filled: tuple[dict[str, str], dict[str, str]],
) -> None:
    online = filled[0]
    assert {online[what] for what in ("tokenizer", "model", "data", "half")} == {"loaded"}
    assert "BuilderConfig 'mrpc' not found. Available: ['sst2']" in online["other config"]
    assert "is not a valid model identifier" in online["no model"]
    assert "doesn't exist on the Hub" in online["no data"]


def test_without_the_hub_the_cache_serves_and_the_rest_is_told_in_one_line(
    filled: tuple[dict[str, str], dict[str, str]],
) -> None:
    answers = said(filled[1] | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    reason = "the hub cannot be reached (http://127.0.0.1:9; HF_ENDPOINT names another)"
    missing = f"{reason} and {{!r}} is not, or not whole, in the local cache; give a local folder"
    assert {answers[what] for what in ("tokenizer", "model", "data", "half")} == {"loaded"}
    assert "Available configs in the cache: ['sst2']" in answers["other config"]
    assert answers["weights not cached"] == missing.format("tiny/half")
    assert answers["no model"] == answers["no data"] == missing.format("nobody/nothing")
