"""SNOMED CT codes and cart statements against SCP codes: nothing lost, nothing claimed too much."""

import re
import zipfile

import numpy as np
import pytest

from ecgkit.data.scp_table import scp_statements
from ecgkit.data.sources import machine_statements, snomed

CODES = list(scp_statements().index)


# --- SNOMED CT ------------------------------------------------------------------------------------


def test_each_code_stands_once_and_means_a_real_statement():
    rows = [line.split("|") for line in (snomed._SCORED.strip() + snomed._UNSCORED).split("\n")]
    codes = [row[0] for row in rows if row[0]]
    assert len(codes) == len(set(codes)) == len(snomed.NAMES) > 130
    assert all(re.fullmatch(r"\d{6,18}", code) for code in codes)
    assert len(snomed.SCORED) == 30
    assert set(snomed.SCP.values()) <= set(CODES)
    assert set(snomed._WRITTEN) <= set(CODES) and set(snomed._WRITTEN.values()) <= set(codes)


@pytest.mark.parametrize(
    "code, scp",
    [
        ("284470004", {"PAC": 100.0}),
        ("427084000", {"STACH": 100.0}),
        ("698252002", {"IVCD": 100.0}),
        ("55930002", {"NST_": 100.0}),  # PTB-XL's NST_, coded so by the challenge
        ("55827005", {"VCLVH": 100.0}),
        ("59118001", {"CRBBB": 100.0}),
        ("57054005", {}),  # abbreviated AMI there: acute, not anterior
        ("164865005", {}),  # an infarct without a place
        ("39732003", {}),  # an axis, not a statement of PTB-XL's
        (426783006, {"SR": 100.0}),  # sinus rhythm does not say normal
    ],
)
def test_codes_mean_what_a_reader_would_say(code, scp):
    assert snomed.to_scp([code]) == scp


def test_a_code_nobody_knows_is_kept_by_number():
    assert snomed.name("999999999") == "999999999"
    assert snomed.unknown(["284470004", " 999999999 ", 426783006]) == ["999999999"]
    assert snomed.to_scp(["999999999"]) == {}


def test_what_is_written_reads_back_or_claims_less():
    same = [code for code in CODES if snomed.to_scp(snomed.from_scp([code])) == {code: 100.0}]
    assert len(same) >= 44 and {"AFIB", "CLBBB", "PVC", "LVH", "1AVB", "AMI"} <= set(same)
    classes = scp_statements()["diagnostic_class"]
    for code in set(CODES) - set(same):
        for back in snomed.to_scp(snomed.from_scp([code])):
            assert (
                classes[back] in (classes[code], np.nan)
                or classes.isna()[back]
                or (code.startswith("INJ") and back == "ISC_")
            ), (code, back)
    assert snomed.from_scp(["SR", "NORM", "IMI", "HVOLT"]) == ["426783006", "164865005"]


def test_every_code_of_the_real_subset_is_known(shared):
    archive = zipfile.ZipFile(shared / "data" / "chapman-subset-10.zip")
    lines = [
        line.split(":", 1)[1]
        for name in archive.namelist()
        if name.endswith(".hea")
        for line in archive.read(name).decode().splitlines()
        if line.startswith("# Dx")
    ]
    codes = [code for line in lines for code in line.split(",")]
    assert len(lines) == 10 and snomed.unknown(codes) == []
    assert all("PAC" in snomed.to_scp(line.split(",")) for line in lines)


# --- cart statements ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("likelihood, read", [(100.0, 100.0), (0.0, 100.0), (35.0, 50.0)])
def test_what_is_worded_reads_back(code, likelihood, read):
    for seed in range(12):
        lines = machine_statements.from_scp({code: likelihood}, np.random.default_rng(seed))
        assert 2 <= len(lines) <= 18 and lines[-2] == ""
        back = machine_statements.to_scp(lines)
        assert back.get(code) == read, (lines, back)
        extra = set(back) - {code}
        assert extra <= {"TAB_"}, (lines, back)  # "Tall T waves" and the like


def test_many_codes_at_once_read_back():
    rng = np.random.default_rng(0)
    for _ in range(300):
        codes = {str(c): 100.0 for c in rng.choice(CODES, 4, replace=False)}
        back = machine_statements.to_scp(machine_statements.from_scp(codes, rng))
        assert set(codes) <= set(back) | {"NORM"}, (codes, back)


def test_a_list_of_codes_is_worded_plainly():
    lines = machine_statements.from_scp(["AFIB", "IMI"], np.random.default_rng(0), axis_deg=-50)
    assert machine_statements.to_scp(lines) == {"AFIB": 100.0, "IMI": 100.0}
    assert any("left axis deviation" in line.lower() for line in lines)


