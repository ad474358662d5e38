"""Vision-language pretraining of M3AE and MedViLL on ECG-report pairs.

M3AE guesses hidden words, reconstructs hidden stretches of the ECG, and tells its own report from
another ECG's; MedViLL guesses words and tells reports apart. `vl_negatives="mended"` exchanges the
reports of two ECGs; then words and stretches count in matched pairs only, since a wrong report says
nothing of the ECG and learning from it is learning to look away. The original M3AE does so too (its
tasks see inputs of their own); the code of MedViLL, and of both on ECGs, counts every row.
"reference" repeats the published code on ECGs:

* MedViLL: of each two rows labelled "not its own", one keeps its own report;
* M3AE: all keep their own, whatever the label, since masking starts from the texts before the
  exchange; only the padding mask of the other report is taken over.

Letters: B batch, C leads, T samples, P ECG tokens, L text tokens.
Source: Oh et al. 2023 (ECG-QA); hyper-parameters in ecgqa.md 3.2, objectives and faults in 3.3.

Usage:

    trained = pretrain_vl(config, cohort, "m3ae", run.folder / "m3ae")
    trained.itm_auroc, trained.model, trained.pairs.tokenizer
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ecgkit.config import short_hash
from ecgkit.models.fusion_qa import FusionConfig
from ecgkit.models.losses_vl import (
    IGNORED,
    alignment_loss,
    itm_loss,
    mim_loss,
    mlm_loss,
    n_hidden_words,
)
from ecgkit.models.m3ae import M3AEConfig, M3AEPretraining
from ecgkit.models.medvill import MedViLLPretraining
from ecgkit.tasks import metrics
from ecgkit.tasks.ecg_features import encoder_hash
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.upperbound import transformer_config
from ecgkit.tasks.vl_pairs import (
    Pairs,
    draw_exchanges,
    exchanged,
    half_exchanged,
    hide_tokens,
    open_pairs,
)
from ecgkit.text.masked_words import mask_words
from ecgkit.types import ConfigError

KINDS = ("m3ae", "medvill")
MOST_SCORED = 2000  # held-out pairs looked at while training and after


@dataclass(frozen=True)
class TrainedVl:
    """A pretrained model. `matching`: auroc, low, high, accuracy, n on held-out pairs, half of them
    with another ECG's report, always with the exchange done right.
    """

    kind: str
    model: torch.nn.Module
    log: TrainLog
    pairs: Pairs
    matching: dict[str, float]

    @property
    def itm_auroc(self) -> float:
        return self.matching["auroc"]


def pretrain_vl(config, cohort, kind: str, folder: Path, start_from=None, tokenizer=None,
                questions=()) -> TrainedVl:
    """Pretrains on the training folds, resuming from `folder`; `kind`: m3ae | medvill.

    start_from: an ECG classifier of the same sizes whose ECG side the model takes over (published:
    W2V+CMSC+RLM). tokenizer, questions: see `open_pairs`.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind is {kind!r}; choose {' or '.join(KINDS)}.")
    pairs = open_pairs(config, cohort, tokenizer, questions)
    train, valid = pairs.index("train"), pairs.index("valid")
    valid = valid[np.linspace(0, len(valid) - 1, min(len(valid), MOST_SCORED)).astype(int)]
    torch.manual_seed(config.seed)
    sizes = vl_sizes(config, pairs.tokenizer, kind)
    model = build_vl(config, sizes)
    if start_from is not None:
        model.load_ecg_side(start_from)
    key = short_hash([pairs.fingerprint, kind, dataclasses.asdict(sizes), config.vl_attention,
                      config.vl_mlm_share, config.vl_mim_share, config.vl_mismatch_share,
                      config.vl_negatives, encoder_hash(start_from) if start_from else "random"])
    log = fit(model, len(train), batch_maker(config, pairs, kind, sizes), LOSSES[kind],
              train_settings(config, kind, len(train)), folder,
              evaluate=lambda m: _short(matching(m, pairs, valid)), fingerprint=key)
    return TrainedVl(kind, model, log, pairs, matching(model, pairs, valid))


