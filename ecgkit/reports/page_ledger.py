"""The replication part of the run page: headline, ledger, discrepancies, parity, run times.

Usage:

    headline(ledger), ledger_section(ledger), discrepancy_section(table)     # strings of HTML
"""

from __future__ import annotations

from html import escape

import pandas as pd

from ecgkit.reports import page_html as html
from ecgkit.reports.discrepancies_table import HERE, NOT_YET, effect_counts
from ecgkit.reports.ledger import headline_table, number_words, shown, summary_table
from ecgkit.reports.ledger_rows import SYSTEMS, TITLES
from ecgkit.reports.ledger_status import CONTEXT, DIFFERS, MATCHED, NO_VALUE, NOT_RUN, kind_of
from ecgkit.reports.paper_form import measured_tables

FILTERS = ((MATCHED, "matched"), (DIFFERS, "differs"), (NOT_RUN, "not run here"),
           (CONTEXT, "context"), (NO_VALUE, "no published value"))  # fmt: skip
_SLUG = {status: words.replace(" ", "-") for status, words in FILTERS}
WARNING = (
    "A row counts as a match only where the data is real and whole: of a result, where the "
    "published value lies inside our interval; of a size, a count or a setting, where it is the "
    "same number at the printed digits. Simulated data is never a match."
)


def headline(ledger: pd.DataFrame) -> str:
    """One sentence, then system by status."""
    counts = summary_table(ledger)
    if counts.empty or not (ledger["row"] > 0).any():
        return (
            "<h2>What was replicated</h2><p class='warn'>The table of published numbers is not "
            "here (set ECGKIT_SHARED to the folder that holds it), so nothing is compared; below "
            "stand this run's own numbers alone.</p>"
        )
    total = counts.iloc[-1]
    words = (
        f"Of {total['Numbers']} published numbers, {total['Results match']} results, "
        f"{total['Sizes, counts match']} sizes and counts and {total['Settings match']} "
        f"settings match; {total['Differs']} were measured and differ, {total['Not run here']} "
        f"were not run here, and {total['Context']} are context: other people's numbers, never "
        "targets."
    )
    rows = [[TITLES.get(row[0], row[0]), *row[1:]] for row in counts.values.tolist()]
    return (
        f"<h2>What was replicated</h2><p class='lead'>{escape(words)}</p>"
        + html.table(list(counts.columns), rows, WARNING, stacked=True)
        + _results(ledger)
    )


def _results(ledger: pd.DataFrame) -> str:
    """Results this run measured of which a published value is known."""
    some = headline_table(ledger[ledger["published"] != ""])
    if some.empty:
        return ""
    rows = [[*row[:-1], (_SLUG[kind_of(row[-1])], row[-1])] for row in some.values.tolist()]
    return "<h3>Results measured in this run</h3>" + html.table(
        list(some.columns), rows, stacked=True
    )


def measured_section(ledger: pd.DataFrame) -> str:
    """The papers' tables, ours beside the published values, as far as this run measured any."""
    parts = [
        html.details(title, html.table(list(t.columns), t.values.tolist()))
        for title, t in measured_tables(ledger)
    ]
    if not parts:
        return ""
    lead = "Only tables of which this run measured a cell. What was made up is said in the cell."
    return f"<h2>Tables in the papers' form</h2><p class='muted'>{lead}</p>{''.join(parts)}"


# --- every published number -----------------------------------------------------------------------


def ledger_section(ledger: pd.DataFrame) -> str:
    """One part a system, closed; the buttons above choose what is shown, without script."""
    kinds = ledger["status"].map(kind_of)
    present = [(status, words) for status, words in FILTERS if (kinds == status).any()]
    boxes = "".join(
        f"<input type='checkbox' id='show-{_SLUG[s]}' checked>"
        f"<label for='show-{_SLUG[s]}'>{escape(words)} ({(kinds == s).sum()})</label>"
        for s, words in present
    )
    known = [s for s in SYSTEMS if (ledger["system"] == s).any()]
    known += sorted(set(ledger["system"]) - set(known))
    parts = "".join(_system(s, ledger[ledger["system"] == s]) for s in known)
    return (
        "<h2>Ledger of published numbers</h2><p class='muted'>Every row of the table of published "
        "numbers; the same in ledger.csv, with sources and the run file of each number of ours. "
        f"Tick what to show.</p><div class='ledger'>{boxes}{parts}</div>"
    )


