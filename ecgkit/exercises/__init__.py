"""Exercises of the notebooks, checked: `exercises.check("00.1", answer, ...)`.

One file per notebook holds its questions; `notebooks/solutions.ipynb` derives every answer in code.
"""

import importlib
import pkgutil

from ecgkit.exercises.base import (
    EXERCISES,
    Exercise,
    NotHere,
    agrees,
    check,
    exercise,
    verdict,
)
from ecgkit.exercises.read import metric, metrics, settings

for _file in pkgutil.iter_modules(__path__, f"{__name__}."):
    if _file.name.rpartition(".")[2].startswith("ex"):
        importlib.import_module(_file.name)

__all__ = [
    "EXERCISES",
    "Exercise",
    "NotHere",
    "agrees",
    "check",
    "exercise",
    "metric",
    "metrics",
    "settings",
    "verdict",
]
