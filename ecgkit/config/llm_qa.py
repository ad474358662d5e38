"""Settings of LLM modelling: a classifier's findings as text, a chat model that answers."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError

CONTEXTS = ("classifier", "features", "report", "notes", "examples")


@dataclasses.dataclass(frozen=True)
class LlmQaSettings(KitConfig):
    """The published pipeline: classifier findings, all seven question types, a tenth of the test
    split, temperature 0. Without LLM_URL a small local model is served on this machine.
    """

    llm_qa: bool = setting("run the section on LLM modelling", True)
    llm_url: str = setting(
        "base URL of an OpenAI-compatible endpoint; '' = the small Llama of this notebook, served "
        "on this machine", "",
    )  # fmt: skip
    llm_model: str = setting("the model it serves", "")
    llm_jobs: int = setting("requests at a time", 4)
    llm_per_minute: int = setting("requests per minute at most; 0 = as fast as answers come", 0)
    llm_budget: float = setting(
        "stop before this much is spent, in the currency of LLM_PRICES; 0 = no limit", 0.0
    )
    llm_token_budget: int = setting("stop before this many tokens are used; 0 = no limit", 0)
    llm_prices: str = setting("price of a million tokens in and out, e.g. '0.15 0.60'", "")
    llm_share: float = setting(
        "share of the test questions asked, by question type", tiny=0.02, demo=0.01, paper=0.1
    )
    llm_share_seed: int = setting("seed of that choice", 42)
    llm_context: str = setting(
        "what the model is told of the ECG, blank-separated: classifier (published) features "
        "report notes examples", "classifier",
    )  # fmt: skip
    llm_examples: int = setting("worked examples shown under LLM_CONTEXT=examples", 4)
    llm_scoring: str = setting(
        "sound | reference = the published matching, in which 'not sure' and names with capitals "
        "never count", "sound", choices=("sound", "reference"),
    )  # fmt: skip
    llm_prompts: str = setting(
        "sound | reference = as released: of twelve lead-wise views only lead I holds a signal; of "
        "two ECGs whose leads are named only the first is shown", "sound",
        choices=("sound", "reference"),
    )  # fmt: skip
    llm_max_tokens: int = setting(
        "tokens an answer may have; a model that thinks first needs hundreds",
        tiny=24, demo=24, paper=64,
    )  # fmt: skip
    allow_remote_text: bool = setting(
        "text of credentialed records (MIMIC) may leave this machine; ask your data use agreement",
        False,
    )

    def check(self) -> None:
        super().check()
        unknown = set(self.llm_context.split()) - set(CONTEXTS)
        if unknown or not self.llm_context.split():
            raise ConfigError(
                f"LLM_CONTEXT is {self.llm_context!r}; name one or more of {', '.join(CONTEXTS)}."
            )
        if not 0 < self.llm_share <= 1:
            raise ConfigError(f"LLM_SHARE is {self.llm_share}; it must lie in 0 to 1.")
        if self.llm_url and not self.llm_model:
            raise ConfigError("LLM_URL needs LLM_MODEL, a model that the endpoint serves.")
        if self.llm_jobs < 1 or self.llm_examples < 0:
            raise ConfigError("LLM_JOBS must be at least 1 and LLM_EXAMPLES at least 0.")
        if self.llm_max_tokens < 1:
            raise ConfigError(f"LLM_MAX_TOKENS is {self.llm_max_tokens}; it must be at least 1.")
        if min(self.llm_per_minute, self.llm_budget, self.llm_token_budget) < 0:
            raise ConfigError(
                "LLM_PER_MINUTE, LLM_BUDGET and LLM_TOKEN_BUDGET count from 0 (no limit)."
            )
        if self.llm_budget and not self.llm_prices:
            raise ConfigError("LLM_BUDGET needs LLM_PRICES, or nothing can be counted against it.")
        self.prices()

    def prices(self) -> tuple[float, float] | None:
        """Per million tokens in and out, or None. Raises ConfigError if not two numbers."""
        if not self.llm_prices:
            return None
        try:
            one, two = (float(part) for part in self.llm_prices.split())
        except ValueError:
            raise ConfigError(
                f"LLM_PRICES is {self.llm_prices!r}; give two numbers, e.g. '0.15 0.60'."
            ) from None
        return one, two
