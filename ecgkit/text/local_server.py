"""Any Hugging Face causal language model behind a real OpenAI-compatible server on this machine.

GET /v1/models, POST /v1/chat/completions with token counts; errors are JSON in OpenAI's form.
Greedy, one request at a time, on loopback alone, by the standard library alone. A tokenizer
without a chat template gets a plain one: the messages, a blank line between, then "Answer:".

`transformers serve` (5.23) works offline too, tried with fastapi 0.165 on a folder of a small
Llama. It is not used, because it needs fastapi, uvicorn and openai, loads a model from a folder in
a process of its own (this one serves what is trained here and now), and answers status 500 to a
tokenizer without a chat template. It speaks the same protocol: point LLM_URL at it.

Dims: L tokens.

Usage:

    with LocalServer(llm, tokenizer, "small-llama") as server:
        ChatClient(server.url, server.name, key_env="").chat("Question: ...")
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ecgkit.types import ModelError

MAX_BYTES = 8 * 2**20  # of a request
NEW_TOKENS = 64  # where a request does not say
PLAIN_END = "\n\nAnswer:"


class Refused(Exception):
    """A status and what is wrong, in a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class LocalServer:
    """`with LocalServer(llm, tokenizer) as server:` serves on `server.url`, which ends with /v1.

    llm: a causal model of transformers, in eval mode from here on. port 0 = any free one.
    positions: the longest prompt and answer together; None = what the model's config says. A model
    with rotary positions can be given more than it was trained on, at its peril. Raises ModelError
    where the port is taken.
    """

    def __init__(
        self, llm, tokenizer, name: str = "local", port: int = 0, positions: int | None = None
    ):
        self.llm, self.tokenizer, self.name = llm.eval(), tokenizer, name
        self._port, self._lock, self._server = port, threading.Lock(), None
        config = llm.config.get_text_config()
        self.positions = positions or getattr(config, "max_position_embeddings", None)

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> LocalServer:
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        except OSError as error:
            raise ModelError(
                f"Port {self._port} of this machine cannot be served on ({error.strerror}); give "
                "another, or 0 for any free one."
            ) from None
        self._server.daemon_threads = True
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    # --- what is answered ---

    def models(self) -> dict:
        return {"object": "list", "data": [{"id": self.name, "object": "model",
                                            "created": 0, "owned_by": "ecgkit"}]}  # fmt: skip

    def complete(self, body: dict) -> dict:
        """The answer to one chat request. Raises Refused."""
        wanted, stop = self._checked(body)
        ids = self._prompt_ids(body["messages"])
        n_prompt = ids.shape[1]
        room = (self.positions or n_prompt + wanted + 1) - n_prompt
        if room < 1:
            raise Refused(
                400, f"The prompt has {n_prompt} tokens, but {self.name} has {self.positions} "
                "positions; shorten it, or serve a model with more.",
            )  # fmt: skip
        with self._lock:
            new = self._generate(ids, min(wanted, room))
        ended = bool(new) and new[-1] in self._ends()
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        cut = min((at for s in stop if (at := text.find(s)) >= 0), default=-1)
        text, ended = (text[:cut], True) if cut >= 0 else (text, ended)
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion",
            "created": int(time.time()), "model": self.name,
            "choices": [{"index": 0, "finish_reason": "stop" if ended else "length",
                         "message": {"role": "assistant", "content": text.strip()}}],
            "usage": {"prompt_tokens": n_prompt, "completion_tokens": len(new),
                      "total_tokens": n_prompt + len(new)},
        }  # fmt: skip

    def _checked(self, body: dict) -> tuple[int, list[str]]:
        """(new tokens wanted, strings to stop at)."""
        if body.get("model") not in (None, "", self.name):
            raise Refused(404, f"There is no model {body['model']!r} here; this is {self.name}.")
        messages = body.get("messages")
        right = isinstance(messages, list) and messages and all(
            isinstance(m, dict) and isinstance(m.get("role"), str) and "content" in m
            for m in messages
        )  # fmt: skip
        if not right:
            raise Refused(400, "`messages` must be a list of objects with role and content.")
        if body.get("temperature"):
            raise Refused(400, "This server is greedy: give temperature 0, or leave it out.")
        if body.get("stream") or body.get("n", 1) not in (None, 1):
            raise Refused(400, "This server sends one whole answer: no `stream`, `n` of 1.")
        wanted = body.get("max_tokens") or body.get("max_completion_tokens") or NEW_TOKENS
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
            raise Refused(400, "The limit of new tokens must be a whole number above 0.")
        stop = body.get("stop") or []
        return wanted, [stop] if isinstance(stop, str) else [s for s in stop if s]

    def _prompt_ids(self, messages: list[dict]):
        """(1, L) token ids."""
        plain = [{"role": m["role"], "content": _text_of(m["content"])} for m in messages]
        if getattr(self.tokenizer, "chat_template", None):
            try:
                text = self.tokenizer.apply_chat_template(
                    plain, tokenize=False, add_generation_prompt=True
                )
            except Exception as error:  # a template may raise whatever it likes
                raise Refused(
                    400, f"The model's chat template refuses these messages ({error})."
                ) from None
            return self._tokens(text, special=False)
        return self._tokens("\n\n".join(m["content"] for m in plain) + PLAIN_END, special=True)

    def _tokens(self, text: str, special: bool):
        import torch

        ids = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        bos = self.tokenizer.bos_token_id
        if special and bos is not None and (not ids or ids[0] != bos):
            ids = [bos, *ids]
        if not ids:
            raise Refused(400, "The messages are empty.")
        return torch.tensor([ids], device=next(self.llm.parameters()).device)

    def _generate(self, ids, n_new: int) -> list[int]:
        import torch

        pad = self.tokenizer.pad_token_id
        ends = self._ends()
        with torch.inference_mode():
            out = self.llm.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, do_sample=False,
                num_beams=1, pad_token_id=pad if pad is not None else next(iter(ends), 0),
                eos_token_id=sorted(ends) or None,
            )  # fmt: skip
        return out[0, ids.shape[1] :].tolist()

    def _ends(self) -> set[int]:
        """Ids after which an answer is over."""
        given = getattr(self.llm.generation_config, "eos_token_id", None)
        given = given if isinstance(given, list) else [given]
        return {i for i in (*given, self.tokenizer.eos_token_id) if i is not None}


