"""Episodes from the real ECG-QA subset: noise in single ECGs, templates 26 to 28, and no more.

Two of these templates are on the conflict list and no class reaches the published minimum, so both
rules are lifted here; the episodes say nothing about a model, only that real files make them.
"""

import numpy as np
import pytest

from ecgkit.config import FewShotConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions
from ecgkit.tasks.fewshot_setup import focus, open_parts
from ecgkit.types import DataError


@pytest.fixture(scope="module")
def config_of(shared):
    paths = {"DATA": "ptbxl-subset-400.zip", "ECGQA": "ecgqa-subset.zip"}
    for file in paths.values():
        if not (shared / "data" / file).exists():
            pytest.skip(f"{file} is not in the shared folder")
    fixed = {name: str(shared / "data" / file) for name, file in paths.items()}
    fixed |= {"PRESET": "tiny", "JOBS": 1, "ATTRIBUTE_TYPE": "noise"}
    return lambda **params: FewShotConfig.from_params(fixed | params)


@pytest.fixture(scope="module")
def questions(config_of):
    config = config_of()
    return focus(open_questions(config, open_cohort(config, quiet=True), quiet=True), config)


LIFTED = {"KEEP_CONFLICTING": True, "MIN_SAMPLES": 1}


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 5)])
def test_sound_two_way_episodes_of_real_questions(questions, config_of, shape):
    config = config_of(K_SHOT=shape[0], N_QUERY=shape[1], **LIFTED)
    parts = open_parts(questions, config)
    assert not parts.train.units & parts.unseen.units
    assert "are kept" in parts.summary() and "of conflicting templates" in parts.summary()
    table = questions.table
    for episode in parts.unseen.episodes(20):
        met = table.iloc[np.r_[episode.support, episode.query]]
        assert met["patient1"].nunique() == len(met) == 2 * sum(shape)
        assert met["question_id"].nunique() == 1
    assert parts.unseen.ceiling(range(20)) == 0.5
    assert parts.split.records == ("half" if shape == (1, 1) else "shared")


def test_reference_two_way_episodes_of_real_questions(questions, config_of):
    config = config_of(PROTOCOL="reference", K_SHOT=5, N_QUERY=5, **LIFTED)
    sampler = open_parts(questions, config).unseen
    assert len(questions) == 343 and len(sampler.classes) == 16  # 26, 27: four and three
    assert sum(map(len, sampler.classes.values())) == 343
    assert any(len({*e.support, *e.query}) < 20 for e in sampler.episodes(20))
    assert sampler.ceiling(range(100)) > 0.85  # free draws: the question gives it away


def test_nothing_is_lifted_in_silence(questions, config_of):
    with pytest.raises(DataError, match="312 questions of conflicting templates are left out"):
        open_parts(questions, config_of(K_SHOT=5, N_QUERY=5))
    with pytest.raises(DataError, match="classes of 140 or more.*MIN_SAMPLES"):
        open_parts(questions, config_of(PROTOCOL="reference", KEEP_CONFLICTING=True))
