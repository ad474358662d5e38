"""ESI evaluation: zero-shot reading by prompts, a linear probe on frozen embeddings, and where on
the ECG a prompt finds its likeness.

Usage:
    model, tokenizer, config, read = load_trained(run.sibling("04_esi_pretraining"))
    ecg = embed(model, cohort)                   # {"embedding": (n, E), "latents": (n, D)}
    scores = zero_shot(ecg["latents"][rows], prompt_latents(model, tokenizer, prompts))
    table = auc_table(labels[rows], scores, names, patients)
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ecgkit.features.esi_input import esi_preprocess
from ecgkit.tasks.esi_pretrain import build_model
from ecgkit.tasks.metrics import auc, bootstrap_statistic, macro_auc
from ecgkit.text.prompts import finding_prompts
from ecgkit.types import ModelError

# --- embeddings ---


@torch.no_grad()
def embed(model, cohort, rows: np.ndarray | None = None, batch_size: int = 128) -> dict:
    """ECGs of `rows` (default: all) -> {"embedding" (n, E) of the encoder, "latents" (n, D)}."""
    rows = np.arange(len(cohort.store)) if rows is None else np.asarray(rows)
    device, model = next(model.parameters()).device, model.eval()
    pooled, latents = [], []
    for start in range(0, len(rows), batch_size):
        x = esi_preprocess(cohort.store.read(rows[start : start + batch_size]))
        out = model.encode_ecg(torch.from_numpy(x).to(device))
        pooled.append(out["encoder_embedding"].float().cpu().numpy())
        latents.append(out["ecg_latents"].float().cpu().numpy())
    if not pooled:
        raise ModelError("There are no ECGs to embed; check the split that was asked for.")
    return {"embedding": np.concatenate(pooled), "latents": np.concatenate(latents)}


@torch.no_grad()
def prompt_latents(model, tokenizer, prompts: dict[str, list[str]]) -> np.ndarray:
    """(K, D) unit vectors: the mean latent of each class's prompt ensemble."""
    device, flat = next(model.parameters()).device, [p for group in prompts.values() for p in group]
    batch = tokenizer(flat, padding=True, truncation=True, max_length=64, return_tensors="pt")
    ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    latents = model.eval().encode_text(ids, mask)["text_latents"].float().cpu()
    parts = latents.split([len(group) for group in prompts.values()])
    return torch.stack([F.normalize(part.mean(0), dim=0) for part in parts]).numpy()


# --- scores ---


def zero_shot(
    ecg_latents: np.ndarray, prompts: np.ndarray, normal: int | None = None
) -> np.ndarray:
    """(n, D), (K, D) -> (n, K) cosine similarities, the score of each class.

    With `normal`, the row of the prompts for a normal ECG, each class is scored against it: cosine
    with the class minus cosine with normal; normal itself against the mean of the others. A text's
    common likeness to every ECG then drops out. (The paper does not state how it scores.)
    """
    scores = ecg_latents @ prompts.T
    if normal is None or len(prompts) < 2:
        return scores
    against = scores - scores[:, [normal]]
    against[:, normal] = scores[:, normal] - np.delete(scores, normal, axis=1).mean(1)
    return against


def linear_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, c: float = 0.1
) -> np.ndarray:
    """One logistic regression per class on standardised embeddings: (n, E), (n, K), (m, E) -> (m,
    K).

    A class with one label only in training scores its base rate everywhere, so its AUC is 0.5.
    """
    from sklearn.linear_model import LogisticRegression

    mean, std = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / std, (test - mean) / std
    scores = np.tile(labels.mean(0), (len(test), 1)).astype(float)
    for k in range(labels.shape[1]):
        if 0 < labels[:, k].sum() < len(labels):
            probe = LogisticRegression(C=c, max_iter=300).fit(train, labels[:, k] > 0.5)
            scores[:, k] = probe.predict_proba(test)[:, 1]
    return scores


