"""A part of the questions by patient: shares, nesting, one choice before and after the store."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.config import KitConfig
from ecgkit.data import ecgqa, layouts, qa_reading, qa_subset, qa_table
from ecgkit.data.cohort import open_cohort
from ecgkit.data.qa_reading import QUESTION_TYPES
from ecgkit.data.qa_subset import CHOSEN, LEFT, OUTSIDE
from ecgkit.types import DataError


@dataclass(frozen=True)
class Config:
    sample: int = 0
    fraction: float = 1.0
    sample_seed: int = 0
    ecgqa: str = ""
    data: str = "somewhere"
    flavour: str = "paraphrased"
    simulated: bool = False


N_ECGS = 900
PEOPLE = np.stack([np.arange(1, N_ECGS + 1), 10_000 + np.arange(N_ECGS) // 3], axis=1)


def simulated_questions(seed=0, n=6000):
    """A QATable of all types and splits in unequal shares; a tenth about ECGs nobody has."""
    rng = np.random.default_rng(seed)
    kinds = np.array([(t + 1, t, 0, 0, 0) for t in range(len(QUESTION_TYPES))])
    kind = rng.choice(len(kinds), n, p=[0.4, 0.1, 0.2, 0.02, 0.03, 0.15, 0.1])
    ecgs = rng.integers(1, N_ECGS + 1, (n, 2))
    ecgs[rng.random(n) < 0.1] += N_ECGS
    ecgs[kind < 3, 1] = -1
    split = np.sort(rng.choice(3, n, p=[0.7, 0.1, 0.2]))
    empty = pd.DataFrame()
    return qa_table.QATable("", np.arange(n), kind, split, kind, kind, ecgs, kinds, ["?"], [["no"]],
                            [None], empty, empty)  # fmt: skip


@pytest.fixture(scope="module")
def questions():
    return simulated_questions()


def strata(questions):
    return questions.split * 7 + questions.kind


def plain_choice(questions, config):
    """The rule in words: of each stratum, by (latest patient, sample_id), as many as its share."""
    patient_of = dict(PEOPLE.tolist())
    place = dict(zip(PEOPLE[:, 1].tolist(), qa_subset.shuffled(PEOPLE[:, 1], config.sample_seed)))
    members = {}
    for i, ecgs in enumerate(questions.ecg_id.tolist()):
        people = [patient_of.get(ecg) for ecg in ecgs if ecg != -1]
        if None not in people:
            key = (max(place[p] for p in people), questions.sample_id[i])
            members.setdefault(strata(questions)[i], []).append((key, i))
    total = sum(map(len, members.values()))
    chosen = set()
    for found in members.values():
        share = config.sample / total if config.sample else config.fraction
        n = int(np.floor(share * len(found) + 0.5))
        chosen |= {i for _, i in sorted(found)[:n]}
    return chosen


@pytest.mark.parametrize("config", [Config(500), Config(fraction=0.03, sample_seed=4), Config(7)])
def test_the_choice_is_the_rule(questions, config):
    state = qa_subset.choose(questions, PEOPLE, config)
    assert set(np.flatnonzero(state == CHOSEN)) == plain_choice(questions, config)
    outside = (questions.ecg_id > N_ECGS).any(axis=1)
    assert ((state == OUTSIDE) == outside).all()


def test_types_keep_their_shares_within_rounding(questions):
    state = qa_subset.choose(questions, PEOPLE, Config(500))
    about = np.bincount(strata(questions)[state != OUTSIDE], minlength=21)
    kept = np.bincount(strata(questions)[state == CHOSEN], minlength=21)
    assert np.abs(kept - 500 * about / about.sum()).max() <= 0.5
    assert abs(kept.sum() - 500) <= 11


def test_more_contains_less_whatever_the_order_of_files(questions):
    before = np.zeros(len(questions), dtype=bool)
    for n in (5, 60, 61, 500, 2000, 10**9):
        now = qa_subset.choose(questions, PEOPLE, Config(n)) == CHOSEN
        assert (now >= before).all()
        before = now
    assert (before == ~(questions.ecg_id > N_ECGS).any(axis=1)).all()  # more than there are: all
    order = np.random.default_rng(1).permutation(len(questions))
    columns = ("sample_id", "question_id", "split", "kind", "text", "ecg_id")
    mixed = replace(questions, **{c: getattr(questions, c)[order] for c in columns})
    people = PEOPLE[np.random.default_rng(2).permutation(N_ECGS)]
    one, two = (
        qa_subset.choose(q, p, Config(500)) for q, p in ((questions, PEOPLE), (mixed, people))
    )
    assert (one[order] == two).all()
    assert (one != qa_subset.choose(questions, PEOPLE, Config(500, sample_seed=1))).any()


def test_whole_patients_where_there_are_no_published_questions():
    table = pd.DataFrame(PEOPLE, columns=["ecg_id", "patient_id"])
    less, more = (qa_subset.wanted(Config(n), table, "synthetic") for n in (100, 300))
    assert 100 <= len(less) <= 102 and 300 <= len(more) <= 302
    assert set(less) <= set(more) and (np.diff(more) > 0).all()
    patients = table["patient_id"].to_numpy()
    assert (np.isin(patients, patients[more]).sum()) == len(more)
    assert len(qa_subset.wanted(Config(fraction=0.5), table, "synthetic")) in range(450, 453)
    assert (qa_subset.wanted(Config(), table, "synthetic") == np.arange(N_ECGS)).all()


# --- the real questions ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(shared):
    """A table as PTB-XL's: every ECG the questions of the subset are about."""
    subset = shared / "data" / "ecgqa-subset.zip"
    table = qa_table.open_table(qa_reading.open_shelf(subset), "paraphrased")
    ids = np.unique(table.ecg_id)[1:]
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"ecg_id": ids, "patient_id": rng.integers(0, len(ids) * 0.8, len(ids))})
    return str(subset), table


