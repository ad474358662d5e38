"""What a row of a cohort's table says was found, whichever source it comes from.

PTB-XL and the simulator give SCP codes, MIMIC-IV-ECG the lines its carts printed (`statements`),
Chapman-Shaoxing and CPSC-2018 SNOMED CT codes (`dx`). All become `Finding`s: how it is said, which
notes tell its look, and what the assistant is asked.

Letters: n ECGs.

Usage:

    reader = Reader(cohort.statements)
    rows = reader.read(cohort.table)          # [(Finding, ...), ...], one tuple per ECG
    rows[0][0].name, rows[0][0].codes         # ("sinus rhythm", ("SR",))
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ecgkit.data.sources import snomed
from ecgkit.text import statements as machine

# A summary ("abnormal ECG") names no finding: whoever is asked how it looks has to invent one.
KNOWN, SUMMARY, UNKNOWN, TECHNICAL = "known", "summary", "unknown", "technical"
_SUMMARIES = ("ABECG", "BLECG")


@dataclass(frozen=True, eq=False)  # a Reader makes one per distinct statement: `is` is enough
class Finding:
    """`name` as said; `codes` of the notes it speaks of; `asks` the (finding, code) pairs that an
    assistant is asked about, none unless `kind` is known; `firm`: stated without doubt or addition,
    so that a synonym of the code may stand for it.
    """

    name: str
    codes: tuple[str, ...] = ()
    asks: tuple[tuple[str, str], ...] = ()
    kind: str = KNOWN
    firm: bool = True

    @property
    def is_background(self) -> bool:
        """Said of most ECGs, or a mere summary: it tells least."""
        return self.codes == ("SR",) or self.kind == SUMMARY


class Reader:
    """Reads rows with the SCP statement table `statements` (index code, column description).

    Each distinct statement is read once, each distinct set of them is put together once.
    """

    def __init__(self, statements):
        self._described = descriptions(statements)
        self._of_row: dict[tuple, tuple[Finding, ...]] = {}
        self._of_code: dict[str, Finding] = {}
        self._of_line: dict[str, Finding] = {}
        self._of_snomed: dict[str, Finding] = {}

    def read(self, table: pd.DataFrame) -> list[tuple[Finding, ...]]:
        """(n) the findings of each row, in the source's order; () where it says nothing.

        Needs scp_codes; `statements` (list) goes before `dx` (text), that before SCP codes alone.
        """
        nothing = [None] * len(table)
        lines, dx = (table[c] if c in table else nothing for c in ("statements", "dx"))
        return [self._row(*row) for row in zip(lines, dx, table["scp_codes"])]

    def _row(self, lines, dx, scp) -> tuple[Finding, ...]:
        lines = tuple(lines) if isinstance(lines, (list, tuple)) else None
        dx = dx if isinstance(dx, str) else None
        key = (lines, dx, () if lines is not None else tuple(scp))
        if key not in self._of_row:
            if lines is not None:
                found = self._machine(lines)
            elif dx is not None:
                found = self._snomed(dx, scp)
            else:
                found = [self._scp(code) for code in scp]
            self._of_row[key] = tuple(dict.fromkeys(found))
        return self._of_row[key]

    # --- one finding of each source ---

    def _scp(self, code: str) -> Finding:
        if code not in self._of_code:
            name = self._described.get(code)
            asks, kind = (((name, code),), KNOWN) if name else ((), UNKNOWN)
            self._of_code[code] = Finding(name or code, (code,), asks, kind)
        return self._of_code[code]

    def _machine(self, lines: tuple) -> list[Finding]:
        found = []
        for line in lines:
            text = machine.tidy(line) if isinstance(line, str) else ""
            if text and text not in self._of_line:
                self._of_line[text] = self._line(text)
            if text:
                found.append(self._of_line[text])
        return found

    def _line(self, text: str) -> Finding:
        if machine.is_technical(text):
            return Finding(text, kind=TECHNICAL, firm=False)
        codes = machine.codes_of(text)
        firm = len(codes) == 1 and not machine.qualifiers(text)
        return self._named(text, machine.normalise(text), codes, firm)

    def _snomed(self, dx: str, scp) -> list[Finding]:
        numbers = [number.strip() for number in dx.split(",") if number.strip()]
        found = [self._number(number) for number in numbers]
        said = {code for number in numbers if (code := snomed.SCP.get(number))}
        # What the adapter knows of its source: CPSC-2018's lone sinus rhythm is a normal ECG.
        return [self._scp(code) for code in scp if code not in said] + found

    def _number(self, number: str) -> Finding:
        if number not in self._of_snomed:
            name = snomed.name(number)
            if machine.is_technical(name):
                self._of_snomed[number] = Finding(name, kind=TECHNICAL, firm=False)
            else:
                scp = (snomed.SCP[number],) if number in snomed.SCP else ()
                codes = machine.narrowed((*scp, *machine.own_codes_of(name)))
                self._of_snomed[number] = self._named(name, name, codes, len(codes) == 1)
        return self._of_snomed[number]

    def _named(self, name: str, plain: str, codes: tuple[str, ...], firm: bool) -> Finding:
        """One code is asked about in the words said, several each in the words of its own."""
        if not codes:
            return Finding(name, kind=UNKNOWN, firm=False)
        if codes[0] in _SUMMARIES:
            return Finding(name, codes, kind=SUMMARY, firm=False)
        if len(codes) == 1:
            return Finding(name, codes, ((plain, codes[0]),), firm=firm)
        asks = tuple((self._described.get(c) or machine.title_of(c) or plain, c) for c in codes)
        return Finding(name, codes, asks, firm=False)


def descriptions(statements) -> dict[str, str]:
    """code -> English description, of a statement table or of `{"description": {code: text}}`."""
    said = statements["description"]
    return {code: text for code, text in said.items() if isinstance(text, str)}