def auc_table(
    labels: np.ndarray, scores: np.ndarray, names: list[str], patients: np.ndarray,
    n_boot: int = 300, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """One row per class that has both labels: name, auc, low, high (95 %, by patient), n_positive,
    n.
    """
    rows = []
    for k, name in enumerate(names):
        n_positive = int(labels[:, k].sum())
        if not 0 < n_positive < len(labels):
            continue
        value, low, high = bootstrap_statistic(
            lambda i, k=k: auc(labels[i, k], scores[i, k]), len(labels), patients, n_boot, seed
        )
        rows.append({"name": name, "auc": value, "low": low, "high": high,
                     "n_positive": n_positive, "n": len(labels)})  # fmt: skip
    return pd.DataFrame(rows, columns=["name", "auc", "low", "high", "n_positive", "n"])


def macro_interval(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, n_boot: int = 300, seed: int = 0
) -> tuple[float, float, float]:
    """(macro AUC, low, high): 95 % interval over resampled patients, the same draws as any
    other.
    """
    return bootstrap_statistic(
        lambda i: macro_auc(labels[i], scores[i]), len(labels), patients, n_boot, seed
    )


def untrained_scores(
    config, model, tokenizer, prompts: dict[str, list[str]], cohort, rows: np.ndarray
) -> np.ndarray:
    """Zero-shot scores of a model like `model` before any training: the control. (n, K)"""
    from transformers import AutoModel

    torch.manual_seed(config.seed + 1)
    text_encoder = AutoModel.from_config(model.unimodal_layers.config, add_pooling_layer=False)
    twin = build_model(config, text_encoder, len(tokenizer))
    latents = embed(twin, cohort, rows)["latents"]
    return zero_shot(latents, prompt_latents(twin, tokenizer, prompts))


def scorable_codes(cohort, rows: np.ndarray, min_positive: int) -> list[str]:
    """SCP codes with a wording kept back and at least `min_positive` ECGs with and without it."""
    present = Counter(code for codes in cohort.table["scp_codes"].iloc[rows] for code in codes)
    fits = [c for c in finding_prompts(list(present)) if present[c] >= min_positive]
    return sorted(c for c in fits if len(rows) - present[c] >= min_positive)


def telling_example(cohort, rows: np.ndarray, present: np.ndarray, scores: np.ndarray, codes):
    """(row, code): the ECG that most clearly has a finding seen in single beats (PVC, PAC, PACE).

    Falls back to the strongest pair of any code. `present`, `scores` (n, K) belong to `rows`.
    """
    wanted = [k for k, code in enumerate(codes) if code in ("PVC", "PAC", "PACE")]
    wanted = wanted or list(range(len(codes)))
    centred = np.where(present > 0.5, scores - scores.mean(0), -np.inf)[:, wanted]
    i, k = np.unravel_index(np.argmax(centred), centred.shape)
    return int(rows[i]), codes[wanted[k]]


# --- where ---


def prompt_saliency(model, signal: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """(T,) how much each moment of `signal` (C, T) mV raises the likeness to `prompt` (D,); max 1.

    Gradient of the cosine times the encoder's last tokens (Grad-CAM's weighting), its positive
    part, interpolated from P tokens to T samples. All zero where nothing speaks for the prompt.
    """
    model.eval()
    device = next(model.parameters()).device
    x = torch.from_numpy(esi_preprocess(signal[None])).to(device)
    kept = []
    hook = model.img_encoder.stages[-1].register_forward_hook(lambda m, i, out: kept.append(out))
    try:
        latents = model.encode_ecg(x)["ecg_latents"]  # (1, D)
    finally:
        hook.remove()
    score = (latents * torch.from_numpy(prompt).to(device)).sum()
    (gradient,) = torch.autograd.grad(score, kept[0])
    weights = (gradient.mean(-1, keepdim=True) * kept[0]).sum(1, keepdim=True).relu()  # (1, 1, P)
    weights = F.interpolate(weights, size=signal.shape[1], mode="linear", align_corners=False)
    weights = weights[0, 0].detach().cpu().numpy()
    return weights / weights.max() if weights.max() > 0 else weights
