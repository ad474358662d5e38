"""What an endpoint was asked for, and what that cost.

Usage:

    meter = Meter(prices=(0.15, 0.60))          # per million prompt and answer tokens
    meter.count({"prompt_tokens": 120, "completion_tokens": 40})
    print(meter)        # 1 requests (0 failed), 120 prompt and 40 answer tokens, cost 0.0000
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Meter:
    """What was asked of an endpoint. `prices`: per million (prompt, answer) tokens, if known."""

    prices: tuple[float, float] | None = None
    requests: int = 0  # sent, retries included
    failures: int = 0  # of these, without a usable answer
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0  # answers that came without a token count
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def cost(self) -> float | None:
        """In the currency of `prices`; None where prices or token counts are missing."""
        if self.prices is None or self.unmetered:
            return None
        return (
            self.prompt_tokens * self.prices[0] + self.completion_tokens * self.prices[1]
        ) / 1e6

    def __str__(self) -> str:
        said = "unknown (no price given)" if self.prices is None else "unknown (tokens not counted)"
        said = said if self.cost is None else f"{self.cost:.4f}"
        lacking = f" ({self.unmetered} answers without a count)" if self.unmetered else ""
        return (
            f"{self.requests:,} requests ({self.failures:,} failed), {self.prompt_tokens:,} prompt "
            f"and {self.completion_tokens:,} answer tokens{lacking}, cost {said}"
        )

    def count(self, usage: object = None, failed: bool = False) -> None:
        """One request, with the `usage` its answer told."""
        counts = usage if isinstance(usage, dict) else {}
        prompt, completion = (
            counts.get(name) for name in ("prompt_tokens", "completion_tokens")
        )
        with self._lock:
            self.requests += 1
            self.failures += failed
            self.unmetered += not failed and not isinstance(prompt, int)
            self.prompt_tokens += prompt if isinstance(prompt, int) else 0
            self.completion_tokens += completion if isinstance(completion, int) else 0
