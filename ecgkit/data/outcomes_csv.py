"""Real follow-up as a CSV: read, checked row by row, joined to the cohort.

Columns: patient_id, ecg_id, time_days (from the ECG, above 0), event (0 censored, 1 the event, 2
another event that ended follow-up); further ones are covariates and come along. `prevalent` (0/1)
marks patients who had the outcome before. A row that cannot be used is left out and listed with a
reason; the rest goes on: in = out + left out.

Usage:

    sieve = read_csv("follow_up.csv")
    table = joined(sieve, cohort)                  # row, ecg_id, ..., time_days, event, cause
    sieve.left_out()                               # row, patient_id, ecg_id, reason, sentence
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.data.sources import tables
from ecgkit.types import DataError

REQUIRED = ("patient_id", "ecg_id", "time_days", "event")
LISTED = ["row", "patient_id", "ecg_id", "reason", "sentence"]
DAYS_PER_YEAR = 365.25
_WORDS = {"true": 1.0, "false": 0.0, "t": 1.0, "f": 0.0, "yes": 1.0, "no": 0.0}


@dataclass
class Sieve:
    """Rows that go on (`table`), and those left out on the way.

    A column `_row` numbers the rows of the input, from 1, where `table` is in another order.
    `label` names the input in sentences; `outcome` says what event 1 is; `notes` are lines for
    whoever reads `describe()`.
    """

    table: pd.DataFrame
    label: str
    outcome: str = "the event"
    notes: list[str] = field(default_factory=list)
    n_in: int = 0
    _parts: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self):
        self.table = self.table.reset_index(drop=True)
        if "_row" not in self.table:
            self.table["_row"] = np.arange(1, len(self.table) + 1)
        self.n_in = len(self.table)

    def leave_out(self, wrong, reason: str, why: str) -> None:
        """Drops the rows where `wrong` (n,) holds; `why` ends a sentence about each."""
        wrong = np.asarray(wrong, bool)
        gone = self.table[wrong]
        if len(gone):
            part = gone.reindex(columns=["_row", "patient_id", "ecg_id"])
            part.columns = LISTED[:3]
            said = [
                f"Row {row} of {self.label} (patient {_shown(who)}, ECG {_shown(ecg)}) is left "
                f"out: {why}."
                for row, who, ecg in part.itertuples(index=False)
            ]
            self._parts.append(part.assign(reason=reason, sentence=said))
        self.table = self.table[~wrong].reset_index(drop=True)

    def left_out(self) -> pd.DataFrame:
        """row (of the input, from 1), patient_id, ecg_id, reason, sentence; in = out + these."""
        listed = pd.concat(self._parts, ignore_index=True) if self._parts else nobody()
        assert self.n_in == len(self.table) + len(listed)
        return listed


def nobody() -> pd.DataFrame:
    """The list of what was left out when nothing was: no rows."""
    return pd.DataFrame(columns=LISTED)


def _shown(value) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# --- reading --------------------------------------------------------------------------------------


def read_csv(path: str | Path) -> Sieve:
    """The user's own CSV (.gz too). Raises DataError for a missing file or column, or no rows."""
    given, crowded, name = text_table(path)
    missing = [column for column in REQUIRED if column not in given]
    if missing:
        raise DataError(
            f"{name} has no column {', '.join(missing)}; it needs {', '.join(REQUIRED)}, between "
            f"commas, and has {', '.join(map(repr, given.columns[:6]))}."
        )
    given["time_days"], given["event"] = numbers(given["time_days"]), numbers(given["event"])
    own = [c for c in given if c not in (*REQUIRED, "age", "sex", "cause", "row", "fold")]
    covariates = {c: _numeric_or_text(given[c]) for c in own}
    table = given[list(REQUIRED)].assign(age=np.nan, sex=np.nan, **covariates)
    if "age" in given:
        table["age"] = tables.years(numbers(given["age"]))
    if "sex" in given:
        table["sex"] = tables.sexes(given["sex"], ("0", "0.0", "m", "male"),
                                    ("1", "1.0", "f", "female"))  # fmt: skip
    gaps = [f"{int(v.isna().sum())} rows without {c}" for c, v in covariates.items() if v.hasnans]
    sieve = Sieve(table, name, notes=[f"covariates: {', '.join(gaps)}"] if gaps else [])
    return with_crowded(sieve, crowded)


