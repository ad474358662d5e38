"""Sources: each layout through open_cohort, from a folder and a .zip; broken lines and tables."""

import gzip
import zipfile

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgkit.config import KitConfig
from ecgkit.data import qa_reading, qa_subset, sources, splits
from ecgkit.data.cohort import open_cohort
from ecgkit.data.labels import code_labels, superclass_labels
from ecgkit.data.place import open_place
from ecgkit.data.scp_table import scp_statements
from ecgkit.data.sources import challenge, mimic, ptbxl
from ecgkit.types import LEADS, DataError

MEASURES = "rr_interval p_onset p_end qrs_onset qrs_end t_end p_axis qrs_axis t_axis".split()


def config(data, **more):
    return KitConfig.from_params({"preset": "tiny", "data": str(data), "fs": 500, **more})


def zipped(folder, path, root="some-root-1.0/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, root + file.relative_to(folder).as_posix())
    return path


def twelve_leads(seed, n=5000, fs=500):
    """(n, 12) mV in the kit's order, limb leads as Einthoven and Goldberger have them."""
    rng, t = np.random.default_rng(seed), np.arange(n) / fs

    def beat(height, width):
        return height * np.exp(-(((t % 0.8) - 0.4) ** 2) / width) + 0.02 * rng.standard_normal(n)

    one, two = beat(0.6, 5e-4), beat(1.1, 6e-4)
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([*limb, *(beat(0.3 * k, 4e-4 * k) for k in range(1, 7))], axis=1)


# --- MIMIC-IV-ECG ---------------------------------------------------------------------------------

STUDIES = {40689238: 10000032, 44458630: 10000032, 49036311: 10000764}


def write_mimic(root):
    """Three studies of two patients, as published: aVF before aVL, 200 units per mV."""
    lines, machine = [], []
    for study, subject in STUDIES.items():
        path = f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        order = [LEADS.index(lead) for lead in sources.MIMIC_LEADS]
        wfdb.wrsamp(
            str(study), fs=500, units=["mV"] * 12, sig_name=list(sources.MIMIC_LEADS),
            p_signal=twelve_leads(study)[:, order], fmt=["16"] * 12, adc_gain=[200.0] * 12,
            baseline=[0] * 12, write_dir=str((root / path).parent),
        )  # fmt: skip
        lines.append((subject, study, study, "2180-07-23 08:44:00", path))
        reports = ["Sinus rhythm", "Left bundle branch block"] if study == 44458630 else ["Normal"]
        measured = [29999, 40, 150, 200, 300, 600, 30, 29999, 45]
        machine.append((subject, study, 1, "2180-07-23", *(reports + [""] * 18)[:18], "0.05-150 Hz",
                        "60 Hz notch", *measured))  # fmt: skip
    columns = ["subject_id", "study_id", "file_name", "ecg_time", "path"]
    pd.DataFrame(lines, columns=columns).to_csv(root / mimic.RECORDS, index=False)
    columns = ["subject_id", "study_id", "cart_id", "ecg_time", *mimic.REPORTS, "bandwidth",
               "filtering", *MEASURES]  # fmt: skip
    pd.DataFrame(machine, columns=columns).to_csv(root / mimic.MACHINE, index=False)
    return root


@pytest.fixture
def mimic_folder(tmp_path):
    (tmp_path / "mimic iv ß").mkdir()
    return write_mimic(tmp_path / "mimic iv ß")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_mimic_leads_go_by_name(mimic_folder, tmp_path, form):
    data = mimic_folder if form == "folder" else zipped(mimic_folder, tmp_path / "m.zip")
    cohort = open_cohort(config(data))
    assert cohort.name == "mimic-iv-ecg" and cohort.source.leads.index("aVF") == 4
    assert list(cohort.table["ecg_id"]) == list(STUDIES) and cohort.quarantine.empty
    for row, study in enumerate(STUDIES):
        ours = cohort.record(row)
        assert ours.leads == LEADS and ours.ecg_id == study
        theirs = wfdb.rdrecord(str(mimic_folder / cohort.table["source_name"][row]))
        for lead in LEADS:
            stored = ours.signal[LEADS.index(lead)]
            expected = theirs.p_signal[:, theirs.sig_name.index(lead)]
            np.testing.assert_allclose(stored, expected, rtol=3e-7, atol=0)
        assert np.abs(ours.signal.T - twelve_leads(study)).max() <= 0.5 / 200 + 1e-6
        one, two, avl, avf = (ours.signal[LEADS.index(x)] for x in ("I", "II", "aVL", "aVF"))
        assert np.abs(avl - (one - two / 2)).max() < 0.01 < np.abs(avf - (one - two / 2)).max()


def test_mimic_table(mimic_folder):
    table = open_cohort(config(mimic_folder)).table
    assert list(table["patient_id"]) == list(STUDIES.values())
    assert table["fold"][0] == table["fold"][1] and table["fold"].between(1, 10).all()
    assert table["statements"][1] == ["Sinus rhythm", "Left bundle branch block"]
    assert table["report"][1] == "Sinus rhythm. Left bundle branch block"
    assert {"SR", "CLBBB"} & set(table["scp_codes"][1])
    assert np.isnan(table["rr_interval"][0]) and table["qrs_end"][0] == 300
    assert table["age"].isna().all() and table["sex"].isna().all()


def test_mimic_tables_are_joined_once_for_each_state_of_their_files(mimic_folder, monkeypatch):
    place = open_place(mimic_folder)
    first, _ = mimic.read_table(place, 500)
    with monkeypatch.context() as patch:
        patch.setattr(mimic, "_joined", None)
        again, refused = mimic.read_table(place, 500)
    pd.testing.assert_frame_equal(again, first)
    assert refused == []
    listed = mimic_folder / mimic.RECORDS
    listed.write_text("\n".join(listed.read_text().splitlines()[:3]) + "\n,1,1,,\n")
    fewer, refused = mimic.read_table(open_place(mimic_folder), 500)
    assert len(fewer) == 2 and [r["reason"] for r in refused] == ["bad_row"]


def test_mimic_ages_and_sexes_from_patients_beside_the_folder_or_the_zip(mimic_folder, tmp_path):
    people = "subject_id,gender,anchor_age,anchor_year\n10000032,F,52,2178\n10000764,M,89,2175\n"
    data = zipped(mimic_folder, tmp_path / "m.zip")
    before = open_cohort(config(data))
    (tmp_path / "patients.csv.gz").write_bytes(gzip.compress(people.encode()))
    (mimic_folder / "patients.csv").write_text(people)
    for place in (mimic_folder, data):
        cohort = open_cohort(config(place))
        assert list(cohort.table["age"]) == [54, 54, 90]  # 94, of those whom the source hides
        assert list(cohort.table["sex"]) == [1, 1, 0] and cohort.fingerprint != before.fingerprint
    (tmp_path / "patients.csv.gz").write_bytes(gzip.compress(people.encode())[:-20])
    with pytest.raises(DataError, match="patients.csv.gz of .* is damaged"):
        open_cohort(config(data))


def test_mimic_broken_lines_and_missing_files_are_quarantined(mimic_folder):
    path = mimic_folder / mimic.RECORDS
    lines = path.read_text().splitlines()
    lines += ["10000032,,1,2180-01-01,files/x", "abc,41,41,2180-01-01,files/y", lines[1],
              "10000032,43,43,2180-01-01,", "10000032,44,44,2180-01-01,files/gone/44",
              "10000032,45,45,2180-01-01,../../45"]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    cohort = open_cohort(config(mimic_folder))
    assert len(cohort) == 3 and cohort.store.n_in == 9
    assert sorted(cohort.quarantine["reason"]) == [
        "bad_row", "bad_row", "bad_row", "duplicate_id", "missing_file", "missing_file",
    ]  # fmt: skip
    path.write_text("\n".join([*lines, "1,2,3,4,5,6,7"]) + "\n")
    cohort = open_cohort(config(mimic_folder))
    assert len(cohort) == 3 and cohort.store.n_in == 10
    sentences = " ".join(cohort.quarantine["sentence"])
    assert "Record of line 5 is left out" in sentences and "Record 43 is left out" in sentences


def test_mimic_tables_that_are_none(mimic_folder):
    machine = mimic_folder / mimic.MACHINE
    table = pd.read_csv(machine)
    table.drop(columns="report_0").to_csv(machine, index=False)
    with pytest.raises(DataError, match="no column report_0; take the table of MIMIC-IV-ECG"):
        open_cohort(config(mimic_folder))
    machine.unlink()
    with pytest.raises(DataError, match="has no machine_measurements.csv"):
        open_cohort(config(mimic_folder))


def test_mimic_ids_that_are_none_and_tables_of_another_form(mimic_folder):
    records, machine = mimic_folder / mimic.RECORDS, mimic_folder / mimic.MACHINE
    lines = [f"10000032,{study},1,2180-01-01,files/x" for study in ("inf", "1e30", "2.5")]
    records.write_text(records.read_text() + "\n".join(lines) + "\n")
    line = machine.read_text().splitlines()[1].split(",")
    for study in ("inf", "9" * 40, line[1]):  # the last one says what an earlier line says
        with open(machine, "a") as file:
            file.write(",".join([line[0], study, *line[2:]]) + "\n")
    cohort = open_cohort(config(mimic_folder))
    assert len(cohort) == 3 and cohort.quarantine["reason"].tolist() == ["bad_row"] * 3
    machine.write_text(machine.read_text().replace(",", ";"))
    with pytest.raises(DataError, match="no column study_id, report_0"):
        open_cohort(config(mimic_folder))


def test_statements_are_spelled_out_once_per_combination(mimic_folder):
    """Against a plain loop, on a table large enough to have repeats."""
    rng = np.random.default_rng(0)
    words = np.array(["", "Sinus rhythm.", " Atrial fibrillation", "PVC(s)", "Borderline ECG"])
    text = words[rng.integers(0, 5, (2000, 18))]
    frame = pd.DataFrame(text, columns=mimic.REPORTS).replace("", np.nan)
    table = mimic._with_statements(frame.assign(ecg_id=range(2000)))
    for row in range(0, 2000, 37):
        plain = [word.strip().rstrip(".") for word in text[row] if word]
        assert table["statements"][row] == plain and table["report"][row] == ". ".join(plain)


# --- challenge form -------------------------------------------------------------------------------


def test_the_real_chapman_records(shared):
    data = shared / "data" / "chapman-subset-10.zip"
    cohort = open_cohort(config(data, accept="flat_lead"))
    assert cohort.name == "chapman-shaoxing" and len(cohort) == 10 == cohort.store.n_in
    record = cohort.record(list(cohort.table["ecg_id"]).index("JS20006"))
    assert record.ecg_id == "JS20006" and record.signal.shape == (12, 5000)
    line = record.meta
    assert (line["age"], line["sex"], line["patient_id"]) == (61, 0, "JS20006")
    assert line["dx"].split(",")[0] == "284470004" and line["scp_codes"]["PAC"] == 100
    assert line["report"].startswith("premature atrial contraction. sinus tachycardia")
    # Two of the ten have three leads without a signal: stored on request, else listed.
    strict = open_cohort(config(data))
    assert len(strict) == 8 and set(strict.quarantine["reason"]) == {"flat_lead"}
    labels, _ = superclass_labels(strict)
    codes, names = code_labels(strict)
    assert labels.shape == (8, 5) and "PAC" in names and codes[:, names.index("PAC")].all()


def write_challenge(root, names, seconds=(10,), fs=500, comments=("Age: 61", "Sex: Male")):
    for k, name in enumerate(names):
        folder = (root / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        signal = twelve_leads(k, round(fs * seconds[k % len(seconds)]), fs)
        stem = name.rsplit("/", 1)[-1]
        wfdb.wrsamp(
            stem, fs=fs, units=["mV"] * 12, sig_name=list(LEADS), p_signal=signal,
            fmt=["16"] * 12, adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(folder),
            comments=list(comments),
        )  # fmt: skip
    return root


def test_cpsc_keeps_each_length_and_its_normal_class(tmp_path):
    said = ("Age: NaN", "Sex: Unknown", "Dx: 426783006")
    write_challenge(tmp_path / "g1", ["A0001", "A0002", "A0003"], (6, 9.5, 30), comments=said)
    cohort = open_cohort(config(tmp_path))
    assert cohort.name == "cpsc-2018" and len(cohort) == 3
    assert list(cohort.base.lengths) == [3000, 4750, 15000]
    assert cohort.table["age"].isna().all() and cohort.table["sex"].isna().all()
    assert cohort.table["scp_codes"][0] == {"NORM": 100.0, "SR": 100.0}
    assert np.isnan(cohort.record(0).meta["age"])
    assert cohort.view(seconds=None).read([2]).shape == (1, 12, 15000)
    assert cohort.store.read([0, 1, 2]).shape == (3, 12, 5000)
    # The middle of the long one, the short one between zeros.
    long, short = twelve_leads(2, 15000).T, twelve_leads(0, 3000).T
    np.testing.assert_allclose(cohort.store.read([2])[0], long[:, 5000:10000], atol=6e-4)
    np.testing.assert_allclose(cohort.store.read([0])[0][:, 1000:4000], short, atol=6e-4)
    assert not cohort.store.read([0])[0][:, :1000].any()


def test_other_challenge_sources_nested_folders_and_repeated_names(tmp_path):
    names = ["WFDBRecords/01/010/JS00001", "WFDBRecords/01/011/JS00002"]
    write_challenge(tmp_path / "chapman", names)
    assert open_cohort(config(tmp_path / "chapman")).name == "chapman-shaoxing"
    names = ["g1/E00001", "g2/E00002", "g2/E00001", "g2/I0001"]
    write_challenge(tmp_path / "mixed", names, comments=("Age: 300", "Sex: F", "Dx: 164889003,999"))
    (tmp_path / "mixed" / "g1" / "broken.hea").write_text("not a header")
    cohort = open_cohort(config(tmp_path / "mixed"))
    assert cohort.name == "challenge" and set(cohort.table["age"]) == {90}
    assert cohort.table["sex"].dtype == np.int64 or cohort.table["sex"].notna().all()
    assert cohort.table["report"][0] == "atrial fibrillation. 999"
    assert dict(zip(cohort.quarantine["source"], cohort.quarantine["reason"])) == {
        "g2/E00001": "duplicate_id",
        "g1/broken": "header",
    }


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_samples_without_a_header_are_listed(tmp_path, form):
    root = write_challenge(tmp_path / "g", ["E00001", "E00002", "E00003"])
    (root / "E00002.hea").unlink()
    data = root if form == "folder" else zipped(root, tmp_path / "g.zip")
    cohort = open_cohort(config(data))
    assert cohort.table["ecg_id"].tolist() == ["E00001", "E00003"] and cohort.store.n_in == 3
    assert cohort.quarantine["ecg_id"].tolist() == ["E00002"]
    assert cohort.quarantine["reason"].tolist() == ["missing_file"]


def test_a_file_name_that_is_no_text_is_listed(tmp_path):
    write_challenge(tmp_path, ["E00001"])
    try:
        (tmp_path / "E\udcff1.hea").write_text("x")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    cohort = open_cohort(config(tmp_path))
    assert len(cohort) == 1 and list(cohort.quarantine["reason"]) == ["bad_name"]


def test_another_rate_is_resampled_and_a_wrong_one_refused(tmp_path):
    write_challenge(tmp_path / "a", ["I0001"], fs=257)
    write_challenge(tmp_path / "a", ["E00001"], fs=360)
    cohort = open_cohort(config(tmp_path / "a"))
    assert list(cohort.table["ecg_id"]) == ["I0001"] and cohort.base.fs == 500
    assert list(cohort.quarantine["reason"]) == ["wrong_rate"]
    assert np.abs(cohort.store.read([0])[0, 1] - twelve_leads(0)[:, 1]).mean() < 0.05


def test_headers_are_read_once(tmp_path, monkeypatch):
    write_challenge(tmp_path / "a", ["E00001", "E00002"])
    place = open_place(tmp_path / "a")
    first, _ = challenge.read_table(place, 500)
    monkeypatch.setattr(challenge, "_comments", None)
    again, _ = challenge.read_table(open_place(tmp_path / "a"), 500)
    pd.testing.assert_frame_equal(first, again)
    assert again["ecg_id"].map(type).eq(str).all()
    monkeypatch.undo()
    header = tmp_path / "a" / "E00001.hea"
    before = open_cohort(config(tmp_path / "a"))
    header.write_text(header.read_text().replace("Sex: Male", "Sex:  F  "))  # of the same size
    after = open_cohort(config(tmp_path / "a"))
    assert list(after.table["sex"]) == [1, 0] and after.fingerprint != before.fingerprint


# --- PTB-XL's versions ----------------------------------------------------------------------------


def ptbxl_table(**columns):
    table = pd.DataFrame(
        {
            "ecg_id": [1, 2, 3],
            "patient_id": [15709.0, 13243.0, 20372.0],
            "age": [56.0, 300.0, np.nan],
            "sex": [1, 0, np.nan],
            "report": ["sinusrhythmus", None, "ß"],
            "scp_codes": ["{'NORM': 100.0, 'SR': 0.0}", "{}", "{'NDT': 50}"],
            "strat_fold": [3, 2.0, 10],
            "filename_lr": [f"records100/00000/0000{k}_lr" for k in (1, 2, 3)],
            "filename_hr": [f"records500\\00000\\0000{k}_hr.hea" for k in (1, 2, 3)],
        }
    )
    return table.assign(**columns)


def read_ptbxl(folder, table, rate=500):
    table.to_csv(folder / ptbxl.TABLE, index=False)
    return ptbxl.read_table(open_place(folder), rate)


def test_ptbxl_with_floats_and_without_the_later_columns(tmp_path):
    table, refused = read_ptbxl(tmp_path, ptbxl_table())
    assert not refused and table["patient_id"].tolist() == [15709, 13243, 20372]
    assert table["fold"].tolist() == [3, 2, 10] and table["age"][1] == 90
    assert table["source_name"][0] == "records500/00000/00001_hr" and table["report"][1] == ""
    assert np.isnan(table["sex"][2]) and np.isnan(table["age"][2])
    assert table["heart_axis"].isna().all()  # 1.0.1 lacks some of the columns


def test_ptbxl_broken_lines(tmp_path):
    bad = ptbxl_table(patient_id=["x", 2, 3], scp_codes=["{}", "{'NORM': [", "{}"])
    table, refused = read_ptbxl(tmp_path, bad)
    assert table["ecg_id"].tolist() == [3]
    assert [row["reason"] for row in refused] == ["bad_row", "bad_row"]
    table, refused = read_ptbxl(tmp_path, ptbxl_table(ecg_id=[1, None, "z"]))
    assert table["ecg_id"].tolist() == [1] and len(refused) == 2
    raw = (tmp_path / ptbxl.TABLE).read_text()
    (tmp_path / ptbxl.TABLE).write_text(raw + "7,1,1,1,a,{},1,x,y,and,more,fields\n")
    table, refused = ptbxl.read_table(open_place(tmp_path), 500)
    assert len(table) == 1 and [row["ecg_id"] for row in refused][0] == "7"


@pytest.mark.parametrize("column, value", [
    ("ecg_id", "inf"), ("ecg_id", "1e30"), ("ecg_id", "2.5"), ("patient_id", "inf"),
    ("patient_id", "9" * 40), ("strat_fold", "3.5"), ("strat_fold", "inf"),
    ("scp_codes", "{'NORM': 1e999}"), ("scp_codes", "{'NORM': " + "9" * 400 + "}"),
    ("scp_codes", "[" * 5000),
])  # fmt: skip
def test_ptbxl_numbers_that_are_none(tmp_path, column, value):
    bad = ptbxl_table().astype({column: object})
    bad.loc[1, column] = value
    table, refused = read_ptbxl(tmp_path, bad)
    assert table["ecg_id"].tolist() == [1, 3] and [r["reason"] for r in refused] == ["bad_row"]


def test_ptbxl_the_same_id_in_two_spellings(tmp_path):
    with pytest.raises(DataError, match="ecg_id 1 stands twice"):
        read_ptbxl(tmp_path, ptbxl_table(ecg_id=["1", "1.0", "z"]))


def test_ptbxl_no_line_is_lost_behind_a_broken_one(tmp_path):
    """Quotes that do not pair up and a first line too long would shift or swallow all others."""
    ptbxl_table().to_csv(tmp_path / ptbxl.TABLE, index=False)
    head, first, *others = (tmp_path / ptbxl.TABLE).read_text().splitlines()

    def read(*lines):
        (tmp_path / ptbxl.TABLE).write_text("\n".join([head, *lines]) + "\n")
        return ptbxl.read_table(open_place(tmp_path), 500)

    table, refused = read(first + ",more,fields", *others)
    assert table["ecg_id"].tolist() == [2, 3] and [r["ecg_id"] for r in refused] == ["1"]
    for lines in ((first, '"7,8', *others), (first, others[0] + ',"', others[1] + ",x,y")):
        with pytest.raises(DataError, match="is not a readable table"):
            read(*lines)
    with pytest.raises(DataError, match="no rows that are not longer than its header"):
        read(*(line + ",," for line in (first, *others)))


# --- the registry, subsets, lists -----------------------------------------------------------------


def test_the_registry_knows_each_source():
    assert {"ptbxl", "mimic-iv-ecg", "chapman-shaoxing", "cpsc-2018", "challenge", "synthetic"} == (
        set(sources.SOURCES)
    )
    for name, source in sources.SOURCES.items():
        assert source.licence and source.how_to_get and len(source.leads) == 12
        assert callable(sources.adapter(name).read_table)
    with pytest.raises(DataError, match="no source 'x'; the kit knows"):
        sources.source("x")


def test_nothing_the_kit_knows(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match="no record_list.csv .* and no .hea header"):
        sources.open_source(tmp_path)
    assert scp_statements().loc["NORM", "diagnostic_class"] == "NORM"


def test_a_subset_is_chosen_before_a_record_is_read(mimic_folder, capsys):
    (mimic_folder / "files/p1000/p10000764/s49036311/49036311.dat").unlink()
    table, _ = mimic.read_table(open_place(mimic_folder), 500)
    for seed in range(20):  # whichever seed takes the patient whose files are there
        asked = config(mimic_folder, sample=1, sample_seed=seed)
        if len(qa_subset.wanted(asked, table, "mimic-iv-ecg")) == 2:
            break
    cohort = open_cohort(asked)
    assert len(cohort) == 2 and cohort.quarantine.empty and cohort.n_listed == 3
    assert "2 of 3 ECGs chosen" in capsys.readouterr().out


def test_published_lists_are_laid_over_a_table():
    table = pd.DataFrame({"ecg_id": [1, 2, 3, 4, 5], "patient_id": [7, 7, 8, 9, 9]})
    lists = splits.from_ecg_lists({"train": [1, 3, 99], "valid": [4, 3], "test": [2]}, table)
    rows = {split: at.tolist() for split, at in lists.rows.items()}
    assert rows == {"train": [0, 2], "valid": [3], "test": [1]}
    assert lists.absent == {"train": 1, "valid": 0, "test": 0}
    assert lists.unlisted == 1 and lists.twice == 1 and lists.shared.tolist() == [7]
    assert "1 patients have ECGs in two splits" in lists.describe()
    with pytest.raises(DataError, match="These lists leak"):
        splits.from_ecg_lists({"train": [1], "test": [2]}, table, strict=True)
    splits.from_ecg_lists({"train": [1, 2], "test": [3]}, table, strict=True)


def test_ecg_qas_own_lists_over_the_real_records(shared):
    shelf = qa_reading.open_shelf(shared / "data" / "ecgqa-subset.zip")
    ids = qa_reading.read_ecg_ids(shelf)
    table, _ = ptbxl.read_table(
        open_place(shared / "data" / "ptbxl-subset-400.zip", ptbxl.TABLE), 500
    )
    lists = splits.from_ecg_lists(ids, table)
    here = set(table["ecg_id"])
    assert {k: len(v) for k, v in lists.rows.items()} == {
        split: len(here & set(listed)) for split, listed in ids.items()
    }
    assert lists.twice == 0 and lists.unlisted == 400 - sum(map(len, lists.rows.values())) > 0
    first = lists.rows["train"][0]
    assert table["ecg_id"][first] in ids["train"]


def test_folds_are_by_patient_and_the_same_each_time():
    patients = np.array([f"JS{k:05d}" for k in np.random.default_rng(0).integers(0, 300, 1000)])
    folds = splits.make_folds(patients)
    assert np.array_equal(folds, splits.make_folds(patients))
    table = pd.DataFrame({"patient_id": patients, "fold": folds})
    splits.assert_no_leak(table)
    assert np.bincount(folds)[1:].min() > 90
