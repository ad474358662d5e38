"""The network of sim_to_real.py: a small ConvNeXtV2-1D read by statements, whose names are read by
a small text encoder.

Each ECG is compared with the text of every statement (one wording of each per step); the pair is
right when the ECG carries the statement (a sigmoid per pair, as in SigLIP, Zhai et al. 2023). So
one loss teaches the ECG encoder what the statements look like and the text encoder what they mean.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.data.labels import multi_hot
from ecgkit.data.scp_table import scp_statements
from ecgkit.models.convnext import ConvNeXt1D, ConvNeXtConfig
from ecgkit.text.captions import CLASS_WORDS, OPENINGS, SYNONYMS
from ecgkit.text.encoders import small_bert, train_wordpiece

SIZES = {"depths": (1, 1, 2, 1), "dims": (24, 48, 96, 160), "norm": "channel", "init_std": 0.05}
BATCH, WIDTH, LATENT = 128, 96, 96


@dataclass
class Study:
    encoder: ConvNeXt1D
    text: nn.Module
    tokenizer: object
    project: nn.Linear


# --- text -----------------------------------------------------------------------------------------


def statement_wordings(codes: list[str]) -> dict[str, list[str]]:
    """Name of each statement and superclass -> its wordings, each in every opening."""
    described = scp_statements()["description"]
    names = {c: (described.get(c, c), *SYNONYMS.get(c, ())) for c in codes}
    names |= {f"class {c}": words for c, words in CLASS_WORDS.items()}
    return {key: [o.format(w) for w in words for o in OPENINGS] for key, words in names.items()}


def statement_labels(listed: list[list[str]], names: list[str]) -> np.ndarray:
    """(n, K) float32: which of `names` (codes and `class X`) each ECG carries."""
    classes = scp_statements()["diagnostic_class"].dropna().to_dict()
    said = [[*codes, *(f"class {classes[c]}" for c in codes if c in classes)] for codes in listed]
    return multi_hot(said, names)


# --- training -------------------------------------------------------------------------------------


def _tokens(tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """ids, mask (1, W, L) of the W wordings of one statement."""
    out = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="np")
    return tuple(out[name].astype(np.int32)[None] for name in ("input_ids", "attention_mask"))


def fit_statements(
    x: np.ndarray, codes: list[list[str]], texts: list[str], *, minutes: float, seed: int,
    epochs: int = 40,
) -> Study:  # fmt: skip
    """Trains on x (n, 12, T) mV with the statements of each ECG, for `epochs` or `minutes`."""
    torch.manual_seed(seed)
    counts = Counter(code for listed in codes for code in listed)
    kept = sorted(code for code, n in counts.items() if n >= 5)
    wordings = statement_wordings(kept)
    names = list(wordings)
    labels = torch.from_numpy(statement_labels(codes, names))
    tokenizer = train_wordpiece([*texts, *sum(wordings.values(), [])])
    tokens = [_tokens(tokenizer, wordings[name]) for name in names]
    study = Study(
        ConvNeXt1D(ConvNeXtConfig(**SIZES)),
        small_bert(len(tokenizer), WIDTH, 2, 64),
        tokenizer,
        nn.Linear(SIZES["dims"][-1], LATENT),
    )
    _train(study, torch.from_numpy(x), labels, tokens, epochs, minutes, seed)
    return study


def _train(study: Study, x, labels, tokens, epochs: int, minutes: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rarity = (labels.mean(0).clamp(1e-3, 0.5) / (1 - labels.mean(0)).clamp(min=0.5)).log()
    bias = nn.Parameter(rarity.clone())  # each statement starts at its own frequency
    scale = nn.Parameter(torch.tensor(2.0))
    parts = nn.ModuleList([study.encoder, study.text, study.project])
    parts.train()
    groups = [
        {"params": parts.parameters(), "weight_decay": 0.05},
        {"params": [bias, scale], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=2e-3)
    n, start, last = len(x), time.perf_counter(), 0.0
    per_epoch = max(1, n // BATCH)
    for step in range(epochs * per_epoch):
        # The schedule follows whichever runs out first, steps or time.
        used = max(
            step / (epochs * per_epoch), (time.perf_counter() - start) / max(60 * minutes, 1e-9)
        )
        if used >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * used))
        if step % per_epoch == 0:
            order = rng.permutation(n)
        rows = torch.from_numpy(order[step % per_epoch * BATCH :][:BATCH])
        latents = ecg_latents(study, augment(x[rows].float(), rng))
        words = _text_latents(study, tokens, rng)
        logits = latents @ words.T * scale.exp() + bias
        loss = F.binary_cross_entropy_with_logits(logits, labels[rows], reduction="none")
        loss = loss.sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 5.0)
        optimiser.step()
        if time.perf_counter() - last > 30:
            last = time.perf_counter()
            print(f"  step {step} epoch {step / per_epoch:.1f} loss {loss.item():.3f}", flush=True)
    parts.eval()


def augment(x, rng: np.random.Generator):
    """(B, 12, T) mV -> the same with another body, another moment and other noise.

    The eight independent leads are mixed by a matrix near one (a chest of other shape) and the
    other four follow from I and II again; time is rolled; some leads go silent.
    """
    b, _, t = x.shape
    eight = x[:, [0, 1, 6, 7, 8, 9, 10, 11]]
    mix = torch.eye(8) + 0.05 * torch.from_numpy(rng.standard_normal((b, 8, 8), np.float32))
    gain = torch.from_numpy(np.exp(0.10 * rng.standard_normal((b, 1, 1))).astype(np.float32))
    eight = (mix * gain) @ eight
    one, two = eight[:, 0], eight[:, 1]
    limb = torch.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], 1)
    x = torch.cat([limb, eight[:, 2:]], 1)
    x = torch.roll(x, int(rng.integers(t)), dims=-1)
    noise = torch.from_numpy(rng.standard_normal((b, 12, t), np.float32))
    x = x + noise * torch.from_numpy(0.01 * rng.random((b, 1, 1), np.float32))
    silent = torch.from_numpy((rng.random((b, 12, 1)) < 0.03).astype(np.float32))
    return x * (1 - silent)


def ecg_latents(study: Study, x):
    """(B, 12, T) -> (B, LATENT) of unit length."""
    return F.normalize(study.project(study.encoder(x)["embedding"]), dim=-1)


def _text_latents(study: Study, tokens, rng: np.random.Generator):
    """(K, LATENT): one wording of each statement, drawn anew each step."""
    picks = [(ids[0, j], mask[0, j]) for ids, mask in tokens for j in [rng.integers(ids.shape[1])]]
    length = max(len(ids) for ids, _ in picks)
    ids, mask = np.zeros((2, len(picks), length), np.int64)
    for row, (word, there) in enumerate(picks):
        ids[row, : len(word)], mask[row, : len(there)] = word, there
    return text_latents(study, torch.from_numpy(ids), torch.from_numpy(mask))


def text_latents(study: Study, ids, mask):
    """(K, L) token ids -> (K, LATENT) of unit length: the mean over a text's tokens."""
    out = study.text(input_ids=ids, attention_mask=mask).last_hidden_state
    weight = mask[..., None].to(out.dtype)
    return F.normalize((out * weight).sum(1) / weight.sum(1), dim=-1)


# --- reading --------------------------------------------------------------------------------------


@torch.no_grad()
def embed(encoder: ConvNeXt1D, x: np.ndarray) -> np.ndarray:
    """(n, 12, T) -> (n, D) frozen embeddings."""
    parts = [
        encoder(torch.from_numpy(x[i : i + 256]).float())["embedding"]
        for i in range(0, len(x), 256)
    ]
    return torch.cat(parts).numpy()


@torch.no_grad()
def prompt_scores(study: Study, x: np.ndarray, prompts: dict[str, list[str]]) -> np.ndarray:
    """(n, K): cosine of each ECG with the mean latent of each class's prompts."""
    latents = F.normalize(study.project(torch.from_numpy(embed(study.encoder, x))), dim=-1)
    words = []
    for group in prompts.values():
        batch = study.tokenizer(group, padding=True, return_tensors="pt")
        words.append(
            F.normalize(
                text_latents(study, batch["input_ids"], batch["attention_mask"]).mean(0), dim=0
            )
        )
    return (latents @ torch.stack(words).T).numpy()