def as_cohort(table):
    return SimpleNamespace(name="ptbxl", simulated=False, table=table.reset_index(drop=True))


def test_the_same_questions_before_and_after_the_store(whole, tmp_path):
    subset, table = whole
    config = Config(1000, ecgqa=subset, data=str(tmp_path))
    rows = qa_subset.wanted(config, table, "ptbxl")
    part = ecgqa.open_questions(config, as_cohort(table.iloc[rows]), quiet=True)
    assert abs(len(part) - 1000) <= 3
    assert set(part.dropped["reason"]) == {"not_sampled"}
    assert part.n_in == len(part) + len(part.dropped) == 24348
    needed = {ecg for ecgs in part.table["ecg_id"] for ecg in ecgs}
    assert needed == set(table["ecg_id"].iloc[rows])  # no recording is read for nothing
    unread = ecgqa.open_questions(config, as_cohort(table), quiet=True)  # a cohort opened whole
    pd.testing.assert_frame_equal(
        unread.table.drop(columns=["row1", "row2"]), part.table.drop(columns=["row1", "row2"])
    )
    other = ecgqa.open_questions(replace(config, flavour="template"), as_cohort(table.iloc[rows]))
    assert (other.table["sample_id"].to_numpy() == part.table["sample_id"].to_numpy()).all()


def test_a_quarantined_recording_is_not_replaced(whole, tmp_path):
    subset, table = whole
    config = Config(200, ecgqa=subset, data=str(tmp_path))
    rows = qa_subset.wanted(config, table, "ptbxl")
    full = ecgqa.open_questions(config, as_cohort(table.iloc[rows]), quiet=True)
    lost = full.table["ecg_id"].iloc[0][0]
    fewer = table.iloc[rows][table["ecg_id"].iloc[rows] != lost]
    part = ecgqa.open_questions(config, as_cohort(fewer), quiet=True)
    gone = full.table["ecg_id"].map(lambda ecgs: lost in ecgs)
    assert part.table["sample_id"].tolist() == full.table["sample_id"][~gone].tolist()
    assert (part.dropped["reason"] == "ecg_not_stored").sum() == gone.sum()


def test_sample_of_a_mimic_folder_reads_the_chosen_recordings_only(shared, tmp_path):
    """Real MIMIC questions, simulated recordings under the studies they name."""
    subset = shared / "data" / "ecgqa-subset.zip"
    shelf = qa_reading.open_shelf(subset, "mimic-iv-ecg")
    studies = qa_table.open_table(shelf, "template").ecg_id.ravel()
    studies = list(dict.fromkeys(studies.tolist()))[:24]
    folder = layouts.write_layout(tmp_path / "mimic", "mimic-iv-ecg", 24, 1, study_ids=studies)
    about = {"data": str(folder), "ecgqa": str(subset), "flavour": "template", "fs": 500}
    whole, part = (
        open_cohort(KitConfig.from_params(about | {"sample": n}), quiet=True) for n in (0, 5)
    )
    questions = ecgqa.open_questions(KitConfig.from_params(about | {"sample": 5}), part, quiet=True)
    assert len(questions) == 5 and len(questions.classes) == 187 and questions.n_in == 4364
    needed = {ecg for ecgs in questions.table["ecg_id"] for ecg in ecgs}
    assert needed == set(part.table["ecg_id"]) < set(whole.table["ecg_id"])


def test_an_empty_choice_is_one_sentence(whole, tmp_path):
    subset, table = whole
    config = Config(fraction=1e-6, ecgqa=subset, data=str(tmp_path))
    with pytest.raises(DataError, match="keep none of the 24348 questions"):
        qa_subset.wanted(config, table, "ptbxl")


def test_a_source_whose_ecgs_have_names_is_one_sentence(whole):
    table = pd.DataFrame({"ecg_id": ["JS00001"], "patient_id": ["JS00001"]})
    with pytest.raises(DataError, match="chapman-shaoxing have names, but ECG-QA asks"):
        qa_subset.wanted(Config(10, ecgqa=whole[0]), table, "chapman-shaoxing")


def test_left_is_left_out(questions):
    cohort = as_cohort(pd.DataFrame(PEOPLE, columns=["ecg_id", "patient_id"]))
    config = Config(500, data="never opened")
    out = qa_subset.left_out(config, cohort, questions)
    assert (out == (qa_subset.choose(questions, PEOPLE, config) == LEFT)).all()
    assert qa_subset.left_out(Config(), cohort, questions) is None
