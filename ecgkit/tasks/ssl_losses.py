"""What each kind of pretraining minimises and what it logs, for `tasks.ssl_pretrain`.

Every row of a log has two signs of collapse: `embedding_std` (1 = unit embeddings spread evenly, 0
= all the same) and `cosine_others` (mean cosine of different ECGs, 1 = all the same). wav2vec adds
the perplexities of its codes (prob_, code_; up to G V, and G where one code a book is left), the
Gumbel temperature, and how many distractors were the very same code.

Usage:

    losses = loss_function(config, "w2v_cmsc")(module, batch)      # {"loss": (), ...}
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ecgkit.models.losses_qa import cmsc_loss, wav2vec_loss
from ecgkit.models.losses_ssl import byol_loss, nt_xent


def loss_function(config, kind: str):
    """loss_fn for the engine, of kind w2v | cmsc | w2v_cmsc | w2v_cmsc_rlm | simclr | byol."""
    if kind == "simclr":
        return _simclr(config)
    return _byol if kind == "byol" else _halves(config, kind)


def _halves(config, kind: str):
    n_codes = config.ssl_codebooks * config.ssl_codes
    weights = (config.ssl_code_weight, config.ssl_feature_weight)

    def loss_fn(module, batch) -> dict[str, torch.Tensor]:
        out = module(batch["signal"], batch.get("mask"))
        pooled, patient, segment = out["pooled"], batch["patient"], batch["segment"]
        losses = {"loss": pooled.new_zeros(())}
        if "mask" in batch:
            logits, quantised = out["logits"], out["quantised"]
            n_steps = logits.shape[1] * logits.shape[2]
            summed = wav2vec_loss(
                logits, quantised["prob_perplexity"], n_codes, out["features"], weights
            )
            losses |= {"w2v": summed / n_steps, **token_monitors(logits, quantised)}
            losses["temperature"] = out["temperature"]
            losses["loss"] = losses["loss"] + losses["w2v"]
        if "cmsc" in kind:
            losses["cmsc"] = cmsc_loss(pooled, patient, segment, config.ssl_cmsc_temperature)
            weight = config.ssl_cmsc_weight if "mask" in batch else 1.0
            losses["loss"] = losses["loss"] + weight * losses["cmsc"]
        found = found_partner(pooled[segment == 0], pooled[segment == 1], patient[segment == 0],
                              patient[segment == 1])  # fmt: skip
        return {**losses, "found_partner": found, **collapse_monitors(pooled[segment == 0])}

    return loss_fn


def _simclr(config):
    def loss_fn(module, batch) -> dict[str, torch.Tensor]:
        out = module(batch["first"], batch["second"])
        loss = nt_xent(out["z_1"], out["z_2"], config.ssl_temperature)
        own = torch.arange(len(out["z_1"]), device=loss.device)
        found = found_partner(out["z_1"], out["z_2"], own, own)
        return {"loss": loss, "found_partner": found, **collapse_monitors(out["embedding"])}

    return loss_fn


def _byol(module, batch) -> dict[str, torch.Tensor]:
    out = module(batch["first"], batch["second"])
    loss = byol_loss(
        out["predicted_1"], out["predicted_2"], out["target_1"], out["target_2"]
    )
    own = torch.arange(len(out["target_1"]), device=loss.device)
    found = found_partner(out["predicted_1"], out["target_2"], own, own)
    return {"loss": loss, "found_partner": found, **collapse_monitors(out["embedding"])}


# --- what a log row tells besides -----------------------------------------------------------------


@torch.no_grad()
def collapse_monitors(embedding) -> dict[str, torch.Tensor]:
    """embedding (N, D) of N different ECGs -> embedding_std, cosine_others.

    The deviation over ECGs of each dimension of the unit embedding, times sqrt(D), averaged.
    """
    unit = F.normalize(embedding.float(), dim=-1)
    n, width = unit.shape
    others = (unit.sum(0).pow(2).sum() - n) / max(n * n - n, 1)  # all pairs but a row and itself
    return {
        "embedding_std": unit.std(0, correction=0).mean() * width**0.5,
        "cosine_others": others,
    }


@torch.no_grad()
def found_partner(first, second, patient_1, patient_2) -> torch.Tensor:
    """Share of `first` (N, D) whose nearest of `second` (N, D), by cosine, is the same patient's.
    Chance is about 1 / N."""
    scores = F.normalize(first.float(), dim=-1) @ F.normalize(second.float(), dim=-1).t()
    return (patient_2[scores.argmax(1)] == patient_1).float().mean()


@torch.no_grad()
def token_monitors(logits, quantised: dict) -> dict[str, torch.Tensor]:
    """logits (1 + K, B, M) -> accuracy, same_code, and the quantiser's numbers.

    `accuracy`: the masked tokens whose target beats all distractors, of those that have one left;
    a distractor of the very same code takes no part (its logit is -inf), so that collapsed codes
    do not count as right. Chance is about 1 / (1 + K).
    """
    target, others = logits[0], logits[1:].amax(0)
    asked = others > -torch.inf
    right = ((target > others) & asked).sum() / asked.sum().clamp(min=1)
    return {
        "accuracy": right,
        "same_code": torch.isneginf(logits[1:]).float().mean(),
        "prob_perplexity": quantised["prob_perplexity"],
        "code_perplexity": quantised["code_perplexity"],
    }
