"""The grounding table of the upper-bound experiments: what single questions tell of ECG and leads.

Template questions about one ECG become tuples (ECG, leads, attribute, yes or no); tuples of the
same ECG and leads are one row (ecgqa.md 2.2; the rules are in `grounding_leads`). Identity is by
leads, not by the name of a group. A tuple said both ways is resolved to "no" where that is known
to happen, else dropped and listed; nothing stops. Questions: in = used + dropped, asserted.

Usage:

    grounding = read_grounding(questions)             # a QuestionSet of flavour "template"
    grounding.labels("train"), grounding.leads_mask   # (n, K) int8: 1, 0, -1 = not asked; (N, 12)
    grounding.counts()
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from ecgkit.data.grounding_leads import MAY_CONTRADICT, Asked, Skip, lead_groups, read_question
from ecgkit.data.qa_reading import SPLITS
from ecgkit.types import LEADS, DataError

_DROPPED = ("split", "sample_id", "question_type", "template_id")


@dataclass(frozen=True)
class Grounding:
    """N rows of (split, ECG, leads), sorted so, and what was asked about each.

    table: split, ecg_id, row (in the store, -1 = none), leads (tuple of positions in LEADS).
    classes: K attributes. classes_from: "test", "given", or "all splits" where test asks nothing.
    dropped: questions that gave no tuple (split, sample_id, question_type, template_id, reason,
    sentence). conflicts: tuples said both ways (split, ecg_id, leads, attribute, n_yes, n_no,
    outcome = "no" | "dropped"). n_in: questions given = n_used + dropped.
    """

    table: pd.DataFrame
    classes: list[str]
    classes_from: str
    dropped: pd.DataFrame
    conflicts: pd.DataFrame
    n_in: int
    n_used: int
    protocol: str
    _asked: csr_matrix = field(repr=False)  # (N, K): 0 = not asked, 1 = no, 2 = yes

    def __len__(self) -> int:
        return len(self.table)

    def index(self, split: str) -> np.ndarray:
        """Positions (n,) int64 in `table` of one split. Raises DataError for an unknown one."""
        if split not in SPLITS:
            raise DataError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.table["split"].to_numpy() == split)

    def labels(self, which) -> np.ndarray:
        """A split or positions (n,) -> (n, K) int8: 1 yes, 0 no, -1 not asked."""
        index = self.index(which) if isinstance(which, str) else np.asarray(which)
        return self._asked[index].toarray() - np.int8(1)

    @property
    def leads_mask(self) -> np.ndarray:
        """(N, 12) bool: the leads a row is about."""
        return _lead_masks(self.table["leads"])

    def tuples(self) -> pd.DataFrame:
        """One line per tuple: split, ecg_id, row, leads, attribute, class (id), label (0 or 1)."""
        asked = self._asked.tocoo()
        found = self.table.iloc[asked.row].reset_index(drop=True)
        found["attribute"] = np.array(self.classes, dtype=object)[asked.col]
        return found.assign(**{"class": asked.col, "label": asked.data - np.int8(1)})

    def counts(self) -> pd.DataFrame:
        """Per attribute: tuples and "yes" among them in each split (`train`, `train yes`, ...)."""
        columns = {}
        for split in SPLITS:
            asked = self._asked[self.index(split)]
            columns[split] = np.asarray((asked > 0).sum(axis=0)).ravel()
            columns[f"{split} yes"] = np.asarray((asked > 1).sum(axis=0)).ravel()
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="attribute"))

    def summary(self) -> str:
        """One line: how many questions gave how many tuples, and why others gave none."""
        reasons = self.dropped["reason"].value_counts()
        why = ", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "none"
        return (
            f"grounding ({self.protocol}): {self.n_used} of {self.n_in} questions -> "
            f"{self._asked.nnz} tuples in {len(self)} rows, {len(self.classes)} attributes (from "
            f"{self.classes_from}) · conflicts: {len(self.conflicts)} · dropped: {why}"
        )


def read_grounding(
    questions, classes: list[str] | None = None, protocol: str = "reference"
) -> Grounding:
    """The grounding table of a QuestionSet. See `ground`.

    Raises DataError where its flavour is not "template": the rules read template wordings.
    """
    if questions.flavour != "template":
        raise DataError(
            f"The grounding table is read from template questions, these are {questions.flavour}; "
            "open them with FLAVOUR=template."
        )
    return ground(questions.table, questions.valid, classes, protocol)


def ground(
    table: pd.DataFrame,
    valid: dict[int, list[str]] | None = None,
    classes: list[str] | None = None,
    protocol: str = "reference",
) -> Grounding:
    """The grounding table of questions given as a table.

    table: split, sample_id, question_type, template_id, question, attribute, answer, ecg_id, and
    row1 if they are joined to a store. valid: template_id -> answers it allows. classes: attributes
    to keep, in this order; None = those the test split asks about, sorted (of all splits where test
    has no tuple). protocol: see `grounding_leads`.
    """
    lead_groups(protocol)  # an unknown protocol is refused before any work
    combination, asked = _combinations(table, valid or {})
    read = [read_question(one, protocol) for one in asked]
    names, leads, said = _say(table, combination, read)
    said, conflicts = _settle(said, names)
    classes, classes_from = _classes(classes, said, names)
    class_of = {name: k for k, name in enumerate(classes)}
    said["class"] = np.array([class_of.get(n, -1) for n in names], np.int64)[said["attribute"]]
    kept = said[said["keep"] & (said["class"] >= 0)]
    used = np.zeros(len(table), dtype=bool)
    used[kept["question"]] = True
    dropped = _dropped(table, combination, read, used, said)
    assert len(table) == int(used.sum()) + len(dropped), "a question was lost on the way"
    rows, values = _rows(table, kept, leads, len(classes))
    return Grounding(
        rows, classes, classes_from, dropped, _named(conflicts, names, leads),
        len(table), int(used.sum()), protocol, values,
    )  # fmt: skip


# --- distinct questions ---------------------------------------------------------------------------


def _combinations(table: pd.DataFrame, valid: dict) -> tuple[np.ndarray, list[Asked]]:
    """(N,) which distinct question each one is, and those: all that the rules can depend on."""
    by_lead = {t for t, names in valid.items() if _are_leads(names)}
    columns = ("question_type", "question", "attribute", "answer", "split", "template_id")
    found: dict[Asked, int] = {}
    combination = np.empty(len(table), dtype=np.int64)
    for i, (kind, text, attribute, answer, split, template) in enumerate(
        zip(*(table[c].tolist() for c in columns))
    ):
        attribute = None if attribute is None else tuple(attribute)
        one = Asked(kind, text, attribute, tuple(answer), split == "test", template in by_lead)
        combination[i] = found.setdefault(one, len(found))
    return combination, list(found)


def _are_leads(names) -> bool:
    names = set(names) - {"none"}
    return bool(names) and names <= {f"lead {lead}" for lead in LEADS}


def _say(table: pd.DataFrame, combination: np.ndarray, read: list):
    """(sorted attribute names, sorted leads, one line per question and piece with their ids)."""
    pieces = [[] if isinstance(one, Skip) else one for one in read]
    flat = [piece for one in pieces for piece in one]
    names, leads = sorted({p.attribute for p in flat}), sorted({p.leads for p in flat})
    name_id, leads_id = ({v: i for i, v in enumerate(values)} for values in (names, leads))
    length = np.array([len(one) for one in pieces], dtype=np.int64)
    start = np.cumsum(length) - length
    n = length[combination]
    question = np.repeat(np.arange(len(table)), n)
    within = np.arange(len(question)) - np.repeat(np.cumsum(n) - n, n)
    which = start[combination][question] + within
    said = pd.DataFrame({
        "split": pd.Categorical(table["split"], SPLITS).codes.astype(np.int8)[question],
        "ecg_id": _first_ids(table)[question],
        "leads": np.array([leads_id[p.leads] for p in flat], np.int64)[which],
        "attribute": np.array([name_id[p.attribute] for p in flat], np.int64)[which],
        "label": np.array([p.label for p in flat], np.int8)[which],
        "question": question,
    })  # fmt: skip
    return names, leads, said


def _first_ids(table: pd.DataFrame) -> np.ndarray:
    return np.array([ids[0] for ids in table["ecg_id"].tolist()], dtype=np.int64)


# --- tuples said twice ----------------------------------------------------------------------------

_KEY = ["split", "ecg_id", "leads", "attribute"]


def _settle(said: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sorts by key, settles what is said both ways (`keep`, `label`); adds `group`, one per key."""
    order = np.lexsort([said[name] for name in reversed(_KEY)])
    said = said.iloc[order].reset_index(drop=True)
    keys = said[_KEY].to_numpy()
    new = np.ones(len(said), dtype=bool)
    new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    group = np.cumsum(new) - 1
    n, n_yes = np.bincount(group), np.bincount(group, weights=said["label"]).astype(int)
    both = (n_yes > 0) & (n_yes < n)
    soft = np.isin(np.array(names, dtype=object), MAY_CONTRADICT)
    settled = soft[said["attribute"].to_numpy()[new]]
    conflicts = said[_KEY][new][both].assign(
        n_yes=n_yes[both], n_no=(n - n_yes)[both], outcome=np.where(settled[both], "no", "dropped")
    )
    said["label"] = np.where(both[group], 0, said["label"]).astype(np.int8)
    said["keep"], said["group"] = ~(both & ~settled)[group], group
    return said, conflicts


