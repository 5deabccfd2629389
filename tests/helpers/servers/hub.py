"""A stand-in of the Hugging Face hub on 127.0.0.1, for tests: the real client, unchanged, is pointed at it.

`Hub(root)` serves `root/models/<namespace>/<name>/` (or `root/models/<name>/`) and
`root/datasets/<namespace>/<name>/`; `tests/helpers/repositories.py` makes tiny ones to put there.
"""

import base64
import hashlib
import json
import os
import re
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

FILE = re.compile(r"/(?P<kind>datasets/)?(?P<id>[^/]+(/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+(/[^/]+)?)"
    r"(/(?P<verb>revision|tree|paths-info)/(?P<revision>[^/]+)(/(?P<path>.+))?)?"
)


WRITE = re.compile(
    r"/api/(repos/(?P<verb>create)|validate-yaml|models/(?P<id>[^/]+/[^/]+)/(?P<write>preupload|commit)/main)"
)


class Hub:
    """Serve the repositories under `root` for the length of a `with` block."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []  # "METHOD /path" of everything asked, in order
        self._home = tempfile.TemporaryDirectory()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._home.cleanup()

    @property
    def endpoint(self) -> str:
        """The address to give as `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Complete environment of a subprocess that knows this hub alone and keeps a cache of its own."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING")) and name != "TRANSFORMERS_OFFLINE"
        }
        return inherited | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": self._home.name,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def files(self, kind: str, name: str) -> dict[str, bytes] | None:
        """Path to content of a repository; None where there is none (a folder of folders is a namespace)."""
        folder = self.root / kind / name
        if not folder.is_dir() or not any(path.is_file() for path in folder.iterdir()):
            return None
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    def write(self, verb: str, name: str | None, body: str) -> dict:
        """Make a repository, say how its files are uploaded (in the commit itself), or write the files of a commit."""
        if verb == "create":
            made = json.loads(body)
            name = f"{made['organization']}/{made['name']}" if made.get("organization") else made["name"]
            (self.root / "models" / name).mkdir(parents=True, exist_ok=True)
            return {"url": f"{self.endpoint}/{name}", "id": name}
        if verb == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
        for line in map(json.loads, body.splitlines() if verb == "commit" else []):
            if line["key"] == "file":
                path = self.root / "models" / name / line["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(line["value"]["content"]))
        return {"commitUrl": f"{self.endpoint}/{name}/commit/main", "commitOid": "0" * 40, "errors": [], "warnings": []}


def commit(files: dict[str, bytes]) -> str:
    """The 40 hex digits that name this state of a repository."""
    digest = hashlib.sha1()
    for path, content in files.items():
        digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def entries(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict]:
    """What the hub's `tree` lists below `folder` ("" is the top): files and directories."""
    prefix = f"{folder}/" if folder else ""
    below = {path: content for path, content in files.items() if path.startswith(prefix)}
    parents = {"/".join(path.split("/")[:depth]) for path in below for depth in range(1, path.count("/") + 1)}
    entries = [{"type": "directory", "path": path, "size": 0, "oid": _oid(path.encode())} for path in parents]
    entries += [
        {"type": "file", "path": path, "size": len(content), "oid": _oid(content)} for path, content in below.items()
    ]
    inside = [entry for entry in entries if entry["path"].startswith(prefix)]
    return [entry for entry in inside if recursive or "/" not in entry["path"].removeprefix(prefix)]


def description(name: str, files: dict[str, bytes]) -> dict:
    """What the hub says of a repository."""
    day = "2024-01-01T00:00:00.000Z"
    return {
        **{"id": name, "modelId": name, "sha": commit(files), "tags": [], "downloads": 0, "likes": 0},
        **{"private": False, "gated": False, "disabled": False, "lastModified": day, "createdAt": day},
        "siblings": [{"rfilename": path} for path in files],
    }


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    """The request handler class of one hub; http.server makes an instance for each connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            # Read even when nobody looks at it: the next request comes on the same connection.
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            hub.requests.append(f"{self.command} {self.path}")
            if match := API.fullmatch(url.path):
                self.api(match, parse_qs(url.query), body)
            elif match := FILE.fullmatch(url.path):
                self.file(match)
            else:
                self.answer(200 if url.path == "/" else 404, b"")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            url = urlsplit(self.path)
            if not (match := WRITE.fullmatch(url.path)):
                self.do_GET()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            hub.requests.append(f"{self.command} {self.path}")
            if "authorization" not in {name.lower() for name in self.headers}:
                self.answer(401, b"", {"X-Error-Message": "Invalid username or password."})
            else:
                self.answer_json(hub.write(match["verb"] or match["write"] or "", match["id"], body), "main")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: `hub.requests` has it."""

        def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def answer_json(self, value: object, sha: str) -> None:
            headers = {"Content-Type": "application/json", "X-Repo-Commit": sha}
            self.answer(200, json.dumps(value).encode(), headers)

        def repository(self, kind: str, match: re.Match[str]) -> dict[str, bytes] | None:
            """The files of the repository asked for; None after a 404: repository or revision is unknown."""
            files = hub.files(kind, match["id"])
            if files is None:
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                return None
            if unquote(match["revision"] or "main") not in ("main", commit(files)):
                self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return None
            return files

        def api(self, match: re.Match[str], query: dict[str, list[str]], body: str) -> None:
            files = self.repository(match["kind"], match)
            if files is None:
                return
            sha = commit(files)
            if match["verb"] == "tree":
                recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
                self.answer_json(entries(files, unquote(match["path"] or ""), recursive), sha)
            elif match["verb"] == "paths-info":
                is_json = self.headers.get("Content-Type", "").startswith("application/json")
                paths = (json.loads(body) if is_json else parse_qs(body))["paths"]
                self.answer_json([entry for entry in entries(files, "", True) if entry["path"] in paths], sha)
            else:
                self.answer_json(description(match["id"], files), sha)

        def file(self, match: re.Match[str]) -> None:
            files = self.repository("datasets" if match["kind"] else "models", match)
            if files is None:
                return
            sha, content = commit(files), files.get(unquote(match["path"]))
            if content is None:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
                return
            headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
            part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if part is None:
                self.answer(200, content, headers)
                return
            first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self.answer(206, content[first : last + 1], headers)

    return Handler
