"""What the risk network looked at, and whether it matters: attention of many patients, group
differences with their uncertainty, a deletion check, the code on a plane, reconstruction per lead.

Attention says where a network reads, not what its answer rests on; `deletion_check` asks the
second. Shape letters: n patients, C leads, T samples, N time tokens per lead, Z code width.

Usage:

    seen = attention_of(network, x)                       # .lead (n, C, C), .time (n, C, N)
    group_difference(seen.lead, event).note               # events against the others
    check = deletion_check(network, x); print(check.table, check.words)
    xy, shares = latent_map(encode(network.autoencoder, x))
    reconstruction_quality(x, rebuilt)                    # one row per patient and lead
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from ecgkit.tasks.risk import predict_risk
from ecgkit.types import LEADS, DataError, ModelError


@dataclasses.dataclass(frozen=True)
class Attention:
    """Head-averaged weights: `lead` (n, C, C), row asks, column is read; `time` (n, C, N), how much
    each token of a lead is read by that lead's tokens, mean over these. Rows sum to 1; a branch the
    network lacks is None."""

    lead: np.ndarray | None
    time: np.ndarray | None

    def lead_read(self) -> np.ndarray:
        """(n, C) how much each lead is read, mean over the leads that ask."""
        return _there(self.lead, "lead").mean(1)

    def time_read(self) -> np.ndarray:
        """(n, C, N), as `time`. Raises ModelError for a network without attention over time."""
        return _there(self.time, "time")


def _there(weights: np.ndarray | None, which: str) -> np.ndarray:
    if weights is None:
        raise ModelError(
            f"This network has no attention over {which}; train one with {which.upper()}_ATTENTION "
            "= True, or leave this look out."
        )
    return weights


@torch.no_grad()
def attention_of(model, x: torch.Tensor, chunk: int = 256, with_codes: bool = False):
    """x (n, C, T) -> `Attention` of n patients; the (N, N) maps never exist for all at once.

    `with_codes`: (attention, codes (n, Z) on the model's device) from the same pass.
    """
    model.eval()
    device = next(model.parameters()).device
    lead, time, codes = [], [], []
    for part in x.split(chunk):
        out = model.autoencoder.encode(part.to(device), return_attention=True)
        codes.append(out["z"])
        if out.get("lead_attention") is not None:
            lead.append(out["lead_attention"].cpu().numpy())
        if out.get("time_attention") is not None:
            time.append(out["time_attention"].mean(-2).cpu().numpy())  # (B, C, N, N) -> (B, C, N)
    seen = Attention(*(np.concatenate(parts) if parts else None for parts in (lead, time)))
    return (seen, torch.cat(codes)) if with_codes else seen


# --- groups ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class GroupDifference:
    """Mean of one group minus mean of the other, cell by cell, all of the cells' own shape.

    `low`, `high`: 95 % bootstrap interval over patients, each cell by itself; `apart`: it leaves
    out 0; `held`: still there when 5 % false discoveries are allowed (Benjamini and Hochberg 1995,
    p from the difference over its bootstrap deviation).
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    apart: np.ndarray
    held: np.ndarray
    n: tuple[int, int]

    @property
    def note(self) -> str:
        """How many cells stand out, and how many would by chance."""
        cells = self.mean.size
        return (
            f"{self.n[0]} against {self.n[1]} patients; the 95 % interval of {self.apart.sum()} of "
            f"{cells} cells leaves out 0 (about {0.05 * cells:.0f} would by chance); "
            f"{self.held.sum()} remain at a false discovery rate of 5 %"
        )


def group_difference(
    values: np.ndarray, group: np.ndarray, n_boot: int = 1000, seed: int = 0
) -> GroupDifference:
    """values (n, ...), group (n,) true or false -> mean of the true minus mean of the false.

    Patients are drawn anew within each group. Raises DataError when a group has less than two.
    """
    values, group = np.asarray(values, dtype=float), np.asarray(group).astype(bool)
    if len(values) != len(group):
        raise DataError(f"{len(values)} patients and {len(group)} groups; give one for each.")
    n = int(group.sum()), int((~group).sum())
    if min(n) < 2:
        raise DataError(
            f"The groups have {n[0]} and {n[1]} patients; a difference with an interval needs two "
            "in each. Take more patients."
        )
    rng, flat = np.random.default_rng(seed), values.reshape(len(values), -1)
    draws = _boot_means(flat[group], n_boot, rng) - _boot_means(flat[~group], n_boot, rng)
    mean = flat[group].mean(0) - flat[~group].mean(0)
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    p = _two_sided(mean, draws.std(0, ddof=1))
    cells = (mean, low, high, p, (low > 0) | (high < 0), false_discovery(p))
    return GroupDifference(*(c.reshape(values.shape[1:]) for c in cells), n)


def false_discovery(p: np.ndarray, rate: float = 0.05) -> np.ndarray:
    """(m,) p-values -> (m,) bool, those that pass at this rate (Benjamini and Hochberg 1995)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    under = p[order] <= rate * np.arange(1, len(p) + 1) / max(len(p), 1)
    passed = np.zeros(len(p), bool)
    if under.any():
        passed[order[: np.flatnonzero(under)[-1] + 1]] = True
    return passed


def _two_sided(value: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    from scipy.stats import norm

    z = np.abs(value) / np.where(deviation > 0, deviation, np.inf)
    return 2 * norm.sf(z)


def _boot_means(values: np.ndarray, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """(n, M) -> (n_boot, M) means over resampled rows, as one product with the draws' counts."""
    n = len(values)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=n_boot)  # how often each row was drawn
    return counts @ values / n


