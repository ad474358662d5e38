"""The dual-attention risk network as its authors train it: the baseline of `risk_step.py`, and only
that.

It has the published weight names and results, and the published cost: a Python loop over the leads
with a layer norm, an attention and an MLP each, tokens first, the attention maps computed and
averaged over heads in every forward pass, convolutions in PyTorch's standard layout, a Cox loss
over a (B, B) risk set, and a loader that cleans, scores and looks for R peaks item by item.

Letters: B batch, C leads, T samples, F features, N time tokens, D width of a token, Z code width.
Source: facts about the published code (Jin et al. 2025), written anew; the parity fixtures
`risk_ae_small*`, `risk_cox` and `risk_preproc` hold it to the original's numbers
(tests/test_risk_step.py).

Usage:
    model = PublishedAutoencoder(DualAttentionConfig(608))
    model(x)                                  # (B, C, T) -> z, recon and both attention maps
    item = PublishedRecords(signals, 100, 1024, np.random.default_rng(0))[0]        # (C, 1024)
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.dual_attention import DualAttentionConfig

# --- the encoder ----------------------------------------------------------------------------------


class DownBlock(nn.Module):
    """(B, F, C, T) -> (B, F', C, T / 2)"""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, (1, 5), stride=(1, 2), padding=(0, 2), bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, (1, 5), padding=(0, 2), bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.idfunc_0 = nn.MaxPool2d((1, 2))
        self.idfunc_1 = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x):
        h = F.leaky_relu(self.bn1(self.conv1(x)))
        h = F.leaky_relu(self.bn2(self.conv2(h)))
        return F.gelu(h + self.idfunc_1(self.idfunc_0(x)))