def _named(conflicts: pd.DataFrame, names: list[str], leads: list[tuple]) -> pd.DataFrame:
    """The table of conflicts with words for ids."""
    return conflicts.assign(
        split=[SPLITS[i] for i in conflicts["split"]],
        leads=[leads[i] for i in conflicts["leads"]],
        attribute=[names[i] for i in conflicts["attribute"]],
    ).reset_index(drop=True)


def _classes(given, said: pd.DataFrame, names: list[str]) -> tuple[list[str], str]:
    if given is not None:
        return list(given), "given"
    kept = said[said["keep"]]
    test = kept[kept["split"] == SPLITS.index("test")]
    chosen, where = (test, "test") if len(test) else (kept, "all splits")
    return [names[i] for i in np.unique(chosen["attribute"])], where


# --- the result -----------------------------------------------------------------------------------


def _rows(table: pd.DataFrame, kept: pd.DataFrame, leads: list[tuple], n_classes: int):
    """(table of rows, (N, K) sparse: 1 = no, 2 = yes), rows in the order of their keys."""
    kept = kept[~kept["group"].duplicated()]
    keys = kept[["split", "ecg_id", "leads"]]
    new = (keys != keys.shift()).any(axis=1).to_numpy()
    first = kept[new]
    store_row = table["row1"].to_numpy() if "row1" in table else np.full(len(table), -1)
    rows = pd.DataFrame({
        "split": [SPLITS[i] for i in first["split"]],
        "ecg_id": first["ecg_id"].to_numpy(),
        "row": store_row[first["question"].to_numpy()],
        "leads": [leads[i] for i in first["leads"]],
    })  # fmt: skip
    values = (kept["label"].to_numpy() + 1).astype(np.int8)
    where = (np.cumsum(new) - 1, kept["class"].to_numpy())
    return rows, csr_matrix((values, where), shape=(len(rows), n_classes))


