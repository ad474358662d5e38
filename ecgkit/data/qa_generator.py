"""Writes questions about a cohort in the files and schema of ECG-QA, from its PTB-XL-style table.

For the simulated cohort, and for real PTB-XL when no ECG-QA is at hand. All seven question types,
six attribute types and 70 templates, each as far as the data can answer it: measurements need a
truth table, leads of a finding truth or reports. Folds 1-8 / 9 / 10 are train / valid / test.
`template` and `paraphrased` hold the same samples; only `question` differs.

Usage:

    folder = generated_folder(cohort, seed=7)     # written once under the cache, then reused
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config.base import short_hash
from ecgkit.data.qa_asks import pair_asks, single_asks
from ecgkit.data.qa_columns import ecg_numbers
from ecgkit.data.qa_draw import Ask, share_out
from ecgkit.data.qa_facts import Facts, read_facts
from ecgkit.data.qa_templates import TEMPLATES
from ecgkit.data.qa_vocabulary import answer_classes
from ecgkit.types import DataError

SHARD = 10_000
PER_ECG = 20.0  # questions per ECG, before rare attributes run out; the published PTB-XL set has 26
FREQUENCY = 0.7  # 0: every attribute is asked about as often, 1: in proportion to who has it
SHARE = {
    "single-verify": 0.40, "single-choose": 0.14, "single-query": 0.18,
    "comparison_consecutive-verify": 0.06, "comparison_consecutive-query": 0.04,
    "comparison_irrelevant-verify": 0.10, "comparison_irrelevant-query": 0.08,
}  # fmt: skip
# Of the questions of its type, the part a template gets; 1 where nothing is said.
WEIGHT = {
    1: 26, 12: 0.6, 13: 0.6, 14: 0.6, 15: 0.6, 16: 0.6, 17: 4, 20: 2, 23: 1.5, 26: 2, 27: 2,
    29: 0.8, 35: 0.8, 36: 2, 39: 4,
    4: 3, 5: 3, 6: 2.5, 7: 2.5, 31: 0.8, 40: 2,
    8: 4, 9: 4, 10: 3, 11: 3, 22: 2, 25: 1.5, 32: 1.5, 33: 1.2, 41: 3, 42: 1.5,
}  # fmt: skip
FOLDS = {"train": range(1, 9), "valid": (9,), "test": (10,)}
_PAIRS_PER_ECG, _MOST_PAIRS = 6, 60_000


def generated_folder(cohort, seed: int = 0) -> Path:
    """The folder of generated questions about `cohort`, written now if it is not in the cache."""
    ids = cohort.table["ecg_id"].tolist()
    key = short_hash([cohort.fingerprint, seed, ids, *(f.read_text() for f in _own_code())])
    return runtime.write_once(
        runtime.cache_dir() / f"ecgqa-{key}",
        lambda scratch: write_questions(scratch, cohort.table, cohort.truth, seed),
    )


def _own_code() -> list[Path]:
    """The files that decide what is asked: new code, new questions."""
    here = Path(__file__).parent
    parts = (
        "asks", "draw", "facts", "generator", "leads", "templates", "templates_pairs",
        "templates_signal", "templates_single", "vocabulary",
    )  # fmt: skip
    return [here / f"qa_{part}.py" for part in parts]


def write_questions(
    folder: Path,
    table: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    seed: int = 0,
    per_ecg: float = PER_ECG,
) -> Path:
    """Writes `folder`/ecgqa/ptbxl as ECG-QA lays it out; returns that path.

    table: PTB-XL columns with `scp_codes` as dicts and `fold`; truth: aligned with it, or None.
    ECGs that have names are referred to by their line (see `ecg_numbers`).
    per_ecg: questions per ECG aimed at (the published PTB-XL set has 26).
    """
    root = Path(folder) / "ecgqa" / "ptbxl"
    root.mkdir(parents=True)
    facts = read_facts(table, truth)
    drawn = {}
    for number, split in enumerate(FOLDS):
        rng = np.random.default_rng((seed, number))
        drawn[split] = _draw_split(facts, table, split, rng, per_ecg)
    if not any(drawn.values()):
        raise DataError(
            f"No question can be written about these {len(table)} ECGs: no two of a split answer "
            "one differently; give more ECGs (with SCP or SNOMED CT codes), or ECGQA."
        )
    numbers = _question_ids(drawn)
    for split, samples in drawn.items():
        _write_split(root, split, samples, numbers, ecg_numbers(table))
    _write_answers(root)
    return root


# --- drawing --------------------------------------------------------------------------------------


def _draw_split(facts: Facts, table: pd.DataFrame, split: str, rng, per_ecg: float) -> list[tuple]:
    """[(ask, answer, rows, wording number)] of one split, by template and question."""
    rows = np.flatnonzero(table["fold"].isin(FOLDS[split]).to_numpy())
    if not len(rows):
        return []
    asks = single_asks(facts, rows)
    asks += pair_asks(facts, consecutive_pairs(table, rows), "consecutive")
    asks += pair_asks(facts, irrelevant_pairs(table, rows, rng), "irrelevant")
    samples = []
    for question_type, share in SHARE.items():
        of_type = [a for a in asks if TEMPLATES[a.template_id].question_type == question_type]
        of_type.sort(key=lambda ask: ask.key)
        for ask, count in _share(of_type, round(per_ecg * share * len(rows))):
            samples += _with_wording(ask, count, rng)
    return sorted(samples, key=lambda sample: sample[0].key)


def _share(asks: list[Ask], total: int) -> list[tuple[Ask, int]]:
    """How many of `total` questions each ask gets: first by template, then evenly within it."""
    templates = sorted({ask.template_id for ask in asks})
    members = [[ask for ask in asks if ask.template_id == number] for number in templates]
    counts = share_out(
        [sum(ask.capacity for ask in some) for some in members],
        [WEIGHT.get(number, 1) for number in templates],
        total,
    )
    shared = []
    for some, count in zip(members, counts):
        each = share_out([ask.capacity for ask in some], [_worth(ask) for ask in some], count)
        shared += zip(some, each)
    return shared


def _worth(ask: Ask) -> float:
    """What is found often is asked about more often: ECGs with the second most frequent answer (of
    a verify question mostly those with "yes"), to the power FREQUENCY.
    """
    sizes = sorted(len(rows) for _, rows in ask.groups)
    return float(max(sizes[-2] if len(sizes) > 1 else sizes[-1], 1)) ** FREQUENCY


def _with_wording(ask: Ask, count: int, rng) -> list[tuple]:
    """Draws `count` samples; the paraphrase is picked without a look at the answer."""
    drawn = ask.draw(count, rng)
    n_wordings = len(TEMPLATES[ask.template_id].wordings)
    picked = rng.integers(1, n_wordings, len(drawn)).tolist()
    return [(ask, answer, rows, w) for (answer, rows), w in zip(drawn, picked)]


def consecutive_pairs(table: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """(P, 2) rows: each ECG of `rows` with the next one of the same patient."""
    columns = [c for c in ("patient_id", "recording_date", "ecg_id") if c in table]
    ordered = table.iloc[rows][columns].assign(row=rows).sort_values(columns, kind="stable")
    patient, row = ordered["patient_id"].to_numpy(), ordered["row"].to_numpy()
    same = patient[1:] == patient[:-1]
    return np.stack([row[:-1][same], row[1:][same]], axis=1)


def irrelevant_pairs(table: pd.DataFrame, rows: np.ndarray, rng) -> np.ndarray:
    """(P, 2) rows of two patients each, drawn at random, no pair twice."""
    n_pairs = min(_PAIRS_PER_ECG * len(rows), _MOST_PAIRS)
    pairs = rows[rng.integers(0, len(rows), (n_pairs, 2))]
    patient = table["patient_id"].to_numpy()[pairs]
    pairs = np.unique(pairs[patient[:, 0] != patient[:, 1]], axis=0)
    return pairs[rng.permutation(len(pairs))]


# --- writing --------------------------------------------------------------------------------------


def _question_ids(drawn: dict[str, list[tuple]]) -> dict[tuple, int]:
    """Ask key -> question_id: one number for a question in all splits and wordings."""
    keys = sorted({sample[0].key for samples in drawn.values() for sample in samples})
    return {key: number for number, key in enumerate(keys, 1)}


def _write_split(root: Path, split: str, samples: list[tuple], numbers: dict, ids) -> None:
    ecgs: set[int] = set()
    for flavour in ("template", "paraphrased"):
        (root / flavour / split).mkdir(parents=True)
        for start in range(0, len(samples), SHARD):
            shard = [
                _sample(start + i, *sample, numbers, ids, flavour)
                for i, sample in enumerate(samples[start : start + SHARD])
            ]
            (root / flavour / split / f"{start:05d}.json").write_text(json.dumps(shard))
            ecgs.update(ecg for sample in shard for ecg in sample["ecg_id"])
    lines = [f"{i}\t{ecg}\n" for i, ecg in enumerate(sorted(ecgs))]
    (root / f"{split}_ecgs.tsv").write_text("".join(lines))


def _sample(sample_id: int, ask: Ask, answer, rows, wording: int, numbers, ids, flavour) -> dict:
    """One sample in the published schema."""
    template = TEMPLATES[ask.template_id]
    text = template.wordings[0 if flavour == "template" else wording]
    return {
        "template_id": ask.template_id,
        "question_id": numbers[ask.key],
        "sample_id": sample_id,
        "question_type": template.question_type,
        "attribute_type": template.attribute_type,
        "question": text.format(**ask.slots),
        "answer": list(answer),
        "ecg_id": [int(ids[row]) for row in rows],
        "attribute": ask.attribute,
    }


def _write_answers(root: Path) -> None:
    """answers.csv and answers_for_each_template.csv as published: lists as Python literals."""
    with open(root / "answers.csv", "w", newline="") as file:
        csv.writer(file).writerows([("index", "class"), *enumerate(answer_classes())])
    lists = [(number, str(list(template.answers))) for number, template in TEMPLATES.items()]
    with open(root / "answers_for_each_template.csv", "w", newline="") as file:
        csv.writer(file).writerows([("template_id", "classes"), *lists])
