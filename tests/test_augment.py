"""Augmentations: shapes, determinism, one draw per row, rate of lead masking, untouched input."""

import numpy as np
import pytest

from ecgkit.features import augment
from ecgkit.features.augment import Augmentations
from ecgkit.types import LEADS, ConfigError

FS = 100
SIGNAL = np.random.default_rng(0).standard_normal((6, 12, 200)).astype(np.float32)
STEPS = {
    "random_crop": lambda x, rng: augment.random_crop(x, rng, 80),
    "mask_time": lambda x, rng: augment.mask_time(x, rng, 0.5),
    "jitter": augment.jitter,
    "scale_leads": augment.scale_leads,
    "wander": lambda x, rng: augment.wander(x, rng, FS),
    "lead_mask": lambda x, rng: augment.mask_leads(
        x, augment.random_lead_masks(*x.shape[:2], rng)
    ),
    "random_view": lambda x, rng: augment.random_view(x, rng, Augmentations(), FS),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_depends_on_its_generator_alone_and_leaves_its_input(name):
    given = SIGNAL.copy()
    first = STEPS[name](given, np.random.default_rng(3))
    again = STEPS[name](given, np.random.default_rng(3))
    other = STEPS[name](given, np.random.default_rng(4))
    assert np.array_equal(given, SIGNAL) and not np.shares_memory(first, given)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.dtype == np.float32 and first.shape[:2] == given.shape[:2]
    assert first.flags.writeable and np.isfinite(first).all()


@pytest.mark.parametrize("name", STEPS)
def test_each_row_has_a_draw_of_its_own(name):
    same = np.repeat(SIGNAL[:1], 6, axis=0)
    out = STEPS[name](same, np.random.default_rng(5))
    assert any(not np.array_equal(out[0], row) for row in out[1:])


def test_leads_are_masked_at_their_rate_and_never_all():
    masks = augment.random_lead_masks(20_000, 12, np.random.default_rng(0))
    assert abs(masks.mean() - 0.5) < 0.005 and np.abs(masks.mean(0) - 0.5).max() < 0.02
    assert abs(np.corrcoef(masks[:, 0], masks[:, 1])[0, 1]) < 0.03
    assert not masks.all(1).any()
    always = augment.random_lead_masks(500, 12, np.random.default_rng(0), p=1.0)
    assert (always.sum(1) == 11).all() and set(np.flatnonzero(~always) % 12) == set(range(12))
    assert not augment.random_lead_masks(50, 12, np.random.default_rng(0), p=0.0).any()


def test_masked_leads_are_flat_and_the_others_untouched():
    masked = augment.random_lead_masks(6, 12, np.random.default_rng(1))
    out = augment.mask_leads(SIGNAL, masked)
    assert (out[masked] == 0).all() and np.array_equal(out[~masked], SIGNAL[~masked])


def test_conditional_masks_take_as_many_of_each_group_as_asked():
    masks = augment.conditional_lead_masks(3000, np.random.default_rng(0), n_limb=4, n_chest=5)
    assert (masks[:, :6].sum(1) == 4).all() and (masks[:, 6:].sum(1) == 5).all()
    assert np.abs(masks.mean(0) - np.repeat([4 / 6, 5 / 6], 6)).max() < 0.04
    with pytest.raises(ConfigError, match="one lead must stay"):
        augment.conditional_lead_masks(2, np.random.default_rng(0), 6, 6)


def test_any_subset_of_leads_can_be_kept_by_name():
    out = augment.mask_leads(SIGNAL, augment.all_but(["II", "V5"]))
    kept = [LEADS.index("II"), LEADS.index("V5")]
    assert np.array_equal(out[:, kept], SIGNAL[:, kept])
    assert (np.delete(out, kept, axis=1) == 0).all()
    for wrong in (["V7"], []):
        with pytest.raises(ConfigError, match="Leads to keep"):
            augment.all_but(wrong)


def test_crops_are_stretches_of_their_row():
    ramp = np.broadcast_to(np.arange(200, dtype=np.float32), (300, 12, 200))
    out = augment.random_crop(ramp, np.random.default_rng(0), 150)
    assert (np.diff(out, axis=-1) == 1).all() and (out == out[:, :1]).all()
    starts = out[:, 0, 0]
    assert starts.min() == 0 and starts.max() == 50
    with pytest.raises(ConfigError, match="does not fit"):
        augment.random_crop(SIGNAL, np.random.default_rng(0), 201)


def test_segments_follow_each_other():
    halves = augment.segments(SIGNAL[..., :199], 2)
    assert halves.shape == (6, 2, 12, 99)
    assert np.array_equal(halves[:, 0], SIGNAL[..., :99])
    assert np.array_equal(halves[:, 1], SIGNAL[..., 99:198])


def test_amplitude_steps_have_the_stated_size():
    flat, rng = np.zeros((200, 12, 1000), np.float32), np.random.default_rng(0)
    assert augment.jitter(flat, rng, 0.02).std() == pytest.approx(0.02, rel=0.02)
    drift = augment.wander(flat, rng, FS, 0.1)
    assert drift.std() == pytest.approx(0.1, rel=0.1)
    power = np.abs(np.fft.rfft(drift, axis=-1)) ** 2
    slow = np.fft.rfftfreq(1000, 1 / FS) <= 0.7
    assert power[..., slow].sum() > 0.97 * power.sum()
    gains = augment.scale_leads(np.ones_like(flat), rng, 0.1)
    assert (gains == gains[..., :1]).all() and gains[..., 0].std() == pytest.approx(0.1, rel=0.1)


def test_time_masks_are_one_stretch_in_all_leads():
    ones = np.ones((500, 12, 200), np.float32)
    out = augment.mask_time(ones, np.random.default_rng(0), 0.3)
    silent = out[:, 0] == 0
    assert (out == out[:, :1]).all()
    assert (np.abs(np.diff(np.pad(silent, ((0, 0), (1, 1))).astype(int), axis=1)).sum(1) <= 2).all()
    assert silent.mean() == pytest.approx(0.15, abs=0.02) and silent.sum(1).max() <= 60
    assert silent[:, 0].any() and silent[:, -1].any()


def test_steps_left_out_leave_the_signal():
    nothing = Augmentations(1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    first, second = augment.two_views(SIGNAL, np.random.default_rng(0), nothing, FS)
    assert np.array_equal(first, SIGNAL) and np.array_equal(second, SIGNAL)
    first, second = augment.two_views(SIGNAL, np.random.default_rng(0), Augmentations(), FS)
    assert first.shape == second.shape == (6, 12, 100) and not np.array_equal(first, second)
