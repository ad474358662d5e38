"""The six answering models of ECG-QA behind one name each, and what they start from.

    fusion       ECG and words in one transformer              ECG side from an ECG classifier
    blind        words alone
    deaf         ECGs alone                                    from an ECG classifier
    resnet_lstm  ResNet-50 x LSTM
    m3ae         two streams with co-attention                 from M3AE's own pretraining
    medvill      fusion, pretrained as MedViLL                 from MedViLL's own pretraining

Source: Oh et al. 2023 (ECG-QA) section 5; fact sheet ecgqa 3.1.

Usage:

    model = build_qa(config, data, "deaf")
    start_qa(model, ecg_classifier)
    answer(model, data.batch(positions))["logits"]                          # (B, K)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from ecgkit.models.deaf_qa import DeafQA
from ecgkit.models.ecg_transformer import ECGTransformerConfig
from ecgkit.models.fusion_qa import BlindQA, FusionConfig, FusionQA
from ecgkit.models.m3ae import M3AEQA, M3AEConfig, M3AEPretraining
from ecgkit.models.medvill import MedViLLPretraining, load_medvill
from ecgkit.models.resnet_lstm import ResNetLSTM, ResNetLSTMConfig
from ecgkit.tasks.classifiers import transformer_config
from ecgkit.tasks.qa_data import QAData
from ecgkit.types import ConfigError

TITLES = {"fusion": "fusion", "blind": "text only", "deaf": "ECG only",
          "resnet_lstm": "ResNet + LSTM", "m3ae": "M3AE", "medvill": "MedViLL"}
FROM_ECG, FROM_REPORTS = ("fusion", "deaf"), ("m3ae", "medvill")


def starting_points(ecg_classifier=None, pretrained: Mapping = ()) -> dict:
    """kind -> what `train_qa` starts it from: the ECG classifier, or its own ECG-report
    pretraining."""
    starts = {kind: ecg_classifier for kind in FROM_ECG if ecg_classifier is not None}
    return starts | {kind: pretrained[kind] for kind in FROM_REPORTS if kind in pretrained}


def build_qa(config, data: QAData, kind: str, start_from=None) -> torch.nn.Module:
    """A model of `kind` for the answers of `data`; M3AE takes its sizes from what it starts from.

    Raises ConfigError for an unknown kind.
    """
    n_answers, n_words = len(data.questions.classes), len(data.tokenizer)
    text = {"vocab_size": n_words, "sep_id": data.tokenizer.sep_token_id,
            "max_text": max(config.max_text, int(data.tokens.lengths(slice(None)).max()))}
    # Convolutions that nothing was pretrained into must learn, whatever the setting says.
    frozen = start_from is None and not config.feature_grad_mult
    grad = {"feature_grad_mult": 1.0 if frozen else config.feature_grad_mult}
    if kind == "deaf":
        return DeafQA(transformer_config(config, ECGTransformerConfig, **grad), n_answers)
    if kind in ("fusion", "blind", "medvill"):
        model = BlindQA if kind == "blind" else FusionQA
        return model(transformer_config(config, FusionConfig, **grad, **text), n_answers)
    if kind == "resnet_lstm":
        return ResNetLSTM(_resnet_lstm(config, n_words), n_answers)
    if kind == "m3ae":
        return M3AEQA(_m3ae(config, data, start_from, **grad), n_answers)
    raise ConfigError(f"{kind!r} is no answering model; choose one of {', '.join(TITLES)}.")


def _resnet_lstm(config, n_words: int) -> ResNetLSTMConfig:
    """Published widths follow from the transformer's: word vectors D, joint width 1024 at 768."""
    return ResNetLSTMConfig(vocab_size=n_words, word_dim=config.dim, lstm_dim=config.lstm_width,
                            dim=2 * config.lstm_width, resnet_width=config.resnet_width)


def _m3ae(config, data: QAData, start_from, feature_grad_mult: float):
    if isinstance(start_from, M3AEPretraining):
        return dataclasses.replace(start_from.config, feature_grad_mult=feature_grad_mult)
    return transformer_config(
        config, M3AEConfig, vocab_size=len(data.tokenizer), max_text=config.max_text,
        sep_id=data.tokenizer.sep_token_id, pad_id=data.tokenizer.pad_token_id,
        text_dropout=config.dropout, text_layers=config.vl_text_layers,
        n_co_layers=config.vl_co_layers,
        mim_layer=config.vl_mim_layer, decoder_dim=config.vl_decoder_dim,
        decoder_layers=config.vl_decoder_layers, decoder_heads=config.vl_decoder_heads,
        feature_grad_mult=feature_grad_mult)


def start_qa(model: torch.nn.Module, start_from) -> int:
    """Copies pretrained weights into an answering model; returns how many tensors (0 for None)."""
    if start_from is None:
        return 0
    if isinstance(start_from, MedViLLPretraining):
        return load_medvill(model, start_from)
    if isinstance(start_from, M3AEPretraining):
        return model.load_pretrained(start_from)
    return model.load_ecg_side(start_from)


def answer(model, batch: dict[str, torch.Tensor], **how) -> dict:
    """Runs any of the models on a batch of `QAData`; one is never handed what it does not read.

    `model` may be wrapped for several processes.
    """
    bare = getattr(model, "module", model)
    reads = bare.reads
    ecgs = {name: batch.get(name) for name in ("ecg", "ecg_2", "ecg_2_padding_mask")}
    if (ecg_of := batch.get("ecg_of")) is not None and "ecg" in reads:
        once = getattr(bare, "takes_ecg_of", False)
        ecgs |= {"ecg_of": ecg_of} if once else {"ecg": ecgs["ecg"][ecg_of]}
    words = {name: batch[name] for name in ("text", "text_padding_mask")}
    seen = {**(ecgs if "ecg" in reads else {}), **(words if "text" in reads else {})}
    return model(**seen, **how)


def reads_ecg(model) -> bool:
    return "ecg" in model.reads
