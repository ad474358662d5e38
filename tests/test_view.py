"""Views against the plain signal functions, record by record; their caches against the views."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, sosfiltfilt

from ecgkit import signal as sig
from ecgkit.data.packing import MISSING, Packed
from ecgkit.data.parallel import Workers
from ecgkit.data.shards import Store
from ecgkit.data.store import write_store
from ecgkit.data.view import View
from ecgkit.data.view_cache import quantise
from ecgkit.types import LEADS, DataError

FS = 500
SECONDS = (10, 6, 15, 10, 33.5, 60, 10, 8)  # ragged, as in CPSC-2018
EXTRA = ("n_missing", "digest")


class Noise:
    """Packs record n of SECONDS: noise on a drift, unlike gains; record 3 has gaps."""

    def __init__(self, seconds=None):
        self.seconds = seconds

    def __call__(self, job):
        n = job[2]
        length = round((self.seconds or SECONDS[n]) * FS)
        rng = np.random.default_rng(n)
        values = rng.integers(-900, 900, (12, length)) + 1000 * np.linspace(0, 1, length)
        values = values.astype(np.int16)
        if n == 3:
            values[1, 500:600], values[4, :40] = MISSING, MISSING
        columns = {"n_missing": int((values == MISSING).sum()), "digest": f"{n:016d}"}
        return Packed(values, np.array([1000.0] * 6 + [500.0] * 6), columns)


def make(folder, seconds=None):
    jobs = [(100 + k, f"r{k}", k) for k in range(len(SECONDS))]
    left = [{"ecg_id": 7, "reason": "header", "sentence": "Left out.", "source": "r7"}]
    how = {"key": "k", "fs": FS, "columns": EXTRA, "workers": Workers(1), "quarantined": left}
    return write_store(folder, jobs, Noise(seconds), **how)


@pytest.fixture(scope="module")
def ragged(tmp_path_factory) -> Store:
    return make(tmp_path_factory.mktemp("stores") / "ragged")


@pytest.fixture(scope="module")
def uniform(tmp_path_factory) -> Store:
    return make(tmp_path_factory.mktemp("stores") / "uniform", seconds=10)


def whole(store, row, how):
    """Record `row` (C, L) as the steps before cutting give it, one record at a time."""
    x = store.read([row])[0][[LEADS.index(lead) for lead in how.get("leads", LEADS)]]
    x = sig.resample(x, FS, how.get("fs", FS))
    return sig.filter_signal(x, how.get("fs", FS), how.get("filter", "none"))


RECIPES = {
    "nothing": {},
    "leads": {"leads": ("V5", "II")},
    "100": {"fs": 100},
    "filtered": {"fs": 250, "filter": "bandpass", "normalise": "per_lead"},
    "drift": {"fs": 400, "filter": "highpass", "normalise": "global", "leads": ("I", "V1", "V6")},
    "notch": {"filter": "powerline"},
}


@pytest.mark.parametrize("seconds", [None, 10.0, 7.123])
@pytest.mark.parametrize("how", RECIPES.values(), ids=RECIPES)
def test_crop_and_pad_are_the_steps_one_by_one(ragged, how, seconds):
    rows = [5, 1, 0, 3, 1]
    for length in ("crop", "pad"):
        view = View(ragged, seconds=seconds, length=length, **how)
        batch, mask = view.read(rows), view.mask(rows)
        assert batch.dtype == np.float32 and batch.shape[2] == mask.shape[1]
        assert len(batch[0]) == len(view.leads)
        assert (np.moveaxis(batch, 1, 2)[mask] == 0).all()
        for x, out, row in zip(batch, mask, rows):
            expected = whole(ragged, row, how)
            if seconds and length == "pad":
                expected = expected[:, : round(seconds * view.fs)]
            elif seconds:
                expected = sig.crop_pad(expected, min(batch.shape[2], expected.shape[1]))
            expected = sig.normalise_signal(expected, how.get("normalise", "none"))
            assert view.lengths[row] == expected.shape[1] == (~out).sum()
            assert np.allclose(x[:, ~out], expected, atol=1e-5)
        starts = np.argmin(mask, axis=1)
        spare = mask.sum(axis=1)
        assert np.array_equal(starts, spare // 2 if seconds and length == "crop" else 0 * spare)


def test_windows_follow_each_other(ragged):
    how = {"fs": 250, "filter": "highpass", "normalise": "per_lead"}
    view = View(ragged, seconds=10, length="segment", **how)
    # 33.5 s: three windows, the last 3.5 s left out; 6 and 8 s: one padded window; 15 s: two.
    assert np.bincount(view.record_of).tolist() == [1, 1, 2, 1, 3, 6, 1, 1]
    assert view.index["window"].tolist()[-8:] == [0, 1, 2, 3, 4, 5, 0, 0]
    assert (view.index["record"] == view.record_of).all()
    assert (view.index["ecg_id"] == 100 + view.record_of).all()
    rows = np.random.default_rng(0).permutation(len(view))
    for x, out, row in zip(view.read(rows), view.mask(rows), rows):
        record, window = view.index.loc[row, ["record", "window"]]
        part = whole(ragged, record, how)[:, window * 2500 : (window + 1) * 2500]
        assert (~out[: part.shape[1]]).all() and out[part.shape[1] :].all()
        assert np.allclose(x[:, ~out], sig.normalise_signal(part, "per_lead"), atol=1e-5)


def test_a_record_too_short_for_a_window_is_named(ragged):
    view = View(ragged, seconds=20, length="segment")
    assert len(np.unique(view.record_of)) + 2 == len(ragged)
    assert view.quarantine["ecg_id"].tolist() == [7, 101, 107]
    assert view.quarantine["reason"].tolist() == ["header", "too_short", "too_short"]
    assert view.n_in == len(view) + 3
    assert "6.0 s do not fill" in view.quarantine["sentence"].iloc[1]


def test_batch_statistics_leave_padding_out(ragged):
    for how in ("per_lead", "global"):
        view = View(ragged, seconds=20, normalise=how, filter="bandpass")
        x = view.read([1])[0][:, ~view.mask([1])[0]]
        axis = -1 if how == "per_lead" else None
        assert np.allclose(x.mean(axis), 0, atol=1e-4) and np.allclose(x.std(axis), 1, atol=1e-3)


def test_padding_of_the_store_itself_stays_out(tmp_path):
    jobs = [(k, "", k) for k in range(2)]
    how = {"key": "k", "fs": FS, "columns": EXTRA, "workers": Workers(1)}
    padded = write_store(tmp_path / "a", jobs, Noise(), seconds=12.0, **how)  # 10 and 6 s in 12 s
    free = write_store(tmp_path / "b", jobs, Noise(), **how)
    how = {"fs": 250, "filter": "bandpass", "normalise": "per_lead"}
    a, b = View(padded, seconds=11, **how), View(free, seconds=11, **how)
    assert np.array_equal(a.read([1, 0]), b.read([1, 0]))
    assert np.array_equal(a.mask([1, 0]), b.mask([1, 0]))
    same = View(padded)
    assert same.n_samples == 6000 and np.array_equal(same.read([1]), padded.read([1]))
    assert np.array_equal(View(padded, fs=250).mask([1]), padded.mask([1])[:, ::2])


def test_a_view_that_changes_nothing_is_the_store(ragged, uniform, monkeypatch):
    monkeypatch.setattr(View, "_whole", None)  # its own way of reading is never entered
    rows = [3, 0, 6]
    views = [View(ragged), View(ragged, fs=FS, leads=LEADS), View(uniform, seconds=10.0)]
    for store, view in zip((ragged, ragged, uniform), views):
        assert np.array_equal(view.read(rows), store.read(rows))
        assert np.array_equal(view.mask(rows), store.mask(rows))
        out = np.empty((3, 12, 5000), np.float32)
        assert view.read(rows, out=out) is out


def test_gaps_are_filled_first_and_marked_on_request(ragged):
    view = View(ragged, fs=250, filter="bandpass", normalise="per_lead")
    filled, marked = view.read([3, 0]), view.read([3, 0], fill=False)
    gaps = np.isnan(marked)
    assert np.isfinite(filled).all() and np.array_equal(filled[~gaps], marked[~gaps])
    assert gaps[0].sum() == 50 + 20 and gaps[0, 1, 250:300].all() and not gaps[1].any()


def test_reading_into_a_buffer(ragged):
    view = View(ragged, seconds=8)
    out = np.full((2, 12, 4000), 9, np.float32)
    assert view.read([1, 2], out=out) is out and np.array_equal(out, view.read([1, 2]))
    wide = np.full((2, 12, 9000), 9, np.float32)
    own = View(ragged, leads=LEADS[::-1])
    assert (own.read([1, 0], out=wide)[:, :, 5000:] == 0).all()
    with pytest.raises(DataError, match=r"need float32 \(2, 12, 4000\)"):
        view.read([1, 2], out=wide)
    assert view.read([]).shape == (0, 12, 4000)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_large_batches_are_read_in_blocks(uniform, monkeypatch, block):
    view = View(uniform, fs=100, seconds=3, length="segment", normalise="per_lead")
    rows = np.random.default_rng(0).integers(0, len(view), 40)
    together = view.read(rows)
    monkeypatch.setattr("ecgkit.data.view.BLOCK", block)
    assert np.array_equal(view.read(rows), together)
    assert np.array_equal(together[7], view.read([rows[7]])[0])


def test_copies_and_keys(ragged, monkeypatch):
    view = View(ragged, fs=100, seconds=5, length="segment", filter="highpass", leads=("II",))
    copy = pickle.loads(pickle.dumps(view))
    assert copy.key == view.key and np.array_equal(copy.read([4, 2]), view.read([4, 2]))
    keys = {View(ragged, **how).key for how in RECIPES.values()}
    assert len(keys) == len(RECIPES)
    other = View(ragged, fs=100)
    monkeypatch.setattr(ragged, "key", "another")
    assert View(ragged, fs=100).key != other.key
    assert View(ragged, fs=FS).key == View(ragged).key
    inner = View(View(ragged, fs=250), seconds=10.0, normalise="global")
    assert np.allclose(inner.read([2]), View(ragged, 250, 10.0, normalise="global").read([2]))
    assert "at 100 Hz in mV, leads II; filter highpass" in view.describe()


@pytest.mark.parametrize(
    "how,message",
    [
        ({"filter": "median"}, "no filter 'median'"),
        ({"length": "cut", "seconds": 5}, "no length 'cut'"),
        ({"length": "segment"}, "needs seconds"),
        ({"leads": ("II", "X")}, "no X"),
        ({"leads": ("II", "II")}, "named twice"),
        ({"fs": -100}, "no sample"),
        ({"seconds": 0.0001}, "no sample"),
    ],
)
def test_a_recipe_that_does_not_exist_is_refused(ragged, how, message):
    with pytest.raises(DataError, match=message):
        View(ragged, **how)


@pytest.mark.parametrize("row", [-1, 8])
def test_a_row_outside_is_refused(ragged, row):
    view = View(ragged, fs=100)
    for read in (view.read, view.mask):
        with pytest.raises(DataError, match=f"Row {row} is outside the view of 8"):
            read([0, row])


# --- the sampling rate ----------------------------------------------------------------------------


@pytest.mark.parametrize("fs", [100, 250, 400])
@pytest.mark.parametrize("filter", ["none", "highpass", "bandpass"])
def test_waves_stay_where_they_are(fs, filter, simulated):
    """The tallest R of each record moves by 2 ms at most, and the whole record not at all.

    R is compared under the same filter: a high-pass alters the slope a broad R stands on. That the
    filter itself delays nothing is in the correlation.
    """
    plain, before = fine_v5(simulated), fine_v5(View(simulated, filter=filter))
    after = fine_v5(View(simulated, fs=fs, filter=filter))
    at = 8000 + np.argmax(before[:, 8000:32000], axis=1)  # between 2 and 8 s
    near = at[:, None] + np.arange(-200, 201)  # 50 ms each way
    moved = np.argmax(np.take_along_axis(after, near, axis=1), axis=1) - 200
    assert np.abs(moved).max() <= 8
    lags = np.arange(-40, 41)
    fit = [(plain[:, 4000:36000] * after[:, 4000 + lag : 36000 + lag]).sum(1) for lag in lags]
    assert np.abs(lags[np.argmax(fit, axis=0)]).max() <= 1


def fine_v5(store):
    """(8, 40000): V5 of each record at 4000 Hz, below 30 Hz: noise moves the top of a broad R."""
    x = store.read(range(8))[:, LEADS.index("V5")]
    fine = sig.resample(x.astype(float), store.fs, 4000)
    return sosfiltfilt(butter(2, 30, fs=4000, output="sos"), fine, axis=-1)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Store:
    """Eight simulated ECGs of 10 s at 500 Hz."""
    from ecgkit.data.place import Folder
    from ecgkit.data.store import build_store
    from ecgkit.data.synthetic import write_cohort

    folder = tmp_path_factory.mktemp("simulated")
    write_cohort(folder / "cohort", n_ecgs=20, seed=3, rates=(500,))
    names = sorted(p.with_suffix("") for p in folder.rglob("*.hea"))[:8]
    jobs = [(k, str(name.relative_to(folder))) for k, name in enumerate(names)]
    return build_store(folder / "store", jobs, Folder(folder), key="k", fs=500, workers=Workers(1))


def test_up_and_down_again_returns_the_signal(simulated):
    """100 -> 500 -> 100 Hz, 1 s from the ends: within 1 % of each lead's deviation on average."""
    x = sig.filter_signal(View(simulated, fs=100).read(range(8)), 100, "bandpass")  # below 40 Hz
    back = sig.resample(sig.resample(x, 100, 500), 500, 100)
    off = ((back - x) / x.std(axis=-1, keepdims=True))[..., 100:-100]
    assert back.shape == x.shape and np.sqrt((off**2).mean()) < 0.01


