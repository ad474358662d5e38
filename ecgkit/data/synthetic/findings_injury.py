"""SCP findings of the ST segment by region: ischaemia, subendocardial injury, ST up or down without
a name, aneurysm: one function per code, each with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.

Criteria: Rautaharju et al. 2009 (AHA/ACCF/HRS part IV), Wagner et al. 2009 (part VI), Fourth
Universal Definition of Myocardial Infarction 2018, table 2. ST is read at J + 60 ms.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import regions
from ecgkit.data.synthetic.hearts import Hearts, T
from ecgkit.data.synthetic.regions import draw_pattern, grown
from ecgkit.data.synthetic.scars import front_scar
from ecgkit.data.synthetic.shaping import qrs_beat


def of_kinds(draw, h: Hearts, rows, u, rng, shares: dict) -> None:
    """Deals `rows` out to the kinds of `shares` (kind -> chance) and draws each."""
    kinds = list(shares)
    dealt = rng.choice(len(kinds), len(rows), p=list(shares.values()))
    for i, kind in enumerate(kinds):
        at = np.flatnonzero(dealt == i)
        if len(at):
            draw(h, rows[at], u[at], kind, rng)


# --- ischaemia ------------------------------------------------------------------------------------


def _ischaemia(h: Hearts, rows, u, region: str, rng) -> None:
    """ST depression of 0.05 mV or more, level or falling, and/or T inversion above 0.1 mV, in two
    leads of the region.
    """
    loss = draw_pattern(region, len(rows), rng)
    pick = rng.random(len(rows))
    for draw, at in (
        (_t_of_ischaemia, pick < 0.40),
        (_st_of_ischaemia, (pick >= 0.40) & (pick < 0.65)),
        (_strain_like, pick >= 0.65),
    ):
        if at.any():
            draw(h, rows[at], u[at], loss[at], region, rng)


def _depth_of_t(u, region, rng) -> np.ndarray:
    return grown(u, 0.10, 0.45, region, rng)


def _depth_of_st(u, region, rng) -> np.ndarray:
    return grown(u, 0.05, 0.20, region, rng)


def _t_of_ischaemia(h: Hearts, rows, u, loss, region, rng) -> None:
    """T symmetrically inverted, ST level."""
    n = len(rows)
    regions.weaken_t(h, rows, rng.uniform(0.4, 0.9, n))
    h.rise[rows, T] *= rng.uniform(0.72, 0.95, n)
    h.fall[rows, T] *= rng.uniform(1.0, 1.15, n)
    regions.lower_t(h, rows, loss, region, _depth_of_t(u, region, rng))


def _st_of_ischaemia(h: Hearts, rows, u, loss, region, rng) -> None:
    """ST down and level or falling; T low, its end upright."""
    n = len(rows)
    regions.level_st(h, rows, rng, slope=rng.uniform(-0.6, 0.1, n))
    regions.weaken_t(h, rows, rng.uniform(0.35, 0.8, n))
    regions.lower_st(h, rows, loss, region, _depth_of_st(u, region, rng))


def _strain_like(h: Hearts, rows, u, loss, region, rng) -> None:
    """Both: ST falls into an inverted T."""
    n = len(rows)
    regions.level_st(h, rows, rng, slope=-rng.uniform(0.3, 1.0, n))
    regions.weaken_t(h, rows, rng.uniform(0.3, 0.7, n))
    regions.lower_st(h, rows, loss, region, _depth_of_st(u, region, rng))
    regions.lower_t(h, rows, loss, region, rng.uniform(0.6, 1.0, n) * _depth_of_t(u, region, rng))


def ischaemia(h: Hearts, rows, u, rng):
    """ISC_: level or falling ST depression >= 0.05 mV and/or T inversion > 0.1 mV in two
    neighbouring leads (Universal Definition 2018), most often in I, II, V4-V6.
    """
    shares = {"diffuse": 0.6, "lateral": 0.2, "inferolateral": 0.2}
    of_kinds(_ischaemia, h, rows, u, rng, shares)


def ischaemia_anterolateral(h: Hearts, rows, u, rng):
    """ISCAL: ST <= -0.05 mV and/or T < -0.1 mV in two of I, aVL, V3-V6."""
    _ischaemia(h, rows, u, "anterolateral", rng)


def ischaemia_inferior(h: Hearts, rows, u, rng):
    """ISCIN: ST <= -0.05 mV and/or T < -0.1 mV in two of II, III, aVF."""
    _ischaemia(h, rows, u, "inferior", rng)


def ischaemia_inferolateral(h: Hearts, rows, u, rng):
    """ISCIL: ST <= -0.05 mV and/or T < -0.1 mV in two of II, III, aVF, V5, V6."""
    _ischaemia(h, rows, u, "inferolateral", rng)


def ischaemia_anteroseptal(h: Hearts, rows, u, rng):
    """ISCAS: ST <= -0.05 mV and/or T < -0.1 mV in two of V1-V3 beyond what V1 has in health."""
    _ischaemia(h, rows, u, "anteroseptal", rng)


def ischaemia_lateral(h: Hearts, rows, u, rng):
    """ISCLA: ST <= -0.05 mV and/or T < -0.1 mV in two of I, aVL, V5, V6."""
    _ischaemia(h, rows, u, "lateral", rng)


def ischaemia_anterior(h: Hearts, rows, u, rng):
    """ISCAN: ST <= -0.05 mV and/or T < -0.1 mV in two of V2-V4."""
    _ischaemia(h, rows, u, "anterior", rng)


# --- subendocardial injury ------------------------------------------------------------------------


def _injury(h: Hearts, rows, u, region: str, rng) -> None:
    """ST depression of 0.1 mV or more in two leads of the region, level or falling."""
    n = len(rows)
    loss = draw_pattern(region, n, rng)
    regions.level_st(h, rows, rng, slope=rng.uniform(-0.9, 0.1, n))
    regions.weaken_t(h, rows, rng.uniform(0.2, 0.8, n))
    regions.lower_st(h, rows, loss, region, grown(u, 0.10, 0.32, region, rng))
    h.local[rows, T] += (rng.random(n) * 0.25 * u)[:, None] * loss


def injury_anteroseptal(h: Hearts, rows, u, rng):
    """INJAS: ST <= -0.1 mV in two of V1-V3 (Wagner 2009)."""
    _injury(h, rows, u, "anteroseptal", rng)


def injury_anterolateral(h: Hearts, rows, u, rng):
    """INJAL: ST <= -0.1 mV in two of I, aVL, V3-V6 (Wagner 2009)."""
    _injury(h, rows, u, "anterolateral", rng)


def injury_inferior(h: Hearts, rows, u, rng):
    """INJIN: ST <= -0.1 mV in two of II, III, aVF (Wagner 2009)."""
    _injury(h, rows, u, "inferior", rng)


def injury_lateral(h: Hearts, rows, u, rng):
    """INJLA: ST <= -0.1 mV in two of I, aVL, V5, V6 (Wagner 2009)."""
    _injury(h, rows, u, "lateral", rng)


def injury_inferolateral(h: Hearts, rows, u, rng):
    """INJIL: ST <= -0.1 mV in two of II, III, aVF, V5, V6 (Wagner 2009)."""
    _injury(h, rows, u, "inferolateral", rng)


# --- ST without a name ----------------------------------------------------------------------------


def _st_down(h: Hearts, rows, depth, low_t, region: str, rng) -> None:
    """ST `depth` (n,) below in two leads, any slope; T `low_t` (n,) of what it was."""
    loss = draw_pattern(region, len(rows), rng)
    regions.level_st(h, rows, rng, slope=rng.uniform(-0.7, 0.7, len(rows)))
    regions.weaken_t(h, rows, low_t)
    regions.lower_st(h, rows, loss, region, depth)


_WHERE_ST_SAGS = {"diffuse": 0.45, "lateral": 0.2, "inferolateral": 0.2, "inferior": 0.15}


def st_depression(h: Hearts, rows, u, rng):
    """STD_: ST depression >= 0.05 mV in two neighbouring leads, T upright, low or flat
    (Rautaharju 2009; Minnesota code 4-1, 4-2).
    """

    def draw(h, rows, u, region, rng):
        n = len(rows)
        _st_down(h, rows, grown(u, 0.05, 0.17, region, rng), rng.uniform(0.45, 1.0, n), region, rng)

    of_kinds(draw, h, rows, u, rng, _WHERE_ST_SAGS)


def st_nonspecific(h: Hearts, rows, u, rng):
    """NST_: ST 0.03-0.1 mV below in two neighbouring leads, T low (Minnesota code 4-2, 4-3)."""

    def draw(h, rows, u, region, rng):
        n = len(rows)
        _st_down(
            h, rows, grown(u, 0.03, 0.09, region, rng), rng.uniform(0.35, 0.85, n), region, rng
        )

    of_kinds(draw, h, rows, u, rng, _WHERE_ST_SAGS)


def st_elevation(h: Hearts, rows, u, rng):
    """STE_: ST elevation >= 0.1 mV in two neighbouring leads (V2-V3: >= 0.25 mV; Universal
    Definition 2018), rising into an upright T as in early repolarisation or pericarditis.
    """

    def draw(h, rows, u, region, rng):
        n = len(rows)
        loss = draw_pattern(region, n, rng)
        loss[:, :2] *= (
            rng.choice([1.0, -1.0], n, p=[0.6, 0.4])[:, None] if region == "anterior" else 1
        )
        regions.level_st(h, rows, rng, slope=rng.uniform(-0.3, 0.2, n))
        criterion, most = (0.25, 0.42) if region == "anterior" else (0.10, 0.25)
        regions.raise_st(h, rows, loss, region, grown(u, criterion, most, region, rng))

    shares = {"anterior": 0.5, "inferior": 0.2, "anterolateral": 0.1, "inferolateral": 0.2}
    of_kinds(draw, h, rows, u, rng, shares)


_T_OF_ANEURYSM = 0.30  # of the QRS in the same lead, at the most


def aneurysm(h: Hearts, rows, u, rng):
    """ANEUR: QS or Q > 20 ms with ST >= 0.1 mV up in two of V2-V4, coved, T low or shallow
    inverted, weeks after the infarct (Smith et al. 2005: T/QRS below 0.36).
    """
    n = len(rows)
    loss = draw_pattern("anterior", n, rng)
    front_scar(h, rows, np.maximum(u, 0.5), loss, rng, most_poor=0.0)
    regions.level_st(h, rows, rng, slope=-0.2)
    regions.weaken_t(h, rows, rng.uniform(0.2, 0.6, n))
    h.local[rows, T] += (0.15 * u * rng.random(n))[:, None] * loss
    regions.raise_st(h, rows, loss, "anterior", grown(u, 0.10, 0.35, "anterior", rng))
    beat = qrs_beat(h, rows)
    highest = _T_OF_ANEURYSM * (beat.max(axis=2) - beat.min(axis=2))
    regions.lower_t(h, rows, loss, "anterior", -highest, count=3)
