"""Signal and rhythm functions against sines, known beats and the published preprocessing."""

import numpy as np
import pytest

from ecgkit import signal as sig
from ecgkit.features import rhythm
from ecgkit.types import DataError, ECGRecord

FS = 250


def sine(hz, seconds=10.0, fs=FS):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * fs)) / fs)


def gain_and_shift(hz, kind):
    """How tall a sine leaves the filter, and how many samples it moved (0 = zero phase)."""
    x = sine(hz)
    y = sig.filter_signal(x[None], FS, kind)[0]
    middle = slice(2 * FS, 8 * FS)
    lags = np.arange(-1, 2)
    fit = [np.dot(x[middle], np.roll(y, lag)[middle]) for lag in lags]
    return np.ptp(y[middle]) / np.ptp(x[middle]), lags[int(np.argmax(fit))]


@pytest.mark.parametrize(
    "kind,hz,low,high",
    [
        ("bandpass", 10, 0.97, 1.03),
        ("bandpass", 0.05, 0, 0.05),
        ("bandpass", 100, 0, 0.05),
        ("highpass", 10, 0.97, 1.03),
        ("highpass", 100, 0.97, 1.03),
        ("powerline", 50, 0, 0.05),
        ("powerline", 10, 0.97, 1.03),
        ("powerline", 100, 0, 0.05),
    ],
)
def test_filters_pass_and_stop_without_delay(kind, hz, low, high):
    gain, shift = gain_and_shift(hz, kind)
    assert low <= gain <= high
    assert gain < 0.1 or shift == 0


def test_filter_works_on_batches_and_keeps_gaps():
    x = np.random.default_rng(0).standard_normal((3, 12, 1000)).astype(np.float32)
    y = sig.filter_signal(x, 100, "bandpass")
    assert y.shape == x.shape and y.dtype == np.float32
    assert np.allclose(y[1, 4], sig.filter_signal(x[1, 4], 100, "bandpass"), atol=1e-5)
    x[0, 0, 5:9] = np.nan
    assert np.isnan(sig.filter_signal(x, 100, "bandpass")).sum() == 4
    assert sig.filter_signal(x, 100, "none") is x
    with pytest.raises(DataError, match="no filter"):
        sig.filter_signal(x, 100, "median")
    with pytest.raises(DataError, match="empty"):
        sig.filter_signal(x, 500, "bandpass", low=40, high=10)


def test_normalisation():
    x = 5 + np.random.default_rng(0).standard_normal((2, 3, 500)).astype(np.float32) * [
        [[1], [2], [3]]
    ]
    per_lead, whole = sig.normalise_signal(x, "per_lead"), sig.normalise_signal(x, "global")
    assert np.allclose(per_lead.mean(-1), 0, atol=1e-5) and np.allclose(
        per_lead.std(-1), 1, atol=1e-5
    )
    assert np.allclose(whole.mean((1, 2)), 0, atol=1e-5) and np.allclose(
        whole.std((1, 2)), 1, atol=1e-3
    )
    ratio = whole[:, 2].std(-1) / whole[:, 0].std(-1)
    assert np.allclose(ratio, x[:, 2].std(-1) / x[:, 0].std(-1), rtol=1e-4)
    x[0, 1] = 7
    assert (sig.normalise_signal(x, "per_lead")[0, 1] == 0).all()
    with pytest.raises(DataError, match="no normalisation"):
        sig.normalise_signal(x, "minmax")


def test_fill_crop_and_pad():
    x = np.arange(20, dtype=np.float32).reshape(2, 10)
    x[0, 3], x[1] = np.nan, np.nan
    filled = sig.fill_nan(x)
    assert filled[0, 3] == pytest.approx(42 / 9) and (filled[1] == 0).all()
    assert list(sig.crop_pad(np.arange(10), 4)) == [3, 4, 5, 6]
    assert list(sig.crop_pad(np.arange(1, 4), 6)) == [0, 1, 2, 3, 0, 0]
    assert sig.crop_pad(np.ones((2, 3, 11)), 6).shape == (2, 3, 6)


