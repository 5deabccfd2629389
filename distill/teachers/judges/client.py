"""Requests to an OpenAI-compatible server: with retries, back-off and a key from the environment."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0


class RequestFailed(ValueError):
    """A request that was given up; nothing else is worth a try."""


class BadAnswer(ValueError):
    """An answer that is not what was asked for; it may be another one the next time."""


@dataclass(frozen=True)
class Client:
    """Posts JSON to an address.

    Args:
        url: of the server.
        key: sent as a bearer token; empty if there is none. It stands in no message.
        timeout: seconds to wait for an answer.
        retries: number of further tries.
        first_wait: seconds before the first of these; the next ones double it.
        sleep: waits.
    """

    url: str
    key: str = ""
    timeout: float = 60.0
    retries: int = 6
    first_wait: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], list[float]]) -> list[float]:
        """Return what ``read`` makes of the answer; it raises ``BadAnswer`` where that is not possible.

        Raises:
            RequestFailed: if the server refuses, or does not answer well in all tries.
        """
        reason = ""
        for attempt in range(self.retries + 1):
            wait = min(self.first_wait * 2**attempt, _LONGEST_WAIT)
            try:
                return read(self._request(path, body))
            except urllib.error.HTTPError as error:
                reason = f"answers {error.code} {error.reason}"
                if error.code not in _RETRIED:
                    raise RequestFailed(f"endpoint: {self.url} {reason}{_detail(error)}") from None
                wait = max(wait, _retry_after(error))
            except BadAnswer as error:
                reason = str(error)
            except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
                cause = getattr(error, "reason", error)
                reason = f"cannot be reached ({cause if str(cause) else type(cause).__name__})"
            if attempt < self.retries:
                self.sleep(min(wait, _LONGEST_WAIT))
        raise RequestFailed(f"endpoint: {self.url} {reason}, {self.retries + 1} times")

    def _request(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(self.url.rstrip("/") + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            content = response.read()
        try:
            return json.loads(content)
        except ValueError:
            raise BadAnswer("answers something that is not JSON") from None


def _retry_after(error: urllib.error.HTTPError) -> float:
    value = (error.headers.get("Retry-After") or "").strip() if error.headers else ""
    return float(value) if value.isdecimal() else 0.0


def _detail(error: urllib.error.HTTPError) -> str:
    """Return what the server says of an error, shortened."""
    try:
        content = json.loads(error.read(2_000))
    except (ValueError, OSError):
        return ""
    message = content.get("error", content) if isinstance(content, dict) else ""
    message = message.get("message", "") if isinstance(message, dict) else message
    return f" ({str(message)[:200]})" if message else ""
