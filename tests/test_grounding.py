"""The grounding table against a slow, plain reading of the rules, question by question."""

import json
import re
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.config import KitConfig
from ecgkit.data import grounding, grounding_leads, qa_reading
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions, read_questions
from ecgkit.types import LEADS, ConfigError, DataError

# The fact sheet's table (ecgqa.md 2.2), written out.
GROUPS = {
    "limb": "0 1 2 3 4 5", "chest": "6 7 8 9 10 11", "inferior": "1 2 5", "anterior": "8 9",
    "septal": "6 7", "lateral": "0 4 10 11", "posterior": "9 10 11", "anteroseptal": "6 7 8 9",
    "anterolateral": "0 4 8 9 10 11", "inferolateral": "0 1 2 4 5 10 11",
    "inferoseptal": "1 2 5 6 7", "inferoposterior": "1 2 5 6 7 8",
    "inferoposterolateral": "0 1 2 4 5 6 7 8 10 11", "frontal": "0 1 2 3 4 5",
    "horizontal": "6 7 8 9 10 11", "diffuse": "0 1 2 3 4 5 6 7 8 9 10 11",
}  # fmt: skip
VOLTAGE = (
    "voltage criteria (qrs) for left ventricular hypertrophy",
    "low qrs voltages in the frontal and horizontal leads",
    "high qrs voltage",
)


def group(words):
    """'inferior leads', 'lead aVR', 'entire' -> tuple of positions."""
    if words == "entire" or "frontal and horizontal" in words:
        return tuple(range(12))
    if words.startswith("lead "):
        return (LEADS.index(words[5:]),)
    return tuple(int(i) for i in GROUPS[words.removesuffix(" leads")].split())


def plain_tuples(question):
    """One question -> set of (attribute, leads, label), read straight from the fact sheet."""
    form = question["question_type"].split("-")[1]
    text, answer = question["question"], list(question["answer"])
    attributes = list(question["attribute"])
    said = []
    if form == "verify":
        if answer == ["not sure"]:
            return set()
        if "excluding uncertain symptoms" in text and answer == ["no"]:
            return set()
        if "including uncertain symptoms" in text and answer == ["yes"]:
            return set()
        said = [(attributes[0], answer == ["yes"])]
    elif question["split"] == "test":
        return set()
    elif form == "query" and (text.startswith("Which leads") or "What leads" in text):
        name, found = attributes[0], []
        if name in VOLTAGE:
            for side in ("limb", "chest"):
                names = {f"lead {LEADS[i]}" for i in group(side + " leads")}
                found.append((name, group(side + " leads"), int(names <= set(answer))))
        else:
            found = [(name, (i,), int(f"lead {n}" in answer)) for i, n in enumerate(LEADS)]
        return {(strip(name), leads, label) for name, leads, label in found}
    elif "excluding uncertain symptoms" in text:
        said = [(name, True) for name in answer if name != "none"]
    elif "including uncertain symptoms" in text:
        said = [(name, False) for name in attributes if name not in answer]
    else:
        undated = {"unknown stage of myocardial infarction", "none of myocardial infarction"}
        if form == "query" and answer[0] in undated:
            return set()
        for name in attributes:
            if form == "query" and name in undated:
                continue
            if question["attribute_type"] == "numeric_feature":
                side, measure = name.split(" the normal range of ")
                said.append((name, measure in answer or any(a.startswith(side) for a in answer)))
            else:
                said.append((name, name in answer))
    return {(strip(name), where(text, name, form), int(yes)) for name, yes in said}


def where(text, name, form):
    lead = re.search(r"lead (III|II|I|aVR|aVL|aVF|V[1-6])(?![A-Za-z0-9])", text)
    if lead:
        return group(lead.group())
    for side in ("limb leads", "chest leads"):
        if f" in {side}" in text:
            return group(side)
    if form == "verify":
        for words in ("frontal and horizontal", "anterior", "inferior", "septal", "lateral",
                      "posterior", "frontal", "horizontal", "diffuse"):  # fmt: skip
            if f"{name} in {words} leads" in text:
                return group(f"{words} leads")
    if name.endswith(" leads") and " in " in name:
        return group(name.split(" in ")[-1])
    return tuple(range(12))


def strip(name):
    for start in ("myocardial infarction", "subendocardial injury", "ischemic ST-T changes",
                  "ischemic"):  # fmt: skip
        if re.fullmatch(f"{start} in .* leads", name, flags=re.IGNORECASE):
            return start
    return name


