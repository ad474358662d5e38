"""ConvNeXt V2 for 12-lead ECGs: the encoder of ESI (TMLR 2024), in the shape its published code
gives it.

Parameter names equal the published ones, so a published state dict loads as it is.

Usage:

    encoder = ConvNeXt1D(ConvNeXtConfig.preset("tiny"))
    out = encoder(x)        # x (B, C, T) mV -> {"embedding": (B, D), "tokens": (B, P, D)}
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ecgkit.types import ModelError

PRESETS = {  # name: (depths, dims), as published
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "huge": ((3, 3, 27, 3), (352, 704, 1408, 2816)),
}


# --- pieces ---

LARGE = 2**20  # numbers; below, the bookkeeping of `recomputed` costs more than they do


def recomputed(fn, x):
    """fn(x), where fn is element-wise work that ends in a linear map.

    Of a large x, nothing that fn makes on the way is kept for the backward pass: it is made again
    (PyTorch stops before the linear map), which costs little beside the product itself.
    """
    if x.numel() < LARGE or not torch.is_grad_enabled():
        return fn(x)
    options = {"use_reentrant": False, "preserve_rng_state": False, "determinism_check": "none"}
    return checkpoint(fn, x, **options)


class TimeNorm(nn.Module):
    """Normalises each channel over TIME: (x - mean) / (std + eps), std with n - 1, then an affine
    map.

    Published under the name LayerNorm, it is an instance norm: the amplitude of a channel is gone
    after it.
    """

    def __init__(self, n_channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, n_channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, n_channels, 1))
        self.eps = eps

    def forward(self, x):  # (B, C, T) -> (B, C, T)
        std, mean = torch.std_mean(x, dim=-1, keepdim=True)
        return (x - mean) * (self.weight / (std + self.eps)) + self.bias


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the CHANNELS at each time, as ConvNeXt V2 has it (Woo et al. 2023): how large
    a wave is against the others stays readable.
    """

    def forward(self, x):  # (B, C, T) -> (B, C, T)
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class GlobalResponseNorm(nn.Module):
    """GRN of ConvNeXt V2 (section 3.2): a channel's energy over time against the mean of all
    channels.
    """

    def __init__(self, n_channels: int, eps: float = 1e-6):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, n_channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, n_channels))
        self.eps = eps

    def forward(self, x):  # (B, P, D) -> (B, P, D)
        energy = torch.linalg.vector_norm(x, dim=1, keepdim=True)  # (B, 1, D)
        share = energy / (energy.mean(dim=-1, keepdim=True) + self.eps)
        # = gamma * (x * share) + beta + x, in one pass; under autocast the share is float32
        scale = (1 + self.gamma * share).to(x.dtype)
        return torch.addcmul(self.beta.to(x.dtype), x, scale)


NORMS = {"time": TimeNorm, "channel": ChannelNorm}


class Block(nn.Module):
    """Depthwise convolution over time, then a channel MLP with GRN, on a residual path."""

    def __init__(self, width: int, kernel: int = 7):
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.grn = GlobalResponseNorm(4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x):  # (B, D, P) -> (B, D, P)
        y = self.norm(self.dwconv(x).transpose(1, 2))  # (B, P, D)
        return x + recomputed(self._respond, self.pwconv1(y)).transpose(1, 2)

    def _respond(self, y):  # (B, P, 4 D) -> (B, P, D)
        return self.pwconv2(self.grn(F.gelu(y)))


# --- the encoder ---


