"""The small part of the Hugging Face hub's HTTP interface that saving and fetching a model needs.

It keeps commits in memory, answers only requests that carry the token, and writes down what it was
asked. Files are taken inside the commit itself, as the real hub does with small ones.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_for_this_test_only"
SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`with Hub() as hub:` serves on `hub.url`; `hub.repos[id]` holds private and files."""

    def __init__(self):
        self.repos, self.asked = {}, []

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    # each answer: (status, JSON or bytes, headers)

    def create(self, body):
        repo_id = f"{body['organization']}/{body['name']}"
        known = repo_id in self.repos
        self.repos.setdefault(repo_id, {"private": body.get("visibility") == "private"
                                        or body.get("private", False), "files": {}})
        return (409 if known else 200), {"url": f"{self.url}/{repo_id}"}, {}

    def info(self, repo_id):
        repo = self.repos.get(repo_id)
        if repo is None:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        siblings = [{"rfilename": name} for name in repo["files"]]
        return 200, {"id": repo_id, "sha": SHA, "private": repo["private"], "siblings": siblings,
                     "tags": [], "downloads": 0, "likes": 0}, {}

    def tree(self, repo_id):
        files = self.repos[repo_id]["files"].items()
        return 200, [{"type": "file", "path": name, "size": len(data), "oid": oid(data)}
                     for name, data in files], {}

    def preupload(self, repo_id, body):
        return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                               for f in body["files"]]}, {}

    def commit(self, repo_id, lines):
        for line in lines:
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.repos[repo_id]["files"][line["value"]["path"]] = content
        return 200, {"commitUrl": f"{self.url}/{repo_id}/commit/{SHA}", "commitOid": SHA}, {}

    def file(self, repo_id, name):
        data = self.repos.get(repo_id, {"files": {}})["files"].get(name)
        if data is None:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}
        return 200, data, {"ETag": f'"{oid(data)}"', "X-Repo-Commit": SHA}

    def answer(self, method, path, body):
        path = path.split("?")[0]
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            return self.info(match[1])
        if match := re.match(r"/api/models/([^/]+/[^/]+)/(tree|preupload|commit)/", path):
            if match[2] == "tree":
                return self.tree(match[1])
            if match[2] == "preupload":
                return self.preupload(match[1], json.loads(body))
            return self.commit(match[1], [json.loads(line) for line in body.splitlines() if line])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self.file(match[1], match[2])
        return 404, {"error": f"{method} {path} is not served here"}, {}

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                hub.asked.append((self.command, self.path))
                status, content, headers = (
                    hub.answer(self.command, self.path, body) if allowed
                    else (401, {"error": "no"}, {"X-Error-Message": "Invalid credentials"}))
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_HEAD = do_any

            def log_message(self, *_):
                pass

        return Handler


def oid(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
