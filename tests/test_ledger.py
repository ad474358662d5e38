"""The ledger reads run files only, accounts for every published number, and never flatters."""

import dataclasses
import importlib.util
import json
import re

import pytest
from ledger_parts import MADE, REAL, entry, metric, write_notebook, write_numbers

from ecgkit.config import CONFIGS
from ecgkit.reports import (
    ledger,
    ledger_facts,
    ledger_needs,
    ledger_rows,
    ledger_status,
    run_tables,
)
from ecgkit.reports.discrepancies import DISCREPANCIES
from ecgkit.reports.discrepancies_table import discrepancy_table, effect_counts
from ecgkit.reports.ledger_target import Target
from ecgkit.reports.ledger_targets import TARGETS, UNPUBLISHED, target_of
from ecgkit.types import DataError

ZERO = "zero_shot_macro_auc"
ESI = "05_esi_evaluation"


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    write_notebook(run, ESI, {ZERO: metric(0.83, 0.8, 0.86), "other": metric(None)})
    return run


@pytest.fixture
def references(tmp_path):
    return write_numbers(tmp_path)


def row(table, number):
    return table[table["row"] == number].iloc[0]


# --- every published number -----------------------------------------------------------------------


def test_every_published_number_is_accounted_for_once(shared, tmp_path):
    table = ledger.ledger_table(ledger.read_run(tmp_path), shared)
    published = ledger_rows.read_published(shared)
    assert len(published) >= 737
    assert table["row"][table["row"] > 0].tolist() == [r.index for r in published]
    assert (table["row"] == 0).sum() == len(UNPUBLISHED)
    kinds = table["status"].map(ledger_status.kind_of)
    assert set(kinds[table["row"] > 0]) == {"context", "not run here"}, "an empty run claims much"
    assert ledger.summary_table(table)["Numbers"].iloc[-1] == len(published)


def test_whose_number_it_is(shared):
    for number in ledger_rows.read_published(shared):
        whose = ledger_rows.why_context(number)
        words = f"{number.table} {number.note}".lower()
        if re.search("third.party|secondary|aggregator|issue |doubtful", words):
            assert whose or "third-party table" not in words, number
        if re.search("third.party|secondary|aggregator|^issue", number.table):
            assert whose and target_of(number) is None, number
        if number.system == "MERL" and number.table != "abstract":
            assert whose, number


def test_every_target_is_a_row_and_every_other_row_says_what_it_needs(shared):
    own = [n for n in ledger_rows.read_published(shared) if not ledger_rows.why_context(n)]
    used = [target_of(n) for n in own]
    idle = [t.metric for t in TARGETS if t.where and t not in used]
    assert idle == ["release_mimic_train_ecgs"], "targets without a published row"
    unknown = [n for n in own if "does not know" in ledger_needs.needs(n)]
    assert not unknown
    vague = [n.index for n in own if "{" in ledger_needs.needs(n)]
    assert not vague


def test_without_the_table_the_kits_own_list_stands(folder):
    table = ledger.ledger_table(ledger.read_run(folder), None)
    assert (table["row"] == 0).all() and (table["published"] == "").all()
    zero = table[table["metric"] == ZERO].iloc[0]
    assert zero["ours"] == 0.83 and "no published table here" in zero["status"]
    assert ledger.summary_table(table)["Numbers"].iloc[-1] == 0


def test_a_table_without_a_column_is_a_sentence(tmp_path):
    shared = write_numbers(tmp_path)
    path = shared / ledger_rows.NUMBERS
    path.write_text(path.read_text().replace('"sd"', '"spread"'))
    with pytest.raises(DataError, match="lacks the columns sd"):
        ledger_rows.read_published(shared)


# --- what ours is worth ---------------------------------------------------------------------------


def test_simulated_is_never_a_match(folder, references):
    table = ledger.ledger_table(ledger.read_run(folder), references)
    zero = row(table, 2)
    assert (zero["published"], zero["sd"], zero["ours"], zero["n"]) == ("0.812", "0.01", 0.83, 100)
    assert zero["low"] <= float(zero["published"]) <= zero["high"], "a match, were it real"
    assert zero["status"] == "differs because simulated data: never a replication"
    assert (zero["simulated"], zero["fingerprint"]) == ("simulated data", "abcdefabcdef")
    assert row(table, 1)["status"] == "context: a third party's number"
    assert row(table, 3)["status"].startswith("not run here: needs two textbooks")


