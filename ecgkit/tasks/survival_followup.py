"""Follow-up of patients, checked once: Kaplan-Meier curves of the event and of censoring, and
bootstrap resamples as weights, so that one pass over the patients serves all of them.

Only code 1 is the event. Everything here is cause-specific: a competing event (code 2) ends
follow-up and counts as censored, so a "risk" is what it would be if nobody had died before.

Letters: n patients, B resamples, U distinct times, T times asked for.

Sources: Kaplan and Meier 1958; Uno et al. 2011, Statistics in Medicine 30 (weights).

Usage:

    time, event = follow_up(years, code)                 # or one sentence of what is wrong
    weights = resamples(len(time), n_boot=1000)          # (1 + B, n); row 0 is the sample itself
    times, free = censoring_curve(time, event, weights)  # (U,), (1 + B, U)
    step_at(times, free, [1, 3, 5])                      # (1 + B, 3)
"""

from __future__ import annotations

import numpy as np

from ecgkit.types import DataError

EVENT, CODES = 1, (0, 1, 2)
COMPETING = "cause-specific: a competing event (code 2) counts as censored at its time"


def follow_up(time, event) -> tuple[np.ndarray, np.ndarray]:
    """(n,) years and (n,) codes -> float times and a bool "the event was seen" (code 1).

    Raises DataError for nobody, for lengths that differ, times that are not above 0, and codes
    other than 0 (censored), 1 (event), 2 (competing event).
    """
    time = np.atleast_1d(np.asarray(time, dtype=float))
    event = np.atleast_1d(np.asarray(event, dtype=float))
    if not len(time):
        raise DataError("There are no patients to evaluate; give at least one time and event.")
    if time.ndim != 1 or time.shape != event.shape:
        raise DataError(
            f"Times have shape {time.shape} and events {event.shape}; give one of each per patient."
        )
    wrong = ~(np.isfinite(time) & (time > 0))
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} of {len(time)} follow-up times are not above 0 (first: {time[wrong][0]}"
            f" at row {np.flatnonzero(wrong)[0]}); leave those patients out and count them."
        )
    odd = ~np.isin(event, CODES)
    if odd.any():
        raise DataError(
            f"Event code {event[odd][0]} at row {np.flatnonzero(odd)[0]} is not known; "
            "use 0 censored, 1 event, 2 competing event."
        )
    return time, event == EVENT


def why_not(event: np.ndarray, score=None) -> str:
    """Why no measure can be given: one sentence, '' where it can. `event` (n,) bool."""
    n = len(event)
    if score is not None:
        score = np.asarray(score, dtype=float)
        if len(score) != n:
            return f"{len(score)} scores for {n} patients"
        if not np.isfinite(score).all():
            return f"{(~np.isfinite(score)).sum()} of {n} scores are NaN or infinite"
    if not event.any():
        return f"no event among {n} patients"
    return f"only {n} patient" if n < 2 else ""


def resamples(n: int, n_boot: int, seed: int = 0) -> np.ndarray:
    """(1 + B, n) float32: how often each patient stands in each resample; row 0 is all ones."""
    weights = np.ones((1 + n_boot, n), np.float32)
    if n_boot:
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_boot)
        weights[1:] = draws
    return weights


def interval(draws: np.ndarray) -> tuple[float, float, float]:
    """(1 + B,) -> (value, low, high): row 0, and the 95 % percentile interval of the others.

    Draws without a value (no event among those resampled) are left out.
    """
    rest = draws[1:][np.isfinite(draws[1:])]
    low, high = np.percentile(rest, [2.5, 97.5]) if len(rest) else (np.nan, np.nan)
    return float(draws[0]), float(low), float(high)


# --- curves ---------------------------------------------------------------------------------------


def survival_curve(time, event, weights=None) -> tuple[np.ndarray, np.ndarray]:
    """Kaplan-Meier: (U,) distinct times and (B, U) share still free of the event after each."""
    times, at_risk, events, _ = _counts(time, event, weights)
    return times, np.cumprod(1 - _share(events, at_risk), axis=1)


def censoring_curve(time, event, weights=None) -> tuple[np.ndarray, np.ndarray]:
    """The same for censoring: (U,) and (B, U) share still under observation, P(C > t).

    Events come before censorings of the same time, so whoever has the event there is no longer at
    risk of being censored.
    """
    times, at_risk, events, gone = _counts(time, event, weights)
    return times, np.cumprod(1 - _share(gone, at_risk - events), axis=1)


def step_at(times: np.ndarray, curve: np.ndarray, when, before: bool = False) -> np.ndarray:
    """(B, T) values of a step curve that starts at 1, at `when` (T,); `before`: just before."""
    side = "left" if before else "right"
    start = np.ones((len(curve), 1))
    return np.hstack([start, curve])[:, np.searchsorted(times, np.asarray(when, float), side=side)]


def inverse(share: np.ndarray) -> np.ndarray:
    """1 / share, 0 where the share is 0: nobody there can stand for those who were censored."""
    return np.divide(1.0, share, out=np.zeros_like(share), where=share > 0)


def survival_at(time, event, when, weights=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T,) Kaplan-Meier estimates of one sample with their log(-log) 95 % limits, at `when`.

    NaN beyond the last time under observation (unless nobody is left free of the event); limits are
    NaN where none is defined: before the first event, and at 0.
    """
    times, at_risk, events, _ = _counts(time, event, weights)
    curve = np.cumprod(1 - _share(events, at_risk), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events)), axis=1)
        width = 1.959964 * np.sqrt(greenwood) / np.abs(np.log(curve))
        limits = [curve ** np.exp(sign * width) for sign in (1, -1)]
    inside = (curve > 0) & (curve < 1)
    asked = [curve, *(np.where(inside, limit, np.nan) for limit in limits)]
    asked = [step_at(times, values, when)[0] for values in asked]
    before_any = np.asarray(when, float) < times[events[0] > 0].min(initial=np.inf)
    unseen = (np.asarray(when, float) > times[-1]) & (curve[0, -1] > 0)
    value, low, high = (np.where(unseen, np.nan, values) for values in asked)
    return value, np.where(before_any, np.nan, low), np.where(before_any, np.nan, high)


def _counts(time, event, weights):
    """(U,) times; (B, U) at risk, with the event, and censored at each."""
    weights = np.ones((1, len(time))) if weights is None else weights
    order = np.argsort(time, kind="stable")
    times, first = np.unique(time[order], return_index=True)
    sorted_weights = weights[:, order].astype(float)
    leaving = np.add.reduceat(sorted_weights, first, axis=1)
    events = np.add.reduceat(sorted_weights * event[order], first, axis=1)
    at_risk = leaving.sum(1, keepdims=True) - np.cumsum(leaving, axis=1) + leaving
    return times, at_risk, events, leaving - events


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return np.clip(share, 0, 1)
