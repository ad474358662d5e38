"""Rhythms of the simulator, measured on the beats it draws: each keeps its textbook rule."""

import numpy as np
import pytest

from ecgkit.data.synthetic import anatomy, beats, clocks, findings
from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.render import render
from ecgkit.data.synthetic.rhythm import draw_beats
from ecgkit.data.wfdb_write import to_adc, twelve_lead_adc

SECONDS, N = 10, 60
OTHER_RHYTHM = ("AFIB", "AFLT", "SVTAC", "PSVT", "PACE", "SVARR", "SBRAD", "STACH", "SARRH")
CODES = (*OTHER_RHYTHM, "SR", "2AVB", "3AVB", "PVC", "PAC", "PRC(S)", "BIGU", "TRIGU")


def drawn(*codes, n=N, age=55.0, seed=0):
    """Hearts and beats of `n` records that have `codes` for certain."""
    rng = np.random.default_rng(seed)
    codes = codes if set(codes) & set(OTHER_RHYTHM) else (*codes, "SR")
    has = {code: np.ones(n, bool) for code in codes}
    severity = {code: rng.uniform(0.35, 1, n) for code in codes}
    latents = rng.standard_normal((n, anatomy.N_LATENTS))
    hearts = anatomy.normal_hearts(latents, np.full(n, age), np.arange(n) % 2, rng)
    findings.apply_findings(hearts, has, severity, rng)
    return hearts, draw_beats(hearts, SECONDS, rng)


def of_record(b, row):
    """Times, kinds and PR above the usual of one record's beats inside the strip."""
    seen = b.inside(SECONDS)[row]
    return b.time[row, seen], b.kind[row, seen], (b.time - b.followed())[row, seen]


def rr_of(b, row):
    return np.diff(of_record(b, row)[0])


def p_times(b, row):
    times = b.atrial[row]
    return times[(times >= 0) & (times < SECONDS)]


# --- what holds for all ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_beats_ascend_and_reach_past_both_ends(code):
    _, b = drawn(code, n=24)
    for times in (b.time, b.atrial):
        assert (np.diff(times, axis=1) >= 0).all()
    assert (b.time[:, 0] < 0).all() and (b.time[:, -1] > SECONDS).all()
    before_end = b.time < SECONDS + clocks.LEAD_OUT
    gaps = np.diff(b.time, axis=1)[before_end[:, 1:]]
    assert 0.2 < gaps.min() and gaps.max() < 3.2
    led = b.parent >= 0
    assert np.abs((b.time - b.followed())[led]).max(initial=0) < 0.5


@pytest.mark.parametrize("code", CODES)
def test_limb_leads_add_up_in_whole_units(code):
    hearts, b = drawn(code, n=8)
    rng = np.random.default_rng(1)
    signal = render(hearts, b, 100, 1000, rng)
    assert np.isfinite(signal).all() and np.abs(signal).max(axis=(1, 2)).min() > 0.3
    one, two, three, avr, avl, avf = twelve_lead_adc(to_adc(signal)).transpose(1, 0, 2)[:6]
    one, two, three = (lead.astype(int) for lead in (one, two, three))
    assert np.array_equal(one + three, two)
    assert np.abs(2 * avr + one + two).max() <= 1 and np.abs(2 * avf - 2 * two + one).max() <= 1


def test_same_seed_same_beats_and_signals():
    (h1, b1), (h2, b2) = drawn("SVARR", seed=3), drawn("SVARR", seed=3)
    assert np.array_equal(b1.time, b2.time) and np.array_equal(b1.atrial, b2.atrial)
    first, second = (
        render(h, b, 250, 500, np.random.default_rng(5)) for h, b in ((h1, b1), (h2, b2))
    )
    assert np.array_equal(first, second)


