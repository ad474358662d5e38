"""Wordings and answer lists of the kit's own ECG-QA-format questions; every sentence is the kit's.

Template numbers lie in the published families: 1-19 statements, 20-22 heart axis, 23-25 stage of
infarction, 26-34 noise, 35-38 extra beats, 39-42 measurements, 43-56 two ECGs of one patient,
57-70 ECGs of two patients. Of each family only some numbers are used.

Usage:
    TEMPLATES[1].wordings[0].format(a="atrial fibrillation")    # flavour `template`
    TEMPLATES[1].wordings[1:]                                    # flavour `paraphrased`
"""

from __future__ import annotations

from dataclasses import dataclass

from ecgkit.data import qa_vocabulary as words

_NO_YES = ("no", "yes")
_DIAGNOSES = tuple(sorted(words.DIAGNOSTIC.values()))
_FORMS = tuple(sorted([*words.FORM.values(), *(words.DIAGNOSTIC[code] for code in words.BOTH)]))
_RHYTHMS = tuple(sorted(words.RHYTHM.values()))


@dataclass(frozen=True)
class Template:
    """One question form: its ECG-QA types, the answers it allows, its wordings (slots {a}, {b})."""

    question_type: str
    attribute_type: str
    answers: tuple[str, ...]
    wordings: tuple[str, ...]


def _with_none(names) -> tuple[str, ...]:
    return tuple(sorted([*names, "none"]))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _single(kind: str, attribute_type: str, answers: tuple[str, ...], text: str) -> Template:
    return Template(f"single-{kind}", attribute_type, answers, _lines(text))


_VERIFY_A = """
    Is {a} present on this ECG?
    Can {a} be seen in this recording?
    Would you report {a} here?
    Does the tracing carry signs of {a}?
    Looking at this ECG, do you find {a}?
    Should the report of this ECG mention {a}?
"""
_CHOOSE_AB = """
    Which is present on this ECG, {a} or {b}?
    Of {a} and {b}, what can be seen in this recording?
    Would you report {a}, or rather {b}?
    Between {a} and {b}, which does the tracing carry?
    Does this ECG go with {a} or with {b}?
"""

