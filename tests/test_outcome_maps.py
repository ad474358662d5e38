"""Real follow-up: the user's CSV, CODE-15 %, MIMIC-IV, UK Biobank, on made-up tables with traps."""

import gzip
import io
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.data.outcomes import open_outcomes, read_outcomes
from ecgkit.types import ConfigError, DataError


def cohort_of(patients, **columns):
    """ECGs 101, 102, ... of the given patients, age 60, male."""
    n = len(patients)
    table = {"ecg_id": 101 + np.arange(n), "patient_id": patients, "age": 60.0, "sex": 0,
             "fold": 1 + np.arange(n) % 10} | columns  # fmt: skip
    return SimpleNamespace(name="made", table=pd.DataFrame(table))


def reasons(outcomes) -> dict:
    """{reason: how many}; and in = out + left out, each with one whole sentence."""
    assert outcomes.left_out["sentence"].str.endswith(".").all()
    return outcomes.left_out["reason"].value_counts().to_dict()


def when(outcomes) -> dict:
    """{patient: (days, cause)}."""
    t = outcomes.table
    return dict(zip(t["patient_id"], zip(t["time_days"].round(2), t["cause"])))


# --- the user's CSV -------------------------------------------------------------------------------


@pytest.fixture
def six():
    return cohort_of([1, 2, 3, 4, 5, 6])


def csv(tmp_path, **changes):
    columns = {"patient_id": [1, 2, 3, 4, 5, 6], "ecg_id": [101, 102, 103, 104, 105, 106],
               "time_days": [10.0, 20, 30, 40, 50, 60], "event": [1, 0, 2, 1, 0, 0]}  # fmt: skip
    path = tmp_path / "outcomes.csv"
    pd.DataFrame(columns | changes).to_csv(path, index=False)
    return path


def test_a_competing_event_is_kept_as_cause_and_censors(tmp_path, six):
    outcomes = read_outcomes(csv(tmp_path), six)
    assert not outcomes.simulated and not outcomes.table["simulated"].any()
    assert outcomes.event.tolist() == [1, 0, 0, 1, 0, 0]
    assert outcomes.table["cause"].tolist() == [1, 0, 2, 1, 0, 0]
    assert "1 competing deaths" in outcomes.describe() and "SIMULATED" not in outcomes.describe()
    assert np.isnan(outcomes.oracle_c[0]) and len(outcomes.left_out) == 0
    assert outcomes.write(tmp_path / "..").name == "outcomes.csv"


@pytest.mark.parametrize(
    "changes, reason, said",
    [
        ({"time_days": [0, 20, 30, 40, 50, -1]}, {"prevalent": 1, "no_follow_up": 1}, "prevalent"),
        ({"time_days": ["x", 20, 30, None, 50, "inf"]}, {"bad_time": 3}, "number above 0"),
        ({"event": [3, 0, 2, 1, "", "dead"]}, {"bad_event": 3}, "0, 1 or 2"),
        ({"ecg_id": [101, 102, 103, 104, 105, 999]}, {"not_in_cohort": 1}, "not in the cohort"),
        ({"ecg_id": [101, 102, 103, 104, "", "a"]}, {"bad_id": 2}, "missing or no such number"),
        ({"patient_id": [9, 2, 3, 4, 5, 6]}, {"wrong_patient": 1}, "belongs to another patient"),
        ({"prevalent": ["True", 0, 0, "no", 0, 1]}, {"prevalent": 2}, "prevalent"),
    ],
)
def test_a_bad_row_is_left_out_and_the_rest_goes_on(tmp_path, six, changes, reason, said):
    outcomes = read_outcomes(csv(tmp_path, **changes), six)
    assert reasons(outcomes) == reason
    assert len(outcomes) + len(outcomes.left_out) == 6
    assert outcomes.left_out["sentence"].str.contains(said).any()
    assert f"6 = {len(outcomes)} + {len(outcomes.left_out)}" in outcomes.describe()


def test_rows_are_named_by_their_place_in_the_file(tmp_path, six):
    outcomes = read_outcomes(csv(tmp_path, event=[1, 0, 7, 1, 0, 0]), six)
    assert outcomes.left_out["row"].tolist() == [3]
    assert outcomes.left_out["sentence"].iloc[0].startswith(
        "Row 3 of outcomes.csv (patient 3, ECG 103) is left out: event must be"
    )