def _dropped(table, combination, read, used: np.ndarray, said: pd.DataFrame) -> pd.DataFrame:
    """One line per question without a tuple, with its reason."""
    contradicted = np.zeros(len(table), dtype=bool)
    contradicted[said["question"][~said["keep"] & (said["class"] >= 0)]] = True
    out = np.flatnonzero(~used)
    why = [
        read[c] if isinstance(read[c], Skip) else (_CONTRADICTED if both else _OTHER_CLASS)
        for c, both in zip(combination[out], contradicted[out])
    ]
    dropped = table[list(_DROPPED)].iloc[out].reset_index(drop=True)
    return dropped.assign(reason=[w.reason for w in why], sentence=[w.sentence for w in why])


_CONTRADICTED = Skip("contradiction", "Other questions say the opposite of the same ECG and leads.")
_OTHER_CLASS = Skip("other_class", "It asks about attributes that are not among the classes.")


def _lead_masks(leads) -> np.ndarray:
    """n tuples of positions -> (n, 12) bool, one look-up per distinct tuple."""
    number: dict[tuple, int] = {}
    which = [number.setdefault(positions, len(number)) for positions in leads]
    masks = np.zeros((len(number), len(LEADS)), dtype=bool)
    for positions, i in number.items():
        masks[i, list(positions)] = True
    return masks[which]