def text_table(path: str | Path) -> tuple[pd.DataFrame, list[dict], str]:
    """(a CSV with every cell as text, NaN where empty; its too long lines; its name)."""
    found = runtime.find_path(path)
    if found is None or not found.is_file():
        what = "that is a folder" if found else "there is no such file"
        raise DataError(f"OUTCOMES names {str(path)!r}, but {what}; give a CSV.")
    raw = found.read_bytes()
    try:
        raw = gzip.decompress(raw) if found.suffix == ".gz" else raw
    except (OSError, EOFError) as error:
        raise DataError(f"{found.name} is a damaged .gz ({error}); pack it again.") from error
    return (*text_csv(raw, found.name), found.name)


def text_csv(raw: bytes, name: str, **how) -> tuple[pd.DataFrame, list[dict]]:
    """(bytes of a CSV with every cell as text, its lines with more fields than the header)."""
    try:
        table, crowded = tables.read_csv(
            raw, name, "OUTCOMES", dtype=str, skipinitialspace=True, **how
        )
    except DataError as error:
        why = str(error).removesuffix("; fetch it again.")
        raise DataError(f"{why}; give a CSV with a header and a row per patient.") from error
    table.columns = [str(column).strip() for column in table.columns]
    return table, crowded


def with_crowded(sieve: Sieve, crowded: list[dict]) -> Sieve:
    """Lists lines with more fields than the header, which no column can be told from."""
    if crowded:
        part = pd.DataFrame(crowded).reindex(columns=LISTED)
        part["sentence"] = [
            f"A line of {sieve.label} that begins with {line['ecg_id']} is left out: it has more "
            "fields than the header."
            for line in crowded
        ]
        sieve._parts.append(part.assign(ecg_id=np.nan))
        sieve.n_in += len(crowded)
    return sieve


def numbers(column: pd.Series) -> pd.Series:
    """Text -> float; True/False and yes/no as 1/0; NaN for what is neither."""
    text = column.astype(str).str.strip().str.lower()
    value = pd.to_numeric(text, errors="coerce").fillna(text.map(_WORDS)).astype(float)
    return value.where(np.isfinite(value))


def dates(column: pd.Series) -> pd.Series:
    """Text -> times, to the second where it says so; NaT for what is no date."""
    text = column.astype(str).str.strip()
    return pd.to_datetime(text, errors="coerce", format="ISO8601")


def _numeric_or_text(column: pd.Series) -> pd.Series:
    value = numbers(column)
    return value if value.notna().sum() == column.notna().sum() else column


# --- checking and joining -------------------------------------------------------------------------


def as_ids(column: pd.Series, like: pd.Series) -> pd.Series:
    """Ids as the cohort writes them: whole numbers where it has those ('17.0' is 17), else text."""
    if pd.api.types.is_integer_dtype(like):
        return tables.whole(column)
    if pd.api.types.is_numeric_dtype(like):
        return pd.to_numeric(column, errors="coerce")
    return column.where(column.isna(), column.astype(str).str.strip())


def order_of(table: pd.DataFrame) -> list[str]:
    """What a patient's ECGs are ordered by: their date where there is one."""
    return ["recording_date", "ecg_id"] if "recording_date" in table else ["ecg_id"]


def joined(sieve: Sieve, cohort) -> pd.DataFrame:
    """Checks every row of `sieve` and joins the rest to the cohort's ECGs, one per patient.

    Columns: row (in the store), ecg_id, patient_id, age, sex, fold, time_days, event, cause, then
    the covariates. Raises DataError where no row is left.
    """
    for name in ("patient_id", "ecg_id"):
        sieve.table[name] = as_ids(sieve.table[name], cohort.table[name])
    _check_ids(sieve, cohort)
    _check_follow_up(sieve)
    _join_person(sieve, cohort)
    _one_per_patient(sieve, cohort)
    table = sieve.table.sort_values("row").reset_index(drop=True)
    left_out = sieve.left_out()
    if not len(table):
        first = left_out["sentence"].iloc[0] if len(left_out) else "it holds no rows."
        raise DataError(
            f"{sieve.label} gives no patient of {cohort.name} an outcome ({len(left_out)} rows "
            f"left out); for one: {first}"
        )
    table["cause"] = table["event"].astype(int)
    table["event"] = (table["cause"] == 1).astype(int)
    head = ["row", "ecg_id", "patient_id", "age", "sex", "fold", "time_days", "event", "cause"]
    return table[head + [c for c in table if c not in (*head, "_row", "prevalent")]]