def test_ids_with_a_point_and_events_in_words(tmp_path, six):
    changes = {"patient_id": [f"{i}.0" for i in range(1, 7)], "event": ["True", "False"] * 3}
    outcomes = read_outcomes(csv(tmp_path, **changes), six)
    assert outcomes.event.tolist() == [1, 0, 1, 0, 1, 0]
    assert outcomes.table["patient_id"].dtype == np.int64


def test_one_ecg_per_patient_the_first_by_date(tmp_path):
    dates = ["2001-05-01", "2000-01-01", "2003-01-01", "2001-01-01"]
    cohort = cohort_of([1, 1, 1, 2], recording_date=dates)
    path = tmp_path / "o.csv"
    path.write_text("patient_id,ecg_id,time_days,event\n1,101,300,1\n1,102,800,1\n1,102,800,1\n"
                    "1,103,-5,0\n2,104,9,0\n2,104,10,0\n")  # fmt: skip
    outcomes = read_outcomes(path, cohort)
    assert outcomes.table["ecg_id"].tolist() == [102]
    assert reasons(outcomes) == {"later_ecg": 1, "duplicate": 1, "no_follow_up": 1, "conflict": 2}


def test_covariates_come_along_and_fill_gaps_of_the_cohort(tmp_path):
    cohort = cohort_of([1, 2, 3, 4, 5, 6], age=[np.nan, 60, 60, 60, 60, np.nan], sex=np.nan)
    path = csv(tmp_path, age=[300, 1, 1, 1, 1, ""], sex=["F", "m", 0, "1.0", "?", "female"],
               bmi=[20, "", 22, 23, 24, 25], smoker=["True", "False", 0, 1, "", 1],
               ward=list("abcdef"))  # fmt: skip
    outcomes = read_outcomes(path, cohort)
    table = outcomes.table
    assert table["age"].tolist() == [90, 60, 60, 60, 60]  # the cohort's own where it has one
    assert table["sex"].tolist()[:4] == [1, 0, 0, 1] and np.isnan(table["sex"].iloc[4])
    assert table["bmi"].isna().sum() == 1 and table["smoker"].sum() == 2
    assert table["ward"].tolist() == list("abcde")
    assert reasons(outcomes) == {"unknown_age": 1} and "1 rows without bmi" in outcomes.describe()


def test_a_line_with_too_many_fields_and_a_packed_file(tmp_path, six):
    text = csv(tmp_path).read_text() + "6,106,60,0,extra,fields\n"
    path = tmp_path / "follow_up.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    outcomes = read_outcomes(path, six)
    assert len(outcomes) == 6 and reasons(outcomes) == {"bad_row": 1}
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="damaged .gz"):
        read_outcomes(path, six)


def test_a_file_of_no_use_is_one_sentence(tmp_path, six):
    with pytest.raises(DataError, match="no such file"):
        read_outcomes(tmp_path / "absent.csv", six)
    path = tmp_path / "short.csv"
    path.write_text("patient_id,ecg_id\n1,1\n")
    with pytest.raises(DataError, match="no column time_days, event"):
        read_outcomes(path, six)
    path.write_text("patient_id;ecg_id;time_days;event\n1;1;30;1\n")
    with pytest.raises(DataError, match="between commas, and has 'patient_id;ecg_id"):
        read_outcomes(path, six)
    with pytest.raises(DataError, match="that is a folder; give a CSV"):
        read_outcomes(tmp_path, six)
    path.write_text("patient_id,ecg_id,time_days,event\n")
    with pytest.raises(DataError, match="no rows"):
        read_outcomes(path, six)
    with pytest.raises(DataError, match="no patient of made an outcome.*not in the cohort"):
        read_outcomes(csv(tmp_path, ecg_id=[1, 2, 3, 4, 5, 6]), six)
    with pytest.raises(ConfigError, match="OUTCOME_MAP is 'mimic'"):
        read_outcomes(path, six, "mimic")
    with pytest.raises(DataError, match="no such file or folder"):
        read_outcomes(tmp_path / "absent", six, "mimic-iv")


# --- CODE-15 % ------------------------------------------------------------------------------------

EXAMS = """exam_id,age,is_male,nn_predicted_age,1dAVb,RBBB,LBBB,SB,AF,ST,patient_id,death,timey,\
normal_ecg,trace_file
101,38,True,40.1,True,False,False,False,False,False,1,False,2.098628,True,exams_part13.hdf5
102,73,True,67.0,False,False,False,False,True,False,2,True,0.5,False,exams_part13.hdf5
103,74,True,68.0,False,False,False,False,True,False,2,,,False,exams_part4.hdf5
104,92,False,70.0,False,False,True,False,False,False,3,1.0,1.0,False,exams_part4.hdf5
105,51,False,50.0,False,False,False,False,False,False,4.0,0,0.0,True,exams_part4.hdf5
106,51,False,50.0,False,False,False,False,False,False,5,,1.5,True,exams_part4.hdf5
999,51,False,50.0,False,False,False,False,False,False,9,False,1.5,True,exams_part0.hdf5
"""


