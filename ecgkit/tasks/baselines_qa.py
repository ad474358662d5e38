"""ECG-QA baselines: the ECG + text fusion transformer beside a text-only one and two majorities.

Both transformers get the same steps, the same batches, and the same learning-rate search on the
valid split; the test split is scored once, at the end. A question is right only if every answer its
template allows is predicted right (exact match). Source: Oh et al. 2023 (ECG-QA) section 5.

Letters: B batch, C leads, T samples, L tokens, N questions, K answers.

Usage:
    data = prepare(config, cohort, questions)
    fused = train_qa(config, data, "fusion", run.folder / "fusion", start_from=ecg_classifier)
    blind = train_qa(config, data, "blind", run.folder / "blind")
    scores = predict(fused.model, data, questions.index("test"))             # (n, K) probabilities
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit.config import short_hash
from ecgkit.models.fusion_qa import (
    BlindQA,
    FusionConfig,
    FusionQA,
    question_to_ecg_attention,
)
from ecgkit.models.losses_qa import answer_bce
from ecgkit.tasks import metrics
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.upperbound import set_prior, transformer_config
from ecgkit.text.question_cache import Tokens, open_tokens
from ecgkit.text.question_tokenizer import question_tokenizer
from ecgkit.types import DataError


@dataclass(frozen=True)
class QAData:
    """Questions ready for batches: their tokens, read when asked for, and the rows of their ECGs
    (N,), -1 = none.
    """

    store: object
    questions: object
    tokenizer: object
    tokens: Tokens
    row1: np.ndarray
    row2: np.ndarray
    fingerprint: str

    def batch(self, positions: np.ndarray, with_ecg: bool = True) -> dict[str, torch.Tensor]:
        """Tensors of the questions at `positions`; text is cut to their longest.

        text (B, L), text_padding_mask (B, L), labels (B, K), valid (B, K); with ECGs: ecg (B, C, T)
        and, where any question has a second one, ecg_2 (B, C, T) with ecg_2_padding_mask (B, T).
        """
        ids, padding = self.tokens.read(positions)
        out = {"text": ids,
               "text_padding_mask": padding,
               "labels": self.questions.labels(positions),
               "valid": self.questions.valid_mask(positions)}
        if with_ecg:
            out |= self._ecgs(positions)
        return {name: torch.from_numpy(array) for name, array in out.items()}

    def _ecgs(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        first, second = self.store.read(self.row1[positions]), self.row2[positions]
        there = second >= 0
        if not there.any():
            return {"ecg": first}
        ecg_2 = np.zeros_like(first)
        ecg_2[there] = self.store.read(second[there])
        absent = np.repeat(~there[:, None], first.shape[-1], axis=1)
        return {"ecg": first, "ecg_2": ecg_2, "ecg_2_padding_mask": absent}

    def same_arity(self, positions: np.ndarray, pool: np.ndarray, rng, pair_share: float = -1.0):
        """Replaces questions so that all have one ECG, or all have two, by random ones of `pool`.

        A batch then spends no time on absent second ECGs. Two-ECG batches come as often as the
        questions occur, or in `pair_share` (0 to 1) of all batches.
        """
        pairs = self.row2[pool] >= 0
        pair = self.row2[positions[0]] >= 0 if pair_share < 0 else rng.random() < pair_share
        pair = bool(pair) if pairs.any() and not pairs.all() else bool(pairs.any())
        odd = (self.row2[positions] >= 0) != pair
        if not odd.any():
            return positions
        return np.where(odd, rng.choice(pool[pairs == pair], len(positions)), positions)


@dataclass(frozen=True)
class TrainedQA:
    """A trained model, its log, and what the search saw: lr, loss and exact match on valid."""

    kind: str
    model: torch.nn.Module
    log: TrainLog
    search: pd.DataFrame
    lr: float


# --- data and models ------------------------------------------------------------------------------


def prepare(config, cohort, questions) -> QAData:
    """Tokenises all questions; a trained tokenizer has seen the training questions only.

    Raises DataError when there is no training or no test question.
    """
    for split in ("train", "test"):
        if not len(questions.index(split)):
            raise DataError(
                f"There is no question in the {split} split about the {len(cohort)} stored ECGs; "
                "give more ECGs (DATA) or more question files (ECGQA)."
            )
    texts = questions.table["question"].to_numpy()
    tokenizer = question_tokenizer(texts[questions.index("train")], config.vocab_size,
                                   config.tokenizer)
    tokens = open_tokens(tokenizer, texts, config.max_text)
    rows = questions.table[["row1", "row2"]].to_numpy()
    name = f"{cohort.fingerprint}-{questions.source}-{questions.flavour}-{len(questions)}"
    return QAData(cohort.store, questions, tokenizer, tokens, rows[:, 0], rows[:, 1], name)


def build_qa(config, data: QAData, kind: str) -> torch.nn.Module:
    """`kind`: fusion | blind, both of the same width and depth."""
    sizes = transformer_config(config, FusionConfig, vocab_size=len(data.tokenizer),
                               max_text=int(data.tokens.lengths(slice(None)).max()),
                               sep_id=data.tokenizer.sep_token_id)
    model = {"fusion": FusionQA, "blind": BlindQA}[kind]
    return model(sizes, len(data.questions.classes))


def answer(model, batch: dict[str, torch.Tensor], **how) -> dict:
    """Runs either model on a batch; the blind one is never handed an ECG."""
    if isinstance(model, BlindQA):
        return model(batch["text"], batch["text_padding_mask"], **how)
    return model(batch["ecg"], batch["text"], batch.get("ecg_2"),
                 ecg_2_padding_mask=batch.get("ecg_2_padding_mask"),
                 text_padding_mask=batch["text_padding_mask"], **how)


# --- training -------------------------------------------------------------------------------------


def train_qa(config, data: QAData, kind: str, folder: Path, start_from=None) -> TrainedQA:
    """Searches the learning rate on the valid split, then trains from scratch with the best one.

    `start_from`: an ECG classifier of the same sizes; the fusion model's ECG side starts from it,
    unless config.pretrain_steps is 0.
    """
    start_from = start_from if config.pretrain_steps else None
    rates, search = config.learning_rates(), pd.DataFrame(columns=["lr", "loss", "exact_match"])
    if len(rates) > 1:
        rows = []
        for lr in rates:
            trial = _fit(config, data, kind, lr, config.search_steps, folder / f"lr_{lr:g}",
                         start_from)[1]
            rows.append({"lr": lr, "loss": trial.last.get("eval_loss", np.nan),
                         "exact_match": trial.last.get("eval_exact_match", np.nan)})
        search = pd.DataFrame(rows)
    known = search.dropna()  # empty where the valid split holds no question
    best = rates[0] if known.empty else float(known.loc[known["loss"].idxmin(), "lr"])
    model, log = _fit(config, data, kind, best, config.n_steps, folder, start_from)
    return TrainedQA(kind, model, log, search, best)


def _fit(config, data: QAData, kind: str, lr: float, n_steps: int, folder: Path, start_from):
    torch.manual_seed(config.seed)
    model = build_qa(config, data, kind)
    train, valid = data.questions.index("train"), data.questions.index("valid")
    set_prior(model.proj, data.questions.labels(train).mean(0))
    if start_from is not None:
        model.load_ecg_side(start_from)
    with_ecg = kind == "fusion"
    settings = TrainSettings(
        n_steps=n_steps, batch_size=config.batch_size, lr=lr, weight_decay=config.weight_decay,
        betas=(0.9, 0.98), schedule=config.schedule, seed=config.seed, device=config.device,
        precision=config.precision)

    def make_batch(indices, rng):
        positions = data.same_arity(train[indices], train, rng, config.pair_share)
        return data.batch(positions, with_ecg)

    def loss_fn(model, batch):
        valid_only = batch["valid"] if config.loss_over == "valid" else None
        return {"loss": answer_bce(answer(model, batch)["logits"], batch["labels"], valid_only)}

    looked_at = thinned(valid, config.eval_questions)
    key = "-".join(map(str, (data.fingerprint, kind, config.loss_over, config.pair_share,
                             _digest(start_from))))
    log = fit(model, len(train), make_batch, loss_fn, settings, folder,
              evaluate=lambda m: validate(m, data, looked_at), fingerprint=key)
    return model, log


def _digest(model) -> str:
    """Names the weights a training starts from, so that other ones are never taken for finished."""
    if model is None:
        return "random"
    return short_hash([float(p.detach().double().sum()) for p in model.parameters()])


def thinned(positions: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` positions, evenly spread over all."""
    if len(positions) <= limit:
        return positions
    return positions[np.linspace(0, len(positions) - 1, limit).astype(int)]


