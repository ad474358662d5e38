"""Cox regression, hazard ratios and log-rank against lifelines; baselines, ladder, figures."""


import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from ecgkit.config.risk import RiskConfig
from ecgkit.data.outcomes import open_outcomes
from ecgkit.features.pr_interval import pr_interval
from ecgkit.reports import survival_figures as figures
from ecgkit.tasks import risk_baselines as baselines
from ecgkit.tasks.cox_regression import cox_newton
from ecgkit.tasks.risk_covariates import MEASURED, covariate_sets, impute
from ecgkit.tasks.survival_auc import auc_over_time
from ecgkit.tasks.survival_brier import breslow
from ecgkit.tasks.survival_calibration import calibration_groups, calibration_summary
from ecgkit.tasks.survival_decision import net_benefit
from ecgkit.tasks.survival_evaluation import evaluate
from ecgkit.tasks.survival_metrics import fit_cox, tertiles
from ecgkit.tasks.survival_tests import hazard_ratios, log_rank
from ecgkit.types import DataError


def drawn(n=400, seed=0, tied=False):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=n), rng.random((n, 2)) < (0.4, 0.1)]).astype(float)
    failure = rng.exponential(5 * np.exp(-x @ [0.6, 0.4, 0.8]))
    end = rng.uniform(1, 8, n)
    time, event = np.minimum(failure, end), (failure <= end).astype(int)
    return x, np.ceil(time) if tied else time, event


# --- Cox ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_newton_agrees_with_lifelines(tied):
    x, time, event = drawn(tied=tied)
    fit = cox_newton(x, time, event)
    table = pd.DataFrame(x).assign(time=time, event=event)
    theirs = CoxPHFitter().fit(table, "time", "event")
    assert np.allclose(fit.beta, theirs.params_, atol=1e-4)
    assert np.allclose(fit.se, theirs.standard_errors_, rtol=1e-4)
    assert fit.log_likelihood == pytest.approx(theirs.log_likelihood_, abs=1e-5)
    assert fit.converged and fit.covers([0.6, 0.4, 0.8]).all()


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_newton_maximises_the_loss_the_network_minimises(ties):
    import torch

    from ecgkit.models.losses_risk import cox_loss

    x, time, event = drawn(200, tied=True)
    beta = torch.tensor(cox_newton(x, time, event, ties=ties).beta, requires_grad=True)
    cox_loss(torch.tensor(x) @ beta, torch.tensor(time), torch.tensor(event), ties).backward()
    assert beta.grad.abs().max() < 1e-6


def test_ridge_constant_and_separated_covariates():
    x, time, event = drawn()
    wide = np.column_stack([x, np.ones(len(x)), event == 1, x[:, 0]])
    fit = cox_newton(wide, time, event)
    assert not fit.converged and fit.beta[3] == 0 and np.isnan(fit.se[3])
    shrunk = fit_cox(wide, time, event)
    assert np.isfinite(shrunk).all() and shrunk[0] == pytest.approx(shrunk[5]) and shrunk[3] == 0
    assert not fit_cox(x, time, np.zeros(len(x))).any()
    with pytest.raises(DataError, match="impute"):
        cox_newton(np.where(x == x[0, 0], np.nan, x), time, event)
    with pytest.raises(DataError, match="one row for each"):
        cox_newton(x[:5], time, event)


def test_intervals_hold_the_true_ratios_as_often_as_they_say():
    """The recovery study in small (benchmarks/risk_recovery.py does it with 18,000 patients)."""
    held = [cox_newton(*drawn(500, seed)).covers([0.6, 0.4, 0.8]) for seed in range(100)]
    assert 0.91 <= np.mean(held) <= 0.99


# --- lifelines' tests -----------------------------------------------------------------------------


def test_hazard_ratios_say_why_there_is_none():
    x, time, event = drawn()
    table = pd.DataFrame(x, columns=["age", "mi", "af"])
    table = table.assign(nobody=0.0, twin=2 * table["mi"], gaps=np.nan, safe=0.0, all_ill=event)
    table.loc[np.flatnonzero(event == 0)[:4], "safe"] = 1.0
    found = hazard_ratios(table, time, event).set_index("name")
    fit = cox_newton(x, time, event)
    assert np.allclose(np.log(found["hr"].iloc[:3].astype(float)), fit.beta, atol=1e-4)
    assert (found["low"].iloc[:3] < found["hr"].iloc[:3]).all() and found["hr"][3:].isna().all()
    reasons = {
        "nobody": "nobody has it", "twin": "combination", "gaps": "impute",
        "safe": "no event among the 4 who have it", "all_ill": "who do not have it",
    }  # fmt: skip
    for name, said in reasons.items():
        assert said in found["note"][name], name
    nothing = hazard_ratios(table, time, np.zeros(len(time)))
    assert nothing["hr"].isna().all() and nothing["note"].str.contains("no event").all()