def _check_ids(sieve: Sieve, cohort) -> None:
    missing = sieve.table[["patient_id", "ecg_id"]].isna().any(axis=1)
    sieve.leave_out(missing, "bad_id", "its patient_id or ecg_id is missing or no such number")
    known = sieve.table["ecg_id"].isin(cohort.table["ecg_id"])
    sieve.leave_out(~known, "not_in_cohort", "this ECG is not in the cohort")
    owner = cohort.table.drop_duplicates("ecg_id").set_index("ecg_id")["patient_id"]
    wrong = owner.loc[sieve.table["ecg_id"]].to_numpy() != sieve.table["patient_id"].to_numpy()
    why = "in the cohort that ECG belongs to another patient; check the join"
    sieve.leave_out(wrong, "wrong_patient", why)


def _check_follow_up(sieve: Sieve) -> None:
    """Event codes, times, and prevalent cases: whoever had the event before an ECG goes whole."""
    sieve.leave_out(~sieve.table["event"].isin([0, 1, 2]), "bad_event", "event must be 0, 1 or 2")
    bad = ~np.isfinite(sieve.table["time_days"])
    sieve.leave_out(bad, "bad_time", "time_days must be a number above 0")
    table = sieve.table
    had = (table["event"] == 1) & (table["time_days"] <= 0)
    if "prevalent" in table:
        had |= numbers(table["prevalent"]) == 1
    why = "the patient had the event at or before an ECG (prevalent)"
    sieve.leave_out(table["patient_id"].isin(table["patient_id"][had]), "prevalent", why)
    ended = sieve.table["time_days"] <= 0
    why = "its follow-up ends at or before the ECG; time_days must be above 0"
    sieve.leave_out(ended, "no_follow_up", why)


def _join_person(sieve: Sieve, cohort) -> None:
    """Row, fold, age and sex of the cohort; the input's age and sex where it has none."""
    table = sieve.table
    at = pd.Series(np.arange(len(cohort.table)), index=cohort.table["ecg_id"])
    at = at[~at.index.duplicated()].loc[table["ecg_id"]].to_numpy()
    table["row"], table["fold"] = at, cohort.table["fold"].to_numpy()[at]
    for name in ("age", "sex"):
        known = pd.Series(cohort.table[name].to_numpy(float)[at], index=table.index)
        table[name] = known.fillna(table[name]) if name in table else known
    for name in ("patient_id", "ecg_id"):  # whole numbers again, now that no gap is left
        table[name] = cohort.table[name].to_numpy()[at]
    unknown = ~table["age"].between(0, 120)
    sieve.leave_out(unknown, "unknown_age", "the age is not known; add a column age")


def _one_per_patient(sieve: Sieve, cohort) -> None:
    told = ["ecg_id", "time_days", "event"]
    sieve.leave_out(sieve.table.duplicated(told), "duplicate", "another row says the same")
    torn = sieve.table["ecg_id"].duplicated(keep=False)
    why = "rows about this ECG contradict each other; keep the right one"
    sieve.leave_out(torn, "conflict", why)
    order = order_of(cohort.table)
    ranks = cohort.table.assign(_at=np.arange(len(cohort.table))).sort_values(order)["_at"]
    rank = np.empty(len(ranks), np.int64)
    rank[ranks.to_numpy()] = np.arange(len(ranks))
    place = pd.Series(rank[sieve.table["row"].to_numpy(int)], index=sieve.table.index)
    first = place.groupby(sieve.table["patient_id"]).transform("min")
    why = "a later ECG of a patient in more than one row; the first is the index ECG"
    sieve.leave_out(place > first, "later_ecg", why)
