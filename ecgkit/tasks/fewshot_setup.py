"""What the few-shot study needs before it can begin: the questions it is about, who may be asked
when, a language model.

Attributes are divided into those of meta-training ("seen") and those kept for testing ("unseen").
Where the data allow, patients are divided too: meta-training draws from ECG-QA's training split,
every test episode from its other splits, or from another source altogether.

Usage:
    questions = focus(open_questions(config, cohort), config)
    parts = open_parts(questions, config)    # samplers: parts.train, parts.seen, parts.unseen
    parts.split.save(folder / "split.json")
    reader, llm_log = open_reader(questions, cohort, config)
    # test episodes from another source (TEST_DATA, TEST_ECGQA):
    test_cohort, test_questions = open_test_side(config, cohort, questions)
    parts = open_parts(questions, config, test_questions)    # seen, unseen: of test_questions.table
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.episode_classes import KINDS
from ecgkit.data.episode_split import EpisodeSplit, divide, fingerprint, read_split
from ecgkit.data.episodes import EPISODE_QUIRKS, EpisodeSampler
from ecgkit.models.llm_loading import load_llm
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.tasks.engine import TrainLog, TrainSettings
from ecgkit.tasks.llm_pretrain import pretrain_llm, question_lines
from ecgkit.tasks.metrics import bootstrap_mean
from ecgkit.types import DataError


def focus(questions, config):
    """The questions of `config.question_type` and `config.attribute_type`, in the same order.

    Where none is about that attribute type (the published excerpt has noise only) all types are
    taken, and a line says so. Raises DataError when there is no question of that type at all.
    """
    table = questions.table
    kinds = KINDS if config.question_type == "all" else (config.question_type,)
    right = table["question_type"].isin(kinds).to_numpy()
    if not right.any():
        found = ", ".join(sorted(set(table["question_type"]) & set(KINDS))) or "none that fits"
        raise DataError(
            f"There is no {' or '.join(kinds)} question about these ECGs; choose another "
            f"QUESTION_TYPE (there is: {found}), or give more of ECG-QA."
        )
    kind = (table["attribute_type"] == config.attribute_type).to_numpy()
    if config.attribute_type and not (right & kind).any():
        found = ", ".join(sorted(table.loc[right, "attribute_type"].unique()))
        print(
            f"No {config.question_type} question is about {config.attribute_type}; taking those "
            f"about {found}."
        )
    elif config.attribute_type:
        right &= kind
    return questions.only(right)


def open_test_side(config, cohort, questions):
    """(cohort, questions) that test episodes are about: those `config.test_data` and `test_ecgqa`
    name, focused alike; the given ones where both are empty.

    TEST_DATA without TEST_ECGQA: the kit writes its own questions about that source.
    """
    if not (config.test_data or config.test_ecgqa):
        return cohort, questions
    other = dataclasses.replace(
        config, data=config.test_data or config.data, ecgqa=config.test_ecgqa
    )
    test_cohort = open_cohort(other) if config.test_data else cohort
    return test_cohort, focus(open_questions(other, test_cohort), other)


# --- episodes -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Parts:
    """Samplers of meta-training and of test episodes on seen and unseen attributes, and how they
    are divided. Positions of `seen` and `unseen` point into the test questions where those are of
    another source.
    """

    train: EpisodeSampler
    seen: EpisodeSampler
    unseen: EpisodeSampler
    split: EpisodeSplit

    @property
    def how(self) -> str:
        """In sentences: who is kept apart, and what had to be given up."""
        return self.split.how

    def table(self, n_episodes: int = 100) -> pd.DataFrame:
        """One row per part: attributes, classes, questions to draw from, and the question-only
        ceiling with its 95 % interval over `n_episodes`.
        """
        rows = [
            (name, len(s.units), len(s.classes), sum(map(len, s.classes.values())),
             _ceiling_in_words(s.ceilings(range(n_episodes))))
            for name, s in self._named()
        ]  # fmt: skip
        columns = ["part", "attributes", "classes", "questions", "question-only ceiling"]
        return pd.DataFrame(rows, columns=columns)

    def summary(self) -> str:
        """One line per part: what it draws from, and what was too small for it; then `how`."""
        lines = [f"{name}: {sampler.summary()}" for name, sampler in self._named()]
        return "\n".join([*lines, self.how])

    def _named(self):
        return (
            ("meta-training", self.train),
            ("test, seen attributes", self.seen),
            ("test, unseen attributes", self.unseen),
        )


def _ceiling_in_words(ceilings: pd.DataFrame) -> str:
    """Mean and interval; the exact words only where they tell more than which question it is."""
    value, low, high = bootstrap_mean(ceilings["question"].to_numpy())
    worded, worded_low, _ = bootstrap_mean(ceilings["wording"].to_numpy())
    more = f", by its exact words {worded:.3f}" if worded_low > high else ""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]{more}"


# What may be mended when data are few, first choice first: (who asks about which ECGs, whether
# some attributes are kept for the test).
_DIVISIONS = (
    ("split", True), ("half", True), ("shared", True), ("split", False), ("shared", False),
)  # fmt: skip
_RECORDS = {
    "split": "Test episodes draw on ECGs outside the training split.",
    "half": "Too few questions outside the training split: half of all patients are kept for test "
    "episodes, so their ECGs are new to the mapper, not to an encoder or language model trained "
    "before.",
    "shared": "Too few questions to keep ECGs apart: training and test episodes share them.",
    "pooled": "All splits are pooled, as published: training and test episodes share ECGs.",
    "other source": "Test episodes draw on ECGs of another source.",
}


def open_parts(questions, config, test_questions=None, split: EpisodeSplit | None = None) -> Parts:
    """Divides attributes and patients as strictly as the data allow, and says what it had to give
    up (under reference: as published, and as `config.active_quirks` say).

    test_questions: of another source, for the test episodes. split: a division made before;
    `config.split_file` names a saved one. Raises DataError when not even one pooled episode can be
    drawn, and for a saved division of other questions.
    """
    both = (questions,) if test_questions is None else (questions, test_questions)
    if split is None and config.split_file:
        split = read_split(config.split_file, *both)
    if split is not None:
        return _Opening(questions, config, test_questions, split.records).parts(split)
    problem = None
    for records, new_attributes in _choices(config, test_questions):
        opening = _Opening(questions, config, test_questions, records)
        try:
            return opening.parts(opening.divide(new_attributes))
        except DataError as error:
            problem = problem or error
    raise problem


def _choices(config, test_questions) -> list[tuple[str, bool]]:
    by = _split_by(config)
    divisions = [(r, new) for r, new in _DIVISIONS if by != "none" or not new]
    if test_questions is not None:
        return [("other source", new) for r, new in divisions if r == "split"]
    if config.protocol == "reference":
        return [("pooled", new) for r, new in divisions if r == "split"]
    return divisions


def _split_by(config) -> str:
    if config.split_by:
        return config.split_by
    if config.protocol == "sound":
        return "attribute"
    return "none" if "shared_classes" in config.active_quirks else "class"


class _Opening:
    """One way to divide records: makes the division of attributes, then the samplers."""

    def __init__(self, questions, config, test_questions, records: str):
        self.questions, self.config, self.records = questions, config, records
        self.test_questions = questions if test_questions is None else test_questions
        table = questions.table
        self.learn = self.test = None  # all
        if records == "split":
            self.learn = (table["split"] == "train").to_numpy()
            self.test = ~self.learn
        elif records == "half":
            self.test = _half_of_patients(table, config.split_seed)
            self.learn = ~self.test

    def divide(self, new_attributes: bool) -> EpisodeSplit:
        config = self.config
        by = _split_by(config) if new_attributes else "none"
        train, test = (self.sampler(part, by) for part in ("train", "test"))
        train_units, test_units = (
            set().union(*(pool.units for pool in sampler.pools)) for sampler in (train, test)
        )
        seen = unseen = train_units
        if new_attributes:
            kinds = {p.kind for p in train.pools} & {p.kind for p in test.pools}
            pools = [[p for p in s.pools if p.kind in kinds] for s in (train, test)]
            seen, unseen = divide(*pools, config.train_fraction, config.split_seed)
        both = (self.questions, self.test_questions)
        return EpisodeSplit(
            tuple(sorted(seen)), tuple(sorted(unseen)), config.split_seed, config.protocol,
            by, config.question_type, self.records,
            fingerprint(*(both if both[0] is not both[1] else both[:1])),
            f"{_in_words(seen, unseen, test_units, by == _split_by(config), by)} "
            f"{_RECORDS[self.records]}",
        )  # fmt: skip

    def parts(self, split: EpisodeSplit) -> Parts:
        by = split.split_by
        return Parts(*(self.sampler(p, by, split) for p in ("train", "seen", "test")), split)

    def sampler(self, part: str, split_by: str, split: EpisodeSplit | None = None):
        config, learning = self.config, part == "train"
        return EpisodeSampler(
            self.questions if learning else self.test_questions,
            config.question_type,
            config.n_way,
            config.k_shot,
            config.n_query,
            config.split_seed,
            part,
            config.protocol,
            split_by=split_by,
            same_question=config.same_question,
            min_samples=config.min_samples or None,
            rows=self.learn if learning else self.test,
            split=split,
            divided=split is not None,
            quirks=config.active_quirks & EPISODE_QUIRKS,
            mix_questions=config.mix_questions,
            keep_conflicting=config.keep_conflicting,
            repeats=config.repeats,
        )


def _half_of_patients(table: pd.DataFrame, seed: int) -> np.ndarray:
    """(N,) bool: questions about half of the patients, those outside the training split first."""
    patient, names = pd.factorize(table["patient1"])
    outside = np.unique(patient[(table["split"] != "train").to_numpy()])
    order = np.random.default_rng(seed).permutation(len(names))
    order = np.concatenate([outside, order[~np.isin(order, outside)]])
    return np.isin(patient, order[: len(names) // 2])


def _in_words(seen: set, unseen: set, test_units: set, new_attributes: bool, by: str) -> str:
    if not new_attributes and by == "none":
        return "Attributes are not divided: 'unseen' means new episodes only."
    if not new_attributes:
        return "Too few attributes to keep some unseen: here 'unseen' means new episodes only."
    things = "classes" if by == "class" else "attributes"
    n = len(seen) + len(unseen)
    return (
        f"Unseen {things} never stand in a meta-training episode: {len(unseen)} of {n} "
        f"({100 * len(unseen) / n:.0f} %) are kept for the test, chosen question by question so "
        f"that both sides can be asked; {len(test_units & seen)} of the others can be asked at "
        "test too."
    )


# --- the language model ---------------------------------------------------------------------------


def open_reader(questions, cohort, config) -> tuple[PrefixLLM, TrainLog | None]:
    """The frozen language model with its text layout, and the log of its training (None for a given
    model).

    `config.llm` names a hub model or a folder; empty, the small Llama is trained on the training
    split's text, or loaded from the cache when text and settings are those of an earlier training.
    """
    if config.llm:
        tokenizer, llm = load_llm(config.llm)
        return PrefixLLM(llm, tokenizer), None
    n_lines = config.llm_steps * config.llm_batch
    lines, held_out, terms = question_lines(
        questions, cohort, config.question_type, n_lines, config.seed
    )
    settings = TrainSettings(
        n_steps=config.llm_steps,
        batch_size=config.llm_batch,
        lr=config.llm_lr,
        seed=config.seed,
        log_every=max(1, config.llm_steps // 30),
        device=config.device,
        precision=config.precision,
    )
    tokenizer, llm, log = pretrain_llm(
        lines,
        held_out,
        config.llm_width,
        config.llm_layers,
        config.llm_heads,
        config.llm_vocab,
        settings,
        terms,
    )
    return PrefixLLM(llm, tokenizer), log
