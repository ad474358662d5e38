"""Several answerers as one: a study may have a mapper for each kind of episode (verify, query).

Usage:

    group = AnswererGroup([verify, query])
    group.ask(record, "Which rhythms does this ECG show?")      # the one that knows the question
"""

from __future__ import annotations

from collections.abc import Sequence

from ecgkit.tasks.ask import Answerer, Reply
from ecgkit.tasks.ask_kinds import Kind, guessed_candidates, recognise, spell_out
from ecgkit.types import ECGRecord


class AnswererGroup:
    """`ask`, `kinds`, `simulated` and `about` as of one `Answerer`; `of` says who answers what."""

    def __init__(self, members: Sequence[Answerer]):
        self.members = list(members)

    @property
    def kinds(self) -> list[Kind]:
        return [kind for member in self.members for kind in member.kinds]

    @property
    def simulated(self) -> bool:
        return any(member.simulated for member in self.members)

    @property
    def about(self) -> dict:
        """That of the first."""
        return self.members[0].about

    def of(self, question: str) -> Answerer:
        """Who knows the very wording; else, of those who recognise the question, one whose kind is
        answered as it asks (yes and no, or names); else the first that is.
        """
        words = spell_out(" ".join(question.split()))
        found = [(member, *recognise(words, member.kinds)) for member in self.members]
        asks_yes_no = bool(guessed_candidates(words))

        def rank(item) -> tuple[bool, bool, bool]:
            member, kind, known = item
            types = [kind.question_type] if kind else [k.question_type for k in member.kinds]
            return known, any(t.endswith("verify") for t in types) == asks_yes_no, kind is not None

        return max(found, key=rank)[0]  # of equals the first

    def ask(self, record: ECGRecord, question: str) -> Reply:
        """As `Answerer.ask`."""
        return self.of(question).ask(record, question)
