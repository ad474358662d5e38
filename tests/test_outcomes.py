"""Simulated outcomes: what is drawn is what the known hazard says; ratios come from the YAML."""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from ecgkit.config.risk import RiskConfig
from ecgkit.data.concordance import concordance
from ecgkit.data.outcomes import index_ecgs, open_outcomes, read_outcomes, simulate_outcomes
from ecgkit.data.outcomes_factors import (
    KIT_HAZARDS,
    ecg_factors,
    kit_hazards,
    linear_terms,
    read_hazards,
)
from ecgkit.data.outcomes_hazard import Clock, calibrated, clock_of, death_rate
from ecgkit.data.scp_table import scp_statements
from ecgkit.tasks.metrics import harrell_c
from ecgkit.tasks.survival_metrics import c_index, c_index_gap, fit_cox, tertiles
from ecgkit.types import ConfigError, DataError

# Share of each finding at age 60, and its odds ratio per decade: PTB-XL's order of size.
SHARES = {"IMI": (0.07, 1.5), "LVH": (0.05, 1.5), "AFIB": (0.02, 2.0), "CRBBB": (0.015, 1.5),
          "CLBBB": (0.01, 1.5), "NDT": (0.2, 1.5), "STACH": (0.02, 1.0), "1AVB": (0.03, 1.6),
          "PVC": (0.03, 1.3)}  # fmt: skip


def made_cohort(n, seed=0, truth=None):
    """n patients of PTB-XL's ages and findings, one ECG each; no signals."""
    rng = np.random.default_rng(seed)
    age = np.clip(rng.normal(50, 21, n), 18, 90)
    codes = [{} for _ in range(n)]
    for code, (share, per_decade) in SHARES.items():
        odds = share / (1 - share) * per_decade ** ((age - 60) / 10)
        for i in np.flatnonzero(rng.random(n) < odds / (1 + odds)):
            codes[i][code] = 0.0 if code == "AFIB" else 100.0
    table = pd.DataFrame({
        "ecg_id": 100 + np.arange(n), "patient_id": 7 + np.arange(n), "age": age,
        "sex": rng.integers(0, 2, n), "fold": 1 + np.arange(n) % 10, "scp_codes": codes,
    })  # fmt: skip
    return SimpleNamespace(name="made", table=table, statements=scp_statements(), truth=truth)


@pytest.fixture(scope="module")
def made():
    return made_cohort(5000)


@pytest.fixture(scope="module")
def outcomes(made):
    return simulate_outcomes(made, seed=3, event_risk=0.2)


# --- the table ------------------------------------------------------------------------------------


def test_one_index_ecg_per_patient_of_the_simulated_cohort(tiny_cohort):
    outcomes = open_outcomes(RiskConfig.from_params({"preset": "tiny"}), tiny_cohort)
    assert outcomes.table["patient_id"].is_unique
    rows = outcomes.table["row"].to_numpy()
    assert (tiny_cohort.table["ecg_id"].to_numpy()[rows] == outcomes.table["ecg_id"]).all()
    assert outcomes.table["true_risk_5y"].mean() == pytest.approx(0.35, abs=1e-6)


def test_index_ecg_is_the_first_by_date():
    table = pd.DataFrame({
        "ecg_id": [1, 2, 3], "patient_id": [7, 7, 8], "age": [60.0, 59.0, np.nan], "sex": 0,
        "fold": 1, "scp_codes": [{}, {}, {}], "recording_date": ["2001", "2000", "2000"],
    })  # fmt: skip
    assert index_ecgs(table)["ecg_id"].tolist() == [2]


def test_who_has_no_known_age_is_listed(made):
    table = made.table.head(50).assign(age=made.table["age"].where(made.table.index > 9))
    cohort = SimpleNamespace(**(vars(made) | {"table": table}))
    outcomes = simulate_outcomes(cohort, seed=1)
    assert len(outcomes) + len(outcomes.left_out) == 50
    assert set(outcomes.left_out["reason"]) == {"unknown_age"}
    assert "50 = 40 + 10" in outcomes.describe()
    cohort.table = table.assign(age=np.nan)
    with pytest.raises(DataError, match="nobody's age"):
        simulate_outcomes(cohort, seed=1)


