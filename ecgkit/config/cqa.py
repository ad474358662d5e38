"""Settings of the Cardio Query Assistant: where its notes come from, who finds and who writes."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError


@dataclasses.dataclass(frozen=True)
class CqaSettings(KitConfig):
    """The paper's assistant: two passages, a vector index, a language model that writes. By default
    the kit's notes, exact cosine of TF-IDF, and the passages' own sentences: nothing to download.
    """

    cqa: bool = setting("captions say how the findings look (False: the paper's 'no CQA')", True)
    knowledge: str = setting(
        "folder of your own textbooks (.md .txt .pdf) beside the kit's notes; '' = the notes alone",
        "",
    )
    top_k: int = setting("passages retrieved for a finding", 2)
    retriever: str = setting(
        "exact cosine | chroma (pip install ecgkit[rag])", "exact", choices=("exact", "chroma")
    )
    embedder: str = setting(
        "'' = TF-IDF | Hugging Face encoder, hub id or folder | endpoint:MODEL = an "
        "OpenAI-compatible endpoint at LLM_URL", "",
    )  # fmt: skip
    writer: str = setting(
        "extractive: sentences of the passages | chat: an OpenAI-compatible endpoint",
        "extractive", choices=("extractive", "chat"),
    )  # fmt: skip
    llm_url: str = setting("base URL of the endpoint, e.g. http://localhost:8000/v1", "")
    llm_model: str = setting("its model", "")
    llm_jobs: int = setting("requests at a time", 4)
    llm_fallback: bool = setting("write from the passages where the endpoint gives nothing", False)
    allow_remote_text: bool = setting(
        "text of credentialed records (MIMIC) may leave this machine; ask your data use agreement",
        False,
    )

    def check(self) -> None:
        super().check()
        if self.top_k < 1:
            raise ConfigError(f"TOP_K is {self.top_k}; retrieve at least one passage.")
        if self.llm_jobs < 1:
            raise ConfigError(f"LLM_JOBS is {self.llm_jobs}; at least one request at a time.")
        chats = self.writer == "chat"
        if (chats or self.embedder.startswith("endpoint:")) and not self.llm_url:
            asks = "WRITER=chat" if chats else f"EMBEDDER={self.embedder}"
            raise ConfigError(f"{asks} needs LLM_URL, the base URL of an endpoint.")
        if chats and not self.llm_model:
            raise ConfigError("WRITER=chat needs LLM_MODEL, a model that the endpoint serves.")
