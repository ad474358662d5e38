"""Where an ESI looked while it said a caption: one row a word, over the time of the ECG.

Letters: C leads, T samples, P encoder tokens, L word pieces, W words.

Usage:

    seen = look_at_words(model, tokenizer, record)           # .words, .rows (W, P)
    maps = maps_of_caption(model, tokenizer, record)         # in every layer and head
    attention_figures.plot_words(record, seen)
"""

from __future__ import annotations

import numpy as np
import torch

from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models.esi_attention import look
from ecgkit.tasks.attention_maps import AttentionMaps
from ecgkit.tasks.caption_scores import START
from ecgkit.tasks.look_inside import Look
from ecgkit.types import ECGRecord


def look_at_words(
    model, tokenizer, record: ECGRecord, start: str = START, max_tokens: int = 32
) -> Look:
    """The greedy caption of `record` and, of each of its words, the weight of each moment.

    Rows are the product of two attentions, of the word to the pooled ECG tokens and of these to the
    encoder's tokens in time, averaged over layers and heads; a row's sum is 1. An encoder token has
    seen its surroundings, with ConvNeXt most of the ECG (`reach`). Words of several pieces show the
    mean of theirs. Raises ModelError for a model of protocol reference, which cannot choose.
    """
    return maps_of_caption(model, tokenizer, record, start, max_tokens).seen


@torch.no_grad()
def maps_of_caption(
    model, tokenizer, record: ECGRecord, start: str = START, max_tokens: int = 32
) -> AttentionMaps:
    """The same in each layer and head of the decoder, for an explorer; the second of the two
    attentions stays the mean over its heads.
    """
    model.eval()
    device = next(model.parameters()).device
    signal = torch.from_numpy(esi_preprocess(record.signal[None])).to(device)
    opening = [tokenizer.cls_token_id, *tokenizer(start, add_special_tokens=False)["input_ids"]]
    room = model.unimodal_layers.config.max_position_embeddings - len(opening) - 1
    ids = model.generate(signal, torch.tensor([opening], device=device), tokenizer.sep_token_id,
                         min(max_tokens, room))  # fmt: skip
    found = look(model, signal, ids)
    weights = found["words"][0] @ found["pool"][0].mean(0)  # (N, H, L, Q) @ (Q, P)
    weights = weights.float().cpu().numpy()
    pieces = tokenizer.convert_ids_to_tokens(ids[0].tolist())[len(opening) :]
    parts = [[_whole_words(pieces, rows[len(opening) - 1 : -1]) for rows in heads]
             for heads in weights]  # fmt: skip
    words = parts[0][0][0]
    weights = np.array([[rows for _, rows in heads] for heads in parts])
    rows, n = weights.mean((0, 1)), weights.shape[-1]
    seen = Look(
        part="", layer="decoder, through the pooled tokens", head="mean of all heads",
        method="attention",
        answer=" ".join(words), probability=float("nan"), words=words, rows=rows,
        attention=rows.mean(0), gradient=np.zeros((len(record.leads), n)),
        drop=np.zeros(len(record.leads)), relevance=np.tile(rows.mean(0), (len(record.leads), 1)),
        leads=tuple(record.leads), centres=(np.arange(n) + 0.5) / n,
        reach=min(1.0, receptive_field(model.img_encoder) / record.n_samples),
    )  # fmt: skip
    what = f"from each word (row), through the pooled tokens, to the encoder's {n} tokens"
    return AttentionMaps(record, f"ECG {record.ecg_id}, word by word", seen, weights, what)


def _whole_words(pieces: list[str], weights: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Pieces without special tokens and stops -> whole words and their mean rows (W, P)."""
    words, rows = [], []
    for piece, row in zip(pieces, weights):
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
            rows[-1].append(row)
        elif any(letter.isalnum() for letter in piece) and not piece.startswith("["):
            words.append(piece)
            rows.append([row])
    if not words:
        return ["(nothing)"], np.zeros((1, weights.shape[1]))
    return words, np.array([np.mean(group, axis=0) for group in rows])


def receptive_field(encoder) -> float:
    """Samples that reach one token of a ConvNeXt through its convolutions; infinite for others
    (a ViT's tokens have seen all). Its response norm compares channels over the whole ECG besides.
    """
    depths = getattr(encoder.config, "depths", None)
    if depths is None:
        return float("inf")
    stride, field = encoder.config.stem, float(encoder.config.stem)
    for i, depth in enumerate(depths):
        if i:
            field, stride = field + stride, 2 * stride
        field += 6 * depth * stride
    return field
