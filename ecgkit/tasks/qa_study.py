"""Study 03 as a whole: every chosen model from its pretraining to its answers, in calls a notebook
shows one by one.

Usage:

    bounds = train_bounds(config, cohort, targets, run.folder)            # name -> UpperBound
    trained = train_models(config, cohort, questions, run.folder, bounds.get("ecg_transformer"))
    results = answer_all(config, trained, questions)                      # scores and answers
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgkit.config.baselines import QA_MODELS
from ecgkit.models.checkpoints import load_fairseq
from ecgkit.models.saving import load_pretrained, save_pretrained
from ecgkit.tasks import ssl_pretrain
from ecgkit.tasks.answers_qa import AnswerSets
from ecgkit.tasks.baselines_qa import TrainedQA, predict, train_qa, usable
from ecgkit.tasks.qa_data import QAData, prepare, thinned
from ecgkit.tasks.qa_models import FROM_ECG, FROM_REPORTS, starting_points
from ecgkit.tasks.upperbound import UpperBound, start_targets, train_upper_bound
from ecgkit.tasks.vl_pretrain import TrainedVl, pretrain_vl

START = "ecg_transformer"  # the classifier whose ECG side answering models start from
PRETRAINED = "w2v_cmsc_rlm"  # the published bound: pretrained without labels, then fine-tuned


@dataclass(frozen=True)
class Trained:
    """One answering model with the questions as its tokenizer reads them."""

    qa: TrainedQA
    data: QAData
    pretraining: TrainedVl | None = None


@dataclass(frozen=True)
class Answers:
    """On the test split: probabilities (n, K) and decoded answers (n, K) by model, weights of the
    answers' frequency by model and question type, and the positions (n,) they are about."""

    positions: np.ndarray
    scores: dict[str, np.ndarray]
    answers: dict[str, np.ndarray]
    weights: dict[str, dict[str, float]]


# --- classifiers ----------------------------------------------------------------------------------


def bounds_of(config) -> list[str]:
    """Classifiers to train: those chosen, and the one that answering models start from."""
    chosen = config.chosen_models()
    starts = config.pretrain_steps and set(chosen) & {*FROM_ECG, *FROM_REPORTS}
    names = [name for name in chosen if name not in QA_MODELS]
    return ([START] if starts and START not in names else []) + names


def train_bounds(config, cohort, targets, folder: Path) -> dict[str, UpperBound]:
    """Trains `bounds_of(config)` on the SCP codes, by name; the ECG transformer, which answering
    models start from, on `upperbound.start_targets`: PTB-XL's annotations too.

    With MODELS=all (or ecg_transformer named) the published bound joins them, `w2v_cmsc_rlm`: the
    ECG transformer pretrained without labels and fine-tuned. With CHECKPOINT the ECG transformer
    starts from those weights.
    """
    given = checkpoint_encoder(config)
    bounds = {}
    for name in bounds_of(config):
        what, start = targets, None
        if name == START:
            what = start_targets(cohort, config.min_code_count, config.noise_importance)
            start = given
        bounds[name] = train_upper_bound(config, cohort, what, name, folder / name, start)
    if START in config.chosen_models() and given is None:
        bounds[PRETRAINED] = _pretrained_bound(config, cohort, targets, folder)
    return bounds


def _pretrained_bound(config, cohort, targets, folder: Path) -> UpperBound:
    rows = cohort.rows("train")
    trained = ssl_pretrain.pretrain(config, cohort, rows,
                                    cohort.table["patient_id"].to_numpy()[rows],
                                    config.ssl_kind, folder / f"ssl_{config.ssl_kind}")
    return train_upper_bound(ssl_pretrain.encoder_settings(config), cohort, targets, START,
                             folder / PRETRAINED, start_from=trained.encoder)


def checkpoint_encoder(config):
    """The model CHECKPOINT names, or None: a .pt file or hub id of fairseq-signals or ECG-FM, or
    what `ecgkit model import` and this notebook write. Raises ModelError as those readers do."""
    if not config.checkpoint:
        return None
    path = Path(config.checkpoint).expanduser()
    if path.is_dir():
        return load_pretrained(path)
    return load_fairseq(str(path) if path.exists() else config.checkpoint)


# --- answering models -----------------------------------------------------------------------------


def train_models(config, cohort, questions, folder: Path, start: UpperBound | None = None,
                 data: QAData | None = None) -> dict[str, Trained]:
    """Trains every chosen answering model, M3AE and MedViLL after their ECG-report pretraining.

    `start`: the classifier whose ECG side they start from; without one (PRETRAIN_STEPS=0) what
    CHECKPOINT names, as it is, or random weights. `data`: `prepare(...)`, made here otherwise.
    """
    data = data or prepare(config, cohort, questions)
    classifier = start.model if start else checkpoint_encoder(config)
    trained = {}
    for kind in (k for k in config.chosen_models() if k in QA_MODELS):
        own, pretraining = data, None
        if kind in FROM_REPORTS:
            pretraining = pretrain_vl(config, cohort, kind, folder / f"{kind}_pretraining",
                                      start_from=classifier, questions=training_words(questions))
            own = prepare(config, cohort, questions, pretraining.pairs.tokenizer)
        starts = starting_points(classifier, {kind: pretraining.model} if pretraining else {})
        qa = train_qa(config, own, kind, folder / kind, starts.get(kind))
        trained[kind] = Trained(qa, own, pretraining)
    return trained


def training_words(questions) -> list[str]:
    """The training questions' texts, for a tokenizer that must read them later."""
    return questions.table["question"].to_numpy()[questions.index("train")].tolist()


def answer_all(config, trained: dict[str, Trained], questions) -> Answers:
    """Scores the test split once with every model, and decodes by weights chosen on valid."""
    sets = AnswerSets(questions, questions.index("train"))
    test = questions.index("test")
    scores, answers, weights = {}, {}, {}
    for kind, one in trained.items():
        valid = thinned(usable(one.data, "valid"), 5 * config.eval_questions)
        weights[kind] = sets.choose_weights(predict(one.qa.model, one.data, valid), valid)
        scores[kind] = predict(one.qa.model, one.data, test)
        answers[kind] = sets.decode_by_type(scores[kind], test, weights[kind])
    answers["majority"] = sets.majority(test)
    return Answers(test, scores, answers, weights)


def save_models(trained: dict[str, Trained], bounds: dict[str, UpperBound], folder: Path,
                about: dict) -> list[Path]:
    """Writes every model with config.json, a model card and, where it reads words, its tokenizer.

    about: data, protocol, input, and the run's metrics, of which each model gets its own.
    """
    written = []
    for kind, one in trained.items():
        own = {**_own(about, kind), "task": f"ECG-QA, {kind}",
               "classes": one.data.questions.classes}
        written.append(save_pretrained(one.qa.model, folder / kind, own))
        if "text" in one.qa.model.reads:
            one.data.tokenizer.save_pretrained(folder / kind)
    for name, bound in bounds.items():
        own = {**_own(about, name), "task": f"ECG classification, {name}",
               "classes": bound.table.iloc[:, 0].tolist()}
        written.append(save_pretrained(bound.model, folder / name, own))
    return written


def _own(about: dict, name: str) -> dict:
    metrics = about.get("metrics", {})
    return {**about, "metrics": {key: row for key, row in metrics.items() if name in key}}
