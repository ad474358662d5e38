"""The ECG transformer of ECG-QA's baselines: strided convolutions, a convolutional position code, a
post-norm transformer encoder, and a classifier on top. `wav2vec.py` and `fusion_qa.py` build on it.

Letters: B batch, C leads, T samples, F conv channels, P tokens of one ECG, D width, H heads.
Module names are those of the published checkpoints (W2V+CMSC+RLM, ECG-FM), so these load unmapped.
Source: Oh et al. 2022 (arXiv 2203.06889) section 3; Oh et al. 2023 (ECG-QA) appendix.

`protocol="paper"` (default) pools by length and never lets padding through; `"reference"` does what
the published code does: pooling over non-zero entries and a position code that sees padded tokens.

Usage:

    model = ECGTransformerClassifier(ECGTransformerConfig(dim=96, n_layers=2), n_labels=71)
    model(signal)["logits"]                                  # signal (B, 12, T) mV -> (B, 71)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from ecgkit.models.long_conv import long_conv
from ecgkit.models.transformer import TransformerEncoder
from ecgkit.types import ConfigError

PROTOCOLS = ("paper", "reference")
LONG_KERNEL = 32  # tokens; from here on the Fourier transform is quicker on a CPU


@dataclass(frozen=True)
class ECGTransformerConfig:
    """Sizes of the published base model; `conv_layers` lists (channels, kernel, stride)."""

    n_leads: int = 12
    conv_layers: tuple[tuple[int, int, int], ...] = ((256, 2, 2),) * 4
    dim: int = 768
    ffn_dim: int = 3072
    n_layers: int = 12
    n_heads: int = 12
    pos_kernel: int = 128
    pos_groups: int = 16
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    feature_grad_mult: float = 1.0  # scales the gradient into the convolutions; 0 freezes them
    roughness_mv: float = 0.0  # > 0: convolutions also see how rough each lead is (not published)
    protocol: str = "paper"

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol is {self.protocol!r}; choose {' or '.join(PROTOCOLS)}.")
        if self.dim % self.n_heads:
            raise ConfigError(f"dim {self.dim} is not a multiple of n_heads {self.n_heads}.")
        if self.dim % self.pos_groups:
            raise ConfigError(f"dim {self.dim} is not a multiple of pos_groups {self.pos_groups}.")
        if self.roughness_mv < 0:
            raise ConfigError(f"roughness_mv is {self.roughness_mv}; give 0 (leads alone) or more.")

    @property
    def conv_dim(self) -> int:
        return self.conv_layers[-1][0]

    def n_tokens(self, n_samples):
        """P for T samples (int or integer tensor): floor((L - kernel) / stride) + 1 a layer."""
        for _, kernel, stride in self.conv_layers:
            n_samples = (n_samples - kernel) // stride + 1
        return n_samples


# --- blocks ---------------------------------------------------------------------------------------


def roughness(signal: torch.Tensor, unit_mv: float) -> torch.Tensor:
    """(B, C, T) mV -> (B, C, T): arsinh(|second difference| / unit_mv), 0 at both ends.

    Muscle noise is a hundredth of a QRS, and group norm takes every channel's size away, so that
    convolutions of the leads alone do not see it; here it stands out between the beats.
    """
    bend = signal[..., 2:] - 2 * signal[..., 1:-1] + signal[..., :-2]
    return F.pad(torch.asinh(bend.abs() / unit_mv), (1, 1))


class ConvFeatureExtractor(nn.Module):
    """(B, C, T) mV -> (B, F, P). Group norm, one group a channel, after the first layer only.

    With `roughness_mv` the first layer reads 2 C channels: the leads, and how rough each is.
    """

    def __init__(self, config: ECGTransformerConfig):
        super().__init__()
        self.roughness_mv = config.roughness_mv
        self.conv_layers = nn.ModuleList()
        width = config.n_leads * (2 if config.roughness_mv else 1)
        for i, (channels, kernel, stride) in enumerate(config.conv_layers):
            conv = nn.Conv1d(width, channels, kernel, stride, bias=False)
            nn.init.kaiming_normal_(conv.weight)
            norm = [nn.GroupNorm(channels, channels)] if i == 0 else []
            self.conv_layers.append(nn.Sequential(conv, nn.Dropout(0.0), *norm, nn.GELU()))
            width = channels

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        if self.roughness_mv:
            signal = torch.cat([signal, roughness(signal, self.roughness_mv)], dim=1)
        for layer in self.conv_layers:
            signal = layer(signal)
        return signal


class ConvPositionalEncoding(nn.Module):
    """A position code read off the neighbouring tokens by one grouped, weight-normed convolution.

    (B, P, D) -> (B, P, D), to be added. An even kernel yields one step too many; it is dropped.
    """

    def __init__(self, dim: int, kernel: int, groups: int):
        super().__init__()
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=math.sqrt(4.0 / (kernel * dim)))
        nn.init.zeros_(conv.bias)
        self.pos_conv = nn.Sequential(weight_norm(conv, name="weight", dim=2))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        conv, n_tokens = self.pos_conv[0], tokens.shape[1]
        kernel = conv.kernel_size[0]
        # On a CPU the direct convolution would be a quarter of a training step of the base model.
        if tokens.device.type == "cpu" and LONG_KERNEL <= kernel <= n_tokens:
            return F.gelu(long_conv(tokens, conv.weight, conv.bias, conv.groups))
        return F.gelu(conv(tokens.transpose(1, 2))[..., :n_tokens]).transpose(1, 2)


# --- masks and pooling ----------------------------------------------------------------------------


def token_padding_mask(mask, config: ECGTransformerConfig, n_tokens: int):
    """Sample mask (B, T) or (B, C, T), True = padding -> token mask (B, P); None where nothing is.

    A row that is padding throughout (an absent second ECG) is masked throughout.
    """
    if mask is None or not bool(mask.any()):
        return None
    mask = mask[:, 0] if mask.dim() == 3 else mask  # all leads of one ECG are padded alike
    real = config.n_tokens((~mask).sum(-1)).clamp(min=0)
    return torch.arange(n_tokens, device=mask.device)[None, :] >= real[:, None]


def pool_tokens(x, padding_mask=None, protocol: str = "paper"):
    """Mean of real tokens, (B, L, D) -> (B, D); rows without any real token give zeros.

    "reference" divides by the count of non-zero entries of each channel instead of by the length.
    """
    if padding_mask is not None:
        x = x.masked_fill(padding_mask[..., None], 0.0)
    if protocol == "reference":
        return x.sum(1) / (x != 0).sum(1).clamp(min=1)
    real = x.shape[1] if padding_mask is None else (~padding_mask).sum(1, keepdim=True).clamp(min=1)
    return x.sum(1) / real


def silence(signal, padding_mask):
    """Zeroes padded samples of (B, C, T), whatever they hold; mask (B, T) or (B, C, T) or None."""
    if padding_mask is None:
        return signal
    mask = padding_mask if padding_mask.dim() == 3 else padding_mask[:, None]
    return signal.masked_fill(mask, 0.0)


def scale_gradient(x: torch.Tensor, factor: float) -> torch.Tensor:
    """Returns x unchanged; its gradient is multiplied by `factor`."""
    return x if factor == 1.0 else x * factor + x.detach() * (1.0 - factor)


# --- models ---------------------------------------------------------------------------------------


class ECGTransformer(nn.Module):
    """Convolutions, projection, position code and encoder: one ECG in, P tokens out."""

    def __init__(self, config: ECGTransformerConfig):
        super().__init__()
        self.config = config
        self.feature_extractor = ConvFeatureExtractor(config)
        self.layer_norm = nn.LayerNorm(config.conv_dim)
        self.post_extract_proj = nn.Linear(config.conv_dim, config.dim)
        self.conv_pos = ConvPositionalEncoding(config.dim, config.pos_kernel, config.pos_groups)
        self.dropout_input = nn.Dropout(config.dropout)
        self.encoder = TransformerEncoder(config)

    def features(self, signal):
        """(B, C, T) -> raw conv features (B, P, F) and their layer-normed form (B, P, F)."""
        with torch.set_grad_enabled(self.config.feature_grad_mult > 0 and torch.is_grad_enabled()):
            raw = self.feature_extractor(signal).transpose(1, 2)
        raw = scale_gradient(raw, self.config.feature_grad_mult)
        return raw, self.layer_norm(raw)

    def add_position(self, tokens, unseen=None):
        """Tokens (B, P, D) + position code, which never reads `unseen` ones (B, P) in "paper"."""
        if unseen is not None and self.config.protocol == "paper":
            tokens = tokens.masked_fill(unseen[..., None], 0.0)
        return tokens + self.conv_pos(tokens)

    def contextualise(self, tokens, padding_mask=None, return_attention: bool = False):
        """Adds the position code to tokens (B, P, D) and encodes them."""
        return self.encoder(self.add_position(tokens, padding_mask), padding_mask, return_attention)

    def embed(self, signal, padding_mask=None, hidden=None):
        """(B, C, T) mV -> tokens with position code (B, P, D) and their padding mask (B, P).

        This is what the encoder reads; models that join several ECGs take it from here. `hidden`
        (B, P) are further tokens that the position code of the others should not read.
        """
        _, normed = self.features(silence(signal, padding_mask))
        tokens = self.dropout_input(self.post_extract_proj(normed))
        mask = token_padding_mask(padding_mask, self.config, tokens.shape[1])
        if mask is None:
            mask = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return self.add_position(tokens, mask if hidden is None else mask | hidden), mask

    def forward(self, signal, padding_mask=None, return_attention: bool = False) -> dict:
        """signal (B, C, T) mV; padding_mask (B, T) or (B, C, T), True = padding.

        Returns x (B, P, D), padding_mask (B, P) or None, pooled (B, D), features (B, P, F),
        attention: list of (B, H, P, P), empty unless `return_attention`.
        """
        raw, normed = self.features(silence(signal, padding_mask))
        mask = token_padding_mask(padding_mask, self.config, normed.shape[1])
        tokens = self.dropout_input(self.post_extract_proj(normed))
        x, maps = self.contextualise(tokens, mask, return_attention)
        pooled = pool_tokens(x, mask, self.config.protocol)
        return {"x": x, "padding_mask": mask, "pooled": pooled, "features": raw, "attention": maps}


class ECGTransformerClassifier(nn.Module):
    """Pooled ECG tokens -> `n_labels` logits (the W2V+CMSC+RLM upper bound when pretrained)."""

    def __init__(self, config: ECGTransformerConfig, n_labels: int):
        super().__init__()
        self.encoder = ECGTransformer(config)
        self.proj = nn.Linear(config.dim, n_labels)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, signal, padding_mask=None, return_attention: bool = False) -> dict:
        out = self.encoder(signal, padding_mask, return_attention)
        return {"logits": self.proj(out["pooled"]), **out}