def plain_grounding(table):
    """All tuples of a table of questions, contradictions settled, all attributes kept."""
    seen = {}
    for question in table.to_dict("records"):
        if question["question_type"].startswith("single"):
            for name, leads, label in plain_tuples(question):
                key = (question["split"], question["ecg_id"][0], leads, name)
                seen.setdefault(key, set()).add(label)
    soft = ("myocardial infarction", "Myocardial infarction", "ischemic ST-T changes")
    kept = {k: min(v) for k, v in seen.items() if len(v) == 1 or k[3] in soft}
    asked = {k[3] for k in kept if k[0] == "test"} or {k[3] for k in kept}
    return {(*k, label) for k, label in kept.items() if k[3] in asked}


def as_set(table):
    names = ("split", "ecg_id", "leads", "attribute", "label")
    return set(zip(*(table[name].tolist() for name in names)))


# --- real and generated questions -----------------------------------------------------------------


@pytest.fixture(scope="module")
def local_questions(shared):
    """Every local template question of PTB-XL, whatever is stored."""
    rows = []
    with zipfile.ZipFile(shared / "data" / "ecgqa-subset.zip") as archive:
        for name in sorted(archive.namelist()):
            match = re.match(r".*/ptbxl/template/(\w+)/\d+\.json", name)
            if match:
                rows += [s | {"split": match.group(1)} for s in json.loads(archive.read(name))]
    return pd.DataFrame(rows)


def test_every_local_template_question(local_questions):
    found = grounding.ground(local_questions)
    assert found.n_in == 24348 and found.n_used == 10000
    assert found.dropped["reason"].value_counts().to_dict() == {"two_ecgs": 14348}
    assert found.classes_from == "all splits"  # the local test shard asks about two ECGs only
    assert found.classes == [
        "any kind of noises", "baseline drift", "burst noise", "electrodes problems", "static noise"
    ]  # fmt: skip
    assert as_set(found.tuples()) == plain_grounding(local_questions)
    assert found.conflicts.empty


def test_the_published_list_of_classes(shared, local_questions):
    """83 and 164 published classes: given as a list, they are the columns, asked about or not."""
    with zipfile.ZipFile(shared / "data" / "ecgqa-subset.zip") as archive:
        lists = {
            name.split("/")[-2]: pd.read_csv(archive.open(name))["class"].tolist()
            for name in archive.namelist()
            if name.endswith("grounding_class.csv")
        }
    assert {k: len(v) for k, v in lists.items()} == {"ptbxl": 83, "mimic-iv-ecg": 164}
    found = grounding.ground(local_questions, classes=lists["ptbxl"])
    assert found.classes == lists["ptbxl"] and found.classes_from == "given"
    assert found.labels("train").shape == (len(found), 83)
    counts = found.counts()
    assert counts.loc["static noise", "train"] > 0 and counts.loc["sinus rhythm"].sum() == 0
    # Of the PTB-XL attributes only noises are asked about here; MIMIC's list names none of them.
    with_mimic = grounding.ground(local_questions, classes=lists["mimic-iv-ecg"])
    assert len(with_mimic) == 0 and (with_mimic.dropped["reason"] == "other_class").sum() == 10000
    # Each published name is one that the rules can produce.
    for names in lists.values():
        odd = {n for n in names if grounding_leads.attribute_name(n) != n}
        assert not odd


def test_questions_of_the_stored_400(shared, local_questions):
    with zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("ptbxl_database.csv"))
        table = pd.read_csv(archive.open(name))
    cohort = SimpleNamespace(name="ptbxl", simulated=False, table=table)
    questions = read_questions(shared / "data" / "ecgqa-subset.zip", cohort, "template")
    found = grounding.read_grounding(questions)
    assert (found.n_in, found.n_used) == (489, 343)
    stored = [ids[0] <= 400 for ids in local_questions["ecg_id"]]
    assert as_set(found.tuples()) == plain_grounding(local_questions[stored])
    assert (table["ecg_id"].to_numpy()[found.table["row"]] == found.table["ecg_id"]).all()


@pytest.fixture(scope="module")
def generated():
    """Of 600 ECGs: fewer hold too few findings that are told of single regions."""
    config = KitConfig.from_params({"preset": "tiny", "flavour": "template", "cohort_size": 600})
    return open_questions(config, open_cohort(config), quiet=True)


def test_a_generated_cohort(generated):
    found = grounding.read_grounding(generated)
    assert as_set(found.tuples()) == plain_grounding(generated.table)
    assert found.classes_from == "test" and found.n_in == len(generated)
    assert found.n_in == found.n_used + len(found.dropped)
    reasons = set(found.dropped["reason"])
    assert {"two_ecgs", "not_verify", "not_sure", "undated", "other_class"} <= reasons
    # Every form and several kinds of leads were really there.
    forms = set(generated.table["question_type"])
    assert forms == set(qa_reading.QUESTION_TYPES)
    assert {len(leads) for leads in found.table["leads"]} > {1, 12}