def test_a_rendered_beat_is_the_sum_of_its_waves():
    hearts, b = drawn("SR", n=12)
    hearts.dipole[:, [waves.U]] = 0  # reaches into the next beat
    signal = render(hearts, b, 500, 5000, np.random.default_rng(0))
    beat = waves.one_beat(hearts, 500, (*waves.P_WAVES, *waves.SINUS_WAVES), 0.25, 0.40)
    for row in range(12):
        at = of_record(b, row)[0]
        start = round((at[(at > 1) & (at < 9)][0] - 0.25) * 500)
        here = signal[row, :, start : start + beat.shape[2]]
        assert np.corrcoef(here.ravel(), beat[row].ravel())[0, 1] > 0.985
        assert np.abs(here).max() == pytest.approx(np.abs(beat[row]).max(), rel=0.15)


# --- sinus node -----------------------------------------------------------------------------------


def test_sinus_rates_and_their_spread_with_age():
    spread = {}
    for age in (25.0, 75.0):
        _, b = drawn("SR", age=age, n=200)
        rates = np.array([60 / rr_of(b, i).mean() for i in range(200)])
        assert 57 < rates.min() and rates.max() < 103 and 66 < np.median(rates) < 78
        spread[age] = np.median([rr_of(b, i).std() for i in range(200)])
    assert 0.020 < spread[25.0] < 0.050 and 0.006 < spread[75.0] < 0.018


def test_sinus_arrhythmia_breathes_by_more_than_120_ms():
    _, b = drawn("SARRH", age=30.0)
    assert np.mean([np.ptp(rr_of(b, i)) > 0.120 for i in range(N)]) >= 0.95


@pytest.mark.parametrize("code, low, high", [("SBRAD", 38, 60), ("STACH", 99, 155)])
def test_slow_and_fast_sinus_rhythm(code, low, high):
    _, b = drawn(code)
    rates = np.array([60 / rr_of(b, i).mean() for i in range(N)])
    assert low < rates.min() and rates.max() < high and (b.parent[b.inside(SECONDS)] >= 0).all()


# --- atria ----------------------------------------------------------------------------------------


def test_fibrillation_has_no_p_and_no_order():
    hearts, b = drawn("AFIB", n=150)
    assert all(len(p_times(b, i)) == 0 for i in range(150))
    series = [rr_of(b, i) for i in range(150)]
    assert 0.10 < np.median([rr.std() / rr.mean() for rr in series]) < 0.30
    z = [(rr - rr.mean()) / rr.std() for rr in series]
    neighbours = np.concatenate([np.stack([x[:-1], x[1:]], axis=1) for x in z])
    # A strip's own mean is taken off: without order that leaves -1 / n, about -0.07.
    assert -0.20 < np.corrcoef(neighbours.T)[0, 1] < 0.08
    assert 45 < hearts.rate.min() and hearts.rate.max() <= 160


def test_fibrillation_waves_lie_between_4_and_10_hz_and_are_largest_in_v1():
    hearts, b = drawn("AFIB", n=40)
    hearts.dipole[:], hearts.local[:] = 0, 0
    signal = render(hearts, b, 100, 1000, np.random.default_rng(0))
    power = (np.abs(np.fft.rfft(signal, axis=2)) ** 2).sum(axis=0)
    hz = np.fft.rfftfreq(1000, 0.01)
    v1 = power[waves.LEADS8.index("V1")]
    assert v1[(hz > 4) & (hz < 10)].sum() > 0.7 * v1.sum()
    assert power.sum(axis=1).argmax() == waves.LEADS8.index("V1")
    sizes = np.ptp(signal[:, 2], axis=1)
    assert np.percentile(sizes, 90) > 2 * np.percentile(sizes, 10)  # fine to coarse


def test_flutter_atria_beat_at_250_to_330_and_rr_are_whole_numbers_of_waves():
    _, b = drawn("AFLT")
    ratios = set()
    for row in range(N):
        cycle = np.diff(p_times(b, row)).mean()
        assert 248 < 60 / cycle < 332
        waves_per_beat = rr_of(b, row) / cycle
        assert np.abs(waves_per_beat - np.rint(waves_per_beat)).max() < 0.2
        ratios |= set(np.rint(waves_per_beat).astype(int).tolist())
    assert {2, 3, 4} <= ratios


