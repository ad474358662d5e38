"""The store: exact, resumable, and honest about what it left out."""

import json

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgkit.data import store as stores
from ecgkit.data.place import Folder
from ecgkit.data.store import Store, build_store
from ecgkit.types import LEADS, DataError


def write(folder, name, digital, fs=100, gain=1000.0, leads=LEADS):
    gains = [gain] * len(leads) if np.isscalar(gain) else list(gain)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        d_signal=digital,
        fmt=["16"] * len(leads),
        adc_gain=gains,
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )


@pytest.fixture
def records(tmp_path):
    """Plain, unlike gains, short, long, at 500 Hz, with gaps; and three that are unusable."""
    folder, rng = tmp_path / "records", np.random.default_rng(0)
    folder.mkdir()
    noise = {n: rng.integers(-900, 900, (n, 12)) for n in (1000, 800, 1201, 5000)}
    write(folder, "a", noise[1000])
    write(folder, "gains", noise[1000], gain=[1000.0] * 6 + [500.0] * 6)
    write(folder, "short", noise[800])
    write(folder, "long", noise[1201])
    write(folder, "fast", noise[5000], fs=500)
    gaps = noise[1000].copy()
    gaps[10:20, 3], gaps[:, 4] = -32768, -32768
    write(folder, "gaps", gaps)
    write(folder, "flat", np.full((1000, 12), 5))
    write(folder, "eight", noise[1000][:, :8], leads=LEADS[:8])
    write(folder, "last", noise[1000][::-1])
    jobs = list(
        enumerate(
            ["a", "gains", "short", "long", "fast", "gaps", "flat", "eight", "absent", "last"]
        )
    )
    return Folder(folder), jobs


def build(tmp_path, records, name="store"):
    place, jobs = records
    return build_store(tmp_path / name, jobs, place, fs=100, seconds=10.0, key="k")


def test_what_is_stored_is_what_was_recorded(tmp_path, records):
    store, place = build(tmp_path, records), records[0]
    assert list(store.index["ecg_id"]) == [0, 1, 2, 3, 4, 5, 9]
    for row, name in ((0, "a"), (1, "gains"), (6, "last")):
        expected = wfdb.rdrecord(str(place.root / name)).p_signal.T.astype(np.float32)
        assert np.array_equal(store.read(row)[0], expected), name
    assert store.read([0, 6]).dtype == np.float32 and store.read([0, 6]).shape == (2, 12, 1000)


def test_length_is_cropped_or_padded_around_the_middle(tmp_path, records):
    store, place = build(tmp_path, records), records[0]
    short = wfdb.rdrecord(str(place.root / "short")).p_signal.T.astype(np.float32)
    long = wfdb.rdrecord(str(place.root / "long")).p_signal.T.astype(np.float32)
    assert np.array_equal(store.read(2)[0][:, 100:900], short)
    assert (store.read(2)[0][:, :100] == 0).all() and (store.read(2)[0][:, 900:] == 0).all()
    assert np.array_equal(store.read(3)[0], long[:, 100:1100])
    assert list(store.index["n_source"].iloc[2:5]) == [800, 1201, 5000]


def test_gaps_are_filled_or_shown(tmp_path, records):
    store = build(tmp_path, records)
    raw, filled = store.read(5, fill=False)[0], store.read(5)[0]
    assert np.isnan(raw).sum() == 1010 and np.isnan(raw[3, 10:20]).all()
    assert np.isfinite(filled).all() and (filled[4] == 0).all()
    assert filled[3, 12] == pytest.approx(np.nanmean(raw[3]), abs=1e-6)


def test_quarantine_names_reason_sentence_and_source(tmp_path, records):
    store = build(tmp_path, records)
    assert store.n_in == 10 == len(store) + len(store.quarantine)
    assert dict(zip(store.quarantine["ecg_id"], store.quarantine["reason"])) == {
        6: "no_signal",
        7: "missing_leads",
        8: "missing_file",
    }
    assert list(store.quarantine["source"]) == ["flat", "eight", "absent"]
    assert store.quarantine["sentence"].str.startswith("Record ").all()


def test_a_killed_build_goes_on_where_it_stopped(tmp_path, records, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_SIZE", 3)
    whole = build(tmp_path, records, "whole")
    real, seen = stores.read_raw, []

    def read_until_killed(place, name):
        seen.append(name)
        if name == "gaps" and seen.count("gaps") == 1:
            raise KeyboardInterrupt
        return real(place, name)

    monkeypatch.setattr(stores, "read_raw", read_until_killed)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, records)
    assert not (tmp_path / "store" / "store.json").exists()
    resumed = build(tmp_path, records)
    assert seen.count("a") == 1 and seen.count("gaps") == 2
    pd.testing.assert_frame_equal(resumed.index, whole.index)
    assert np.array_equal(resumed.read(range(7)), whole.read(range(7)))
    assert not list((tmp_path / "store").rglob("*.part"))


def test_rows_in_any_order_and_over_shards(tmp_path, records, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_SIZE", 2)
    store = build(tmp_path, records)
    rows = [6, 0, 3, 0]
    assert np.array_equal(store.read(rows), np.concatenate([store.read(r) for r in rows]))
    assert store.read([]).shape == (0, 12, 1000)
    with pytest.raises(DataError, match="outside the store"):
        store.read([7])


def test_reading_again_needs_no_recordings(tmp_path, records):
    built = build(tmp_path, records)
    for file in records[0].root.iterdir():
        file.unlink()
    again = Store(tmp_path / "store")
    assert np.array_equal(again.read(range(7)), built.read(range(7)))
    assert json.loads((tmp_path / "store" / "store.json").read_text())["n_quarantined"] == 3


def test_nothing_to_store_and_a_damaged_store_are_sentences(tmp_path, records):
    with pytest.raises(DataError, match="None of 1 records"):
        build_store(tmp_path / "x", [(1, "absent")], records[0], 100, 10.0, "k")
    build(tmp_path, records)
    (tmp_path / "store" / "shard-00000.npy").unlink()
    with pytest.raises(DataError, match="delete that folder"):
        Store(tmp_path / "store").read(0)
    (tmp_path / "store" / "index.csv").unlink()
    with pytest.raises(DataError, match="delete that folder"):
        Store(tmp_path / "store")