def test_hum_does_not_hide_at_half_the_new_rate(ragged):
    t = np.arange(5000) / FS
    hum = np.broadcast_to(np.sin(2 * np.pi * 50 * t + 1), (1, 5000))
    down = sig.condition(hum, FS, 100, "powerline")
    assert np.abs(down[0, 200:-200]).max() < 0.01
    assert np.abs(sig.resample(hum, FS, 100)[0, 200:-200]).max() > 0.1  # it would have stayed
    sixty = np.sin(2 * np.pi * 60 * t)[None]
    assert np.abs(sig.condition(sixty, FS, FS, "powerline", 60)[0, 1000:-1000]).max() < 0.01


# --- cached ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize(
    "how",
    [
        {"fs": 100, "seconds": 10.0},
        {"fs": 250, "filter": "bandpass", "normalise": "per_lead", "leads": ("V2", "I")},
        {"fs": 100, "seconds": 7, "length": "segment", "normalise": "global"},
    ],
    ids=["crop", "own", "segment"],
)
def test_a_cached_view_is_the_view(ragged, tmp_path, how, n_jobs, monkeypatch):
    monkeypatch.setattr("ecgkit.data.store.SHARD_RECORDS", 3)
    view = View(ragged, **how)
    store = view.cached(tmp_path / "v", Workers(n_jobs))
    assert type(store) is Store and store.unit == view.unit
    assert (store.fs, store.leads, store.key) == (view.fs, view.leads, view.key)
    assert len(store) == len(view) and store.n_in == view.n_in
    for rows in ([4], [1, 0, 5], np.arange(len(view))):
        x, y, mask = view.read(rows, fill=False), store.read(rows, fill=False), view.mask(rows)
        assert np.array_equal(np.isnan(x), np.isnan(y))
        assert np.array_equal(mask, store.mask(rows))
        largest = np.nanmax(np.abs(x), axis=-1, keepdims=True)
        assert (np.nan_to_num(np.abs(x - y)) <= largest / 64000).all()
        assert np.isfinite(store.read(rows)).all()
    assert store.index["digest"].tolist() == view.index["digest"].tolist()
    assert store.index["n_missing"].tolist() == view.index["n_missing"].tolist()
    pd.testing.assert_frame_equal(store.quarantine, view.quarantine)