def test_reentrant_tachycardia_is_even_and_paroxysms_stop():
    _, b = drawn("SVTAC")
    for row in range(N):
        rr = rr_of(b, row)
        assert 148 < 60 / rr.mean() < 222 and rr.std() < 0.012
    hearts, b = drawn("PSVT")
    stops = np.flatnonzero(hearts.onset > 0)
    assert 0.2 * N < len(stops) < 0.65 * N
    for row in stops:
        rr = rr_of(b, row)
        assert rr[:3].max() < 0.41 and rr.max() > 0.9 and (rr[-1] > 0.5 or rr[-1] == rr.max())


def test_supraventricular_arrhythmia_has_two_kinds_of_p_and_uneven_rr():
    _, b = drawn("SVARR")
    inside = (b.atrial >= 0) & (b.atrial < SECONDS)
    focal = ((b.atrial_kind == beats.ATRIAL) & inside).sum(axis=1)
    assert ((focal >= 1) & (focal < inside.sum(axis=1))).mean() > 0.95
    assert np.mean([np.ptp(rr_of(b, i)) > 0.12 for i in range(N)]) > 0.95


# --- AV node and pacemakers -----------------------------------------------------------------------


def test_second_degree_block_drops_single_beats():
    hearts, b = drawn("2AVB", n=120)
    kinds = set()
    for row in range(120):
        _, _, longer = of_record(b, row)
        led = b.parent[row, b.inside(SECONDS)[row]]
        step = np.diff(led)
        assert set(step.tolist()) <= {1, 2} and (step == 2).any()  # never two P waves lost in a row
        growth, within, after = np.diff(longer), step == 1, step == 2
        if hearts.av_block[row] == beats.WENCKEBACH:
            assert (growth[within] > 0.008).all() and (growth[after] < -0.03).all()
        else:
            assert np.abs(growth).max() < 0.02
        kinds.add((int(hearts.av_block[row]), int(hearts.av_cycle[row])))
    assert {(beats.MOBITZ, 2), (beats.WENCKEBACH, 4)} <= kinds


def test_complete_block_atria_and_ventricles_know_nothing_of_each_other():
    hearts, b = drawn("3AVB", n=120)
    phases = []
    for row in range(120):
        times, kind, _ = of_record(b, row)
        p = p_times(b, row)
        rate, atrial = 60 / np.diff(times).mean(), 60 / np.diff(p).mean()
        wide = hearts.av_block[row] == beats.COMPLETE_WIDE
        assert (kind == (beats.ESCAPE if wide else beats.JUNCTIONAL)).all()
        assert 25 < rate < 46 if wide else 39 < rate < 60
        assert atrial > rate + 5 and np.diff(times).std() < 0.03
        last = np.searchsorted(b.atrial[row], times) - 1
        phases.append((times - b.atrial[row, last]) * atrial / 60)
    phases = np.concatenate(phases)
    assert np.abs(np.exp(2j * np.pi * phases).mean()) < 0.1  # a beat may fall anywhere between P


def test_pacemakers_pace_what_they_say():
    hearts, b = drawn("PACE", n=200)
    assert {1, 2, 3, 4} == set(hearts.paced.astype(int))
    paced = (b.kind == beats.PACED) & b.inside(SECONDS)
    share = paced.sum(axis=1) / b.inside(SECONDS).sum(axis=1)
    assert (share[hearts.paced == beats.ATRIUM] == 0).all()
    assert (share[np.isin(hearts.paced, (beats.VENTRICLE, beats.DUAL))] == 1).all()
    demand = share[hearts.paced == beats.DEMAND]
    assert (demand > 0).mean() > 0.9 and demand.min() < 1
    for row in np.flatnonzero(hearts.paced == beats.VENTRICLE):
        assert rr_of(b, row).std() < 1e-6
    for row in np.flatnonzero(hearts.paced == beats.DUAL):
        assert np.abs(of_record(b, row)[2]).max() < 0.02  # the same AV delay each time