class Mlp(nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class Positions(nn.Module):
    """Sine and cosine, added to (N, B, D)."""

    def __init__(self, n: int, width: int):
        super().__init__()
        angle = torch.arange(n)[:, None] * torch.exp(
            torch.arange(0, width, 2) * (-math.log(10_000.0) / width)
        )
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(n, 1, width)
        self.register_buffer("table", table, persistent=False)

    def forward(self, x):
        return x + self.table


class Attention(nn.Module):
    """Features (B, D, C, N) -> z (B, Z), lead attention (B, C, C), time attention C x (B, N, N)."""

    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        c = config
        self.config, leads = c, range(c.n_leads)
        self.drop = nn.Dropout(c.dropout)
        if c.time_attention:
            self.time_positions = Positions(c.n_tokens, c.width)
            self.time_norm_1 = nn.ModuleList(nn.LayerNorm(c.width) for _ in leads)
            self.time_mha = nn.ModuleList(
                nn.MultiheadAttention(c.width, c.n_heads, c.dropout) for _ in leads
            )
            self.mlp_norm_1 = nn.ModuleList(nn.LayerNorm(c.width) for _ in leads)
            self.time_mlp = nn.ModuleList(Mlp(c.width, c.dropout) for _ in leads)
        if c.lead_attention:
            self.lead_positions = Positions(c.n_leads, c.lead_width)
            self.lead_norm_1 = nn.LayerNorm(c.lead_width)
            self.lead_mha = nn.MultiheadAttention(c.lead_width, c.n_heads, c.dropout)
            self.lead_mlp = Mlp(c.lead_width, c.dropout)
        self.norm2 = nn.LayerNorm(c.lead_width)  # there, used or not
        n_features = c.n_leads * c.width
        self.attention_pool_1 = nn.Sequential(
            nn.Identity(), nn.Conv1d(n_features, c.code_width // 2, 1), nn.AdaptiveAvgPool1d(1)
        )
        self.attention_pool_2 = nn.Sequential(
            nn.Identity(), nn.Conv1d(n_features, c.code_width // 2, 1), nn.AdaptiveMaxPool1d(1)
        )

    def forward(self, x):
        time, time_maps = self.over_time(x) if self.config.time_attention else (x, None)
        lead, lead_map = self.over_leads(x) if self.config.lead_attention else (time, None)
        h = (time + lead).flatten(1, 2)
        z = torch.cat([self.attention_pool_1(h), self.attention_pool_2(h)], dim=1).flatten(1)
        return z, lead_map, time_maps

    def over_time(self, x):
        found, maps = [], []
        for i in range(self.config.n_leads):
            tokens = self.time_positions(x[:, :, i].permute(2, 0, 1))  # (N, B, D)
            h = self.time_norm_1[i](tokens)
            h, weights = self.time_mha[i](h, h, h)
            tokens = tokens + self.drop(h)
            tokens = tokens + self.time_mlp[i](self.mlp_norm_1[i](tokens))
            found.append(tokens.permute(1, 2, 0))
            maps.append(weights)
        return torch.stack(found, dim=2), maps

    def over_leads(self, x):
        tokens = self.lead_positions(x.permute(2, 0, 1, 3).flatten(2))  # (C, B, D * N)
        h = self.lead_norm_1(tokens)
        h, weights = self.lead_mha(h, h, h)
        tokens = tokens + self.drop(h)
        tokens = tokens + self.lead_mlp(self.norm2(tokens))
        return tokens.unflatten(2, (x.shape[1], x.shape[3])).permute(1, 2, 0, 3), weights


class Encoder(nn.Module):
    """(B, C, T) -> z (B, Z) and the maps."""

    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        n_leads, channels = config.n_leads, config.n_leads * config.base
        self.n_leads = n_leads
        self.input_conv = nn.Sequential(
            nn.Conv1d(n_leads, channels, 5, padding=2, groups=n_leads),
            nn.GroupNorm(n_leads, channels),
            nn.GELU(),
            nn.Conv1d(channels, channels, 5, padding=2),
            nn.GroupNorm(n_leads, channels),
            nn.GELU(),
        )
        widths = [config.base, 2 * config.base] + [config.width] * (config.n_down - 1)
        self.encoder = nn.Sequential(*(DownBlock(a, b) for a, b in zip(widths[:-1], widths[1:])))
        self.attention = Attention(config)

    def forward(self, x):
        h = self.input_conv(x)
        return self.attention(self.encoder(h.reshape(len(h), -1, self.n_leads, h.shape[-1])))


# --- the decoder ----------------------------------------------------------------------------------


class UpBlock(nn.Module):
    """(B, F, C, T) -> (B, F', C, 2 T), or T for the last one."""

    def __init__(self, n_in: int, n_out: int, double: bool):
        super().__init__()
        self.double = double
        if double:
            self.idfunc_0 = nn.ConvTranspose2d(n_in, n_in, (1, 4), stride=(1, 2), padding=(0, 1))
        self.idfunc_1 = nn.Conv2d(n_in, n_out, 1, bias=not double)
        self.conv1 = nn.Conv2d(n_in, n_out, (1, 5), padding=(0, 2), bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, (1, 5), padding=(0, 2), bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x):
        if self.double:
            x = skip = self.idfunc_1(self.idfunc_0(x))
        else:
            skip = self.idfunc_1(x)
        h = F.leaky_relu(self.bn1(self.conv1(x)))
        h = F.leaky_relu(self.bn2(self.conv2(h)))
        return F.gelu(h + skip)


class Decoder(nn.Module):
    """z (B, Z) -> (B, C, T)"""

    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        base, n_tokens, n_leads = config.base, config.n_tokens, config.n_leads
        self.shape = (base, n_leads, n_tokens)
        self.linear = nn.Sequential(
            nn.Linear(config.code_width, base * n_tokens),
            nn.Linear(base * n_tokens, base * n_leads * n_tokens),
        )
        ups = [UpBlock(base, base, True) for _ in range(config.n_down)]
        self.decoder = nn.Sequential(*ups, UpBlock(base, 1, False))
        self.final_conv = nn.Sequential(
            nn.Conv1d(n_leads, n_leads, 1, groups=n_leads), nn.InstanceNorm1d(n_leads)
        )

    def forward(self, z):
        return self.final_conv(self.decoder(self.linear(z).unflatten(1, self.shape))[:, 0])


class PublishedAutoencoder(nn.Module):
    """x (B, C, T) -> "z" (B, Z), "recon" (B, C, T), "lead_attention" (B, C, C), "time_attention" (a
    list of C times (B, N, N)); a map is None where its branch is left out.
    """

    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def forward(self, x):
        z, lead_map, time_maps = self.encoder(x)
        return {"z": z, "recon": self.decoder(z), "lead_attention": lead_map,
                "time_attention": time_maps}  # fmt: skip


class PublishedHead(nn.Module):
    """z (B, Z) -> (B, 1) and the three hidden units."""

    def __init__(self, code_width: int, hidden: int = 3, dropout: float = 0.25):
        super().__init__()
        self.model = nn.Sequential(
            nn.BatchNorm1d(code_width), nn.Dropout(dropout), nn.Linear(code_width, hidden),
            nn.ReLU(), nn.BatchNorm1d(hidden), nn.Identity(), nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, z):
        hidden = self.model[:6](z)
        return self.model[6](hidden), hidden


def published_cox(theta, time, event):
    """theta (B, 1). Row i of the (B, B) mask: who is still there at the time of i."""
    if not event.any():
        return theta.sum() * 0
    theta = theta[:, 0]
    here = (time[None, :] >= time[:, None]).to(theta.dtype)
    top = theta.max()
    at_risk = torch.log((torch.exp(theta - top)[None] * here).sum(1) + 1e-8) + top
    return ((at_risk - theta) * event).sum() / event.sum()


# --- the loader -----------------------------------------------------------------------------------


class PublishedRecords:
    """Items of the training set, (C, n_samples) and the (C,) mask, each made when asked for.

    An item is cleaned lead by lead, masked (whole leads, windows around R peaks, halves of leads),
    z-scored over its length, and padded in the centre. R peaks are looked for anew every time.
    """

    SETS = (2, 3, 4, 6, 8, 12)
    SHARES = (0.1, 0.1, 0.1, 0.1, 0.1, 0.5)

    def __init__(self, signals: np.ndarray, fs: float, n_samples: int, rng, method="neurokit"):
        self.signals, self.fs, self.n_samples, self.rng = signals, fs, n_samples, rng
        self.method = method

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        signal = self.cleaned(self.signals[i])
        signal, mask = self.masked(signal, self.peaks(signal))
        return padded(scored(signal), self.n_samples), mask

    def cleaned(self, signal: np.ndarray) -> np.ndarray:
        import neurokit2

        return np.stack([
            neurokit2.ecg_clean(lead, sampling_rate=int(self.fs), method="neurokit")
            for lead in signal
        ])  # fmt: skip

    def peaks(self, signal: np.ndarray) -> np.ndarray:
        import neurokit2

        try:
            _, found = neurokit2.ecg_peaks(signal[1], sampling_rate=int(self.fs),
                                           method=self.method)  # fmt: skip
        except (ValueError, IndexError, ZeroDivisionError):  # a flat lead
            return np.zeros(0, int)
        return np.asarray(found["ECG_R_Peaks"], int)

    def masked(self, signal: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        signal, n_leads = signal.copy(), len(signal)
        mask = np.zeros(n_leads, bool)
        if self.rng.random() < 0.5:
            kept = self.rng.choice(self.SETS, p=self.SHARES)
            mask[self.rng.permutation(n_leads)[kept:]] = True
            signal[mask] = 0
        for lead in signal:
            if self.rng.random() < 0.2:
                self.hide_peaks(lead, peaks)
            if self.rng.random() < 0.2:
                half = len(lead) // 2
                lead[slice(half) if self.rng.random() < 0.5 else slice(half, None)] = 0
        return signal, mask

    def hide_peaks(self, lead: np.ndarray, peaks: np.ndarray) -> None:
        for peak in peaks:
            if self.rng.random() < 0.2:
                width = max(80, int(self.rng.integers(80, 181) * self.fs / 1000))
                lead[max(peak - width // 2, 0) : peak + width // 2] = 0


def scored(signal: np.ndarray) -> np.ndarray:
    """(C, T) -> zero mean and unit deviation lead by lead; what cannot be scored is 0."""
    out = np.zeros_like(signal, dtype=np.float64)
    for i, lead in enumerate(signal.astype(np.float64)):
        deviation = lead.std() if (lead != lead[0]).any() else 0.0
        out[i] = np.nan_to_num((lead - lead.mean()) / deviation) if deviation > 0 else 0.0
    return out.astype(np.float32)


def padded(signal: np.ndarray, n_samples: int) -> np.ndarray:
    left = (n_samples - signal.shape[-1]) // 2
    return np.pad(signal, [(0, 0), (left, n_samples - signal.shape[-1] - left)])
