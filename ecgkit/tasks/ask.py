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

from ecgkit.models.prefix_llm import PrefixLLM, QuestionMemory, token_scores
from ecgkit.tasks import maml
from ecgkit.tasks.ask_input import InputSpec
from ecgkit.tasks.ask_kinds import (
    Kind,
    guessed_candidates,
    recognise,
    similar_attributes,
    spell_out,
)
from ecgkit.types import ConfigError, DataError, ECGRecord

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


class Answerer:
    """Encoder, adapted mapper and frozen reader behind one method, `ask`.

    `support` (n, F) holds the standardised embeddings of every example, and a kind's `rows` point
    into it. `about` says what it was trained on (`simulated`, `method`, `quirks`, ...). `only`:
    names of the parameters that adapt (ANIL), None = all.
    """

    def __init__(
        self, encoder: nn.Module, mapper: nn.Module, reader: PrefixLLM, spec: InputSpec,
        kinds: Sequence[Kind], support: np.ndarray, inner_steps: int, inner_lr: float,
        about: dict | None = None, only: Sequence[str] | None = None,
    ):  # fmt: skip
        self.encoder, self.mapper, self.reader = encoder.eval(), mapper.eval(), reader
        self.spec, self.kinds, self.about = spec, list(kinds), dict(about or {})
        self.inner_steps, self.inner_lr, self.only = inner_steps, inner_lr, only
        self.support = torch.as_tensor(support, dtype=torch.float32, device=self.device)
        self._adapted: dict[str, maml.Params | None] = {}
        self._contexts: dict[str, QuestionMemory | None] = {}
        self._embedded: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        return next(self.mapper.parameters()).device

    @property
    def simulated(self) -> bool:
        return bool(self.about.get("simulated"))

    @property
    def blind(self) -> bool:
        """Whether the answer is read on top of the question, as released, and never sees it."""
        return "question_blind" in self.about.get("quirks", ())

    @property
    def in_context(self) -> bool:
        """Whether examples are read as context in place of inner steps."""
        return self.about.get("method") == "in-context"

    def of(self, question: str) -> Answerer:
        """Itself: who answers `question`, as of an `AnswererGroup`."""
        return self

    # --- one question -----------------------------------------------------------------------------

    def ask(self, record: ECGRecord, question: str) -> Reply:
        """Answers `question` about `record`; SCP codes in it are spelt out. Raises DataError in a
        sentence for an empty or an overlong question and for a signal that cannot be used.
        """
        question = spell_out(" ".join(question.split()))
        if not question or len(question.split()) > MOST_WORDS:
            raise DataError(f"Ask one question of 1 to {MOST_WORDS} words about the ECG.")
        features = self.embed(record)
        kind, known = recognise(question, self.kinds)
        params, context = self.adapted(kind), self.context(kind)
        notes = [self._about_question(question, kind, known)]
        candidates = guessed_candidates(question) if kind is None else kind.candidates
        prefix = self.prefix(features, params)
        shares = self.shares(question, prefix, candidates, context)
        answer = self._decode(question, prefix, shares, context)
        if candidates and answer not in candidates:
            notes.append("The decoded answer is none of those the question can have.")
        notes.append(self.spec.about(record))
        if self.blind:
            notes.append("As released, the answer does not see the question's words.")
        adapted_on = 0 if params is None and context is None else len(kind.rows)
        about = "" if kind is None else kind.in_words
        return Reply(answer, shares, adapted_on, about, " ".join(note for note in notes if note))

    @torch.no_grad()
    def prefix(self, features: Tensor, params: maml.Params | None = None) -> Tensor:
        """Soft tokens (B, P, D) of embeddings (B, F) under adapted weights, or the trained ones."""
        if params is None:
            return self.mapper(features)["prefix"]
        return functional_call(self.mapper, params, (features,))["prefix"]

    def shares(
        self, question: str, prefix: Tensor, candidates: Sequence[str],
        context: QuestionMemory | None = None,
    ) -> tuple[tuple[str, float], ...]:  # fmt: skip
        """Each candidate's likelihood as a share of their sum, likeliest first: one ECG's prefix
        (1, P, D).
        """
        if not candidates:
            return ()
        n = len(candidates)
        found = self._likelihoods([question] * n, prefix.expand(n, -1, -1), candidates, context)
        pairs = zip(candidates, found.softmax(0).tolist(), strict=True)
        return tuple(sorted(pairs, key=lambda pair: -pair[1]))

    def probability(
        self, question: str, prefix: Tensor, answer: str, candidates: Sequence[str],
        context: QuestionMemory | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Share of `answer` among `candidates` for each of many prefixes (B, P, D) -> (B,)."""
        n = len(prefix)
        found = [
            self._likelihoods([question] * n, prefix, [candidate] * n, context)
            for candidate in candidates
        ]
        return torch.stack(found).softmax(0)[list(candidates).index(answer)].cpu().numpy()

    # --- adaptation -------------------------------------------------------------------------------

    def adapted(self, kind: Kind | None) -> maml.Params | None:
        """The mapper's weights after the inner loop on a kind's examples; None where there are
        none, where nothing adapts, or where the loop left the finite numbers.
        """
        if kind is None or not kind.rows or self.inner_steps < 1 or self.in_context:
            return None
        if kind.name not in self._adapted:
            self._adapted[kind.name] = self._adapt(kind)
        return self._adapted[kind.name]

    def _adapt(self, kind: Kind) -> maml.Params | None:
        questions, answers = zip(*kind.examples, strict=True)
        memory, targets = self._open(questions, answers)

        def read(prefix: Tensor, part: str) -> dict[str, Tensor]:  # part is always "support" here
            scores = token_scores(self._logits(memory, prefix[0], targets), targets)
            return {name: value[None] for name, value in scores.items()}

        support = self._support(kind)[None]  # (1, S, F)
        done = maml.inner_loop(
            self.mapper, support, support[:, :1], read, self.inner_steps, self.inner_lr,
            only=self.only,
        )  # fmt: skip
        params = {name: value[0].detach() for name, value in done.params.items()}
        return params if all(p.isfinite().all() for p in params.values()) else None

    @torch.no_grad()
    def context(self, kind: Kind | None) -> QuestionMemory | None:
        """A kind's examples read as context, under METHOD=in-context; None where they do not fit
        the language model.
        """
        if kind is None or not kind.rows or not self.in_context:
            return None
        if kind.name not in self._contexts:
            questions, answers = (list(part) for part in zip(*kind.examples, strict=True))
            prefix = self.prefix(self._support(kind))
            try:
                self._contexts[kind.name] = self.reader.read_examples(questions, prefix, answers)
            except ConfigError:
                self._contexts[kind.name] = None
        return self._contexts[kind.name]

    def _support(self, kind: Kind) -> Tensor:
        return self.support[list(kind.rows)]

    # --- reading ----------------------------------------------------------------------------------

    def _open(self, questions, answers, context=None):
        """What the reader keeps of R questions, and the R answers as targets (R, A)."""
        if self.blind:
            return self.reader.encode_reference(list(questions), list(answers))
        more = {} if context is None else {"after": context}
        memory = self.reader.read_questions(list(questions), **more)
        return memory, self.reader.encode_answers(list(answers))

    def _logits(self, memory, prefix: Tensor, targets: Tensor) -> Tensor:
        if self.blind:
            return self.reader.reference_logits(prefix, memory, targets.shape[1])
        return self.reader(memory, prefix, targets)

    @torch.no_grad()
    def _likelihoods(self, questions, prefix: Tensor, answers, context=None) -> Tensor:
        """Log-likelihood (R,) of each row's answer."""
        memory, targets = self._open(questions, answers, context)
        return token_scores(self._logits(memory, prefix, targets), targets)["log_likelihood"]

    def _decode(self, question: str, prefix: Tensor, shares, context=None) -> str:
        """Greedy; the released layout never learns to stop, so there it is the likeliest answer."""
        if self.blind:
            return shares[0][0] if shares else ""
        more = {} if context is None else {"after": context}
        return self.reader.generate(self.reader.read_questions([question], **more), prefix)[0]

    # --- signal -> embedding ----------------------------------------------------------------------

    def embed(self, record: ECGRecord) -> Tensor:
        """(1, F) standardised embedding of one ECG. Raises DataError for a signal of no use."""
        key = hashlib.sha256(record.signal.tobytes() + repr(record.leads).encode()).hexdigest()
        if key not in self._embedded:
            if len(self._embedded) >= KEPT:
                self._embedded.pop(next(iter(self._embedded)))
            self._embedded[key] = self.encode(self.spec.fit(record)[None])
        return self._embedded[key]

    @torch.no_grad()
    def encode(self, signals: np.ndarray) -> Tensor:
        """(B, C, T) mV, as `spec.fit` gives them -> (B, F) standardised embeddings."""
        x = torch.from_numpy(self.spec.ready(signals)).to(self.device)
        raw = self.encoder(x)["embedding"].float().cpu().numpy()
        if not np.isfinite(raw).all():
            raise DataError("The encoder makes no finite embedding of this ECG; check the file.")
        return torch.from_numpy(self.spec.standardise(raw)).to(self.device)

    # --- words ------------------------------------------------------------------------------------

    def _about_question(self, question: str, kind: Kind | None, known: bool) -> str:
        if kind is None:
            near = similar_attributes(question, self.kinds)
            hint = f" It can adapt to questions about {', '.join(near)}." if near else ""
            return f"No examples of this question: answered without adapting to it.{hint}"
        if not kind.rows:
            return "The training data show one answer only to this question: not adapted to it."
        if self.in_context and self.context(kind) is None:
            return "The examples are more than the language model can read: answered without them."
        if not self.in_context and self.inner_steps < 1:
            return "The run has no inner steps: not adapted."
        if not self.in_context and self.adapted(kind) is None:
            return "Adapting left the finite numbers (lower INNER_LR): answered without it."
        if known:
            return ""
        return f'New wording: adapted to questions such as "{kind.wordings[0]}"'
