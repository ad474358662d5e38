"""XResNet for 12-lead ECGs, the narrow form ESI measured (1.80 M parameters): every stage 64 wide.

Usage:

    encoder = XResNet1D(XResNetConfig())      # xresnet1d101
    out = encoder(x)                          # (B, C, T) -> "embedding" (B, 2D), "tokens" (B, P, D)
    encoder.load_state_dict(from_published(published_state))
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.types import ModelError


@dataclass(frozen=True)
class XResNetConfig:
    """Sizes. `expansion` 4 builds bottleneck blocks (1, k, 1), 1 builds plain blocks (k, k)."""

    n_leads: int = 12
    stem: tuple[int, ...] = (32, 32, 64)
    layers: tuple[int, ...] = (3, 4, 23, 3)
    widths: tuple[int, ...] = (64, 64, 64, 64)
    expansion: int = 4
    kernel: int = 5
    stem_kernel: int = 5

    @classmethod
    def preset(cls, name: str, **changes) -> XResNetConfig:
        """xresnet1d101 as published (narrow), or small_xresnet. Raises ModelError for another
        name.
        """
        if name not in PRESETS:
            raise ModelError(f"XResNet size {name!r} is unknown; choose {' or '.join(PRESETS)}.")
        return cls(**{**PRESETS[name], **changes})

    @classmethod
    def of_state_dict(cls, state: dict) -> XResNetConfig:
        """Reads every size off the shapes of a state dict in the kit's names (see
        `from_published`).
        """
        blocks = {tuple(map(int, k.split(".")[1:3])) for k in state if k.startswith("stages.")}
        n_stages = 1 + max(stage for stage, _ in blocks)
        n_convs = 3 if "stages.0.0.convs.2.conv.weight" in state else 2
        stem = [v for k, v in sorted(state.items()) if re.fullmatch(r"stem\.\d+\.conv\.weight", k)]
        first = [state[f"stages.{i}.0.convs.0.conv.weight"].shape[0] for i in range(n_stages)]
        last = state[f"stages.0.0.convs.{n_convs - 1}.conv.weight"].shape[0]
        return cls(
            n_leads=stem[0].shape[1],
            stem=tuple(w.shape[0] for w in stem),
            stem_kernel=stem[0].shape[2],
            layers=tuple(sum(s == i for s, _ in blocks) for i in range(n_stages)),
            widths=tuple(first),
            expansion=last // first[0],
            kernel=state["stages.0.0.convs.1.conv.weight"].shape[2],
        )


PRESETS = {
    "small_xresnet": {"stem": (16, 16, 32), "layers": (1, 1, 1, 1), "widths": (32,) * 4},
    "xresnet1d101": {},
}


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, and a ReLU unless `act` is False. Keeps T at stride
    1.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int,
        stride: int = 1,
        act: bool = True,
        zero: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm1d(n_out)
        self.act = act
        nn.init.kaiming_normal_(self.conv.weight)
        if zero:  # a residual branch that starts as the identity
            nn.init.zeros_(self.bn.weight)

    def forward(self, x):  # (B, C, T) -> (B, D, T / stride)
        x = self.bn(self.conv(x))
        return F.relu(x) if self.act else x


class ResBlock(nn.Module):
    """Residual block; the stride sits in the k-convolution, the short cut pools first and projects
    only if it must.
    """

    def __init__(self, n_in: int, width: int, stride: int, config: XResNetConfig):
        super().__init__()
        n_out, k = width * config.expansion, config.kernel
        if config.expansion == 1:
            steps = [(n_in, width, k, stride), (width, n_out, k, 1)]
        else:
            steps = [(n_in, width, 1, 1), (width, width, k, stride), (width, n_out, 1, 1)]
        last = len(steps) - 1
        self.convs = nn.Sequential(
            *(ConvNorm(*s, act=i < last, zero=i == last) for i, s in enumerate(steps))
        )
        self.stride = stride
        self.shortcut = ConvNorm(n_in, n_out, 1, act=False) if n_in != n_out else None

    def forward(self, x):  # (B, C, T) -> (B, D, ceil(T / stride))
        skip = x if self.stride == 1 else F.avg_pool1d(x, self.stride, ceil_mode=True)
        if self.shortcut is not None:
            skip = self.shortcut(skip)
        return F.relu(self.convs(x) + skip)


class XResNet1D(nn.Module):
    """x (B, C, T) -> {"embedding": (B, 2D) = [max over time, mean over time], "tokens": (B, P, D)}.

    P = T / 32, rounded up stage by stage. With `return_stages` also "stages": the feature maps (B,
    D, P_i). Raises ModelError for an input of another form.
    """

    def __init__(self, config: XResNetConfig):
        super().__init__()
        self.config = config
        sizes = (config.n_leads, *config.stem)
        self.stem = nn.Sequential(
            *(
                ConvNorm(a, b, config.stem_kernel, stride=2 if i == 0 else 1)
                for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:]))
            )
        )
        stages, n_in = [], config.stem[-1]
        for i, (depth, width) in enumerate(zip(config.layers, config.widths)):
            blocks = []
            for j in range(depth):
                blocks.append(ResBlock(n_in, width, 2 if j == 0 and i > 0 else 1, config))
                n_in = width * config.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    @property
    def width(self) -> int:
        return 2 * self.config.widths[-1] * self.config.expansion

    @property
    def token_width(self) -> int:
        return self.width // 2

    def forward(self, x, return_stages: bool = False):
        if x.ndim != 3 or x.shape[1] != self.config.n_leads or not x.shape[2]:
            raise ModelError(
                f"XResNet1D takes (batch, {self.config.n_leads} leads, samples), not "
                f"{tuple(x.shape)}; transpose the signal."
            )
        x = F.max_pool1d(self.stem(x), kernel_size=3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        out = {"embedding": torch.cat([x.amax(-1), x.mean(-1)], dim=1), "tokens": x.transpose(1, 2)}
        return out | {"stages": maps} if return_stages else out


def from_published(state: dict) -> dict:
    """The published state dict under the kit's names; the copies it holds of each convolution are
    dropped.

    Published: children 0-2 are the stem, 3 the pooling, 4 onwards the stages; a layer is (conv,
    norm); each block registers its convolutions twice, as `convs` and `convpath.0`.
    """
    out = {}
    for key, value in state.items():
        parts = key.split(".")
        layer = {"0": "conv", "1": "bn"}.get(parts[-2])
        if len(parts) == 3:
            out[f"stem.{parts[0]}.{layer}.{parts[-1]}"] = value
        elif parts[2] == "convs":
            out[f"stages.{int(parts[0]) - 4}.{parts[1]}.convs.{parts[3]}.{layer}.{parts[-1]}"] = (
                value
            )
        elif parts[2] == "idpath":
            out[f"stages.{int(parts[0]) - 4}.{parts[1]}.shortcut.{layer}.{parts[-1]}"] = value
        elif parts[2] == "convpath":
            copy = ".".join([*parts[:2], "convs", *parts[4:]])
            if (
                copy not in state
            ):  # safetensors keeps one name of a shared tensor, whichever comes first
                out |= from_published({copy: value})
    return out