def test_labels_rows_and_order(generated):
    found = grounding.read_grounding(generated)
    keys = list(zip(found.table["split"].map(qa_reading.SPLITS.index), found.table["ecg_id"],
                    found.table["leads"]))  # fmt: skip
    assert keys == sorted(set(keys))
    labels, tuples = found.labels("train"), found.tuples()
    assert labels.dtype == np.int8 and labels.shape == (
        len(found.index("train")),
        len(found.classes),
    )
    of_train = tuples[tuples["split"] == "train"]
    assert (labels >= 0).sum() == len(of_train) and (labels == 1).sum() == of_train["label"].sum()
    assert found.counts().filter(regex="^train$").sum().item() == len(of_train)
    assert (found.leads_mask.sum(axis=1) == found.table["leads"].map(len)).all()
    again = grounding.ground(generated.table.sample(frac=1, random_state=1), generated.valid)
    pd.testing.assert_frame_equal(found.tuples(), again.tuples())


# --- single rules ---------------------------------------------------------------------------------


def question(text, answer, attribute, form="verify", split="train", ecg_id=1, **more):
    return {
        "split": split, "sample_id": 0, "question_type": f"single-{form}", "template_id": 1,
        "question": text, "answer": answer, "attribute": attribute, "ecg_id": [ecg_id],
        "attribute_type": "scp_code",
    } | more  # fmt: skip


MI = "myocardial infarction"
RULES = [
    ("Is A here, excluding uncertain symptoms?", ["yes"], ["A"], "verify", {("A", "entire", 1)}),
    ("Is A here, excluding uncertain symptoms?", ["no"], ["A"], "verify", "uncertain"),
    ("Is A here, including uncertain symptoms?", ["yes"], ["A"], "verify", "uncertain"),
    ("Is A here, including uncertain symptoms?", ["no"], ["A"], "verify", {("A", "entire", 0)}),
    ("Is A here?", ["not sure"], ["A"], "verify", "not_sure"),
    ("Is A here?", ["no"], None, "verify", "no_attribute"),
    ("Is A here?", ["no"], ["A", "B"], "verify", "ill_posed"),
    ("Is A there in limb leads?", ["no"], ["A"], "verify", {("A", "limb leads", 0)}),
    ("Does it show A in anterior leads?", ["no"], ["A"], "verify", {("A", "anterior leads", 0)}),
    ("Does it show A (b) in diffuse leads?", ["no"], ["A (b)"], "verify",
     {("A (b)", "entire", 0)}),
    ("Does it show A in anteroseptal leads?", ["no"], ["A"], "verify", {("A", "entire", 0)}),
    ("Is it there?", ["yes"], [f"{MI} in posterior leads"], "verify", {(MI, "posterior leads", 1)}),
    ("Is it there?", ["yes"], [f"M{MI[1:]} in inferoseptal leads"], "verify",
     {(MI, "inferoseptal leads", 1)}),
    ("Is it there?", ["yes"], [f"M{MI[1:]}"], "verify", {(f"M{MI[1:]}", "entire", 1)}),
    ("Is it there?", ["yes"], ["ischemic in lateral leads"], "verify",
     {("ischemic", "lateral leads", 1)}),
    ("Is it there?", ["yes"], ["QRS changes in anteroseptal leads"], "verify",
     {("QRS changes in anteroseptal leads", "anteroseptal leads", 1)}),
    ("Is it there?", ["yes"], [VOLTAGE[1]], "verify", {(VOLTAGE[1], "entire", 1)}),
    ("Is it there?", ["yes"], ["A in foreign leads"], "verify", "unknown_leads"),
    ("Which, A or B?", ["A"], ["A", "B"], "choose", {("A", "entire", 1), ("B", "entire", 0)}),
    ("Which, A or B, excluding uncertain symptoms?", ["A"], ["A", "B"], "choose",
     {("A", "entire", 1)}),
    ("Which, A or B, excluding uncertain symptoms?", ["none"], ["A", "B"], "choose",
     "nothing_said"),
    ("Which, A or B, including uncertain symptoms?", ["A"], ["A", "B"], "choose",
     {("B", "entire", 0)}),
    ("Which in lead V1, A or B?", ["none"], ["A", "B"], "choose",
     {("A", "lead V1", 0), ("B", "lead V1", 0)}),
    ("What range?", ["below the normal range"],
     ["above the normal range of p duration", "below the normal range of p duration"], "query",
     {("above the normal range of p duration", "entire", 0),
      ("below the normal range of p duration", "entire", 1)}),
    ("What numeric features are above?", ["p duration"],
     ["above the normal range of p duration", "above the normal range of qt interval"], "query",
     {("above the normal range of p duration", "entire", 1),
      ("above the normal range of qt interval", "entire", 0)}),
    ("What leads show it?", ["lead I", "lead V6"], ["A"], "query",
     {("A", f"lead {n}", int(n in ("I", "V6"))) for n in LEADS}),
    ("What leads show it?", [f"lead {n}" for n in LEADS[:6]], [VOLTAGE[2]], "query",
     {(VOLTAGE[2], "limb leads", 1), (VOLTAGE[2], "chest leads", 0)}),
    ("What stage?", ["unknown stage of myocardial infarction"], ["A"], "query", "undated"),
]  # fmt: skip


