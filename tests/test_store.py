"""The store: lossless, and honest about what it left out."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgkit.data import store as stores
from ecgkit.data.packing import Packed
from ecgkit.data.place import Folder
from ecgkit.data.shards import _Maps
from ecgkit.data.store import Store, build_store, write_store
from ecgkit.types import LEADS, DataError

ACCEPT = ("no_signal", "flat_lead", "amplitude", "lead_identity")


def write(folder, name, digital, fs=100, gain=1000.0, leads=LEADS, baseline=0):
    gains = [gain] * len(leads) if np.isscalar(gain) else list(gain)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        d_signal=digital,
        fmt=["16"] * len(leads),
        adc_gain=gains,
        baseline=[baseline] * len(leads),
        write_dir=str(folder),
    )


def noise(n, seed=0):
    """(n, 12) digital: noise that obeys the laws of the limb leads."""
    rng = np.random.default_rng(seed)
    one, two = 2 * rng.integers(-400, 400, (2, n))
    limb = [one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2]
    return np.stack([*limb, *rng.integers(-900, 900, (6, n))], axis=1)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Plain, unlike gains, short, long, at 500 Hz, with gaps; and three that are unusable."""
    folder = tmp_path_factory.mktemp("records")
    write(folder, "a", noise(1000))
    write(folder, "gains", noise(1000), gain=[1000.0] * 6 + [500.0] * 6)
    write(folder, "short", noise(800))
    write(folder, "long", noise(1201))
    write(folder, "fast", noise(5000), fs=500)
    gaps = noise(1000)
    gaps[10:20, 3], gaps[:400, 8] = -32768, -32768
    write(folder, "gaps", gaps)
    write(folder, "flat", np.full((1000, 12), 5))
    write(folder, "eight", noise(1000)[:, :8], leads=LEADS[:8])
    write(folder, "last", noise(1000)[::-1], baseline=20)
    names = ["a", "gains", "short", "long", "fast", "gaps", "flat", "eight", "absent", "last"]
    return Folder(folder), list(enumerate(names))


@pytest.fixture(scope="module")
def store(tmp_path_factory, records):
    return build(tmp_path_factory.mktemp("stores"), records)


@pytest.fixture(scope="module")
def ragged(tmp_path_factory, records):
    return build(tmp_path_factory.mktemp("stores"), records, seconds=None)


def build(tmp_path, records, name="store", seconds=10.0, **how):
    place, jobs = records
    return build_store(tmp_path / name, jobs, place, fs=100, seconds=seconds, key="k", **how)


def reference(records, name):
    """(C, T) mV as `wfdb` reads it, in single precision."""
    return wfdb.rdrecord(str(records[0].root / name)).p_signal.T.astype(np.float32)


def test_what_is_stored_is_what_was_recorded(store, records):
    assert list(store.index["ecg_id"]) == [0, 1, 2, 3, 4, 5, 9]
    for row, name in ((0, "a"), (1, "gains"), (6, "last")):
        record = wfdb.rdrecord(str(records[0].root / name), physical=False)
        values, gain = store.packed(row)
        assert np.array_equal(values, record.d_signal.T - np.array(record.baseline)[:, None]), name
        assert np.array_equal(gain, record.adc_gain)
        np.testing.assert_array_equal(store.read(row)[0], reference(records, name))
    assert store.read([0, 6]).dtype == np.float32 and store.read([0, 6]).shape == (2, 12, 1000)


def test_length_is_cropped_or_padded_around_the_middle(store, records):
    short, long = reference(records, "short"), reference(records, "long")
    np.testing.assert_array_equal(store.read(2)[0][:, 100:900], short)
    assert (store.read(2)[0][:, :100] == 0).all() and (store.read(2)[0][:, 900:] == 0).all()
    np.testing.assert_array_equal(store.read(3)[0], long[:, 100:1100])
    assert list(store.index["n_source"].iloc[2:5]) == [800, 1201, 5000]
    assert list(store.lengths) == [1000, 1000, 800, 1000, 1000, 1000, 1000]
    mask = store.mask([0, 2])
    assert not mask[0].any() and list(np.flatnonzero(~mask[1])[[0, -1]]) == [100, 899]