def test_same_seed_same_table(made, outcomes):
    again = simulate_outcomes(made, seed=3, event_risk=0.2)
    pd.testing.assert_frame_equal(again.table, outcomes.table)
    other = simulate_outcomes(made, seed=4, event_risk=0.2)
    assert again.fingerprint == outcomes.fingerprint != other.fingerprint


def test_codes_of_the_table(outcomes):
    table = outcomes.table
    assert set(table["cause"]) == {0, 1, 2}
    assert (table["event"] == (table["cause"] == 1)).all()  # a competing death censors
    assert (table["time_days"] >= 1).all() and outcomes.years.max() <= 8
    parts = table[["true_risk_5y", "true_death_5y", "true_event_free_5y"]].sum(axis=1)
    assert np.allclose(parts, 1)
    assert (table["true_net_risk_5y"] >= table["true_risk_5y"]).all()


def test_everything_says_that_it_is_simulated(tmp_path, made, outcomes):
    assert outcomes.simulated and outcomes.table["simulated"].all()
    said = outcomes.describe()
    assert said.startswith("SIMULATED heart failure") and "Harrell, SIMULATED" in said
    path = outcomes.write(tmp_path)
    assert path.name == "outcomes_simulated.csv"
    again = read_outcomes(path, made)  # read back as if it were the user's own
    assert again.simulated and "simulated" in again.source and again.describe().startswith("SIM")
    assert (again.table["cause"] == outcomes.table["cause"]).all()
    assert again.oracle_c == pytest.approx(outcomes.oracle_c)


# --- the known hazard -----------------------------------------------------------------------------


@functools.cache
def known_hazard(baseline, n=60_000, death_scale=1.0, event_risk=0.2):
    """60,000 people: (age, eta, the hazard they are drawn from)."""
    rng = np.random.default_rng(5)
    age, sex = rng.uniform(30, 90, n), pd.Series(rng.integers(0, 2, n))
    finding = rng.random(n) < 0.2
    hazards = kit_hazards()
    eta = hazards.age_slope * (age - 60) + np.log(2.5) * finding
    death = death_rate(hazards, age, sex, death_scale)
    clock = clock_of(hazards, baseline)
    known = calibrated(eta, clock, death, Clock("gompertz", hazards.death_slope), event_risk)
    return age, finding, known


NO_CENSORING = {"administrative": (1000, 1000), "drop_out": 0.0}


@pytest.mark.parametrize("baseline", ["weibull", "gompertz"])
def test_empirical_survival_is_the_true_one(baseline):
    age, finding, known = known_hazard(baseline, death_scale=0)
    years, cause = known.draw(np.random.default_rng(0), **NO_CENSORING)
    assert (cause == 1).all()
    for group in (age < 60, age >= 60, finding):
        for t in (1, 3, 5, 8):
            empirical, true = np.mean(years[group] <= t), known.net_risk(t)[group].mean()
            assert empirical == pytest.approx(true, abs=4 * np.sqrt(true / group.sum()))


@pytest.mark.parametrize("baseline", ["weibull", "gompertz"])
def test_empirical_incidence_beside_death_is_the_true_one(baseline):
    age, _, known = known_hazard(baseline)
    years, cause = known.draw(np.random.default_rng(1), **NO_CENSORING)
    assert known.risk(5.0).mean() == pytest.approx(0.2, abs=1e-6)
    for group in (age < 60, age >= 75):
        for t in (2, 5, 10):
            tolerance = 4 * np.sqrt(0.25 / group.sum())
            failed = np.mean((years[group] <= t) & (cause[group] == 1))
            died = np.mean((years[group] <= t) & (cause[group] == 2))
            assert failed == pytest.approx(known.risk(t)[group].mean(), abs=tolerance)
            assert died == pytest.approx(known.death_risk(t)[group].mean(), abs=tolerance)


def test_incidence_is_the_integral_of_its_definition():
    _, _, known = known_hazard("weibull", n=40, event_risk=0.5)
    w = np.linspace(0, known.clock.cumulative(5.0), 200_001)  # hazard time: rate x w
    t, rate = known.clock.years(w), np.exp(known.failure)
    for i in range(0, 40, 7):
        alive = np.exp(-np.exp(known.death[i]) * known.death_clock.cumulative(t))
        exact = np.trapezoid(rate[i] * np.exp(-rate[i] * w) * alive, w)
        assert known.risk(5.0)[i] == pytest.approx(exact, abs=1e-5)