_STATEMENTS = {
    1: _single("verify", "scp_code", words.VERIFY, _VERIFY_A),
    2: _single("verify", "scp_code", _NO_YES, _VERIFY_A),
    3: _single("query", "scp_code", _with_none(words.CATEGORIES.values()), """
        Into which diagnostic groups does this ECG fall?
        Name the diagnostic groups this recording belongs to.
        What broad groups of diagnosis would you list here?
        Which families of diagnosis fit the tracing?
        Sorted by diagnostic group, where does this ECG go?
    """),
    5: _single("query", "scp_code", _with_none(_DIAGNOSES), """
        Which diagnoses does this ECG support?
        List the diagnoses you would make from this recording.
        What would you diagnose on this tracing?
        Name each diagnosis this ECG speaks for.
        Reading this ECG, what are the diagnoses?
    """),
    6: _single("query", "scp_code", _with_none(_FORMS), """
        Which findings of wave shape does this ECG show?
        List what is remarkable about the shape of the waves.
        What would you note on wave form in this recording?
        Name the findings of form on this tracing.
        Looking at the shape of the complexes, what stands out?
    """),
    7: _single("query", "scp_code", _with_none(_RHYTHMS), """
        Which rhythm does this ECG show?
        Name the rhythm of this recording.
        What would you write under rhythm?
        How would you call the rhythm on this tracing?
        Reading this ECG, what is the rhythm?
    """),
    8: _single("choose", "scp_code", _with_none(_DIAGNOSES), _CHOOSE_AB),
    10: _single("choose", "scp_code", _with_none(_RHYTHMS), _CHOOSE_AB),
    11: _single("choose", "scp_code", _with_none(_FORMS), _CHOOSE_AB),
    12: _single("verify", "scp_code", _NO_YES, """
        Is anything abnormal on this ECG?
        Would you find fault with this recording?
        Does the tracing deviate from normal?
        Is there any finding to report here?
        Looking at this ECG, is something wrong?
    """),
}
_AXIS = {
    20: _single("verify", "heart_axis", _NO_YES, """
        Does the heart axis show {a}?
        Judged by the limb leads, is there {a}?
        Would you call the electrical axis {a}?
        Is the axis of this ECG best described as {a}?
        Is {a} what the frontal plane tells?
    """),
    21: _single("choose", "heart_axis", _with_none(words.AXES), """
        Is the heart axis {a} or {b}?
        Judged by the limb leads, is it {a} or {b}?
        Which fits the electrical axis, {a} or {b}?
        Would you describe the axis as {a} or as {b}?
        Of {a} and {b}, what does the frontal plane tell?
    """),
    22: _single("query", "heart_axis", words.AXES, """
        Where does the heart axis point?
        How would you describe the electrical axis?
        What is the axis in the frontal plane?
        Judged by the limb leads, what is the axis?
        Name the heart axis of this ECG.
    """),
}
_STAGE = {
    23: _single("verify", "stage_of_infarction", _NO_YES, """
        Is this {a}?
        Would you date this as {a}?
        Does the ECG speak for {a}?
        Do the waves fit {a}?
        Can you tell {a} from this recording?
    """),
    24: _single("choose", "stage_of_infarction", _with_none(words.STAGES), """
        Is this {a} or {b}?
        Would you date this as {a} or as {b}?
        Does the ECG speak for {a} or for {b}?
        Which do the waves fit, {a} or {b}?
        Of {a} and {b}, what does this recording show?
    """),
    25: _single("query", "stage_of_infarction", words.ALL_STAGES, """
        In what stage is the infarction, if there is one?
        How old is the infarction on this ECG, if any?
        Which stage of infarction do you see?
        Date the infarction of this recording, if it shows one.
        What does the ECG say about the stage of an infarction?
    """),
}
_NOISE = {
    26: _single("verify", "noise", _NO_YES, """
        Is {b} disturbed by {a}?
        Does {a} spoil {b}?
        Looking at {b} alone, is there {a}?
        Can {a} be seen in {b}?
        Would you note {a} for {b}?
    """),
    27: _single("verify", "noise", _NO_YES, """
        Is this recording disturbed by {a}?
        Does {a} spoil this ECG?
        Looking at all leads, is there {a}?
        Can {a} be seen anywhere on the tracing?
        Would you note {a} under signal quality?
    """),
    29: _single("verify", "noise", _NO_YES, """
        Is this recording disturbed at all?
        Does noise of any kind spoil this ECG?
        Would you remark on the signal quality?
        Is any lead of the tracing noisy?
        Looking at all leads, is the signal impaired?
    """),
    30: _single("choose", "noise", _with_none(words.NOISES), """
        Is this recording disturbed by {a} or by {b}?
        Which spoils this ECG, {a} or {b}?
        Under signal quality, would you note {a} or {b}?
        Of {a} and {b}, what can be seen on the tracing?
        Looking at all leads, is it {a} or {b}?
    """),
    33: _single("query", "noise", _with_none(words.NOISES), """
        What disturbs this recording?
        Name the noise that spoils this ECG.
        What would you note under signal quality?
        Which kinds of disturbance does the tracing carry?
        Looking at all leads, what noise is there?
    """),
    34: _single("query", "noise", _with_none(words.LEAD_ANSWERS), """
        Which leads are disturbed by {a}?
        Where on this ECG is {a}?
        Name the leads spoilt by {a}.
        In what leads would you note {a}?
        Looking at each lead, which show {a}?
    """),
}
_EXTRA = {
    35: _single("verify", "extra_systole", _NO_YES, """
        Are there any extra beats on this ECG?
        Does a premature beat interrupt this recording?
        Would you report extra beats of any kind?
        Is the rhythm broken by an early beat?
        Looking at the rhythm strip, do you find extra beats?
    """),
    36: _single("verify", "extra_systole", _NO_YES, """
        Are there {a} on this ECG?
        Do {a} interrupt this recording?
        Would you report {a}?
        Is the rhythm broken by {a}?
        Looking at the rhythm strip, do you find {a}?
    """),
    37: _single("choose", "extra_systole", _with_none(words.EXTRA_BEATS), """
        Are the early beats {a} or {b}, if there are any?
        Which interrupt this recording, {a} or {b}?
        Would you report {a} or {b}?
        Is the rhythm broken by {a} or by {b}?
        Of {a} and {b}, which does the rhythm strip show?
    """),
    38: _single("query", "extra_systole", _with_none(words.EXTRA_BEATS), """
        Which extra beats does this ECG show?
        Name the kind of early beats in this recording.
        What extra beats would you report?
        By what beats is the rhythm broken?
        Looking at the rhythm strip, which extra beats are there?
    """),
}
_NUMBERS = {
    39: _single("verify", "numeric_feature", _NO_YES, """
        Is the {b} {a}?
        Measured on this ECG, does the {b} lie {a}?
        Would you call the {b} {a}?
        Does the {b} of this recording fall {a}?
        Is {a} the right place for the {b} here?
    """),
    40: _single("choose", "numeric_feature", _with_none(words.RANGES), """
        Does the {b} lie {a}?
        Measured on this ECG, is the {b} {a}?
        Would you call the {b} {a}?
        Which holds for the {b} of this recording: {a}?
        Is the {b} here {a}?
    """),
    41: _single("query", "numeric_feature", words.RANGES, """
        Where does the {b} lie against its normal range?
        Measured on this ECG, how does the {b} compare with normal?
        Is the {b} low, normal or high?
        How would you judge the length of the {b}?
        Against its limits, where is the {b} of this recording?
    """),
    42: _single("query", "numeric_feature", _with_none(words.MEASURES), """
        Which measurements of this ECG lie {a}?
        Name the intervals that are {a}.
        What is {a} among the measurements?
        List each measured value that falls {a}.
        Going through the intervals, which are {a}?
    """),
}

