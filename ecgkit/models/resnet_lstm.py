"""ResNet-50 reads the ECG, an LSTM reads the question, their element-wise product answers.

Letters: B batch, C leads, T samples, L question tokens, E word width, D joint width, K answers.
Source: Oh et al. 2023 (ECG-QA) section 5, after Antol et al. 2015 (VQA) with ResNet-50 for VGG.

48,428,775 parameters with 103 answers: ResNet 15,959,168; words 30522 x 768; LSTM 4,726,784; two
Linear(2048, 1024); Linear(1024, 103). There is no position and no norm beside the word vectors.

Usage:

    model = ResNetLSTM(ResNetLSTMConfig(vocab_size=800), n_answers=103)
    model(ecg, text, ecg_2=None, text_padding_mask=None)["logits"]            # (B, 103)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from ecgkit.models.ecg_transformer import silence
from ecgkit.models.fusion_qa import answer_head
from ecgkit.models.resnet1d import ResNet1D
from ecgkit.models.transformer import init_like_bert


@dataclass(frozen=True)
class ResNetLSTMConfig:
    """The published sizes."""

    n_leads: int = 12
    resnet_blocks: tuple[int, ...] = (3, 4, 6, 3)
    resnet_width: int = 64
    vocab_size: int = 30522
    word_dim: int = 768
    lstm_dim: int = 512
    lstm_layers: int = 2
    lstm_dropout: float = 0.0  # between LSTM layers
    dim: int = 1024  # width D in which both sides are multiplied


class ResNetLSTM(nn.Module):
    """Two ECGs count as the sum of their vectors; an absent one adds nothing."""

    reads = ("ecg", "text")

    def __init__(self, config: ResNetLSTMConfig, n_answers: int):
        super().__init__()
        self.config = config
        self.resnet = ResNet1D(config.n_leads, config.resnet_blocks, config.resnet_width)
        self.resnet_proj = nn.Linear(self.resnet.out_dim, config.dim)
        self.word_embedding = nn.Embedding(config.vocab_size, config.word_dim)
        self.lstm = nn.LSTM(config.word_dim, config.lstm_dim, config.lstm_layers, batch_first=True,
                            dropout=config.lstm_dropout)
        self.lstm_proj = nn.Linear(2 * config.lstm_layers * config.lstm_dim, config.dim)
        self.proj = answer_head(config.dim, n_answers)
        init_like_bert(self.word_embedding)

    def forward(self, ecg, text, ecg_2=None, ecg_padding_mask=None, ecg_2_padding_mask=None,
                text_padding_mask=None, return_attention: bool = False) -> dict:
        """ecg, ecg_2 (B, C, T) mV; text (B, L) token ids; masks True = padding or absent.

        Returns logits (B, K), ecg_vector and text_vector (B, D), padding_mask of the text (B, L) or
        None. `attention` is empty: this model has none. Padding must follow a question's tokens.
        A shorter ECG is read with zeros behind it.
        """
        signal = self._ecg_vector(ecg, ecg_padding_mask)
        if ecg_2 is not None:
            signal = signal + self._ecg_vector(ecg_2, ecg_2_padding_mask)
        words = self._text_vector(text, text_padding_mask)
        return {"logits": self.proj(signal * words), "ecg_vector": signal, "text_vector": words,
                "padding_mask": text_padding_mask, "attention": []}

    def _ecg_vector(self, ecg, mask):
        """(B, C, T) -> (B, D). Absent ECGs stay out of the network: they would bend its batch
        statistics."""
        if mask is None:
            return self.resnet_proj(self.resnet(ecg))
        present = ~mask.flatten(1).all(1)  # (B,)
        if bool(present.all()):
            return self.resnet_proj(self.resnet(silence(ecg, mask)))
        vector = ecg.new_zeros(len(ecg), self.config.dim)
        if bool(present.any()):
            found = self._ecg_vector(ecg[present], mask[present])
            vector = vector.to(found).index_put((present,), found)
        return vector

    def _text_vector(self, text, mask):
        """(B, L) ids -> (B, D) from the last states h and c of all layers, at the last real word.

        Packing stops each row there, so padding behind it changes nothing.
        """
        words = self.word_embedding(text)
        if mask is not None:
            lengths = (~mask).sum(1).clamp(min=1).cpu()
            words = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        _, (h, c) = self.lstm(words)  # (layers, B, lstm_dim) each
        states = torch.cat([h, c]).transpose(0, 1).flatten(1)  # (B, 2 * layers * lstm_dim)
        return self.lstm_proj(states)
