"""Numeric parity with the published implementations: which model a golden fixture belongs to, and
the comparison.

Usage:

    checks = compare_file("esi_model_small.npz")          # builds the model, loads the weights,
    compares all(check.passed for check in checks)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecgkit.parity.base import Case, Check, close
from ecgkit.types import DataError

__all__ = ["Case", "Check", "all_cases", "close", "compare_file", "find_case", "golden_files"]


def all_cases() -> list[Case]:
    """Every kind of fixture the kit can rebuild, family by family."""
    from ecgkit.parity import esi, fairseq, risk

    return [*esi.CASES, *fairseq.CASES, *risk.CASES]


def find_case(path: str | Path) -> tuple[Case, dict[str, np.ndarray]]:
    """Returns the case that recognises an .npz and its arrays.

    Raises DataError when the file is missing, is no .npz, or belongs to no model of the kit.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}; give the path of a golden .npz fixture.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path.name} is not a readable .npz file ({error}).") from None
    for case in all_cases():
        if case.recognises(path.stem, arrays):
            return case, arrays
    keys = ", ".join(sorted(arrays)[:5])
    raise DataError(f"{path.name} belongs to no model of the kit; its first keys are {keys}.")


def compare_file(path: str | Path, device: str = "cpu") -> list[Check]:
    """Builds the model a fixture belongs to, loads its weights and compares; see `find_case` for
    errors.
    """
    from ecgkit.runtime import pick_device

    case, arrays = find_case(path)
    return case.compare(arrays, pick_device(device))


def golden_files() -> list[Path]:
    """The fixtures of the shared folder (`ECGKIT_SHARED`, else `../shared`); empty where it is
    absent.
    """
    from ecgkit.runtime import shared_dir

    folder = shared_dir()
    return sorted((folder / "golden").glob("*.npz")) if folder else []
