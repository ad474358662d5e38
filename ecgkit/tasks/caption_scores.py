"""Captions a model writes of test ECGs, scored against the true ones, and beside a control.

The control is the same captions, each scored against the text of other ECGs (N_SHUFFLES random
derangements): what fluent ECG prose earns without looking. What counts is the distance to it, whose
interval resamples patients for both at once. The paper shows captions, but does not score them.

Scores: BLEU-1 to 4 and ROUGE-L of the findings' text; precision, recall and F1 of the findings that
are named (micro: summed over ECGs). BERTScore where a scorer is given.

Letters: n ECGs, M counts an ECG, R draws.

Usage:

    said = write_captions_of(model, tokenizer, cohort, rows, n_beams=4)
    scored = score_captions(said, [captions.full[r] for r in rows], Lexicon.of(cohort.statements),
                            patients, config)
    scored.table, scored.above              # generated and shuffled; their difference
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ecgkit.features.esi_input import esi_preprocess
from ecgkit.tasks.eval_tables import line, tidy
from ecgkit.tasks.metrics_multilabel import bootstrap_weights, interval
from ecgkit.tasks.named_findings import Lexicon, findings_part
from ecgkit.tasks.text_overlap import N_COUNTS, overlap_counts, overlap_scores
from ecgkit.types import DataError

TASK = "captions"
START = "ECG findings:"  # every protocol needs a first word; these are no finding
N_SHUFFLES = 5


@torch.no_grad()
def write_captions_of(
    model, tokenizer, cohort, rows: np.ndarray, n_beams: int = 1, max_tokens: int = 48,
    start: str = START, batch_size: int = 32,
) -> list[str]:  # fmt: skip
    """Captions of `rows` of a cohort, greedy (1 beam) or by beam search; special tokens removed."""
    model.eval()
    device = next(model.parameters()).device
    opening = tokenizer(start, add_special_tokens=False)["input_ids"]
    begin = torch.tensor([[tokenizer.cls_token_id, *opening]], device=device)
    room = model.unimodal_layers.config.max_position_embeddings - begin.shape[1] - 1
    how = {"n_beams": n_beams} if n_beams > 1 else {}
    said = []
    for i in range(0, len(rows), batch_size):
        signals = esi_preprocess(cohort.store.read(rows[i : i + batch_size]))
        ids = model.generate(torch.from_numpy(signals).to(device), begin.repeat(len(signals), 1),
                             tokenizer.sep_token_id, min(max_tokens, room), **how)  # fmt: skip
        said += tokenizer.batch_decode(ids.cpu(), skip_special_tokens=True)
    return said


@dataclass(frozen=True)
class CaptionScores:
    """`table`: models `generated` and `shuffled`; `above`: generated minus shuffled, paired;
    `each`: one line an ECG (said, true, named and true findings, ROUGE-L).
    """

    table: pd.DataFrame
    above: pd.DataFrame
    each: pd.DataFrame


def score_captions(
    said: Sequence[str], true: Sequence[str], lexicon: Lexicon, patients: np.ndarray, config,
    bert=None,
) -> CaptionScores:  # fmt: skip
    """Scores `said` against `true` captions (their findings' parts) and against other ECGs'.

    `bert`, a `text.bertscore.BertScorer`, adds BERTScore (mean over ECGs).
    Raises DataError for fewer than two ECGs: a control needs another one's text.
    """
    if len(said) < 2:
        raise DataError(f"{len(said)} captions to score; the control needs at least 2 ECGs.")
    said, true = ([findings_part(text) for text in texts] for texts in (said, true))
    named, present = ([lexicon.named(text) for text in texts] for texts in (said, true))
    own = _counts(said, true, named, present, bert)
    other = np.mean([
        _counts(said, _dealt(true, order), named, _dealt(present, order), bert)
        for order in derangements(len(said), N_SHUFFLES, config.seed)
    ], axis=0)  # fmt: skip
    weights = bootstrap_weights(len(said), patients, config.n_boot, config.seed)
    lines, above = _lines(own, other, weights)
    each = pd.DataFrame({"said": said, "true": true, "named": [sorted(x) for x in named],
                         "present": [sorted(x) for x in present],
                         "rouge_l": own[:, N_COUNTS - 2]})  # fmt: skip
    return CaptionScores(tidy(lines), tidy(above), each)


def _counts(said, true, named, present, bert) -> np.ndarray:
    """(n, M): overlap of texts; findings right, named, present; BERTScore's three, where given."""
    findings = [(len(a & b), len(a), len(b)) for a, b in zip(named, present)]
    parts = [overlap_counts(said, true), np.array(findings, dtype=float)]
    if bert is not None:
        scores = bert.score(said, true)
        parts.append(np.stack([scores.precision, scores.recall, scores.f1], axis=1))
    return np.concatenate(parts, axis=1)


def scores_of(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Summed counts (..., M) -> every score (...)."""
    right, named, present = np.moveaxis(sums[..., N_COUNTS : N_COUNTS + 3], -1, 0)
    found = {"finding precision": _share(right, named), "finding recall": _share(right, present),
             "finding F1": _share(2 * right, named + present)}  # fmt: skip
    n, rest = sums[..., N_COUNTS - 1], sums[..., N_COUNTS + 3 :]
    bert = {f"BERTScore {name}": rest[..., i] / n
            for i, name in enumerate(("precision", "recall", "F1")[: rest.shape[-1]])}  # fmt: skip
    return overlap_scores(sums) | found | bert


def _share(part, whole):
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _lines(own: np.ndarray, other: np.ndarray, weights: np.ndarray) -> tuple[list, list]:
    """Lines of both, and of their difference under the same draws of patients."""
    values = [scores_of(x.sum(0)) for x in (own, other)]
    draws = [scores_of(weights @ x) for x in (own, other)]
    lines, above, n = [], [], len(own)
    note = f"against the text of other ECGs, {N_SHUFFLES} times"
    for metric in values[0]:
        for i, (model, said) in enumerate((("generated", ""), ("shuffled", note))):
            value = interval(values[i][metric], draws[i][metric])
            lines.append(line(model, TASK, metric, *value, n=n, note=said))
        gap = interval(values[0][metric] - values[1][metric], draws[0][metric] - draws[1][metric])
        above.append(line("generated - shuffled", TASK, metric, *gap, n=n))
    return lines, above


def derangements(n: int, times: int, seed: int = 0) -> list[np.ndarray]:
    """Random orders (n,) in which nobody keeps the own place: a random cycle each."""
    rng, orders = np.random.default_rng([seed, 8]), []
    for _ in range(times):
        cycle = rng.permutation(n)
        order = np.empty(n, dtype=int)
        order[cycle] = np.roll(cycle, 1)
        orders.append(order)
    return orders


def _dealt(items: Sequence, order: np.ndarray) -> list:
    return [items[i] for i in order]
