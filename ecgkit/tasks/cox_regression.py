"""Cox regression by Newton's method in numpy: coefficients, standard errors, many fits in a second.

The information matrix needs no (n, F, F) array: summed over events it is X' diag(r a) X minus the
squared risk-set means, with a the events' 1 / denominator each patient was at risk for.

Letters: n patients, E events, F covariates.

Source: Efron 1977, JASA 72 (ties); Therneau and Grambsch 2000, chapter 3.

Usage:

    fit = cox_newton(x, years, event)
    fit.beta, fit.se, fit.covers(true_beta)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgkit.tasks.survival_followup import follow_up
from ecgkit.types import DataError

Z95 = 1.959964
LEAST_SD = 1e-9  # a covariate that varies less is constant: coefficient 0, standard error NaN
MOST_SE = 50.0  # per standard deviation; more is no estimate: the coefficient runs to infinity


@dataclass(frozen=True)
class CoxFit:
    """`beta`, `se` (F,) per unit of each covariate; `converged` False: separated or too few events
    (some coefficient runs to infinity); `log_likelihood` partial, at `beta`."""

    beta: np.ndarray
    se: np.ndarray
    log_likelihood: float
    n_steps: int
    converged: bool

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        return self.beta - Z95 * self.se, self.beta + Z95 * self.se

    def covers(self, beta) -> np.ndarray:
        """(F,) True where the 95 % interval holds the given value."""
        low, high = self.limits
        return (low <= beta) & (beta <= high)


def cox_newton(
    covariates, time, event, ridge: float = 0.0, ties: str = "efron", max_steps: int = 30,
    tolerance: float = 1e-8,
) -> CoxFit:
    """(n, F) covariates -> the maximum of the partial likelihood (`ties`: efron | breslow).

    `ridge` weighs the squared coefficients of standardised covariates against the mean log
    likelihood per event; standard errors are those of the penalised information. Raises DataError
    for shapes that do not match, covariates that are not finite, and as `follow_up` does. Without
    any event every coefficient is 0 and its standard error NaN.
    """
    time, seen = follow_up(time, event)
    x = np.asarray(covariates, dtype=float)
    _check(x, len(time), ties)
    sd = x.std(0)
    known = sd > LEAST_SD
    parts = _RiskSets((x[:, known] - x[:, known].mean(0)) / sd[known], time, seen, ties)
    penalty = ridge * seen.sum()
    beta = np.zeros(int(known.sum()))
    now = parts.at(beta, penalty)
    step = 0
    moved = np.inf if seen.any() and len(beta) else 0.0
    while moved > tolerance and step < max_steps:
        full = np.linalg.lstsq(now[2], now[1], rcond=None)[0]
        beta, now, gained = _halving(parts, beta, now, full, penalty)
        moved = min(float(now[1] @ np.linalg.lstsq(now[2], now[1], rcond=None)[0]), gained)
        step += 1
    return _unscaled(beta, now, sd, known, step, moved <= tolerance and bool(seen.any()))


def _halving(parts, beta, now, full, penalty):
    """The largest of full, half, quarter ... steps that does not lower the likelihood."""
    for k in range(12):
        new = beta + full / 2**k
        there = parts.at(new, penalty)
        if np.isfinite(there[0]) and there[0] >= now[0]:
            return new, there, there[0] - now[0]
    return beta, now, 0.0


def _unscaled(beta, now, sd, known, step, converged) -> CoxFit:
    variance = np.diag(np.linalg.pinv(now[2])) if len(beta) else np.zeros(0)
    whole, se = np.zeros(len(sd)), np.full(len(sd), np.nan)
    whole[known] = beta / sd[known]
    se[known] = np.sqrt(np.where(variance > 0, variance, np.nan)) / sd[known]
    separated = np.nanmax(se * sd, initial=0.0) > MOST_SE
    return CoxFit(whole, se, float(now[0]), step, converged and not separated)


class _RiskSets:
    """Log likelihood, gradient and information at any beta; patients in order of falling time."""

    def __init__(self, x, time, event, ties):
        order = np.argsort(-time, kind="stable")
        self.x, self.event, time = x[order], event[order], time[order]
        first = np.append(True, time[1:] != time[:-1])
        self.group = np.cumsum(first) - 1  # (n,)
        self.last = np.append(np.flatnonzero(first)[1:], len(time)) - 1  # (groups,)
        self.rows = np.flatnonzero(self.event)  # (E,)
        self.of = self.group[self.rows]
        self.share = np.zeros(len(self.rows))
        if ties == "efron" and len(self.rows):
            count = np.bincount(self.of, minlength=len(self.last))
            start = np.cumsum(count) - count
            self.share = (np.arange(len(self.rows)) - start[self.of]) / count[self.of]

    def at(self, beta, penalty: float):
        eta = self.x @ beta
        top = eta.max()
        r = np.exp(eta - top)
        rx = r[:, None] * self.x
        n_groups, tied = len(self.last), self.share.any()
        whole, moments = np.cumsum(r)[self.last], np.cumsum(rx, axis=0)[self.last]
        denominator, mean = whole[self.of], moments[self.of]
        if tied:
            own, own_x = np.zeros(n_groups), np.zeros((n_groups, self.x.shape[1]))
            np.add.at(own, self.of, r[self.rows])
            np.add.at(own_x, self.of, rx[self.rows])
            denominator = denominator - self.share * own[self.of]
            mean = mean - self.share[:, None] * own_x[self.of]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            mean = mean / denominator[:, None]
            likelihood = (eta[self.rows] - top - np.log(denominator)).sum()
            one = np.bincount(self.of, 1 / denominator, n_groups)
            part = np.bincount(self.of, self.share / denominator, n_groups)
            a = np.cumsum(one[::-1])[::-1][self.group] - self.event * part[self.group]
            information = self.x.T @ (rx * a[:, None]) - mean.T @ mean
        gradient = (self.x[self.rows] - mean).sum(0) - 2 * penalty * beta
        information = information + 2 * penalty * np.eye(len(beta))
        value = likelihood - penalty * beta @ beta
        if not (np.isfinite(information).all() and np.isfinite(gradient).all()):
            value = -np.inf
        return value, gradient, information


def _check(x: np.ndarray, n: int, ties: str) -> None:
    if x.ndim != 2 or len(x) != n:
        raise DataError(f"Covariates have shape {x.shape}; give one row for each of {n} patients.")
    if not np.isfinite(x).all():
        raise DataError(
            f"{int((~np.isfinite(x)).any(1).sum())} patients have a covariate that is not a number;"
            " impute it first (risk_covariates.impute)."
        )
    if ties not in ("efron", "breslow"):
        raise DataError(f"ties is {ties!r}; choose efron or breslow.")
