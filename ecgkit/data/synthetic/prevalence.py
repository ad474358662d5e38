"""How often each statement stands in a simulated cohort, and with what: two tables of prevalence,
one of company.

"ptbxl" repeats PTB-XL; "learning" keeps the order of things but lifts what is rare, so that 4,000
ECGs hold enough of each statement to learn it. What stands with what is the same in both.

Usage:

    share("learning")["CLBBB"]     # 0.04 of all ECGs
    CODES, COMPANY[i, j], BARRED[i, j], NEEDS["LPR"]
"""

from __future__ import annotations

import numpy as np

from ecgkit.types import ConfigError

TABLES = ("learning", "ptbxl")
N_PTBXL = 21_799  # recordings of PTB-XL 1.0.3

# Sets of statements that are spoken of together below.
GROUPS = {
    "RHYTHM": "AFIB AFLT PACE SVTAC PSVT SVARR STACH SBRAD SARRH",
    "NO_P": "AFIB AFLT PACE SVTAC PSVT",
    "BRANCH": "CLBBB CRBBB ILBBB IRBBB IVCD LAFB LPFB WPW",
    "AV": "1AVB 2AVB 3AVB LPR",
    "SIZE": "LVH RVH VCLVH SEHYP LVOLT HVOLT",
    "ATRIA": "LAO/LAE RAO/RAE",
    "MI_FRONT": "ASMI AMI ALMI",
    "MI_LOW": "IMI ILMI IPMI IPLMI",
    "MI": "ASMI AMI ALMI IMI ILMI IPMI IPLMI LMI PMI",
    "INJ": "INJAS INJAL INJIN INJLA INJIL",
    "ISC": "ISC_ ISCAL ISCIN ISCIL ISCAS ISCLA ISCAN",
    "T": "NDT NT_ TAB_ LOWT INVT",
    "ST_T": "STD_ STE_ NST_ NDT NT_ TAB_ LOWT INVT DIG EL ANEUR LNGQT",
    "QRS": "ABQRS QWAVE",
    "ECTOPY": "PVC PAC PRC(S) BIGU TRIGU",
}
GROUPS = {name: tuple(codes.split()) for name, codes in GROUPS.items()}