# --- deletion -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Deletion:
    """Size of the change in log risk per patient (`change`, one column per rule; random: mean of
    its draws) and what that says (`table`, one row per rule: mean change with its 95 % interval,
    and how much it exceeds random silencing, paired over patients)."""

    table: pd.DataFrame
    change: pd.DataFrame
    by: str
    share: float
    n_random: int
    spread: float  # standard deviation of log risk over the patients, for scale

    @property
    def words(self) -> str:
        """One sentence that claims no more than the interval allows."""
        row = self.table.set_index("silenced").loc["most attended"]
        gap = f"{row['gap']:+.3f} [{row['gap_low']:+.3f}, {row['gap_high']:+.3f}]"
        if row["gap_low"] > 0:
            verdict = "what is read most moves the risk more than a random part does"
        elif row["gap_high"] < 0:
            verdict = "what is read most moves it less than a random part: attention misleads"
        else:
            verdict = "attention does not tell what the risk rests on"
        return f"Most attended minus random: {gap} in log risk; here {verdict}."


def deletion_check(
    model, x: torch.Tensor, share: float = 0.1, n_random: int = 10, by: str = "time",
    n_boot: int = 1000, seed: int = 0,
) -> Deletion:
    """Silences `share` of the tokens of x (n, C, T) and asks how far log risk moves.

    Silenced: the most attended tokens, the least attended, those of the largest signal, and
    `n_random` random draws of as many. by: time (tokens of lead x time, by the attention within
    each lead) | lead (whole leads, by the attention they get). A silent token is 0, its lead's
    mean. The largest signal is there since a network may do no more than read where the ECG is.
    Raises DataError for a share outside (0, 1), ModelError without that attention.
    """
    if not 0 < share < 1 or n_random < 1:
        raise DataError(
            f"share is {share} and n_random {n_random}; silence between 0 and 1 of the ECG, and "
            "draw at least once."
        )
    attention, (rng, draw) = attention_of(model, x), np.random.default_rng(seed).spawn(2)
    scores = _token_scores(attention, x, by)
    size = scores["largest signal"]
    base = predict_risk(model, x)

    def moved(score: np.ndarray) -> np.ndarray:
        score = np.where(size > 0, score, -np.inf)  # what is silent already cannot be silenced
        return np.abs(predict_risk(model, silence(x, _top(score, share))) - base)

    change = {name: moved(score) for name, score in scores.items()}
    change["random"] = np.mean([moved(draw.random(size.shape)) for _ in range(n_random)], axis=0)
    frame = pd.DataFrame(change)
    table = _deletion_table(frame, n_boot, rng)
    return Deletion(table, frame, by, share, n_random, float(base.std()))


