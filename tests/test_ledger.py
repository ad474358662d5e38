"""The ledger reads run files only, never flatters, and the page escapes what it shows."""

import dataclasses
import importlib.util
import json
import re

import pytest

from ecgkit.config import CONFIGS
from ecgkit.reports import ledger
from ecgkit.reports.discrepancies import DISCREPANCIES
from ecgkit.reports.page import build_index
from ecgkit.types import DataError

REAL = {"name": "ptbxl", "fingerprint": "feedfeedfeed", "simulated": False, "n_ecgs": 21_799}
MADE = {"name": "synthetic", "fingerprint": "abcdefabcdef", "simulated": True, "n_ecgs": 2400}


def metric(value, low=None, high=None, n=100, headline=True):
    return {"value": value, "low": low, "high": high, "n": n, "unit": "", "note": "<note>",
            "headline": headline}


def write_notebook(folder, name, metrics, data=MADE, preset="demo", captions=None):
    home = folder / name / "figures"
    home.mkdir(parents=True)
    for figure in captions or {}:
        (home / f"{figure}.png").write_bytes(b"png")
    body = {
        "notebook": name, "preset": preset, "config_hash": "0", "data": data, "metrics": metrics,
        "checks": [{"claim": "<b>holds</b>", "holds": True, "binding": True}],
        "captions": captions or {}, "seconds": 30.0, "allowed_s": 40, "peak_memory_gb": 1.0,
        "machine": "a machine",
    }
    (folder / name / "metrics.json").write_text(json.dumps(body))


def entry(name, status="ok", cell=""):
    html = f"{name}/executed.html" if status == "ok" else ""
    return {"name": name, "status": status, "seconds": 31.0, "html": html, "cell": cell}


@pytest.fixture
def folder(tmp_path):
    zero = metric(0.83, 0.8, 0.86)
    write_notebook(tmp_path, "05_esi_evaluation", {"zero_shot_auc": zero, "other": metric(None)},
                   captions={"a": 'Figure <img> "x"', "gone": "no file"})
    (tmp_path / "05_esi_evaluation/figures/gone.png").unlink()
    return tmp_path


@pytest.fixture
def references(tmp_path):
    """A published table as the shared folder has it, a third-party row before the real one."""
    path = tmp_path / "shared" / ledger.NUMBERS
    path.parent.mkdir(parents=True)
    path.write_text(
        '"system","table","dataset","task","setting","method","metric","value","sd","source","note"\n'
        '"ESI","third-party","PTB-XL","x","zero-shot","ESI","AUC","0.1","","",""\n'
        '"ESI","Table 3","PTB-XL","x","zero-shot","ESI","AUC","0.5","0.01","",""\n'
    )
    return tmp_path / "shared"


def row(table, quantity):
    return table[table["Quantity"] == quantity].iloc[0]


# --- published beside ours ------------------------------------------------------------------------


def test_simulated_is_never_a_replication(folder, references):
    table = ledger.replication_table(ledger.read_run(folder), references)
    zero = row(table, "zero-shot macro AUC")
    assert zero["Published"] == "0.5 ± 0.01"
    assert zero["Ours"].startswith("0.830 [0.800, 0.860], n=100")
    assert zero["Status"].startswith("simulated: never a replication")
    assert "abcdefabcdef" in zero["Data"] and "simulated" in zero["Data"]


@pytest.mark.parametrize("data, preset, says", [
    (MADE, "paper", "simulated: never"),
    ({}, "paper", "simulated: never"),  # data that does not say what it is counts as simulated
    (REAL | {"n_ecgs": 400}, "tiny", "a subset of 400 ECGs: not a replication"),
    (REAL, "demo", "not the published sizes"),
    (REAL, "paper", "comparable"),
])
def test_status_ladder(data, preset, says):
    target = ledger.Target("S", "q", "05_esi_evaluation", "x", None)
    assert says in ledger.replication_status({"data": data, "preset": preset}, target)


def test_real_ecgs_with_made_up_labels_are_no_replication_either():
    body = {"data": REAL, "preset": "paper"}
    asks = ledger.Target("S", "q", "03_baselines", "x", None, labels="questions")
    risk = ledger.Target("S", "q", "07_risk_finetuning", "x", None, labels="outcomes")
    assert "simulated questions" in ledger.replication_status(body, asks)
    assert ledger.replication_status(body, asks, ecgqa="ecgqa.zip") == "comparable"
    assert "simulated outcomes" in ledger.replication_status(body, risk, ecgqa="ecgqa.zip")


