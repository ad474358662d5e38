"""One-shot identification: whose ECG is this? One half of a recording enrols a subject, the other
half asks.

Half-record protocol of the ESI paper (its table 4): each subject gives two stretches of 5 s from
one 10-s recording; N subjects make an N-way question. Both halves are of one session, minutes of
electrodes and position included, so this measures how stable an embedding is within a recording. It
is no biometric verification, which needs another day. Encoders trained on 10 s are asked about 5 s:
pooling over time allows it, yet a norm over time (the published code's) depends on the length.

Three readers: nearest neighbour by cosine (nothing is trained), a linear head on the frozen
embeddings of the enrolment halves, and fine-tuning of all weights. What is trained sees enrolment
halves only: whole, and moved in time (each starts at a random moment, its end joined to its
beginning), which keeps their length. Tests are scored as they are. Intervals resample subjects; the
number of ways stays N in every draw.

Letters: N subjects, C leads, T samples, E width of an embedding, V versions of an enrolment half.

Usage:

    rows = pick_subjects(cohort, n=0)                       # one ECG a patient of the test split
    halves = read_halves(cohort.store, rows)
    table = table_of("ESI", read_all(encoder, halves, config), config)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ecgkit.config import short_hash
from ecgkit.features.augment import segments, shift_time
from ecgkit.tasks.ecg_features import encoder_hash
from ecgkit.tasks.embeddings import EcgEncoder
from ecgkit.tasks.engine import fit
from ecgkit.tasks.eval_tables import line, tidy
from ecgkit.tasks.finetune import headed, train_settings
from ecgkit.tasks.metrics import bootstrap_mean
from ecgkit.types import DataError

TASK = "identification"
N_VERSIONS = 8  # of each enrolment half: itself, and moved in time
HEAD_DECAY = 1e-2


@dataclass(frozen=True)
class Halves:
    """enrol, test (N, C, T / 2) mV: the first and the second half of each subject's recording."""

    enrol: np.ndarray
    test: np.ndarray
    ids: list

    def __len__(self) -> int:
        return len(self.enrol)

    def take(self, keep: np.ndarray) -> Halves:
        """The subjects that `keep` (N,) bool marks."""
        ids = [i for i, k in zip(self.ids, keep) if k]
        return Halves(self.enrol[keep], self.test[keep], ids)


def pick_subjects(
    cohort, n: int = 0, splits: tuple[str, ...] = ("test",), seed: int = 0
) -> np.ndarray:
    """Rows (sorted) of one ECG for each of `n` patients of the splits (0 = all): the first each
    has. `n` above their number takes all. Raises DataError for fewer than two.
    """
    rows = np.sort(np.concatenate([cohort.rows(split) for split in splits]))
    people = pd.Series(cohort.table["patient_id"].to_numpy()[rows])
    rows = rows[~people.duplicated().to_numpy()]
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} subjects in {' and '.join(splits)}; identification needs at least 2. "
            "Give more ECGs."
        )
    if n and n < len(rows):
        rows = np.sort(np.random.default_rng([seed, 6]).choice(rows, n, replace=False))
    return rows


def read_halves(store, rows: np.ndarray, ids=None) -> Halves:
    """The two halves of each ECG in `rows`; `ids` name the subjects (default: the rows)."""
    both = segments(store.read(rows), 2)  # (N, 2, C, T / 2)
    return Halves(both[:, 0].copy(), both[:, 1].copy(), list(rows if ids is None else ids))


# --- readers: each gives (N tests, N subjects) scores ---------------------------------------------


