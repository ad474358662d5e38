"""The few-shot study of notebook 06: kinds of episodes, a mapper for each, scores beside baselines.

The first kind is that of QUESTION_TYPE and N_WAY; single-query episodes of QUERY_WAY answers join
it where the questions allow. All kinds share encoder and language model, each has its own mapper.

Letters: n ECGs, F embedding width.

Usage:

    kinds = open_kinds(config, cohort, open_questions(config, cohort))
    trained = train(kind, reader, features, run.folder, key)       # meta-trained, kind.config
    tables = score(trained, train(kind, ..., method="supervised").mapper)
    by_shots(trained, 64), by_leads(trained, other_features, 64)   # for the accuracy grid
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from ecgkit.config import FewShotConfig
from ecgkit.tasks import ecg_features, fewshot_setup
from ecgkit.tasks.engine import TrainLog
from ecgkit.tasks.fewshot_baselines import baseline_episodes
from ecgkit.tasks.fewshot_eval import evaluate_episodes
from ecgkit.tasks.fewshot_layout import check_quirks
from ecgkit.tasks.fewshot_setup import Parts
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.tasks.fewshot_train import meta_train
from ecgkit.types import DataError


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of episodes: its settings and questions, who may be asked when, and the cohort and
    questions that test episodes are about (the same unless TEST_DATA or TEST_ECGQA name others).
    """

    name: str
    config: FewShotConfig
    questions: object
    parts: Parts
    test_cohort: object
    test_questions: object

    @property
    def word(self) -> str:
        """The question type as a word for file names: verify, choose, query or all."""
        return self.config.question_type.removeprefix("single-")


def open_kinds(config: FewShotConfig, cohort, questions) -> dict[str, Kind]:
    """Name ("2-way verify") -> kind, that of `config` first.

    A second kind that the questions cannot fill is left out, and a line says why; the first raises
    DataError then.
    """
    kinds = {}
    for own in _configs(config):
        name = f"{own.n_way}-way {own.question_type.removeprefix('single-')}"
        try:
            kinds[name] = open_kind(name, own, cohort, questions)
        except DataError as error:
            if not kinds:
                raise
            print(f"{name} episodes are left out: {error}")
    return kinds


def _configs(config: FewShotConfig) -> list[FewShotConfig]:
    if not config.query_way or config.question_type in ("single-query", "all"):
        return [config]
    return [config, dataclasses.replace(
        config, question_type="single-query", n_way=config.query_way,
        test_inner_steps=config.query_test_steps or config.test_inner_steps,
        n_test_episodes=config.n_query_episodes or config.n_test_episodes,
    )]  # fmt: skip


def open_kind(name: str, config: FewShotConfig, cohort, questions) -> Kind:
    """Raises DataError when not even one episode can be drawn."""
    asked = fewshot_setup.focus(questions, config)
    test_cohort, test_questions = fewshot_setup.open_test_side(config, cohort, asked)
    elsewhere = test_questions is not asked
    parts = fewshot_setup.open_parts(asked, config, test_questions if elsewhere else None)
    return Kind(name, config, asked, parts, test_cohort, test_questions)


def parts_table(kinds: dict[str, Kind]) -> pd.DataFrame:
    """`Parts.table` of every kind, one below the other."""
    tables = [kind.parts.table().assign(episodes=name) for name, kind in kinds.items()]
    table = pd.concat(tables, ignore_index=True)
    return table[["episodes", *table.columns.drop("episodes")]]


def test_features(kinds: dict[str, Kind], encoder, raw: np.ndarray, cohort) -> np.ndarray | None:
    """Embeddings (n, F) of another test cohort, scaled like `raw` (embeddings of `cohort`); None
    where test episodes are about `cohort` itself.
    """
    kind = next(iter(kinds.values()))
    if kind.test_cohort is cohort:
        return None
    config = kind.config
    other = ecg_features.encoder_features(
        encoder, kind.test_cohort, device=config.device, leads=config.leads.split()
    )
    return ecg_features.standardise(raw, cohort.rows("train"), other)


# --- training -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Trained:
    """A mapper for one kind; `task` asks about the ECGs of meta-training, `test_task` about those
    of the test episodes. config: the kind's, with the changes it was trained with.
    """

    kind: Kind
    config: FewShotConfig
    task: FewShotTask
    test_task: FewShotTask
    mapper: nn.Module
    log: TrainLog


