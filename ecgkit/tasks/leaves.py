"""LEAVES pretraining: SimCLR on views whose strengths are learned against the encoder.

Usage:

    trained = pretrain_leaves(config, cohort, rows, folder, encoder)   # config: BaselinesConfig
    trained.encoder, trained.log.table                                 # strengths over the steps
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ecgkit.models.leaves import Leaves
from ecgkit.models.losses_ssl import nt_xent
from ecgkit.models.ssl_heads import Embed, SimCLR, embed_pooled, embedding_width
from ecgkit.tasks.engine import fit
from ecgkit.tasks.ssl_losses import collapse_monitors, found_partner
from ecgkit.tasks.ssl_pretrain import TrainedSSL, fingerprint, train_settings


def pretrain_leaves(
    config, cohort, rows: np.ndarray, folder: str | Path, encoder: nn.Module,
    embed: Embed = embed_pooled,
) -> TrainedSSL:  # fmt: skip
    """Trains `encoder` in place on the ECGs of `rows` (mV), whole; resumes from `folder` as `fit`.

    Steps, batch, rate, temperature and head sizes are `config.ssl_*`. The log has the strengths.
    Raises DataError for fewer than two ECGs.
    """
    store, rows = cohort.store, np.asarray(rows)
    settings = train_settings(config, len(rows))
    torch.manual_seed(config.seed)
    width = embedding_width(encoder, embed, (len(store.leads), store.n_samples))
    module = Leaves(SimCLR(encoder, width, config.ssl_hidden, config.ssl_final_dim, embed))

    def make_batch(index, rng):
        return {"signal": torch.from_numpy(store.read(rows[index]))}

    name = fingerprint(config, cohort, rows, rows, "leaves", module, embed)
    log = fit(module, len(rows), make_batch, leaves_loss(config.ssl_temperature), settings, folder,
              fingerprint=name)  # fmt: skip
    return TrainedSSL("leaves", encoder.eval(), log, module)


def leaves_loss(temperature: float):
    """loss_fn of `fit`: NT-Xent of the two views, with what shows collapse, and the strengths."""

    def loss_fn(module, batch) -> dict[str, torch.Tensor]:
        out = module(batch["signal"])
        own = torch.arange(len(out["z_1"]), device=out["z_1"].device)
        return {
            "loss": nt_xent(out["z_1"], out["z_2"], temperature),
            "found_partner": found_partner(out["z_1"], out["z_2"], own, own),
            **collapse_monitors(out["embedding"]), **out["strengths"],
        }  # fmt: skip

    return loss_fn
