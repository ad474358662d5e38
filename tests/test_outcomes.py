"""Outcomes: the simulated hazard is the one that was asked for; the user's CSV is checked."""

import numpy as np
import pandas as pd
import pytest

from ecgkit.data.outcomes import (
    FACTORS,
    _baseline,
    _draw,
    _risk,
    ecg_factors,
    index_ecgs,
    read_outcomes,
    simulate_outcomes,
)
from ecgkit.tasks.survival_metrics import c_index, c_index_gap, fit_cox, tertiles
from ecgkit.types import DataError


@pytest.fixture(scope="module")
def outcomes(tiny_cohort):
    return simulate_outcomes(tiny_cohort, seed=3, event_risk=0.35)


def test_one_index_ecg_per_patient(tiny_cohort, outcomes):
    assert outcomes.table["patient_id"].is_unique
    assert outcomes.simulated and "simulated" in outcomes.source
    rows = outcomes.table["row"].to_numpy()
    assert (tiny_cohort.table["ecg_id"].to_numpy()[rows] == outcomes.table["ecg_id"]).all()


def test_index_ecg_is_the_first_by_date():
    table = pd.DataFrame({
        "ecg_id": [1, 2, 3], "patient_id": [7, 7, 8], "age": [60.0, 59.0, np.nan], "sex": 0,
        "fold": 1, "scp_codes": [{}, {}, {}], "recording_date": ["2001", "2000", "2000"],
    })  # fmt: skip
    assert index_ecgs(table)["ecg_id"].tolist() == [2]


def test_same_seed_same_outcomes(tiny_cohort, outcomes):
    again = simulate_outcomes(tiny_cohort, seed=3, event_risk=0.35)
    other = simulate_outcomes(tiny_cohort, seed=4, event_risk=0.35)
    assert again.fingerprint == outcomes.fingerprint != other.fingerprint


def test_mean_risk_is_the_one_asked_for(outcomes):
    assert outcomes.table["risk_5y"].mean() == pytest.approx(0.35, abs=1e-6)
    assert (outcomes.table["time_days"] >= 1).all() and outcomes.years.max() <= 8


def test_zero_likelihood_counts_as_present(tiny_cohort):
    codes = pd.Series([{"AFIB": 0.0}, {"NORM": 100.0}, {"IMI": 15.0, "CLBBB": 100.0}])
    factors = ecg_factors(codes, tiny_cohort.statements)
    assert factors["af"].tolist() == [1, 0, 0]
    assert factors["mi"].tolist() == [0, 0, 1] and factors["lbbb"].tolist() == [0, 0, 1]
    assert set(factors) == set(FACTORS)


def test_cox_regression_finds_the_hazard_that_was_simulated():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.random(6000) < 0.3, rng.normal(size=6000)]).astype(float)
    beta = np.array([np.log(2.5), 0.4])
    log_rate = _baseline(x @ beta, 0.3) + x @ beta
    years, event = _draw(log_rate, rng)
    assert np.mean(_risk(log_rate, 5.0)) == pytest.approx(0.3, abs=1e-6)
    assert fit_cox(x, years, event) == pytest.approx(beta, abs=0.1)


def test_c_index_interval_and_gap():
    rng = np.random.default_rng(1)
    eta = rng.normal(size=300)
    years, event = _draw(eta - 1.5, rng)
    row = c_index("oracle", eta, years, event, n_boot=100)
    assert row["low"] < row["c"] < row["high"] and row["c"] > 0.65
    gap, low, _ = c_index_gap(eta, rng.normal(size=300), years, event, n_boot=100)
    assert gap > 0.1 and low > 0


def test_tertiles_take_their_cuts_from_training():
    assert tertiles(np.array([-5, 0.5, 5]), np.linspace(0, 1, 99)).tolist() == [0, 1, 2]


# --- the user's CSV -------------------------------------------------------------------------------


def csv(tmp_path, cohort, **changes):
    first = cohort.table.drop_duplicates("patient_id").head(6)
    table = pd.DataFrame({
        "patient_id": first["patient_id"].to_numpy(), "ecg_id": first["ecg_id"].to_numpy(),
        "time_days": [10.0, 20, 30, 40, 50, 60], "event": [1, 0, 2, 1, 0, 0],
    })  # fmt: skip
    for name, values in changes.items():
        table[name] = values
    path = tmp_path / "outcomes.csv"
    table.to_csv(path, index=False)
    return path


def test_reads_a_csv_and_counts_competing_events_as_censored(tmp_path, tiny_cohort):
    outcomes = read_outcomes(csv(tmp_path, tiny_cohort), tiny_cohort)
    assert not outcomes.simulated and len(outcomes) == 6
    assert outcomes.event.sum() == 2 and outcomes.table["row"].is_monotonic_increasing


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"time_days": [0, 1, 2, 3, 4, 5]}, "above 0"),
        ({"time_days": ["x", 1, 2, 3, 4, 5]}, "above 0"),
        ({"event": [3, 0, 0, 0, 0, 0]}, "0, 1 or 2"),
        ({"ecg_id": [10**8] * 6}, "not in the cohort"),
        ({"patient_id": [1] * 6}, "more than one row"),
        ({"patient_id": range(10**6, 10**6 + 6)}, "belongs to patient"),
    ],
)
def test_a_wrong_csv_is_one_sentence(tmp_path, tiny_cohort, changes, sentence):
    with pytest.raises(DataError, match=sentence):
        read_outcomes(csv(tmp_path, tiny_cohort, **changes), tiny_cohort)


def test_missing_file_and_missing_column(tmp_path, tiny_cohort):
    with pytest.raises(DataError, match="no such file"):
        read_outcomes(tmp_path / "absent.csv", tiny_cohort)
    path = tmp_path / "short.csv"
    path.write_text("patient_id,ecg_id\n1,1\n")
    with pytest.raises(DataError, match="no column time_days, event"):
        read_outcomes(path, tiny_cohort)
