"""Looking at an ESI model: which caption it finds like which ECG, what it says, what was retrieved.

Letters: B ECGs with their captions.

Usage:

    matrix = similarity(study, rows); pair_statistics(matrix)
    generated_captions(study, rows, start="ecg findings :")
    similarities(run.folder / "training")              # {75: (24, 24), 150: ..., 600: ...}
    retrieved_notes(study, richest_row(study, rows))
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist

from ecgkit import runtime
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models.losses_esi import shift_captions
from ecgkit.tasks.esi_batches import fixed_batch
from ecgkit.text.findings import Reader

SAMPLED_TOKENS = 24  # enough to see whether a caption names the findings
COMPARED = 24  # pairs of the similarity matrix
SIMILARITY = "similarity.npz"


# --- alike ----------------------------------------------------------------------------------------


@torch.no_grad()
def similarity(study, rows: np.ndarray) -> np.ndarray:
    """(B, B) cosine of each full caption (row) with each ECG (column)."""
    batch = fixed_batch(study, rows)
    ids, mask, _ = shift_captions(batch["ids"], batch["mask"], study.config.protocol)
    device = next(study.model.parameters()).device
    study.model.eval()
    ecg = study.model.encode_ecg(batch["signals"].to(device))["ecg_latents"]
    text = study.model.encode_text(ids.to(device), mask.to(device))["text_latents"]
    return (text @ ecg.T).float().cpu().numpy()


def pair_statistics(similarity: np.ndarray) -> dict[str, float]:
    """Of a (B, B) matrix of captions against ECGs: "gap" own minus other cosine, "rank" of the own.

    "rank" is the mean share of the other ECGs that a caption likes less than its own, ties half.
    """
    n, own = len(similarity), np.diag(similarity)[:, None]
    if n < 2:
        return {"gap": float("nan"), "rank": float("nan"), "n": n}
    others = (similarity.sum() - own.sum()) / (n * n - n)
    below = (similarity < own).sum(1) + 0.5 * ((similarity == own).sum(1) - 1)
    return {"gap": float(own.mean() - others), "rank": float((below / (n - 1)).mean()), "n": n}


# --- said -----------------------------------------------------------------------------------------


def generated_captions(
    study, rows: np.ndarray, start: str = "", max_tokens: int = 60, n_beams: int = 1
) -> list[str]:
    """Captions of `rows`, greedy or by beam search; `start` gives the first words (the reference
    protocol needs one).
    """
    tokenizer, model = study.tokenizer, study.model.eval()
    device = next(model.parameters()).device
    if study.config.protocol == "reference" and not start:
        start = "this"  # that protocol's loss never asks for the first word
    opening = tokenizer(start, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[tokenizer.cls_token_id, *opening]] * len(rows), device=device)
    signals = torch.from_numpy(esi_preprocess(study.mixture.read(rows))).to(device)
    room = study.tokens.max_tokens - ids.shape[1] - 1
    out = model.generate(signals, ids, tokenizer.sep_token_id, min(max_tokens, room), n_beams)
    return tokenizer.batch_decode(out.cpu(), skip_special_tokens=True)


# --- while it trains ------------------------------------------------------------------------------


class Watch:
    """Looks at a few validation ECGs as the model trains; files beside its log:

        captions.csv      step, ecg_id, said, true (N_SAMPLED of them, greedy, SAMPLED_TOKENS words)
        similarity.npz    step -> (B, B) cosine of captions and ECGs, read by `similarities`
    """

    def __init__(self, study, rows: np.ndarray, folder: Path):
        n = min(study.config.n_sampled, len(rows)) if study.config.caption_weight else 0
        self.study, self.folder = study, folder
        self.spoken = rows[np.linspace(0, len(rows) - 1, n).astype(int)]
        self.compared = rows[:COMPARED]

    def look(self, step: int) -> None:
        """Adds what is seen after `step`; what a run that was killed wrote of later steps goes."""
        if dist.is_initialized() and dist.get_rank() > 0:
            return
        seen = {k: v for k, v in similarities(self.folder).items() if k < step}
        seen[step] = similarity(self.study, self.compared).astype(np.float16)
        with runtime.replacing(self.folder / SIMILARITY) as path, open(path, "wb") as file:
            np.savez(file, **{str(k): v for k, v in seen.items()})
        if len(self.spoken):
            self._write_captions(step)

    def _write_captions(self, step: int) -> None:
        table, path = self.study.cohort.table, self.folder / "captions.csv"
        said = pd.DataFrame({
            "step": step, "ecg_id": table["ecg_id"].iloc[self.spoken].to_numpy(),
            "said": generated_captions(self.study, self.spoken, max_tokens=SAMPLED_TOKENS),
            "true": [self.study.captions.full[row] for row in self.spoken],
        })  # fmt: skip
        if path.exists():
            before = pd.read_csv(path, keep_default_na=False)
            said = pd.concat([before[before["step"] < step], said])
        with runtime.replacing(path) as whole:
            said.to_csv(whole, index=False)


def similarities(folder: str | Path) -> dict[int, np.ndarray]:
    """Step -> (B, B) of the same validation pairs, as `pretrain` saved them in its folder."""
    path = Path(folder) / SIMILARITY
    if not path.exists():
        return {}
    with runtime.reading_cached(path), np.load(path) as saved:
        return {int(step): saved[step].astype(np.float32) for step in saved.files}


def said_while_training(folder: str | Path) -> pd.DataFrame:
    """Columns ecg_id, true and one "step N" a look: what was said of the same ECGs meanwhile.

    Empty where no captions were sampled (N_SAMPLED=0, or no caption loss).
    """
    path = Path(folder) / "captions.csv"
    if not path.exists():
        return pd.DataFrame(columns=["ecg_id", "true"])
    said = pd.read_csv(path, keep_default_na=False)
    wide = said.pivot(index=["ecg_id", "true"], columns="step", values="said")
    return wide.rename(columns=lambda step: f"step {step}").rename_axis(columns=None).reset_index()


def shown_steps(folder: str | Path, n: int = 3) -> dict[str, np.ndarray]:
    """`n` of the looks, evenly spaced, the last among them: "step 400" -> (B, B)."""
    seen = similarities(folder)
    steps = sorted(seen)
    at = np.unique(np.linspace(0, len(steps) - 1, n + 1).astype(int))[-n:] if steps else []
    return {f"step {steps[i]}": seen[steps[i]] for i in at}


# --- retrieved ------------------------------------------------------------------------------------


def richest_row(study, rows: np.ndarray) -> int:
    """The row with the most findings, first of equals: a good example."""
    counts = [len(study.cohort.table["scp_codes"].iloc[r]) for r in rows]
    return int(rows[int(np.argmax(counts))])


def retrieved_notes(study, row: int, assistant=None) -> pd.DataFrame:
    """What the caption of `row` was written from: one line per finding and passage, columns
    finding, said, note, file, score, text; by the study's assistant where none is given.
    """
    assistant, cohort = assistant or study.assistant, study.cohort
    lines = []
    for finding in Reader(cohort.statements).read(cohort.table.iloc[[row]])[0]:
        for answer in (assistant.answers(finding.asks) if assistant else {}).values():
            for score, passage in zip(answer.scores, answer.passages):
                lines.append({
                    "finding": finding.name, "said": answer.text, "note": passage.title,
                    "file": passage.file, "score": round(score, 2), "text": passage.text,
                })  # fmt: skip
    return pd.DataFrame(lines, columns=["finding", "said", "note", "file", "score", "text"])
