"""What a trained model looks at, and where it errs: numbers for the figures, nothing is drawn here.

In the fusion transformer, MedViLL and M3AE words attend to ECG tokens. These mix all leads, so
attention has a time axis and no lead axis. Which lead mattered is asked of the whole model in two
ways: `occlude_leads` silences one lead at a time and takes the drop in the answer's logit; gradient
x input asks every sample at once. `look` gives both beside the attention, and their product by
METHODS. None of these is a cause of the answer. Sources: Zeiler and Fergus 2014 (occlusion);
Shrikumar et al. 2016 (gradient x input); Chefer et al. 2021 (attention weighted by gradients).

Letters: B batch, C leads, T samples, P tokens of one ECG, L question tokens, W words, H heads,
N questions, K answers.

Usage:

    where = telling_question(data, test, answers["fusion"], answers["blind"])
    seen = look(fused.model, data, where)           # .rows (W, P), .relevance (C, P), .drop (C,)
    errors = error_table(questions, test, answers)  # item, model, n, wrong, rate
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ecgkit.tasks import baselines_qa, metrics
from ecgkit.types import LEADS, DataError, ModelError

SIGNAL_OF = {"first": "ecg", "second": "ecg_2"}
# How relevance (C, P) is made of attention a (P,), gradient x input g (C, P) and drop d (C,).
METHODS: dict[str, Callable] = {
    "attention x gradient": lambda a, g, d: a * g,
    "attention x occlusion": lambda a, g, d: np.maximum(d, 0)[:, None] * a,
    "gradient": lambda a, g, d: g,
    "attention": lambda a, g, d: np.tile(a, (len(d), 1)),
}
BY = ("attribute", "attribute_type", "answer")


@dataclass(frozen=True)
class Look:
    """One question and one of its ECGs, as a model read them.

    rows (W, P): attention from each word to the ECG's tokens, as the softmax gives it, so that a
    row's sum is the share of it that went to this ECG. attention (P,): mean row of all word pieces.
    gradient (C, P): |d logit / d signal x signal| summed over a token's samples. drop (C,): logit
    lost when a lead is silenced. relevance (C, P): `method`, sums to 1 (all 0 where nothing acts).
    centres (P,), reach: the middle and the length of what a token sees, as fractions of the
    recording.
    """

    part: str
    layer: str
    head: str
    method: str
    answer: str
    probability: float
    words: list[str]
    rows: np.ndarray
    attention: np.ndarray
    gradient: np.ndarray
    drop: np.ndarray
    relevance: np.ndarray
    leads: tuple[str, ...]
    centres: np.ndarray
    reach: float

    @property
    def where(self) -> str:
        """`layer 3 of 3, mean of 4 heads`, for captions."""
        return f"{self.layer}, {self.head}"


# --- a question worth a look ----------------------------------------------------------------------


def telling_question(data, positions: np.ndarray, fused: np.ndarray, blind: np.ndarray,
                     n_ecgs: int = 1) -> int:
    """A position to look at: `n_ecgs` ECGs, something is there, right with the ECG, wrong without.

    fused, blind (n, K) 0/1 answers. Falls back to the first position of the nearest kind.
    """
    labels, valid = data.questions.labels(positions), data.questions.valid_mask(positions)
    right = metrics.exact_match(labels, fused, valid)
    wrong = ~metrics.exact_match(labels, blind, valid)
    table = data.questions.table.iloc[positions]
    yes = np.array(["no" not in a and "none" not in a for a in table["answer"]])
    about_codes = (table["attribute_type"] == "scp_code").to_numpy()
    of_arity = (data.row2[positions] >= 0) == (n_ecgs == 2)
    liking = 8 * of_arity + 4 * (right & wrong) + 2 * yes + about_codes
    return int(positions[liking.argmax()])


# --- attention ------------------------------------------------------------------------------------


def word_rows(out: dict, batch: dict, layer: int = -1, head: int | None = None,
              part: str = "first") -> torch.Tensor:
    """(B, L, P) attention from question tokens to one ECG's tokens; rows of padding are zero.

    `out`: a forward with return_attention=True. Raises ModelError for a layer or head that is not
    there, DataError for a second ECG that is not.
    """
    maps = out["attention"]
    if not -len(maps) <= layer < len(maps):
        raise ModelError(f"There is no layer {layer}: the model has {len(maps)}; count from 0.")
    weights = maps[layer]  # (B, H, S, S)
    if head is not None and not -weights.shape[1] <= head < weights.shape[1]:
        raise ModelError(f"There is no head {head}: a layer has {weights.shape[1]}; count from 0.")
    weights = weights.mean(1) if head is None else weights[:, head]
    span, words = _span(out, part), out["parts"]["text"]
    real = ~batch["text_padding_mask"]  # the batch's own: the reference protocol loses the mask
    return weights[:, words, span] * real[..., None]


@torch.no_grad()
def word_maps(model, data, position: int, part: str = "first") -> np.ndarray:
    """(N, H, W, P) attention of one question's words to one of its ECGs, in every layer and head:
    one forward. Words as in `look`.
    """
    batch = _batch(model, data, position, part)
    out = _forward(model, batch)
    pieces = data.tokenizer.convert_ids_to_tokens(batch["text"][0].tolist())
    return np.stack([
        np.stack([
            merge_pieces(pieces, word_rows(out, batch, n, h, part)[0].float().cpu().numpy())[1]
            for h in range(weights.shape[1])
        ])
        for n, weights in enumerate(out["attention"])
    ])  # fmt: skip


def _span(out: dict, part: str) -> slice:
    """Where an ECG's tokens lie; FusionQA's window of the reference starts one early, at SEP."""
    span = out["parts"].get(part)
    if span is None:
        raise DataError(f"This question has no {part} ECG; look at its first one.")
    early = int(part == "second" and span.start == out["parts"]["first"].stop)
    return slice(span.start + early, span.stop + early)


def merge_pieces(pieces: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Word pieces (`myo`, `##cardial`) -> words; a word's row is the mean of its pieces' rows."""
    words, owner = [], []
    for piece in pieces:
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
        else:
            words.append(piece)
        owner.append(len(words) - 1)
    share = np.eye(len(words))[owner].T  # (W, L)
    return words, (share / share.sum(1, keepdims=True)) @ rows


