"""The loader: the same batches whoever reads them, and what a batch says of itself."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from ecgkit.data.loader import EcgDataset, collate, describe
from ecgkit.data.packing import Packed
from ecgkit.data.parallel import Workers
from ecgkit.data.store import write_store
from ecgkit.data.view import View
from ecgkit.types import LEADS, DataError

SECONDS = (10, 6, 15, 10, 33.5, 60, 10, 8)


def noise(job):
    n = job[2]
    values = np.random.default_rng(n).integers(-900, 900, (12, round(SECONDS[n % 8] * 100)))
    return Packed(values.astype(np.int16), np.full(12, 1000.0), {"n_missing": 0})


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    jobs = [(f"A{k:02d}", f"r{k}", k) for k in range(20)]
    folder = tmp_path_factory.mktemp("stores") / "ragged"
    how = {"key": "k", "fs": 100, "columns": ("n_missing",), "workers": Workers(1)}
    return write_store(folder, jobs, noise, **how)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(0, 2, (20, 5)).astype(np.float32)


def batches(data, **how):
    return list(DataLoader(data, batch_size=8, collate_fn=collate, **how))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert list(a) == list(b)
        for name in a:
            if torch.is_tensor(a[name]):
                assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name])
            else:
                assert a[name] == b[name]


def test_a_batch_is_its_rows(ragged, labels):
    rows = [5, 3, 3, 19, 0, 7, 11, 2, 1]
    data = EcgDataset(ragged, rows, labels[rows], columns=("ecg_id",))
    first, last = batches(data)
    assert np.array_equal(first["signal"], ragged.read(rows[:8]))
    assert np.array_equal(first["mask"], ragged.mask(rows[:8]))
    assert first["row"].tolist() == rows[:8] and np.array_equal(first["label"], labels[rows[:8]])
    assert first["ecg_id"] == [f"A{row:02d}" for row in rows[:8]]
    assert (first["fs"], first["leads"], first["unit"]) == (100, LEADS, "mV")
    assert last["signal"].shape == (1, 12, 600)  # as long as its own longest


def test_samples_taken_one_by_one_give_the_same_batch(ragged, labels):
    data = EcgDataset(ragged, labels=labels, columns=("ecg_id",))
    rows = [1, 0, 4, 9]
    assert_same([collate([data[row] for row in rows])], [data.__getitems__(rows)])
    assert data[-1]["ecg_id"] == "A19" and data[-1]["signal"].shape[0] == 12
    assert len(list(data)) == 20
    assert_same(batches(Subset(data, rows)), [data.__getitems__(rows)])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_give_the_same_batches(ragged, labels, start):
    view = View(ragged, fs=50, seconds=10, filter="highpass", normalise="per_lead", leads=("II",))
    data = EcgDataset(view, labels=labels, columns=("ecg_id",))
    for source in (data, EcgDataset(ragged)) if start == "fork" else (data,):
        many = batches(source, num_workers=2, multiprocessing_context=start)
        assert_same(many, batches(source))


def test_shuffling_is_the_samplers_and_reads_every_row_once(ragged):
    generator = torch.Generator().manual_seed(0)
    data = EcgDataset(View(ragged, seconds=5))
    rows = torch.cat([b["row"] for b in batches(data, shuffle=True, generator=generator)])
    assert rows.tolist() != list(range(20)) and sorted(rows.tolist()) == list(range(20))


def test_a_batch_says_what_it_is(ragged, labels, capsys):
    data = EcgDataset(View(ragged, seconds=10), labels=labels, columns=("ecg_id",))
    describe(data.__getitems__(range(8)))
    assert capsys.readouterr().out == (
        "batch of 8: signal (8, 12, 1000) float32 mV at 100 Hz, leads I II III aVR aVL aVF V1 V2 "
        "V3 V4 V5 V6; mask (8, 1000) bool, True = padding (7.5 % of samples); labels (8, 5) "
        "float32; ecg_id 8\n"
    )
    describe(EcgDataset(View(ragged, normalise="global", leads=("V2",)), rows=[1, 2]))
    out = capsys.readouterr().out
    assert out.startswith("2 ECGs of 20; the first as a\nbatch of 1: signal (1, 1, 600) float32")
    assert "standard deviations at 100 Hz, leads V2" in out and "labels" not in out
    describe(EcgDataset(ragged, rows=[]))
    assert "batch of 0" in capsys.readouterr().out


def test_what_does_not_fit_is_said_at_once(ragged, labels):
    with pytest.raises(DataError, match="20 labels for 3 rows"):
        EcgDataset(ragged, [1, 2, 3], labels)
    with pytest.raises(DataError, match="Rows 3 to 20 .* has 0 to 19"):
        EcgDataset(ragged, [3, 20])
    with pytest.raises(DataError, match="no column patient"):
        EcgDataset(ragged, columns=("patient",))
    with pytest.raises(IndexError):
        EcgDataset(ragged)[20]
