"""Exercises: what a check says of right, wrong and odd answers; one solution for each.

The solutions themselves run on a whole run folder in `test_run.py`.
"""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from ecgkit import exercises
from ecgkit.config import CONFIGS
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.sources import MIMIC_LEADS
from ecgkit.data.synthetic import simulate
from ecgkit.exercises import base, ex02, ex03
from ecgkit.exercises.base import EXERCISES, exercise
from ecgkit.features import rhythm
from ecgkit.types import LEADS, ConfigError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def sums():
    """Three exercises of its own: a number, a set, one that these data do not hold."""

    @exercise(
        "99.1", "a sum in ms", unit="ms", tolerance=1, why="It adds up.",
        hints=("Add.", "Add both."), slips={"That is the difference.": lambda a, b: a - b},
    )  # fmt: skip
    def total(a, b):
        return a + b

    @exercise("99.2", "the names", why="These.", hints=("Look.",))
    def names(words):
        return set(words)

    @exercise("99.3", "nothing", why="", hints=("",))
    def nothing():
        raise exercises.NotHere("No truth here.")

    base._tries.clear()
    yield
    for number in (1, 2, 3):
        del EXERCISES[f"99.{number}"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "99.1: no answer yet."),
        (150.4, "99.1: right. It adds up."),
        (np.float32(150), "right"),
        (np.array([150]), "right"),
        ("150", "one number, not a str"),
        ([150, 1], "one number, not a list"),
        (True, "one number"),
        (float("nan"), "not yet"),
        (0.15, "the size"),
        (50, "That is the difference."),
    ],
)
def test_what_a_check_says_of_a_number(sums, capsys, answer, says):
    exercises.check("99.1", answer, a=100, b=50)
    assert says in capsys.readouterr().out


def test_hints_come_one_by_one_and_do_not_tell_the_answer(sums, capsys):
    for _ in range(3):
        exercises.check("99.1", 7, a=100, b=50)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"99.1: not yet. {hint}" for hint in ("Add.", "Add both.", "Add both.")]


def test_a_set_has_no_order_and_no_case(sums, capsys):
    for answer in ({"V1", "aVF"}, ["avf ", "v1"], np.array(["aVF", "V1"])):
        exercises.check("99.2", answer, words=["V1", "aVF"])
    exercises.check("99.2", {"V1"}, words=["V1", "aVF"])
    exercises.check("99.2", "V1", words=["V1", "aVF"])
    said = capsys.readouterr().out.splitlines()
    assert [": right." in line for line in said] == [True, True, True, False, False]
    assert "several things" in said[-1]


def test_a_solution_must_be_right(sums, capsys):
    exercises.check("99.1", 150, must=True, a=100, b=50)
    exercises.check("99.3", 1, must=True)  # cannot be asked of these data: no mistake
    for wrong in (7, None, "x"):
        with pytest.raises(AssertionError, match="99.1"):
            exercises.check("99.1", wrong, must=True, a=100, b=50)
    assert "No truth here." in capsys.readouterr().out


def test_a_wrong_call_is_a_sentence(sums):
    with pytest.raises(ConfigError, match="a=a, b=b"):
        exercises.check("99.1", 1, a=1)
    with pytest.raises(ConfigError, match="There is no exercise"):
        exercises.check("98.1", 1)
    with pytest.raises(ConfigError, match="two exercises 99.1"):
        exercise("99.1", "", why="", hints=("",))(lambda: 1)


# --- notebooks and solutions ----------------------------------------------------------------------


def checks(stem: str) -> list[tuple[str, str]]:
    """(id, source of its cell) of every check in a notebook's code, in order."""
    cells = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells
    code = [c.source for c in cells if c.cell_type == "code"]
    return [(id, s) for s in code for id in re.findall(r'exercises\.check\(\s*"(\d\d\.\d)"', s)]