def test_gompertz_runs_on_attained_age():
    """Who is 60 and event-free at 70 goes on like somebody who is 70 now; a Weibull starts anew."""
    hazards, age = kit_hazards(), np.array([60.0, 70.0])
    for baseline, same in (("gompertz", True), ("weibull", False)):
        dead = np.full(2, -np.inf)
        eta = hazards.age_slope * (age - 60)
        known = calibrated(eta, clock_of(hazards, baseline), dead, Clock("gompertz", 0.09), 0.1)
        going_on = (1 - known.net_risk(20)[0]) / (1 - known.net_risk(10)[0])
        assert (abs(going_on - (1 - known.net_risk(10)[1])) < 1e-9) == same


def test_both_baselines_have_the_same_eta_and_other_times(made, outcomes):
    other = simulate_outcomes(made, seed=3, event_risk=0.2, baseline="gompertz")
    assert np.allclose(other.table["eta"], outcomes.table["eta"])
    assert other.fingerprint != outcomes.fingerprint
    flat = simulate_outcomes(made, seed=3, event_risk=0.2, baseline="gompertz", hr_age=1.0)
    assert flat.table["true_risk_5y"].mean() == pytest.approx(0.2, abs=1e-6)


def test_nobody_dies_without_a_death_rate(made):
    outcomes = simulate_outcomes(made, seed=3, event_risk=0.2, death_scale=0)
    table = outcomes.table
    assert set(table["cause"]) == {0, 1} and table["true_death_5y"].max() < 1e-9
    assert np.allclose(table["true_risk_5y"], table["true_net_risk_5y"])


def test_deaths_rise_with_age_and_are_more_among_men(outcomes):
    table = outcomes.table[outcomes.table["age"].between(65, 75)]
    by_sex = table.groupby("sex")["true_death_5y"].mean()
    assert by_sex[0] > 1.3 * by_sex[1]
    assert outcomes.table.corr(numeric_only=True).loc["age", "true_death_5y"] > 0.6


@pytest.mark.parametrize("baseline", ["weibull", "gompertz"])
def test_cox_regression_recovers_the_hazard_ratios(baseline):
    """Beside a competing death, which censors."""
    cohort = made_cohort(8000, seed=1)
    outcomes = simulate_outcomes(cohort, seed=2, event_risk=0.3, baseline=baseline)
    names = [name for name in outcomes.hazard if name in outcomes.table]
    x = outcomes.table[names].assign(
        age_decade=(outcomes.table["age"] - 60) / 10, male=1 - outcomes.table["sex"]
    )
    found = fit_cox(x.to_numpy(), outcomes.years, outcomes.event)
    true = np.array([outcomes.hazard[name] for name in x])
    n_events = x.to_numpy()[outcomes.event == 1].std(0) * np.sqrt(outcomes.event.sum())
    assert np.all(np.abs(found - true) < 4 / n_events)  # four standard errors
    assert found[list(x).index("age_decade")] == pytest.approx(np.log(1.9), abs=0.07)


# --- the ceiling ----------------------------------------------------------------------------------


def test_oracle_c_is_harrells(outcomes):
    table = outcomes.table.head(700)
    time = np.ceil(table["time_days"] / 30)  # ties, and none at 0
    risk = table["eta"].round(1)
    value, low, high = concordance(time, table["event"], risk)
    assert value == pytest.approx(harrell_c(time, table["event"], risk), abs=1e-9)
    theirs = c_index("oracle", risk.to_numpy(), time.to_numpy(), table["event"].to_numpy())
    assert low == pytest.approx(theirs["low"], abs=0.02)
    assert high == pytest.approx(theirs["high"], abs=0.02)
    assert np.isnan(concordance([1.0, 2.0], [0, 0], [1.0, 2.0])).all()