# Lines as the carts of MIMIC-IV-ECG print them, with what a reader would take from each.
REAL = {
    "Sinus rhythm": {"SR": 100},
    "sinus rhythm.": {"SR": 100},
    "SINUS RHYTHM": {"SR": 100},
    "Sinus rhythm with 1st degree A-V block": {"SR": 100, "1AVB": 100},
    "Sinus rhythm with borderline 1st degree A-V block": {"SR": 100, "1AVB": 50},
    "Sinus rhythm with PAC(s)": {"SR": 100, "PAC": 100},
    "Atrial fibrillation with PVC(s) or aberrant ventricular conduction.": {"AFIB": 100, "PVC": 50},
    "Atrial fibrillation with rapid ventricular response": {"AFIB": 100},
    "Atrial flutter with 4:1 A-V block": {"AFLT": 100},
    "Sinus or ectopic atrial rhythm": {},
    "Pacemaker rhythm - no further analysis": {"PACE": 100},
    "Normal ECG": {"NORM": 100},
    "Normal ECG except for rate": {"NORM": 50},
    "Abnormal ECG": {},
    "Borderline ECG": {},
    "Left axis deviation": {},
    "Left bundle branch block": {"CLBBB": 100},
    "Incomplete LBBB": {"ILBBB": 100},
    "Conduction defect of LBBB type": {"IVCD": 100},
    "Incomplete right bundle branch block": {"IRBBB": 100},
    "RBBB with left anterior fascicular block": {"CRBBB": 100, "LAFB": 100},
    "RBBB with RAD - possible left posterior fascicular block": {"CRBBB": 100, "LPFB": 50},
    "IV conduction defect": {"IVCD": 100},
    "Second degree AV block, Mobitz II": {"2AVB": 100},
    "Prolonged QT interval": {"LNGQT": 100},
    "Borderline prolonged QT interval": {"LNGQT": 50},
    "Prolonged QT - consider ischemia, electrolyte imbalance, drug effects": {
        "LNGQT": 100,
        "ISC_": 50,
        "EL": 50,
    },
    "Short PR interval": {},
    "Prolonged P-R interval": {"LPR": 100},
    "Regular rhythm, no P-waves found": {},
    "Sinus rhythm with marked sinus arrhythmia": {"SR": 100, "SARRH": 100},
    "Sinus bradycardia with 1st degree A-V block with PAC(s)": {
        "SBRAD": 100,
        "1AVB": 100,
        "PAC": 100,
    },
    "A-V sequential pacemaker": {"PACE": 100},
    "Wide QRS tachycardia": {},
    "Septal infarct , age undetermined": {"ASMI": 100},
    "ST & T wave abnormality, consider inferior ischemia": {"ISCIN": 50},
    "Left ventricular hypertrophy with ST-T abnormality": {"LVH": 100, "NST_": 100},
    "Low limb lead voltage": {"LVOLT": 100},
    "Inferior Q waves may be due to cardiomyopathy": {"QWAVE": 100},
    "Possible left atrial abnormality": {"LAO/LAE": 50},
    "Consider left atrial abnormality": {"LAO/LAE": 50},
    "Possible biatrial enlargement": {"LAO/LAE": 50, "RAO/RAE": 50},
    "Left ventricular hypertrophy": {"LVH": 100},
    "Left ventricular hypertrophy by voltage only": {"VCLVH": 100},
    "Possible biventricular hypertrophy": {"LVH": 50, "RVH": 50},
    "Low QRS voltages in precordial leads": {"LVOLT": 100},
    "Generalized low QRS voltages - consider pericardial effusion": {"LVOLT": 100},
    "Inferior infarct - age undetermined": {"IMI": 100},
    "Inferior infarct, old": {"IMI": 100},
    "Possible anterior infarct - age undetermined": {"AMI": 50},
    "Cannot rule out anteroseptal infarct - age undetermined": {"ASMI": 50},
    "Poor R wave progression - cannot rule out septal infarct": {"ASMI": 50},
    "Extensive infarct - age undetermined": {},
    "Possible posterior extension of infarct": {"PMI": 50},
    "*** INFERIOR INFARCT - POSSIBLY ACUTE ***": {"IMI": 100},
    "*** CONSIDER ACUTE ST ELEVATION MI ***": {"STE_": 50},
    "No evidence of inferior infarct": {},
    "Q in V1/V2 may be due to LVH though septal infarct cannot be excluded": {
        "LVH": 50,
        "ASMI": 50,
    },
    "Small inferior Q waves noted: probably normal ECG": {"QWAVE": 100, "NORM": 50},
    "Lateral ST-T changes are nonspecific": {"NST_": 100},
    "Inferior ST-T changes may be due to myocardial ischemia": {"ISCIN": 50},
    "Inferior/lateral ST-T changes are probably due to ventricular hypertrophy": {},
    "Ant/septal ST-T abnormality suggests myocardial injury/ischemia": {"ISCAS": 100},
    "Extensive T wave changes may be due to hypertrophy and/or ischemia": {"TAB_": 100, "ISC_": 50},
    "Inferior T wave abnormality is nonspecific": {"NDT": 100},
    "Anterolateral T wave changes are nonspecific": {"NT_": 100},
    "ST junctional depression is nonspecific": {"STD_": 100},
    "Anteroseptal ST elevation, CONSIDER ACUTE INFARCT": {"STE_": 100, "ASMI": 50},
    "WPW pattern - probable left anterolateral accessory pathway": {"WPW": 100},
    "Possible faulty V2 - omitted from analysis": {},
    "Baseline artifact": {},
    "": {},
}


@pytest.mark.parametrize("line", REAL)
def test_real_lines_are_read_as_a_reader_would(line):
    assert machine_statements.to_scp([line]) == REAL[line]


def test_the_surest_reading_counts_and_gaps_are_passed_over():
    lines = ["Possible inferior infarct", np.nan, None, "", "Inferior infarct, old", 3.0]
    assert machine_statements.to_scp(lines) == {"IMI": 100.0}


@pytest.mark.parametrize(
    "said, never",
    [
        ("Supraventricular premature beats", "PVC"),
        ("Incomplete AV block", "3AVB"),
        ("Ventricular flutter", "AFLT"),
        ("Wandering atrial pacemaker", "PACE"),
        ("Abnormal tracing", "TAB_"),
    ],
)
def test_a_statement_is_not_read_as_the_one_inside_it(said, never):
    assert never not in machine_statements.to_scp([said])