# code | recordings in PTB-XL | % of a learning cohort | log-odds per ten years of age | log-odds in
# men | log-odds beside what stands above. Counts: PTB-XL's own table (Wagner et al. 2020, version
# 1.0.3), likelihood 0 included. Folds 1-4 of its first 400 recordings (142 ECGs, mostly young and
# well: NORM 68 %, SR 82 %) agree for SARRH 7 %, IRBBB 5 %, LVH 7 %, NDT 7 %, LAFB 4 %. Log-odds are
# ours, chosen by what clinical texts say of each pair and by those 142 (SARRH and IRBBB beside
# NORM, VCLVH and STD_ beside LVH, NST_ beside AFIB, QWAVE beside MI).
_STATEMENTS = """
NORM|9514|32|-.40|-.2|
AFIB|1514|5|.65|.1|
AFLT|73|1.6|.45|.5|
PACE|294|2|.5|.3|
SVTAC|27|1.4|0|0|
PSVT|24|1.3|0|0|
SVARR|157|1.5|.3|0|
STACH|826|4|-.1|0|NORM -1
SBRAD|637|4.5|0|.4|NORM .2
SARRH|772|4|-.35|0|NORM .7 SBRAD .8
CLBBB|536|4|.4|0|AFIB .3
WPW|79|1.7|-.4|.2|
CRBBB|541|4|.45|.5|AFIB .3
IRBBB|1118|4|-.15|.6|NORM -.2
ILBBB|77|1.6|.2|.2|
IVCD|787|3.5|.2|.4|
LAFB|1623|5.5|.3|.5|CRBBB 1.3 AFIB .2
LPFB|177|1.9|0|.3|CRBBB .8
1AVB|793|4.5|.4|.4|SBRAD .5 CRBBB .6 CLBBB .5 LAFB .6
2AVB|14|1.3|.3|.2|CRBBB .5 CLBBB .3
3AVB|16|1.3|.4|.2|CRBBB .5
LPR|340|2|.2|.2|
LVH|2132|7|.3|.1|AFIB .2
RVH|126|2|-.1|0|
VCLVH|875|4|0|.3|LVH 3.2
SEHYP|29|1.3|0|.3|LVH 1.5
LAO/LAE|426|3|.2|0|LVH 1
RAO/RAE|99|1.8|.1|0|RVH 3 LAO/LAE 1
LVOLT|182|3|.2|-.1|NORM -.3 AFIB .3
HVOLT|62|1.5|-.4|.8|LVH 1.5 VCLVH 1
ASMI|2357|5.5|.3|.5|LAFB .5 AFIB .2
AMI|353|3|.25|.4|
ALMI|288|2.5|.25|.4|
IMI|2676|6.5|.3|.6|MI_FRONT .6 1AVB .3
ILMI|478|2.8|.25|.5|
IPMI|33|1.4|.2|.5|
IPLMI|51|1.4|.2|.5|
LMI|201|2.2|.2|.4|
PMI|17|1.4|.2|.4|
INJAS|215|1.7|.2|.2|ASMI 1.2 LVH .4
INJAL|147|1.5|.2|.2|ALMI 1.2 AMI .8 LVH .6
INJIN|18|1.3|.1|.2|IMI 1.2
INJLA|17|1.3|.1|.2|LMI 1.2 LVH .4
INJIL|15|1.3|.1|.2|ILMI 1.2
QWAVE|548|3|.1|.2|
ANEUR|104|1.5|.2|.4|
ISC_|1272|4.5|.2|0|LVH 2 MI .7 AFIB .4
ISCAL|659|3|.2|-.2|LVH 1.3 MI_FRONT .5
ISCIN|219|1.8|.2|0|MI_LOW .8
ISCIL|179|1.7|.2|0|LVH .5 MI_LOW .8
ISCAS|170|1.7|.1|0|ASMI .6
ISCLA|142|1.6|.2|0|LVH .6
ISCAN|44|1.5|.1|0|
NST_|768|3.5|.2|0|AFIB 1.3
NDT|1825|5.5|.1|-.3|
DIG|181|1.8|.3|0|AFIB 3.2 LVH .3
EL|96|1.6|.1|0|
LNGQT|117|2.5|.1|-.3|EL 1.8 SBRAD .3
STD_|1009|4|.2|-.2|LVH 1.5 ISC_ 3 ISC 1 INJ 1 DIG 1.4 AFIB .3
STE_|28|1.5|-.1|.4|ANEUR 1.5 MI_FRONT 1 MI_LOW .6
INVT|294|3|.1|0|ISC 2 LVH .8 MI .8
LOWT|438|3|.2|-.2|NDT 1.4 AFIB .3
NT_|423|2.5|.1|-.2|NDT 1.8
TAB_|35|1.5|.1|0|
ABQRS|3327|5|.1|.1|MI 2.2 IVCD 1 LAFB .4 QWAVE .5
PVC|1143|4.5|.3|.2|NORM -1.6 LVH .2 MI .3
PAC|398|3.5|.3|0|NORM -1.6
PRC(S)|10|1.2|.2|0|NORM -1
BIGU|82|1.6|.2|.2|PVC 1.6 PAC .8
TRIGU|20|1.5|.2|.2|PVC 1.6 PAC .8
"""
# What one ECG does not show at once. Some pairs cannot be (two rhythms), some hide each other (no
# infarct is read under a left bundle branch block), in some one undoes the other's criterion (Q in
# II, III, aVF takes the r that makes a left anterior block). PTB-XL has a few of the latter two.
_APART = """
RHYTHM | RHYTHM
NO_P | AV ATRIA WPW PAC PRC(S) BIGU TRIGU
SVARR | AV PAC PRC(S) BIGU TRIGU WPW
SARRH STACH | 2AVB 3AVB BIGU TRIGU
STACH | 1AVB LPR LNGQT
SVTAC PSVT | LNGQT PVC CLBBB CRBBB IVCD
PACE | BRANCH AV SIZE ATRIA MI INJ ISC ST_T QRS
CLBBB | BRANCH SIZE MI INJ ISC ST_T QRS
WPW | BRANCH AV SIZE MI INJ ISC ST_T QRS
CRBBB | IRBBB ILBBB IVCD SIZE INJAS ISCAS ISCAN PMI IPMI IPLMI
ILBBB | IRBBB IVCD LAFB LPFB RVH SEHYP LVOLT MI INJAS INJLA
IRBBB | IVCD RVH ASMI AMI PMI IPMI IPLMI
IVCD | LAFB LPFB PMI IPMI IPLMI
LAFB | LPFB RVH MI_LOW AMI ALMI LMI
LPFB RVH | MI_LOW ALMI LMI
LPFB | RVH LVH AMI
3AVB | LAFB LPFB
1AVB | 2AVB 3AVB
2AVB | 3AVB
2AVB 3AVB | LPR ECTOPY LNGQT
LVOLT | LVH VCLVH HVOLT SEHYP RVH
RVH | LVH VCLVH SEHYP MI_FRONT PMI IPMI IPLMI
LVH VCLVH | AMI ALMI ILMI IPLMI LMI
HVOLT | MI_FRONT LMI LOWT
SEHYP | MI INJ
MI_FRONT | MI_FRONT PMI IPMI IPLMI
MI_LOW | MI_LOW ALMI LMI
LMI | ALMI PMI
PMI | IPMI IPLMI
INJ | INJ ISC STE_ NST_ T DIG EL ANEUR
ISC | ISC NST_ NDT NT_ TAB_ LOWT EL ANEUR STE_
ISCAL ISCIN ISCIL ISCAS ISCLA ISCAN | DIG
STD_ | STE_ NST_
DIG | NST_ NDT NT_ LOWT
LOWT | ILMI LMI RVH
IPLMI | NDT NT_
HVOLT | NDT NT_
EL | ILMI MI_FRONT
STE_ | NST_
INVT TAB_ | NDT NT_ LOWT
INVT | TAB_
EL ANEUR | T DIG STE_ NST_ STD_
EL | ANEUR
DIG | STE_ LNGQT
BIGU | TRIGU
"""
_TOGETHER = {("SARRH", "SBRAD"), ("ANEUR", "STE_")}  # what the lists above bar too widely
# A statement that only stands beside one of these.
NEEDS = {"LPR": ("1AVB",), "QWAVE": GROUPS["MI"], "ANEUR": GROUPS["MI_FRONT"]}
# All a normal ECG may have besides sinus rhythm.
BESIDE_NORMAL = "SARRH SBRAD STACH IRBBB LVOLT PVC PAC PRC(S)".split()