@pytest.mark.parametrize("length", ["crop", "pad", "segment"])
def test_values_nobody_touched_are_copied(ragged, tmp_path, length):
    view = View(ragged, seconds=8, length=length, leads=("V6", "I", "aVL"))
    store = view.cached(tmp_path / "v", Workers(1))
    rows = np.arange(len(view))
    for fill in (True, False):
        x, y = view.read(rows, fill), store.read(rows, fill)
        same = (x == y) | np.isnan(x) & np.isnan(y)
        gaps = np.isnan(view.read(rows, fill=False))
        assert same[~gaps].all()


def test_a_killed_cache_goes_on(ragged, tmp_path, monkeypatch):
    monkeypatch.setattr("ecgkit.data.store.SHARD_RECORDS", 2)
    view = View(ragged, fs=100)
    whole = view.cached(tmp_path / "whole", Workers(1))
    read, n = View.read, 0

    def dies(self, *args, **how):
        nonlocal n
        n += 1
        if n == 6:
            raise KeyboardInterrupt
        return read(self, *args, **how)

    monkeypatch.setattr(View, "read", dies)
    with pytest.raises(KeyboardInterrupt):
        view.cached(tmp_path / "again", Workers(1))
    again = view.cached(tmp_path / "again", Workers(1))
    assert n == 6 + 4  # of eight records the four in finished shards are not read again
    for path in sorted(whole.folder.rglob("*")):
        if path.is_file():
            other = again.folder / path.relative_to(whole.folder)
            assert path.read_bytes() == other.read_bytes()
    n = 0
    assert len(view.cached(tmp_path / "again")) == 8 and n == 0


