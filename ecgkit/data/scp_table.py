"""The 71 SCP-ECG statements PTB-XL uses, as the table its `scp_statements.csv` holds.

Terms, flags and the diagnostic grouping are the SCP-ECG standard's (ISO 11073-91064) and PTB-XL's;
the columns of other code systems (AHA, aECG, CDISC, DICOM) are present but left empty, since
nothing in the kit reads them.

Usage:

    table = scp_statements()                 # index = code
    table.loc["IMI", "diagnostic_class"]     # "MI"
"""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = [
    "description",
    "diagnostic",
    "form",
    "rhythm",
    "diagnostic_class",
    "diagnostic_subclass",
    "Statement Category",
    "SCP-ECG Statement Description",
    "AHA code",
    "aECG REFID",
    "CDISC Code",
    "DICOM Code",
]

_CATEGORIES = {
    "st-other": "other ST-T descriptive statements",
    "st-root": "Basic roots for coding ST-T changes and abnormalities",
    "st-isch": "ischemic ST-T changes",
    "st-inj": "ischemic ST-T changes compatible with subendocardial injury",
    "st-phys": "physiopathological nature of ST-T changes",
    "norm": "Normal/abnormal",
    "mi": "Myocardial Infarction",
    "hyp": "Ventricular Hypertrophy",
    "atrial": "Atrial statements",
    "cd": "Intraventricular and intra-atrial Conduction disturbances",
    "av": "Sinus node dysfunction, atrial and AV-conduction defects",
    "ectopic": "Statements related to ectopic rhythm abnormalities",
    "impulse": "Statements related to impulse formation (abnormalities)",
    "qrs": "Other QRS morphology descriptive statements",
    "pace": "Pacemaker types and pacemaker function",
}

