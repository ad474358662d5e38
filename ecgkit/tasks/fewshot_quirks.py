"""What each fault of the released few-shot code is worth, on the same test episodes.

From `reference` (all faults on) each is switched off alone; from `trained reference` the same, with
the trained mapper in place of the random one the released inference script tests; from `sound`
(none) each is switched on alone. Only faults of testing are tried: what a fault does to
meta-training takes another mapper, which may be given.

The score is that of the released code under `reference` (share of right tokens), and exact match
under `sound`. Two faults are measured otherwise:
- bos_scored on the same answers, counted with the start token and without;
- question_blind on the likeliest of the episode's answers: without it a scored start token would
  stand after the question, where no language model expects one.

Usage:

    setup = QuirkSetup(questions, features, reader, parts.unseen,
                       {"sound": mapper, "reference": other},
                       quirk_samplers(parts.unseen, parts.seen))
    quirk_table(setup, range(80), config)       # from, name, score, with it, without it, value ...
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from torch import nn

from ecgkit.config.fewshot import QUIRKS
from ecgkit.tasks.fewshot_eval import evaluate_episodes, finite
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.tasks.metrics import bootstrap_mean
from ecgkit.types import ConfigError

STARTS = {
    "reference": frozenset(QUIRKS),
    "trained reference": frozenset(QUIRKS) - {"untrained_mapper"},
    "sound": frozenset(),
}
OF_EPISODES = ("with_replacement", "shared_classes", "episodes_twice")
COLUMNS = ("from", "name", "score", "with it", "without it", "value", "low", "high", "n",
           "remark")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class QuirkSetup:
    """Everything the comparison is made of.

    sampler: the test episodes of all rows, but those about the drawing of episodes. mappers:
    "sound" and "reference", and where there is one "question_blind off", trained under all faults
    but that. samplers: name of a fault of drawing -> the same test with that fault alone.
    """

    questions: object
    features: np.ndarray
    reader: object
    sampler: object
    mappers: Mapping[str, nn.Module]
    samplers: Mapping[str, object] = dataclasses.field(default_factory=dict)


def quirk_samplers(sampler, seen=None) -> dict[str, object]:
    """The test episodes of `sampler` with one fault of drawing each. Episode i keeps its classes,
    other ECGs are drawn. `seen`: episodes on the classes of meta-training, for shared_classes.
    """
    again, twice = copy.copy(sampler), copy.copy(sampler)
    again.shape = dataclasses.replace(sampler.shape, apart=False)
    twice.quirks = sampler.quirks | {"episodes_twice"}
    found = {"with_replacement": again, "episodes_twice": twice}
    return found if seen is None else found | {"shared_classes": seen}


def quirk_table(
    setup: QuirkSetup, numbers: Iterable[int], config, starts: Iterable[str] = tuple(STARTS)
) -> pd.DataFrame:
    """One row per start and fault `name`: score `with it` and `without it`, and `value`, the
    difference with its 95 % interval over episodes (low, high).

    A row that cannot be measured from what is given is empty and its remark says what is missing.
    Raises ConfigError for an unknown start, or one without its mapper.
    """
    runs = _Runs(setup, list(numbers), config)
    rows = []
    for start in starts:
        if start not in STARTS:
            raise ConfigError(f"{start!r} is no start; choose among {', '.join(STARTS)}.")
        runs.require(_mapper_of(start))
        rows += [_row(runs, start, quirk) for quirk in QUIRKS]
    rows = [row for row in rows if row is not None]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def side_by_side(setup: QuirkSetup, numbers: Iterable[int], config) -> pd.DataFrame:
    """Both protocols on the same episodes: columns protocol, score, value, low, high, n.

    `released` is what the released code would report.
    """
    runs, rows = _Runs(setup, list(numbers), config), []
    for start, quirks in STARTS.items():
        if _mapper_of(start) not in setup.mappers:
            continue
        table = finite(runs.table(_mapper_of(start), quirks))
        for score in ("exact", "candidate", "released"):
            values = table[score].dropna().to_numpy()
            rows.append((start, score, *bootstrap_mean(values), len(values)))
    return pd.DataFrame(rows, columns=["protocol", "score", "value", "low", "high", "n"])


# --- one row --------------------------------------------------------------------------------------


def _row(runs: _Runs, start: str, quirk: str) -> tuple | None:
    if quirk == "untrained_mapper" and start == "trained reference":
        return None  # measured from the other end
    scores, missing = _scores(start, quirk), _missing(runs.setup, start, quirk)
    if missing:
        return (start, quirk, scores[0], *(np.nan,) * 5, 0, missing)
    values = [
        finite(table).set_index("episode")[score].dropna()
        for table, score in zip(_pair(runs, start, quirk), scores, strict=True)
    ]
    shared = pd.concat(values, axis=1, join="inner").to_numpy()  # (n, 2)
    effect = bootstrap_mean(shared[:, 0] - shared[:, 1])
    name, n = scores[0], len(shared)
    return (start, quirk, name, *shared.mean(0), *effect, n, _remark(start, quirk))


def _scores(start: str, quirk: str) -> tuple[str, str]:
    """The score with the fault and the score without it."""
    if quirk == "bos_scored":
        return "released", "spoken"
    if quirk == "question_blind":
        return "candidate", "candidate"
    return ("exact", "exact") if start == "sound" else ("tokens", "tokens")


def _pair(runs: _Runs, start: str, quirk: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores with the fault and without it, all else as `start` has it."""
    base, mapper = STARTS[start], _mapper_of(start)
    if quirk == "bos_scored":
        return (runs.table(mapper, base),) * 2
    if quirk in OF_EPISODES:
        return runs.table(mapper, base, quirk), runs.table(mapper, base)
    other = "question_blind off" if _needs_training(start, quirk) else mapper
    return runs.table(mapper, base | {quirk}), runs.table(other, base - {quirk})


