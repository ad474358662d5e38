"""Statements of ECG carts, as MIMIC-IV-ECG's `report_0` to `report_17` hold them, and SCP codes.

Reading: a line is brought to one spelling, cut into clauses, and each clause is searched for what
SCP-ECG has a statement for; what the kit does not know is passed over. A clause with a hedge
("possible", "cannot rule out", "borderline", "may be due to") gives likelihood 50, a plain one 100,
a negated one ("no evidence of") nothing. MIMIC-IV-ECG has about 800,000 ECGs but some three
thousand distinct lines, so readings are cached. The wordings written for simulated ECGs are those
carts of this make print (`machine_wordings`).

Usage:

    to_scp(["Sinus rhythm with PVC(s)", "Possible left atrial abnormality"])
    # {"SR": 100.0, "PVC": 100.0, "LAO/LAE": 50.0}
    from_scp({"SBRAD": 0.0, "IMI": 50.0}, rng)
    # ["Sinus bradycardia.", "Possible inferior infarct - age undetermined", "", "Abnormal ECG"]
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from ecgkit.data.sources.machine_wordings import HEDGED, PLAIN, from_scp

__all__ = ["from_scp", "read_statement", "to_scp"]

_HEDGE = re.compile(
    r"\b(possibl[ey]|probabl[ey]|consider|suspect|cannot (rule out|be excluded)|can ?not exclude"
    r"|may be|might be|borderline|minimal|rule out|or|except|otherwise|likely|questionable)\b|\?"
)
# "Cannot rule out" and "cannot be excluded" speak of a finding without denying it.
_NEGATION = re.compile(r"\b(no|without|absence of|resolved)\b|(?<!can )\bnot\b(?! be excluded)")
# A clause ends at punctuation, and before words that start a new thought; these stay with it. A
# comma alone goes on with a list, doubt and all.
_CUT = re.compile(
    r"\s+-+\s+|[;:]\s+|,\s+(?=possibl|probabl)|\s+(?=with\b|but\b|though\b|suggests?\b|consider\b"
    r"|cannot rule\b|may be\b|and/or\b|(?:is|are) (?:probably|possibly)\b|which (?:may|is)\b)"
)
_PLACES = (
    ("I", r"infer(?:ior|o)"),
    ("A", r"\bant(?:erior|ero|)(?=\b|sept|later)"),
    ("S", r"septal"),
    ("L", r"lateral\b"),
    ("P", r"poster(?:ior|o)"),
)
_PLACES = tuple((letter, re.compile(pattern)) for letter, pattern in _PLACES)
# SCP-ECG has no septal infarct; its anteroseptal one is the nearest.
_INFARCT = {
    "I": "IMI", "A": "AMI", "S": "ASMI", "L": "LMI", "P": "PMI", "AS": "ASMI", "AL": "ALMI",
    "IL": "ILMI", "IP": "IPMI", "ILP": "IPLMI", "ASL": "ALMI",
}  # fmt: skip
_ISCHAEMIA = {
    "I": "ISCIN", "A": "ISCAN", "S": "ISCAS", "L": "ISCLA", "AS": "ISCAS", "AL": "ISCAL",
    "IL": "ISCIL",
}  # fmt: skip
_INJURY = {
    "I": "INJIN", "S": "INJAS", "L": "INJLA", "AS": "INJAS", "AL": "INJAL", "IL": "INJIL",
}  # fmt: skip
_RIGHT = r"(?:right bundle branch block|\brbbb\b)"
_LEFT = r"(?:left bundle branch block|\blbbb\b)"
_QT = r"q-?t ?c?\b(?: interval)?"
_ST, _T = r"\bst(?: ?- ?t| ?& ?t)?\b", r"\bt(?: ?-? ?waves?)?\b"
_ODD = r"(?: wave| segment)?s? (?:abnormalit(?:y|ies)|changes?)"
_AV = r"(?:a-?v|atrioventricular)"
_BUNDLE = rf"(?:{_LEFT}|{_RIGHT})"

# What a clause says, the narrow before the wide: a match is taken out of the clause, so that an
# incomplete block is not read again as a complete one. Code, then the alternatives of its pattern.
_PATTERNS = (
    # conduction
    (
        "IVCD",
        r"\b(?:iv|intraventricular) (?:conduction|block)(?: (?:defect|delay|disturbance))?",
        r"\bivcd\b",
        rf"conduction defect of {_BUNDLE} type",
    ),
    ("ILBBB", rf"incomplete {_LEFT}", r"\bilbbb\b"),
    ("IRBBB", rf"incomplete {_RIGHT}", r"\birbbb\b"),
    ("CLBBB", _LEFT),
    ("CRBBB", _RIGHT),
    ("LAFB", r"left anterior (?:fascicular block|hemiblock)", r"\blafb\b"),
    ("LPFB", r"left posterior (?:fascicular block|hemiblock)", r"\blpfb\b"),
    ("1AVB", rf"(?:1st|first)[ -]degree {_AV}(?: conduction)?(?: block| delay)?"),
    (
        "2AVB",
        rf"(?:2nd|second)[ -]degree {_AV}(?: block)?(?: mobitz i+)?",
        r"mobitz(?: type)? i+",
        r"wenckebach",
    ),
    ("3AVB", rf"(?:3rd|third)[ -]degree {_AV}(?: block)?", r"\bcomplete (?:heart|a-?v) block"),
    ("LPR", r"(?:prolonged|long) p-?r\b(?: interval)?"),
    ("WPW", r"\bwpw\b", r"wolff-? ?parkinson", r"pre-?excitation"),
    (
        "LNGQT",
        rf"(?:prolonged|long) {_QT}",
        rf"{_QT} (?:interval )?(?:prolongation|prolonged)",
    ),
    # rhythm and ectopy
    ("PACE", r"\bpac(?:ed|ing)\b", r"(?<!wandering )(?<!wandering atrial )pace-?maker"),
    ("AFIB", r"atrial fib(?:rillation)?\b", r"\bafib\b"),
    ("AFLT", r"(?<!ventricular )(?:atrial )?\bflutter"),
    ("PSVT", r"paroxysmal (?:supraventricular|sv) tachy\w*", r"\bpsvt\b"),
    (
        "SVTAC",
        r"supraventricular tachy\w*",
        r"\bsvt\b",
        r"(?<!or ectopic )\batrial tachycardia",
    ),
    ("SVARR", r"supraventricular arrhythmia"),
    ("SARRH", r"sinus arrhythmia"),
    ("SBRAD", r"sinus bradycardia"),
    ("STACH", r"sinus tachycardia"),
    ("SR", r"sinus rhythm"),
    ("BIGU", r"bigemin\w+"),
    ("TRIGU", r"trigemin\w+"),
    (
        "PVC",
        r"\bpvc(?:\(s\)|'?s)?(?!\w)",
        r"premature ventricular \w+",
        r"(?<!supra)ventricular premature \w+",
        r"(?<!supra)ventricular (?:ectop\w*|extrasystoles?)",
    ),
    (
        "PAC",
        r"\bpac(?:\(s\)|'?s)?(?!\w)",
        r"premature (?:atrial|supraventricular) \w+",
        r"atrial premature \w+",
        r"supraventricular (?:ectop\w*|extrasystoles?|premature \w+)",
    ),
    ("PRC(S)", r"premature (?:ectopic )?(?:complex(?:es)?|beats?)", r"ectopic (?:complexes|beats)"),
    # chambers and voltage
    (
        "VCLVH",
        r"(?:left ventricular hypertrophy|lvh) (?:by|based on) voltage",
        r"voltage criteria (?:for|of) (?:left ventricular hypertrophy|lvh)",
    ),
    ("LVH+RVH", r"biventricular hypertrophy"),
    ("LVH", r"left ventricular hypertrophy", r"\blvh\b"),
    ("RVH", r"right ventricular hypertrophy", r"\brvh\b"),
    ("SEHYP", r"septal hypertrophy"),
    ("LAO/LAE+RAO/RAE", r"bi-?atrial (?:enlargement|abnormality|overload)"),
    ("LAO/LAE", r"left atrial (?:enlargement|abnormality|overload|hypertrophy)"),
    ("RAO/RAE", r"right atrial (?:enlargement|abnormality|overload|hypertrophy)"),
    ("LVOLT", r"low (?:limb lead |precordial )?(?:qrs )?voltages?"),
    ("HVOLT", r"high (?:qrs )?voltages?"),
    ("QWAVE", r"\bq[ -]?waves?"),
    ("ABQRS", r"abnormal qrs"),
    # ST-T; INJ, ISC and MI stand for one code per wall (`_placed`)
    ("INJ", r"subendocardial injury"),
    ("ISC", r"ischem\w+"),
    ("ANEUR", r"aneurysm"),
    ("DIG", r"digitalis", r"digoxin"),
    ("EL", r"electrolyte", r"(?:hyper|hypo)-?(?:kal|calc)\w+"),
    ("STD_", rf"{_ST}(?: segment)?(?: junctional)? depression"),
    ("STE_", rf"{_ST}(?: segment)? elevation"),
    ("INVT", rf"{_T} inversions?", rf"inverted {_T}"),
    ("LOWT", rf"low {_T} amplitude", rf"low amplitude {_T}", rf"flat(?:tened)? {_T}"),
    ("NST_", rf"{_ST}{_ODD}"),
    (
        "NDT",
        rf"non-?diagnostic {_T}{_ODD}",
        rf"non-?specific {_T} abnormalit(?:y|ies)",
        rf"{_T} abnormalit(?:y|ies) (?:is|are) non-?specific",
    ),
    ("NT_", rf"non-?specific {_T} changes?", rf"{_T} changes? (?:is|are) non-?specific"),
    ("TAB_", rf"{_T}{_ODD}", rf"abnormal {_T}"),
    ("MI", r"infarct(?:ion|s)?\b", r"\bmi\b"),
    (
        "NORM",
        r"\bnormal (?:ecg|tracing)",
        r"(?:ecg|tracing) (?:is )?within normal limits",
    ),
)
_PATTERNS = tuple((code, re.compile("|".join(ways))) for code, *ways in _PATTERNS)


def to_scp(statements: Iterable) -> dict[str, float]:
    """Lines of one ECG -> {SCP code: 100 plain | 50 hedged}; the surest reading of a code counts.

    Anything that is no text (NaN of an empty column, None) is passed over.
    """
    found: dict[str, float] = {}
    for statement in statements:
        if isinstance(statement, str) and statement:
            for code, likelihood in read_statement(statement):
                found[code] = max(likelihood, found.get(code, 0.0))
    return found


@functools.lru_cache(maxsize=1 << 16)
def read_statement(statement: str) -> tuple[tuple[str, float], ...]:
    """One line -> ((code, likelihood), ...), in the order of the clauses."""
    line = _normalise(statement)
    places = _places(line)
    caused = bool(re.search(r"may be due|probably due|suggest|consider", line))
    found: dict[str, float] = {}
    for clause in _CUT.split(line):
        if _NEGATION.search(clause):
            continue
        likelihood = HEDGED if _HEDGE.search(clause) else PLAIN
        for code in _codes(clause, places):
            if code == "NST_" and caused and "specific" not in line:
                continue  # ST-T changes with a cause named are no non-specific ones
            found[code] = max(likelihood, found.get(code, 0.0))
    return tuple(found.items())


def _normalise(statement: str) -> str:
    """Lower case, single spaces, American spelling, no stars, brackets or closing full stop."""
    line = statement.lower().replace("ischaem", "ischem").replace("*", " ")
    line = re.sub(r"ant/septal", "anteroseptal", line)
    line = re.sub(r"(?<=[a-z])\.(?=\s|$)|\.+\s*$", " ", line)
    return re.sub(r"\s+", " ", line).strip()


def _places(text: str) -> str:
    """Letters of the walls a text names, in the order I A S L P; fascicles are no walls."""
    text = re.sub(r"left (?:anterior|posterior) (?:fascic|hemi)", " ", text)
    text = re.sub(r"(?:antero|postero)lateral accessory|posteroseptal accessory", " ", text)
    return "".join(letter for letter, pattern in _PLACES if pattern.search(text))


def _codes(clause: str, places: str) -> list[str]:
    """SCP codes a clause speaks of. `places`: the walls its line names."""
    found = []
    here = _places(clause) or places
    for code, pattern in _PATTERNS:
        clause, times = pattern.subn(" ", clause)
        if times:
            found += _placed(code, here)
    return found


def _placed(code: str, places: str) -> list[str]:
    """The codes a pattern stands for: places put in, pairs taken apart."""
    if code == "MI":
        return [_INFARCT[places]] if places in _INFARCT else []
    if code == "INJ":
        return [_INJURY[places]] if places in _INJURY else []
    if code == "ISC":
        return [_ISCHAEMIA.get(places, "ISC_")]
    return code.split("+")
