"""Machine statements brought to one wording, and the note that tells how each looks.

Carts print one finding in many ways: "*** INFERIOR INFARCT - POSSIBLY ACUTE ***" and "Inferior
infarct, age undetermined." both speak of an inferior infarct. `normalise` takes off decoration,
spelling and qualifiers; `codes_of` gives the codes of the notes (text/knowledge) it speaks of.
A statement about the recording, such as an unsuitable lead, is technical: it describes no heart.

Source: the published dictionary of ESI has 3,862 keys that are 2,905 statements, and describes
waveforms for 596 of 637 about unsuitable leads (`is_technical` is why ours does not).

Usage:

    normalise("(9@128) Possible 1st degree A-V block.")     # "first degree av block"
    qualifiers("Possible anterior infarct - age undetermined")  # ("possible", "age undetermined")
    codes_of("Sinus rhythm with PVC(s)")                    # ("SR", "PVC")
    is_technical("Lead(s) unsuitable for analysis: V1")     # True
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from ecgkit.data.scp_table import scp_statements
from ecgkit.data.sources.machine_statements import read_statement
from ecgkit.data.sources.machine_wordings import PLAIN
from ecgkit.text.passages import read_folder

_SPELLINGS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\(\d+@\d+\)|[*\"]", " "),  # the cart's rule numbers and stars
        (r"[-,;:]? ?no further (?:rhythm )?analysis(?: attempted.*)?", " "),
        (r"&", " and "),
        (r"ischaem", "ischem"),
        (r"(?<=[a-z])\(s\)|(?<=[a-z])'s\b", "s"),
        (r"\ba-v\b", "av"),
        (r"\bnon-(?=spec|diag|cond)", "non"),
        (r"\bpre-(?=exc)", "pre"),
        (r"\bbi-(?=atr|ventr)", "bi"),
        (r"\b([prstuq])-(?=wave|r int|t int|t\b|r\b)", r"\1 "),
        (r"\b1st\b", "first"),
        (r"\b2nd\b", "second"),
        (r"\b3rd\b", "third"),
        (r"(?<=first|third)-(?=degree)|(?<=second)-(?=degree)", " "),
        (r"\bcan not\b", "cannot"),
        (r"[^a-z0-9:/']+|(?<![a-z0-9])['/:]|[:/](?![a-z0-9])", " "),
        (r"\b[pq] (?=[rt]\b(?! wave))", lambda m: m.group()[0]),  # p r, q t
        (r"\bs t\b(?! wave)", "st"),
        (r"\b(?:electrocardiogram|ekg)\b", "ecg"),
        (r"\bmyocardial infarct(?:ion)?s?\b|\binfarct(?:ion|s)\b|\bmi\b", "infarct"),
        (r"\b(?:ant/septal|antero septal)\b", "anteroseptal"),
        (r"\brbbb\b", "right bundle branch block"),
        (r"\blbbb\b", "left bundle branch block"),
        (r"\birbbb\b", "incomplete right bundle branch block"),
        (r"\bilbbb\b", "incomplete left bundle branch block"),
        (r"\b(left|right) (anterior|posterior) hemiblock\b", r"\1 \2 fascicular block"),
        (r"\blafb\b", "left anterior fascicular block"),
        (r"\blpfb\b", "left posterior fascicular block"),
        (r"\bivcd\b", "intraventricular conduction delay"),
        (r"\biv(?= conduction| block)", "intraventricular"),
        (r"\blad\b", "left axis deviation"),
        (r"\brad\b", "right axis deviation"),
        (r"\blvh\b", "left ventricular hypertrophy"),
        (r"\brvh\b", "right ventricular hypertrophy"),
        (r"\b(?:pvcs?|vpcs?|ventricular premature (?:complex|beat|contraction)(?:es|s)?"
         r"|premature ventricular (?:complex|beat|contraction)(?:es|s)?)\b",
         "premature ventricular complexes"),
        (r"\b(?:pacs?|apcs?|atrial premature (?:complex|beat|contraction)(?:es|s)?"
         r"|premature atrial (?:complex|beat|contraction)(?:es|s)?)\b",
         "premature atrial complexes"),
        (r"\bsvt\b", "supraventricular tachycardia"),
        (r"\bafib\b|\batrial fib\b", "atrial fibrillation"),
        (r"\brepol\b", "repolarization"),
        (r"repolarisation", "repolarization"),
        (r"\babnrm\b", "abnormality"),
        (r"\babnormalities\b", "abnormality"),
        (r" +", " "),
    )
)  # fmt: skip
_QUALIFIERS = {
    "possible": r"possibl[ey]",
    "probable": r"probabl[ey]|likely",
    "consider": r"consider|suspect(?:ed)?|suggests?(?: of)?",
    "cannot rule out": r"cannot (?:rule out|exclude|be (?:ruled out|excluded))",
    "may be": r"(?:may|might) be(?: due to)?",
    "age undetermined": r"age (?:undetermined|indeterminate|unknown)|undetermined age",
    "old": r"old|chronic(?! atrial)|previous",
    "acute": r"acute|recent|new",
    "except": r"except\b.*|otherwise",
    "borderline": r"borderline",
    "minimal": r"minimal|mild",
    "moderate": r"moderate",
    "marked": r"marked|severe",
}
_QUALIFIERS = {name: re.compile(rf"\b(?:{words})\b") for name, words in _QUALIFIERS.items()}
_HEDGES = frozenset(("possible", "probable", "consider", "cannot rule out", "may be", "borderline"))
_TECHNICAL = re.compile(
    r"unsuitable for|missing leads?|\bleads?\b.*\b(?:missing|omitted|not (?:used|recorded|analy))"
    r"|omitted from|\bfaulty\b|interpretation made without|without knowing|not available"
    r"|not entered|assumed to be|arti?efact|artifact|baseline wander|\bnois[ey]|interference"
    r"|(?:data|signal|tracing|ecg) (?:of )?(?:poor )?quality|poor quality|misplace"
    r"|\b(?:leads?|arms?|limbs?|electrodes?|cables?)\b.*revers|revers\w+ of .*leads?"
    r"|electrode|repeat (?:ecg|tracing|recording)|no further (?:rhythm )?analysis"
    r"|analysis (?:error|failed|not|criteria|impossible|based)|not (?:be )?analy[sz]"
    r"|uninterpretable|technically|poor tracing"
    r"|unconfirmed|no (?:ecg|report|signal|previous)\b|pediatric analysis|paced.*not (?:be )?inter"
)
_CLAUSE = re.compile(r"\s+-+\s+|[;,.]\s+")
_RIDER = re.compile(r"\s+(?=with\b|due to\b)")
_NEGATION = re.compile(r"\b(?:no|not|without|absence of|resolved)\b")
# A note of the kit that says more than the broad SCP code read from the same words.
_NARROWER = {
    "LVLIMB": ("LVOLT",), "LVCHEST": ("LVOLT",), "2AVB1": ("2AVB",), "2AVB2": ("2AVB",),
    "VPACE": ("PACE",), "APACE": ("PACE",), "AVPACE": ("PACE",), "HYPERK": ("EL", "TAB_"),
    "HYPOK": ("EL",), "TALLT": ("TAB_",), "BVH": ("LVH", "RVH"), "BAE": ("LAO/LAE", "RAO/RAE"),
    "REPOL": ("NST_",), "LVSTR": ("NST_",), "WAP": ("PACE",), "VFIB": ("AFLT",),
    "AFAFL": ("AFIB", "AFLT"), "JPC": ("PRC(S)",), "MIU": ("MIAGE",),
}  # fmt: skip
# Notes that say little: only where a statement has no other.
_VAGUE = frozenset(("AVB", "BBB", "BRADY", "TACHY", "MIU", "MIAGE", "ABECG", "BLECG"))


def tidy(text: str) -> str:
    """A statement as said, without stars, rule numbers, outer spaces and the closing full stop."""
    text = re.sub(r"\(\d+@\d+\)|\*+", " ", text)
    return re.sub(r"\s+", " ", text).strip(" .-")


@functools.lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """One wording for all ways to print a finding, its qualifiers taken off.

    Where nothing but a qualifier would be left ("borderline ECG"), it stays.
    """
    line = _line(text)
    bare = line
    for pattern in _QUALIFIERS.values():
        bare = pattern.sub(" ", bare)
    bare = re.sub(r"\s+", " ", bare).strip()
    return bare if len(bare.split()) > 1 or (bare and bare == line) else line


@functools.lru_cache(maxsize=1 << 16)
def qualifiers(text: str) -> tuple[str, ...]:
    """What limits a statement, in the order said: possible, old, acute, age undetermined ..."""
    line = _line(text)
    found = {name: pattern.search(line) for name, pattern in _QUALIFIERS.items()}
    return tuple(sorted((n for n, at in found.items() if at), key=lambda n: found[n].start()))


@functools.lru_cache(maxsize=1 << 16)
def is_technical(text: str) -> bool:
    """Whether a statement speaks of the recording or its reading, and of no finding beside."""
    low = text.lower()
    if not _TECHNICAL.search(low):
        return False
    clauses = [part for clause in _CLAUSE.split(low) for part in _RIDER.split(clause)]
    rest = [clause for clause in clauses if not _TECHNICAL.search(clause)]
    return not _line(text) or not any(read_statement(clause) for clause in rest)


def code_of(text: str) -> str:
    """The code of the note that tells most of a statement's look; "" where the words decide none.

    Sinus rhythm is said of most ECGs, so another finding goes before it.
    """
    codes = codes_of(text)
    return next((code for code in codes if code != "SR"), codes[0] if codes else "")


@functools.lru_cache(maxsize=1 << 16)
def codes_of(text: str) -> tuple[str, ...]:
    """Codes of the notes a statement speaks of: SCP's, or the kit's own where SCP has none.

    What is only held possible beside a plain finding gets no code ("prolonged QT - consider
    ischemia" shows a long QT). () for technical, negated and unknown statements.
    """
    if is_technical(text):
        return ()
    scp = [(code, sure == PLAIN) for code, sure in read_statement(text)]
    noted = _noted(text)
    scp_codes = _scp_codes()
    found = scp + ([pair for pair in noted if pair[0] not in scp_codes] if scp else noted)
    plain = [code for code, stated in found if stated and code not in _VAGUE]
    codes = plain or [code for code, _ in found]
    if "acute" in qualifiers(text) and any(code.endswith("MI") for code in codes):
        codes.append("STEMI")
    return _telling(codes)


@functools.lru_cache(maxsize=1 << 12)
def own_codes_of(text: str) -> tuple[str, ...]:
    """The kit's own codes alone, for texts whose SCP codes are known from elsewhere."""
    codes = [code for code, _ in _noted(text) if code not in _scp_codes()]
    return () if is_technical(text) else _telling(codes)


def narrowed(codes: Iterable[str]) -> tuple[str, ...]:
    """`codes` without those that another of them says more narrowly: ("2AVB", "2AVB1") -> the
    second."""
    codes = list(dict.fromkeys(codes))
    broad = {general for code in codes for general in _NARROWER.get(code, ())}
    return tuple(code for code in codes if code not in broad)


def _telling(codes: list[str]) -> tuple[str, ...]:
    return narrowed([code for code in codes if code not in _VAGUE] or codes)


def _line(text: str) -> str:
    """Lower case, one spelling, no decoration; qualifiers are still there."""
    line = text.lower()
    for pattern, plain in _SPELLINGS:
        line = pattern.sub(plain, line)
    return line.strip()


# --- the notes' own wordings ---


def _noted(text: str) -> list[tuple[str, bool]]:
    """(code, stated plainly) of the notes whose wordings stand in `text`; no denied clause counts.

    A long wording goes before a short one that it holds.
    """
    found = []
    for clause in _CLAUSE.split(text):
        line = f" {_line(clause)} "
        if _NEGATION.search(line):
            continue
        plain = " or " not in line and not _HEDGES.intersection(qualifiers(clause))
        for phrase, code in _phrases():
            if f" {phrase} " in line:
                found.append((code, plain))
                line = line.replace(f" {phrase} ", f" {'_' * len(phrase)} ")
    return found


@functools.cache
def _phrases() -> tuple[tuple[str, str], ...]:
    """(wording, code) of every note, the longest first."""
    notes = {_line(said): note.codes[0] for note in read_folder().passages if note.codes
             for said in (note.title, *note.statements)}  # fmt: skip
    return tuple(sorted(notes.items(), key=lambda pair: -len(pair[0])))


@functools.cache
def _scp_codes() -> frozenset[str]:
    return frozenset(scp_statements().index)


@functools.cache
def _titles() -> dict[str, str]:
    return {code: note.title for note in read_folder().passages for code in note.codes}


def title_of(code: str) -> str:
    """What the kit's note about `code` is called, lower case; "" where there is none."""
    title = _titles().get(code, "")
    return title[:1].lower() + title[1:] if title[1:2].islower() else title