# --- premature beats ------------------------------------------------------------------------------


def premature(b, row, kind):
    """Prematurity and pause around each beat of `kind` between two others, in usual RR."""
    times, kinds, _ = of_record(b, row)
    at = np.flatnonzero(kinds == kind)
    at = at[(at > 0) & (at < len(times) - 1)]
    lone = at[(kinds[at - 1] != kind) & (kinds[at + 1] != kind)]
    plain = np.diff(times)[(kinds[1:] == beats.SINUS) & (kinds[:-1] == beats.SINUS)]
    usual = np.median(plain) if len(plain) > 2 else np.nan
    early, both = times[lone] - times[lone - 1], times[lone + 1] - times[lone - 1]
    return (early / usual, both / usual) if np.isfinite(usual) else (early[:0], both[:0])


def test_atrial_premature_beats_are_early_and_their_pause_is_incomplete():
    _, b = drawn("PAC", n=150)
    counts = ((b.kind == beats.ATRIAL) & b.inside(SECONDS)).sum(axis=1)
    assert (counts >= 1).mean() > 0.97 and counts.max() <= 5
    early, both = (
        np.concatenate(x) for x in zip(*(premature(b, i, beats.ATRIAL) for i in range(150)))
    )
    assert np.mean(early < 0.85) > 0.95 and np.mean(both < 1.97) > 0.95
    where = b.kind == beats.ATRIAL
    pr = (b.time - b.followed())[where & b.inside(SECONDS)]
    assert pr.min() > 0 and pr.max() < 0.06  # a little longer than the others'


def test_ventricular_premature_beats_have_compensatory_pauses():
    hearts, b = drawn("PVC", n=150)
    inside = b.inside(SECONDS)
    ventricular = (b.kind == beats.VENTRICULAR) & inside
    assert (ventricular.sum(axis=1) >= 1).mean() > 0.97
    assert (b.parent[ventricular] == -1).all() and (b.shape[ventricular] > beats.OWN).all()
    early, both = (
        np.concatenate(x) for x in zip(*(premature(b, i, beats.VENTRICULAR) for i in range(150)))
    )
    assert np.mean(early < 0.85) > 0.95
    assert np.mean(np.abs(both - 2) < 0.15) > 0.85 and np.mean(both < 1.3) > 0.005  # interpolated
    start, end = (
        hearts.centre[:, [waves.E1, waves.E2]] + side * waves.EDGE * sd[:, [waves.E1, waves.E2]]
        for side, sd in ((-1, hearts.rise), (1, hearts.fall))
    )
    assert (end.max(axis=1) - start.min(axis=1)).min() > 0.113
    assert {beats.FIRST, beats.SECOND} <= set(b.shape[ventricular].tolist())


@pytest.mark.parametrize("code, every", [("BIGU", 2), ("TRIGU", 3)])
def test_bigeminy_and_trigeminy_take_turns(code, every):
    _, b = drawn(code)
    kinds_seen = set()
    for row in range(N):
        _, kinds, _ = of_record(b, row)
        early = np.flatnonzero(kinds != beats.SINUS)
        assert len(early) >= 2 and set(np.diff(early).tolist()) == {every}
        kinds_seen |= set(kinds[early].tolist())
        assert len(set(kinds[early].tolist())) == 1
        rr = rr_of(b, row)
        assert rr[early[early > 0] - 1].max() < 0.88 * np.delete(rr, early[early > 0] - 1).min()
    assert kinds_seen == {beats.VENTRICULAR, beats.ATRIAL}


def test_uncertain_ectopy_is_rarer():
    rng = np.random.default_rng(0)
    counts = {}
    for u in (0.1, 0.9):
        hearts, _ = drawn("SR", n=100)
        findings.EFFECTS["PVC"](hearts, np.arange(100), np.full(100, u), rng)
        counts[u] = hearts.n_pvc
    assert counts[0.1].mean() < counts[0.9].mean() - 0.5 and counts[0.1].min() >= 1
