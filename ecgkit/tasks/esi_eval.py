"""ESI evaluation, as notebook 05 calls it: what its studies need, under one name, and where on the
ECG a prompt finds its likeness.

Each study has a file of its own: `zero_shot`, `probes`, `finetune`, `identification`,
`retrieval_scores`, `caption_scores`, `ecg_baselines`; labels are in `label_sets`, embeddings in
`embeddings`, tables in `eval_tables`.

Usage:

    model, tokenizer, config, read = load_trained(run.sibling("04_esi_pretraining"))
    ecg = embed(model, cohort)                   # {"embedding": (n, E), "latents": (n, D)}
    scores = zero_shot(ecg["latents"][rows], prompt_latents(model, tokenizer, prompts))
    table = auc_table(labels[rows], scores, names, patients)
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ecgkit.features.esi_input import esi_preprocess
from ecgkit.tasks.embeddings import embed
from ecgkit.tasks.metrics_multilabel import class_table, macro_auc_interval
from ecgkit.tasks.probes import linear_probe
from ecgkit.tasks.zero_shot import prompt_latents, scorable_codes, zero_shot
from ecgkit.types import ModelError

__all__ = [
    "auc_table", "embed", "linear_probe", "macro_interval", "prompt_latents", "prompt_saliency",
    "scorable_codes", "telling_example", "zero_shot",
]  # fmt: skip


def auc_table(
    labels: np.ndarray, scores: np.ndarray, names: list[str], patients: np.ndarray,
    n_boot: int = 300, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """One row per class that has both labels: name, auc, low, high (95 %, by patient), n_positive,
    n.
    """
    table = class_table(labels, scores, names, patients, "name", n_boot=n_boot, seed=seed)
    table = table.rename(columns={"auroc": "auc", "positives": "n_positive"})
    table = table[table["auc"].notna()].reset_index(drop=True)
    return table[["name", "auc", "low", "high", "n_positive", "n"]]


def macro_interval(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, n_boot: int = 300, seed: int = 0
) -> tuple[float, float, float]:
    """(macro AUC, low, high): 95 % interval over resampled patients, the same draws as any other;
    NaN where no class has both labels.
    """
    return macro_auc_interval(labels, scores, patients, n_boot, seed)


def telling_example(cohort, rows: np.ndarray, present: np.ndarray, scores: np.ndarray, codes):
    """(row, code): the ECG that most clearly has a finding seen in single beats (PVC, PAC, PACE).

    Falls back to the strongest pair of any code. `present`, `scores` (n, K) belong to `rows`.
    """
    wanted = [k for k, code in enumerate(codes) if code in ("PVC", "PAC", "PACE")]
    wanted = wanted or list(range(len(codes)))
    centred = np.where(present > 0.5, scores - scores.mean(0), -np.inf)[:, wanted]
    i, k = np.unravel_index(np.argmax(centred), centred.shape)
    return int(rows[i]), codes[wanted[k]]


# --- where ----------------------------------------------------------------------------------------


def prompt_saliency(model, signal: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """(T,) how much each moment of `signal` (C, T) mV raises the likeness to `prompt` (D,); max 1.

    Gradient of the cosine times the encoder's last feature map (Grad-CAM's weighting), its positive
    part, interpolated from P positions to T samples. All zero where nothing speaks for the prompt.
    Raises ModelError for an encoder without `stages` (ViT): it has no map over time to weigh.
    """
    model.eval()
    stages = getattr(model.img_encoder, "stages", None)
    if stages is None:
        raise ModelError(
            f"{type(model.img_encoder).__name__} has no feature map over time; look at what its "
            "tokens attend to instead."
        )
    device = next(model.parameters()).device
    x = torch.from_numpy(esi_preprocess(signal[None])).to(device)
    kept = []
    hook = stages[-1].register_forward_hook(lambda m, i, out: kept.append(out))
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
