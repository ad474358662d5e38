"""SCP findings of the T wave and of ST-T as a whole: one function per code, with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.

Criteria: Rautaharju et al. 2009 (AHA/ACCF/HRS part IV): T is low below a tenth of R in the same
lead, flat within 0.1 mV of the baseline, inverted from -0.1 to -0.5 mV, deep negative below it.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import regions
from ecgkit.data.synthetic.findings_injury import of_kinds
from ecgkit.data.synthetic.hearts import Hearts, J, T, U
from ecgkit.data.synthetic.regions import PAIRS, draw_pattern, grown
from ecgkit.data.synthetic.shaping import LEAD, spread

# Leads in which a low T means something; in III and aVL health has it as well.
_TOLD_BY = ~np.isin(np.arange(12), [LEAD["III"], LEAD["aVL"], LEAD["aVR"]])
_WHERE_T_FAILS = {
    "diffuse": 0.40,
    "lateral": 0.20,
    "inferior": 0.15,
    "inferolateral": 0.15,
    "anterolateral": 0.10,
}


# --- low, flat, inverted --------------------------------------------------------------------------


def _flatten(h: Hearts, rows, u, region: str, rng, count: int = 2) -> None:
    """T in `count` leads of the region to a tenth of R at u = 0.35, below zero at u = 1."""
    n = len(rows)
    tall = regions.r_heights(regions.placed(h, rows))
    if region == "inferior":  # a heart that lies across has no R there: its T fails elsewhere
        across = tall[:, LEAD["aVF"]] < 0.35
        if across.any():
            _flatten(h, rows[across], u[across], "diffuse", rng, count)
            _flatten(h, rows[~across], u[~across], "inferior", rng, count)
            return
    regions.weaken_t(h, rows, rng.uniform(0.60, 0.97, n))
    regions.weaken_st(h, rows, rng.uniform(0.1, 0.6, n))
    share = (0.083 + 0.28 * (0.35 - u).clip(0) - 0.10 * (u - 0.35).clip(0)) * spread(rng, n, 0.08)
    counted = (tall > 0.35) & _TOLD_BY
    goal = np.minimum(share[:, None] * np.maximum(tall, 0.3), 0.20)
    pairs = PAIRS if count == 2 else ()
    regions.lower_t(h, rows, draw_pattern(region, n, rng), region, -goal, count, counted, pairs)


def t_nondiagnostic(h: Hearts, rows, u, rng):
    """NDT: T low (a tenth of R or less), flat (0.1 mV or less) or barely inverted in two
    neighbouring leads with an upright QRS (Rautaharju 2009); ST level.
    """
    of_kinds(_flatten, h, rows, u, rng, _WHERE_T_FAILS)


def t_nonspecific(h: Hearts, rows, u, rng):
    """NT_: as NDT, T low, flat or barely inverted in two neighbouring leads (Rautaharju 2009;
    Minnesota code 5-3, 5-4).
    """
    of_kinds(_flatten, h, rows, u, rng, _WHERE_T_FAILS)


def t_low(h: Hearts, rows, u, rng):
    """LOWT: T upright but a tenth of R or less, or 0.1 mV or less, in three of I, II, V4-V6
    (Rautaharju 2009; Minnesota code 5-4).
    """

    def draw(h, rows, u, region, rng):
        regions.weaken_t(h, rows, 0.6 - 0.25 * u)
        _flatten(h, rows, 0.25 + 0.45 * u, region, rng, count=3)

    of_kinds(draw, h, rows, u, rng, {"diffuse": 1.0})


def t_inverted(h: Hearts, rows, u, rng):
    """INVT: T inverted by 0.1 mV or more in two neighbouring leads (Rautaharju 2009; Minnesota
    code 5-2), anywhere but V1 alone; ST level.
    """

    def draw(h, rows, u, region, rng):
        n = len(rows)
        regions.weaken_t(h, rows, rng.uniform(0.4, 0.9, n))
        depth = grown(u, 0.10, 0.50, region, rng)
        regions.lower_t(h, rows, draw_pattern(region, n, rng), region, depth, pairs=PAIRS)

    shares = {
        "diffuse": 0.25,
        "lateral": 0.2,
        "anterior": 0.2,
        "anterolateral": 0.15,
        "inferior": 0.2,
    }
    of_kinds(draw, h, rows, u, rng, shares)


def t_abnormal(h: Hearts, rows, u, rng):
    """TAB_: some abnormality of T: flat or low, inverted, or biphasic (its end 0.05 mV or more
    below the baseline) in two neighbouring leads (Rautaharju 2009).
    """

    def draw(h, rows, u, kind, rng):
        kind(h, rows, u, rng)

    of_kinds(draw, h, rows, u, rng, {t_nondiagnostic: 0.45, t_inverted: 0.35, _t_biphasic: 0.2})


def _t_biphasic(h: Hearts, rows, u, rng) -> None:
    """T begins upright (on a late, rounded ST) and ends below the baseline, in V2-V5."""
    n = len(rows)
    loss = draw_pattern("anterior", n, rng)
    h.rise[rows, T] *= 0.7
    regions.level_st(h, rows, rng, slope=-1.0)
    regions.weaken_t(h, rows, 0.5)
    regions.lower_t(h, rows, loss, "anterior", grown(u, 0.05, 0.35, "anterior", rng))
    h.local[rows, J] -= (0.08 + 0.12 * u)[:, None] * loss


# --- QT, drugs, electrolytes ----------------------------------------------------------------------


def long_qt(h: Hearts, rows, u, rng):
    """LNGQT: QTc (Bazett) above 450 ms in men, 460 ms in women (Rautaharju 2009); here 445-475 in
    doubt, 485-570 when certain. T broad, or late behind a long ST, or low and notched by U (the
    three faces of the genetic long QT, Moss et al. 1995).
    """
    n = len(rows)
    h.qtc[rows] = 0.440 + 0.130 * u + 0.010 * rng.random(n)
    face = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    h.rise[rows, T] *= np.where(face == 0, 1.15 + 0.35 * u, 1.0)
    h.fall[rows, T] *= np.where(face == 0, 1.10 + 0.25 * u * rng.random(n), 1.0)
    regions.weaken_t(h, rows, np.where(face == 2, 0.6, 1.0) * rng.uniform(0.65, 1.05, n))
    notched = rows[face == 2]
    h.dipole[notched, U], h.local[notched, U] = (
        0.5 * h.dipole[notched, T],
        0.5 * h.local[notched, T],
    )
    h.rise[notched, U] = h.fall[notched, U] = 0.024
    h.u_gap[notched] = 0.010


def digitalis(h: Hearts, rows, u, rng):
    """DIG: scooped ST, deepest well after J, 0.05 mV or more below in two of the leads with tall R;
    T low; QT short (Surawicz & Knilans: Chou's Electrocardiography).
    """
    n = len(rows)
    loss = draw_pattern("diffuse", n, rng)
    h.qtc[rows] = np.minimum(h.qtc[rows], 0.395 - 0.045 * u)
    regions.weaken_t(h, rows, rng.uniform(0.25, 0.65, n))
    regions.level_st(h, rows, rng, slope=-0.9)
    h.fall[rows, J] *= 0.55
    regions.lower_st(h, rows, loss, "diffuse", grown(u, 0.05, 0.19, "diffuse", rng))


def electrolytes(h: Hearts, rows, u, rng):
    """EL: tall, narrow, symmetric T of hyperkalaemia (V2-V4), or low T, sagging ST and long QT(U)
    of hypokalaemia (Surawicz & Knilans: Chou's Electrocardiography).
    """

    def draw(h, rows, u, kind, rng):
        kind(h, rows, u, rng)

    of_kinds(draw, h, rows, u, rng, {_high_potassium: 0.4, _low_potassium: 0.6})


def _high_potassium(h: Hearts, rows, u, rng) -> None:
    """T of 0.6 mV or more in two of V2-V4, its half-width below 80 ms."""
    n = len(rows)
    loss = draw_pattern("anterior", n, rng)
    width = (0.034 - 0.008 * u) * spread(rng, n, 0.08)
    h.rise[rows, T], h.fall[rows, T] = 1.1 * width, width
    regions.weaken_t(h, rows, 1.1 + 0.5 * u)
    regions.raise_t(h, rows, loss, "anterior", 0.45 + 0.75 * u)


def _low_potassium(h: Hearts, rows, u, rng) -> None:
    """ST 0.05 mV or more down in two of I, II, V4-V6, T flat, U of 0.1 mV or more in V2-V4."""
    n = len(rows)
    h.qtc[rows] += 0.015 * u
    regions.level_st(h, rows, rng, slope=-0.5)
    _flatten(h, rows, u, "diffuse", rng)
    depth = grown(u, 0.05, 0.15, "diffuse", rng)
    regions.lower_st(h, rows, draw_pattern("diffuse", n, rng), "diffuse", depth)
    height = (0.04 + 0.20 * u) * spread(rng, n, 0.15)
    h.local[rows, U] -= height[:, None] * draw_pattern("anterior", n, rng)
    h.rise[rows, U] = h.fall[rows, U] = 0.038
    h.u_gap[rows] = rng.uniform(0.05, 0.08, n)
