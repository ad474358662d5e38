"""What the few-shot study needs before it can begin: the questions it is about, who may be asked
when, a language model.

Attributes are divided into those of meta-training ("seen") and those kept for testing ("unseen").
Where the data allow, records are divided too: meta-training draws from ECG-QA's training split,
every test episode from its other splits.

Usage:
    questions = focus(questions, config)
    parts = open_parts(questions, config)    # samplers: parts.train, parts.seen, parts.unseen
    reader, llm_log = open_reader(questions, cohort, config)
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from ecgkit.data.episodes import EpisodeSampler, sound_keys
from ecgkit.models.llm_loading import load_llm
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.tasks.engine import TrainLog, TrainSettings
from ecgkit.tasks.llm_pretrain import pretrain_llm, question_lines
from ecgkit.types import DataError


def focus(questions, config):
    """The questions of `config.question_type` and `config.attribute_type`, in the same order.

    Where none is about that attribute type (the published excerpt has noise only) all types are
    taken, and a line says so. Raises DataError when there is no question of that type at all.
    """
    table = questions.table
    right = (table["question_type"] == config.question_type).to_numpy()
    if not right.any():
        raise DataError(
            f"There is no {config.question_type} question about these ECGs; choose another "
            "QUESTION_TYPE or give "
            "more of ECG-QA."
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


# --- episodes -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Parts:
    """Samplers of meta-training and of test episodes on seen and unseen attributes; `how` says how
    they are divided.
    """

    train: EpisodeSampler
    seen: EpisodeSampler
    unseen: EpisodeSampler
    how: str

    def table(self) -> pd.DataFrame:
        """One row per part: attributes, classes, questions to draw from."""
        rows = [
            (name, len(s.units), len(s.classes), sum(map(len, s.classes.values())))
            for name, s in (
                ("meta-training", self.train),
                ("test, seen attributes", self.seen),
                ("test, unseen attributes", self.unseen),
            )
        ]
        return pd.DataFrame(rows, columns=["part", "attributes", "classes", "questions"])


# What may be mended when data are few, first choice first: (new ECGs at test, new attributes at
# test).
_DIVISIONS = ((True, True), (False, True), (True, False), (False, False))


def open_parts(questions, config) -> Parts:
    """Divides attributes and records as strictly as the data allow, and says what it had to give
    up.

    Raises DataError when not even one pooled episode can be drawn.
    """
    units = pd.Series(
        [
            _unit(*row)
            for row in questions.table[
                ["template_id", "question_id", "attribute_type", "attribute", "answer"]
            ].itertuples(index=False)
        ]
    )
    problem = None
    for new_records, new_attributes in _DIVISIONS:
        try:
            return _divide(questions, config, units, new_records, new_attributes)
        except DataError as error:
            problem = problem or error
    raise problem


def _divide(questions, config, units: pd.Series, new_records: bool, new_attributes: bool) -> Parts:
    split = questions.table["split"]
    learn = split == "train" if new_records else split.notna()
    test = split != "train" if new_records else split.notna()
    both = _sampler(questions, config, learn).units & _sampler(questions, config, test).units
    if new_attributes:
        seen, unseen = _split_units(sorted(both), config)
    else:
        seen = unseen = both
    samplers = [
        _sampler(questions, config, rows & units.isin(chosen), number)
        for number, (rows, chosen) in enumerate(((learn, seen), (test, seen), (test, unseen)))
    ]
    return Parts(*samplers, _in_words(new_records, new_attributes))


def _split_units(units: list[str], config) -> tuple[set[str], set[str]]:
    if len(units) < 2:
        raise DataError(
            f"Only {len(units)} attribute has enough questions, so none is left to be unseen; "
            "give more data or "
            "lower K_SHOT and N_QUERY."
        )
    n_seen = min(max(round(config.train_fraction * len(units)), 1), len(units) - 1)
    order = np.random.default_rng(config.split_seed).permutation(units).tolist()
    return set(order[:n_seen]), set(order[n_seen:])


def _sampler(questions, config, rows, number: int = 0) -> EpisodeSampler:
    """A sampler over `rows` alone. Positions keep pointing into `questions.table`: other rows
    change their split.
    """
    table = questions.table.assign(split=np.where(rows, "drawn", "not drawn"))
    return EpisodeSampler(
        dataclasses.replace(questions, table=table),
        config.question_type,
        config.n_way,
        config.k_shot,
        config.n_query,
        10 * config.split_seed + number,
        "train",
        "sound",
        split_by="none",
        same_attribute=config.same_question,
        splits=("drawn",),
    )


def _unit(template_id, question_id, attribute_type, attribute, answer) -> str | None:
    keys = sound_keys(template_id, question_id, attribute_type, attribute, answer)
    return keys[0].unit if keys else None


def _in_words(new_records: bool, new_attributes: bool) -> str:
    records = (
        "Test episodes draw on ECGs outside the training split."
        if new_records
        else "Too few questions to keep ECGs apart: training and test episodes share them."
    )
    attributes = (
        "Unseen attributes never stand in a meta-training episode."
        if new_attributes
        else "Too few attributes to keep some unseen: here 'unseen' means new episodes only."
    )
    return f"{attributes} {records}"


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