@pytest.mark.parametrize("stem", CONFIGS)
def test_each_notebook_has_two_or_three_exercises(stem):
    found = checks(stem)
    own = sorted(id for id in EXERCISES if id.startswith(stem[:2]))
    assert [id for id, _ in found] == own and 2 <= len(own) <= 3
    for number, (id, source) in enumerate(found, 1):
        assert re.search(rf"^answer_{number} = None  # \S", source, re.MULTILINE), id
        assert f'exercises.check("{id}", answer_{number}' in source and "must" not in source
        assert all(f"{name}=" in source for name in EXERCISES[id].takes)


def test_each_exercise_has_a_solution_that_must_be_right():
    found = checks("solutions")
    assert [id for id, _ in found] == sorted(EXERCISES)
    assert all("must=True" in source for _, source in found)


def test_texts_are_whole_and_tell_no_number():
    for one in EXERCISES.values():
        assert one.why.endswith(".") and one.hints and all(h[-1] in ".?" for h in one.hints), one.id
        assert all(s.endswith(".") for s in one.slips), one.id


# --- notebooks 00 to 03 on the tiny cohort --------------------------------------------------------


def verdict(id: str, answer, **objects) -> str:
    return exercises.verdict(id, answer, **objects)[0]


def test_of_notebook_00():
    normal, blocked = simulate("NORM", seed=0), simulate("CLBBB", seed=0)
    assert verdict("00.1", blocked.meta["truth"]["qrs_ms"] + 20, blocked=blocked) == "right"
    assert verdict("00.1", normal.meta["truth"]["qrs_ms"], blocked=blocked) == "not yet"
    assert verdict("00.2", ["III", "aVR", "aVL", "aVF"], normal=normal) == "right"
    wrong = normal.select(normal.leads)
    wrong.signal[:] *= 1000
    assert verdict("00.3", 1000, mine=simulate("NORM", seed=0), wrong=wrong) == "right"


def test_of_notebook_01(tiny_config, tiny_cohort):
    questions = open_questions(tiny_config, tiny_cohort, quiet=True)
    verify = questions.table[questions.table["question_type"] == "single-verify"]["answer"]
    no = np.mean([said == ["no"] for said in verify])
    assert verdict("01.1", no, questions=questions) == "right"
    assert verdict("01.1", 1 - no, questions=questions) == "not yet"
    ids = np.array([1, 1, 2, 3, 3, 3, 4])
    assert verdict("01.2", 2 / 3, ids=ids, held_out=np.array([0, 2, 4])) == "right"
    alone = verdict("01.2", 0.0, ids=np.arange(9), held_out=np.array([0]))
    assert alone == "cannot be asked here"
    assert verdict("01.3", {"AVL", "AVF"}, theirs=MIMIC_LEADS) == "right"


def test_of_notebook_02(tiny_cohort):
    raw = tiny_cohort.store.read(np.arange(20))
    before, fs = rhythm.find_beats(raw, 100), 100
    late = np.roll(raw, 3, axis=-1)
    assert verdict("02.1", 30, before=before, late=late, fs=fs) == "right"
    assert verdict("02.1", 0, before=before, late=late, fs=fs) == "not yet"
    tall = simulate("LVH", seed=0)
    assert verdict("02.2", ex02.sokolow_mv(tall) + 0.3, tall=tall) == "right"
    for seed, kept in enumerate(("aVR", "aVL", "aVF")):
        puzzle = ex02.with_two_leads_exchanged(tall, seed)
        changed = {a for a, x, y in zip(LEADS, puzzle.signal, tall.signal) if (x != y).any()}
        assert changed == {"aVR", "aVL", "aVF"} - {kept}
        assert verdict("02.3", changed, puzzle=puzzle) == "right"


def test_of_notebook_03():
    labels, said = np.eye(4), np.zeros((4, 4))
    assert verdict("03.1", 0.75, labels=labels, said=said) == "right"
    fusion, blind = np.array([1, 1, 1, 0, 1], bool), np.array([1, 0, 0, 1, 1], bool)
    assert verdict("03.2", 2 / 3, fusion=fusion, blind=blind) == "right"
    assert verdict("03.2", 0.5, fusion=fusion, blind=fusion) == "cannot be asked here"
    row = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 400}
    assert ex03.widening(row) == pytest.approx(0.2 / 0.098)
