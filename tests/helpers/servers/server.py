"""An OpenAI-compatible server on this machine that also fails, stalls, limits and lies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, dict[str, str]]
"""Status, body (a text is sent as it is), and headers."""


def alternatives(**log_probs: float) -> dict[str, Any]:
    """The body of an answer with these alternatives to its first token."""
    tokens = [{"token": token, "logprob": value} for token, value in log_probs.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": tokens}]}}]}


@contextmanager
def serve(reply: Callable[[dict[str, Any], int], Reply]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address, and the requests so far; ``reply`` gets a request and how often its message came before."""
    requests: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                message = body["messages"][0]["content"]
                count = counts[message] = counts.get(message, -1) + 1
                requests.append(body | {"path": self.path, "authorization": self.headers.get("Authorization")})
            status, content, headers = reply(body, count)
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
    finally:
        server.shutdown()
        server.server_close()


def stall(seconds: float, reply: Reply) -> Reply:
    """Answer late."""
    time.sleep(seconds)
    return reply
