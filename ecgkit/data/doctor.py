"""The unit-and-lead doctor: what a source's recordings are, in one table, before any training.

Everything here was measured while the recordings were stored (`ecgkit.data.quality`); no file is
read again, so the table of 800,000 recordings takes as long as a look at the index.

Usage:

    print(sentence(cohort))             # the verdict in one line
    table(cohort)                       # check, expected, found, records, done
    duplicates(cohort)                  # recordings that are stored more than once
"""

from __future__ import annotations

import pandas as pd

from ecgkit.data import quality
from ecgkit.types import LEADS

COLUMNS = ("check", "expected", "found", "records", "done")
# Above these a stored record is counted as flagged. The worst real ones that are sound, as measured
# in quality.py, reach 1.3 % and 1.5 %.
FLAG_CLIPPED = 0.02
FLAG_IDENTITY = 0.04
NOTHING = "nothing to do"
# Which check a reason of the quarantine belongs to; the others get a line of their own.
CHECK_OF_REASON = {
    "wrong_rate": "sampling rate",
    "no_signal": "flat leads",
    "flat_lead": "flat leads",
    "missing_lead": "missing samples",
    "amplitude": "units, by amplitude",
    "zero_gain": "units, by amplitude",
    "units": "units, by amplitude",
    "missing_leads": "lead order",
    "lead_names": "lead order",
    "clipped": "clipped leads",
    "repeated_lead": "leads stored twice",
    "lead_identity": "I + III = II",
}


def table(cohort) -> pd.DataFrame:
    """One line per check: what was expected, what was found, in how many records it deviates
    (stored and quarantined together), and what was done about it.
    """
    index = cohort.base.index
    refused = cohort.quarantine["reason"].value_counts()
    lines = [_finish(line, refused) for line in _checks(cohort, index)]
    known = {line["check"] for line in lines}
    for reason, n in refused.items():
        if CHECK_OF_REASON.get(reason) not in known:
            lines.append(
                _line("readable", "yes", _first(cohort, reason), n, f"quarantined: {reason}")
            )
    n_in = len(index) + len(cohort.quarantine)
    counts = f"{n_in} = {len(index)} + {len(cohort.quarantine)}"
    lines.append(_line("all", "in = stored + quarantined", counts, n_in, NOTHING))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def sentence(cohort) -> str:
    """One line: how many recordings are fit for use, what was mended, flagged, and left out."""
    index, out = cohort.base.index, cohort.quarantine["reason"].value_counts()
    n_in = len(index) + len(cohort.quarantine)
    words = [f"{cohort.name}: {len(index)} of {n_in} recordings are sound"]
    permuted = int((index["lead_order"] != "").sum())
    copies = len(duplicates(cohort))
    if permuted:
        words.append(f"{permuted} had their leads put in order by name")
    if copies:
        words.append(f"{copies} are copies of others")
    if len(out):
        reasons = ", ".join(f"{n} {reason}" for reason, n in out.items())
        words.append(f"{len(cohort.quarantine)} are left out ({reasons})")
    return "; ".join(words) + "."


def duplicates(cohort) -> pd.DataFrame:
    """Recordings that repeat another's samples: columns ecg_id, same_as (the first of them).

    Where the table says so, also `patient_id` and `fold` of both: a copy in another fold is a leak.
    """
    index = cohort.base.index
    ids = index["ecg_id"].to_numpy()
    first = pd.Series(ids).groupby(index["digest"].to_numpy()).transform("first").to_numpy()
    found = pd.DataFrame({"ecg_id": ids[ids != first], "same_as": first[ids != first]})
    about = cohort.table.set_index("ecg_id")[["patient_id", "fold"]]
    for column in about:
        found[column] = about[column].reindex(found["ecg_id"]).to_numpy()
        found[f"{column}_same_as"] = about[column].reindex(found["same_as"]).to_numpy()
    return found


# --- the checks -----------------------------------------------------------------------------------


