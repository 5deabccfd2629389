"""Load from the Hugging Face hub, with a check that notices an unreachable hub in seconds, not minutes.

The client retries every file (48 s for a model, 23 s for data) before it reports that there is no network. Here one
short request is sent first; if it is not answered, the client is set to its own offline mode, in which files of the
local cache still load and everything else fails at once.
"""

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import datasets.config
import httpx2  # the HTTP client of huggingface_hub
from huggingface_hub import constants, is_offline_mode
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import get_session, validate_repo_id

TIMEOUT = 2.5  # seconds; enough for one lost packet
GATEWAY_ERRORS = (502, 503, 504)  # of a proxy or a hub that is down; the client would retry these as well


@functools.cache
def check_hub() -> str | None:
    """Check once per process that the hub answers; return None if it can be used, else the reason.

    Without an answer within ``TIMEOUT`` seconds this process and its children go on in offline mode. HF_HUB_OFFLINE, if
    the user sets it, is respected: 1 is offline, 0 skips the check.
    """
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    if "HF_HUB_OFFLINE" in os.environ or _answers():
        return None
    os.environ["HF_HUB_OFFLINE"] = "1"  # for processes started from here, and for peft
    constants.HF_HUB_OFFLINE = True  # read at import, so the line above comes too late for these two
    datasets.config.HF_HUB_OFFLINE = True
    reason = f"the hub cannot be reached ({constants.ENDPOINT}; HF_ENDPOINT names another)"
    logging.getLogger(__name__).warning("%s: going on with what is in the local cache", reason)
    return reason


def _answers() -> bool:
    """Return whether the endpoint answers in time, through the client's own session and proxies."""
    statuses: list[int] = []

    def request() -> None:
        with contextlib.suppress(httpx2.HTTPError):
            answer = get_session().head(constants.ENDPOINT, timeout=TIMEOUT, follow_redirects=False)
            statuses.append(answer.status_code)

    # In a thread: no timeout of the client covers the DNS lookup, which can take half a minute.
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return bool(statuses) and statuses[0] not in GATEWAY_ERRORS


def explain_load_error(name: str, error: Exception) -> str:
    """Return one line on why ``name`` could not be loaded, from the error of transformers or datasets."""
    # An OSError with an errno is of the file system (permission, full disk), not a name that was not found.
    is_missing = isinstance(error, OSError) and error.errno is None
    if is_missing and is_offline_mode() and not Path(name).exists():
        return f"{check_hub()} and {name!r} is not, or not whole, in the local cache; give a local folder"
    kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
    return f"{name!r} cannot be loaded: {kind}{' '.join(str(error).split())}"


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Load a folder or a hub repository inside this block; an error becomes a ValueError of one line.

    The hub is checked only for a repository. The library's error stays readable as the cause.

    Args:
        name: a folder, or the id of a repository, ``namespace/name``.
    """
    if not Path(name).exists():
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            reason = "is neither a folder nor a name on the hub (namespace/name)"
            raise ValueError(f"{name!r} {reason}") from error
        check_hub()
    try:
        yield
    # Any exception: a library can fail in any way on files of another format.
    except Exception as error:
        raise ValueError(explain_load_error(name, error)) from error
