"""Samplers of meta-training and meta-test, divided as strictly as the data allow.

Attributes are divided by `episode_split`; patients by ECG-QA's own split, or else by halves. What
had to be given up is said in a sentence. Under `reference`, everything is pooled as published.

Usage:

    samplers, split = open_samplers(questions, config)             # train, seen, unseen
    samplers, split = open_samplers(questions, config, test_questions)      # another source's
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.episode_split import EpisodeSplit, divide, fingerprint, read_split
from ecgkit.data.episodes import EPISODE_QUIRKS, EpisodeSampler
from ecgkit.types import DataError

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
_FAMILIES = "Near-synonyms stand on one side."

Samplers = tuple[EpisodeSampler, EpisodeSampler, EpisodeSampler]


def open_samplers(
    questions, config, test_questions=None, split: EpisodeSplit | None = None
) -> tuple[Samplers, EpisodeSplit]:
    """(train, seen, unseen) and their division; the arguments are those of `open_parts`."""
    both = (questions,) if test_questions is None else (questions, test_questions)
    if split is None and config.split_file:
        split = read_split(config.split_file, *both)
    if split is not None:
        return _Opening(questions, config, test_questions, split.records).samplers(split), split
    problem = None
    for records, new_attributes in _choices(config, test_questions):
        opening = _Opening(questions, config, test_questions, records)
        try:
            made = opening.divide(new_attributes)
            return opening.samplers(made), made
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
            families = by == "attribute" and config.keep_families
            seen, unseen = divide(*pools, config.train_fraction, config.split_seed, families)
        lost = {p.kind for p in train.pools} - {p.kind for p in test.pools}
        lost = [f"No {kind} episode can be drawn at test." for kind in sorted(lost)]
        both = (self.questions, self.test_questions)
        return EpisodeSplit(
            tuple(sorted(seen)), tuple(sorted(unseen)), config.split_seed, config.protocol,
            by, config.question_type, self.records,
            fingerprint(*(both if both[0] is not both[1] else both[:1])),
            " ".join((_in_words(seen, unseen, test_units, by, _split_by(config)),
                      *([_FAMILIES] if by == "attribute" and config.keep_families else []),
                      *lost, _RECORDS[self.records])),
        )  # fmt: skip

    def samplers(self, split: EpisodeSplit) -> Samplers:
        by = split.split_by
        return tuple(self.sampler(part, by, split) for part in ("train", "seen", "test"))

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


def _in_words(seen: set, unseen: set, test_units: set, by: str, asked: str) -> str:
    if asked == "none":
        return "Attributes are not divided: 'unseen' means new episodes only."
    if by == "none":
        return "Too few attributes to keep some unseen: here 'unseen' means new episodes only."
    things = "classes" if by == "class" else "attributes"
    n = len(seen) + len(unseen)
    return (
        f"Unseen {things} never stand in a meta-training episode: {len(unseen)} of {n} "
        f"({100 * len(unseen) / n:.0f} %) are kept for the test, chosen question by question so "
        f"that both sides can be asked; {len(test_units & seen)} of the others can be asked at "
        "test too."
    )