def test_code15(tmp_path):
    (tmp_path / "exams.csv").write_text(EXAMS)
    cohort = cohort_of([1, 2, 2, 3, 4, 5], age=np.nan, sex=np.nan)
    outcomes = read_outcomes(tmp_path, cohort, "code-15")
    by_file = read_outcomes(tmp_path / "exams.csv", cohort, "code-15")
    assert outcomes.fingerprint == by_file.fingerprint
    assert when(outcomes) == {1: (766.52, 0), 2: (182.62, 1), 3: (365.25, 1)}
    assert reasons(outcomes) == {"no_first_exam": 1, "no_follow_up": 1, "bad_event": 1,
                                 "not_in_cohort": 1}  # fmt: skip
    assert outcomes.outcome == "death of any cause" and "not heart failure" in outcomes.describe()
    table = outcomes.table
    assert table["age"].tolist() == [38, 73, 90] and table["sex"].tolist() == [0, 0, 1]
    assert table["1dAVb"].tolist() == [1, 0, 0] and table["AF"].tolist() == [0, 1, 0]
    (tmp_path / "exams.csv").write_text(EXAMS.replace("timey", "years"))
    with pytest.raises(DataError, match="no column timey.*as CODE-15 % has it"):
        read_outcomes(tmp_path, cohort, "code-15")


# --- MIMIC-IV -------------------------------------------------------------------------------------

# patient, ECG times; what happens to each stands in the tables below.
STUDIES = """subject_id,study_id,file_name,ecg_time,path
10,101,101,2180-05-10 08:00:00,files/p10/s101/101
10,102,102,2181-05-10 08:00:00,files/p10/s102/102
20,103,103,2150-01-02 10:00:00,files/p20/s103/103
30,104,104,2150-01-02 10:00:00,files/p30/s104/104
40,105,105,2150-01-02 23:30:00,files/p40/s105/105
50,106,106,2150-03-01 10:00:00,files/p50/s106/106
60,107,107,2150-03-01 10:00:00,files/p60/s107/107
70,108,108,2150-03-01 10:00:00,files/p70/s108/108
80,109,109,2150-03-01 10:00:00,files/p80/s109/109
90,110,110,,files/p90/s110/110
95,111,111,2150-03-01 10:00:00,files/p95/s111/111
"""
PATIENTS = """subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod
10,F,50,2178,2011 - 2013,
20,M,91,2150,2011 - 2013,2150-06-01
30,M,60,2150,2011 - 2013,
40,M,60,2150,2011 - 2013,2150-01-02
50,F,60,2150,2011 - 2013,2150-02-27
60,F,60,2150,2011 - 2013,2152-03-01
70,M,60,2150,2011 - 2013,
80,M,60,2150,2011 - 2013,
90,M,60,2150,2011 - 2013,
"""
STAYS = """subject_id,hadm_id,admittime,dischtime,deathtime,admission_type
10,1,2180-05-10 09:30:00,2180-05-12 12:00:00,,URGENT
10,2,2180-11-06 08:00:00,2180-11-09 12:00:00,,URGENT
10,3,2181-06-01 08:00:00,2181-06-09 12:00:00,,URGENT
20,4,2149-12-30 08:00:00,2150-01-10 08:00:00,,URGENT
30,5,2149-12-30 08:00:00,2150-01-10 08:00:00,,URGENT
60,6,2150-02-20 08:00:00,2150-03-31 10:00:00,,URGENT
70,7,2150-02-20 08:00:00,2150-03-31 10:00:00,2150-03-31 10:00:00,URGENT
"""
# 10: I50 half a year after the ECG; version 10 of a code that begins with 428 is no heart failure
DIAGNOSES = """subject_id,hadm_id,seq_num,icd_code,icd_version
10,1,1,4280,10
10,2,3,I5023,10
10,3,1,I509,10
20,4,1,I10,10
30,5,2,42821  ,9
60,6,1,I509,9
80,77,1,I50.9,10
"""


def mimic(tmp_path, packed=False):
    files = {"patients": PATIENTS, "admissions": STAYS, "diagnoses_icd": DIAGNOSES}
    folder = tmp_path / "mimic-iv-3.1" / "hosp"
    folder.mkdir(parents=True)
    for name, text in files.items():
        raw = gzip.compress(text.encode()) if packed else text.encode()
        (folder / f"{name}.csv{'.gz' if packed else ''}").write_bytes(raw)
    return tmp_path / "mimic-iv-3.1"


