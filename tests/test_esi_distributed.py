"""ESI in two processes is ESI in one with the joint batch: losses, gradients, weights, files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from launching import launched

N_STEPS = 3


def launch(folder: Path, n_processes: int) -> dict:
    """What tests/distributed_esi.py saved, started in so many gloo processes on the CPU."""
    folder.mkdir()
    launched("distributed_esi.py", (folder,), n_processes)
    return {path.stem: torch.load(path, weights_only=False) for path in folder.glob("*.pt")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_cohort):  # tiny_cohort: its store is in the cache they share
    folder = tmp_path_factory.mktemp("esi-processes")
    return folder, launch(folder / "one", 1), launch(folder / "two", 2)


@pytest.mark.parametrize("protocol", ["paper", "reference"])
def test_losses_gradients_and_weights_are_those_of_the_joint_batch(runs, protocol):
    _, one, two = (run if isinstance(run, Path) else run[protocol] for run in runs)
    assert len(one["gradients"]) == len(two["gradients"]) == N_STEPS
    for column, values in one["log"].items():
        np.testing.assert_allclose(two["log"][column], values, rtol=1e-5, err_msg=column)
    for step, (mine, theirs) in enumerate(zip(one["gradients"], two["gradients"])):
        assert mine.keys() == theirs.keys()
        largest = max(float(g.abs().max()) for g in mine.values())
        assert largest > 1e-2  # clipped to 1 in all: there is something to compare
        worst = max(float((g - theirs[name]).abs().max()) for name, g in mine.items())
        assert worst < 1e-5 * largest, step
    compared = 0
    for name, weight in one["weights"].items():
        # Adam takes a step of full size along a gradient that is rounding alone, as that of a bias
        # before a norm is.
        steps = [g[name].abs() for g in one["gradients"] if name in g]
        sure = torch.stack(steps).amin(0) > 1e-6 if steps else torch.ones_like(weight).bool()
        np.testing.assert_allclose(two["weights"][name][sure], weight[sure], atol=1e-5,
                                   err_msg=name)
        compared += int(sure.sum())
    assert compared > 0.4 * sum(w.numel() for w in one["weights"].values())


def test_one_process_writes_the_sampled_captions(runs):
    tables = [pd.read_csv(runs[0] / run / "paper" / "captions.csv") for run in ("one", "two")]
    assert tables[0].equals(tables[1])
    assert tables[0]["step"].tolist() == [1, 2, 3]