def train(
    kind: Kind, reader, features: np.ndarray, folder: str | Path, key: str,
    test_features: np.ndarray | None = None, n_steps: int | None = None, **changes,
) -> Trained:  # fmt: skip
    """Meta-trains a mapper for `kind` under its settings and `changes` to them.

    changes: method="supervised", protocol="reference" ...; episodes stay those of the kind.

    features (n, F) standardised; test_features those of `kind.test_cohort`, None = the same ECGs.
    """
    contrastive = "on" if kind.config.same_question else "off"  # whatever the protocol
    config = dataclasses.replace(kind.config, contrastive=contrastive, **changes)
    check_quirks(config)
    limits = {"max_question": config.max_question, "max_answer": config.max_answer}
    quirks = config.active_quirks

    def task(questions, x):
        return FewShotTask(questions, x, reader, config.protocol, config.device, quirks, **limits)

    learn = task(kind.questions, features)
    if kind.test_questions is kind.questions and test_features is None:
        test = learn
    else:
        test = task(kind.test_questions, features if test_features is None else test_features)
    place = Path(folder) / f"{kind.word}_{config.method}_{config.protocol}"
    key = f"{key} {config.hash()}"
    mapper, log = meta_train(learn, kind.parts.train, config, place, key, n_steps)
    return Trained(kind, config, learn, test, mapper, log)


# --- scores ---------------------------------------------------------------------------------------


def score(trained: Trained, supervised: nn.Module | None = None) -> dict[str, pd.DataFrame]:
    """Name -> scores of the test episodes on unseen attributes: adapted, with every inner step,
    then what it has to beat (see `fewshot_baselines`; the slow ones on a third of the episodes).
    """
    n = trained.config.n_test_episodes
    return baseline_episodes(
        trained.test_task, trained.mapper, trained.kind.parts.unseen, range(n), trained.config,
        supervised=supervised, curve=True, n_slow=max(2, n // 3),
    )  # fmt: skip


def seen_and_unseen(trained: Trained, n: int) -> list[tuple[dict, pd.DataFrame]]:
    """(labels, scores) of `n` episodes on attributes of meta-training; empty where there are none
    that can be asked about new ECGs.
    """
    parts, config = trained.kind.parts, trained.config
    table = _ends(trained.test_task, trained.mapper, parts.seen, n, config)
    return [(labels(trained, attributes="seen"), table)]


def by_shots(trained: Trained, n: int) -> list[tuple[dict, pd.DataFrame]]:
    """(labels, scores) for each K of SHOTS but K_SHOT, on unseen attributes, N and the division as
    trained. A K the data cannot fill is left out, and a line says so.
    """
    found, kind = [], trained.kind
    other = None if kind.test_questions is kind.questions else kind.test_questions
    for k in sorted(set(map(int, trained.config.shots.split())) - {trained.config.k_shot}):
        config = dataclasses.replace(trained.config, k_shot=k)
        try:
            parts = fewshot_setup.open_parts(kind.questions, config, other, kind.parts.split)
            table = _ends(trained.test_task, trained.mapper, parts.unseen, n, config)
        except DataError as error:
            print(f"K = {k} of {kind.name} is left out: {error}")
            continue
        found.append((labels(trained, k_shot=k), table))
    return found


def by_leads(
    trained: Trained, features: np.ndarray, n: int, leads: str
) -> list[tuple[dict, pd.DataFrame]]:
    """(labels, scores) with embeddings (n, F) of fewer leads, the mapper as trained on all."""
    config = trained.config
    task = FewShotTask(
        trained.kind.test_questions, features, trained.task.reader, config.protocol, config.device,
        config.active_quirks, config.max_question, config.max_answer,
    )  # fmt: skip
    table = _ends(task, trained.mapper, trained.kind.parts.unseen, n, config)
    return [(labels(trained, leads=leads), table)]


def _ends(task, mapper: nn.Module, sampler, n: int, config) -> pd.DataFrame:
    """Scores before and after adaptation, not between."""
    return evaluate_episodes(
        task, mapper, sampler, range(n), config, at={0, config.steps_at_test}
    )


def labels(trained: Trained, **changes) -> dict:
    """What a row of the accuracy grid is about; `changes` to what the mapper was trained for."""
    config = trained.config
    labels = {
        "question_type": trained.kind.name, "k_shot": config.k_shot, "attributes": "unseen",
        "leads": "all 12" if not config.leads else config.leads,
    }  # fmt: skip
    return labels | changes
