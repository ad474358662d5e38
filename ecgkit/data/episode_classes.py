"""What a class of an episode is: a question of ECG-QA with its answer fixed.

The published keys and the sound ones differ for choose questions alone (see `reference_keys`).
Source: Tang et al., CHIL 2025, and its released code.

Usage:

    classes = find_classes(questions.table, rows, sound_keys)      # ClassKey -> positions (n,)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

# Their class key does not tell questions apart (which lead, with or without uncertain findings).
CONFLICTING = (4, 14, 17, 26, 28, 31, 40)
REFERENCE_MINIMUM = {"single-verify": 140, "single-choose": 14, "single-query": 50}
KINDS = tuple(REFERENCE_MINIMUM)


@dataclass(frozen=True, order=True)
class ClassKey:
    """base: the question in words; answer: the fixed answer; units: what it is about, each of which
    the division puts on one side.
    """

    base: str
    answer: str
    units: tuple[str, ...] = field(compare=False)

    @property
    def name(self) -> str:
        return f"{self.base} = {self.answer}"

    @property
    def unit(self) -> str:
        return " / ".join(self.units)

    def alone(self) -> ClassKey:
        """The same class, divided by itself."""
        return ClassKey(self.base, self.answer, (self.name,))


def sound_keys(template_id, question_id, attribute_type, attribute, answer) -> list[ClassKey]:
    """[the class of one question]; [] for "not sure" and for comparisons, which name no attribute.

    Units: the attributes a verify or choose question names (of a measurement all its ranges
    together); where a query offers more than two, the names in its answer.
    """
    if answer == ["not sure"] or not attribute:
        return []
    base = f"{template_id}: {' / '.join(attribute)}"
    if len(attribute) > 2:
        base = f"{template_id}: query {question_id}"
    elif template_id in CONFLICTING:
        base += f" (question {question_id})"
    return [ClassKey(base, ", ".join(sorted(answer)), _units(attribute_type, attribute, answer))]


def reference_keys(template_id, question_id, attribute_type, attribute, answer) -> list[ClassKey]:
    """The published keys: template + attribute(s) + answer. A choose question answered by neither
    option falls into one class per option; answered by one option, it forgets the other."""
    if answer == ["not sure"] or not attribute:
        return []
    if len(attribute) == 2 and answer == ["none"]:
        bases = [(name,) for name in attribute]
    elif len(attribute) == 2 and len(answer) == 1:
        bases = [tuple(answer)]
    else:
        bases = [tuple(attribute)]
    given = ", ".join(answer)
    return [
        ClassKey(f"{template_id}: {' / '.join(b)}", given, _units(attribute_type, b, answer))
        for b in bases
    ]


def _units(attribute_type: str, attribute, answer) -> tuple[str, ...]:
    if attribute_type == "numeric_feature":  # "above the normal range of qt interval"
        attribute = [name.split(" of ")[-1] for name in attribute]
    names = set(attribute)
    return tuple(sorted(names if len(names) <= 2 else set(answer)))


def find_classes(
    table: pd.DataFrame, rows: np.ndarray, keys_of: Callable
) -> dict[ClassKey, np.ndarray]:
    """Class -> positions (n,) among `rows` (positions in `table`), in table order."""
    found, known = defaultdict(list), {}
    columns = ["template_id", "question_id", "attribute_type", "attribute", "answer"]
    for position, row in zip(rows.tolist(), table.iloc[rows][columns].itertuples(index=False)):
        same = (row.template_id, row.question_id, id(row.attribute), id(row.answer))
        if same not in known:
            known[same] = keys_of(*row)
        for key in known[same]:
            found[key].append(position)
    return {key: np.array(positions) for key, positions in found.items()}
