"""A hazard that is known: true survival, true risk beside a competing death, and draws from it.

Heart failure: h(t) = exp(base + eta) g(t), with g of a Weibull in years since the ECG or of a
Gompertz on attained age. Death without heart failure has a Gompertz hazard of its own in age and
sex. Both are proportional hazards in t, since exp(slope (age + t)) = exp(slope age) exp(slope t):
with a Gompertz the age term of eta *is* the attained age, and is not counted twice.

Usage:

    known = calibrated(eta, clock, death, death_clock, event_risk=0.08)
    known.risk(5.0), known.net_risk(5.0)             # (n,) with death about, and without
    years, cause = known.draw(rng, censoring)        # cause 0 censored, 1 heart failure, 2 death
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from ecgkit.data.outcomes_factors import Hazards, male

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
CENSORED, FAILURE, DEATH = 0, 1, 2


@dataclass(frozen=True)
class Clock:
    """G(t), the cumulative hazard at unit rate: t^shape (weibull), or (exp(shape t) - 1) / shape
    (gompertz, `shape` per year)."""

    kind: str
    shape: float

    def cumulative(self, years):
        if self.kind == "weibull":
            return np.power(years, self.shape)
        slope = self.shape or 1e-12  # 0: a constant hazard
        return np.expm1(slope * years) / slope

    def years(self, amount):
        """When `cumulative` reaches `amount`; inf where a falling hazard never gets there."""
        if self.kind == "weibull":
            return np.power(amount, 1 / self.shape)
        slope = self.shape or 1e-12
        with np.errstate(divide="ignore", over="ignore"):
            return np.log1p(np.maximum(slope * amount, -1)) / slope


@dataclass(frozen=True)
class KnownHazard:
    """Log rates (n,) of heart failure and of death at time 0; -inf: that never happens."""

    failure: np.ndarray
    death: np.ndarray
    clock: Clock
    death_clock: Clock

    def net_risk(self, years: float) -> np.ndarray:
        """(n,) risk of heart failure by `years` if nobody died of anything else: 1 - exp(-H)."""
        return -np.expm1(-np.exp(self.failure) * self.clock.cumulative(years))

    def event_free(self, years: float) -> np.ndarray:
        """(n,) probability of neither heart failure nor death by `years`."""
        deaths = np.exp(self.death) * self.death_clock.cumulative(years)
        return np.exp(-np.exp(self.failure) * self.clock.cumulative(years) - deaths)

    def risk(self, years: float) -> np.ndarray:
        """(n,) cumulative incidence: heart failure by `years`, before any death.

        The integral of P(alive at t) over the distribution of the failure time, substituted by its
        probability u (Gauss-Legendre; within 1e-5 of a fine trapezium).
        """
        u = self.net_risk(years)[:, None] * (_NODES + 1) / 2  # (n, nodes)
        with np.errstate(over="ignore"):
            when = self.clock.years(-np.log1p(-u) * np.exp(-self.failure)[:, None])
            deaths = np.exp(self.death)[:, None] * self.death_clock.cumulative(when)
        return self.net_risk(years) * (np.exp(-deaths) @ _WEIGHTS) / 2

    def death_risk(self, years: float) -> np.ndarray:
        """(n,) cumulative incidence of death before heart failure."""
        return np.maximum(1 - self.event_free(years) - self.risk(years), 0)

    def draw(
        self, rng: np.random.Generator, administrative=(3.0, 8.0), drop_out: float = 0.02
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n,) years under observation and (n,) what ended them: CENSORED, FAILURE or DEATH.

        Censoring: the study's end, uniform over `administrative` years, or dropping out at the
        rate `drop_out` a year, whichever comes first.
        """
        n = len(self.failure)
        with np.errstate(divide="ignore", over="ignore"):
            failure = self.clock.years(rng.exponential(size=n) / np.exp(self.failure))
            death = self.death_clock.years(rng.exponential(size=n) / np.exp(self.death))
        end, left = rng.uniform(*administrative, size=n), rng.exponential(size=n)
        end = np.minimum(end, left / drop_out) if drop_out else end
        times = np.stack([end, failure, death])
        return times.min(axis=0), times.argmin(axis=0)


def clock_of(hazards: Hazards, baseline: str) -> Clock:
    """The clock of `baseline`: weibull | gompertz on attained age, at the slope `eta` gives age."""
    if baseline == "weibull":
        return Clock("weibull", hazards.weibull_shape)
    return Clock("gompertz", hazards.age_slope)


def death_rate(hazards: Hazards, age: np.ndarray, sex, scale: float = 1.0) -> np.ndarray:
    """(n,) log rate per year at the ECG of dying without heart failure; `scale` 0: nobody dies."""
    with np.errstate(divide="ignore"):
        level = np.log(scale * hazards.death_rate)
    older = hazards.death_slope * (np.asarray(age, float) - 60)
    return level + older + np.log(hazards.death_male) * male(sex)


def calibrated(
    eta: np.ndarray, clock: Clock, death: np.ndarray, death_clock: Clock, event_risk: float
) -> KnownHazard:
    """The base rate at which the mean true 5-year risk (cumulative incidence) is `event_risk`.

    By Brent's bisection; the risk rises from 0 to 1 with the base, so it is always met.
    """

    def known(base: float) -> KnownHazard:
        return KnownHazard(base + eta, death, clock, death_clock)

    middle = float(np.mean(eta))
    low, high = -30.0 - middle, 30.0 - middle
    return known(brentq(lambda b: known(b).risk(5.0).mean() - event_risk, low, high, xtol=1e-10))