@pytest.mark.parametrize("text, answer, attribute, form, expected", RULES)
def test_rule(text, answer, attribute, form, expected):
    one = question(text, answer, attribute, form)
    if isinstance(expected, str):
        found = grounding.ground(pd.DataFrame([one]))
        assert found.dropped["reason"].tolist() == [expected] and len(found) == 0
        return
    tuples = grounding.ground(pd.DataFrame([one])).tuples()
    expected = {(name, group(leads), label) for name, leads, label in expected}
    assert set(zip(tuples["attribute"], tuples["leads"], tuples["label"])) == expected
    assert plain_tuples(one | {"attribute_type": _kind(attribute)}) == expected


def _kind(attribute):
    return "numeric_feature" if "normal range" in attribute[0] else "scp_code"


def test_the_paper_protocol_is_consistent():
    reference, paper = (grounding_leads.lead_groups(p) for p in ("reference", "paper"))
    assert {k: v for k, v in reference.items() if k.removesuffix(" leads") in GROUPS} == {
        f"{name} leads": group(name) for name in GROUPS
    }
    changed = {name for name in reference if reference[name] != paper[name]}
    assert changed == {"posterior leads"} and paper["posterior leads"] == (6, 7, 8)
    joined = {"inferoposterior leads": ("inferior leads", "posterior leads")}
    for name, parts in joined.items():
        assert set(paper[name]) == set().union(*(paper[part] for part in parts))
        assert set(reference[name]) != set().union(*(reference[part] for part in parts))
    name = "Myocardial infarction in septal leads"
    assert grounding_leads.attribute_name(name, "paper") == "Myocardial infarction"
    with pytest.raises(ConfigError, match="PROTOCOL"):
        grounding.ground(pd.DataFrame([question("Is A?", ["no"], ["A"])]), protocol="code")


def test_contradictions_are_settled_and_listed():
    table = pd.DataFrame([
        question("Is A?", ["yes"], ["A"], sample_id=0),
        question("Is A, really?", ["no"], ["A"], sample_id=1),
        question("Is A?", ["yes"], ["A"], sample_id=2, ecg_id=2),
        question("Is it?", ["yes"], [MI], sample_id=3),
        question("Is it in truth?", ["no"], [MI], sample_id=4),
        question("Is it?", ["yes"], ["B"], sample_id=5),
        question("Is it?", ["yes"], ["B"], sample_id=6),
        question("Is A?", ["yes"], ["A"], split="valid", sample_id=7),
    ])  # fmt: skip
    found = grounding.ground(table)
    assert as_set(found.tuples()) == plain_grounding(table) == {
        ("train", 2, tuple(range(12)), "A", 1), ("train", 1, tuple(range(12)), MI, 0),
        ("train", 1, tuple(range(12)), "B", 1), ("valid", 1, tuple(range(12)), "A", 1),
    }  # fmt: skip
    assert found.dropped["sample_id"].tolist() == [0, 1]
    assert set(found.dropped["reason"]) == {"contradiction"}
    conflicts = found.conflicts.set_index("attribute")
    assert conflicts.loc["A", ["ecg_id", "n_yes", "n_no", "outcome"]].tolist() == [
        1,
        1,
        1,
        "dropped",
    ]
    assert conflicts.loc[MI, "outcome"] == "no"


def test_paraphrases_are_refused(generated):
    with pytest.raises(DataError, match="FLAVOUR=template"):
        grounding.read_grounding(SimpleNamespace(flavour="paraphrased"))


def test_no_single_question_at_all():
    one = question("Which is new?", ["A"], None, question_type="comparison_consecutive-query")
    found = grounding.ground(pd.DataFrame([one]))
    assert len(found) == 0 and found.classes == [] and found.n_in == len(found.dropped) == 1
    assert found.labels("test").shape == (0, 0) and found.tuples().empty
    assert "0 of 1 questions" in found.summary()
