"""Which frozen ECG encoder a study takes: notebook 04's, a folder's, or a published one's.

A published encoder is written into the run as a folder like any other, so that whatever reads the
run later (`ecgkit ask`) finds it there.

Usage:

    folder = encoder_folder(run.config.encoder_from, run)
    encoder = open_encoder(folder, cohort.store.fs)
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from torch import nn

from ecgkit import runtime
from ecgkit.models import ecg_encoders, esi_published
from ecgkit.models.checkpoints import FairseqCheckpoint, load_fairseq, read_fairseq
from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerConfig
from ecgkit.models.segment_encoder import SegmentConfig, SegmentEncoder
from ecgkit.types import ConfigError, ModelError

FS = 500  # Hz, of every published encoder


def encoder_folder(name: str, run) -> Path:
    """The folder of the encoder `name`: "" = notebook 04 of this run; a folder that `save_encoder`
    or notebook 04 wrote; else a published file (path or hub id), written to `run.folder/encoder`.

    Raises DataError where notebook 04 has not run, ModelError for a file of another model. What a
    folder holds is looked at by `open_encoder`.
    """
    if not name:
        return run.sibling("04_esi_pretraining", "encoder")
    local = runtime.find_path(name)
    if local and local.is_dir():
        return local / "encoder" if (local / "encoder").is_dir() else local
    checkpoint = read_fairseq(local or name)
    encoder, notes = published_encoder(checkpoint)
    return ecg_encoders.save_encoder(encoder, run.folder / "encoder", **notes)


def open_encoder(folder: str | Path, fs: float) -> nn.Module:
    """The encoder of `encoder_folder`, in eval mode. Raises ModelError where the folder holds none,
    ConfigError where it wants another rate than `fs`.
    """
    encoder = ecg_encoders.load_encoder(folder)
    wanted = encoder.notes.get("fs", fs)
    if wanted != fs:
        raise ConfigError(
            f"The ECG encoder reads {wanted:g} Hz and FS is {fs:g}; run with --set FS={wanted:g}."
        )
    return encoder


def published_encoder(checkpoint: FairseqCheckpoint) -> tuple[nn.Module, dict]:
    """(encoder, notes for `save_encoder`) of a published file.

    ESI gives its ECG encoder, reordered for leads I, II, III, aVR, aVL, aVF, V1-V6. W2V + CMSC
    (+ RLM) and ECG-FM, pretrained or fine-tuned, give their transformer; a fine-tuned one is fed
    mV unless it is named after ECG-FM, as its file does not say. Raises ModelError for others.
    """
    notes = {"fs": FS, "from": Path(checkpoint.source).name}
    if checkpoint.kind == "esi":
        model = esi_published.in_standard_order(load_fairseq(checkpoint))
        return model.img_encoder, notes | {"input": "esi_preprocess"}
    if checkpoint.kind not in ("pretraining", "encoder", "classifier"):
        raise ModelError(
            f"{notes['from']} is a {checkpoint.model_class}; ENCODER_FROM takes an ESI, W2V + CMSC "
            "or ECG-FM, or a folder that notebook 04 wrote."
        )
    scored = checkpoint.kind != "classifier" or checkpoint.is_ecg_fm
    notes["input"] = "zscore_leads" if scored else ""
    model = load_fairseq(checkpoint)
    return in_segments(model.encoder if checkpoint.kind == "classifier" else model), notes


def in_segments(transformer: ECGTransformer) -> SegmentEncoder:
    """The transformer's weights, without the heads of pretraining, as an encoder of records."""
    sizes = {f.name: getattr(transformer.config, f.name) for f in fields(ECGTransformerConfig)}
    encoder = SegmentEncoder(SegmentConfig(**sizes))
    wanted, state = encoder.encoder.state_dict(), transformer.state_dict()
    encoder.encoder.load_state_dict({name: state[name] for name in wanted})
    return encoder.eval()