def _system(system: str, part: pd.DataFrame) -> str:
    rows, classes = [], []
    for row in part.to_dict("records"):
        status = kind_of(row["status"])
        data = f"{row['data']} {row['fingerprint']}".strip() or "–"
        if row["simulated"] not in ("no", ""):
            data += f" ({row['simulated']})"
        rows.append([
            row["row"] or "–", row["table"] or "this kit", row["quantity"],
            shown(row["published"], row["sd"]).replace(" ", "\u00a0"),
            number_words(row),
            data, (_SLUG[status], row["status"] + _of_what(row)),
        ])  # fmt: skip
        classes.append(f"is-{_SLUG[status]}")
    head = ["Row", "Where", "What", "Published", "Ours [95 %]", "Data", "Status"]
    summary = f"{TITLES.get(system, system)}: {len(part)} rows"
    return html.details(summary, html.table(head, rows, classes=classes, stacked=True))


def _of_what(row: dict) -> str:
    """A matched setting is no matched result: said beside the word."""
    words = {"setting": "a setting of the paper preset", "size": "a size", "count": "a count"}
    return f" ({words[row['kind']]})" if row["status"] == MATCHED and row["kind"] in words else ""


# --- paper and code, parity, times ----------------------------------------------------------------


def discrepancy_section(table: pd.DataFrame) -> str:
    """All rows, by system; how many effects are measured, and how many not yet."""
    counts = effect_counts(table)
    total = counts.iloc[-1]
    words = (
        f"{total['Rows']} places where a paper and its published code disagree or one is silent: "
        f"the effect of {total[HERE]} was measured in this run, {total[NOT_YET]} are not measured "
        "yet."
    )
    parts = []
    for system in dict.fromkeys(table["System"]):
        some = table[table["System"] == system]
        columns = ["Topic", "The paper says", "The code does", "Our switch", "Effect"]
        rows = some[columns].values.tolist()
        kinds = ["is-here" if k == HERE else "" for k in some["Known"]]
        body = html.table(columns, rows, classes=kinds, stacked=True)
        here = (some["Known"] == HERE).sum()
        note = f", {here} measured in this run" if here else ""
        parts.append(html.details(f"{system}: {len(some)} rows{note}", body))
    return (
        f"<h2>Where paper and code disagree</h2><p>{escape(words)}</p>"
        + html.table(list(counts.columns), counts.values.tolist(), stacked=True)
        + "".join(parts)
    )


def parity_section(certificate: dict) -> str:
    """The certificate as a table; says so where nothing was compared."""
    head = "<h2>Parity with the published code</h2>"
    if not certificate:
        return head + "<p class='muted'>Not compared in this run: notebook 08 does it.</p>"
    fixtures = certificate.get("fixtures", [])
    if not fixtures:
        return head + f"<p class='muted'>{escape(str(certificate.get('skipped', '')))}</p>"
    rows = [
        [one["fixture"], one["arrays"], _power(one["difference"]), _power(one["tolerance"]),
         "–" if one["margin"] is None else f"{one['margin']:.3f}",
         ("ok" if one["passed"] else "bad", one["result"])]
        for one in fixtures
    ]  # fmt: skip
    met = sum(one["passed"] for one in fixtures)
    kit = certificate.get("versions", {})
    words = (
        f"{met} of {len(fixtures)} golden files of the published implementations met, on "
        f"{certificate.get('machine')}, {str(certificate.get('finished'))[:10]}, torch "
        f"{kit.get('torch')}, device {certificate.get('device')}."
    )
    note = "Worst difference over its tolerance: below 1 is met. parity_certificate.json has more."
    columns = ["Golden file", "Arrays", "Worst difference", "Tolerance", "Share", "Result"]
    return head + f"<p>{escape(words)}</p>" + html.table(columns, rows, note, stacked=True)


def _power(number: float | None) -> str:
    return "–" if number is None else f"{number:.1e}"


def times_section(times: pd.DataFrame) -> str:
    note = "Wall-clock of each notebook, imports included, written by the notebook itself."
    return "<h2>Run times</h2>" + html.table(
        list(times.columns), times.values.tolist(), note, stacked=True
    )