def test_records_keep_their_own_lengths(ragged, records):
    assert list(ragged.lengths) == [1000, 1000, 800, 1201, 1000, 1000, 1000]
    assert ragged.seconds is None and ragged.n_samples == 1201
    batch, mask = ragged.read([2, 3, 0]), ragged.mask([2, 3, 0])
    assert batch.shape == (3, 12, 1201) and mask.shape == (3, 1201)
    for b, name in enumerate(("short", "long", "a")):
        n = reference(records, name).shape[1]
        np.testing.assert_array_equal(batch[b, :, :n], reference(records, name))
        assert (batch[b, :, n:] == 0).all() and mask[b, n:].all() and not mask[b, :n].any()
    assert ragged.read([2]).shape == (1, 12, 800) and not ragged.mask([2]).any()


def test_gaps_are_filled_or_shown(store):
    raw, filled = store.read(5, fill=False)[0], store.read(5)[0]
    assert np.isnan(raw).sum() == 410 and np.isnan(raw[3, 10:20]).all()
    assert np.isfinite(filled).all()
    assert filled[8, 12] == pytest.approx(np.nanmean(raw[8]), abs=1e-6)


def test_quarantine_names_reason_sentence_and_source(store):
    assert store.n_in == 10 == len(store) + len(store.quarantine)
    assert dict(zip(store.quarantine["ecg_id"], store.quarantine["reason"])) == {
        6: "no_signal",
        7: "missing_leads",
        8: "missing_file",
    }
    assert list(store.quarantine["source"]) == ["flat", "eight", "absent"]
    assert store.quarantine["sentence"].str.startswith("Record ").all()
    described = store.describe()
    assert "10 ECGs in = 7 stored + 3 quarantined" in described and "1 no_signal" in described
    assert "(B, 12, 1000) float32 mV at 100 Hz, 8 to 10 s" in described


def test_rates_rule_out_and_reasons_are_accepted(tmp_path, records):
    strict = build(tmp_path, records, "strict", rates=(100,))
    assert dict(zip(strict.quarantine["ecg_id"], strict.quarantine["reason"]))[4] == "wrong_rate"
    lenient = build(tmp_path, records, "lenient", accept=ACCEPT)
    assert 6 in set(lenient.index["ecg_id"]) and lenient.n_in == 10
    np.testing.assert_array_equal(lenient.read(6), np.float32(0.005))


def test_another_rate_is_resampled_with_its_own_gain(ragged, records):
    fast = reference(records, "fast")
    assert ragged.lengths[4] == 1000
    assert np.abs(ragged.read(4)[0].mean(1) - fast.mean(1)).max() < 1e-3
    values, _ = ragged.packed(4)
    assert np.abs(values).max() > 30000


