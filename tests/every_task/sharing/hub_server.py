"""A model hub on this machine: as much of the protocol as `huggingface_hub` speaks to share files and to get them.

Small files come inside a commit, large ones before it by the batch API of git-lfs, and are got through a redirect, as
on the real hub. Who writes must show the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """A repository: its commits, each with all its files, and which of them a branch is at."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def add(self, files: dict[str, bytes], branch: str = "main") -> str:
        """A commit of files on top of a branch; returns its name."""
        content = {**self.files(branch), **files}
        digest = hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()
        self.commits[digest] = content
        self.branches[branch] = digest
        return digest

    def commit(self, revision: str) -> str | None:
        """The commit that a branch or a commit's own name stands for."""
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits.get(self.branches.get(revision, revision), {})


class Hub:
    """The hub's repositories, what was uploaded before a commit, and every request that it had."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def say(self, status: int, body: object = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        writes = self.command == "POST" and path != "/api/validate-yaml"
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.say(401, {"error": "Invalid credentials"})
            return
        for (method, pattern), answer in ROUTES.items():
            if (match := re.fullmatch(pattern, path)) and (
                self.command == method or (self.command, method) == ("HEAD", "GET")
            ):
                answer(self, body, *match.groups())
                return
        self.say(404, {"error": "no such page"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def repository(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self.say(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return found

    def create(self, body: bytes) -> None:
        given = json.loads(body)
        name = f"{given['organization']}/{given['name']}"
        status = 409 if name in self.hub.repositories else 200
        private = bool(given.get("private")) or given.get("visibility") == "private"
        self.hub.repositories.setdefault(name, Repository(private))
        self.say(status, {"url": f"{self.hub.url}/{name}", "name": name})

    def check_card(self, body: bytes) -> None:
        text = json.loads(body)["content"]
        found = yaml.safe_load(text.split("---\n")[1])
        good = isinstance(found, dict) and re.fullmatch("[a-z0-9.-]+", found.get("license", "x"))
        errors = [] if good else [{"message": '"license" must be one of the known ones'}]
        self.say(200 if good else 400, {"errors": errors, "warnings": []})

    def about(self, body: bytes, name: str, revision: str | None = None) -> None:
        repository = self.repository(name)
        if repository is None:
            return
        commit = repository.commit(revision or "main")
        if commit is None and repository.commits:
            self.say(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return
        files = repository.files(commit or "")
        siblings = [{"rfilename": one, "size": len(content)} for one, content in files.items()]
        self.say(200, {"id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        files = json.loads(body)["files"]
        modes = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith((".safetensors", ".png")) else "regular",
                "shouldIgnore": False,
            }
            for one in files
        ]
        self.say(200, {"files": modes})

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}}
            for one in json.loads(body)["objects"]
        ]
        self.say(200, {"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, digest: str) -> None:
        good = hashlib.sha256(body).hexdigest() == digest
        if good:
            self.hub.large[digest] = body
        self.say(200 if good else 400)

    def take(self, body: bytes, name: str, revision: str) -> None:
        files: dict[str, bytes] = {}
        for line in body.splitlines():
            part = json.loads(line)
            if part["key"] == "file":
                files[part["value"]["path"]] = base64.b64decode(part["value"]["content"])
            if part["key"] == "lfsFile":
                files[part["value"]["path"]] = self.hub.large[part["value"]["oid"]]
        commit = self.hub.repositories[name].add(files, revision)
        self.say(200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})

    def resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        repository = self.repository(name)
        if repository is None:
            return
        commit = repository.commit(revision)
        if commit is None or file not in repository.commits[commit]:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            self.say(404, {"error": code}, X_Error_Code=code, X_Repo_Commit=commit or "")
            return
        content = repository.commits[commit][file]
        digest = hashlib.sha256(content).hexdigest()
        if not file.endswith((".safetensors", ".png")):
            self.say(200, content, ETag=f'"{digest[:40]}"', X_Repo_Commit=commit)
            return
        self.hub.large[digest] = content
        place = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{digest}"  # another host, as on the real hub
        linked = {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(len(content))}
        self.say(302, b"", Location=place, ETag=f'"{digest}"', X_Repo_Commit=commit, **linked)

    def deliver(self, body: bytes, digest: str) -> None:
        assert self.headers.get("Authorization") is None, "the token went to another host"
        self.say(200, self.hub.large[digest], ETag=f'"{digest}"')


_NAME = r"([^/]+/[^/]+)"
ROUTES = {
    ("POST", "/api/repos/create"): Handler.create,
    ("POST", "/api/validate-yaml"): Handler.check_card,
    ("GET", rf"/api/models/{_NAME}"): Handler.about,
    ("GET", rf"/api/models/{_NAME}/revision/(.+)"): Handler.about,
    ("POST", rf"/api/models/{_NAME}/preupload/(.+)"): Handler.preupload,
    ("POST", rf"/api/models/{_NAME}/commit/(.+)"): Handler.take,
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch"): Handler.batch,
    ("PUT", r"/lfs/(\w+)"): Handler.upload,
    ("GET", r"/cdn/(\w+)"): Handler.deliver,
    ("GET", rf"/{_NAME}/resolve/([^/]+)/(.+)"): Handler.resolve,
}


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers on loopback."""
    hub = Hub()
    handler = type("Bound", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