def test_oracle_c_is_near_the_one_measured_on_ptbxl():
    """risk.md 7, real covariates at 8 %: .848 (.007 over simulations at this size); age + sex .826,
    ECG factors .768. Covariates here are made up in PTB-XL's likeness, hence the width."""
    outcomes = simulate_outcomes(made_cohort(15_000), seed=3, death_scale=0)
    table, hazard = outcomes.table, outcomes.hazard
    assert outcomes.oracle_c[0] == pytest.approx(0.848, abs=0.025)
    person = hazard["age_decade"] * (table["age"] - 60) / 10 + hazard["male"] * (1 - table["sex"])
    told = [concordance(outcomes.years, outcomes.event, score, 0)[0]
            for score in (person, table["eta"] - person)]  # fmt: skip
    assert told == pytest.approx([0.826, 0.768], abs=0.05)


def test_c_index_interval_and_gap():
    rng = np.random.default_rng(1)
    eta = rng.normal(size=300)
    years, event = rng.exponential(size=300) / np.exp(eta), rng.random(300) < 0.7
    row = c_index("oracle", eta, years, event, n_boot=100)
    assert row["low"] < row["c"] < row["high"] and row["c"] > 0.65
    gap, low, _ = c_index_gap(eta, rng.normal(size=300), years, event, n_boot=100)
    assert gap > 0.1 and low > 0


def test_tertiles_take_their_cuts_from_training():
    assert tertiles(np.array([-5, 0.5, 5]), np.linspace(0, 1, 99)).tolist() == [0, 1, 2]


# --- the table of hazards -------------------------------------------------------------------------


def test_the_kits_ratios_are_the_references():
    """risk.md 7."""
    ratios = {f.name: f.hazard_ratio for f in kit_hazards().factors}
    assert ratios == {
        "age_decade": 1.9, "male": 1.4, "lvh": 2.0, "lbbb": 2.2, "rbbb": 1.3, "af": 2.5,
        "tachycardia": 1.4, "pr_long": 1.3, "pvc": 1.3, "mi": 2.5, "st_t": 1.5,
        "heart_rate_10": 1.15, "qrs_sd": 1.2,
    }  # fmt: skip
    assert all(f.source and f.confidence for f in kit_hazards().factors)
    assert kit_hazards().weibull_shape == 1.2


def test_zero_likelihood_counts_as_present():
    codes = pd.Series([{"AFIB": 0.0}, {"NORM": 100.0}, {"IMI": 15.0, "CLBBB": 100.0}])
    factors = ecg_factors(codes, scp_statements())
    assert factors["af"].tolist() == [1, 0, 0]
    assert factors["mi"].tolist() == [0, 0, 1] and factors["lbbb"].tolist() == [0, 0, 1]
    assert set(factors) == {f.name for f in kit_hazards().factors if f.is_flag}


def test_measured_truth_takes_the_place_of_flags():
    table = pd.DataFrame({"age": [60.0, 60, 60], "sex": [1, 1, np.nan],
                          "scp_codes": [{"STACH": 0}, {"CLBBB": 100}, {"SR": 0}]})  # fmt: skip
    truth = pd.DataFrame({"heart_rate": [120.0, 70, np.nan], "qrs_ms": [104.0, 150, 92]})
    x, beta = linear_terms(kit_hazards(), table, scp_statements(), truth)
    assert "tachycardia" not in x and x["heart_rate_10"].tolist() == [5, 0, 0]
    assert x["qrs_sd"].tolist() == [1, 0, 0]  # 104 is one unit wide; a block counts as itself
    assert x["male"].tolist() == [0, 0, 0.5] and beta["qrs_sd"] == pytest.approx(np.log(1.2))
    flags, scaled = linear_terms(kit_hazards(), table, scp_statements(), None, effect_scale=2)
    assert flags["tachycardia"].tolist() == [1, 0, 0] and "qrs_sd" not in flags
    assert scaled["lvh"] == pytest.approx(2 * np.log(2)) and scaled["male"] == beta["male"]


def test_measured_is_asked_for_and_said(made):
    truth = pd.DataFrame({"heart_rate": 70.0, "qrs_ms": 92.0}, index=made.table.index)
    with_truth = SimpleNamespace(**(vars(made) | {"truth": truth}))
    codes = simulate_outcomes(with_truth, seed=1)
    measured = simulate_outcomes(with_truth, seed=1, measured="truth")
    assert "SCP statements alone" in codes.describe() and "qrs_sd" not in codes.hazard
    assert "measured truth" in measured.describe() and "qrs_sd" in measured.hazard
    assert "tachycardia" in simulate_outcomes(made, seed=1, measured="truth").hazard  # no truth