# --- two ECGs -------------------------------------------------------------------------------------

# relation -> (verify wordings, query wordings); {one} and {two} become "earlier" and "later" for
# ECGs of one patient, "first" and "second" for ECGs of two.
_CODE_RELATIONS = {
    "new": ("""
        Is {a} on the {two} ECG but not yet on the {one}?
        Does the {two} recording show {a} that the {one} lacks?
        Against the {one} ECG, is {a} new in the {two}?
        Would you call {a} a fresh finding of the {two} ECG?
        Has {a} appeared between the {one} and the {two} ECG?
    """, """
        What does the {two} ECG show that the {one} lacks?
        Name what is new in the {two} recording against the {one}.
        Which findings appeared between the {one} and the {two} ECG?
        List the fresh findings of the {two} ECG.
        Against the {one} ECG, what has come in with the {two}?
    """),
    "gone": ("""
        Is {a} on the {one} ECG but no longer on the {two}?
        Does the {two} recording lack {a} that the {one} shows?
        Against the {one} ECG, has {a} left the {two}?
        Would you say {a} has cleared in the {two} ECG?
        Did {a} vanish between the {one} and the {two} ECG?
    """, """
        What does the {two} ECG lack that the {one} shows?
        Name what has left the {two} recording against the {one}.
        Which findings vanished between the {one} and the {two} ECG?
        List what has cleared in the {two} ECG.
        Against the {one} ECG, what is missing from the {two}?
    """),
    "kept": ("""
        Do both the {one} and the {two} ECG show {a}?
        Is {a} of the {one} recording there in the {two} as well?
        Is {a} common to the {one} and the {two} ECG?
        Would you report {a} on the {two} ECG as on the {one}?
        Does {a} stand in both, the {one} and the {two}?
    """, """
        What do the {one} and the {two} ECG have in common?
        Name the findings of the {one} recording that the {two} shares.
        Which findings stand in both, the {one} and the {two} ECG?
        List what the {two} ECG repeats of the {one}.
        Compared with the {one} ECG, what is there in the {two} as well?
    """),
}
_NUMBER_RELATIONS = {
    "normal now": ("""
        Is the {a} normal on the {two} ECG but not on the {one}?
        Has the {a} come back to normal in the {two} recording?
        Against the {one} ECG, did the {a} of the {two} enter its limits?
        Is an abnormal {a} of the {one} ECG in order on the {two}?
        Would you say the {a} normalised by the {two} ECG?
    """, """
        Which measurements are normal on the {two} ECG but not on the {one}?
        Name the intervals that came back to normal in the {two} recording.
        Against the {one} ECG, what entered its limits in the {two}?
        List each value out of limits on the {one} ECG that is in order on the {two}.
        Which intervals normalised by the {two} ECG?
    """),
    "abnormal now": ("""
        Is the {a} abnormal on the {two} ECG but not on the {one}?
        Has the {a} left its limits in the {two} recording?
        Against the {one} ECG, did the {a} of the {two} go out of range?
        Is a normal {a} of the {one} ECG out of order on the {two}?
        Would you say the {a} turned abnormal by the {two} ECG?
    """, """
        Which measurements are abnormal on the {two} ECG but not on the {one}?
        Name the intervals that left their limits in the {two} recording.
        Against the {one} ECG, what went out of range in the {two}?
        List each value in order on the {one} ECG that is out of limits on the {two}.
        Which intervals turned abnormal by the {two} ECG?
    """),
    "abnormal still": ("""
        Is the {a} abnormal on both the {one} and the {two} ECG?
        Is the {a} out of limits in the {two} recording as in the {one}?
        Has the {a} stayed out of range from the {one} to the {two} ECG?
        Do both ECGs, the {one} and the {two}, show an abnormal {a}?
        Would you say the {a} of the {two} ECG is abnormal as before?
    """, """
        Which measurements are abnormal on both the {one} and the {two} ECG?
        Name the intervals out of limits in the {two} recording as in the {one}.
        What stayed out of range from the {one} to the {two} ECG?
        List each value that both ECGs, the {one} and the {two}, show out of limits.
        Which intervals of the {two} ECG are abnormal as before?
    """),
}
# The first template number of each family: (kind of pair, attribute type, verify or query).
FIRST_ID = {
    ("consecutive", "scp_code", "verify"): 43,
    ("consecutive", "scp_code", "query"): 47,
    ("consecutive", "numeric_feature", "verify"): 50,
    ("consecutive", "numeric_feature", "query"): 54,
    ("irrelevant", "scp_code", "verify"): 57,
    ("irrelevant", "scp_code", "query"): 61,
    ("irrelevant", "numeric_feature", "verify"): 64,
    ("irrelevant", "numeric_feature", "query"): 68,
}
RELATIONS = {"scp_code": tuple(_CODE_RELATIONS), "numeric_feature": tuple(_NUMBER_RELATIONS)}
_ORDER = {
    "consecutive": {"one": "earlier", "two": "later"},
    "irrelevant": {"one": "first", "two": "second"},
}


def _comparisons() -> dict[int, Template]:
    found = {}
    for (pair, attribute_type, kind), first in FIRST_ID.items():
        codes = attribute_type == "scp_code"
        names = words.STATEMENTS if codes else words.MEASURES
        answers = _NO_YES if kind == "verify" else _with_none(names)
        relations = (_CODE_RELATIONS if codes else _NUMBER_RELATIONS).values()
        for step, texts in enumerate(relations):
            wordings = _lines(texts[kind == "query"].format(a="{a}", **_ORDER[pair]))
            name = f"comparison_{pair}-{kind}"
            found[first + step] = Template(name, attribute_type, answers, wordings)
    return found


TEMPLATES: dict[int, Template] = {
    **_STATEMENTS, **_AXIS, **_STAGE, **_NOISE, **_EXTRA, **_NUMBERS, **_comparisons()
}  # fmt: skip