def test_rows_in_any_order_and_over_shards(tmp_path, records, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_RECORDS", 2)
    monkeypatch.setattr(_Maps, "LIMIT", 2)
    store = build(tmp_path, records)
    rows = [6, 0, 3, 0]
    assert np.array_equal(store.read(rows), np.concatenate([store.read(r) for r in rows]))
    assert len(store._maps._open) <= 2 and store.index["shard"].nunique() == 4
    assert store.read([]).shape == (0, 12, 1000) and store.mask([]).shape == (0, 1000)
    for bad in ([7], [0, -1]):
        with pytest.raises(DataError, match="outside the store"):
            store.read(bad)


def test_reading_into_a_buffer(store, ragged):
    buffer = np.full((2, 12, 1000), 7, np.float32)
    assert store.read([0, 2], out=buffer) is buffer
    assert np.array_equal(buffer, store.read([0, 2]))
    wide = np.full((2, 12, 1300), 7, np.float32)
    assert np.array_equal(ragged.read([2, 0], out=wide)[:, :, :1000], ragged.read([2, 0]))
    assert (wide[:, :, 1000:] == 0).all()
    for wrong in (buffer[:1], buffer.astype(np.float64), wide):
        with pytest.raises(DataError, match="float32 \\(2, 12, 1000\\)"):
            store.read([0, 2], out=wrong)


def test_a_copy_in_another_process_reads_the_same(store):
    content = pickle.dumps(store)
    assert len(content) < 1000  # tables and maps stay where they are
    assert np.array_equal(pickle.loads(content).read(range(7)), store.read(range(7)))


def test_reading_again_needs_no_recordings(store):
    again = Store(store.folder)
    assert np.array_equal(again.read(range(7)), store.read(range(7)))
    assert json.loads((store.folder / "store.json").read_text())["n_quarantined"] == 3
    pd.testing.assert_frame_equal(again.index, store.index)
    assert list(again.index["digest"].str.len().unique()) == [16]


def test_records_of_any_maker(tmp_path):
    def pack(job):
        values = np.full((2, 100 + job[0]), job[0] / 4, np.float32)
        return Packed(values, np.ones(2), {"n_missing": 0, "note": "even" if job[0] % 2 else "odd"})

    made = write_store(
        tmp_path / "made",
        [(n, "maker") for n in range(3)],
        pack,
        key="m",
        fs=50,
        seconds=2.5,
        leads=("I", "II"),
        dtype="float32",
        align="start",
        columns=("n_missing", "note"),
    )
    assert made.n_samples == 125 and (made.read(2)[0, :, :102] == 0.5).all()
    assert made.mask([2])[0].argmax() == 102 and list(made.index["note"]) == ["odd", "even", "odd"]


def test_one_odd_record_does_not_end_the_build(tmp_path):
    def pack(job):
        return Packed(np.ones((12, 10), np.int16), np.ones(12), {"n_missing": 1 // job[0]})

    odd = write_store(
        tmp_path, [(n, "x") for n in (0, 1)], pack, key="k", fs=1, columns=("n_missing",)
    )
    assert len(odd) == 1 and list(odd.quarantine["reason"]) == ["unexpected"]
    assert "ZeroDivisionError" in odd.quarantine["sentence"].iloc[0]


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half(tmp_path, records, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(DataError, match="No space left.*make room or set ECGKIT_CACHE"):
            build(tmp_path, records)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(build(tmp_path, records)) == 7


def test_shards_are_bounded_in_records_and_bytes():
    assert stores.shard_records(500, None, 12, 2) == stores.shard_records(100, 10.0, 12, 2) == 512
    assert stores.shard_records(1000, 60.0, 12, 4) * 1000 * 60 * 12 * 4 <= stores.SHARD_BYTES
    assert stores.shard_records(1000, 3600.0, 12, 4) == 1


def test_nothing_to_store_and_a_damaged_store_are_sentences(tmp_path, records):
    with pytest.raises(DataError, match="None of 1 records could be stored; the first: Record 1"):
        build_store(tmp_path / "x", [(1, "absent")], records[0], key="k", fs=100)
    with pytest.raises(DataError, match="lists no record"):
        build_store(tmp_path / "y", [], records[0], key="k", fs=100)


@pytest.mark.parametrize("file", ["store.json", "index.csv", "quarantine.csv", "shard-00000.npy"])
@pytest.mark.parametrize("keep", [None, 0.0, 0.1, 0.6])
def test_a_store_damaged_after_it_was_finished(tmp_path, records, file, keep):
    """Half of a table is noticed as well: the rows behind it would be lost without a word."""
    build(tmp_path, records)
    path = tmp_path / "store" / file
    whole = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(DataError, match="store in .* cannot be read .*; delete it and run again"):
        Store(tmp_path / "store")


def test_a_shard_that_goes_away_while_it_is_in_use(tmp_path, records):
    store = build(tmp_path, records)
    (tmp_path / "store" / "shard-00000.npy").unlink()
    with pytest.raises(DataError, match="shard-00000.npy.*delete it and run again"):
        Store(tmp_path / "store")
    with pytest.raises(DataError, match="shard-00000.npy.*delete it and run again"):
        store.read(0)
