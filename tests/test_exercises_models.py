"""Exercises of notebooks 04 to 07: right answers by hand, and the slips that are told apart."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit import exercises
from ecgkit.exercises import ex04
from ecgkit.models.losses_esi import contrastive_loss
from ecgkit.models.losses_risk import finetune_loss
from ecgkit.tasks.metrics import harrell_c


def said(id: str, answer, **objects) -> str:
    """'right', or the sentence that comes with another verdict."""
    found, sentence = exercises.verdict(id, answer, **objects)
    return found if found == "right" else sentence


def test_of_notebook_04_the_loss_is_the_one_that_is_trained():
    model = SimpleNamespace(temperature=torch.tensor(2.5))
    assert said("04.1", math.exp(2.5), model=model) == "right"
    assert "logarithm" in said("04.1", 2.5, model=model)
    assert "sigma" in said("04.1", math.exp(-2.5), model=model)
    unit = torch.nn.functional.normalize(torch.randn(2, 3, 8), dim=-1)
    cosines, given = (unit[0] @ unit[1].T).numpy(), {"scale": math.exp(1.5)}
    paper = contrastive_loss(unit[1], unit[0], torch.tensor(1.5), "paper").item()
    assert said("04.2", paper, cosines=cosines, **given) == "right"
    assert "mean of the two" in said("04.2", paper / 2, cosines=cosines, **given)
    blind = contrastive_loss(unit[1], unit[0], torch.tensor(0.0), "paper").item()
    assert abs(blind - paper) < 0.06 or "scale" in said("04.2", blind, cosines=cosines, **given)


def test_of_notebook_04_one_passage_is_wrong():
    names = ["atrial fibrillation", "sinus rhythm", "abnormal QRS"]
    found = pd.DataFrame({"finding": names, "said": ["No P waves.", "P waves.", "Notched."]})
    shown = ex04.one_wrong_passage(found)
    assert (shown["passage"] != found["said"]).tolist() == [False, True, False]
    assert said("04.3", "Sinus rhythm", found=found, shown=shown) == "right"
    assert said("04.3", names[0], found=found, shown=shown) != "right"
    nothing = found.iloc[:0]
    assert "no passages" in said("04.3", "x", found=nothing, shown=ex04.one_wrong_passage(nothing))


def test_of_notebook_05():
    classes = pd.DataFrame({"auc": [0.9, 0.6], "n_positive": [90, 10], "n": [100, 100]})
    assert said("05.1", 0.75, classes=classes) == "right"
    assert "one vote" in said("05.1", 0.87, classes=classes)
    assert said("05.2", (1.8 / 1.9 + 0.2 / 1.1) / 2, classes=classes) == "right"
    assert "harmonic" in said("05.2", 0.5, classes=classes)
    pretrained, untrained = "ESI, linear probe", "untrained, linear probe"
    lines = [(pretrained, 0.7, 0.1), (pretrained, 0.9, 0.5), (untrained, 0.85, 1.0)]
    sweep = pd.DataFrame(lines, columns=["model", "value", "fraction"])
    assert said("05.3", 0.5, sweep=sweep, zero_shot=0.8) == "right"
    assert "UNTRAINED" in said("05.3", 1.0, sweep=sweep, zero_shot=0.8)
    assert "stays below" in said("05.3", 0.5, sweep=sweep, zero_shot=0.95)


def test_of_notebook_06():
    assert said("06.1", 1.0, classes=["a = yes", "b = no"]) == "right"
    assert said("06.1", 0.5, classes=["a = yes", "a = no"]) == "right"
    mixed = ["a = yes", "a = no", "b = no", "c = yes"]
    assert (
        "guess" in said("06.1", 0.5, classes=mixed) and said("06.1", 0.75, classes=mixed) == "right"
    )
    assert "chance" in said("06.1", 0.25, classes=mixed)
    llama = {"feature_dim": 768, "llm_dim": 4096, "n_prefix": 4}
    assert said("06.2", 26_250_240, sizes=llama) == "right"
    assert "biases" in said("06.2", 26_250_240 - 6 * 4096, sizes=llama)
    toy = {"theta": 0.0, "alpha": 0.1, "support": (1.0, 2.0), "query": (1.0, 3.0)}
    assert said("06.3", -5.2, toy=toy) == "right"
    assert "second order" in said("06.3", -4.16, toy=toy)


def test_of_notebook_07():
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"years": rng.permutation(9), "event": rng.integers(0, 2, 9),
                           "risk": rng.integers(0, 4, 9)})  # fmt: skip
    people.loc[people["years"].idxmin(), "event"] = 1
    c = harrell_c(people["years"], people["event"], people["risk"])
    assert said("07.1", c, people=people) == "right"
    codes = {"SR": 0.0, "LVH": 80.0, "AFIB": 0.0}
    assert said("07.2", {"SR", "AFIB"}, codes=codes) == "right"
    assert "stay" in said("07.2", {"LVH"}, codes=codes)
    assert "a likelihood for each" in said("07.2", {"LVH"}, codes={"LVH": 80.0})
    for protocol, weight in (("paper", 0.9), ("reference", 0.1)):
        parts = {"reconstruction": 0.7, "outcome": 3.4}
        row = parts | {"loss": finetune_loss(0.7, 3.4, 0.9, protocol)}
        assert said("07.3", weight, row=row) == "right"
        assert "outcome" in said("07.3", 1 - weight, row=row)


@pytest.mark.parametrize("id", ["04.1", "05.1", "06.3", "07.1"])
def test_an_unanswered_one_computes_nothing(id):
    takes = exercises.EXERCISES[id].takes
    assert said(id, None, **dict.fromkeys(takes)) == ""