def edited(tmp_path, change):
    body = yaml.safe_load(KIT_HAZARDS.read_text())
    change(body)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def test_the_users_own_ratios_are_used(tmp_path, made):
    path = edited(tmp_path, lambda body: body["factors"]["lvh"].update(hazard_ratio=5))
    params = {"preset": "paper", "hazards": str(path), "baseline": "gompertz", "hr_age": 0}
    outcomes = open_outcomes(RiskConfig.from_params(params), made)
    assert outcomes.hazard["lvh"] == pytest.approx(np.log(5))
    assert outcomes.hazard["age_decade"] == pytest.approx(np.log(1.9))
    assert "mine.yaml" in outcomes.describe() and "lvh 5.00" in outcomes.describe()
    assert "gompertz" in outcomes.describe()


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda b: b["factors"]["lvh"].update(hazard_ratio=0), "lvh: hazard_ratio is 0.*above 0"),
        (lambda b: b["factors"]["lvh"].update(hazard_ratio="two"), "give a number above 0"),
        (lambda b: b["factors"]["lvh"].update(hazrd=1), "'hazrd' is not known"),
        (lambda b: b["factors"]["lvh"].update(codes=["LHV"]), "no SCP code. Did you mean LVH"),
        (lambda b: b["factors"]["mi"].update(diagnostic_class="MY"), "no diagnostic class 'MY'"),
        (lambda b: b["factors"]["lvh"].pop("codes"), "exactly one of codes"),
        (lambda b: b["factors"]["lvh"].update(codes="LVH"), "give a list"),
        (lambda b: b["factors"]["male"].update(person="men"), "choose age or male"),
        (lambda b: b["factors"]["qrs_sd"].update(not_with=["bbb"]), "'bbb' is no factor"),
        (lambda b: b["factors"]["qrs_sd"].update(range=[9, 1]), "lower number comes first"),
        (lambda b: b.pop("death"), "has no part 'death'"),
        (lambda b: b["censoring"].update(administrative_years=5), "give two numbers"),
        (lambda b: b["factors"].update(new=[1]), "should be a table"),
    ],
)
def test_a_wrong_table_of_hazards_is_one_sentence(tmp_path, made, change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        simulate_outcomes(made, seed=1, hazards=str(edited(tmp_path, change)))


def test_hazards_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_hazards(tmp_path / "absent.yaml")
    (tmp_path / "torn.yaml").write_text("factors: [1, ")
    with pytest.raises(ConfigError, match="torn.yaml is not readable as YAML"):
        read_hazards(tmp_path / "torn.yaml")


@pytest.mark.parametrize(
    "params, sentence",
    [
        ({"outcome_map": "code-15"}, "OUTCOME_MAP is 'code-15' but OUTCOMES is empty"),
        ({"outcome_map": "mimic"}, "choose one of"),
        ({"outcomes": "f.csv", "hazards": "h.yaml"}, "HAZARDS is 'h.yaml' but OUTCOMES is 'f.csv'"),
        ({"outcomes": "f.csv", "baseline": "gompertz"}, "BASELINE is 'gompertz' but OUTCOMES"),
        ({"outcomes": "f.csv", "measured": "truth"}, "MEASURED is 'truth' but OUTCOMES"),
        ({"baseline": "cox"}, "choose one of weibull, gompertz"),
        ({"death_scale": -1}, "DEATH_SCALE is -1"),
        ({"hr_age": float("nan")}, "HR_AGE is nan"),
    ],
)
def test_wrong_settings_are_sentences(params, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RiskConfig.from_params(params)


def test_every_setting_reaches_the_simulation(made):
    """A field that changes nothing would be a lie; so would one that is not passed on."""
    plain = RiskConfig.from_params({"preset": "paper"})
    base = open_outcomes(plain, made).fingerprint
    for change in ({"baseline": "gompertz"}, {"death_scale": 5.0}, {"hr_age": 3.0},
                   {"hr_male": 3.0}, {"effect_scale": 2.0}, {"event_risk": 0.3},
                   {"outcome_seed": 12}):  # fmt: skip
        assert open_outcomes(dataclasses.replace(plain, **change), made).fingerprint != base, change
