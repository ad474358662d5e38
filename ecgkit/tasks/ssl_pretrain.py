"""Pretraining an ECG encoder without labels: wav2vec 2.0, CMSC, random lead masking, SimCLR, BYOL.

w2v, cmsc, w2v_cmsc, w2v_cmsc_rlm train a `Wav2Vec2CMSC`. Each ECG of a batch gives its two halves
(5 s each of 10 s): 2 N segments to wav2vec, N pairs to CMSC, where the halves of all recordings of
one patient count as positives. Signals are mV without normalisation, as published. simclr and byol
train any encoder on two augmented crops of each ECG (`features.augment`).

The published code sums the loss over masked tokens, (InfoNCE sum) + 0.1 N codes + 10 N features +
N CMSC, and divides the gradient by their number N before each step. Here the loss is that sum
over N, the same gradient at a learning rate that does not depend on the length of an ECG; with
`ssl_accumulate` it is a mean of such means, where the published one weights batches by N.
Negatives stay within a process and a batch, as published.

Letters: N ECGs a batch, B = 2 N segments, C leads, T samples, P tokens, D width.
Source: Oh et al. 2022 (arXiv 2203.06889); fact sheet ecgqa 3.2, 3.3.

Usage:

    rows = cohort.rows("train")
    patients = cohort.table["patient_id"].to_numpy()[rows]
    trained = pretrain(config, cohort, rows, patients, "w2v_cmsc_rlm", folder)
    classifier = build_classifier(encoder_settings(config), "ecg_transformer", n_labels)
    start_classifier(classifier, trained)                        # then FusionQA.load_ecg_side
    pretrain(config, cohort, rows, patients, "byol", folder, encoder=ConvNeXt1D(sizes))
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from ecgkit.config import short_hash
from ecgkit.config.ssl_pretraining import SSL_KINDS
from ecgkit.features.augment import (
    Augmentations,
    mask_leads,
    random_lead_masks,
    segments,
    two_views,
)
from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerClassifier
from ecgkit.models.ssl_heads import (
    BYOL,
    Embed,
    SimCLR,
    Wav2VecPretraining,
    embed_pooled,
    embedding_width,
)
from ecgkit.models.wav2vec import Wav2Vec2CMSC, Wav2VecConfig, span_mask
from ecgkit.tasks.ecg_features import encoder_hash
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.ssl_losses import loss_function
from ecgkit.tasks.upperbound import transformer_config
from ecgkit.types import ConfigError, DataError, ModelError

ONLY_PRETRAINING = ("mask_emb", "quantizer.", "project_q.", "final_proj.")


@dataclasses.dataclass(frozen=True)
class TrainedSSL:
    """`encoder` in evaluation mode, the log, and the whole `module` that was trained (with heads,
    and BYOL's target)."""

    kind: str
    encoder: nn.Module
    log: TrainLog
    module: nn.Module


def pretrain(
    config,
    cohort,
    rows: np.ndarray,
    patients: np.ndarray,
    kind: str,
    folder: str | Path,
    encoder: nn.Module | None = None,
    embed: Embed = embed_pooled,
    time_budget_s: float | None = None,
) -> TrainedSSL:
    """Pretrains on `rows` of a cohort or of a store; resumes from `folder`, or loads what is
    already finished there.

    `patients` (len(rows),) are the rows' patients; a missing one is nobody else. `encoder` None
    builds the ECG transformer of `config`; one that is given is trained in place. `embed(encoder,
    signal)` pools for simclr and byol. Raises ConfigError for an unknown kind, DataError for
    `patients` of another length and ECGs too short, ModelError for an encoder of the wrong family.
    """
    rows, people = np.asarray(rows), patient_numbers(patients)
    if kind not in SSL_KINDS:
        raise ConfigError(f"kind is {kind!r}; choose one of {', '.join(SSL_KINDS)}.")
    if len(people) != len(rows):
        raise DataError(
            f"{len(rows)} rows but {len(people)} patients; give the patient of each row."
        )
    store = getattr(cohort, "store", cohort)
    settings = train_settings(config, len(rows), time_budget_s)
    module = build_module(config, kind, store, encoder, embed, settings)
    if takes_halves(kind):
        make_batch = halves_maker(config, kind, store, rows, people, module.encoder.config)
    else:
        make_batch = views_maker(config, store, rows)
    name = fingerprint(config, cohort, rows, people, kind, module, embed)
    log = fit(module, len(rows), make_batch, loss_function(config, kind), settings, folder,
              fingerprint=name)  # fmt: skip
    return TrainedSSL(kind, module.encoder.eval(), log, module)


def patient_numbers(patients) -> np.ndarray:
    """Patients of any kind -> int64 numbers, one a patient; each missing one has its own."""
    codes = pd.factorize(np.asarray(patients))[0].astype(np.int64)
    unknown = codes < 0
    codes[unknown] = codes.max(initial=-1) + 1 + np.arange(unknown.sum())
    return codes


def fingerprint(config, cohort, rows, people, kind: str, module, embed: Embed) -> str:
    """Names whatever decides the result: data, rows, patients, settings, and weights at start."""
    data = getattr(cohort, "fingerprint", None) or cohort.key
    picked = hashlib.sha256(np.asarray(rows, np.int64).tobytes() + people.tobytes()).hexdigest()
    chosen = {k: v for k, v in config.to_dict().items() if k.startswith("ssl_")}
    how = getattr(embed, "__qualname__", str(embed))
    return short_hash([data, picked, chosen, kind, encoder_hash(module), how])


# --- module and settings --------------------------------------------------------------------------


def takes_halves(kind: str) -> bool:
    """Whether a kind trains the wav2vec/CMSC model on two halves of each ECG."""
    return kind.startswith(("w2v", "cmsc"))


def build_module(config, kind: str, store, encoder, embed: Embed, settings) -> nn.Module:
    """What `fit` trains, from a fixed seed; its `encoder` is what is wanted of it."""
    torch.manual_seed(config.seed)
    n_leads = len(store.leads)
    if takes_halves(kind):
        encoder = build_wav2vec(config, n_leads) if encoder is None else encoder
        if not isinstance(encoder, Wav2Vec2CMSC):
            raise ModelError(
                f"{kind} trains a Wav2Vec2CMSC, not a {type(encoder).__name__}; choose simclr or "
                "byol for other encoders."
            )
        if kind == "cmsc":  # what only wav2vec trains must not wait for a gradient, nor decay
            for name, parameter in encoder.named_parameters():
                parameter.requires_grad_(not name.startswith(ONLY_PRETRAINING))
        return Wav2VecPretraining(encoder, settings.accumulate)
    if encoder is None:
        sizes = transformer_config(encoder_settings(config), n_leads=n_leads, **_sizes(config))
        encoder = ECGTransformer(sizes)
    width = embedding_width(encoder, embed, (n_leads, round(config.ssl_crop * store.n_samples)))
    heads = dict(width=width, hidden=config.ssl_hidden, out=config.ssl_final_dim, embed=embed)
    if kind == "simclr":
        return SimCLR(encoder, **heads)
    return BYOL(encoder, n_steps=settings.n_steps, decay=config.ssl_byol_decay,
                accumulate=settings.accumulate, **heads)  # fmt: skip


def build_wav2vec(config, n_leads: int = 12) -> Wav2Vec2CMSC:
    """The pretraining model of `config`: as many layers as the ECG classifier it is to start."""
    sizes = transformer_config(
        encoder_settings(config), Wav2VecConfig, n_leads=n_leads, **_sizes(config),
        feature_dropout=config.ssl_dropout, final_dim=config.ssl_final_dim,
        n_codebooks=config.ssl_codebooks, n_codes=config.ssl_codes, code_dim=config.ssl_code_dim,
        n_negatives=config.ssl_n_negatives, logit_temperature=config.ssl_logit_temperature,
        code_temperature=(config.ssl_gumbel_start, config.ssl_gumbel_floor,
                          config.ssl_gumbel_decay),
    )  # fmt: skip
    return Wav2Vec2CMSC(sizes)


def encoder_settings(config):
    """`config` with SSL_N_CONVS convolutions: what builds a classifier that the encoder fits."""
    return dataclasses.replace(config, n_convs=config.ssl_n_convs or config.n_convs)


def _sizes(config) -> dict:
    """Where pretraining differs from the classifier: dropouts, gradient into convolutions."""
    return dict(n_layers=config.pretrain_layers, dropout=config.ssl_dropout,
                attention_dropout=config.ssl_dropout, activation_dropout=0.0,
                feature_grad_mult=config.ssl_grad_mult)  # fmt: skip


def train_settings(config, n_items: int, time_budget_s: float | None = None) -> TrainSettings:
    """The engine's settings for `n_items` ECGs. Raises DataError where a portion of a step would
    hold fewer than two."""
    if min(n_items, config.ssl_batch) < 2 * config.ssl_accumulate:
        raise DataError(
            f"{n_items} ECGs to pretrain on, in {config.ssl_accumulate} portions a step; each "
            "needs at least 2. Lower SSL_ACCUMULATE or take more ECGs."
        )
    return TrainSettings(
        n_steps=config.ssl_updates(n_items), batch_size=config.ssl_batch, lr=config.ssl_lr,
        accumulate=config.ssl_accumulate, eps=config.ssl_eps, betas=(0.9, 0.98),
        weight_decay=config.ssl_weight_decay, schedule=config.ssl_schedule,
        warmup_fraction=config.ssl_warmup, clip_norm=config.ssl_clip, seed=config.seed,
        device=config.device, precision=config.precision, time_budget_s=time_budget_s,
    )  # fmt: skip


# --- batches --------------------------------------------------------------------------------------


def halves_maker(config, kind: str, store, rows, people, sizes: Wav2VecConfig):
    """make_batch of wav2vec and CMSC: signal (B, C, T / 2), patient, segment (B,), mask (B, P)."""
    n_tokens = sizes.n_tokens(store.n_samples // 2)
    if n_tokens < 4:
        raise DataError(
            f"Half an ECG of {store.n_samples} samples gives {max(n_tokens, 0)} tokens; take "
            "longer ECGs or fewer convolutions (SSL_N_CONVS)."
        )

    def make_batch(indices, rng):
        signal = segments(store.read(rows[indices]), 2)
        signal = signal.reshape(-1, *signal.shape[2:])  # (N, 2, C, T / 2) -> (B, C, T / 2)
        if kind.endswith("rlm"):
            signal = mask_leads(
                signal, random_lead_masks(*signal.shape[:2], rng, config.ssl_lead_mask)
            )
        batch = {"signal": signal, "patient": people[indices].repeat(2),
                 "segment": np.tile([0, 1], len(indices))}  # fmt: skip
        if kind.startswith("w2v"):
            batch["mask"] = span_mask(len(signal), n_tokens, rng, config.ssl_mask_share,
                                      config.ssl_mask_span)  # fmt: skip
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    return make_batch


def views_maker(config, store, rows):
    """make_batch of SimCLR and BYOL: first, second (N, C, crop * T), two views of each ECG."""
    how = Augmentations(config.ssl_crop, config.ssl_lead_mask, config.ssl_jitter_mv,
                        config.ssl_gain_sd, config.ssl_wander_mv, config.ssl_time_mask)  # fmt: skip

    def make_batch(indices, rng):
        first, second = two_views(store.read(rows[indices]), rng, how, store.fs)
        return {"first": torch.from_numpy(first), "second": torch.from_numpy(second)}

    return make_batch


# --- what comes after -----------------------------------------------------------------------------


def encoder_for_classifier(trained: TrainedSSL) -> dict[str, torch.Tensor]:
    """The trained encoder's weights without what only pretraining uses (mask vector, quantiser,
    projections): the state dict of an `ECGTransformer`, or of the encoder that was given."""
    state = trained.encoder.state_dict()
    if not isinstance(trained.encoder, Wav2Vec2CMSC):
        return state
    return {k: v for k, v in state.items() if not k.startswith(ONLY_PRETRAINING)}


def start_classifier(classifier: ECGTransformerClassifier, trained: TrainedSSL) -> int:
    """Copies a pretrained encoder into `classifier.encoder`; returns the tensors copied.

    `FusionQA.load_ecg_side(classifier)` takes it on from there. Raises ModelError where sizes
    differ.
    """
    state = encoder_for_classifier(trained)
    try:
        classifier.encoder.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"The pretrained encoder does not fit this classifier ({str(error).splitlines()[-1]}); "
            "build it with encoder_settings(config) and the same DIM, PRETRAIN_LAYERS and leads."
        ) from None
    return len(state)
