"""What `discrepancy_effects.py` measures on: the development cohort, real excerpts, small sizes."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from ecgkit import runtime
from ecgkit.config import BaselinesConfig, KitConfig
from ecgkit.data import qa_columns, qa_reading
from ecgkit.data.cohort import Cohort, open_cohort
from ecgkit.data.ecgqa import QuestionSet, open_questions
from ecgkit.data.qa_table import QATable, open_table
from ecgkit.types import KitError

SEED = 7  # of the simulated cohort on which the kit's settings were chosen
SMALL = dict(dim=64, ffn_dim=128, n_layers=2, n_heads=4, conv_layers=((32, 2, 2),) * 4,
             pos_kernel=16, pos_groups=4, dropout=0.0, attention_dropout=0.0)  # fmt: skip
FUSION_STEPS = 400  # 40 s on one core


@functools.cache
def simulated() -> tuple[Cohort, QuestionSet]:
    """The development cohort: 4,000 simulated ECGs at 100 Hz, and questions about them."""
    config = BaselinesConfig.from_params({"preset": "demo", "cohort_seed": SEED})
    cohort = open_cohort(config, quiet=True)
    return cohort, open_questions(config, cohort, quiet=True)


def shared(name: str) -> Path:
    folder = runtime.shared_dir()
    if folder is None:
        raise KitError("the shared folder with the real data is absent (set ECGKIT_SHARED)")
    return folder / "data" / name


@functools.cache
def real(fs: int) -> Cohort:
    """400 real ECGs of PTB-XL at 100 or 500 Hz."""
    config = KitConfig.from_params({"data": str(shared("ptbxl-subset-400.zip")), "fs": fs})
    return open_cohort(config, quiet=True)


@functools.cache
def excerpt(variant: str = "ptbxl") -> tuple[qa_reading.Shelf, QATable]:
    """The real excerpt of ECG-QA: 24,348 questions about PTB-XL, 4,364 about MIMIC-IV-ECG."""
    shelf = qa_reading.open_shelf(shared("ecgqa-subset.zip"), variant)
    return shelf, open_table(shelf, "paraphrased")


def answers_of(shelf, table: QATable) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) bool each: the right answers of the excerpt's questions, those they are judged on."""
    classes = [answer for answer in shelf.answers if answer != "none"]
    masks = qa_columns.kind_masks(table, classes, shelf.valid)
    return masks[0][table.kind], masks[1][table.kind]


def rms(x: torch.Tensor) -> float:
    return float(x.double().pow(2).mean().sqrt())


def apart(x: torch.Tensor) -> float:
    """RMS difference of two different rows of x (B, ...), over all pairs."""
    return float((2 * x.double().var(0).mean()).sqrt())
