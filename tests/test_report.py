"""The report's page, figures, certificate and command; `--check` fails where a claim has no run."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from ledger_parts import MADE, REAL, entry, metric, write_notebook, write_numbers

from ecgkit import cli
from ecgkit.parity import certificate
from ecgkit.reports import ledger, ledger_check, paper_figures, paper_form, report_files
from ecgkit.reports.page import build_index
from ecgkit.reports.watermark import is_marked
from ecgkit.tasks.survival_followup import survival_at

ESI, FEW, RISK = "05_esi_evaluation", "06_few_shot_qa", "07_risk_finetuning"
ZERO = "zero_shot_macro_auc"


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "run")


def make_run(run):
    """A simulated run that would match, were it real, and what it takes to draw figures."""
    write_notebook(run, ESI, {ZERO: metric(0.83, 0.8, 0.86), "other": metric(None)},
                   captions={"a": 'Figure <img> "x"', "gone": "no file"})  # fmt: skip
    (run / ESI / "figures" / "gone.png").unlink()
    risk = {"c_index": metric(0.7, 0.6, 0.8), "c_index_age_sex": metric(0.6, 0.5, 0.7)}
    write_notebook(run, RISK, risk)
    write_notebook(run, FEW, {"few_shot_verify_adapted": metric(0.6, 0.5, 0.7)})
    pd.DataFrame({
        "question_type": "2-way verify", "k_shot": [1, 5], "attributes": "unseen",
        "leads": "all 12", "value": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7],
    }).to_csv(run / FEW / "accuracy_grid.csv", index=False)  # fmt: skip
    record = {"run": "de<mo", "notebooks": [entry(ESI), entry(FEW), entry(RISK)]}
    (run / "run.json").write_text(json.dumps(record))
    return run


@pytest.fixture
def references(tmp_path, monkeypatch):
    folder = write_numbers(tmp_path)
    monkeypatch.setenv("ECGKIT_SHARED", str(folder))
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """(run folder with its report, shared folder), made once; tests change a copy."""
    home = tmp_path_factory.mktemp("reported")
    run, shared = make_run(home / "run"), write_numbers(home)
    write_notebook(run, RISK, {"effect_risk_alpha": metric(0.02), "c_index": metric(0.7, 0.6, 0.8)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECGKIT_SHARED", str(shared))
        report_files.write_page(run)
    return run, shared


@pytest.fixture
def report(reported, tmp_path):
    """(a copy of that run folder, shared folder)."""
    return shutil.copytree(reported[0], tmp_path / "copy"), reported[1]


# --- does every claim have a run behind it? -------------------------------------------------------


def change(folder, number, **cells):
    path = folder / ledger.LEDGER
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name, value in cells.items():
        table.loc[table["row"] == str(number), name] = value
    table.to_csv(path, index=False)


def test_an_honest_report_has_no_fault(report):
    assert ledger_check.check_report(*report) == []


@pytest.mark.parametrize("number, cells, says", [
    (2, {"ours": "0.9"}, "row 2 .* shows 0.9 .* holds 0.83"),
    (2, {"low": "0.1"}, "row 2 .* holds 0.83"),
    (2, {"low": "", "high": ""}, "without an interval"),
    (2, {"fingerprint": ""}, "without the fingerprint"),
    (2, {"status": "matched"}, "called matched, but it stands on simulated data"),
    (2, {"metric": "made_up"}, "does not hold made_up: no run stands behind it"),
    (2, {"file": "03_baselines/metrics.json"}, "no run stands behind it"),
    (2, {"status": "differs because"}, "gives no reason"),
    (2, {"status": "splendid"}, "is no status"),
    (2, {"published": "0.83"}, "published is '0.83', the run files give '0.812'"),
    (3, {"status": "matched"}, "called matched without a number of ours"),
    (3, {"ours": "0.8", "low": "0.7", "high": "0.9", "status": "matched"}, "no run stands behind"),
    (1, {"status": "differs because of bad luck"}, "status is 'differs because of bad luck'"),
    (5, {"row": "4"}, "more than once"),
])  # fmt: skip
def test_a_claim_without_a_run_is_named(report, number, cells, says):
    change(report[0], number, **cells)
    faults = "\n".join(ledger_check.check_report(*report))
    assert re.search(says, faults), faults


def test_metrics_that_are_gone_or_others_are_named(report):
    write_notebook(report[0], ESI, {ZERO: metric(0.7, 0.6, 0.8)})
    assert "holds 0.7" in ledger_check.check_report(*report)[0]
    (report[0] / ESI / "metrics.json").unlink()
    assert "no run stands behind it" in ledger_check.check_report(*report)[0]


def test_rows_that_are_not_accounted_for_are_named(report):
    path = report[0] / ledger.LEDGER
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[table["row"] != "3"].to_csv(path, index=False)
    faults = ledger_check.check_report(*report)
    assert "accounts for 4 rows, the published table has 5: rows 3" in faults[0]
    path.unlink()
    assert "There is no ledger.csv" in ledger_check.check_report(*report)[0]


def test_effects_and_certificates_are_checked_too(report):
    write_notebook(report[0], RISK, {})
    claims = {"passed": True, "fixtures": [{"fixture": "risk_cox", "passed": False}]}
    (report[0] / "parity_certificate.json").write_text(json.dumps(claims))
    faults = "\n".join(ledger_check.check_report(*report))
    assert "effect of risk_alpha is said to be measured" in faults
    assert "it holds risk_cox as not met" in faults


# --- nothing simulated is shown as a replication --------------------------------------------------


def test_every_figure_of_made_up_data_is_marked(folder, references):
    for data, config, mark in ((MADE, {}, "simulated data"), (REAL, {}, "simulated outcomes"),
                               (REAL, {"outcomes": "mine.csv"}, "")):  # fmt: skip
        write_notebook(folder, RISK, {"c_index": metric(0.7, 0.6, 0.8)}, data, config=config)
        run = ledger.read_run(folder)
        drawn = paper_figures.paper_figures(run, ledger.ledger_table(run, references))
        figure, caption = drawn["risk_c_index"]
        assert is_marked(figure, mark) == bool(mark) and ("not a replication" in caption) == bool(
            mark
        )


def test_all_figures_of_a_simulated_run_are_marked(folder, references):
    run = ledger.read_run(folder)
    drawn = paper_figures.paper_figures(run, ledger.ledger_table(run, references))
    assert set(drawn) == {"few_shot", "risk_c_index"}
    for figure, caption in drawn.values():
        assert is_marked(figure, "simulated data") and "not a replication" in caption


def test_tables_in_the_papers_form_say_what_is_made_up(folder, references):
    run = ledger.read_run(folder)
    (title, table), *_ = paper_form.measured_tables(ledger.ledger_table(run, references))
    assert title.startswith("ESI, Table 3")
    cells = table.iloc[0]
    assert cells["PTB-XL x AUC"] == "0.812 ± 0.01"
    assert cells["PTB-XL x AUC, ours"] == "0.830 [0.800, 0.860], n=100 (simulated data)"


def test_figures_drawn_from_other_numbers_are_not_shown(folder, references):
    html = report_files.write_report(folder).read_text()
    assert "paper/risk_c_index.png" in html
    write_notebook(folder, RISK, {"c_index": metric(0.75, 0.6, 0.8)})
    assert "paper/" not in build_index(folder, []).read_text()


def test_kaplan_meier_for_the_report_is_the_estimate_on_a_grid():
    rng = np.random.default_rng(0)
    years, event = rng.exponential(3, 60), rng.integers(0, 3, 60)
    group = np.arange(60) % 2
    table = paper_form.km_table(years, event, group, ["low", "high", "nobody"])
    assert set(table["group"]) == {"low", "high"}
    part = table[table["group"] == "high"]
    mine = group == 1
    expected = survival_at(years[mine], event[mine] == 1, part["years"])[0]
    np.testing.assert_allclose(part["free"], expected)
    assert part["at_risk"].iloc[0] == 30 and not set(part["years"]) & set(years[mine])


# --- the page -------------------------------------------------------------------------------------


def test_page_holds_everything_escaped_and_without_network(folder, references):
    entries = [entry(ESI), entry(FEW, "failed", "cell 4: <boom>"),
               entry(RISK, "not run: needs <x>")]  # fmt: skip
    record = {"run": "de<mo", "preset": "demo", "git": {"commit": "c0ffee", "dirty": True},
              "versions": {"torch": "2"}, "seeds": {"seed": 0}, "notebooks": entries}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    html = build_index(folder, entries).read_text()
    for raw in ("<boom>", "<x>", "<img> ", "<note>", "de<mo", "<b>holds"):
        assert raw not in html
    for words in ("de&lt;mo", "&lt;boom&gt;", "Simulated data", "abcdefabcdef", "c0ffee with",
                  "0.830 [0.800, 0.860]", "31 / 40", "1 of 1", "torch 2", "0.812\u00a0±\u00a00.01",
                  "simulated data: never a replication", "Of 5 published numbers, 0 results"):
        assert words in html, words  # fmt: skip
    assert html.count("For research and teaching, not for diagnosis.") >= 2
    assert "href='05_esi_evaluation/executed.html'" in html
    assert "src='05_esi_evaluation/figures/a.png'" in html and "gone.png" not in html
    assert "http" not in html and "<script" not in html and "viewport" in html
    assert html.count("<details") == html.count("</details>") >= 6


def test_the_whole_ledger_is_on_the_page_and_it_stays_small(folder, shared):
    html = build_index(folder, []).read_text()
    rows = len(re.findall(r"<tr class='is-(?:matched|differs|not-run-here|context)'", html))
    assert rows >= 737 and len(html) < 3e6
    assert "http" not in html


def test_page_of_an_empty_run(tmp_path):
    html = build_index(tmp_path, []).read_text()
    assert "No notebook has recorded one yet" in html and "not for diagnosis" in html


def test_page_of_real_data_has_no_simulated_banner(tmp_path, references):
    write_notebook(tmp_path, "03_baselines", {"exact_match_fusion": metric(0.5, 0.4, 0.6)}, REAL)
    html = build_index(tmp_path, [entry("03_baselines")]).read_text()
    assert "Simulated data." not in html and "feedfeedfeed" in html
    assert "not for sharing" not in html


def test_page_of_credentialed_data_is_not_for_sharing(tmp_path):
    write_notebook(tmp_path, "03_baselines", {}, REAL | {"credentialed": True})
    html = build_index(tmp_path, []).read_text()
    assert "Made from credentialed data: not for sharing." in html


# --- the certificate ------------------------------------------------------------------------------


def test_certificate_without_fixtures_says_so(tmp_path):
    found = certificate.certify([])
    assert not found["passed"] and "ECGKIT_SHARED" in found["skipped"]
    certificate.write_certificate(tmp_path, found)
    assert "No golden file was found" in build_index(tmp_path, []).read_text()


def test_certificate_holds_margin_versions_and_what_cannot_be_compared(shared, tmp_path):
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no archive")
    found = certificate.certify([shared / "golden" / "esi_losses.npz", broken])
    good, bad = found["fixtures"]
    assert good["passed"] and 0 <= good["margin"] < 1 and good["arrays"] >= 5
    assert not bad["passed"] and "readable" in bad["result"] and not found["passed"]
    assert found["versions"]["torch"] and found["machine"] and found["finished"]
    certificate.write_certificate(tmp_path, found)
    assert len(pd.read_csv(tmp_path / "parity_certificate.csv")) == 2
    html = build_index(tmp_path, []).read_text()
    assert "1 of 2 golden files" in html


# --- the command ----------------------------------------------------------------------------------


def test_the_command_makes_and_checks(folder, references, capsys):
    assert cli.main(["report", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "5 published numbers: 0 matched" in said and "index.html" in said
    assert cli.main(["report", "--check", str(folder)]) == 0
    change(folder, 2, ours="0.99")
    assert cli.main(["report", "--check", str(folder)]) == 1
    assert "fault: ledger.csv, row 2" in capsys.readouterr().out
    assert cli.main(["report", str(folder)]) == 0, "made anew from the run files"
    assert cli.main(["report", "--check", str(folder)]) == 0


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert cli.main(["report", "no_such_run"]) == 2
    assert "There is no run 'no_such_run'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing is written into a folder that is no run"


def test_check_without_the_published_table_says_so(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ECGKIT_SHARED", str(tmp_path / "nowhere"))
    assert cli.main(["report", str(folder)]) == 0
    assert cli.main(["report", "--check", str(folder)]) == 0
    assert "published table is not here" in capsys.readouterr().out