@pytest.mark.parametrize("data, preset, config, says", [
    (MADE, "paper", {}, "differs because simulated data"),
    ({}, "paper", {}, "differs because simulated data"),  # data that does not say counts as such
    (REAL | {"name": "chapman"}, "paper", {}, "differs because other data: chapman, not ptbxl"),
    (REAL | {"n_ecgs": 400}, "tiny", {}, "differs because a subset of 400 records of 21,799"),
    (REAL, "demo", {}, "differs because another preset: demo"),
    (REAL, "paper", {}, "matched"),
])  # fmt: skip
def test_status_ladder(tmp_path, data, preset, config, says):
    write_notebook(tmp_path, ESI, {"x": metric(0.83, 0.8, 0.86)}, data, preset, config=config)
    assert status(tmp_path, Target(ESI, "x")).startswith(says)


def status(folder, target, value="0.81"):
    run = ledger.read_run(folder)
    number = ledger_rows.Published(1, "ESI", "Table 2", value=value)
    return ledger_status.status_of(number, target, run.find(target.source, target.metric), run)


def test_a_match_needs_the_published_value_inside_our_interval(tmp_path):
    write_notebook(tmp_path, ESI, {"x": metric(0.83, 0.8, 0.86), "y": metric(0.83)}, REAL, "paper")
    assert status(tmp_path, Target(ESI, "x"), "0.87").startswith("differs because of a cause not")
    assert "no interval" in status(tmp_path, Target(ESI, "y"))
    assert status(tmp_path, Target(ESI, "x", scale=100), "81") == "matched"


def test_what_stands_between_is_named_until_it_is_cured(tmp_path):
    cure = ("04_esi_pretraining", "n_pretrain_ecgs", 600_000)
    target = Target(ESI, "x", why="no MIMIC", unless=cure)
    write_notebook(tmp_path, ESI, {"x": metric(0.83, 0.8, 0.86)}, REAL, "paper")
    assert status(tmp_path, target) == "differs because no MIMIC"
    pretrained = {"n_pretrain_ecgs": metric(660_000)}
    write_notebook(tmp_path, "04_esi_pretraining", pretrained, MADE, "paper")
    assert status(tmp_path, target) == "differs because no MIMIC", "simulated ECGs cure nothing"
    write_notebook(tmp_path, "04_esi_pretraining", pretrained, REAL, "paper")
    assert status(tmp_path, target) == "matched"


@pytest.mark.parametrize("labels, setting, says", [
    ("questions", "ecgqa", "the kit's own questions"),
    ("outcomes", "outcomes", "simulated outcomes"),
])  # fmt: skip
def test_real_ecgs_with_made_up_labels_are_no_match_either(tmp_path, labels, setting, says):
    target = Target("07_risk_finetuning", "x", labels=labels)
    for config, expected in (({setting: ""}, says), ({setting: "file.csv"}, "matched")):
        write_notebook(tmp_path, target.source, {"x": metric(0.8, 0.7, 0.9)}, REAL, "paper",
                       config=config)  # fmt: skip
        assert expected in status(tmp_path, target)


@pytest.mark.parametrize("ours, published, same", [
    (26.814144, "26.81", True), (1.804672, "1.80", True), (85.517568, "84.92", False),
    (90.883072, "90.9", True), (267_539, "267539", True), (5e-05, "5e-5", True), (2, "5", False),
    (1, "1.5.0", False),
])  # fmt: skip
def test_equal_at_the_printed_digits(ours, published, same):
    assert ledger_status.equal_as_printed(ours, published) is same


def test_a_line_of_a_table_backs_a_row(tmp_path):
    write_notebook(tmp_path, ESI, {}, REAL, "paper")
    (tmp_path / ESI / "t.csv").write_text(
        "model,task,metric,value,low,high,n\na,b,macro F1,0.5,0.4,0.6,9\na,b,AUC,0.8,0.7,0.9,9\n"
    )
    run = ledger.read_run(tmp_path)
    assert run.find(ESI, "t.csv:a|b|AUC")["value"] == 0.8
    assert run.find(ESI, "t.csv:a|c|AUC") is None and run.find(ESI, "u.csv:a|b|AUC") is None


def test_counts_of_a_data_set_are_that_data_sets(shared, tmp_path):
    """The size of a simulated cohort says nothing of PTB-XL's."""
    for data, seen in ((MADE, 0), (REAL, 1)):
        write_notebook(tmp_path, "02_preprocessing", {"n_stored": metric(data["n_ecgs"])}, data)
        table = ledger.ledger_table(ledger.read_run(tmp_path), shared)
        assert (table["metric"] == "n_stored").sum() == seen


