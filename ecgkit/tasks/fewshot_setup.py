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

import pandas as pd

from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.episode_classes import KINDS
from ecgkit.data.episode_parts import open_samplers
from ecgkit.data.episode_split import EpisodeSplit
from ecgkit.data.episodes import EpisodeSampler
from ecgkit.models.llm_loading import load_llm
from ecgkit.models.lora import add_lora
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.tasks.engine import TrainLog, TrainSettings
from ecgkit.tasks.llm_pretrain import pretrain_llm, question_lines
from ecgkit.tasks.metrics import bootstrap_mean
from ecgkit.types import DataError


def focus(questions, config, question_type: str | None = None):
    """The questions of `question_type` (None: that of `config`) and `config.attribute_type`, in the
    same order.

    Where none is about that attribute type (the published excerpt has noise only) all types are
    taken, and a line says so. Raises DataError when there is no question of that type at all.
    """
    table = questions.table
    question_type = question_type or config.question_type
    kinds = KINDS if question_type == "all" else (question_type,)
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
            f"No {question_type} question is about {config.attribute_type}; taking those "
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


def open_parts(questions, config, test_questions=None, split: EpisodeSplit | None = None) -> Parts:
    """Divides attributes and patients as strictly as the data allow, and says what it had to give
    up (under reference: as published, and as `config.active_quirks` say).

    test_questions: of another source, for the test episodes. split: a division made before;
    `config.split_file` names a saved one. Raises DataError when not even one pooled episode can be
    drawn, and for a saved division of other questions.
    """
    samplers, split = open_samplers(questions, config, test_questions, split)
    return Parts(*samplers, split)


# --- the language model ---------------------------------------------------------------------------


def open_reader(questions, cohort, config) -> tuple[PrefixLLM, TrainLog | None]:
    """The frozen language model with its text layout, and the log of its training (None for a given
    model).

    `config.llm` names a hub model or a folder; empty, the small Llama is trained on the training
    split's text about all types of `questions`, or loaded from the cache when text and settings are
    those of an earlier training.
    """
    if config.llm:
        tokenizer, llm = load_llm(config.llm, config.llm_dtype, config.device, config.llm_4bit)
        return _reader(tokenizer, llm, config), None
    n_lines = config.llm_steps * config.llm_batch
    asked = focus(questions, config, "all")
    types = [kind for kind in KINDS if (asked.table["question_type"] == kind).any()]
    lines, held_out, terms = question_lines(asked, cohort, types, n_lines, config.seed)
    settings = TrainSettings(
        n_steps=config.llm_steps, batch_size=config.llm_batch, lr=config.llm_lr, seed=config.seed,
        log_every=max(1, config.llm_steps // 30), device=config.device, precision=config.precision,
    )  # fmt: skip
    sizes = (config.llm_width, config.llm_layers, config.llm_heads, config.llm_vocab)
    tokenizer, llm, log = pretrain_llm(lines, held_out, *sizes, settings, terms)
    return _reader(tokenizer, llm, config), log


def _reader(tokenizer, llm, config) -> PrefixLLM:
    """With LoRA adapters for FROZEN_LM=False."""
    llm = llm if config.frozen_lm else add_lora(llm, config.lora_rank)
    return PrefixLLM(llm, tokenizer, prompt=config.prompt, prefix_first=config.prefix_first)
