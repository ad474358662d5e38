"""What the network is taught by the training patients' own reports."""

import dataclasses

import numpy as np
import pytest
import torch
from risk_parts import tiny_study

from ecgkit.config.risk import RiskConfig
from ecgkit.tasks import risk
from ecgkit.tasks.metrics import harrell_c
from ecgkit.tasks.risk_teacher import distance_from_taught, report_risk
from ecgkit.types import ConfigError


@pytest.fixture(scope="module")
def study(tiny_cohort):
    return tiny_study(tiny_cohort)


def test_reports_order_training_patients_and_those_without_teach_nothing(study):
    rows, group = study.train, study.group.clone()
    group[rows[:3]] = -1
    study = dataclasses.replace(study, group=group)
    told = group[rows].numpy() >= 0
    taught = report_risk(study, rows, rows).numpy()
    assert (np.isfinite(taught) == told).all()
    years, event = study.years[rows].numpy(), study.event[rows].numpy()
    assert harrell_c(years[told], event[told], taught[told]) > 0.6
    other = np.random.default_rng(0).permutation(rows)
    assert not np.allclose(report_risk(study, rows, other).numpy()[told], taught[told])


def test_where_no_event_is_told_of_nobody_is_taught(study):
    rows = study.train[study.event[study.train].numpy() == 0]
    assert report_risk(study, rows, rows).isnan().all()


def test_only_differences_between_patients_count():
    taught = torch.tensor([0.0, 1.0, float("nan"), 3.0])
    shifted = taught.nan_to_num() + 5
    assert distance_from_taught(shifted, taught).item() == pytest.approx(0, abs=1e-6)
    risk_ = torch.tensor([0.0, 0.0, 9.0, 0.0], requires_grad=True)
    distance = distance_from_taught(risk_, taught)
    assert distance.item() == pytest.approx(np.var([0, 1, 3]), rel=1e-6)
    distance.backward()
    assert risk_.grad[2] == 0 and risk_.grad[3] < 0 < risk_.grad[0]
    assert distance_from_taught(risk_, taught * float("nan")).item() == 0


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_weight_says_whether_reports_teach(study, tmp_path, weight):
    one = study.on(study.train, study.test, report_weight=weight, head_reads="code")
    aligned = risk.AlignmentModel(one.network, one.text.shape[1], True)
    network, log = risk.finetune(one, aligned, tmp_path)
    assert ("report_distance" in log.table) == bool(weight)
    assert np.isfinite(risk.predict_risk(network, one.x[:4])).all()


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="REPORT_WEIGHT"):
        RiskConfig.from_params({"preset": "tiny", "report_weight": -1.0})