def test_where_a_cache_stands_and_what_cannot_be_cached(ragged, cache):
    store = View(ragged, fs=100, seconds=2, leads=("I",)).cached(workers=Workers(1))
    assert store.folder.parent == cache and store.folder.name == f"view-{store.key}"
    with pytest.raises(DataError, match="no rows"):
        View(ragged, seconds=1000, length="segment").cached()


def test_rounding_keeps_its_promise():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 500)) * 10.0 ** rng.uniform(-4, 4, (40, 1))
    x[0], x[1, 3:9], x[2] = 0, np.nan, 1e-9
    values, gain = quantise(x.astype(np.float32))
    assert values.dtype == np.int16 and (values[1, 3:9] == MISSING).all()
    back = values / gain[:, None].astype(np.float32)
    back[values == MISSING] = np.nan
    off = np.abs(back - x)
    bound = np.maximum(np.nanmax(np.abs(x), axis=1, keepdims=True), 1e-6) / 64000
    assert np.nanmax(off / bound) <= 1 and (values[0] == 0).all()


# --- real recordings ------------------------------------------------------------------------------


@pytest.mark.parametrize("fs", [500, 100])
def test_real_recordings_end_to_end(shared, tmp_path, fs):
    """A view at 100 Hz comes close to PTB-XL's own 100 Hz files but for 0.2 s at their ends."""
    from ecgkit.data.store import build_store

    name = "ptbxl-subset-400.zip"
    place, names = recordings(shared, name, f"records{fs}/", 6)
    store = build_store(tmp_path / "s", names, place, key="k", fs=fs, workers=Workers(1))
    view = View(store, fs=250, seconds=8, filter="bandpass", normalise="per_lead")
    cached = view.cached(tmp_path / "v", Workers(1))
    x = view.read(range(len(view)))
    assert x.shape == (6, 12, 2000) and np.allclose(x.std(-1), 1, atol=1e-3)
    assert np.abs(cached.read(range(6)) - x).max() <= np.abs(x).max() / 64000
    if fs == 500:
        place, names = recordings(shared, name, "records100/", 6)
        low = build_store(tmp_path / "low", names, place, key="k", fs=100, workers=Workers(1))
        ours, theirs = View(store, fs=100).read(range(6)), low.read(range(6))
        inner = np.s_[:, :, 20:-20]
        alike = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours[inner], theirs[inner])
        ]
        assert min(alike) > 0.99


def test_real_challenge_recordings(shared, tmp_path):
    from ecgkit.data.store import build_store

    place, jobs = recordings(shared, "chapman-subset-10.zip", "", 10)
    store = build_store(tmp_path / "s", jobs, place, key="k", fs=500, workers=Workers(1))
    view = View(store, fs=100, seconds=5, length="segment", normalise="global")
    assert len(view) == 2 * len(store) and np.isfinite(view.read(range(len(view)))).all()


def recordings(shared, name, under, n):
    """The zip as a place, and jobs for its first records whose path holds `under`."""
    from ecgkit.data.place import open_place

    if not (shared / "data" / name).exists():
        pytest.skip(f"{name} is not among the shared data")
    place = open_place(shared / "data" / name)
    names = sorted(p[:-4] for p in place.names(".hea") if under in p)
    return place, [(k, name) for k, name in enumerate(names[:n])]
