"""What is measured of each record, who is let through, and the doctor's table made from it."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.config import KitConfig
from ecgkit.data import doctor, quality, reader_trials, sources
from ecgkit.data.cohort import open_cohort
from ecgkit.data.damages import DAMAGES, damaged_copies
from ecgkit.data.place import open_place
from ecgkit.data.quality import COLUMNS, examine, problem
from ecgkit.data.records import RawRecord, read_raw
from ecgkit.data.store import build_store
from ecgkit.types import LEADS, ConfigError


@pytest.fixture(scope="module")
def ptbxl(shared):
    return open_place(shared / "data" / "ptbxl-subset-400.zip", "ptbxl_database.csv", "PTB-XL")


@pytest.fixture(scope="module")
def chapman(shared):
    return open_place(shared / "data" / "chapman-subset-10.zip", "JS20000.hea", "Chapman")


@pytest.fixture(scope="module")
def real(ptbxl):
    return [read_raw(ptbxl, f"records500/00000/{n:05d}_hr") for n in range(1, 401, 16)]


def ecg(seed=0, n=1000, fs=100) -> RawRecord:
    """Twelve leads of filtered noise in which the limb identities hold, 1000 units per mV."""
    rng = np.random.default_rng(seed)
    free = np.cumsum(rng.normal(0, 30, (8, n)), axis=1)
    free -= free.mean(axis=1, keepdims=True)
    i, ii = free[:2]
    limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
    digital = np.rint(np.vstack([*limb, free[2:]])).astype(np.int16)
    sums = tuple((digital.sum(axis=1, dtype=np.int64) % 65536).tolist())
    return RawRecord(digital, np.full(12, 1000.0), np.zeros(12, int), fs, LEADS, checksums=sums)


def test_all_real_ptbxl_pass(ptbxl):
    names = [name.removesuffix(".hea") for name in ptbxl.names(".hea")]
    for name in names[::7]:
        found = examine(read_raw(ptbxl, name))
        assert problem(found, rates=(100, 500)) is None, name
        assert found.checksum_ok == 1 and found.lead_order == "" and found.n_flat == 0
        # Half of each threshold is still far away: these are measured, see quality.py.
        assert max(found.einthoven, found.goldberger) < quality.IDENTITY / 8
        assert found.clipped < quality.CLIPPED / 2 and 0.2 < found.amplitude < 3


def test_real_chapman(chapman):
    """Two of the ten hold nothing but zeros in three chest leads; the others are sound."""
    names = [name.removesuffix(".hea") for name in chapman.names(".hea")]
    faults = {name: problem(examine(read_raw(chapman, name)), rates=(500,)) for name in names}
    bad = {name: str(fault) for name, fault in faults.items() if fault}
    assert bad == {name: "constant all the time: V2, V4, V6" for name in ("JS20004", "JS20008")}
    assert all(not np.any(read_raw(chapman, name).digital[[7, 9, 11]]) for name in bad)


def test_any_two_limb_names_swapped_are_seen(real):
    for raw in real:
        for a, b in combinations(range(6), 2):
            digital = raw.digital.copy()
            digital[[a, b]] = digital[[b, a]]
            fault = problem(examine(replace(raw, digital=digital)))
            assert fault.reason == "lead_identity", (LEADS[a], LEADS[b])


def test_a_glitch_in_one_limb_lead_is_no_wrong_name(ptbxl):
    raw = read_raw(ptbxl, "records500/00000/00162_hr")  # aVR and aVF jump by 2.6 mV for 18 ms
    i, ii, iii, avr, avl, avf = raw.millivolts()[:6]
    assert np.abs(avr + (i + ii) / 2).max() > 2.5 and np.abs(avf - (ii + iii) / 2).max() > 2.5
    assert problem(examine(raw)) is None


def test_columns_are_scalars_by_name():
    columns = examine(ecg()).columns()
    assert tuple(columns) == COLUMNS
    assert all(isinstance(value, int | float | str) for value in columns.values())


def test_measures_of_a_known_signal():
    time = np.arange(1000) / 100
    wave = np.rint(700 * np.sin(2 * np.pi * 3.1 * time)).astype(np.int16)
    raw = replace(ecg(), digital=np.tile(wave, (12, 1)), baseline=np.full(12, -200))
    found = examine(raw)
    assert found.amplitude == pytest.approx(0.7, abs=0.01)
    assert found.offset == pytest.approx(0.2, abs=0.02)
    assert found.n_repeated == 11 and found.checksum_ok == 0
    assert found.einthoven == pytest.approx(1, abs=0.01)  # I - II + III of three equal leads
    assert examine(replace(raw, checksums=())).checksum_ok == -1


def test_gaps_are_measured_and_do_not_disturb_the_rest():
    whole = ecg()
    digital = whole.digital.copy()
    digital[2, 100:400] = -32768
    raw = replace(whole, digital=digital, missing=digital == -32768)
    found, before = examine(raw), examine(whole)
    assert found.n_missing == 300 and found.worst_missing == pytest.approx(0.3)
    assert found.amplitude == pytest.approx(before.amplitude, rel=0.1)
    assert found.einthoven < 0.05 and found.n_flat == 0 and problem(found) is None
    digital[2, :600] = -32768
    fault = problem(examine(replace(raw, digital=digital, missing=digital == -32768)))
    assert fault.reason == "missing_lead" and "III" in str(fault)


def test_one_lead_has_no_identities_to_break():
    raw = ecg().select(("II",))
    found = examine(raw)
    assert np.isnan(found.einthoven) and np.isnan(found.goldberger) and problem(found) is None


def test_the_digest_knows_the_samples_whatever_their_order():
    raw = ecg()
    turned = raw.select(LEADS[::-1])
    assert examine(turned).digest == examine(raw).digest != examine(ecg(seed=1)).digest
    louder = replace(raw, gain=raw.gain / 2)
    assert examine(louder).digest != examine(raw).digest


def test_accepted_reasons_are_passed_over_and_the_next_is_named():
    digital = ecg().digital.copy()
    digital[8] = 5
    found = examine(replace(ecg(fs=360), digital=digital))
    assert problem(found, rates=(500,)).reason == "flat_lead"
    assert problem(found, rates=(500,), accept=("flat_lead",)).reason == "wrong_rate"
    assert problem(found, accept=("flat_lead",)) is None


def test_only_what_can_be_stored_is_accepted():
    assert quality.accepted(" clipped flat_lead clipped") == ("clipped", "flat_lead")
    with pytest.raises(
        ConfigError, match="trunkated; what can be stored all the same is no_signal"
    ):
        quality.accepted("flat_lead trunkated")


def test_every_reason_raised_anywhere_is_explained():
    """Of the whole data room: a new code without its line in REASONS fails here."""
    code = "".join(path.read_text() for path in Path(quality.__file__).parent.rglob("*.py"))
    raised = set(re.findall(r'RecordError\(\s*"(\w+)"', code))
    raised |= set(re.findall(r'"reason": "(\w+)"', code))
    raised |= set(re.findall(r'tables\.refuse\(.*"(\w+)"\)', code))
    assert "duplicate_id" in raised and raised <= set(quality.REASONS)


def test_a_quiet_lead_in_coarse_steps_is_not_clipped():
    digital = ecg().digital.copy()
    digital[7] = 5 * np.random.default_rng(0).integers(
        0, 5, digital.shape[1]
    )  # 20 uV in 5 uV steps
    found = examine(replace(ecg(), digital=digital))
    assert found.clipped < 0.05 and problem(found) is None
    digital[7] = ecg().digital[7].clip(-40, 40)  # as little, but cut off
    assert problem(examine(replace(ecg(), digital=digital))).reason == "clipped"


# --- the trial and the doctor ---------------------------------------------------------------------


def test_one_example_of_every_reason(ptbxl, tmp_path):
    table = pd.DataFrame({"source_name": ["records500/00000/00040_hr"]})
    cohort = SimpleNamespace(place=ptbxl, table=table, store=SimpleNamespace(key="k"))
    trial = reader_trials.damage_trial(cohort, 0, tmp_path / "trial")
    ends = dict(zip(trial.quarantine["ecg_id"], trial.quarantine["reason"]))
    ends |= {label: "" for label in trial.index["ecg_id"]}
    assert ends == {label: damage.reason for label, damage in DAMAGES.items()}
    original = read_raw(ptbxl, table["source_name"][0]).millivolts()
    assert np.allclose(trial.read(range(len(trial))), original, rtol=0, atol=1e-6)

    examples = reader_trials.quarantine_examples(cohort, 0, tmp_path / "trial")
    reasons = [reason for reason, _, _ in examples]
    assert sorted(reasons) == sorted({d.reason for d in DAMAGES.values()} - {""})
    # Found in the table, by the store and by a view: not the file's fault.
    others = {"bad_row", "duplicate_id", "bad_name", "unexpected", "too_short"}
    assert set(quality.REASONS) - others == set(reasons)
    unreadable = {reason for reason, _, record in examples if record is None}
    assert unreadable == {"missing_file", "header", "damaged"}
    shown = {reason: record for reason, _, record in examples if record is not None}
    assert all(record.leads == LEADS and record.duration_s > 2.5 for record in shown.values())
    assert np.isnan(shown["missing_leads"].signal[8:]).all()
    assert np.array_equal(shown["clipped"].signal[:7], original[:7])


def test_the_doctor_sees_what_was_done(tmp_path):
    """The damaged copies as a cohort: each reason has its line, and the lines add up."""
    place, jobs = damaged_copies(ecg(n=1000), tmp_path / "copies")
    store = build_store(tmp_path / "store", jobs, place, key="k", fs=100, rates=(100,))
    table = pd.DataFrame({"ecg_id": store.index["ecg_id"], "patient_id": 1, "fold": [1, 2, 3]})
    cohort = SimpleNamespace(
        name="ptbxl",
        store=store,
        base=store,
        table=table,
        quarantine=store.quarantine,
        source=sources.source("ptbxl"),
    )
    lines = doctor.table(cohort).set_index("check")
    assert list(lines.columns) == list(doctor.COLUMNS[1:])
    assert lines.loc["lead order", "records"] == 3  # shuffled; renamed and four gone are left out
    assert "put in order by name; quarantined: " in lines.loc["lead order", "done"]
    assert lines.loc["flat leads", "done"] == "quarantined: no_signal (1), flat_lead (1)"
    assert lines.loc["duplicates", "records"] == 2
    text = " ".join(lines["done"])
    assert all(reason in text for reason in store.quarantine["reason"].unique())
    assert lines.loc["all", "found"] == f"{len(jobs)} = 3 + {len(jobs) - 3}"
    assert "2 are copies of others" in doctor.sentence(cohort)
    copies = doctor.duplicates(cohort)
    assert (copies["same_as"] == "intact").all() and list(copies["fold"]) == [2, 3]


def test_the_doctor_on_real_recordings(shared):
    path = str(shared / "data" / "chapman-subset-10.zip")
    cohort = open_cohort(KitConfig.from_params({"preset": "tiny", "data": path, "fs": 500}), True)
    lines = doctor.table(cohort).set_index("check")
    assert lines.loc["flat leads", "done"] == "quarantined: flat_lead (2)"
    assert lines.loc["all", "found"] == "10 = 8 + 2"
    others = lines.drop(["flat leads", "all"])
    assert (others["records"] == 0).all() and (others["done"] == doctor.NOTHING).all()
    assert "8 of 10" in doctor.sentence(cohort)


def test_ptbxl_stores_two_recordings_twice(ptbxl):
    """A fact about the real source that its own documentation does not tell."""
    digests = [
        examine(read_raw(ptbxl, f"records500/00000/{n:05d}_hr")).digest
        for n in (137, 138, 143, 144, 145)
    ]
    assert digests[0] == digests[1] and digests[2] == digests[3] and len(set(digests)) == 3
