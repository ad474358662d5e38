"""Conduction and size: each code's textbook criterion, measured on noise-free rendered beats."""

import numpy as np
import pytest

from ecgkit.data.synthetic import anatomy, findings, truth_beats
from ecgkit.data.synthetic.hearts import P_WAVES, QRS_WAVES, one_beat
from ecgkit.data.synthetic.render import twelve_leads
from ecgkit.types import LEADS

N = 100
FS, BEFORE = 500, 0.2
CHEST, LIMB = LEADS[6:], LEADS[:6]
INFERIOR, LATERAL = ("II", "III", "aVF"), ("I", "aVL", "V5", "V6")


def draw(codes, n=N, seed=0, least=0.35):
    """n hearts that have `codes` for certain, adults of all ages."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((n, anatomy.N_LATENTS))
    hearts = anatomy.normal_hearts(latents, rng.uniform(20, 88, n), rng.integers(0, 2, n), rng)
    has = {code: np.ones(n, bool) for code in codes}
    severity = {code: rng.uniform(least, 1.0, n) for code in codes}
    findings.apply_findings(hearts, has, severity, rng)
    return hearts


class Beat:
    """What can be measured on the beats of n hearts; amplitudes in mV, times in ms, all (n,)."""

    def __init__(self, hearts):
        marks, self.sizes = truth_beats.measure(hearts)
        self.pr = 1000 * (marks["qrs_on"] - marks["p_on"]).to_numpy()
        self.p = 1000 * (marks["p_off"] - marks["p_on"]).to_numpy()
        self.qrs = 1000 * (marks["qrs_off"] - marks["qrs_on"]).to_numpy()
        self.onset = marks["qrs_on"].to_numpy()
        self.lead = dict(zip(LEADS, np.moveaxis(self._drawn(hearts, QRS_WAVES), 1, 0)))
        self.p_wave = dict(zip(LEADS, np.moveaxis(self._drawn(hearts, P_WAVES, 0.5), 1, 0)))
        self.time = np.arange(self.lead["I"].shape[1]) / FS - BEFORE

    @staticmethod
    def _drawn(hearts, waves, before=BEFORE):
        return twelve_leads(one_beat(hearts, FS, waves, before, 0.3))

    def __getattr__(self, name):
        """`r_V1`, `s_V6`, `q_aVL`, `r2_V1`, `t_II`, `st_V5` ... as truth_beats measures them."""
        return self.sizes[name].to_numpy()

    def all(self, pattern, leads):
        return np.stack([getattr(self, pattern + lead) for lead in leads])

    def axis(self, first_ms=None):
        """Degrees, from R minus S in I and aVF, of the first so many ms of the QRS if given."""
        seen = (
            self.time < 9 if first_ms is None else self.time < self.onset[:, None] + first_ms / 1e3
        )
        one, avf = (np.where(seen, self.lead[name], 0) for name in ("I", "aVF"))
        one, avf = (x.max(axis=1) + x.min(axis=1) for x in (one, avf))
        return np.rad2deg(np.arctan2(avf * 2 / np.sqrt(3), one))

    def late_r(self, lead):
        """R' (n,) mV: the tallest after the first 50 ms of the QRS, where a rise leads up to it."""
        late = self.time > self.onset[:, None] + 0.050
        peak = np.where(late, self.lead[lead], -9).argmax(axis=1)
        before = (~late | (self.time < self.time[peak][:, None])) & (
            self.time > self.onset[:, None] + 0.03
        )
        valley = np.where(before, self.lead[lead], 9).min(axis=1)
        top = self.lead[lead][np.arange(len(peak)), peak]
        return np.where(top > np.maximum(valley + 0.03, 0.0), top, 0)

    def s_ms(self, lead):
        """How long the lead is below -0.03 mV behind its R."""
        wave = self.lead[lead]
        behind = np.arange(wave.shape[1]) > wave.argmax(axis=1)[:, None]
        return ((wave < -0.03) & behind).sum(axis=1) * 1000 / FS

    def r_ms(self, lead):
        return (self.lead[lead] > 0.03).sum(axis=1) * 1000 / FS

    def peak_ms(self, lead):
        """R peak time: from QRS onset to the last point within a tenth of R's height."""
        wave = self.lead[lead]
        high = wave >= 0.9 * wave.max(axis=1, keepdims=True)
        last = wave.shape[1] - 1 - high[:, ::-1].argmax(axis=1)
        return 1000 * (self.time[last] - self.onset)


def lbbb_shape(b):
    """No q in I, V6; R peaks late in V5 or V6, no S in V6 to speak of; V1 negative."""
    no_q = (b.q_I < 0.03) & (b.q_V6 < 0.03)
    late = np.maximum(b.peak_ms("V5"), b.peak_ms("V6")) > 58
    return no_q & late & (b.s_V1 > 2 * b.r_V1) & (b.s_V6 < b.r_V6 / 5)


def rbbb_shape(b):
    tall = b.late_r("V1") > 0.1
    wide = [(b.s_ms(x) >= 40) | (b.s_ms(x) > b.r_ms(x)) for x in ("I", "V6")]
    return tall & wide[0] & wide[1]


def voltage_of_lvh(b):
    sokolow = b.s_V1 + np.maximum(b.r_V5, b.r_V6)
    return (sokolow > 3.5) | (b.r_aVL + b.s_V3 > 2.8) | (b.r_aVL > 1.1)