def test_log_rank_across_thirds():
    x, time, event = drawn()
    test = log_rank(time, event, tertiles(x[:, 0], x[:, 0]))
    assert test["p"] < 0.01 and test["df"] == 2
    assert figures.p_words(test).startswith("log-rank p < 0.001")
    for groups, code in ((np.zeros(400), event), (np.arange(400) % 2, np.zeros(400))):
        none = log_rank(time, code, groups)
        assert np.isnan(none["p"]) and none["note"] in figures.p_words(none)


# --- baselines ------------------------------------------------------------------------------------


def test_person_pieces_add_up():
    time, event = np.array([1.0, 2.0, 5.0, 5.0]), np.array([True, False, True, False])
    edges = baselines.piece_edges(time, event, 2)
    assert edges.tolist() == [0, 3, 5]
    patient, piece, at_risk, happened = baselines.person_pieces(time, event, edges)
    assert np.bincount(patient, at_risk).tolist() == time.tolist()
    assert np.bincount(patient, happened).tolist() == [1, 0, 1, 0]
    assert piece[happened > 0].tolist() == [0, 1]


def test_boosting_finds_an_effect_that_cox_cannot():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 2))
    failure, end = rng.exponential(np.exp(2 - 1.2 * x[:, 0] ** 2)), rng.uniform(3, 8, 1200)
    time, event = np.minimum(failure, end), failure <= end
    fit, held = slice(0, 800), slice(800, None)
    boosted = baselines.boosted_score(x[fit], time[fit], event[fit], x[held])
    cox = x[held] @ fit_cox(x[fit], time[fit], event[fit])
    table = baselines.baseline_table(
        {"boosted": boosted, "cox": cox}, time[held], event[held], n_boot=20
    ).set_index("name")
    assert table["harrell"]["boosted"] > 0.7 > 0.6 > table["harrell"]["cox"]


def test_gaps_get_the_training_median_and_a_flag():
    table = pd.DataFrame({"a": [1.0, 3.0, np.nan, 100.0], "b": [1.0, 2.0, 3.0, 4.0], "c": np.nan})
    filled = impute(table, np.array([0, 1, 2]))
    assert filled["a"].tolist() == [1, 3, 2, 100] and filled["a_missing"].tolist() == [0, 0, 1, 0]
    assert "b_missing" not in filled and not filled["c"].any()


@pytest.fixture(scope="module")
def ladder(tiny_cohort):
    outcomes = open_outcomes(RiskConfig.from_params({"preset": "tiny"}), tiny_cohort)
    train, test = outcomes.split(5)
    sets = covariate_sets(tiny_cohort, outcomes, train)
    scores = baselines.baseline_scores(sets, outcomes, train, test)
    return outcomes, sets, scores, outcomes.years[test], outcomes.event[test]


def test_baselines_of_a_cohort(ladder):
    outcomes, sets, scores, years, event = ladder
    assert set(MEASURED) <= set(sets["measured"]) and len(sets["everything"]) == len(outcomes)
    assert all(np.isfinite(table.to_numpy(float)).all() for table in sets.values())
    table = baselines.baseline_table(scores | {"broken": years * np.nan}, years, event, n_boot=20)
    expected = {"noise", "age + sex", "findings", "measured", "everything", "gradient boosting",
                "true hazard", "broken"}  # fmt: skip
    assert expected <= set(table["name"]) and (table["events"] == event.sum()).all()
    broken = table.set_index("name").loc["broken"]
    assert "NaN" in broken["note"]
    assert broken[["harrell", "uno", "auc"]].isna().all()
    figures.plot_ladder(table, True)


def test_ladder_of_known_scores():
    x, time, event = drawn(1500, seed=4)
    rng = np.random.default_rng(1)
    eta = x @ [0.6, 0.4, 0.8]
    scores = {
        "true hazard": eta, "findings": eta + 0.3 * rng.normal(size=1500),
        "network": eta + 0.9 * rng.normal(size=1500), "noise": rng.normal(size=1500),
    }  # fmt: skip
    checks = baselines.ladder_checks(scores, time, event, n_boot=100)
    assert checks["upper"].tolist() == ["true hazard", "findings", "network"]
    assert checks["holds"].all() and checks["clear"].all()
    swapped = scores | {"network": scores["noise"], "noise": scores["network"]}
    last = baselines.ladder_checks(swapped, time, event, n_boot=100).iloc[-1]
    assert not last["holds"] and "BELOW" in last["sentence"]
    share, low, high = baselines.gap_closed(
        scores, time, event, floor="noise", ceiling="true hazard", n_boot=100
    )
    assert 0.3 < low < share < high < 0.95
    noise = baselines.baseline_table(scores, time, event, n_boot=20).set_index("name")["from_noise"]
    assert abs(noise["noise"]) < 3 < 6 < noise["network"]