def _mapper_of(start: str) -> str:
    return "sound" if start == "sound" else "reference"


def _needs_training(start: str, quirk: str) -> bool:
    """Whether without the fault another mapper is tested; a random one is good for both."""
    return quirk == "question_blind" and start == "trained reference"


def _missing(setup: QuirkSetup, start: str, quirk: str) -> str:
    """What the row would need that is not given, or ''."""
    if quirk == "mapper_ignored":
        return "chosen when the mapper is built: no effect while MAPPER=attention"
    if quirk in OF_EPISODES and quirk not in setup.samplers:
        return "no test episodes with this fault were given"
    if start == "sound" and quirk == "question_blind":
        return "takes a mapper trained so: see reference"
    if _needs_training(start, quirk) and "question_blind off" not in setup.mappers:
        return "takes a mapper trained without it"
    return ""


def _remark(start: str, quirk: str) -> str:
    if quirk in OF_EPISODES:
        return {"with_replacement": "the same questions, other ECGs",
                "shared_classes": "other episodes, on the classes of meta-training",
                "episodes_twice": "half as many distinct episodes"}[quirk]  # fmt: skip
    if quirk == "bos_scored":
        return "the same answers, counted in two ways"
    if start == "reference" and quirk != "untrained_mapper":
        return "of a random mapper, as the inference script has it"
    if quirk == "oracle_length" and start != "sound":
        return "the mapper was trained with it; the end counts as a token without it"
    return "not trained with it" if quirk == "live_dropout" and start == "sound" else ""


class _Runs:
    """Evaluations by mapper, faults and episodes, each made once."""

    def __init__(self, setup: QuirkSetup, numbers: list[int], config):
        self.setup, self.numbers, self.config = setup, numbers, config
        self.tasks: dict[frozenset, FewShotTask] = {}
        self.tables: dict[tuple, pd.DataFrame] = {}

    def require(self, mapper: str) -> None:
        if mapper not in self.setup.mappers:
            raise ConfigError(
                f"No {mapper!r} mapper was given; have one meta-trained under that protocol."
            )

    def table(self, mapper: str, quirks: frozenset[str], drawn: str = "") -> pd.DataFrame:
        """Scores after the last step; `drawn` names a fault of drawing whose episodes are taken."""
        # Faults of drawing and of building the mapper do not change how an episode is scored.
        quirks = quirks - set(OF_EPISODES) - {"mapper_ignored"}
        key = (mapper, quirks, drawn)
        if key not in self.tables:
            sampler = self.setup.samplers[drawn] if drawn else self.setup.sampler
            self.tables[key] = evaluate_episodes(
                self._task(quirks), self.setup.mappers[mapper], sampler, self.numbers, self.config,
                curve=False,
            )  # fmt: skip
        return self.tables[key]

    def _task(self, quirks: frozenset[str]) -> FewShotTask:
        if quirks not in self.tasks:
            setup, c = self.setup, self.config
            self.tasks[quirks] = FewShotTask(
                setup.questions, setup.features, setup.reader, "reference" if quirks else "sound",
                c.device, quirks, c.max_question, c.max_answer,
            )  # fmt: skip
        return self.tasks[quirks]