def cosine_scores(enrol: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(N, E), (N, E) -> (N, N) cosines of test i with enrolment j, both standardised by the
    enrolment halves (raw embeddings all point one way).
    """
    enrol, test = standardised(enrol, enrol, test)
    enrol, test = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
                   for x in (enrol, test))  # fmt: skip
    return test @ enrol.T


def standardised(reference: np.ndarray, *parts: np.ndarray) -> list[np.ndarray]:
    """Each part with the mean and deviation of `reference` taken off; constant columns become 0."""
    mean, std = reference.mean(0), reference.std(0)
    return [(x - mean) / np.where(std > 1e-6, std, np.inf) for x in parts]


def linear_scores(
    enrol: np.ndarray, subject: np.ndarray, test: np.ndarray, decay: float = HEAD_DECAY,
    seed: int = 0, n_steps: int = 150,
) -> np.ndarray:  # fmt: skip
    """Softmax head on enrolment embeddings (N V, E) of `subject` (N V,) -> (N, N) of test, logs of
    probabilities.

    Full-batch AdamW from a seeded start; all subjects at once, so that 1,900 ways stay seconds.
    """
    enrol, test = standardised(enrol, enrol, test)
    x, y = torch.from_numpy(enrol).float(), torch.from_numpy(subject).long()
    torch.manual_seed(seed)
    head = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.02, weight_decay=decay)
    for _ in range(n_steps):
        optimiser.zero_grad()
        F.cross_entropy(head(x), y).backward()
        optimiser.step()
    with torch.no_grad():
        return head(torch.from_numpy(test).float()).log_softmax(1).numpy()


def versions(encoder: EcgEncoder, enrol: np.ndarray, n: int, seed: int):
    """Embeddings (N n, E) of the enrolment halves, whole and n - 1 times moved in time, and whose
    they are (N n,).
    """
    rng = np.random.default_rng([seed, 7])
    made = [enrol] + [shift_time(enrol, rng) for _ in range(n - 1)]
    features = np.concatenate([encoder.of_signals(x) for x in made])
    return features, np.tile(np.arange(len(enrol)), n)


def finetuned_scores(
    encoder: EcgEncoder, store, halves: Halves, config, folder: str | Path, seed: int = 0
) -> np.ndarray:
    """All weights trained to tell the enrolment halves apart -> (N, N) of the tests, logs of
    probabilities.

    The last weights are kept: there is no third stretch to choose better ones by.
    """
    model = headed(encoder, store, len(halves), seed, halves.enrol.shape[-1])
    settings = train_settings(config, len(halves), config.finetune_steps, config.finetune_lr, seed)

    def make_batch(index, rng):
        signal = encoder.signal(shift_time(halves.enrol[index], rng))
        return {"ecg": signal, "subject": torch.from_numpy(np.asarray(index))}

    def loss_fn(module, batch):
        logits = module(batch["ecg"])["logits"].float()
        return {"loss": F.cross_entropy(logits, batch["subject"])}

    key = short_hash([store.key, [str(i) for i in halves.ids], encoder_hash(encoder.module)])
    fit(model, len(halves), make_batch, loss_fn, settings, folder, fingerprint=key)
    device = next(model.parameters()).device
    with torch.no_grad():
        parts = [model(encoder.signal(halves.test[i : i + 128]).to(device))["logits"]
                 for i in range(0, len(halves), 128)]  # fmt: skip
    return torch.cat(parts).float().log_softmax(1).cpu().numpy()


# --- scores ---------------------------------------------------------------------------------------


def own_rank_shares(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, N) scores of test i for subject j -> per subject (N,): hit, one-versus-rest AUC.

    hit: the share of a right first answer, 1 / m among m equal best. AUC of subject j: how often
    its own test scores higher for j than another's does, ties half.
    """
    n, own = len(scores), np.diag(scores)
    best = scores.max(1)
    hit = np.where(own >= best, 1 / (scores == best[:, None]).sum(1), 0.0)
    below = (scores < own).sum(0) + 0.5 * ((scores == own).sum(0) - 1)  # column j: tests for j
    return hit, below / max(n - 1, 1)


def own_places(scores: np.ndarray) -> np.ndarray:
    """(N,) place of the own subject among all, for each test half: 1 = nearest, ties half."""
    own = np.diag(scores)[:, None]
    return 1 + (scores > own).sum(1) + 0.5 * ((scores == own).sum(1) - 1)


def identification_lines(
    name: str, scores: list[np.ndarray], n_boot: int = 300, seed: int = 0, note: str = ""
) -> list[dict]:
    """Top-1 accuracy and one-versus-rest macro AUC over subjects, each seed's scores (N, N)."""
    n, lines = len(scores[0]), []
    parts = np.array([own_rank_shares(s) for s in scores])  # (seeds, 2, N)
    for k, metric in enumerate(("top-1 accuracy", "macro AUC")):
        value, low, high = bootstrap_mean(parts[:, k].mean(0), None, n_boot, seed)
        each = parts[:, k].mean(1)
        sd = float(np.std(each, ddof=1)) if len(each) > 1 else float("nan")
        lines.append(line(name, TASK, metric, value, low, high, sd, n, note))
    return lines


def chance_lines(n: int) -> list[dict]:
    """What guessing gives among `n` subjects."""
    note = f"{n}-way guess"
    return [line("chance", TASK, "top-1 accuracy", 1 / n, n=n, note=note),
            line("chance", TASK, "macro AUC", 0.5, n=n, note=note)]  # fmt: skip


@dataclass(frozen=True)
class Read:
    """`scores`: reader -> one (N, N) a seed, of the `n` subjects with finite embeddings; `note`."""

    scores: dict[str, list[np.ndarray]]
    n: int
    note: str


def read_all(
    encoder: EcgEncoder, halves: Halves, config, store=None, folder: str | Path | None = None,
    n_versions: int = N_VERSIONS,
) -> Read:  # fmt: skip
    """Nearest neighbour, linear head over `config.n_seeds` seeds, and, with a `folder` and
    FINETUNE_STEPS, fine-tuning.

    A subject whose halves have no finite embedding is left out and named. Raises DataError for
    fewer than two subjects.
    """
    enrol, test = encoder.of_signals(halves.enrol), encoder.of_signals(halves.test)
    good = np.isfinite(enrol).all(1) & np.isfinite(test).all(1)
    left_out = [str(i) for i, fine in zip(halves.ids, good) if not fine]
    note = f"Left out, embedding not finite: {', '.join(left_out[:5])}." if left_out else ""
    if good.sum() < 2:
        raise DataError(f"{int(good.sum())} subjects with finite embeddings; give at least 2.")
    halves, enrol, test = halves.take(good), enrol[good], test[good]
    linear, tuned = [], []
    for s in range(config.seed, config.seed + config.n_seeds):
        features, subject = versions(encoder, halves.enrol, n_versions, s)
        linear.append(linear_scores(features, subject, test, seed=s))
        if folder and store is not None and config.finetune_steps:
            tuned.append(finetuned_scores(encoder, store, halves, config,
                                          Path(folder) / f"seed{s}", s))  # fmt: skip
    readers = {"nearest neighbour": [cosine_scores(enrol, test)], "linear head": linear,
               "fine-tuned": tuned}  # fmt: skip
    return Read({name: scores for name, scores in readers.items() if scores}, len(halves), note)


def table_of(name: str, read: Read, config) -> pd.DataFrame:
    """Chance, then each reader's lines, as a tidy table."""
    lines = chance_lines(read.n)
    for reader, scores in read.scores.items():
        lines += identification_lines(f"{name}, {reader}", scores, config.n_boot, config.seed,
                                      read.note)  # fmt: skip
    return tidy(lines)