def mimic_cohort(dates=True):
    listed = pd.read_csv(io.StringIO(STUDIES), dtype={"ecg_time": str})
    told = {"recording_date": listed["ecg_time"].astype(str)} if dates else {}
    return cohort_of(listed["subject_id"].to_numpy(), age=np.nan, sex=np.nan, **told)


def test_mimic(tmp_path):
    outcomes = read_outcomes(mimic(tmp_path), mimic_cohort(), "mimic-iv")
    assert when(outcomes) == {
        10: (180.0, 1),  # admitted 2180-11-06, with I5023
        20: (150.58, 2),  # dod at the end of its day, without a later stay
        40: (0.02, 2),  # died on the day of the ECG: the end of that day
        60: (395.0, 0),  # dod two years on is past a year after the last discharge
        70: (30.0, 2),  # died in hospital
    }
    assert reasons(outcomes) == {
        "later_ecg": 1, "prevalent": 1, "no_follow_up": 1, "undated_event": 1, "bad_time": 1,
        "unknown_patient": 1,
    }  # fmt: skip
    assert len(outcomes) + len(outcomes.left_out) == 11
    by = outcomes.table.set_index("patient_id")
    assert by.loc[10, ["age", "sex"]].tolist() == [52, 1] and by.loc[20, "age"] == 90
    assert "428" in outcomes.describe() and outcomes.outcome == "heart failure"


def test_mimic_prevalent_cases_are_those_before_during_and_within_a_day(tmp_path):
    folder = mimic(tmp_path)
    for begun, left_out in (("2149-12-30 08:00:00", True), ("2150-01-03 09:00:00", True),
                            ("2150-01-03 11:00:00", False)):  # fmt: skip
        text = STAYS.replace("30,5,2149-12-30 08:00:00", f"30,5,{begun}")
        (folder / "hosp" / "admissions.csv").write_text(text)
        outcomes = read_outcomes(folder, mimic_cohort(), "mimic-iv")
        assert ("prevalent" in reasons(outcomes)) == left_out
        assert (30 in when(outcomes)) != left_out


def test_mimic_packed_in_a_zip_and_dated_by_record_list(tmp_path):
    folder = mimic(tmp_path, packed=True)
    plain = read_outcomes(folder, mimic_cohort(), "mimic-iv")
    (folder / "record_list.csv").write_text(STUDIES)
    archive = tmp_path / "mimic-iv-3.1.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*.*")):
            packed.write(path, path.relative_to(tmp_path))
    outcomes = read_outcomes(archive, mimic_cohort(dates=False), "mimic-iv")
    assert when(outcomes) == when(plain) and reasons(outcomes) == reasons(plain)


def test_mimic_without_its_tables_is_one_sentence(tmp_path):
    folder = mimic(tmp_path)
    (folder / "hosp" / "diagnoses_icd.csv").write_text("subject_id,hadm_id\n1,2\n")
    with pytest.raises(DataError, match="no column icd_code, icd_version"):
        read_outcomes(folder, mimic_cohort(), "mimic-iv")
    (folder / "hosp" / "admissions.csv").unlink()
    with pytest.raises(DataError, match="holds no admissions.csv"):
        read_outcomes(folder, mimic_cohort(), "mimic-iv")


# --- UK Biobank -----------------------------------------------------------------------------------


def test_ukb_status_and_days(tmp_path):
    cohort = cohort_of([1000001, 1000001, 1000002, 1000003, 1000004])
    rows = np.array([[1, 400, 1000001], [0, 1590, 1000002], [1, -20, 1000003], [0, 7, 1999999],
                     [np.nan, 5, 1000004]])  # fmt: skip
    np.save(tmp_path / "y_status_duration.npy", rows)
    pd.DataFrame(rows, columns=["status", "days", "eid"]).to_csv(tmp_path / "y.csv", index=False)
    for name in ("y_status_duration.npy", "y.csv"):
        outcomes = read_outcomes(tmp_path / name, cohort, "uk-biobank")
        assert when(outcomes) == {1000001: (400, 1), 1000002: (1590, 0)}
        assert outcomes.table["ecg_id"].tolist() == [101, 103]  # the first of each
        assert reasons(outcomes) == {"prevalent": 1, "not_in_cohort": 1, "bad_event": 1}
    np.save(tmp_path / "flat.npy", rows.ravel())
    with pytest.raises(DataError, match=r"status, days and eid are \(n, 3\)"):
        read_outcomes(tmp_path / "flat.npy", cohort, "uk-biobank")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no .npy of numbers"):
        read_outcomes(tmp_path / "objects.npy", cohort, "uk-biobank")