def _text_of(content) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [p.get("text") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
    if not texts or not all(isinstance(t, str) for t in texts):
        raise Refused(400, "A message's content must be text.")
    return "".join(texts)


def _handler(server: LocalServer):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60  # of a connection that says nothing

        def do_GET(self):
            if self.path.rstrip("/") == "/v1/models":
                self._send(200, server.models())
            else:
                self._refuse(Refused(404, f"There is no GET {self.path} here."))

        def do_POST(self):
            try:
                body = self._body()
                if self.path.rstrip("/") != "/v1/chat/completions":
                    raise Refused(404, f"There is no POST {self.path} here.")
                answer = server.complete(body)
            except Refused as refused:
                return self._refuse(refused)
            except Exception as error:  # the model's; the server goes on
                said = f"The model failed ({type(error).__name__}: {error})."
                return self._refuse(Refused(500, said))
            self._send(200, answer)

        def _body(self) -> dict:
            length = self.headers.get("Content-Length") or ""
            if not length.isdecimal() or int(length) > MAX_BYTES:
                self.close_connection = True  # what follows is not read
                status = 413 if length.isdecimal() else 411
                raise Refused(status, f"Give a Content-Length of at most {MAX_BYTES} bytes.")
            try:
                body = json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                raise Refused(400, "The request is no JSON.") from None
            if not isinstance(body, dict):
                raise Refused(400, "The request is no JSON object.")
            return body

        def _refuse(self, refused: Refused):
            kind = "invalid_request_error" if refused.status < 500 else "server_error"
            error = {"message": str(refused), "type": kind, "code": refused.status}
            self._send(refused.status, {"error": error})

        def _send(self, status: int, body: dict):
            data = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # the client gave up

        def log_message(self, *_):
            pass

    return Handler