def test_sizes_and_settings_match_without_data(shared, tmp_path):
    parts = (ledger_facts.model_sizes, ledger_facts.kit_tables, ledger_facts.paper_settings,
             ledger_facts.release_counts)  # fmt: skip
    facts = {name: fact for part in parts for name, fact in part()}
    ledger_facts.write_facts(tmp_path, facts)
    table = ledger.ledger_table(ledger.read_run(tmp_path), shared)
    total = ledger.summary_table(table).iloc[-1]
    assert total["Results match"] == 0
    assert total["Sizes, counts match"] >= 12 and total["Settings match"] >= 35
    vit = table[table["metric"] == "n_parameters_vit1d"].iloc[0]
    assert vit["status"].startswith("differs because the paper gives the size alone")


# --- what ran -------------------------------------------------------------------------------------


def test_missing_notebooks_are_named_and_nothing_fails(tmp_path):
    run = ledger.read_run(tmp_path)
    assert "03_baselines" in run.missing and "08_replication_report" not in run.missing
    assert run_tables.run_times(run)["Status"].eq("not run in this folder").all()
    assert run_tables.metrics_table(run).empty
    assert run_tables.plot_headlines(run).axes
    assert ledger.ledger_table(run)["ours"].isna().all()


def test_metrics_of_a_notebook_that_failed_since_are_not_shown(folder, references):
    record = {"notebooks": [entry(ESI, "failed", "cell 3")]}
    (folder / "run.json").write_text(json.dumps(record))
    run = ledger.read_run(folder)
    assert ESI in run.missing and run.status(ESI) == "failed"
    assert row(ledger.ledger_table(run, references), 2)["status"].endswith("notebook 05: failed")


def test_run_times_show_used_and_allowed_machine_and_day(folder):
    said = {"seconds": 30, "machine": "a machine, 2 cores", "date": "2026-01-02T03:04:05+00:00"}
    record = {"notebooks": [entry(ESI) | {"measured": said}]}
    (folder / "run.json").write_text(json.dumps(record))
    times = run_tables.run_times(ledger.read_run(folder)).set_index("Notebook").loc[ESI]
    assert (times["Used, s"], times["Allowed, s"], times["Checks held"]) == ("30", "40", "1 of 1")
    assert (times["Machine"], times["Measured on"]) == ("a machine, 2 cores", "2026-01-02")


def test_a_broken_run_file_is_a_sentence(folder):
    (folder / ESI / "metrics.json").write_text("{")
    with pytest.raises(DataError, match="run that notebook again"):
        ledger.read_run(folder)


# --- disagreements --------------------------------------------------------------------------------


def test_disagreements_are_complete_and_named_once():
    assert len(DISCREPANCIES) >= 100
    assert {d.system for d in DISCREPANCIES} == {"ECG-QA", "ESI", "Few-shot QA", "HF risk"}
    assert len({d.id for d in DISCREPANCIES}) == len(DISCREPANCIES)
    for d in DISCREPANCIES:
        assert d.topic and d.paper and d.code and d.source and d.effect, d.id
        assert re.fullmatch(r"[a-z0-9_]+", d.id)
        assert re.match(r"(ecgqa|esi|fewshot|risk) \d", d.source), d.id


def test_switches_exist():
    fields = {name[:2]: {f.name: f for f in dataclasses.fields(c)} for name, c in CONFIGS.items()}
    for d in DISCREPANCIES:
        for name in re.findall(r"\b(?:models|tasks|text|data|features)\.[a-z0-9_]+", d.switch):
            assert importlib.util.find_spec(f"ecgkit.{name}"), f"{d.id}: no module {name}"
        for notebook, name, choices in re.findall(r"(\d\d) ([A-Z_]+)(?: = (.+))?", d.switch):
            field = fields[notebook][name.lower()]
            assert set(choices.split(" | ")) <= {"", *field.metadata["choices"]}, d.id


def test_a_measured_effect_replaces_the_known_one(tmp_path):
    write_notebook(tmp_path, "07_risk_finetuning", {"effect_risk_alpha": metric(0.02)})
    table = discrepancy_table(ledger.read_run(tmp_path)).set_index("ID")
    effect = table.loc["risk_alpha", "Effect"]
    assert effect == "<note>: 0.020 (07_risk_finetuning, simulated data)"
    total = effect_counts(table.reset_index()).iloc[-1]
    assert total["measured in this run"] == 1 and total["Rows"] == len(DISCREPANCIES)