def test_preprocess_gives_what_a_model_takes():
    x = np.random.default_rng(0).standard_normal((2, 12, 5000)).astype(np.float32)
    x[0, 2, 100:130] = np.nan
    y = sig.preprocess(x, 500, fs_out=100, filter="bandpass", n_samples=960, normalise="per_lead")
    assert y.shape == (2, 12, 960) and y.dtype == np.float32 and np.isfinite(y).all()
    assert np.allclose(y.std(-1), 1, atol=1e-4)


def test_a_filtered_record_says_so():
    record = ECGRecord(np.random.default_rng(0).standard_normal((12, 500)).astype(np.float32), 100)
    clean = sig.filter_record(record, "highpass", low=0.67)
    assert clean.meta["filter"] == "high-pass 0.67 Hz" and clean.fs == 100


def test_published_preprocessing(shared):
    esi = np.load(shared / "golden" / "esi_preproc.npz")
    name = next(k for k in esi if k.startswith("raw"))
    assert np.abs(sig.preprocess(esi[name].T, 500, normalise="global").T - esi["y"]).max() < 1e-5
    risk = np.load(shared / "golden" / "risk_preproc.npz")
    ours = sig.crop_pad(sig.normalise_signal(risk["in/x"], "per_lead"), 1024)
    assert np.abs(ours - risk["out/z_pad1024"]).max() < 1e-5


# --- rhythm ---------------------------------------------------------------------------------------


def beats_at(times, fs, seconds=10.0, height=1.0, t_wave=0.3):
    """(12, T): a narrow QRS and a broad T wave at each time."""
    t = np.arange(round(seconds * fs)) / fs
    wave = sum(
        height * np.exp(-(((t - at) / 0.02) ** 2))
        + t_wave * np.exp(-(((t - at - 0.3) / 0.06) ** 2))
        for at in times
    )
    return np.stack([wave * k for k in np.linspace(-1, 1.5, 12)]).astype(np.float32)


@pytest.mark.parametrize("fs", [100, 250, 500])
@pytest.mark.parametrize("rate", [40, 75, 140, 190])
def test_every_beat_is_found_where_it_is(fs, rate):
    times = np.arange(0.4, 9.7, 60 / rate)
    noise = 0.02 * np.random.default_rng(0).standard_normal((12, 10 * fs))
    found = rhythm.find_beats(beats_at(times, fs) + noise, fs)
    assert len(found.sample) == len(times)
    assert np.abs(found.sample / fs - times).max() <= 0.02
    assert rhythm.heart_rate(found)[0] == pytest.approx(rate, rel=0.02)


def test_a_batch_is_its_records_one_by_one(tiny_cohort):
    x = tiny_cohort.store.read(range(40))
    together = rhythm.find_beats(x, tiny_cohort.store.fs)
    for b in range(40):
        alone = rhythm.find_beats(x[b], tiny_cohort.store.fs)
        assert np.array_equal(together.of(b), alone.sample)


def test_rate_agrees_with_the_simulators_truth(tiny_cohort):
    x = tiny_cohort.store.read(range(len(tiny_cohort)))
    found = rhythm.heart_rate(rhythm.find_beats(x, tiny_cohort.store.fs))
    off = np.abs(found - tiny_cohort.truth["heart_rate"].to_numpy())
    assert np.median(off) < 1.5 and np.mean(off < 8) > 0.9


def test_no_signal_gives_nan_not_an_error():
    x = np.zeros((3, 12, 1000), np.float32)
    x[1] = np.nan
    x[2] = beats_at([5.0], 100)
    found = rhythm.find_beats(x, 100)
    assert list(found.counts()) == [0, 0, 1]
    assert np.isnan(rhythm.heart_rate(found)).all() and np.isnan(rhythm.rr_spread(found)).all()
    beat = rhythm.median_beats(x, found)
    assert np.isnan(beat[:2]).all() and np.isfinite(beat[2]).all()


def test_median_beat_is_the_beat_without_its_noise():
    times = np.arange(0.6, 9.4, 0.8)
    clean, fs = beats_at(times, 250), 250
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)
    beat = rhythm.median_beats(noisy, rhythm.find_beats(noisy, fs))[0]
    start = round((times[3] - rhythm.BEFORE_S) * fs)
    expected = clean[:, start : start + beat.shape[1]]
    assert beat.shape == (12, 200) and np.abs(beat - expected).mean() < 0.06
    assert np.argmax(beat[-1]) == pytest.approx(rhythm.BEFORE_S * fs, abs=2)