def _checks(cohort, index: pd.DataFrame):
    """Yields one line per check; `done` is for the stored ones, the quarantined are added later."""
    yield _rate(cohort, index)
    seconds = index["n_source"] / index["fs_source"]
    usual = seconds.round(3).mode().iloc[0]
    odd = int((seconds.round(3) != usual).sum())
    yield _line("duration", f"{usual:g} s", _range(seconds, "s"), odd, "kept at their own length")
    low, high = quality.AMPLITUDE
    found = _range(index["amplitude"], "mV")
    yield _line("units, by amplitude", f"mV ({low:g} to {high:g})", found, 0, NOTHING)
    yield _order(cohort, index)
    gaps = index["n_missing"] > 0
    found = f"at most {index['worst_missing'].max():.1%} of a lead"
    yield _line("missing samples", "none", found, gaps.sum(), "gaps read as the lead's mean")
    flat = index["n_flat"] != 0
    yield _line("flat leads", "none", f"{flat.sum()} stored", flat.sum(), "kept, as accepted")
    clipped = index["clipped"] > FLAG_CLIPPED
    found = f"at most {index['clipped'].max():.1%} of a lead"
    expected = f"under {FLAG_CLIPPED:.0%} of a lead"
    yield _line("clipped leads", expected, found, clipped.sum(), "kept, flagged")
    twice = index["n_repeated"] > 0
    yield _line("leads stored twice", "none", f"{twice.sum()} stored", twice.sum(), "kept, flagged")
    yield _identity("I + III = II", index["einthoven"])
    yield _identity("aVR, aVL, aVF from I, II, III", index["goldberger"])
    yield _checksums(index)
    yield _copies(cohort)


def _rate(cohort, index: pd.DataFrame) -> dict:
    rates = index["fs_source"].value_counts()
    other = index["fs_source"] != cohort.store.fs
    offered = " or ".join(f"{fs:g}" for fs in cohort.source.fs)
    found = ", ".join(f"{fs:g} Hz ({n})" for fs, n in rates.items())
    done = f"resampled to {cohort.store.fs:g} Hz"
    return _line("sampling rate", f"{offered} Hz", found, other.sum(), done)


def _order(cohort, index: pd.DataFrame) -> dict:
    """As the source is known to write them; any other order is no fault, for names decide."""
    usual = " ".join(cohort.source.leads)
    orders = index["lead_order"].astype(str).replace("", " ".join(LEADS)).value_counts()
    found = "; ".join(f"{order} ({n})" for order, n in orders.head(3).items())
    found += f"; {len(orders) - 3} more" if len(orders) > 3 else ""
    moved = int((index["lead_order"] != "").sum())
    return _line("lead order", usual, found, moved, "put in order by name")


def _identity(check: str, residual: pd.Series) -> dict:
    known = residual.dropna()
    found = f"off by {known.median():.1%}, at most {known.max():.1%}" if len(known) else "unknown"
    flagged = (known > FLAG_IDENTITY).sum()
    return _line(check, f"within {FLAG_IDENTITY:.0%}", found, flagged, "kept, flagged")


def _checksums(index: pd.DataFrame) -> dict:
    counts = index["checksum_ok"].value_counts()
    words = {1: "right", 0: "wrong", -1: "not given"}
    found = ", ".join(f"{counts[code]} {word}" for code, word in words.items() if code in counts)
    wrong = index["checksum_ok"] == 0
    return _line("checksums", "as in the header", found, wrong.sum(), "kept, flagged")


def _copies(cohort) -> dict:
    found = duplicates(cohort)
    pairs = [f"{b} = {a}" for a, b in zip(found["ecg_id"], found["same_as"])]
    text = ", ".join(pairs[:4]) + (", ..." if len(pairs) > 4 else "") if pairs else "none"
    return _line("duplicates", "none", text, len(pairs), "kept, flagged")


def _line(check: str, expected: str, found: str, records, done: str) -> dict:
    done = done if records else NOTHING
    return dict(zip(COLUMNS, (check, expected, found, int(records), done)))


def _finish(line: dict, refused: pd.Series) -> dict:
    """Adds to a check's line the records that are in the quarantine for it."""
    why = {r: int(n) for r, n in refused.items() if CHECK_OF_REASON.get(r) == line["check"]}
    if not why:
        return line
    done = "quarantined: " + ", ".join(f"{reason} ({n})" for reason, n in why.items())
    if line["records"]:
        done = f"{line['done']}; {done}"
    return line | {"records": line["records"] + sum(why.values()), "done": done}


def _first(cohort, reason: str) -> str:
    """What the first record with this reason is said to suffer from."""
    text = cohort.quarantine.loc[cohort.quarantine["reason"] == reason, "sentence"].iloc[0]
    return text.split(": ", 1)[-1].rstrip(".")


def _range(values: pd.Series, unit: str) -> str:
    low, middle, high = values.min(), values.median(), values.max()
    if low == high:
        return f"{low:.3g} {unit}"
    return f"{middle:.3g} {unit} ({low:.3g} to {high:.3g})"