def vl_sizes(config, tokenizer, kind: str):
    """The model's config, for a QA model of the same kind too: the study's sizes, the tokenizer's
    vocabulary, text as long as reports or questions need.

    M3AE's ECG tower is as deep as the ECG classifier it starts from; words and ECG meet in its
    co-attention layers.
    """
    sizes = dict(vocab_size=len(tokenizer), sep_id=tokenizer.sep_token_id,
                 max_text=max(config.vl_max_text, config.max_text), dropout=config.vl_dropout,
                 attention_dropout=config.vl_dropout, activation_dropout=0.0)
    if kind == "medvill":
        return transformer_config(config, FusionConfig, **sizes)
    return transformer_config(
        config, M3AEConfig, **sizes, pad_id=tokenizer.pad_token_id,
        n_layers=config.pretrain_layers, text_layers=config.vl_text_layers,
        n_co_layers=config.vl_co_layers, mim_layer=config.vl_mim_layer,
        decoder_dim=config.vl_decoder_dim, decoder_layers=config.vl_decoder_layers,
        decoder_heads=config.vl_decoder_heads, text_dropout=config.vl_dropout)


def build_vl(config, sizes) -> torch.nn.Module:
    """M3AE or MedViLL, as `sizes` says."""
    if isinstance(sizes, M3AEConfig):
        return M3AEPretraining(sizes)
    return MedViLLPretraining(sizes, attention=config.vl_attention)


