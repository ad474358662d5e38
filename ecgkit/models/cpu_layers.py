"""Layers of the risk network, the same in result as PyTorch's and quicker on a CPU.

PyTorch's batch norm goes through channels-last memory four numbers at a time when there are four
channels; here the memory is read as rows of 64, whichever channels they belong to. Its dropout
draws one random number per element; here one draw of 64 bits serves four elements. Its max-pool
keeps 64-bit indices. On other devices and in evaluation, all are PyTorch's own. None can be
differentiated twice.

Letters: B batch, F channels, C leads, T samples, R rows, W columns of a row (a multiple of F).

Usage:

    h = norm_leaky(conv(x), batch_norm)         # F.leaky_relu(batch_norm(conv(x)))
    h = halve(h)                                # F.max_pool2d(h, (1, 2))
    h = dropout(h, 0.2, training=True)          # F.dropout, 20.0 % +- 0.001 % of it
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

SLOPE = 0.01  # of the leaky ReLU, PyTorch's own
COLUMNS = 64
FEW_CHANNELS = 16  # one vector register of numbers


def norm_leaky(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    """(B, F, C, T) -> leaky ReLU of its batch norm; updates the running moments in training."""
    few = len(norm.weight) < FEW_CHANNELS and x.dtype == torch.float32
    if not (few and norm.training and x.device.type == "cpu"):
        return F.leaky_relu(norm(x), SLOPE, inplace=True)
    x = x.contiguous(memory_format=torch.channels_last)
    y, mean, variance = _NormLeaky.apply(x, norm.weight, norm.bias, norm.eps)
    _update_running(norm, mean, variance, x.numel() // x.shape[1])
    return y


def dropout(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """As F.dropout; on a CPU p is rounded to a 65,536th, and the scale made to match."""
    cut = round(p * 2**16)
    if not (training and 0 < cut < 2**16 and x.device.type == "cpu"):
        return F.dropout(x, p, training)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = bits.view(torch.int16)[: x.numel()] >= cut - 2**15
    return x * (keep.view(x.shape) * (1 / (1 - cut / 2**16)))


def halve(x: torch.Tensor) -> torch.Tensor:
    """(B, F, C, T) -> (B, F, C, T / 2), the larger of each two samples: F.max_pool2d(x, (1, 2))."""
    if x.device.type != "cpu" or x.shape[-1] % 2 or not x.requires_grad:
        return F.max_pool2d(x, (1, 2))
    return _Halve.apply(x.contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def _update_running(norm: nn.BatchNorm2d, mean, variance, n: int) -> None:
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (n / max(n - 1, 1)), norm.momentum)


class _NormLeaky(torch.autograd.Function):
    """Batch norm over (B, C, T) and leaky ReLU of channels-last (B, F, C, T), with both moments."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        n_channels, rows = len(weight), _rows(x)
        mean = _by_channel(rows.mean(0), n_channels).mean(0)
        centred = rows - _tiled(mean, rows)
        y = centred.square()  # memory for the result, too: fetching it costs more than sums
        variance = _by_channel(y.mean(0), n_channels).mean(0)
        inverse = (variance + eps).rsqrt()
        torch.addcmul(_tiled(bias, rows), centred, _tiled(weight * inverse, rows), out=y)
        y = _unrows(F.leaky_relu_(y, SLOPE), x)
        ctx.save_for_backward(centred, y, weight, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, *_):
        centred, y, weight, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        # The sign of what came out is that of what went in.
        g = torch.ops.aten.leaky_relu_backward(_rows(gradient), _rows(y), SLOPE, True)
        to_bias = _by_channel(g.sum(0), len(weight)).sum(0)
        to_x = g * centred  # memory for the result, too
        to_weight = _by_channel(to_x.sum(0), len(weight)).sum(0) * inverse
        scale, n = weight * inverse, y.numel() / len(weight)
        torch.addcmul(_tiled(-scale * to_bias / n, g), g, _tiled(scale, g), out=to_x)
        to_x.addcmul_(centred, _tiled(-scale * inverse * to_weight / n, g))
        return _unrows(to_x, y), to_weight, to_bias, None


class _Halve(torch.autograd.Function):
    """Channels-last memory holds the two samples side by side: (B * C * T / 2, 2, F)."""

    @staticmethod
    def forward(ctx, x):
        b, f, c, t = x.shape
        first, second = x.permute(0, 2, 3, 1).reshape(-1, 2, f).unbind(1)
        ctx.save_for_backward(second > first)  # of equals the first counts, as in PyTorch
        return torch.maximum(first, second).view(b, c, t // 2, f).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        [is_second] = ctx.saved_tensors
        b, f, c, t = gradient.shape
        gradient = gradient.permute(0, 2, 3, 1).reshape(-1, f)
        out = gradient.new_empty(len(gradient), 2, f)
        torch.mul(gradient, is_second, out=out[:, 1])
        torch.sub(gradient, out[:, 1], out=out[:, 0])
        return out.view(b, c, 2 * t, f).permute(0, 3, 1, 2)


# --- rows: memory of a channels-last tensor ---


def _rows(x: torch.Tensor) -> torch.Tensor:
    """(B, F, C, T) channels last -> (R, W), a view; column i belongs to channel i % F."""
    n_channels = x.shape[1]
    flat = x.permute(0, 2, 3, 1).reshape(-1)
    n_pixels = len(flat) // n_channels
    return flat.view(-1, n_channels * math.gcd(n_pixels, max(COLUMNS // n_channels, 1)))


def _unrows(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    b, f, c, t = like.shape
    return rows.view(b, c, t, f).permute(0, 3, 1, 2)


def _tiled(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(F,) -> (W,)"""
    return values.repeat(rows.shape[1] // len(values))


def _by_channel(columns: torch.Tensor, n_channels: int) -> torch.Tensor:
    """(W,) -> (W / F, F)"""
    return columns.view(-1, n_channels)