@dataclasses.dataclass(frozen=True)
class ConvNeXtConfig:
    """Sizes; `init_std` of the first weights is as published; 0 = 0.8 / sqrt(inputs of each layer),
    for narrow nets that start from nothing.

    `n_classes` = 0 leaves out the classification head, which ESI carries but never
    uses.
    """

    n_leads: int = 12
    depths: tuple[int, ...] = (2, 2, 4, 2)
    dims: tuple[int, ...] = (24, 48, 96, 192)
    kernel: int = 7
    stem: int = 4
    stride: int = 2
    n_classes: int = 0
    init_std: float = 0.02
    norm: str = "time"  # of stem and downsampling: time (the published code) | channel

    @classmethod
    def preset(cls, name: str, **changes) -> ConvNeXtConfig:
        """The published sizes by name. Raises ModelError for a name that was never published."""
        if name not in PRESETS:
            raise ModelError(
                f"ConvNeXt size {name!r} is unknown; choose one of {', '.join(PRESETS)}."
            )
        depths, dims = PRESETS[name]
        return cls(depths=depths, dims=dims, **changes)

    @classmethod
    def of_state_dict(cls, state: dict) -> ConvNeXtConfig:
        """Reads every size off the shapes of a published state dict."""
        n_stages = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("stages."))
        blocks = {tuple(map(int, k.split(".")[1:3])) for k in state if k.startswith("stages.")}
        downs = [state["downsample_layers.0.0.weight"]]
        downs += [state[f"downsample_layers.{i}.1.weight"] for i in range(1, n_stages)]
        return cls(
            n_leads=downs[0].shape[1],
            dims=tuple(w.shape[0] for w in downs),
            stem=downs[0].shape[2],
            depths=tuple(sum(stage == i for stage, _ in blocks) for i in range(n_stages)),
            kernel=state["stages.0.0.dwconv.weight"].shape[2],
            stride=downs[1].shape[2] if n_stages > 1 else 2,
            n_classes=state["head.weight"].shape[0] if "head.weight" in state else 0,
        )


class ConvNeXt1D(nn.Module):
    """x (B, C, T) in mV -> {"embedding": (B, D), "tokens": (B, P, D)}, P = T / 32 rounded down
    stage by stage.

    The embedding is the LayerNorm of the tokens' mean over time; the tokens are the last stage as
    it stands. The published module takes (B, T, C); this one takes the kit's (B, C, T). With
    `n_classes` the output also has "logits" (B, K); with `return_stages` "down" and "stages", the
    feature maps (B, D_i, P_i) of each stage. Raises ModelError when T is too short for the last
    stage.
    """

    def __init__(self, config: ConvNeXtConfig):
        super().__init__()
        self.config = config
        dims, norm = config.dims, NORMS[config.norm]
        stem = nn.Conv1d(config.n_leads, dims[0], config.stem, config.stem)
        self.downsample_layers = nn.ModuleList([nn.Sequential(stem, norm(dims[0]))])
        for before, after in zip(dims[:-1], dims[1:]):
            down = nn.Conv1d(before, after, config.stride, config.stride)
            self.downsample_layers.append(nn.Sequential(norm(before), down))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, config.kernel) for _ in range(depth)))
            for depth, width in zip(config.depths, dims)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], config.n_classes) if config.n_classes else None
        self.apply(lambda module: _initialise(module, config.init_std))

    @property
    def width(self) -> int:
        return self.config.dims[-1]

    @property
    def min_samples(self) -> int:
        """Shortest T: each time norm needs two positions for its standard deviation."""
        return self.config.stem * self.config.stride ** (len(self.config.dims) - 1)

    def forward(self, x, return_stages: bool = False):
        if x.ndim != 3 or x.shape[1] != self.config.n_leads or x.shape[2] < self.min_samples:
            raise ModelError(
                f"ConvNeXt1D takes (batch, {self.config.n_leads} leads, {self.min_samples} "
                f"samples or more), not {tuple(x.shape)}; transpose or lengthen the signal."
            )
        downs, stages = [], []
        for down, stage in zip(self.downsample_layers, self.stages):
            downs.append(down(x))
            x = stage(downs[-1])
            stages.append(x)
        tokens = x.transpose(1, 2)  # (B, D, P) -> (B, P, D)
        out = {"embedding": self.norm(x.mean(dim=-1)), "tokens": tokens}
        if self.head is not None:
            out["logits"] = self.head(out["embedding"])
        return out | {"down": downs, "stages": stages} if return_stages else out


def _initialise(module, std: float) -> None:
    if isinstance(module, (nn.Conv1d, nn.Linear)):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=std or 0.8 / fan_in**0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
