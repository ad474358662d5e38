"""What the tests of LLM modelling share: settings, a classifier that can be worked out by hand, a
client of a scripted server.
"""

import torch

from ecgkit.config.llm_qa import LlmQaSettings
from ecgkit.tasks import llm_qa


def config(**more):
    return LlmQaSettings.from_params({"preset": "tiny", "llm_share": 0.05, **more})


def client_of(server, **more):
    """(settings, client) of a ChatServer; failures are tried once more, without waiting."""
    settings = config(llm_url=server.url, llm_model="m", **more)
    made, _ = llm_qa.open_endpoint(settings, sleep=lambda s: None, jitter=lambda: 0.0, retries=1)
    return settings, made


class Peaks(torch.nn.Module):
    """A classifier whose probability of class k is above a half where lead k reaches 0.3 mV."""

    def __init__(self, n_classes):
        super().__init__()
        self.here = torch.nn.Parameter(torch.zeros(1))
        self.n_classes, self.calls = n_classes, []

    def forward(self, signal):
        self.calls.append(len(signal))
        peak = signal.abs().amax(-1)  # (B, 12)
        return {"logits": 20 * (peak[:, torch.arange(self.n_classes) % 12] - 0.3)}


def without_keys(monkeypatch):
    """No key and no proxy of this machine's user."""
    for name in ("OPENAI_API_KEY", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
