"""What ESI is pretrained on: sources mixed by lead name, chosen, misaligned, tokenised, batched."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit.config import EsiConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.layouts import write_layout
from ecgkit.tasks import esi_batches, esi_data, esi_sources, esi_study
from ecgkit.text import question_cache
from ecgkit.text.captions import Captions
from ecgkit.text.encoders import small_bert
from ecgkit.types import LEADS, ConfigError, DataError


def settings(**given):
    return EsiConfig.from_params({"preset": "tiny", "cohort_size": 20, **given})


@pytest.fixture(scope="module")
def own():
    return open_cohort(settings(cohort_size=40))


@pytest.fixture(scope="module")
def mixture(own):
    return esi_data.open_mixture(settings(more_data="chapman, mimic"), own)


@pytest.fixture(scope="module")
def study(own):
    return esi_study.prepare(settings(n_steps=12), own)


# --- sources ---


def test_three_sources_are_one_list(mixture, own):
    assert mixture.labels() == ["synthetic", "chapman-shaoxing", "mimic-iv-ecg"]
    n_own = len(own.rows("train"))
    assert mixture.table()["pretraining"].tolist() == [n_own, 20, 20]
    assert mixture.table().shape == (3, 6) and "machine" in mixture.table()["text"].iloc[2]
    assert len(mixture) == len(own) + 40
    assert np.array_equal(mixture.row[: len(own)], np.arange(len(own)))  # rows are items
    people = [cohort.truth["age"].tolist() for cohort in mixture.cohorts[1:]]
    assert people[0] != people[1]  # others, not the same ones written twice


def test_a_mixed_batch_has_the_same_lead_in_the_same_row(mixture):
    mimic = mixture.cohorts[2]
    header = next(n for n in mimic.place.names(".hea"))
    spelt = [line.split()[-1] for line in mimic.place.read(header).decode().splitlines()[1:13]]
    assert spelt.index("aVF") < spelt.index("aVL")  # on disk they stand the other way round
    items = np.array([0, len(mixture) - 1, 3, len(mixture) - 25])
    assert set(mixture.source[items].tolist()) == {0, 1, 2}
    batch = dict(zip(LEADS, mixture.read(items).transpose(1, 0, 2)))
    avl, avf = (batch["I"] - batch["III"]) / 2, (batch["II"] + batch["III"]) / 2
    scale = np.abs(avl - avf).max(1)
    for name, value in (("aVL", avl), ("aVF", avf)):
        assert (np.abs(batch[name] - value).max(1) < 0.2 * scale).all(), name
    assert (np.abs(batch["aVL"] - avf).max(1) > 0.5 * scale).all()  # a swap would be seen
    for item, signal in zip(items, mixture.read(items)):
        cohort = mixture.cohorts[mixture.source[item]]
        assert np.array_equal(signal, cohort.record(int(mixture.row[item])).signal)


def test_no_patient_of_the_tested_folds_is_trained_on(own):
    config = settings(data=str(own.place.path))
    named = dataclasses.replace(own, name="ptbxl")
    folds = lambda cohort, rows: set(cohort.table["fold"].iloc[rows])  # noqa: E731
    assert folds(named, esi_sources.training_rows(own, named)) <= set(range(1, 9))
    assert not len(esi_sources.training_rows(own, own))  # its own ECGs once more
    others = own.table.assign(ecg_id=own.table["ecg_id"] + 10**6, fold=1)
    again = dataclasses.replace(own, table=others)
    rows = esi_sources.training_rows(own, again)
    held_out = own.table["patient_id"].iloc[np.r_[own.rows("valid"), own.rows("test")]]
    assert 0 < len(rows) < len(again)
    assert not set(again.table["patient_id"].iloc[rows]) & set(held_out)
    with pytest.raises(DataError, match="already in"):
        esi_data.open_mixture(dataclasses.replace(config, more_data=str(own.place.path)), own)


def test_ptbxl_in_challenge_form_is_refused(own, tmp_path):
    folder = write_layout(tmp_path / "chapman", "chapman-shaoxing", 2, seed=3)
    for path in sorted(folder.rglob("JS*")):
        text = path.read_bytes().replace(b"JS", b"HR")
        path.rename(path.with_name(path.name.replace("JS", "HR"))).write_bytes(text)
    with pytest.raises(DataError, match="give PTB-XL itself"):
        esi_data.open_mixture(settings(more_data=str(folder)), own)


def test_what_is_no_source_is_named(own):
    with pytest.raises(DataError, match="MORE_DATA names 'nowhere'.*nor a layout"):
        esi_data.open_mixture(settings(more_data="nowhere"), own)
    with pytest.raises(ConfigError, match="ONLY_SOURCE is 'mimic'; the sources are synthetic"):
        esi_data.open_mixture(settings(only_source="mimic"), own)


def test_one_source_alone(own):
    mixture = esi_data.open_mixture(settings(more_data="mimic", only_source="mimic"), own)
    assert mixture.table()["pretraining"].tolist() == [0, 20]
    assert len(mixture) == len(own) + 20  # the own ECGs are still there to look at
    ptbxl = esi_data.open_mixture(settings(more_data="mimic", only_source="ptbxl"), own)
    assert ptbxl.table()["pretraining"].tolist() == [len(own.rows("train")), 0]


def test_a_source_without_training_folds_is_refused(own):
    held = dataclasses.replace(own, table=own.table.assign(fold=10))
    with pytest.raises(DataError, match="no record in folds 1-8"):
        esi_study.prepare(settings(), held)


# --- how many, and which captions ---


def test_a_smaller_choice_is_part_of_a_larger_one(own):
    chosen = [set(esi_data.open_mixture(settings(n_pretrain=n), own).train) for n in (5, 9, 0)]
    assert [len(c) for c in chosen] == [5, 9, len(own.rows("train"))]
    assert chosen[0] < chosen[1] < chosen[2]
    with pytest.raises(DataError, match="N_PRETRAIN is 1000, but there are"):
        esi_data.open_mixture(settings(n_pretrain=1000), own)


@pytest.mark.parametrize("share, n", [(0.0, 0), (0.25, 10), (0.5, 20), (1.0, 40)])
def test_exactly_the_asked_share_is_misaligned(share, n):
    train = np.arange(100, 140)
    caption_of = esi_data.dealt(train, 200, share, seed=1)
    moved = caption_of != np.arange(200)
    assert moved.sum() == n and not moved[:100].any() and not moved[140:].any()
    assert np.array_equal(np.sort(caption_of), np.arange(200))  # each caption is used once
    assert np.array_equal(caption_of, esi_data.dealt(train, 200, share, seed=1))
    assert n == 0 or not np.array_equal(caption_of, esi_data.dealt(train, 200, share, seed=2))


def test_one_pair_cannot_be_misaligned():
    with pytest.raises(ConfigError, match="one of 10 pairs"):
        esi_data.dealt(np.arange(10), 10, 0.1, seed=0)


def test_shuffled_pairs_read_the_other_caption(own):
    study = esi_study.prepare(settings(shuffled_share=0.5, n_steps=2), own)
    assert "another ECG" in study.summary()
    item = study.train[study.caption_of[study.train] != study.train][0]
    entries = np.flatnonzero(study.train == item) * study.tokens.n_wordings
    batch = esi_batches.batch_maker(study)(entries, np.random.default_rng(0))
    other = study.tokens.read([study.caption_of[item]])
    assert torch.equal(batch["ids"], other["ids"])
    assert not torch.equal(esi_batches.fixed_batch(study, [item])["ids"], other["ids"])


# --- text ---


def test_long_captions_are_cut_before_their_end_and_counted(study):
    tokens, end = study.tokens, study.tokenizer.sep_token_id
    assert "of more than 48 tokens are cut there" in study.summary()
    whole = study.tokenizer(study.captions.full[0])["input_ids"]
    assert len(whole) > tokens.max_tokens and tokens.n_cut([0]) == 1
    assert tokens.read([0])["ids"][0].tolist() == [*whole[: tokens.max_tokens - 1], end]
    for room in (3, 7, 48):
        batch = tokens.read(np.arange(9), 1, room)
        last = batch["mask"].sum(1) - 1
        assert batch["ids"].shape[1] <= room
        assert (batch["ids"][torch.arange(9), last] == end).all()
        assert np.array_equal(last + 1, tokens.lengths(np.arange(9), 1, room))


def test_the_text_encoder_decides_how_long_a_caption_may_be(own, monkeypatch):
    monkeypatch.setattr(esi_study, "small_bert", lambda v, w, n, _: small_bert(v, w, n, 9))
    study = esi_study.prepare(settings(), own)
    assert "of more than 9 tokens are cut there" in study.summary()
    batch = esi_batches.fixed_batch(study, own.rows("valid"))
    assert batch["ids"].shape[1] == 9 and (batch["ids"][:, 8] == study.tokenizer.sep_token_id).all()


def test_captions_are_tokenised_once(study, own, monkeypatch):
    def write(*args):
        raise AssertionError("tokenised again")

    monkeypatch.setattr(question_cache, "_write", write)
    again = esi_study.prepare(settings(n_steps=12), own)
    everything = np.arange(len(study.mixture))
    assert torch.equal(again.tokens.read(everything)["ids"], study.tokens.read(everything)["ids"])
    with pytest.raises(AssertionError, match="tokenised again"):
        esi_study.prepare(settings(n_steps=12, max_tokens=20), own)


def test_captions_are_written_by_the_assistant_or_without(study, own):
    assert any("waveforms:" in text for text in study.captions.full)
    without = esi_study.prepare(settings(cqa=False), own)
    assert without.assistant is None
    assert not any("waveforms:" in text for text in without.training_texts())


def test_text_of_real_mimic_records_stays_here(own, tmp_path):
    folder = write_layout(tmp_path / "mimic", "mimic-iv-ecg", 3, seed=3)
    remote = {"embedder": "endpoint:e5", "llm_url": "https://llm.example.org/v1"}
    config = settings(more_data=str(folder), **remote)
    (folder / "truth.csv").unlink()  # nothing tells any more that it is simulated
    with pytest.raises(ConfigError, match="ALLOW_REMOTE_TEXT"):
        esi_study.prepare(config, own)


def with_captions(monkeypatch, change):
    write = esi_study.write_captions

    def changed(*args):
        full = [change(i, text) for i, text in enumerate(write(*args).full)]
        return Captions(full, [[text] * 3 for text in full])

    monkeypatch.setattr(esi_study, "write_captions", changed)


def test_ecgs_without_a_caption_are_left_out_and_counted(own, monkeypatch):
    gone = own.rows("train")[:2].tolist()
    with_captions(monkeypatch, lambda i, text: "  \n" if i in gone else text)
    study = esi_study.prepare(settings(), own)
    assert "2 ECGs without a caption are left out" in study.summary()
    assert set(study.mixture.train) - set(study.train) == set(gone)
    with_captions(monkeypatch, lambda i, text: "")
    with pytest.raises(DataError, match="has a caption"):
        esi_study.prepare(settings(), own)


# --- batches ---


def test_each_step_reads_one_wording_of_different_ecgs(study):
    order = esi_batches.CaptionBatches(study)
    n, seen = study.tokens.n_wordings, {w: [] for w in range(study.tokens.n_wordings)}
    for step in range(12):
        p, wording = np.divmod(order(step), n)
        assert len(set(p)) == order.batch_size == 16 and len(set(wording)) == 1
        seen[int(wording[0])].extend(p.tolist())
    assert order.step == 11
    for w, items in seen.items():  # an epoch: no ECG twice before the others
        epoch = len(study.train) // 16 * 16
        assert len(set(items[:epoch])) == min(epoch, len(items)), w


def test_little_of_a_batch_is_padding(tiny_cohort, monkeypatch):
    given = {"preset": "tiny", "n_steps": 60, "full_share": 1.0, "max_tokens": 160}
    study = esi_study.prepare(EsiConfig.from_params(given), tiny_cohort)
    sorted_ = padding_share(study, 60)
    monkeypatch.setattr(esi_batches, "WINDOW", 1)
    assert sorted_ < 0.2 < 0.3 < padding_share(study, 60)


def padding_share(study, n_steps: int) -> float:
    """Share of the text positions of the first batches that hold padding."""
    order, make = esi_batches.CaptionBatches(study), esi_batches.batch_maker(study)
    masks = [make(order(step), np.random.default_rng(0))["mask"] for step in range(n_steps)]
    return 1 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


def test_batches_depend_on_the_generator_alone(study):
    make = esi_batches.batch_maker(study)
    one, two, other = (make(np.arange(8), np.random.default_rng([0, 2, s])) for s in (5, 5, 6))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert one["signals"].shape == (8, 12, 100 * study.config.crop_s)  # 100 Hz
    assert one["ids"].dtype == torch.int64
    assert not torch.equal(one["signals"], other["signals"])


def test_a_crop_is_a_stretch_of_each_ecg(own):
    x = own.store.read([0, 1])
    part = esi_batches.cropped(x, np.random.default_rng(0), 5.0, 100)
    assert part.shape == (2, 12, 500)
    windows = np.lib.stride_tricks.sliding_window_view(x, 500, axis=-1)  # (2, 12, 501, 500)
    found = (windows == part[:, :, None]).all((1, 3))
    assert found.any(1).all() and found.argmax(1)[0] != found.argmax(1)[1]
    for seconds in (0.0, 10.0, 99.0):
        assert esi_batches.cropped(x, np.random.default_rng(0), seconds, 100) is x


def test_time_shift_joins_the_start_to_the_end(own):
    x = own.store.read([0, 1])
    moved = esi_batches.augmented(x, np.random.default_rng(0), shift=True)
    still = esi_batches.augmented(x, np.random.default_rng(0))
    assert np.abs(moved - still).max() > 0.5
    spread = [np.sort(y.reshape(24, -1), axis=1) for y in (moved, still)]
    assert np.abs(spread[0] - spread[1]).mean() < 0.02  # the same samples at other times


def test_a_lead_without_samples_is_quarantined_or_read_as_zero(own, tmp_path, capsys):
    folder = write_layout(tmp_path / "mimic", "mimic-iv-ecg", 4, seed=3)
    path = sorted(folder.rglob("*.dat"))[0]
    samples = np.fromfile(path, "<i2").reshape(-1, 12)
    samples[:, 6] = -(2**15)  # V1: WFDB's mark of a missing sample
    samples.tofile(path)
    header = path.with_suffix(".hea")
    lines = header.read_text().splitlines()
    fields = lines[7].split()
    fields[5:7] = [str(-(2**15)), "0"]  # first value and checksum
    lines[7] = " ".join(fields)
    header.write_text("\n".join(lines) + "\n")
    config = settings(more_data=str(folder), only_source="mimic")
    assert esi_data.open_mixture(config, own).table()["pretraining"].tolist() == [0, 3]
    assert "1 missing_lead" in capsys.readouterr().out
    mixture = esi_data.open_mixture(dataclasses.replace(config, accept="missing_lead"), own)
    signals = mixture.read(mixture.train)
    assert len(signals) == 4 and np.isfinite(signals).all()
    assert np.isfinite(esi_batches.augmented(signals, np.random.default_rng(0))).all()


def test_names_tell_the_source(mixture, own):
    first, last = mixture.names([0, len(mixture) - 1])
    assert first == f"synthetic {own.table['ecg_id'].iloc[0]}"
    assert last.startswith("mimic-iv-ecg ") and isinstance(mixture.table(), pd.DataFrame)


def test_a_crop_is_a_stretch_of_the_same_ecg():
    signals = np.arange(2 * 3 * 100, dtype=np.float32).reshape(2, 3, 100)
    out = esi_batches.cropped(signals, np.random.default_rng(0), 0.5, 100)
    assert out.shape == (2, 3, 50)
    for row, crop in zip(signals, out):
        start = int(np.flatnonzero(row[0] == crop[0, 0])[0])
        assert np.array_equal(row[:, start : start + 50], crop)  # all leads from one moment
    for whole in (0.0, 1.0, 9.0):
        assert esi_batches.cropped(signals, np.random.default_rng(0), whole, 100) is signals
