"""How the kit asks about statements, heart axis and infarction stage of one ECG (templates 1-25).

The sentences are the kit's. The first line of each block is flavour `template`, the others are
`paraphrased`. {a}, {b}: what is asked about; of templates 17-19 {a} is the finding, {b} a lead.
Templates about likelihood say so in ECG-QA's three words (INCLUDING, EXCLUDING), by which the
upper bounds' scripts, the published ones too, tell them.

Usage:

    SINGLE[1]            # a block of lines
"""

from __future__ import annotations

INCLUDING, EXCLUDING = "including uncertain symptoms", "excluding uncertain symptoms"


def _sure(block: str) -> dict[str, str]:
    """The block for both ways to treat uncertain findings ({sure} in it)."""
    return {phrase: block.replace("{sure}", phrase) for phrase in (INCLUDING, EXCLUDING)}


_CHOOSE_DIAGNOSIS = _sure("""
    Which diagnosis is present on this ECG, {a} or {b}, {sure}?
    Of the diagnoses {a} and {b}, {sure}, what can be seen in this recording?
    Would you diagnose {a}, or rather {b}, {sure}?
    Which diagnosis, {sure}, does the tracing carry, {a} or {b}?
    Does this ECG go with {a} or with {b}, {sure}?
""")
_DIAGNOSES = _sure("""
    Which diagnoses does this ECG support, {sure}?
    List the diagnoses you would make from this recording, {sure}.
    What would you diagnose on this tracing, {sure}?
    Name each diagnosis this ECG speaks for, {sure}.
    Reading this ECG, what are the diagnoses, {sure}?
""")
_ANY_DIAGNOSIS = _sure("""
    Is there any diagnosis to make from this ECG, {sure}?
    Does this recording support a diagnosis at all, {sure}?
    Would you diagnose anything on this tracing, {sure}?
    Does this ECG, {sure}, speak for some diagnosis?
    Should a diagnosis stand in the report of this ECG, {sure}?
""")

SINGLE = {
    1: """
        Is {a} present on this ECG?
        Can {a} be seen in this recording?
        Would you report {a} here?
        Does the tracing carry signs of {a}?
        Looking at this ECG, do you find {a}?
        Should the report of this ECG mention {a}?
    """,
    2: """
        Would you call this ECG normal?
        Is this recording within normal limits?
        Does the tracing look like that of a healthy heart?
        Can this ECG be filed as normal?
        Reading this ECG, is everything as it should be?
    """,
    3: """
        Which diagnostic group is present on this ECG, {a} or {b}?
        Does this recording belong to {a} or to {b}?
        Of {a} and {b}, what can be seen on this tracing?
        Between {a} and {b}, which group would you file this ECG under?
        Does this ECG go with {a} or with {b}?
    """,
    4: _CHOOSE_DIAGNOSIS[INCLUDING],
    5: _CHOOSE_DIAGNOSIS[EXCLUDING],
    6: """
        Which finding of wave shape is present on this ECG, {a} or {b}?
        Judged by the shape of the waves, is it {a} or {b}?
        Of the findings of form {a} and {b}, what can be seen in this recording?
        Would you note {a} or {b} on wave form?
        Looking at the complexes, do you find {a} or {b}?
    """,
    7: """
        Which rhythm is present on this ECG, {a} or {b}?
        Is the rhythm of this recording {a} or {b}?
        Would you write {a} or {b} under rhythm?
        Of {a} and {b}, what is the rhythm on this tracing?
        Does the rhythm strip go with {a} or with {b}?
    """,
    8: _DIAGNOSES[INCLUDING],
    9: _DIAGNOSES[EXCLUDING],
    10: """
        Which rhythm does this ECG show?
        Name the rhythm of this recording.
        What would you write under rhythm?
        How would you call the rhythm on this tracing?
        Reading this ECG, what is the rhythm?
    """,
    11: """
        Which findings of wave shape does this ECG show?
        List what is remarkable about the shape of the waves.
        What would you note on wave form in this recording?
        Name the findings of form on this tracing.
        Looking at the shape of the complexes, what stands out?
    """,
    12: """
        Is there any finding on this ECG beyond plain sinus rhythm?
        Would you find fault with this recording?
        Does the tracing deviate from the ordinary in any way?
        Is there anything at all to report here besides sinus rhythm?
        Looking at this ECG, is something out of the ordinary?
    """,
    13: _ANY_DIAGNOSIS[INCLUDING],
    14: _ANY_DIAGNOSIS[EXCLUDING],
    15: """
        Is there any finding of wave shape on this ECG?
        Is anything remarkable about the shape of the waves?
        Would you note something on wave form in this recording?
        Does the form of the complexes call for a remark?
        Looking at the complexes, does their shape stand out?
    """,
    16: """
        Is there any finding of rhythm on this ECG beyond plain sinus rhythm?
        Does the rhythm of this recording call for a remark?
        Would you note more than sinus rhythm under rhythm?
        Is anything remarkable about the rhythm on this tracing?
        Reading the rhythm strip, is it other than plain sinus rhythm?
    """,
    17: """
        Is {a} present in {b}?
        Can {a} be seen in {b} of this recording?
        Would you report {a} in {b}?
        Are there signs of {a} in {b}?
        On this ECG, do you find {a} in {b}?
    """,
    18: """
        Which findings of wave shape does this ECG show in {b}?
        List what is remarkable about the waves in {b}.
        What would you note on wave form in {b}?
        Name the findings of form in {b} of this tracing.
        Looking at the complexes in {b}, what stands out?
    """,
    19: """
        Which leads show {a}?
        Where on this ECG is {a} to be seen?
        Name the leads that carry {a}.
        In what leads would you report {a}?
        Going through the leads, in which do you find {a}?
    """,
    20: """
        Does the heart axis show {a}?
        Judged by the limb leads, is there {a}?
        Would you call the electrical axis {a}?
        Is the axis of this ECG best described as {a}?
        Is {a} what the frontal plane tells?
    """,
    21: """
        Is the heart axis {a} or {b}?
        Judged by the limb leads, is it {a} or {b}?
        Which fits the electrical axis, {a} or {b}?
        Would you describe the axis as {a} or as {b}?
        Of {a} and {b}, what does the frontal plane tell?
    """,
    22: """
        Where does the heart axis point?
        How would you describe the electrical axis?
        What is the axis in the frontal plane?
        Judged by the limb leads, what is the axis?
        Name the heart axis of this ECG.
    """,
    23: """
        Is this {a}?
        Would you date this as {a}?
        Does the ECG speak for {a}?
        Do the waves fit {a}?
        Can you tell {a} from this recording?
    """,
    24: """
        Is this {a} or {b}?
        Would you date this as {a} or as {b}?
        Does the ECG speak for {a} or for {b}?
        Which do the waves fit, {a} or {b}?
        Of {a} and {b}, what does this recording show?
    """,
    25: """
        In what stage is the infarction, if there is one?
        How old is the infarction on this ECG, if any?
        Which stage of infarction do you see?
        Date the infarction of this recording, if it shows one.
        What does the ECG say about the stage of an infarction?
    """,
}