def _codes(words: str) -> list[str]:
    """Codes and names of groups -> codes."""
    return [code for word in words.split() for code in GROUPS.get(word, (word,))]


_ROWS = [line.split("|") for line in _STATEMENTS.strip().split("\n")]
CODES = tuple(row[0] for row in _ROWS)  # in the order in which they are drawn
PLACE = {code: i for i, code in enumerate(CODES)}
PER_DECADE, IN_MEN = (np.array([float(row[k]) for row in _ROWS]) for k in (3, 4))
_SHARES = {
    "ptbxl": {row[0]: int(row[1]) / N_PTBXL for row in _ROWS},
    "learning": {row[0]: float(row[2]) / 100 for row in _ROWS},
}


def share(table: str) -> dict[str, float]:
    """Statement -> share of ECGs in one of TABLES, in the order of drawing; SR is not in it (sinus
    rhythm is what is left). Raises ConfigError for another table.
    """
    if table not in _SHARES:
        raise ConfigError(f"PREVALENCE is {table!r}; choose one of {', '.join(TABLES)}.")
    return _SHARES[table]


def _company() -> np.ndarray:
    """(K, K) log-odds of the column's statement where the row's stands."""
    matrix = np.zeros((len(CODES), len(CODES)))
    for row in _ROWS:
        words = row[5].split()
        for name, odds in zip(words[::2], words[1::2]):
            for code in _codes(name):
                matrix[PLACE[code], PLACE[row[0]]] += float(odds)
    return matrix


def _barred() -> np.ndarray:
    """(K, K) bool, symmetric: never on one ECG."""
    matrix = np.zeros((len(CODES), len(CODES)), dtype=bool)
    for line in _APART.strip().split("\n"):
        some, others = (_codes(side) for side in line.split("|"))
        for one in some:
            for other in others:
                if one != other and not {(one, other), (other, one)} & _TOGETHER:
                    matrix[PLACE[one], PLACE[other]] = matrix[PLACE[other], PLACE[one]] = True
    ill = [PLACE[code] for code in CODES if code not in ("NORM", *BESIDE_NORMAL)]
    matrix[0, ill] = matrix[ill, 0] = True
    return matrix


COMPANY, BARRED = _company(), _barred()