def silence(x: torch.Tensor, tokens: np.ndarray) -> torch.Tensor:
    """x (n, C, T) with the chosen tokens (n, C, N) at 0; N = 1 silences whole leads."""
    keep = torch.from_numpy(~tokens).to(x.dtype)
    return x * keep.repeat_interleave(x.shape[-1] // tokens.shape[-1], dim=-1)


def _token_scores(attention: Attention, x: torch.Tensor, by: str) -> dict[str, np.ndarray]:
    """(n, C, N) by rule; a token's signal is its energy in x."""
    if by not in ("time", "lead"):
        raise DataError(f"by is {by!r}; choose time or lead.")
    read = attention.time_read() if by == "time" else attention.lead_read()[..., None]
    blocks = x.reshape(*read.shape, -1)  # (n, C, T) -> (n, C, N, T / N)
    energy = blocks.square().mean(-1).cpu().numpy()
    return {"most attended": read, "least attended": -read, "largest signal": energy}


def _top(score: np.ndarray, share: float) -> np.ndarray:
    """(n, C, N) -> bool, the `share` (at least one) of each patient's tokens that score highest."""
    flat = score.reshape(len(score), -1)
    k = max(1, round(share * flat.shape[1]))
    best = np.argpartition(-flat, k - 1, axis=1)[:, :k]
    chosen = np.zeros(flat.shape, bool)
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen.reshape(score.shape)


def _deletion_table(change: pd.DataFrame, n_boot: int, rng: np.random.Generator) -> pd.DataFrame:
    """One bootstrap of patients for all rules, so that differences are paired."""
    draws = pd.DataFrame(_boot_means(change.to_numpy(), n_boot, rng), columns=change.columns)
    rows = []
    for name in change:
        gap = draws[name] - draws["random"]
        low, high = np.percentile(draws[name], (2.5, 97.5))
        gap_low, gap_high = np.percentile(gap, (2.5, 97.5))
        rows.append({
            "silenced": name, "change": change[name].mean(), "low": low, "high": high,
            "gap": change[name].mean() - change["random"].mean(), "gap_low": gap_low,
            "gap_high": gap_high,
        })  # fmt: skip
    return pd.DataFrame(rows)


# --- codes and reconstructions --------------------------------------------------------------------


def latent_map(
    z: np.ndarray, method: str = "pca", seed: int = 0
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Codes (n, Z) -> ((n, 2) plane, share of variance on each axis, or None for tsne).

    pca: directions of largest variance, the larger side of each up; tsne: neighbours stay close,
    distances and axes mean nothing. Raises DataError for fewer than three codes.
    """
    z = np.asarray(z, dtype=float)
    if len(z) < 3:
        raise DataError(f"{len(z)} codes make no map; give at least three patients.")
    if method == "tsne":
        from sklearn.manifold import TSNE

        near = min(30.0, (len(z) - 1) / 3)
        return TSNE(2, perplexity=near, init="pca", random_state=seed).fit_transform(z), None
    if method != "pca":
        raise DataError(f"method is {method!r}; choose pca or tsne.")
    centred = z - z.mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(vt[[0, 1], np.abs(vt[:2]).argmax(1)])
    share = s**2 / max(float((s**2).sum()), 1e-12)
    return u[:, :2] * s[:2] * sign, (float(share[0]), float(share[1]))


def reconstruction_quality(
    original: np.ndarray, rebuilt: np.ndarray, leads: Sequence[str] = LEADS
) -> pd.DataFrame:
    """(n, C, T) z-scored -> one row per patient and lead: patient, lead, mse, correlation.

    mse 1 is no better than the lead's mean; a flat lead has no correlation (NaN).
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (original, rebuilt))
    mse = ((a - b) ** 2).mean(-1)
    da, db = (v - v.mean(-1, keepdims=True) for v in (a, b))
    size = np.sqrt((da**2).sum(-1) * (db**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(size > 0, (da * db).sum(-1) / size, np.nan)
    n = len(a)
    return pd.DataFrame({
        "patient": np.repeat(np.arange(n), len(leads)), "lead": list(leads) * n,
        "mse": mse.ravel(), "correlation": correlation.ravel(),
    })  # fmt: skip
