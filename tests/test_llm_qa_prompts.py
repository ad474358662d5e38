"""LLM modelling up to the prompt: which questions, which leads, whose findings, what is said; the
lookup reader and the scores.
"""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import torch
from llm_qa_parts import Peaks, config, without_keys

from ecgkit.config import BaselinesConfig
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.grounding import read_grounding
from ecgkit.data.grounding_leads import Asked, Skip, lead_groups, read_question
from ecgkit.data.qa_facts import PRESENT, read_facts
from ecgkit.data.qa_sampling import sample_by_type, strata
from ecgkit.data.qa_vocabulary import MEASURES, RANGES
from ecgkit.features.measures import measure
from ecgkit.tasks.classifiers import build_classifier
from ecgkit.tasks.llm_qa_context import pick_examples
from ecgkit.tasks.llm_qa_findings import Findings, as_classifier, load_classifier
from ecgkit.tasks.llm_qa_prompts import PromptWriter, question_rows
from ecgkit.tasks.llm_qa_reader import Question, look_up
from ecgkit.tasks.llm_qa_scores import BALANCED, OVERALL, score_table
from ecgkit.tasks.llm_qa_views import View, asks_for_leads, named_leads, views_of
from ecgkit.text.llm_prompts import INSTRUCTION, INTRO, finding_lines, option_line
from ecgkit.types import LEADS, ConfigError, DataError, ModelError

ALL_LEADS = tuple(f"lead {lead}" for lead in LEADS)


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    without_keys(monkeypatch)


