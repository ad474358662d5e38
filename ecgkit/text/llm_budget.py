"""A chat client that keeps to a rate and to a budget, and answers that are kept as they come.

`PacedClient` waits for its turn before each request that is sent, retries included, and reserves
what the request can cost at most before it sends it: UTF-8 bytes of the prompt (no tokenizer makes
more tokens than bytes, but for the few that mark a turn) and `max_tokens` of answer. A request that
could break the budget is not sent, nor is any after it. What was spent is kept in a file, so that a
run that goes on counts what the killed one had spent.

Usage:

    budget = Budget(tokens=200_000, money=1.0, prices=(0.15, 0.60), kept=folder / "spent.jsonl")
    client = PacedClient(url, "m", pace=Pace(per_minute=60), budget=budget,
                         options={"temperature": 0, "max_tokens": 64})
    ask_all(client, {"3f2a": "Is ...?"}, AnswerCache(folder / "answers.jsonl"))
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ecgkit import runtime
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.chat_client import ChatClient
from ecgkit.text.endpoints import EndpointError
from ecgkit.text.llm_prompts import messages
from ecgkit.types import ConfigError

TURN_TOKENS = 32  # what a chat template adds around one message, at most


class Pace:
    """A token bucket: `per_minute` requests, `burst` of them at once. 0 = no limit.

    clock and sleep are there for tests. Threads are served in the order they come.
    """

    def __init__(
        self, per_minute: float, burst: int = 1, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):  # fmt: skip
        self._interval = 60 / per_minute if per_minute else 0.0
        self._slack = self._interval * (burst - 1)
        self._clock, self._sleep, self._lock = clock, sleep, threading.Lock()
        self._full = float("-inf")  # when the bucket will be full again

    def take(self) -> None:
        """Returns when one more request may be sent."""
        if not self._interval:
            return
        with self._lock:
            now = self._clock()
            start = max(now, self._full - self._slack)
            self._full = max(now, self._full) + self._interval
        if start > now:
            self._sleep(start - now)


class BudgetSpent(EndpointError):
    """No more may be sent. What was answered is kept."""


class Budget:
    """Tokens and money that may be spent, what is spent, what is under way; 0 = no limit.

    prices: per million (prompt, answer) tokens. kept: JSON lines of what was spent, those of
    earlier runs included. Raises ConfigError for a limit of money without prices.
    """

    def __init__(
        self, tokens: int = 0, money: float = 0.0, prices: tuple[float, float] | None = None,
        kept: Path | None = None,
    ):  # fmt: skip
        if money and prices is None:
            raise ConfigError("LLM_BUDGET needs LLM_PRICES, or nothing can be counted against it.")
        self.limits = (tokens or float("inf"), money or float("inf"))
        self.prices, self._kept = prices or (0.0, 0.0), kept
        self._reserved, self._done = [0, 0], threading.Condition()
        self._spent = _read_spent(kept)

    @property
    def limited(self) -> bool:
        return any(limit < float("inf") for limit in self.limits)

    @property
    def tokens(self) -> int:
        """Spent so far."""
        return sum(self._spent)

    @property
    def money(self) -> float:
        return self._cost(self._spent)

    def reserve(self, prompt: int, answer: int) -> None:
        """Sets aside what one request may cost. Waits for those under way where they may leave
        enough. Raises BudgetSpent where they cannot.
        """
        with self._done:
            while not self._fits(prompt, answer):
                if not any(self._reserved):
                    raise BudgetSpent(self._sentence(), every=True)
                self._done.wait()
            self._reserved[0] += prompt
            self._reserved[1] += answer

    def settle(self, prompt: int, answer: int, used: tuple[int, int]) -> None:
        """Gives back what `reserve` set aside and books what was `used`."""
        with self._done:
            self._reserved[0] -= prompt
            self._reserved[1] -= answer
            self._spent = [self._spent[0] + used[0], self._spent[1] + used[1]]
            if self._kept is not None and any(used):
                runtime.append(self._kept, f"\n{json.dumps(used)}")
            self._done.notify_all()

    def _fits(self, prompt: int, answer: int) -> bool:
        whole = [s + r + n for s, r, n in zip(self._spent, self._reserved, (prompt, answer))]
        return sum(whole) <= self.limits[0] and self._cost(whole) <= self.limits[1]

    def _cost(self, tokens) -> float:
        return (tokens[0] * self.prices[0] + tokens[1] * self.prices[1]) / 1e6

    def _sentence(self) -> str:
        names = ("LLM_TOKEN_BUDGET", "LLM_BUDGET")
        said = [f"{name}={limit:g}" for name, limit in zip(names, self.limits)
                if limit < float("inf")]  # fmt: skip
        cost = f", cost {self.money:.4f}" if any(self.prices) else ""
        return (
            f"The next request could break the budget ({', '.join(said)}; spent "
            f"{self.tokens:,} tokens{cost}); raise it and run again, what was answered is kept."
        )


class PacedClient(ChatClient):
    """A ChatClient under a `pace` and a `budget`."""

    def __init__(self, *args, pace: Pace | None = None, budget: Budget | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.pace, self.budget = pace or Pace(0), budget or Budget(prices=self.meter.prices)

    def _once(self, path: str, body: dict, read: Callable):
        answer = body.get("max_tokens") or body.get("max_completion_tokens") or 0
        if self.budget.limited and not answer:
            raise EndpointError(
                f"{self._who} takes no limit of tokens (max_tokens), so no budget can be kept; set "
                "LLM_BUDGET and LLM_TOKEN_BUDGET to 0, or ask another model.", every=True
            )  # fmt: skip
        text = json.dumps(body.get("messages", body.get("input", "")), ensure_ascii=False)
        prompt = len(text.encode("utf-8", "replace")) + TURN_TOKENS
        self.budget.reserve(prompt, answer)
        used, usage = (prompt, answer), {}

        def noted(reply: dict):
            usage.update(reply.get("usage") or {})
            return read(reply)

        try:
            self.pace.take()
            result = super()._once(path, body, noted)
        except EndpointError as error:
            # A refusal costs nothing; what a request that broke off half-way cost no one knows.
            free = error.every or getattr(error, "refused", False)
            used = (0, 0) if free else _used(usage, used)
            raise
        else:
            used = _used(usage, used)
            return result
        finally:
            self.budget.settle(prompt, answer, used)

    def _refuse(self, *args):
        try:
            super()._refuse(*args)
        except EndpointError as error:
            error.refused = True
            raise


def ask_all(
    client: ChatClient, prompts: Mapping[str, str], cache: AnswerCache
) -> dict[str, str | EndpointError]:
    """key -> reply, or the error that is there instead of one. What `cache` holds is not asked
    again; each reply is on disk as soon as it is there.
    """
    asked = {key: messages(text) for key, text in prompts.items() if cache.get(key) is None}

    def keep(key: str, text: str) -> None:
        cache.put(key, {"text": text, "model": client.model})

    failed = {
        key: said for key, said in client.chat_many(asked, keep).items()
        if not isinstance(said, str)
    }  # fmt: skip
    return {key: failed[key] if key in failed else cache.get(key) for key in prompts}


def _used(usage: dict, otherwise: tuple[int, int]) -> tuple[int, int]:
    """What the answer says it cost; what was set aside where it does not say."""
    told = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return told if all(isinstance(n, int) and n >= 0 for n in told) else otherwise


def _read_spent(path: Path | None) -> list[int]:
    spent = [0, 0]
    for line in path.read_bytes().splitlines() if path is not None and path.exists() else ():
        try:
            prompt, answer = json.loads(line)
            spent = [spent[0] + int(prompt), spent[1] + int(answer)]
        except (ValueError, TypeError):
            continue
    return spent
