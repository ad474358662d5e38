"""The part of an OpenAI-compatible server that the kit speaks to, on loopback, with scripted
failures.

Each request takes the next `Reply` of the script; when the script is used up, the server answers as
a model would: chat with `reply(user's text)`, embeddings with a vector that tells the text's
length and first letter (listed backwards, as the order is the server's to choose).

Usage:
    with ChatServer([Reply(429, headers={"Retry-After": "2"})]) as server:
        ChatClient(server.url, "m").chat("Hello")       # "Hello, said the model"
        server.asked[0].path, .headers, .body
"""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """What to send: `body` as it stands, or as JSON where it is none; `drop` hangs up instead."""

    status: int = 200
    body: object = ""
    headers: dict = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict
    body: dict


class ChatServer:
    """`with ChatServer(script) as server:` serves on `server.url`, which ends with /v1."""

    def __init__(self, script=(), reply=None, usage=True, needs_key=""):
        self.script, self.asked, self.busiest, self._busy = list(script), [], 0, 0
        self.reply = reply or (lambda text: f"{text}, said the model")
        self.usage, self.needs_key, self.lock = usage, needs_key, threading.Lock()

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, headers: dict, body: dict) -> Reply:
        if self.needs_key and headers.get("Authorization") != f"Bearer {self.needs_key}":
            return Reply(401, {"error": {"message": "Incorrect API key provided"}})
        with self.lock:
            if self.script:
                return self.script.pop(0)
        if path == "/v1/chat/completions":
            return Reply(body=self.chat(body))
        if path == "/v1/embeddings":
            return Reply(body=self.embed(body))
        return Reply(404, {"error": {"message": f"no {path} here"}})

    def chat(self, body: dict) -> dict:
        text = self.reply(body["messages"][-1]["content"])
        answer = {"choices": [{"index": 0, "finish_reason": "stop",
                               "message": {"role": "assistant", "content": text}}]}
        if self.usage:
            answer["usage"] = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
        return answer

    def embed(self, body: dict) -> dict:
        rows = [{"index": i, "embedding": [float(len(text)), float(ord(text[0]))]}
                for i, text in enumerate(body["input"])]
        return {"data": rows[::-1], "usage": {"prompt_tokens": len(rows)}}

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = dict(self.headers.items())
                with server.lock:
                    server.asked.append(Asked(self.path, headers, body))
                    server._busy += 1
                    server.busiest = max(server.busiest, server._busy)
                reply = server.answer(self.path, headers, body)
                time.sleep(reply.delay_s)
                with server.lock:
                    server._busy -= 1
                if reply.drop:
                    self.close_connection = True
                    return
                self.send(reply)

            def send(self, reply: Reply):
                body = reply.body
                data = body if isinstance(body, (str, bytes)) else json.dumps(body)
                data = data.encode() if isinstance(data, str) else data
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Length": str(len(data)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client gave up, as it should where the reply is slow

            def log_message(self, *_):
                pass

        return Handler