@pytest.fixture(scope="module")
def questions(tiny_config, tiny_cohort):
    return open_questions(tiny_config, tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def template(tiny_config, tiny_cohort):
    template = dataclasses.replace(tiny_config, flavour="template")
    return open_questions(template, tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def classes(template):
    return read_grounding(template).classes


@pytest.fixture
def peaks(classes):
    return Peaks(len(classes)), classes


# --- which questions ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_each_type_gives_its_rounded_share(questions, share):
    test = questions.index("test")
    drawn = sample_by_type(questions, test, share, 42)
    kinds = questions.table["type3"].to_numpy()
    for kind in np.unique(kinds[test]):
        assert (kinds[drawn] == kind).sum() == round(share * (kinds[test] == kind).sum())
    assert len(set(drawn)) == len(drawn) and set(drawn) <= set(test)
    assert strata(questions, test, share)["drawn"].sum() == len(drawn)


def test_the_draw_is_its_seed_s(questions):
    test = questions.index("test")
    one, two, other = (sample_by_type(questions, test, 0.2, seed) for seed in (42, 42, 43))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    shuffled = np.random.default_rng(0).permutation(test)
    assert len(sample_by_type(questions, shuffled, 0.2, 42)) == len(one)


def test_a_share_that_cannot_be_drawn_is_refused(questions):
    for share in (0, 1.5):
        with pytest.raises(ConfigError, match="share"):
            sample_by_type(questions, questions.index("test"), share)
    with pytest.raises(DataError, match="LLM_SHARE"):
        sample_by_type(questions, questions.index("test")[:3], 0.01)


# --- which leads ----------------------------------------------------------------------------------


def test_views_are_the_published_ones():
    whole = tuple(range(12))
    assert views_of("single-verify", "Is there noise?", ("no", "yes"), 3)[0][1:] == (3, whole)
    lead = views_of("single-verify", "Looking at lead aVF alone, is it there?", ("no", "yes"), 3)
    assert [v.leads for v in lead] == [(LEADS.index("aVF"),)] and "lead aVF" in lead[0].label
    by_lead = views_of("single-query", "Which leads show it?", ALL_LEADS, 3)
    assert [v.leads for v in by_lead] == [(i,) for i in range(12)]
    assert [lead in v.label for v, lead in zip(by_lead, LEADS)] == [True] * 12
    pair = views_of("comparison_irrelevant-verify", "Is it new?", ("no", "yes"), 3, 5)
    assert [(v.row, v.leads) for v in pair] == [(3, whole), (5, whole)]
    assert "first" in pair[0].label and "second" in pair[1].label
    pair = views_of("comparison_consecutive-verify", "Is it new in lead II?", ("no", "yes"), 3, 5)
    assert [(v.row, v.leads) for v in pair] == [(3, (1,)), (5, (1,))]
    assert "previous" in pair[0].label and "recent" in pair[1].label


def test_a_group_in_a_diagnosis_names_no_leads():
    for text in ("Is there myocardial infarction in inferior leads?",
                 "subendocardial injury in anterolateral leads, or ischemia in lateral leads?",
                 "Does it show low qrs voltages in the frontal and horizontal leads?",
                 "Is it ischemic in anterior leads?", "Are the leads well placed?"):
        assert named_leads(text) == ("", tuple(range(12))), text
    assert named_leads("Is there high voltage in the limb leads?")[1] == tuple(range(6))
    assert named_leads("noise in posterior leads")[1] == (6, 7, 8)
    assert named_leads("noise in posterior leads", "reference")[1] == (9, 10, 11)
    assert named_leads("q waves in lead II and lead aVF")[1] == (1, 5)


def test_released_prompts_lose_leads():
    by_lead = views_of("single-query", "Which leads?", ALL_LEADS, 3, quirks=True)
    assert [v.leads for v in by_lead] == [(0,), *[()] * 11]
    pair = views_of("comparison_irrelevant-verify", "New in lead II?", ("no", "yes"), 3, 5, True)
    assert [(v.row, v.leads) for v in pair] == [(3, (1,))]
    pair = views_of("comparison_irrelevant-verify", "Is it new?", ("no", "yes"), 3, 5, True)
    assert [v.row for v in pair] == [3, 5]


def test_generated_questions_name_the_leads_their_grounding_is_about(template):
    """Every single-verify question's view is the leads its upper-bound tuple has, but where only
    the attribute names a place."""
    table = template.table[template.table["question_type"] == "single-verify"]
    checked = 0
    for r in table.drop_duplicates("question").itertuples():
        said = read_question(Asked(r.question_type, r.question, tuple(r.attribute), ("yes",)),
                             "paper")  # fmt: skip
        if isinstance(said, Skip) or " leads" in r.attribute[0]:
            continue
        assert named_leads(r.question)[1] == said[0].leads, r.question
        checked += 1
    assert checked > 40 and set(lead_groups("paper").values()) >= {(9,), (6, 7, 8)}


# --- findings -------------------------------------------------------------------------------------


def test_each_view_is_scored_once_and_in_batches(tiny_cohort, peaks):
    model, names = peaks
    findings = Findings(as_classifier(peaks), tiny_cohort.store, batch=16)
    views = [View("a", row, (i,)) for row in (5, 2, 9) for i in range(12)]
    findings.learn(views + views)
    assert len(findings) == 36 and model.calls == [16, 16, 4] and findings.n_passes == 1
    findings.learn(views)
    findings.text(views[7]), findings.positive(views[7])
    assert sum(model.calls) == 36
    for view in views[::5]:  # each has its own scores, in whatever order the rows came
        alone = Findings(as_classifier(peaks), tiny_cohort.store).probabilities(view)
        np.testing.assert_allclose(findings.probabilities(view), alone, atol=1e-6)


def test_lead_views_hold_their_own_lead_and_leave_the_ecg_alone(tiny_cohort, peaks):
    """The published fault: each block zeroed the batch in place, so lead II saw nothing."""
    store = tiny_cohort.store
    before = store.read([4]).copy()
    findings = Findings(as_classifier(peaks), store)
    views = views_of("single-query", "Which leads?", ALL_LEADS, 4)
    findings.learn([*views, View("all", 4, tuple(range(12)))])
    peak = np.abs(before[0]).max(-1)
    for i, view in enumerate(views):
        masked = before.copy()
        masked[:, [k for k in range(12) if k != i]] = 0
        with torch.no_grad():
            logits = peaks[0](torch.from_numpy(masked))["logits"]
        expected = torch.sigmoid(logits)[0].numpy()
        np.testing.assert_allclose(findings.probabilities(view), expected, atol=1e-6)
    assert (peak > 0.3).sum() > 3
    found = [bool(findings.positive(view)) for view in views]
    assert found == (peak > 0.3).tolist()
    assert np.array_equal(store.read([4]), before)
    damaged = [findings.positive(v) for v in views_of("single-query", "?", ALL_LEADS, 4, -1, True)]
    assert not any(damaged[1:])


def test_what_is_no_classifier_is_refused(peaks, tmp_path, tiny_config):
    with pytest.raises(ModelError, match="names of its classes"):
        as_classifier(torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="83"):
        model = Peaks(2)
        model.proj = torch.nn.Linear(4, 5)
        as_classifier((model, ["a", "b"]))
    with pytest.raises(ModelError, match="notebook 03"):
        load_classifier(tmp_path, tiny_config, ["a"])


def test_the_grounding_classifier_of_notebook_03_is_found(tmp_path, tiny_config, classes):
    from safetensors.torch import save_file

    model = build_classifier(tiny_config, "se_wrn", len(classes))
    save_file(model.state_dict(), str(tmp_path / "model.safetensors"))
    loaded = load_classifier(tmp_path, tiny_config, classes)
    assert loaded.name == "se_wrn" and not loaded.model.training
    signal = torch.randn(2, 12, 1000)
    assert torch.equal(loaded.model(signal)["logits"], model.eval()(signal)["logits"])
    # Strides stand in no weight: the config.json of notebook 03 tells them.
    (tmp_path / "grounding").mkdir()
    (tmp_path / "model.safetensors").rename(tmp_path / "grounding" / "model.safetensors")
    BaselinesConfig.from_params({"preset": "tiny", "upper_stem_stride": 1}).save(
        tmp_path / "config.json"
    )
    again = load_classifier(tmp_path / "grounding", tiny_config, classes)
    assert again.model.encoder.conv.stride == (1,) != loaded.model.encoder.conv.stride
    tmp_path = tmp_path / "grounding"
    with pytest.raises(ModelError, match="same preset"):
        load_classifier(tmp_path, tiny_config, classes[:-1])


# --- prompts --------------------------------------------------------------------------------------


def test_findings_become_lines():
    text = finding_lines(["a", "b", "c"], np.array([0.5, 0.51234, 0.9999]))
    assert text == "b: 0.512\nc: 1.000"
    assert finding_lines(["a"], np.array([0.5])) == ""
    assert option_line(("no", "yes"), "verify") == "no, yes"
    assert option_line(("a", "b"), "choose") == "a, b, None"


def write(settings, cohort, questions, peaks, positions):
    findings = Findings(as_classifier(peaks), cohort.store)
    rows = question_rows(questions, positions)
    writer = PromptWriter(settings, cohort, questions, findings)
    return rows, writer.write(rows), writer


def test_parts_stand_in_the_published_order(tiny_cohort, questions, peaks):
    test = questions.index("test")
    rows, texts, _ = write(config(), tiny_cohort, questions, peaks, test)
    assert set(rows["question_type"]) == set(questions.table["question_type"])  # all seven
    for row, text in zip(rows.itertuples(), texts):
        first = text.index("\n\nInterpretation of ")
        question, options = text.index(f"\n\nQuestion: {row.question}"), text.index("\n\nOptions: ")
        assert text[:first] == INTRO and first < question < options
        assert text.endswith(INSTRUCTION)
        assert text.count("Interpretation of ") == (
            12 if asks_for_leads(row.options) else 2 if row.row2 >= 0 else 1)
        none = text[options:].split("\n\n")[1].endswith(", None")
        assert none == (not row.question_type.endswith("verify"))
    assert (rows["row2"] >= 0).any() and any(asks_for_leads(o) for o in rows["options"])


def test_a_batch_of_questions_is_one_pass_of_the_classifier(tiny_cohort, questions, peaks):
    _, _, writer = write(config(), tiny_cohort, questions, peaks, questions.index("test"))
    assert writer.findings.n_passes == 1
    views = len(writer.findings)
    assert sum(peaks[0].calls) == views


@pytest.mark.parametrize(("context", "words"), [
    ("features", ["Measured on ", "heart rate: "]),
    ("report", ["Report of "]),
    ("notes", ["From a textbook of ECGs:"]),
    ("examples", ["Example 1", "Answer: ", "Now the question to answer"]),
])  # fmt: skip
def test_richer_contexts_are_blocks_of_their_own(tiny_cohort, questions, peaks, context, words):
    test = questions.index("test", "single-verify")[:12]
    settings = config(llm_context=context, llm_examples=2)
    _, texts, writer = write(settings, tiny_cohort, questions, peaks, test)
    said = "\n".join(texts)
    assert all(word in said for word in words) and INTRO not in said
    assert "Interpretation of" not in said and not peaks[0].calls
    assert writer.mark == ("with the record's own report" if context == "report" else "")


def test_examples_are_of_the_training_split_and_of_other_patients(questions):
    test = questions.index("test")[::10]
    table = questions.table
    for position, chosen in pick_examples(questions, test, 3, 42).items():
        picked, own = table.iloc[chosen], table.iloc[position]
        assert (picked["split"] == "train").all() and len(set(chosen)) == 3
        assert (picked["question_type"] == own["question_type"]).all()
        people = {*picked["patient1"], *picked["patient2"]} - {-1}
        assert not people & {own["patient1"], own["patient2"]}
        assert len({tuple(a) for a in picked["answer"]}) > 1
    train = questions.index("train", "comparison_consecutive-query")[:8]
    for position, chosen in pick_examples(questions, train, 99, 42).items():
        own = {table["patient1"].iat[position], table["patient2"].iat[position]}
        assert len(chosen) > 5 and not own & {*table["patient1"].iloc[chosen]}
    one, two = (pick_examples(questions, test, 3, 42) for _ in range(2))
    assert all(np.array_equal(one[p], two[p]) for p in one)


def test_measurements_agree_with_the_simulator(tiny_cohort):
    rows = np.arange(len(tiny_cohort.store))
    found, truth = measure(tiny_cohort.store.read(rows), tiny_cohort.store.fs), tiny_cohort.truth
    for name, off in (("heart_rate", 2), ("qrs_ms", 20), ("qt_ms", 25)):
        assert np.nanmedian(np.abs(found[name] - truth[name])) < off, name
    turned = (found["axis_deg"] - truth["axis_deg"] + 180) % 360 - 180
    assert np.nanmedian(np.abs(turned)) < 20
    assert measure(np.zeros((1, 12, 1000), np.float32), 100).isna().all(axis=None)


# --- the lookup reader ----------------------------------------------------------------------------


class Told:
    """Findings that are simply said."""

    def __init__(self, *positive):
        self.told, self.classifier = positive, types.SimpleNamespace(classes=KNOWN)

    def positive(self, view):
        return frozenset(self.told[view])


KNOWN = ("sinus rhythm", "prolonged pr interval", "myocardial infarction",
         "above the normal range of pr interval")  # fmt: skip
LOOK_UPS = [
    ("single-verify", 1, "Is it?", ("no", "yes"), ("sinus rhythm",), [{"sinus rhythm"}], {"yes"}),
    ("single-verify", 1, "Is it?", ("no", "yes"), ("sinus rhythm",), [set()], {"no"}),
    ("single-verify", 1, "?", ("no", "yes"), ("myocardial infarction in inferior leads",),
     [{"myocardial infarction"}], {"yes"}),
    ("single-choose", 40, "?", ("above the normal range", "within the normal range"),
     ("above the normal range of pr interval", "within the normal range of pr interval"),
     [{"above the normal range of pr interval"}], {"above the normal range"}),
    ("single-query", 42, "?", ("pr interval", "qrs duration"),
     ("above the normal range of pr interval", "above the normal range of qrs duration"),
     [{"above the normal range of pr interval"}], {"pr interval"}),
    ("single-query", 19, "?", ALL_LEADS, ("sinus rhythm",),
     [{"sinus rhythm"}, *[set()] * 10, {"sinus rhythm"}], {"lead I", "lead V6"}),
    ("comparison_irrelevant-verify", 58, "Would you call a prolonged pr interval a fresh finding?",
     ("no", "yes"), (), [set(), {"prolonged pr interval"}], {"yes"}),
    ("comparison_irrelevant-verify", 57, "Has a prolonged pr interval cleared?", ("no", "yes"), (),
     [set(), {"prolonged pr interval"}], {"no"}),
    ("comparison_consecutive-verify", 51, "Did the pr interval go out of range?", ("no", "yes"), (),
     [set(), {"above the normal range of pr interval"}], {"yes"}),
    ("comparison_consecutive-query", 49, "What is shared?", KNOWN[:2], (),
     [{"sinus rhythm"}, {"sinus rhythm", "prolonged pr interval"}], {"sinus rhythm"}),
    ("comparison_irrelevant-query", 68, "What entered its limits?", ("pr interval",), (),
     [{"above the normal range of pr interval"}, set()], {"pr interval"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "number", "text", "options", "attribute", "told", "answer"),
                         LOOK_UPS)  # fmt: skip
def test_the_lookup_reader_reads_the_blocks(kind, number, text, options, attribute, told, answer):
    asked = Question(kind, number, text, options, attribute)
    assert look_up(asked, range(len(told)), Told(*told)) == answer


def test_with_a_perfect_classifier_the_lookup_reader_is_nearly_always_right(template, tiny_cohort):
    """Findings taken from the facts themselves: what is left wrong is what blocks cannot hold."""
    facts = read_facts(tiny_cohort.table, tiny_cohort.truth)
    names = [*facts.state, *(f"{r} of {m}" for m in MEASURES for r in RANGES)]

    class Facts:
        classifier = types.SimpleNamespace(classes=tuple(names))

        def positive(self, view):
            there = {n for n, s in facts.state.items() if s[view.row] == PRESENT}
            return frozenset(there | {f"{RANGES[v[view.row]]} of {m}"
                                      for m, v in facts.ranges.items() if v[view.row] >= 0})

    rows = question_rows(template, np.flatnonzero(template.table["row2"] >= 0))
    right = [look_up(Question(r.question_type, r.template_id, r.question, r.options),
                     views_of(r.question_type, r.question, r.options, r.row1, r.row2), Facts())
             == set(r.gold) for r in rows.itertuples()]
    assert np.mean(right) > 0.97


# --- scores ---------------------------------------------------------------------------------------


def test_scores_are_counted_by_hand():
    rows = pd.DataFrame({"type1": [0, 0, 0, 1], "type2": [0, 0, 2, 3], "type3": [0, 0, 12, 18],
                         "patient": [1, 2, 3, 4], "answered": [True, True, True, False],
                         "unparsed": [False, True, False, False]})
    table = score_table(rows, {"m": np.array([True, False, True, True])}, n_boot=50)
    at = table.set_index(["level", "type"])
    assert at.loc[(0, OVERALL), "exact_match"] == pytest.approx(2 / 3)  # the unanswered is apart
    assert at.loc[(0, BALANCED), "exact_match"] == pytest.approx(0.75)  # (1/2 + 1) / 2
    assert at.loc[(2, "single-verify"), ["n", "unparsed", "unanswered"]].tolist() == [2, 1, 0]
    unanswered = at.loc[(1, "comparison_consecutive")]
    assert unanswered["n"] == 0 and unanswered["unanswered"] == 1
    assert np.isnan(unanswered["exact_match"])
    whole = at.loc[(0, OVERALL)]
    assert whole["low"] <= whole["exact_match"] <= whole["high"]
