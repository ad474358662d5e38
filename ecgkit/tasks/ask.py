"""Asks one ECG one question with what notebook 06 has trained, as `ecgkit ask` and the widget do.

The ECG is brought to the rate, length and leads that the encoder was trained on and becomes one
embedding; the question's attribute is recognised; the mapper adapts to stored examples of it
(once per attribute, then remembered); the frozen language model answers. All of it is
deterministic: the same ECG and question give the same reply.

Letters: S examples, F embedding width, P soft tokens, D width of the language model, A answer
tokens.

Usage:
    answerer = load_fewshot("runs/demo/06_few_shot_qa/ask")          # tasks.fewshot_files
    reply = answerer.ask(record, "Is atrial fibrillation present?")
    reply.answer, reply.candidates          # "yes", [("yes", 0.93), ("no", 0.07)]
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ecgkit.features.augment import all_but, mask_leads
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models.prefix_llm import PrefixLLM, token_scores
from ecgkit.signal import crop_pad, fill_nan, resample
from ecgkit.tasks import maml
from ecgkit.tasks.ask_kinds import Kind, guessed_candidates, recognise, similar_attributes
from ecgkit.types import DataError, ECGRecord

FLAT, AMPLITUDE, MISSING = 1e-6, (0.025, 25.0), 0.5  # mV; mV, as data.quality; share of samples
MOST_WORDS = 60
KEPT = 64  # embeddings remembered


@dataclasses.dataclass(frozen=True)
class Reply:
    """`answer` is decoded word by word; `candidates` are the answers to choose from with their
    likelihoods as shares of their sum, likeliest first. `adapted_on` examples, 0 = not adapted;
    `about`: what was recognised, or ""; `note`: what a reader must know, or "".
    """

    answer: str
    candidates: tuple[tuple[str, float], ...]
    adapted_on: int
    about: str
    note: str

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """What the encoder was trained on: rate in Hz, samples (None = any), where a shorter record is
    put ("start" | "centre"), lead order, leads shown (others are silenced), scaling of the signal
    ("esi_preprocess" or ""), and mean and deviation (F,) of each embedding dimension.
    """

    fs: float
    n_samples: int | None
    align: str
    leads: tuple[str, ...]
    shown: tuple[str, ...]
    scaling: str
    mean: np.ndarray
    std: np.ndarray


class Answerer:
    """Encoder, adapted mapper and frozen reader behind one method, `ask`.

    `support` (n, F) holds the standardised embeddings of every example, and a kind's `rows` point
    into it. `about` says what it was trained on (`simulated`, `protocol`, `method`, ...).
    """

    def __init__(
        self, encoder: nn.Module, mapper: nn.Module, reader: PrefixLLM, spec: InputSpec,
        kinds: Sequence[Kind], support: np.ndarray, inner_steps: int, inner_lr: float,
        about: dict | None = None,
    ):  # fmt: skip
        self.encoder, self.mapper, self.reader = encoder.eval(), mapper.eval(), reader
        self.spec, self.kinds, self.about = spec, list(kinds), dict(about or {})
        self.inner_steps, self.inner_lr = inner_steps, inner_lr
        self.support = torch.as_tensor(support, dtype=torch.float32, device=self.device)
        self._adapted: dict[str, maml.Params] = {}
        self._embedded: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        return next(self.mapper.parameters()).device

    @property
    def simulated(self) -> bool:
        return bool(self.about.get("simulated"))

    @property
    def reference(self) -> bool:
        return self.about.get("protocol") == "reference"

    # --- one question -----------------------------------------------------------------------------

    def ask(self, record: ECGRecord, question: str) -> Reply:
        """Answers `question` about `record`. Raises DataError in a sentence for an empty or an
        overlong question and for a signal that cannot be used.
        """
        question = " ".join(question.split())
        if not question or len(question.split()) > MOST_WORDS:
            raise DataError(f"Ask one question of 1 to {MOST_WORDS} words about the ECG.")
        features = self.embed(record)
        kind, known = recognise(question, self.kinds)
        params, notes = self.adapted(kind), [self._about_question(question, kind, known)]
        candidates = guessed_candidates(question) if kind is None else kind.candidates
        prefix = self.prefix(features, params)
        shares = self.shares(question, prefix, candidates)
        answer = self._decode(question, prefix, shares)
        if candidates and answer not in candidates:
            notes.append("The decoded answer is none of those the question can have.")
        notes.append(self._about_record(record))
        adapted_on = 0 if params is None else len(kind.rows)
        about = "" if kind is None else kind.in_words
        return Reply(answer, shares, adapted_on, about, " ".join(note for note in notes if note))

    @torch.no_grad()
    def prefix(self, features: Tensor, params: maml.Params | None = None) -> Tensor:
        """Soft tokens (B, P, D) of embeddings (B, F) under adapted weights, or the trained ones."""
        if params is None:
            return self.mapper(features)["prefix"]
        return functional_call(self.mapper, params, (features,))["prefix"]

    @torch.no_grad()
    def shares(
        self, question: str, prefix: Tensor, candidates: Sequence[str]
    ) -> tuple[tuple[str, float], ...]:
        """Each candidate's likelihood as a share of their sum, likeliest first: one ECG's prefix
        (1, P, D).
        """
        if not candidates:
            return ()
        n = len(candidates)
        logits, targets = self._read([question] * n, prefix.expand(n, -1, -1), candidates)
        shares = token_scores(logits, targets)["log_likelihood"].softmax(0).tolist()
        return tuple(sorted(zip(candidates, shares, strict=True), key=lambda pair: -pair[1]))

    @torch.no_grad()
    def probability(self, question: str, prefix: Tensor, answer: str, candidates) -> np.ndarray:
        """Share of `answer` among `candidates` for each of many prefixes (B, P, D) -> (B,)."""
        found, n = [], len(prefix)
        for candidate in candidates:
            logits, targets = self._read([question] * n, prefix, [candidate] * n)
            found.append(token_scores(logits, targets)["log_likelihood"])
        return torch.stack(found).softmax(0)[list(candidates).index(answer)].cpu().numpy()

    # --- adaptation -------------------------------------------------------------------------------

    def adapted(self, kind: Kind | None) -> maml.Params | None:
        """The mapper's weights after the inner loop on a kind's examples; None where there are none
        or the loop left the finite numbers.
        """
        if kind is None or not kind.rows or self.inner_steps < 1:
            return None
        if kind.name not in self._adapted:
            self._adapted[kind.name] = self._adapt(kind)
        params = self._adapted[kind.name]
        return params if all(p.isfinite().all() for p in params.values()) else None

    def _adapt(self, kind: Kind) -> maml.Params:
        questions, answers = zip(*kind.examples, strict=True)
        memory, targets = self._open(questions, answers)

        def read(prefix: Tensor, part: str) -> dict[str, Tensor]:  # part is always "support" here
            scores = token_scores(self._logits(memory, prefix[0], targets), targets)
            return {name: value[None] for name, value in scores.items()}

        support = self.support[list(kind.rows)][None]  # (1, S, F)
        done = maml.inner_loop(
            self.mapper, support, support[:, :1], read, self.inner_steps, self.inner_lr
        )
        return {name: value[0].detach() for name, value in done.params.items()}

    # --- reading ----------------------------------------------------------------------------------

    def _open(self, questions, answers):
        """What the reader keeps of R questions, and the R answers as targets (R, A)."""
        if self.reference:
            return self.reader.encode_reference(list(questions), list(answers))
        return self.reader.read_questions(list(questions)), self.reader.encode_answers(
            list(answers)
        )

    def _logits(self, memory, prefix: Tensor, targets: Tensor) -> Tensor:
        if self.reference:
            return self.reader.reference_logits(prefix, memory, targets.shape[1])
        return self.reader(memory, prefix, targets)

    def _read(self, questions, prefix: Tensor, answers) -> tuple[Tensor, Tensor]:
        memory, targets = self._open(questions, answers)
        return self._logits(memory, prefix, targets), targets

    def _decode(self, question: str, prefix: Tensor, shares) -> str:
        """Greedy; the released layout never learns to stop, so there it is the likeliest answer."""
        if self.reference:
            return shares[0][0] if shares else ""
        return self.reader.generate(self.reader.read_questions([question]), prefix)[0]

    # --- signal -> embedding ----------------------------------------------------------------------

    def embed(self, record: ECGRecord) -> Tensor:
        """(1, F) standardised embedding of one ECG. Raises DataError for a signal of no use."""
        key = hashlib.sha256(record.signal.tobytes() + repr(record.leads).encode()).hexdigest()
        if key not in self._embedded:
            if len(self._embedded) >= KEPT:
                self._embedded.pop(next(iter(self._embedded)))
            self._embedded[key] = self.encode(self.fit(record)[None])
        return self._embedded[key]

    def fit(self, record: ECGRecord) -> np.ndarray:
        """One ECG as the encoder wants it: (C, T) mV at the trained rate, length and lead order."""
        check_signal(record, self.spec.shown)
        signal = np.zeros((len(self.spec.leads), record.n_samples), np.float32)
        for place, lead in enumerate(self.spec.leads):
            if lead in record.leads:  # a lead that is absent stays flat
                signal[place] = record.signal[record.leads.index(lead)]
        signal = resample(fill_nan(signal), record.fs, self.spec.fs)
        n = self.spec.n_samples
        if n is not None and self.spec.align == "centre":
            signal = crop_pad(signal, n)
        elif n is not None:
            signal = np.pad(signal[:, :n], ((0, 0), (0, max(0, n - signal.shape[1]))))
        return signal

    @torch.no_grad()
    def encode(self, signals: np.ndarray) -> Tensor:
        """(B, C, T) mV -> (B, F) standardised embeddings."""
        if set(self.spec.shown) < set(self.spec.leads):
            signals = mask_leads(signals, all_but(self.spec.shown, self.spec.leads))
        ready = esi_preprocess(signals) if self.spec.scaling == "esi_preprocess" else signals
        x = torch.from_numpy(np.ascontiguousarray(ready, dtype=np.float32)).to(self.device)
        raw = self.encoder(x)["embedding"].float().cpu().numpy()
        if not np.isfinite(raw).all():
            raise DataError("The encoder makes no finite embedding of this ECG; check the file.")
        std = np.where(self.spec.std > 1e-6, self.spec.std, np.inf)  # as ecg_features.standardise
        return torch.from_numpy(((raw - self.spec.mean) / std).astype(np.float32)).to(self.device)

    # --- words ------------------------------------------------------------------------------------

    def _about_question(self, question: str, kind: Kind | None, known: bool) -> str:
        if kind is None:
            near = similar_attributes(question, self.kinds)
            hint = f" It can adapt to questions about {', '.join(near)}." if near else ""
            return f"No examples of this question: answered without adapting to it.{hint}"
        if not kind.rows:
            return "The training data show one answer only to this question: not adapted to it."
        if self.inner_steps < 1:
            return "The run has no inner steps: not adapted."
        if self.adapted(kind) is None:
            return "Adapting left the finite numbers (lower INNER_LR): answered without it."
        if known:
            return ""
        return f'New wording: adapted to questions such as "{kind.wordings[0]}"'

    def _about_record(self, record: ECGRecord) -> str:
        absent = [lead for lead in self.spec.shown if lead not in record.leads]
        notes = [f"Leads {', '.join(absent)} are absent and were read as flat."] if absent else []
        n = self.spec.n_samples
        if n is not None and abs(record.duration_s - n / self.spec.fs) > 0.05:
            seconds = n / self.spec.fs
            longer = record.duration_s > seconds
            which = "the middle" if self.spec.align == "centre" else "the first"
            notes.append(
                f"Of {record.duration_s:g} s {which} {seconds:g} s were read."
                if longer
                else f"It lasts {record.duration_s:g} s of {seconds:g} s; the rest is read as flat."
            )
        if self.reference:
            notes.append("PROTOCOL=reference: the answer does not see the question's words.")
        return " ".join(notes)


def check_signal(record: ECGRecord, leads: Sequence[str]) -> None:
    """Raises DataError where the leads asked for hold nothing, gaps, or voltages of no heart."""
    there = [record.leads.index(lead) for lead in leads if lead in record.leads]
    if not there:
        raise DataError(
            f"ECG {record.ecg_id} has none of the leads {', '.join(leads)}; give at least one."
        )
    signal = record.signal[there]
    missing = 1 - np.isfinite(signal).mean(1)
    if missing.max() > MISSING:
        worst = record.leads[there[int(missing.argmax())]]
        raise DataError(
            f"ECG {record.ecg_id}: {missing.max():.0%} of lead {worst} is missing; record it again "
            "or leave that lead out."
        )
    low, high = np.nanpercentile(signal, (0.1, 99.9), axis=1)
    half = (high - low) / 2  # (leads,) mV
    moving = half[half > FLAT]
    if not moving.size:
        raise DataError(f"ECG {record.ecg_id} is flat in every lead; there is nothing to read.")
    typical = float(np.median(moving))
    if not AMPLITUDE[0] <= typical <= AMPLITUDE[1]:
        raise DataError(
            f"ECG {record.ecg_id} swings {typical:.3g} mV about its middle, which no heart does; "
            "check the units (mV, uV or V)."
        )
