"""ESI pretraining: ECGs and captions in, a contrastive and a captioning loss, an encoder out.

Usage:
    study = prepare(config, cohort)              # captions, tokens, model
    log = pretrain(study, run.folder / "training")
    save_study(study, run.folder)                # encoder/ and model/, read by notebooks 05 and 06
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit import runtime
from ecgkit.config import EsiConfig
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models.convnext import ConvNeXt1D, ConvNeXtConfig, save_encoder
from ecgkit.models.esi import ESI, ESIConfig
from ecgkit.models.losses_esi import caption_loss, contrastive_loss, shift_captions
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.text.captions import Captions, describe, write_captions
from ecgkit.text.cqa import Notes, question
from ecgkit.text.encoders import load_text_encoder, small_bert, train_wordpiece
from ecgkit.types import DataError, ModelError

SMALL = {  # the kit's own sizes: (depths, dims)
    "micro": ((1, 1, 1, 1), (8, 16, 24, 32)),
    "small": ((1, 1, 2, 1), (32, 48, 64, 128)),
}
JITTER_MV, GAIN_SD = 0.003, 0.003  # the published augmentation: almost none


@dataclass
class Study:
    """What pretraining needs, in one place. `ids` and `mask` (n, W, L): every wording, tokenised
    once.
    """

    config: EsiConfig
    cohort: object
    captions: Captions
    tokenizer: object
    ids: np.ndarray
    mask: np.ndarray
    model: ESI

    def training_texts(self) -> list[str]:
        """Every caption the model may have read: all wordings of the training folds."""
        return self.captions.all_texts(self.cohort.rows("train"))


# --- preparing ---


def prepare(config: EsiConfig, cohort) -> Study:
    """Writes the captions, learns the tokenizer on training captions, builds the model.

    Raises DataError when no record falls into the training folds 1-8.
    """
    train = cohort.rows("train")
    if not len(train):
        raise DataError(f"{cohort.name} has no record in folds 1-8; ESI cannot be trained on it.")
    captions = write_captions(
        cohort.table, cohort.statements, Notes(), config.seed, config.n_short
    )
    runtime.set_seed(config.seed)
    tokenizer, text_encoder = _text_side(config, captions.all_texts(train))
    model = build_model(config, text_encoder, len(tokenizer))
    ids, mask = tokenise(tokenizer, captions.variants, config.max_tokens)
    return Study(config, cohort, captions, tokenizer, ids, mask, model)


def _text_side(config: EsiConfig, texts: list[str]):
    if config.text_encoder:
        return load_text_encoder(config.text_encoder)
    tokenizer = train_wordpiece(texts, config.vocab_size)
    return tokenizer, _small_text_encoder(config, len(tokenizer))


def _small_text_encoder(config: EsiConfig, vocab_size: int):
    return small_bert(vocab_size, config.text_width, config.text_layers, config.max_tokens)


def build_model(config: EsiConfig, text_encoder, vocab_size: int) -> ESI:
    """The ESI model of `config` around `text_encoder`. Only the reference protocol has the norm
    over time of the published code, after which no wave is large or small any more.
    """
    norm = "time" if config.protocol == "reference" else "channel"
    if config.encoder in SMALL:
        depths, dims = SMALL[config.encoder]
        encoder = ConvNeXt1D(ConvNeXtConfig(depths=depths, dims=dims, init_std=0.1, norm=norm))
    else:
        encoder = ConvNeXt1D(ConvNeXtConfig.preset(config.encoder, norm=norm))
    width = text_encoder.config.hidden_size
    head_dim = 64 if width >= 512 else max(8, width // 4)
    sizes = ESIConfig(
        vocab_size=vocab_size, n_layers=config.decoder_layers, n_heads=8 if width >= 512 else 4,
        head_dim=head_dim, ff_mult=4 if width >= 512 else 2, n_queries=config.n_queries,
        protocol=config.protocol, text_gradient=config.text_gradient,
    )  # fmt: skip
    model = ESI(encoder, text_encoder, sizes)
    torch.nn.init.constant_(model.temperature, config.temperature)
    return model


def tokenise(tokenizer, variants: list[list[str]], max_tokens: int) -> tuple:
    """n lists of W texts -> ids, mask (n, W, L) int32; longer texts are cut before [SEP]."""
    flat = [text for wordings in variants for text in wordings]
    out = tokenizer(flat, padding="longest", truncation=True, max_length=max_tokens,
                    return_tensors="np", return_token_type_ids=False)  # fmt: skip
    shape = (len(variants), len(variants[0]), -1)
    return tuple(out[k].astype(np.int32).reshape(shape) for k in ("input_ids", "attention_mask"))


# --- training ---


def pretrain(study: Study, folder: str | Path) -> TrainLog:
    """Trains `study.model` on the training folds; see `engine.fit` for resume and files."""
    config, rows = study.config, study.cohort.rows("train")
    settings = TrainSettings(
        n_steps=config.n_steps, batch_size=min(config.batch_size, len(rows)), lr=config.lr,
        weight_decay=config.weight_decay, seed=config.seed, device=config.device,
        precision=config.precision, time_budget_s=config.time_budget or None, schedule="linear",
        checkpoint_every=max(100, config.n_steps // 4), log_every=max(1, config.n_steps // 40),
    )  # fmt: skip
    valid = study.cohort.rows("valid")
    evaluate = _evaluator(study, valid[: config.batch_size]) if len(valid) > 1 else None
    return fit(
        study.model, len(rows), batch_maker(study, rows), loss_function(config), settings, folder,
        evaluate, f"{study.cohort.fingerprint}-{config.hash()}-{zlib.crc32(study.ids.tobytes())}",
    )  # fmt: skip


def batch_maker(study: Study, rows: np.ndarray):
    """make_batch for the engine: the signals of `rows[indices]` and one wording of each.

    A step reads either full captions or short ones, so that short texts are not padded to long.
    """
    n_wordings, config = study.ids.shape[1], study.config

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        picked = rows[indices]
        full = n_wordings == 1 or rng.random() < config.full_share
        wording = 0 if full else rng.integers(1, n_wordings, size=len(picked))
        room = config.max_tokens if full else config.short_tokens
        return {
            "signals": torch.from_numpy(augmented(study.cohort.store.read(picked), rng)),
            **text_batch(study.ids[picked, wording], study.mask[picked, wording], room),
        }

    return make_batch


def augmented(signals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B, C, T) mV -> jittered, scaled per lead, z-scored: the published loader's order."""
    noise = rng.standard_normal(signals.shape, dtype=np.float32)
    gain = 1 + GAIN_SD * rng.standard_normal((*signals.shape[:2], 1), dtype=np.float32)
    return esi_preprocess((signals + JITTER_MV * noise) * gain)