def test_without_the_shared_folder_only_our_figures(folder):
    table = ledger.replication_table(ledger.read_run(folder), None)
    assert set(table["Published"]) == {"–"} and len(table) == len(ledger.TARGETS)


def test_every_target_picks_a_row_of_the_published_table(shared):
    for target in ledger.TARGETS:
        found = ledger.published_number(shared, target.where)
        assert bool(found) == (target.where is not None), target.quantity


def test_unadapted_accuracy_does_not_stand_in_for_adapted():
    pattern = next(t.metric for t in ledger.TARGETS if t.quantity.startswith("single-verify"))
    metrics = {"exact_match_unadapted": metric(0.2), "exact_match_adapted": metric(0.6)}
    assert ledger._find_metric({"exact_match_unadapted": metric(0.2)}, pattern)[1] is None
    assert ledger._find_metric(metrics, pattern)[0] == "exact_match_adapted"


# --- what ran -------------------------------------------------------------------------------------


def test_missing_notebooks_are_named_and_nothing_fails(tmp_path):
    run = ledger.read_run(tmp_path)
    assert "03_baselines" in run.missing and "08_replication_report" not in run.missing
    assert ledger.run_times(run)["Status"].eq("not run in this folder").all()
    assert ledger.metrics_table(run).empty
    assert ledger.plot_headlines(run).axes
    assert ledger.replication_table(run)["Ours"].eq("–").all()


def test_metrics_of_a_notebook_that_failed_since_are_not_shown(folder):
    record = {"notebooks": [entry("05_esi_evaluation", "failed", "cell 3")]}
    (folder / "run.json").write_text(json.dumps(record))
    run = ledger.read_run(folder)
    assert "05_esi_evaluation" in run.missing and run.status("05_esi_evaluation") == "failed"
    status = row(ledger.replication_table(run), "zero-shot macro AUC")["Status"]
    assert status.startswith("failed")


def test_run_times_show_used_and_allowed(folder):
    times = ledger.run_times(ledger.read_run(folder)).set_index("Notebook").loc["05_esi_evaluation"]
    assert (times["Used, s"], times["Allowed, s"], times["Checks held"]) == ("30", "40", "1 of 1")


def test_a_broken_run_file_is_a_sentence(folder):
    (folder / "05_esi_evaluation" / "metrics.json").write_text("{")
    with pytest.raises(DataError, match="run that notebook again"):
        ledger.read_run(folder)


# --- disagreements --------------------------------------------------------------------------------


def test_disagreements_are_complete_and_named_once():
    assert len(DISCREPANCIES) >= 15
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
    table = ledger.discrepancy_table(ledger.read_run(tmp_path))
    effect = table[table["Topic"] == "weights of the two losses"]["Effect"].iloc[0]
    assert effect == "<note>: 0.020 (07_risk_finetuning, simulated data)"


# --- the page -------------------------------------------------------------------------------------


def test_page_holds_everything_escaped_and_without_network(folder):
    entries = [entry("05_esi_evaluation"), entry("06_few_shot_qa", "failed", "cell 4: <boom>"),
               entry("07_risk_finetuning", "not run: needs <x>")]
    record = {"run": "de<mo", "preset": "demo", "git": {"commit": "c0ffee", "dirty": True},
              "versions": {"torch": "2"}, "seeds": {"seed": 0}, "notebooks": entries}
    (folder / "run.json").write_text(json.dumps(record))
    html = build_index(folder, entries).read_text()
    for raw in ("<boom>", "<x>", "<img> ", "<note>", "de<mo", "<b>holds"):
        assert raw not in html
    for words in ("de&lt;mo", "&lt;boom&gt;", "Simulated data", "abcdefabcdef", "c0ffee with",
                  "0.830 [0.800, 0.860]", "31 / 40", "1 of 1", "torch 2"):
        assert words in html, words
    assert html.count("For research and teaching, not for diagnosis.") >= 2
    assert "href='05_esi_evaluation/executed.html'" in html
    assert "src='05_esi_evaluation/figures/a.png'" in html and "gone.png" not in html
    assert "http" not in html and "<script" not in html and "viewport" in html


def test_page_of_an_empty_run(tmp_path):
    html = build_index(tmp_path, []).read_text()
    assert "No notebook has recorded one yet" in html and "not for diagnosis" in html


def test_page_of_real_data_has_no_simulated_banner(tmp_path):
    write_notebook(tmp_path, "03_baselines", {"exact_match_fusion": metric(0.5)}, REAL)
    html = build_index(tmp_path, [entry("03_baselines")]).read_text()
    assert "Simulated data" not in html and "feedfeedfeed" in html