def validate(model, data: QAData, positions: np.ndarray) -> dict[str, float]:
    """Mean BCE over valid answers, and exact match; empty where there are no questions."""
    if not len(positions):
        return {"loss": float("nan"), "exact_match": float("nan")}
    scores = predict(model, data, positions)
    labels, valid = data.questions.labels(positions), data.questions.valid_mask(positions)
    clipped = scores.clip(1e-6, 1 - 1e-6)
    bce = -np.where(labels > 0.5, np.log(clipped), np.log(1 - clipped))
    matched = metrics.exact_match(labels, scores, valid)
    return {"loss": float(bce[valid].mean()), "exact_match": float(matched.mean())}


@torch.no_grad()
def predict(model, data: QAData, positions: np.ndarray, batch: int = 128) -> np.ndarray:
    """Answer probabilities (n, K), in the order of `positions`."""
    model.eval()
    device = next(model.parameters()).device
    length, pair = data.tokens.lengths(positions), data.row2[positions] >= 0
    order = np.lexsort((length, pair))  # like with like: little padding
    scores = np.empty((len(positions), len(data.questions.classes)), dtype=np.float32)
    for i in range(0, len(order), batch):
        part = order[i : i + batch]
        tensors = data.batch(positions[part], with_ecg=not isinstance(model, BlindQA))
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        scores[part] = torch.sigmoid(answer(model, tensors)["logits"]).float().cpu().numpy()
    return scores


# --- looking inside -------------------------------------------------------------------------------


def telling_question(data: QAData, positions: np.ndarray, fused: np.ndarray, blind: np.ndarray):
    """A position to look at: one ECG, something is there, right with the ECG and wrong without.

    fused, blind (n, K) 0/1 answers. Falls back to the first position of the nearest kind.
    """
    labels, valid = data.questions.labels(positions), data.questions.valid_mask(positions)
    right = metrics.exact_match(labels, fused, valid)
    wrong = ~metrics.exact_match(labels, blind, valid)
    table = data.questions.table.iloc[positions]
    yes = np.array(["no" not in a and "none" not in a for a in table["answer"]])
    about_codes = (table["attribute_type"] == "scp_code").to_numpy()
    liking = 8 * (data.row2[positions] < 0) + 4 * (right & wrong) + 2 * yes + about_codes
    return int(positions[liking.argmax()])


@torch.no_grad()
def attention_on_ecg(model: FusionQA, data: QAData, position: int) -> np.ndarray:
    """Attention (P,) of one question's words on its first ECG: last layer, mean of all heads."""
    model.eval()
    device = next(model.parameters()).device
    batch = {k: v.to(device) for k, v in data.batch(np.array([position])).items()}
    out = answer(model, batch, return_attention=True)
    return question_to_ecg_attention(out)[0].float().cpu().numpy()
