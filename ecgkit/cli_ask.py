"""`ecgkit ask RECORD "question"`: one question about one ECG, answered by what notebook 06 trained.

RECORD is a path (WFDB record, CSV or NPY) or the id of an ECG of the run's own cohort. Exit codes
as in `cli`.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from ecgkit.types import NOT_FOR_DIAGNOSIS, DataError, ECGRecord

BAR = 24  # letters of a probability of 1
MOST = 8  # candidates shown


def add_commands(commands) -> None:
    """Adds `ask` to the sub-parsers of the `ecgkit` command."""
    ask = commands.add_parser(
        "ask", help="ask a question about an ECG, after notebook 06 has run",
        description=f"Ask a question about an ECG, after notebook 06 has run. {NOT_FOR_DIAGNOSIS}",
    )  # fmt: skip
    ask.add_argument("record", help="path of a WFDB record, CSV or NPY, or an id of the cohort")
    ask.add_argument("question", help='e.g. "Is atrial fibrillation present?"')
    ask.add_argument("--run", default="runs/demo", help="run to ask (default runs/demo)")
    ask.add_argument("--fs", type=float, help="sampling rate in Hz (CSV and NPY)")
    ask.add_argument("--leads", help="comma-separated lead names (NPY, or CSV without a header)")
    ask.add_argument("--units", help="mV | uV | V (CSV, NPY; default: its header's, else mV)")
    ask.add_argument("--json", action="store_true", help="print the reply as JSON")
    ask.set_defaults(action=_ask)


def _ask(args) -> int:
    from ecgkit import runtime
    from ecgkit.tasks.fewshot_files import load_fewshot

    run = runtime.find_path(args.run) or Path(args.run)
    answerer = load_fewshot(run)
    record = find_record(args.record, answerer, args.fs, args.leads, args.units)
    reply = answerer.ask(record, args.question)
    about = {"record": str(record.ecg_id), "question": args.question} | reply.as_dict()
    if args.json:
        body = about | {"candidates": dict(reply.candidates), "simulated": answerer.simulated,
                        "warning": NOT_FOR_DIAGNOSIS}  # fmt: skip
        print(json.dumps(body, ensure_ascii=False, indent=2))
        return 0
    print("\n".join(in_words(reply, args.question, record, answerer.simulated)))
    return 0


def find_record(
    name: str, answerer, fs: float | None = None, leads: str | None = None,
    units: str | None = None,
) -> ECGRecord:
    """The ECG of a file, or that of the cohort with this id; DataError where it is neither."""
    path = Path(name).expanduser()
    if path.suffix or path.exists() or path.with_name(f"{path.name}.hea").exists():
        return read_file(name, fs, leads, units)
    return _of_cohort(name, answerer)


def read_file(
    name: str, fs: float | None = None, leads: str | None = None, units: str | None = None
) -> ECGRecord:
    """The ECG of a file; `units` (default those in its header, else mV) count for CSV and NPY
    alone, as a WFDB header states its own.
    """
    from ecgkit.data.own_ecg import is_plain, read_own_ecg, said_units

    if is_plain(name):
        units = units or said_units(name) or "mV"
    return read_own_ecg(name, fs, leads or None, units if is_plain(name) else None)


def _of_cohort(name: str, answerer) -> ECGRecord:
    from ecgkit.config import FewShotConfig
    from ecgkit.data.cohort import open_cohort

    if "/" in name:
        raise DataError(f"{name} does not exist; give a WFDB record, a .csv, a .npy, or an id.")
    cohort = open_cohort(FewShotConfig.from_params(answerer.about["config"]), quiet=True)
    found = (cohort.table["ecg_id"].astype(str) == name.strip()).to_numpy().nonzero()[0]
    if not len(found):
        ids = cohort.table["ecg_id"]
        raise DataError(
            f"There is no file {name} and no ECG {name} in the run's cohort ({len(ids)} ECGs, ids "
            f"such as {ids.iloc[0]}); give a path or one of its ids."
        )
    return cohort.record(int(found[0]))


def in_words(reply, question: str, record: ECGRecord, simulated: bool) -> list[str]:
    """The reply as lines of text: answer, probabilities as bars of one scale, what it rests on."""
    lines = [f"ECG {record.ecg_id}: {question}", "", f"  {reply.answer or '(no word)'}", ""]
    shown = reply.candidates[:MOST]
    wide = max((len(answer) for answer, _ in shown), default=0)
    for answer, share in shown:
        lines.append(f"  {answer:<{wide}}  {share:6.1%}  {'#' * round(BAR * share)}".rstrip())
    if len(reply.candidates) > MOST:
        lines.append(f"  and {len(reply.candidates) - MOST} less likely answers")
    if shown:
        lines.append("")
    lines.append(adapted_words(reply))
    lines += textwrap.wrap(reply.note, 100)
    if simulated:
        lines.append("Trained on simulated data.")
    return [*lines, NOT_FOR_DIAGNOSIS]


def adapted_words(reply) -> str:
    """A sentence on what the mapper adapted to."""
    if not reply.adapted_on:
        return f"Not adapted{f' (about {reply.about})' if reply.about else ''}."
    return f"Adapted on {reply.adapted_on} examples about {reply.about}."