def septal(b):
    deep = (b.all("q_", (*LATERAL, *INFERIOR)) > 0.3) & (b.all("qd_", (*LATERAL, *INFERIOR)) < 40)
    return (deep.sum(axis=0) >= 2) & (np.maximum(b.r_V1, b.r_V2) > 0.4)


def left_atrial(b):
    wave = b.p_wave["V1"]
    terminal = (np.where(wave < -0.01, -wave, 0)).sum(axis=1) / FS  # mV s
    return (b.p >= 120) | (terminal > 0.004)


def no_r(b):
    """Q or QS in III and aVF."""
    return np.where(b.all("r_", INFERIOR[1:]) > 0, b.all("q_", INFERIOR[1:]), 1).max(axis=0) > 0.1


def delta(b):
    """At least 20 ms of QRS before its speed has reached a third of the greatest."""
    speed = np.max([np.abs(np.gradient(x, axis=1)) for x in b.lead.values()], axis=0)
    fast = speed > speed.max(axis=1, keepdims=True) / 3
    first = b.time[fast.argmax(axis=1)]
    return first - b.onset >= 0.020


CRITERIA = {
    "1AVB": lambda b: b.pr > 200,
    "LPR": lambda b: b.pr > 200,
    "CLBBB": lambda b: (b.qrs >= 120) & lbbb_shape(b),
    "ILBBB": lambda b: (b.qrs >= 110) & (b.qrs < 120) & lbbb_shape(b),
    "CRBBB": lambda b: (b.qrs >= 120) & rbbb_shape(b),
    "IRBBB": lambda b: (b.qrs < 120) & (b.late_r("V1") > 0.1),
    "LAFB": lambda b: (
        (b.axis() <= -45)
        & (b.axis() >= -90)
        & (b.qrs < 120)
        & (b.all("s_", INFERIOR) > b.all("r_", INFERIOR)).all(axis=0)
        & (b.r_aVL > b.s_aVL)
        & (b.q_aVL > 0.02)
    ),
    "LPFB": lambda b: (
        (b.axis() >= 90)
        & (b.qrs < 120)
        & (b.s_I > b.r_I)
        & (b.r_I > 0.02)
        & (b.q_III > 0.02)
        & (b.q_aVF > 0.02)
    ),
    "IVCD": lambda b: (b.qrs > 110) & ~lbbb_shape(b) & ~(rbbb_shape(b) & (b.qrs >= 120)),
    "WPW": lambda b: (b.pr < 120) & (b.qrs > 110) & delta(b),
    "LVH": voltage_of_lvh,
    "VCLVH": voltage_of_lvh,
    "SEHYP": septal,
    "RVH": lambda b: (
        ((b.r_V1 > b.s_V1) | (b.r_V1 + np.maximum(b.s_V5, b.s_V6) > 1.05)) & (b.axis() > 90)
    ),
    "LAO/LAE": left_atrial,
    "RAO/RAE": lambda b: (b.p_wave["II"].max(axis=1) > 0.25) | (b.p_wave["V1"].max(axis=1) > 0.15),
    "LVOLT": lambda b: (
        (np.stack([np.ptp(b.lead[x], axis=1) for x in LIMB]) < 0.5).all(axis=0)
        | (np.stack([np.ptp(b.lead[x], axis=1) for x in CHEST]) < 1.0).all(axis=0)
    ),
    "HVOLT": lambda b: (
        (np.stack([np.abs(b.lead[x]).max(axis=1) for x in LIMB]) > 2.0).any(axis=0)
        | (np.stack([np.abs(b.lead[x]).max(axis=1) for x in CHEST]) > 3.0).any(axis=0)
    ),
}
COMBINED = {
    ("LAFB", "CRBBB"): lambda b: (b.qrs >= 120) & (b.late_r("V1") > 0.1) & (b.axis(60) <= -40),
    ("LPFB", "CRBBB"): lambda b: (b.qrs >= 120) & (b.late_r("V1") > 0.1) & (b.axis(60) >= 88),
    ("LVH", "LAFB"): lambda b: voltage_of_lvh(b) & (b.axis() <= -40),
    ("CRBBB", "IMI"): lambda b: CRITERIA["CRBBB"](b) & no_r(b),
    ("CLBBB", "1AVB"): lambda b: CRITERIA["CLBBB"](b) & (b.pr > 200),
    ("CRBBB", "1AVB"): lambda b: CRITERIA["CRBBB"](b) & (b.pr > 200),
}


@pytest.fixture(scope="module")
def normal():
    return Beat(draw(["NORM"], n=400, seed=9))


@pytest.mark.parametrize("code", CRITERIA)
def test_certain_findings_meet_the_textbook(code):
    met = CRITERIA[code](Beat(draw([code])))
    assert met.mean() >= 0.95, f"{code}: {met.mean():.0%}"


@pytest.mark.parametrize("code", CRITERIA)
def test_normal_hearts_do_not(code, normal):
    assert CRITERIA[code](normal).mean() <= 0.05


@pytest.mark.parametrize("codes", COMBINED, ids="+".join)
def test_findings_compose(codes):
    met = COMBINED[codes](Beat(draw(codes)))
    assert met.mean() >= 0.95, f"{codes}: {met.mean():.0%}"