# code | kind: d diagnostic, f form, r rhythm | class | subclass | category | description | SCP-ECG
# text where it differs
_STATEMENTS = """
NDT|df|STTC|STTC|st-other|non-diagnostic T abnormalities|
NST_|df|STTC|NST_|st-root|non-specific ST changes|
DIG|df|STTC|STTC|st-other|digitalis-effect|suggests digitalis-effect
LNGQT|df|STTC|STTC|st-other|long QT-interval|
NORM|d|NORM|NORM|norm|normal ECG|
IMI|d|MI|IMI|mi|inferior myocardial infarction|
ASMI|d|MI|AMI|mi|anteroseptal myocardial infarction|
LVH|d|HYP|LVH|hyp|left ventricular hypertrophy|
LAFB|d|CD|LAFB/LPFB|cd|left anterior fascicular block|
ISC_|d|STTC|ISC_|st-root|non-specific ischemic|ischemic ST-T changes
IRBBB|d|CD|IRBBB|cd|incomplete right bundle branch block|
1AVB|d|CD|_AVB|av|first degree AV block|
IVCD|d|CD|IVCD|cd|non-specific intraventricular conduction disturbance (block)|\
non-specific intraventricular conduction disturbance
ISCAL|d|STTC|ISCA|st-isch|ischemic in anterolateral leads|in anterolateral leads
CRBBB|d|CD|CRBBB|cd|complete right bundle branch block|(complete) right bundle branch block
CLBBB|d|CD|CLBBB|cd|complete left bundle branch block|(complete) left bundle branch block
ILMI|d|MI|IMI|mi|inferolateral myocardial infarction|
LAO/LAE|d|HYP|LAO/LAE|atrial|left atrial overload/enlargement|
AMI|d|MI|AMI|mi|anterior myocardial infarction|
ALMI|d|MI|AMI|mi|anterolateral myocardial infarction|
ISCIN|d|STTC|ISCI|st-isch|ischemic in inferior leads|in inferior leads
INJAS|d|MI|AMI|st-inj|subendocardial injury in anteroseptal leads|in anteroseptal leads
LMI|d|MI|LMI|mi|lateral myocardial infarction|
ISCIL|d|STTC|ISCI|st-isch|ischemic in inferolateral leads|in inferolateral leads
LPFB|d|CD|LAFB/LPFB|cd|left posterior fascicular block|
ISCAS|d|STTC|ISCA|st-isch|ischemic in anteroseptal leads|in anteroseptal leads
INJAL|d|MI|AMI|st-inj|subendocardial injury in anterolateral leads|in anterolateral leads
ISCLA|d|STTC|ISCA|st-isch|ischemic in lateral leads|in lateral leads
RVH|d|HYP|RVH|hyp|right ventricular hypertrophy|
ANEUR|d|STTC|STTC|st-other|ST-T changes compatible with ventricular aneurysm|
RAO/RAE|d|HYP|RAO/RAE|atrial|right atrial overload/enlargement|
EL|d|STTC|STTC|st-phys|electrolytic disturbance or drug (former EDIS)|\
compatible with electrolyte abnormalities
WPW|d|CD|WPW|cd|Wolf-Parkinson-White syndrome|Wolff-Parkinson-White syndrome
ILBBB|d|CD|ILBBB|cd|incomplete left bundle branch block|
IPLMI|d|MI|IMI|mi|inferoposterolateral myocardial infarction|
ISCAN|d|STTC|ISCA|st-isch|ischemic in anterior leads|in anterior leads
IPMI|d|MI|IMI|mi|inferoposterior myocardial infarction|
SEHYP|d|HYP|SEHYP|hyp|septal hypertrophy|
INJIN|d|MI|IMI|st-inj|subendocardial injury in inferior leads|in inferior leads
INJLA|d|MI|AMI|st-inj|subendocardial injury in lateral leads|in lateral leads
PMI|d|MI|PMI|mi|posterior myocardial infarction|
3AVB|d|CD|_AVB|av|third degree AV block|
INJIL|d|MI|IMI|st-inj|subendocardial injury in inferolateral leads|in inferolateral leads
2AVB|d|CD|_AVB|av|second degree AV block|
ABQRS|f|||norm|abnormal QRS|
PVC|f|||ectopic|ventricular premature complex|ventricular premature complex (beat)
STD_|f|||st-root|non-specific ST depression|
VCLVH|f|||hyp|voltage criteria (QRS) for left ventricular hypertrophy|
QWAVE|f|||qrs|Q waves present|
LOWT|f|||st-other|low amplitude T-waves|
NT_|f|||st-root|non-specific T-wave changes|
PAC|f|||ectopic|atrial premature complex|atrial premature complex (beat)
LPR|f|||impulse|prolonged PR interval|Prolonged PR interval
INVT|f|||st-other|inverted T-waves|
LVOLT|f|||qrs|low QRS voltages in the frontal and horizontal leads|
HVOLT|f|||qrs|high QRS voltage|
TAB_|f|||st-root|T-wave abnormality|
STE_|f|||st-root|non-specific ST elevation|
PRC(S)|f|||ectopic|premature complex(es)|
SR|r|||impulse|sinus rhythm|
AFIB|r|||impulse|atrial fibrillation|
STACH|r|||impulse|sinus tachycardia|
SARRH|r|||impulse|sinus arrhythmia|
SBRAD|r|||impulse|sinus bradycardia|
PACE|r|||pace|normal functioning artificial pacemaker|
SVARR|r|||impulse|supraventricular arrhythmia|
BIGU|r|||ectopic|bigeminal pattern (unknown origin, SV or Ventricular)|
AFLT|r|||impulse|atrial flutter|
SVTAC|r|||impulse|supraventricular tachycardia|
PSVT|r|||impulse|paroxysmal supraventricular tachycardia|
TRIGU|r|||ectopic|trigeminal pattern (unknown origin, SV or Ventricular)|
"""


@functools.cache
def _build() -> pd.DataFrame:
    names = [
        "code",
        "kind",
        "diagnostic_class",
        "diagnostic_subclass",
        "category",
        "description",
        "scp",
    ]
    table = pd.read_csv(
        io.StringIO(_STATEMENTS.strip()), sep="|", names=names, keep_default_na=False
    )
    table = table.replace("", np.nan)
    for flag in ("diagnostic", "form", "rhythm"):
        table[flag] = np.where(table["kind"].str.contains(flag[0]), 1.0, np.nan)
    table["Statement Category"] = table["category"].map(_CATEGORIES)
    table["SCP-ECG Statement Description"] = table["scp"].fillna(table["description"])
    table = table.set_index("code").reindex(columns=COLUMNS)
    table.index.name = None  # PTB-XL's first column has no name
    return table


def scp_statements() -> pd.DataFrame:
    """Returns the 71 statements, index = SCP code, columns as PTB-XL's scp_statements.csv (a fresh
    copy).
    """
    return _build().copy()


def write_statements(path: Path) -> None:
    """Writes the table in PTB-XL's file layout, the first column unnamed."""
    _build().to_csv(path, lineterminator="\n")