def test_pr_interval_against_the_simulator(tiny_cohort):
    truth = tiny_cohort.truth["pr_ms"].to_numpy()
    found = pr_interval(tiny_cohort.store.read(range(len(truth))), tiny_cohort.store.fs)
    both = np.isfinite(found) & np.isfinite(truth)
    assert both.sum() > 0.7 * np.isfinite(truth).sum()
    assert np.median(np.abs(found - truth)[both]) < 15
    assert np.isnan(pr_interval(np.zeros((2, 12, 500)), 100)).all()


def test_one_call_says_everything_about_a_risk():
    x, time, event = drawn(600)
    risk, half = x @ [0.6, 0.4, 0.8], slice(0, 300)
    rest = slice(300, None)
    train, test = ((risk[part], time[part], event[part]) for part in (half, rest))
    found = evaluate(*train, *test, n_boot=20)
    assert found.log_rank["p"] < 0.01 and set(np.unique(found.thirds)) == {0, 1, 2}
    assert list(found.groups) == [1, 3, 5] and found.predicted.shape == (300, 3)
    metrics = found.metrics()
    assert metrics["integrated_brier"][0] < found.integrated["average"]
    low, high = metrics["calibration_slope_3y"][1:]
    assert low < 1 < high and np.isfinite(metrics["auc_5y"]).all()
    broken = evaluate(*train, risk[rest] * np.nan, time[rest], event[rest], n_boot=5)
    assert np.isnan(list(broken.metrics().values())).all()


def test_kaplan_meier_here_and_in_the_figure_are_one():
    from ecgkit.reports.curves import kaplan_meier
    from ecgkit.tasks.survival_followup import survival_at

    _, time, event = drawn(200, tied=True)
    drawn_curve = kaplan_meier(time, event)
    ours = survival_at(time, event == 1, drawn_curve["time"])
    for mine, column in zip(ours, ("survival", "low", "high")):
        assert np.allclose(mine, drawn_curve[column], equal_nan=True, atol=1e-9)


# --- figures --------------------------------------------------------------------------------------


def words(figure) -> str:
    return " ".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_figures_return_figures_and_bear_the_mark():
    x, time, event = drawn(300)
    risk = x @ [0.6, 0.4, 0.8]
    baseline = breslow(risk, time, event)
    groups, thirds = tertiles(risk, risk), ["low", "middle", "high"]
    test = {"p": 0.0002, "statistic": 17.0, "df": 2, "note": ""}
    ratios = pd.DataFrame(
        [("mi", 2.0, 1.5, 2.6, 0.0, 90, 50, ""), ("rare", *[np.nan] * 4, 3, 0, "no event among")],
        columns=["name", "hr", "low", "high", "p", "n_with", "events_with", "note"],
    )
    summary = calibration_summary(time, event, baseline, risk, (1, 5))
    groups_of = {t: calibration_groups(time, event, baseline.risk(risk, t), t) for t in (1, 5)}
    benefit = net_benefit(time, event, baseline.risk(risk, 3), 3, n_boot=10)
    made = [
        (figures.plot_risk_groups(time, event, groups, thirds, test, True), "p < 0.001"),
        (figures.plot_auc({"a": auc_over_time(time, event, risk, [1, 3], 10)}, True), "cases"),
        (figures.plot_calibration(groups_of, summary, True), "slope"),
        (figures.plot_decision({"a": benefit}, 3, True), "treat all"),
        (figures.plot_hazard_ratios(ratios, {"mi": np.log(2.2)}, True), "true ratio"),
    ]
    for figure, said in made:
        text = words(figure)
        assert said in text and text.count("simulated outcomes") >= 2
    plain = figures.plot_decision({"a": benefit}, 3)
    assert "simulated" not in words(plain)


def test_figures_survive_tables_without_a_number():
    time, event, nan = np.array([1.0, 2, 3]), np.zeros(3), np.full(3, np.nan)
    empty = auc_over_time(time, event, nan, [1, 2])
    assert figures.plot_auc({"a": empty}).axes
    assert figures.plot_decision({"a": net_benefit(time, event, nan, 2)}, 2).axes
    assert figures.plot_calibration({2: calibration_groups(time, event, nan, 2)}).axes
    table = baselines.baseline_table({"a": nan, "b": time}, time, event, n_boot=5)
    assert table["null_sd"].isna().all() and figures.plot_ladder(table).axes
    with pytest.raises(DataError, match="harrell or uno"):
        figures.plot_ladder(table, measure="c")