def text_batch(ids: np.ndarray, mask: np.ndarray, room: int = 10**9) -> dict[str, torch.Tensor]:
    """ids, mask (B, L) as int64 tensors, cut to the longest caption of the batch, at most
    `room`.
    """
    longest = min(room, int(mask.sum(1).max()))
    return {"ids": torch.from_numpy(ids[:, :longest]).long(),
            "mask": torch.from_numpy(mask[:, :longest]).long()}


def loss_function(config: EsiConfig):
    """loss_fn for the engine: weighted sum of contrast and captioning, with the retrieval
    accuracy.
    """

    def loss_fn(model, batch) -> dict[str, torch.Tensor]:
        inputs, mask, labels = shift_captions(batch["ids"], batch["mask"], config.protocol)
        out = model(batch["signals"], inputs, mask)
        ecg, text = out["ecg_latents"].float(), out["text_latents"].float()
        contrast = contrastive_loss(ecg, text, out["temperature"], config.protocol)
        caption = caption_loss(out["logits"], labels)
        hits = (text @ ecg.T).argmax(1) == torch.arange(len(ecg), device=ecg.device)
        return {
            "loss": config.contrastive_weight * contrast + config.caption_weight * caption,
            "contrastive": contrast, "caption": caption, "retrieved": hits.float().mean(),
            "scale": out["temperature"].detach().exp().mean(),
        }  # fmt: skip

    return loss_fn