UKB = """{eid},{ecg},{hf},{death},{lost},{sex},{age}
1,2015-01-01,2016-01-01,,,1,61
2,2015-01-01,,2017-01-01,,0,62
3,2015-01-01,,,2015-07-01,0,63
4,2015-01-01,,,,1,64
5,2015-01-01,2014-06-01,,,1,65
6,2015-01-01,2037-07-07,,,1,66
7,,2016-01-01,,,1,67
8,2015-01-01,2018-01-01,2018-01-01,,1,
9,2015-01-01,2015-01-01,,,1,69
10,2015-01-01,soon,,,1,70
"""
CLASSIC = {"eid": "eid", "ecg": "53-2.0", "hf": "131354-0.0", "death": "40000-0.0",
           "lost": "191-0.0", "sex": "31-0.0", "age": "21003-2.0"}  # fmt: skip
PLATFORM = {"eid": "participant.eid", "ecg": "participant.p53_i2", "hf": "participant.p131354",
            "death": "participant.p40000_i0", "lost": "participant.p191", "sex": "participant.p31",
            "age": "participant.p21003_i2"}  # fmt: skip


@pytest.mark.parametrize("names", [CLASSIC, PLATFORM])
def test_ukb_dates(tmp_path, names):
    path = tmp_path / "ukb.csv"
    path.write_text(UKB.format(**names))
    cohort = cohort_of(np.arange(1, 11), age=np.nan, sex=np.nan)
    outcomes = read_outcomes(path, cohort, "uk-biobank")
    assert when(outcomes) == {
        1: (365, 1), 2: (731, 2), 3: (181, 0),
        4: (1096, 0),  # nothing recorded: until the last date of anybody, 2018-01-01
    }  # fmt: skip
    assert reasons(outcomes) == {"prevalent": 2, "undated_event": 1, "bad_time": 2,
                                 "unknown_age": 1}  # fmt: skip
    assert outcomes.table["sex"].tolist() == [0, 1, 1, 0]  # theirs is 1 for men, ours 0
    assert "follow-up ends on 2018-01-01" in outcomes.describe()
    path.write_text(UKB.format(**names).replace(names["hf"], "other"))
    with pytest.raises(DataError, match="no column date_hf.*give status and days"):
        read_outcomes(path, cohort, "uk-biobank")


def test_the_map_is_a_setting(tmp_path):
    from ecgkit.config.risk import RiskConfig

    (tmp_path / "exams.csv").write_text(EXAMS)
    params = {"OUTCOMES": str(tmp_path), "OUTCOME_MAP": "code-15"}
    outcomes = open_outcomes(RiskConfig.from_params(params), cohort_of([1, 2, 2, 3, 4, 5]))
    assert len(outcomes) == 3 and outcomes.outcome == "death of any cause"


def test_the_command_lists_what_it_leaves_out_and_writes_the_rest(tmp_path, capsys, monkeypatch):
    from ecgkit.cli import main
    from ecgkit.data import cohort as cohort_module

    monkeypatch.setattr(cohort_module, "open_cohort", lambda _: cohort_of([1, 2, 2, 3, 4, 5]))
    (tmp_path / "exams.csv").write_text(EXAMS)
    options = ["--outcomes", str(tmp_path), "--outcome-map", "code-15", "--to", str(tmp_path / "o")]
    assert main(["data", "outcomes", *options]) == 0
    said = capsys.readouterr().out
    assert "7 = 3 + 4" in said and "left out, no_first_exam: 1, for one: Row 3 of exams.csv" in said
    written = pd.read_csv(tmp_path / "o" / "outcomes.csv")
    assert written["event"].tolist() == [0, 1, 1] and not written["simulated"].any()


def test_an_edited_table_is_another_run(tmp_path):
    from ecgkit import runner_files
    from ecgkit.config.risk import RiskConfig

    path = tmp_path / "follow_up.csv"
    path.write_text("a\n1\n")
    config = RiskConfig.from_params({"OUTCOMES": str(path)})
    before = runner_files.fingerprint("07_risk_finetuning", config, "", {})
    assert runner_files.fingerprint("07_risk_finetuning", config, "", {}) == before
    path.write_text("a\n1\n2\n")
    assert runner_files.fingerprint("07_risk_finetuning", config, "", {}) != before
