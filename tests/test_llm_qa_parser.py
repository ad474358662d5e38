"""Replies -> options: the kit's reading, and the published one with its faults."""

import pytest

from ecgkit.data.qa_vocabulary import LEAD_ANSWERS, answer_classes
from ecgkit.text.answer_parser import (
    UNPARSED,
    parse,
    parse_reference,
    reachable_by_reference,
    score,
    score_reference,
)

VERIFY = ("no", "not sure", "yes")
FORMS = ("atrial fibrillation", "sinus rhythm", "bigeminal pattern (unknown origin, "
         "supraventricular, or ventricular)")  # fmt: skip
CASES = [
    ("Yes", VERIFY, "verify", {"yes"}),
    ("**No.**", VERIFY, "verify", {"no"}),
    ("Not sure", VERIFY, "verify", {"not sure"}),
    ("I am not sure about that.", VERIFY, "verify", {"not sure"}),
    ("The answer is yes; there is no doubt.", VERIFY, "verify", {"yes"}),
    ("Yes, no doubt", VERIFY, "verify", {"yes"}),
    ("I see no sign, though yes may be right", VERIFY, "verify", UNPARSED),
    ("Northern knowledge", VERIFY, "verify", UNPARSED),
    ("none", VERIFY, "verify", UNPARSED),
    ("", VERIFY, "verify", UNPARSED),
    ("<think>no, no</think>\nyes", VERIFY, "verify", {"yes"}),
    ("<think>it is yes", VERIFY, "verify", UNPARSED),
    ("Atrial Fibrillation", FORMS, "query", {"atrial fibrillation"}),
    ("- atrial fibrillation\n- sinus rhythm", FORMS, "query", set(FORMS[:2])),
    ("The ECG shows a bigeminal pattern (unknown origin, supraventricular, or ventricular).",
     FORMS, "query", {FORMS[2]}),
    ("None", FORMS, "query", set()),
    ("None of the options.", FORMS, "query", set()),
    ("sinus rhythm, none of the others", FORMS, "query", {"sinus rhythm"}),
    ("I cannot tell.", FORMS, "choose", UNPARSED),
    ("Answer: sinus rhythm (not atrial fibrillation? no)", FORMS, "query", set(FORMS[:2])),
    ("not sinus rhythm", FORMS, "query", {"sinus rhythm"}),  # negations are not read
    ("lead ii", LEAD_ANSWERS, "query", {"lead II"}),
    ("Lead I", LEAD_ANSWERS, "query", {"lead I"}),
    ("leads I, II and aVF", LEAD_ANSWERS, "query", {"lead I", "lead II", "lead aVF"}),
    ("V1, V2", LEAD_ANSWERS, "query", {"lead V1", "lead V2"}),
    ("I think leads V1-V3.", LEAD_ANSWERS, "query", {"lead V1", "lead V2", "lead V3"}),
    ("I do not know", LEAD_ANSWERS, "query", UNPARSED),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "options", "form", "expected"), CASES)
def test_a_reply_is_read_as_a_person_would_read_it(reply, options, form, expected):
    found = parse(reply, options, form)
    assert found == (expected if expected is UNPARSED else frozenset(expected))


@pytest.mark.parametrize("options", [VERIFY, FORMS, LEAD_ANSWERS, tuple(answer_classes()[8:])])
def test_every_option_said_alone_in_any_case_is_that_option(options):
    form = "verify" if options == VERIFY else "query"
    for option in options:
        for reply in (option, option.upper(), option.capitalize() + "."):
            assert parse(reply, options, form) == {option}


def test_an_unparsed_reply_is_wrong_even_where_nothing_is_right():
    assert score(parse("None", FORMS, "query"), ())
    assert not score(UNPARSED, ())
    assert not score(parse("sinus rhythm", FORMS, "query"), FORMS[:2])


# --- the published matching -----------------------------------------------------------------------

PUBLISHED_FAULTS = [
    ("Not sure", VERIFY, "verify", ["not sure"], {"no"}),
    ("None", VERIFY, "verify", ["no"], {"no"}),
    ("lead II", LEAD_ANSWERS, "query", ["lead II"], set()),
    ("Northern", VERIFY, "verify", ["no"], {"no"}),  # no word boundaries
]


@pytest.mark.parametrize(("reply", "options", "form", "gold", "found"), PUBLISHED_FAULTS)
def test_the_published_matching_has_its_faults(reply, options, form, gold, found):
    assert parse_reference(reply, options, form) == found
    right = score_reference(parse_reference(reply, options, form), gold)
    assert right == (gold == ["no"])


def test_where_it_has_no_fault_the_published_matching_agrees():
    for reply, gold in (("Yes", ["yes"]), ("no.", ["no"])):
        assert score_reference(parse_reference(reply, VERIFY, "verify"), gold)
    assert score_reference(parse_reference("None", FORMS, "query"), [])
    assert score_reference(parse_reference(", ".join(FORMS), FORMS, "query"), FORMS)


def test_twelve_lead_answers_and_not_sure_can_never_score():
    classes = [c for c in answer_classes() if c != "none"]
    form = {name: "verify" for name in VERIFY}
    never = {c for c in classes if not reachable_by_reference(
        VERIFY if c in VERIFY else classes[3:], [c], form.get(c, "query"))}  # fmt: skip
    assert never >= {*LEAD_ANSWERS, "not sure"}
    assert {c for c in never if c != c.lower()} == set(LEAD_ANSWERS)
    assert reachable_by_reference(FORMS, [], "query")


def test_counts_of_the_published_class_lists(shared):
    import csv
    import io
    import zipfile

    with zipfile.ZipFile(shared / "data" / "ecgqa-subset.zip") as archive:
        for variant, capitals, n in (("ptbxl", 12, 103), ("mimic-iv-ecg", 92, 187)):
            path = f"ecg-qa/llm_modeling/metadata/{variant}/qa_class.csv"
            rows = [*csv.DictReader(io.StringIO(archive.read(path).decode()))]
            names = [row["class"] for row in rows if row["class"] != "none"]
            assert (sum(name != name.lower() for name in names), len(names)) == (capitals, n)