def token_places(config, n_samples: int) -> tuple[np.ndarray, float]:
    """Middles (P,) and length of the tokens' receptive fields, as fractions of `n_samples`.

    Tokens need not tile the recording: with wide kernels the first one's middle lies well inside.
    """
    jump, reach = 1, 1  # samples from one token to the next; samples a token sees
    for _, kernel, stride in config.conv_layers:
        reach += (kernel - 1) * jump
        jump *= stride
    at = np.arange(int(config.n_tokens(n_samples))) * jump + reach / 2
    return at / n_samples, reach / n_samples


def nearest_token(centres: np.ndarray, n: int) -> np.ndarray:
    """(n,) for n equal slices of the recording: the token whose centre is nearest."""
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, (np.arange(n) + 0.5) / n)


# --- leads ----------------------------------------------------------------------------------------


@torch.no_grad()
def occlude_leads(model, batch: dict, answer: int, part: str = "first") -> np.ndarray:
    """(C,) drop in the logit of class `answer` when one lead is 0 mV throughout; > 0 = it spoke
    for the answer. `batch` holds one question; all leads are silenced in one forward.
    """
    n_leads = batch[SIGNAL_OF[part]].shape[1]
    tiled = {k: v.expand(n_leads + 1, *v.shape[1:]).clone() for k, v in batch.items()}
    leads = torch.arange(n_leads)
    tiled[SIGNAL_OF[part]][leads, leads] = 0.0  # the last copy stays whole
    logits = baselines_qa.answer(model, tiled)["logits"][:, answer].float()
    return (logits[-1] - logits[:-1]).cpu().numpy()


