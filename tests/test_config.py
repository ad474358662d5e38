"""Settings: presets, types, unknown names, and one name everywhere."""

import dataclasses

import pytest

from ecgkit.config import CONFIGS, PRESETS, KitConfig
from ecgkit.types import ConfigError


@pytest.mark.parametrize("notebook", CONFIGS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_of_every_notebook_resolves(notebook, preset):
    config = CONFIGS[notebook].from_params({"PRESET": preset})
    assert config.preset == preset
    assert preset in config.describe()
    for field in dataclasses.fields(config):
        assert field.metadata["doc"], field.name


def test_a_parameter_wins_over_the_preset():
    assert KitConfig.from_params({"PRESET": "tiny", "FS": "500"}).fs == 500
    assert KitConfig.from_params({"PRESET": "tiny", "FS": None}).fs == 100


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"PRESETT": "tiny"}, "Did you mean PRESET"),
        ({"PRESET": "huge"}, "tiny, demo, paper"),
        ({"SEED": "x"}, "whole number"),
        ({"SEED": 1.5}, "whole number"),
        ({"FLAVOUR": "plain"}, "template, paraphrased"),
        ({"FS": 99}, "100, 250, 400 or 500"),
        ({"ECGQA": "somewhere"}, "DATA"),
        ({"PREVALENCE": "ptbxl", "DATA": "somewhere"}, "PREVALENCE is 'ptbxl' but DATA is"),
        ({"PREVALENCE": "hospital"}, "learning, ptbxl"),
        ({"COHORT_SIZE": 3}, "at least 20"),
        ({"SECONDS": "nan"}, "an hour at most"),
        ({"SECONDS": 1e9}, "an hour at most"),
        ({"SAMPLE_SEED": -1}, "0 or more"),
    ],
)
def test_a_bad_setting_is_a_sentence(params, says):
    with pytest.raises(ConfigError, match=says):
        KitConfig.from_params(params)


def test_hash_leaves_out_only_where_the_run_writes():
    base = KitConfig.from_params({})
    assert base.hash() == KitConfig.from_params({"OUT": "elsewhere"}).hash()
    assert base.hash() != KitConfig.from_params({"SEED": 1}).hash()
