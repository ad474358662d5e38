"""Golden fixtures of the published implementations, on CPU and, where there is one, on CUDA within
1e-3.
"""

import numpy as np
import pytest
import torch

from ecgkit import cli
from ecgkit.parity import compare_file, find_case, golden_files
from ecgkit.types import DataError

FILES = golden_files() or [None]  # one skipped entry says that the fixtures are absent


def name(path) -> str:
    return path.stem if path else "absent"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_golden(path, shared):
    checks = compare_file(path)
    assert checks, f"{path.name}: nothing was compared"
    assert not [f"{c.name}: {c.difference:.2e} > {c.tolerance:.0e}" for c in checks if not c.passed]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("path", FILES, ids=name)
def test_golden_on_cuda(path, shared):
    # TF32 and other orders of summation: 1e-3 is what a GPU is held to.
    worst = [c for c in compare_file(path, "cuda") if not (c.passed or c.difference <= 1e-3)]
    assert not worst


def test_a_wrong_weight_is_a_miss(shared, tmp_path, capsys):
    path = shared / "golden" / "esi_convnextv2_small.npz"
    arrays = dict(np.load(path))
    key = next(k for k in arrays if k.startswith("sd/") and arrays[k].ndim == 3)
    arrays[key] = arrays[key] + 0.1
    np.savez(tmp_path / path.name, **arrays)
    assert cli.main(["parity", str(tmp_path / path.name)]) == 1
    assert "MISS" in capsys.readouterr().out


def test_unknown_file_is_a_sentence(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(DataError, match="belongs to no model"):
        find_case(tmp_path / "x.npz")
    assert cli.main(["parity", str(tmp_path / "nowhere.npz")]) == 2
    assert "no file" in capsys.readouterr().err