def pool_to_tokens(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(C, T) -> (C, P): each sample is added to the token whose centre is nearest."""
    owner = nearest_token(centres, samples.shape[1])
    pooled = np.zeros((len(samples), len(centres)))
    np.add.at(pooled.T, owner, samples.T)
    return pooled


# --- all of it ------------------------------------------------------------------------------------


def look(model, data, position: int, part: str = "first", layer: int = -1,
         head: int | None = None, answer: int | None = None,
         method: str = "attention x gradient") -> Look:
    """Looks at one question: one forward and backward, and one forward of C + 1 copies.

    `part`: first | second ECG; `layer`, `head` count from 0, head None = mean; `answer`: a class of
    questions.classes, None = the model's most probable valid one; `method`: one of METHODS.
    Raises DataError, ModelError for a part, layer, head or method that is not there.
    """
    if method not in METHODS:
        raise DataError(f"method is {method!r}; choose {' | '.join(METHODS)}.")
    batch, config = _batch(model, data, position, part), _config(model)
    signal = batch[SIGNAL_OF[part]].requires_grad_()
    with _gradient_to_the_ecg(model):
        out = _forward(model, batch)
        logits, valid = out["logits"][0], batch["valid"][0]
        k = int(logits.masked_fill(~valid, -torch.inf).argmax()) if answer is None else answer
        slope = torch.autograd.grad(logits[k], signal)[0]
    centres, reach = token_places(config, signal.shape[-1])
    rows = word_rows(out, batch, layer, head, part)[0].detach()
    gradient = pool_to_tokens((slope * signal)[0].detach().abs().float().cpu().numpy(), centres)
    drop = occlude_leads(model, {n: t.detach() for n, t in batch.items()}, k, part)
    pieces = data.tokenizer.convert_ids_to_tokens(batch["text"][0].tolist())
    words, merged = merge_pieces(pieces, rows.float().cpu().numpy())
    attention = _mean_row(rows, batch)
    relevance = METHODS[method](attention, gradient, drop)
    return Look(
        part=part, layer=_of(layer, len(out["attention"]), "layer"),
        head=_of(head, out["attention"][layer].shape[1], "head"), method=method,
        answer=data.questions.classes[k], probability=float(logits[k].detach().sigmoid()),
        words=words, rows=merged, attention=attention, gradient=gradient, drop=drop,
        relevance=relevance / (relevance.sum() or 1.0), centres=centres, reach=reach,
        leads=tuple(getattr(data.store, "leads", LEADS)))


@contextlib.contextmanager
def _gradient_to_the_ecg(model):
    """Lets gradients through convolutions that training scales down or freezes."""
    held = [(module, module.config) for module in model.modules()
            if getattr(getattr(module, "config", None), "feature_grad_mult", 1.0) != 1.0]
    for module, config in held:
        module.config = dataclasses.replace(config, feature_grad_mult=1.0)
    try:
        yield
    finally:
        for module, config in held:
            module.config = config


def _of(index: int | None, n: int, what: str) -> str:
    """-1 of 3 -> `layer 3 of 3`: counted from 1, as people do."""
    return f"mean of {n} {what}s" if index is None else f"{what} {range(n)[index] + 1} of {n}"


def _batch(model, data, position: int, part: str) -> dict[str, torch.Tensor]:
    """One question on the model's device, which is put into eval mode."""
    if part not in SIGNAL_OF:
        raise DataError(f"part is {part!r}; choose first or second.")
    if part == "second" and data.row2[position] < 0:
        raise DataError(f"Question {position} is about one ECG; look at its first one.")
    device = next(model.eval().parameters()).device
    return {k: v.to(device) for k, v in data.batch(np.array([position])).items()}


def _forward(model, batch: dict) -> dict:
    _config(model)
    return baselines_qa.answer(model, batch, return_attention=True)


def _config(model):
    """Sizes of a model whose words attend to ECG tokens. Raises ModelError for any other."""
    config = getattr(getattr(model, "encoder", None), "config", None)
    if not hasattr(config, "conv_layers"):
        raise ModelError(
            f"In {type(model).__name__} no word attends to ECG tokens; look at fusion, medvill or "
            "m3ae. `occlude_leads` takes any model that reads an ECG.")
    return config


def _mean_row(rows: torch.Tensor, batch: dict) -> np.ndarray:
    n_real = (~batch["text_padding_mask"][0]).sum()
    return (rows.sum(0) / n_real).detach().float().cpu().numpy()


# --- errors ---------------------------------------------------------------------------------------


def error_table(questions, positions: np.ndarray, predicted: Mapping[str, np.ndarray],
                by: str = "attribute") -> pd.DataFrame:
    """Share of questions not matched exactly: item, model, n, wrong, rate; most frequent first.

    `predicted`: name -> (n, K) 0/1 or probabilities. `by`: attribute (questions about exactly one,
    such as single-verify), attribute_type, or answer (a question with several true answers counts
    under each of them). Raises DataError for another `by`.
    """
    if by not in BY:
        raise DataError(f"by is {by!r}; choose {' | '.join(BY)}.")
    column = questions.table[by].iloc[positions].tolist()
    if by == "attribute":
        column = [a if isinstance(a, list) and len(a) == 1 else [] for a in column]
    items = pd.Series([[a] if isinstance(a, str) else a for a in column]).explode().dropna()
    labels, valid = questions.labels(positions), questions.valid_mask(positions)
    parts = []
    for name, scores in predicted.items():
        wrong = ~metrics.exact_match(labels, scores, valid)
        wrong = pd.Series(wrong[items.index], index=items.to_numpy())
        table = wrong.groupby(level=0).agg(n="size", wrong="sum").rename_axis("item").reset_index()
        parts.append(table.assign(model=name, rate=table["wrong"] / table["n"]))
    out = pd.concat(parts, ignore_index=True).sort_values(["n", "item"], ascending=[False, True],
                                                          kind="stable", ignore_index=True)
    return out[["item", "model", "n", "wrong", "rate"]]


def confusion(questions, positions: np.ndarray, predicted: np.ndarray, n: int = 8,
              question_type: str | None = None) -> pd.DataFrame:
    """Counts of true (rows) by predicted (columns) answer sets, the `n` most frequent true ones.

    Every other prediction is counted under `another answer`. Off the diagonal all is wrong.
    """
    table = questions.table.iloc[positions]
    keep = np.ones(len(table), bool)
    if question_type is not None:
        keep = (table["question_type"] == question_type).to_numpy()
    valid = questions.valid_mask(positions[keep])
    truth = _named(questions.classes, questions.labels(positions[keep]) * valid)
    said = _named(questions.classes, predicted[keep] * valid)
    shown = truth.value_counts().index[:n].tolist()
    said = said.where(said.isin(shown), "another answer")
    counts = pd.crosstab(truth, said, rownames=["true answer"], colnames=["predicted"])
    return counts.reindex(index=shown, columns=[*shown, "another answer"], fill_value=0)


def _named(classes: list[str], answers: np.ndarray) -> pd.Series:
    names = [", ".join(classes[k] for k in np.flatnonzero(row > 0.5)) or "none" for row in answers]
    return pd.Series(names, dtype=object)