def train_settings(config, kind: str, n_pairs: int) -> TrainSettings:
    """Published: three stages for M3AE; for MedViLL whole epochs at one rate, without warm-up."""
    published = {"m3ae": "tri_stage", "medvill": "constant"}[kind]
    per_epoch = max(1, n_pairs // config.vl_batch)
    by_epochs = kind == "medvill" and config.vl_medvill_epochs
    plain = config.vl_schedule == "published" and kind == "medvill"
    n_steps = config.vl_medvill_epochs * per_epoch if by_epochs else config.vl_steps
    return TrainSettings(
        n_steps=n_steps, eval_every=max(1, n_steps // 4), batch_size=config.vl_batch,
        lr=config.vl_lr, weight_decay=config.vl_weight_decay,
        betas=(0.9, 0.98), eps=1e-6, warmup_fraction=0.0 if plain else 0.1,
        schedule=published if config.vl_schedule == "published" else config.vl_schedule,
        seed=config.seed, device=config.device, precision=config.precision)


# --- batches and losses ---------------------------------------------------------------------------


def batch_maker(config, pairs: Pairs, kind: str, sizes):
    """make_batch for the engine, over the training pairs; `sizes`: the model's config."""
    train = pairs.index("train")
    n_tokens = sizes.n_tokens(pairs.store.read(pairs.rows[:1]).shape[-1])

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        positions = train[indices]
        batch = paired_batch(config, pairs, kind, positions, rng)
        masked, targets = mask_words(batch["text"], batch["text_padding_mask"], pairs.words, rng,
                                     config.vl_mlm_share, whole_word=kind == "m3ae")
        counts = batch["matched"] | (config.vl_negatives == "reference")  # (B,)
        batch |= {"text": masked, "words": np.where(counts[:, None], targets, IGNORED)}
        if kind == "m3ae":
            hidden = hide_tokens(len(positions), n_tokens, config.vl_mim_share, rng)
            batch |= {"hidden": hidden, "counted": hidden & counts[:, None]}
        else:
            batch["text_mask"] = masked == pairs.words.mask_id  # shown as MedViLL's own vector
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    return make_batch


def paired_batch(config, pairs: Pairs, kind: str, positions: np.ndarray, rng) -> dict:
    """Pairs.batch with some reports exchanged, and `matched` (B,) bool, what the label says."""
    exchanges = draw_exchanges(pairs.wording[positions], pairs.content[positions], rng,
                               config.vl_mismatch_share)
    matched = np.ones(len(positions), dtype=bool)
    matched[exchanges.ravel()] = False
    if config.vl_negatives == "mended":
        batch = pairs.batch(positions, exchanged(exchanges, len(positions)))
    elif kind == "medvill":
        batch = pairs.batch(positions, half_exchanged(exchanges, len(positions)))
    else:
        batch = pairs.batch(positions)
        other = half_exchanged(exchanges, len(positions))
        batch["text_padding_mask"] = batch["text_padding_mask"][other]
    return {**batch, "matched": matched}


def m3ae_losses(model, batch) -> dict[str, torch.Tensor]:
    """loss_fn for the engine: the plain sum of the three means."""
    out = model(batch["ecg"], batch["text"], batch["text_padding_mask"], ecg_mask=batch["hidden"])
    mlm = mlm_loss(out["mlm_logits"], batch["words"])
    mim = mim_loss(out["mim_prediction"], batch["ecg"], batch["counted"])
    itm = itm_loss(out["itm_logits"], batch["matched"])
    return {"loss": mlm + mim + itm, "mlm": mlm, "mim": mim, "itm": itm}


def medvill_losses(model, batch) -> dict[str, torch.Tensor]:
    """loss_fn for the engine. Published: sums over words, divided by their number at the step."""
    out = model(batch["ecg"], batch["text"], batch["text_padding_mask"],
                text_mask=batch["text_mask"])
    n_words = n_hidden_words(batch["words"])
    mlm = mlm_loss(out["mlm_logits"], batch["words"], "sum") / n_words
    itm = alignment_loss(out["alignment_logits"], batch["matched"], n_words) / n_words
    return {"loss": mlm + itm, "mlm": mlm, "itm": itm}


LOSSES = {"m3ae": m3ae_losses, "medvill": medvill_losses}


# --- telling reports apart ------------------------------------------------------------------------


def matching(model, pairs: Pairs, positions: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How well `model` tells own reports from exchanged ones: auroc, low, high, accuracy, n.

    Each ECG and each report comes once with its own partner and once exchanged, so that neither
    alone gives anything away. Nothing is hidden. NaN where no two reports differ.
    """
    rng = np.random.default_rng(seed)
    exchanges = draw_exchanges(pairs.wording[positions], pairs.content[positions], rng, share=1.0)
    taken = positions[exchanges.ravel()]
    if not len(taken):
        return {"auroc": np.nan, "low": np.nan, "high": np.nan, "accuracy": np.nan, "n": 0}
    partner = np.arange(len(taken)) ^ 1  # 0 <-> 1, 2 <-> 3, ...
    scores = np.concatenate([match_scores(model, pairs, taken),
                             match_scores(model, pairs, taken, taken[partner])])
    labels = np.repeat([1, 0], len(taken))
    auroc, low, high = metrics.bootstrap_statistic(
        lambda i: metrics.auc(labels[i], scores[i]), len(labels),
        groups=np.tile(pairs.patients[taken], 2), n_boot=100)
    return {"auroc": auroc, "low": low, "high": high,
            "accuracy": float(((scores > 0.5) == labels).mean()), "n": len(labels)}


@torch.no_grad()
def match_scores(model, pairs: Pairs, positions, reports=None, batch: int = 64) -> np.ndarray:
    """(n,) probability that the ECGs at `positions` are matched by the reports at `reports` (n,),
    by default their own."""
    model.eval()
    device = next(model.parameters()).device
    reports = positions if reports is None else reports
    scores = []
    for i in range(0, len(positions), batch):
        ecg = torch.from_numpy(pairs.store.read(pairs.rows[positions[i : i + batch]]))
        text, padding = map(torch.from_numpy, pairs.tokens.read(reports[i : i + batch]))
        out = model(ecg.to(device), text.to(device), padding.to(device))
        scores.append(_match_probability(out).float().cpu().numpy())
    return np.concatenate(scores)


def _match_probability(out: dict) -> torch.Tensor:
    if "itm_logits" in out:
        return out["itm_logits"].softmax(-1)[:, 1]
    return out["alignment_logits"].sigmoid()


def _short(found: dict[str, float]) -> dict[str, float]:
    return {"auroc": found["auroc"], "accuracy": found["accuracy"]}