def fixed_batch(study: Study, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Signals without augmentation and the full captions of `rows`."""
    signals = torch.from_numpy(esi_preprocess(study.cohort.store.read(rows)))
    return {"signals": signals, **text_batch(study.ids[rows, 0], study.mask[rows, 0])}


def _evaluator(study: Study, rows: np.ndarray):
    batch, loss_fn = fixed_batch(study, rows), loss_function(study.config)

    def evaluate(model) -> dict[str, float]:
        device = next(model.parameters()).device
        out = loss_fn(model, {k: v.to(device) for k, v in batch.items()})
        return {k: float(out[k]) for k in ("contrastive", "caption", "retrieved")}

    return evaluate


# --- looking at the model ---


@torch.no_grad()
def similarity(study: Study, rows: np.ndarray) -> np.ndarray:
    """(B, B) cosine of each caption (row) with each ECG (column)."""
    batch = fixed_batch(study, rows)
    inputs, mask, _ = shift_captions(batch["ids"], batch["mask"], study.config.protocol)
    device = next(study.model.parameters()).device
    study.model.eval()
    ecg = study.model.encode_ecg(batch["signals"].to(device))["ecg_latents"]
    text = study.model.encode_text(inputs.to(device), mask.to(device))["text_latents"]
    return (text @ ecg.T).float().cpu().numpy()


def generated_captions(study: Study, rows: np.ndarray, start: str = "", max_tokens: int = 60):
    """Greedy captions of `rows`, as text; `start` gives the first words (the reference needs
    one).
    """
    tokenizer, model = study.tokenizer, study.model.eval()
    device = next(model.parameters()).device
    if study.config.protocol == "reference" and not start:
        start = "this"  # that protocol's loss never asks for the first word
    opening = tokenizer(start, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.cls_token_id, *opening]] * len(rows), device=device)
    signals = torch.from_numpy(esi_preprocess(study.cohort.store.read(rows))).to(device)
    room = study.model.unimodal_layers.config.max_position_embeddings - ids.shape[1] - 1
    out = model.generate(signals, ids, tokenizer.sep_token_id, min(max_tokens, room))
    return tokenizer.batch_decode(out.cpu(), skip_special_tokens=True)


def pair_statistics(similarity: np.ndarray) -> dict[str, float]:
    """Of a (B, B) matrix of captions against ECGs: "gap" own minus other cosine, "rank" of the own.

    "rank" is the mean share of the other ECGs that a caption likes less than its own, ties half.
    """
    n, own = len(similarity), np.diag(similarity)[:, None]
    if n < 2:
        return {"gap": float("nan"), "rank": float("nan"), "n": n}
    others = (similarity.sum() - own.sum()) / (n * n - n)
    below = (similarity < own).sum(1) + 0.5 * ((similarity == own).sum(1) - 1)
    return {"gap": float(own.mean() - others), "rank": float((below / (n - 1)).mean()), "n": n}


def richest_row(study: Study, rows: np.ndarray) -> int:
    """The row with the most findings that have a waveform text, first of equals: a good example."""
    counts = [len(study.cohort.table["scp_codes"].iloc[r]) for r in rows]
    return int(rows[int(np.argmax(counts))])


def retrieved_notes(study: Study, row: int, notes: Notes, k: int = 2) -> pd.DataFrame:
    """One line per finding of `row` and retrieved passage: finding, note, file, cosine, text."""
    lines = []
    for code in study.cohort.table["scp_codes"].iloc[row]:
        finding = describe(code, study.cohort.statements)
        for score, passage in notes.retrieve(question(finding), k):
            lines.append({"finding": finding, "note": passage.title, "file": passage.file,
                          "cosine": round(score, 2), "text": passage.text})  # fmt: skip
    return pd.DataFrame(lines, columns=["finding", "note", "file", "cosine", "text"])


# --- on disk ---


def save_study(study: Study, folder: str | Path) -> Path:
    """Writes encoder/ (for any notebook) and model/ (weights, settings, tokenizer, captions
    read).
    """
    from safetensors.torch import save_file

    folder, config = Path(folder), study.config
    notes = {"fs": study.cohort.store.fs, "input": "esi_preprocess", "protocol": config.protocol,
             "cohort": study.cohort.fingerprint}
    save_encoder(study.model.img_encoder, folder / "encoder", **notes)
    place = folder / "model"
    place.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in study.model.state_dict().items()}
    save_file(state, str(place / "model.safetensors"))
    study.tokenizer.save_pretrained(place / "tokenizer")
    study.model.unimodal_layers.config.save_pretrained(place / "text_encoder")
    (place / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    texts = list(dict.fromkeys(study.training_texts()))
    (place / "training_captions.json").write_text(json.dumps(texts, indent=0) + "\n")
    return folder


def load_trained(folder: str | Path) -> tuple[ESI, object, EsiConfig, list[str]]:
    """(model in eval mode, tokenizer, its config, every caption it was trained on) from save_study.

    Raises ModelError when the folder holds no such model.
    """
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    place = Path(folder) / "model"
    try:
        config = EsiConfig.from_params(json.loads((place / "config.json").read_text()))
        tokenizer = PreTrainedTokenizerFast.from_pretrained(place / "tokenizer")
        text_config = AutoConfig.from_pretrained(place / "text_encoder")
        state = load_file(str(place / "model.safetensors"))
        texts = json.loads((place / "training_captions.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{Path(folder).name}/model is not a trained ESI ({error}); run notebook 04."
        ) from None
    pooler = {"add_pooling_layer": any(".pooler." in k for k in state)}
    text_encoder = AutoModel.from_config(text_config, **pooler)
    model = build_model(config, text_encoder, len(tokenizer))
    model.load_state_dict(state)
    return model.eval(), tokenizer, config, texts
