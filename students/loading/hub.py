"""Loading by name from the Hugging Face hub: a hub that cannot be reached is noticed in seconds, not minutes.

The client retries every file (48 s for a model, 23 s for data) before it says that there is no network. Here
the hub is asked once, briefly; if it does not answer, the client is put into its own offline mode, in which
what is in the local cache still loads and everything else fails at once.
"""

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import datasets.config
import httpx2  # what huggingface_hub speaks HTTP with
from huggingface_hub import constants, is_offline_mode
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import get_session, validate_repo_id

TIMEOUT = 2.5  # seconds; long enough for one lost packet on the way to a far hub
GATEWAY_ERRORS = (502, 503, 504)  # a proxy or a hub that is down; the client would retry these as well


@functools.cache
def check_hub() -> str | None:
    """Ask the hub for a sign of life, once per process; None if it can be used, else the reason why not.

    Without an answer within `PATIENCE` seconds the process, and those it starts, go on in offline mode. A
    user who set HF_HUB_OFFLINE has decided: 1 is offline, 0 trusts the hub unasked; neither is changed.
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
    """Whether the endpoint gives any answer in time; it goes through the client's own session and proxies."""
    statuses: list[int] = []

    def ask() -> None:
        with contextlib.suppress(httpx2.HTTPError):
            answer = get_session().head(constants.ENDPOINT, timeout=TIMEOUT, follow_redirects=False)
            statuses.append(answer.status_code)

    # In a thread because no timeout of the client covers the name look-up, which can take half a minute.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return bool(statuses) and statuses[0] not in GATEWAY_ERRORS


def explain_load_error(name: str, error: Exception) -> str:
    """One line on why `name` could not be loaded, from what transformers or datasets raised."""
    # An OSError with a number is the file system's (permission, full disk), not a name that was not found.
    missing = isinstance(error, OSError) and error.errno is None
    if missing and is_offline_mode() and not Path(name).exists():
        return f"{check_hub()} and {name!r} is not, or not whole, in the local cache; give a local folder"
    kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
    return f"{name!r} cannot be loaded: {kind}{' '.join(str(error).split())}"


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Load a folder or a repository of the hub inside this block; what fails is a ValueError of one line.

    `name` is a folder, or the id of a repository, `namespace/name`; the hub is asked only in the second case.
    The error of the library stays readable as the cause.
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
    # Anything: files that were not made for it make a library fail in any way.
    except Exception as error:
        raise ValueError(explain_load_error(name, error)) from error
