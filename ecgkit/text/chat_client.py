"""A client of one OpenAI-compatible endpoint: chat and embeddings, and no package for it.

Retries with back-off, several requests at a time with keyed answers, a meter, a log. The key comes
from the environment, and stands in no log, no error and no repr. `text/endpoints.py` says where
text may go; `text/chat_replies.py` reads what comes back.

Dims: n texts, D width of an embedding.

Usage:

    client = ChatClient("http://127.0.0.1:8000/v1", "qwen3-8b", log="runs/demo/chat.jsonl")
    client.chat("How are you?"); client.embed(["atrial fibrillation"]).shape      # (1, D)
    answers = client.chat_many({"a": "Hi", "b": "Ho"})     # key -> str, or the EndpointError
    print(client.meter)
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from ecgkit import runtime
from ecgkit.text.chat_meter import Meter
from ecgkit.text.chat_replies import (
    BadAnswer,
    as_json,
    chat_text,
    error_text,
    retry_after,
    shorten,
    vectors,
)
from ecgkit.text.endpoints import EndpointError, check, is_loopback, post, split
from ecgkit.types import ConfigError, DataError

Messages = str | Sequence[Mapping[str, str]]  # a str is one message of the user's
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
EMBED_BATCH = 64
_NO_OPTIONS = {"model", "messages", "input"}
PASSING = (408, 409, 425, 429)  # and all of 5xx: the same request may succeed later


class ChatClient:
    """One model at one OpenAI-compatible endpoint.

    `key_env` names the environment variable that holds the key (a server on this machine may do
    without). `retries` further tries follow a failure that may pass, after 1, 2, 4 ... s less up to
    half at random, or after what the server asks for. `log` is a JSON-lines file of prompts and
    answers. `options` go into each chat request; one that a server refuses is left out from then
    on. `sleep` and `jitter` (0 to 1) are there for tests.

    Raises ConfigError for a malformed `url`, for another machine without a key or without
    encryption for it, and where `credentialed` text would leave without `allow_remote`.
    """

    def __init__(
        self, url: str, model: str, *, key_env: str = "OPENAI_API_KEY", jobs: int = 4,
        retries: int = 5, timeout_s: float = 60.0, log: str | Path | None = None,
        prices: tuple[float, float] | None = None, options: Mapping | None = None,
        credentialed: bool = False, allow_remote: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ):  # fmt: skip
        check(url, credentialed, allow_remote)
        self.url = url.rstrip("/").removesuffix("/chat/completions").removesuffix("/embeddings")
        self.model, self.jobs, self.retries, self.timeout_s = model, jobs, retries, timeout_s
        self.options = {"temperature": 0} if options is None else dict(options)
        self.meter = Meter(prices)
        self._key, self._key_env = read_key(url, key_env), key_env
        self._sleep, self._jitter = sleep, jitter
        self._log, self._lock = Path(log) if log else None, threading.Lock()

    def __repr__(self) -> str:
        return f"ChatClient({self.url!r}, {self.model!r})"

    def chat(self, messages: Messages) -> str:
        """The model's answer, never empty. Raises EndpointError in a sentence."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        asked, start = [dict(m) for m in messages], time.time()
        try:
            text = self._ask("chat/completions", {"messages": asked}, chat_text)
        except EndpointError as error:
            self._write_log(start, asked, error=str(error))
            raise
        self._write_log(start, asked, answer=text)
        return text

    def chat_many(
        self,
        requests: Mapping[Hashable, Messages],
        on_answer: Callable[[Hashable, str], None] | None = None,
    ) -> dict[Hashable, str | EndpointError]:
        """Answers by key, `jobs` requests at a time; what failed holds its EndpointError.

        `on_answer` is called here, in this thread, as each answer comes: keep it, so that what was
        paid for survives a kill. After a failure that every request would meet, no more are sent.
        """
        results: dict[Hashable, str | EndpointError] = {}
        hopeless: list[EndpointError] = []

        def one(messages: Messages) -> str | EndpointError:
            if hopeless:
                return hopeless[0]
            try:
                return self.chat(messages)
            except EndpointError as error:
                if error.every:
                    hopeless.append(error)
                return error

        pool = ThreadPoolExecutor(self.jobs)
        try:
            futures = {pool.submit(one, messages): key for key, messages in requests.items()}
            for future in as_completed(futures):
                key = futures[future]
                results[key] = future.result()
                if on_answer and isinstance(results[key], str):
                    on_answer(key, results[key])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return {key: results[key] for key in requests}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32 vectors of `texts`, EMBED_BATCH a request, in their order.

        Raises DataError for an empty text, which endpoints refuse, and EndpointError.
        """
        for i, text in enumerate(texts):
            if not text.strip():
                raise DataError(f"Text {i} is empty; leave it out, it has no embedding.")
        parts = []
        for start in range(0, len(texts), EMBED_BATCH):
            batch = list(texts[start : start + EMBED_BATCH])
            read = functools.partial(vectors, n=len(batch))
            parts.append(self._ask("embeddings", {"input": batch}, read))
            if parts[-1].shape[1] != parts[0].shape[1]:
                raise EndpointError(f"{self._who} answered with vectors of different widths.")
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    # --- one request ---

    @property
    def _who(self) -> str:
        return split(self.url).netloc

    def _ask(self, path: str, body: dict, read: Callable):
        """Sends until an answer `read`s, or raises the last EndpointError."""
        tries = 0
        while True:
            options = self.options if path == "chat/completions" else {}
            try:
                return self._once(path, {"model": self.model, **options, **body}, read)
            except _OptionRefused as refused:
                with self._lock:
                    self.options = {k: v for k, v in self.options.items() if k != refused.option}
                continue
            except EndpointError as error:
                tries += 1
                if error.again and error.wait_s > LONGEST_WAIT_S:
                    said = f"{error} It asks to wait {error.wait_s:.0f} s; run again after that."
                    raise EndpointError(said, every=True) from None
                if not error.again or tries > self.retries:
                    if tries == 1:
                        raise
                    said = f"{error} ({tries} tries)"
                    raise EndpointError(said, every=error.every) from None
                wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1))
                self._sleep(max(error.wait_s, wait * (1 - self._jitter() / 2)))

    def _once(self, path: str, body: dict, read: Callable):
        headers = {"Content-Type": "application/json", "Accept": "application/json",
                   "User-Agent": "ecgkit"}  # fmt: skip
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        answer: dict = {}
        try:
            status, got, content = post(
                f"{self.url}/{path}", json.dumps(body).encode(), headers, self.timeout_s
            )
            # Some servers repeat the key; what is not there cannot slip into an error or the log.
            content = self._without_key(content.decode("utf-8", "replace"))
            if not 200 <= status < 300:
                self._refuse(status, got, content, body.keys() - _NO_OPTIONS)
            answer = as_json(content)
            result = read(answer)
            # Once more: JSON may have spelt it otherwise (`\/` for a slash).
            result = self._without_key(result) if isinstance(result, str) else result
        except BadAnswer as bad:
            self.meter.count(answer.get("usage"), failed=True)  # an empty text is paid for too
            said = self._without_key(str(bad))
            raise EndpointError(f"{self._who} answered, but {said}.") from None
        except EndpointError:
            self.meter.count(failed=True)
            raise
        self.meter.count(answer.get("usage"))
        return result

    def _refuse(self, status: int, headers, content: str, options: Iterable[str]):
        """Raises what a status outside 2xx means."""
        for option in options if status == 400 else ():
            if option in content:
                raise _OptionRefused(option)
        said = self._without_key(error_text(content))
        if 300 <= status < 400:
            where = shorten(self._without_key(headers.get("Location") or "nowhere"))
            why = f"redirects to {where}, which is not followed; give LLM_URL the final address"
        elif status in (401, 403):
            why = f"refuses the key ({status}: {said}); set {self._key_env or 'a key'}"
        elif status == 404:
            why = f"knows no such address or model ({said}); LLM_URL often ends with /v1"
        else:
            why = f"answered with status {status} ({said})"
        spent = "insufficient_quota" in content
        raise EndpointError(
            f"{self._who} {why}.",
            again=(status in PASSING or status >= 500) and not spent,
            wait_s=retry_after(headers.get("Retry-After"), time.time()),
            every=spent or status in (401, 403, 404) or 300 <= status < 400,
        )

    def _without_key(self, text: str) -> str:
        # A shorter one is a dummy ("EMPTY"), and blotting it out would tear holes in the text.
        return text.replace(self._key, "***") if len(self._key) >= 8 else text

    def _write_log(self, start: float, messages: list, **outcome: str) -> None:
        if self._log is None:
            return
        row = {"time": start, "seconds": round(time.time() - start, 3), "url": self.url,
               "model": self.model, "messages": messages, **outcome}  # fmt: skip
        runtime.append(self._log, self._without_key(json.dumps(row)) + "\n")


class _OptionRefused(EndpointError):
    def __init__(self, option: str):
        super().__init__(f"The endpoint refuses the option {option!r}.")
        self.option = option


def read_key(url: str, key_env: str) -> str:
    """The key in the environment variable `key_env`; "" for a server that may do without."""
    key = os.environ.get(key_env, "").strip() if key_env else ""
    if not re.fullmatch(r"[!#-\[\]-~]*", key):  # printable ASCII, no blank, quote or backslash
        raise ConfigError(f"{key_env} holds a blank or an odd character; set it to the key alone.")
    far, parts = not is_loopback(url), split(url)
    if far and key and parts.scheme == "http":
        raise ConfigError(
            f"http://{parts.netloc} is not encrypted, so {key_env} would travel readable; give an "
            f"https:// address, or unset {key_env} if the server needs no key."
        )
    if far and not key and parts.scheme == "https" and key_env:
        raise ConfigError(
            f"{parts.netloc} needs a key: set the environment variable {key_env} (to any word, "
            "where the server asks for none)."
        )
    return key
