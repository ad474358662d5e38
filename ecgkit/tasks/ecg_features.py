"""What a frozen encoder makes of each ECG, computed once per record and kept between runs.

A frozen encoder gives the same embedding every time, so it runs once per record instead of once per
batch; the cache is keyed by the cohort and by every weight of the encoder.

Usage:

    features = encoder_features(load_encoder(folder), cohort)    # (n_ecgs, F), row = row of store
    features = standardise(features, cohort.rows("train"))
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from ecgkit import runtime
from ecgkit.features.encoder_input import prepare_for
from ecgkit.types import ConfigError, ModelError


def encoder_hash(encoder: torch.nn.Module) -> str:
    """Twelve hex digits over names, shapes and values of all weights, and the input they want."""
    wants = getattr(encoder, "notes", {}).get("input", "")
    digest = hashlib.sha256(f"{type(encoder).__name__}{wants}".encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:12]


def encoder_features(
    encoder: torch.nn.Module, cohort, batch_size: int = 64, device: str = "auto",
    leads: Sequence[str] = (),
) -> np.ndarray:  # fmt: skip
    """Embeddings (n_ecgs, F) float32 of every stored ECG, in evaluation mode.

    `leads` names those the encoder is shown, the others being zero; none = all it has.

    `encoder(x)` takes x (B, C, T) in mV and returns a dict with "embedding" (B, F). An encoder
    whose `notes` name another input (`features.encoder_input`) is given such. Raises ModelError
    when an embedding is not finite, naming how many ECGs.
    """
    folder = runtime.cache_dir() / "features"
    folder.mkdir(exist_ok=True)
    seen = seen_leads(cohort.store.leads, leads)
    some = "" if seen.all() else "-" + "".join("01"[int(lead)] for lead in seen)
    path = folder / f"{cohort.fingerprint}-{encoder_hash(encoder)}{some}.npy"
    if path.exists():
        with runtime.reading_cached(path):
            return np.load(path)
    prepare = prepare_for(getattr(encoder, "notes", {}).get("input", ""))
    where = runtime.pick_device(device)
    encoder = encoder.to(where).eval()
    features = []
    starts = range(0, len(cohort.store), batch_size)
    with torch.inference_mode():
        for start in runtime.progress(starts, "encoding ECGs"):
            rows = np.arange(start, min(start + batch_size, len(cohort.store)))
            shown = prepare(cohort.store.read(rows) * seen[:, None])  # (B, C, T)
            signal = torch.from_numpy(np.ascontiguousarray(shown, dtype=np.float32)).to(where)
            features.append(encoder(signal)["embedding"].float().cpu().numpy())
    features = np.concatenate(features)
    bad = int((~np.isfinite(features).all(1)).sum())
    if bad:
        raise ModelError(
            f"The encoder gave {bad} of {len(features)} ECGs an embedding that is not finite; "
            "train it again "
            "with a lower learning rate (notebook 04)."
        )
    with runtime.replacing(path) as scratch, open(scratch, "wb") as file:
        np.save(file, features)
    return features


def seen_leads(has: Sequence[str], wanted: Sequence[str] = ()) -> np.ndarray:
    """(C,) float32, 1 for each of `has` that is in `wanted` (all where that is empty), else 0.

    Raises ConfigError for a lead the ECGs do not have.
    """
    names = {name.lower(): name for name in has}
    missing = [name for name in wanted if name.lower() not in names]
    if missing:
        raise ConfigError(f"LEADS names {', '.join(missing)}; these ECGs have {', '.join(has)}.")
    chosen = {names[name.lower()] for name in wanted} or set(has)
    return np.array([name in chosen for name in has], dtype=np.float32)


def standardise(
    features: np.ndarray, train_rows: np.ndarray, others: np.ndarray | None = None
) -> np.ndarray:
    """Zero mean and unit variance per dimension, judged on the training folds alone; constant
    dimensions become 0. `others`: embeddings to be scaled in their place, e.g. of another source.

    Without it all embeddings point the same way, and one inner step moves every answer alike.
    """
    mean, std = features[train_rows].mean(0), features[train_rows].std(0)
    scaled = features if others is None else others
    return ((scaled - mean) / np.where(std > 1e-6, std, np.inf)).astype(np.float32)
