"""`ecgkit report [RUN]`: the replication report of a run, from its files alone.

    ecgkit report runs/demo            makes index.html, ledger.csv and the figures anew
    ecgkit report demo --sweep esi_demo
                                       the same, with the published ablations that a sweep ran
    ecgkit report --check runs/demo    changes nothing; exit code 1 and a sentence a fault where a
                                       claim has no run behind it
"""

from __future__ import annotations

from pathlib import Path

from ecgkit import runtime
from ecgkit.types import ConfigError


def add_commands(commands) -> None:
    report = commands.add_parser("report", help="what a run replicated: the page and its ledger")
    report.add_argument(
        "run", nargs="?", default="", metavar="RUN",
        help="a run's folder, or its name in runs/; none = the run made last",
    )  # fmt: skip
    report.add_argument(
        "--check", action="store_true",
        help="change nothing; fail where a claim of the report has no run file behind it",
    )  # fmt: skip
    report.add_argument(
        "--sweep", default="", metavar="SWEEP",
        help="a sweep's folder, or its name in runs/: its ablations join the ledger of RUN",
    )  # fmt: skip
    report.set_defaults(action=_report)


def _report(args) -> int:
    folder = find_run(args.run)
    if args.check and args.sweep:
        raise ConfigError("--check changes nothing, --sweep adds to the ledger; give one of them.")
    return _check(folder) if args.check else _make(folder, args.sweep)


def _make(folder: Path, sweep: str = "") -> int:
    from ecgkit.reports.ledger import LEDGER
    from ecgkit.reports.report_files import summary_words, write_report

    page = write_report(folder, find_run(sweep) if sweep else None)
    print(summary_words(folder / LEDGER))
    print(f"Written to {_shown(page)}, and {LEDGER}, discrepancies.csv, run_times.csv beside it.")
    return 0


def _check(folder: Path) -> int:
    from ecgkit.reports.ledger_check import check_report
    from ecgkit.reports.ledger_rows import read_published

    shared = runtime.shared_dir()
    faults = check_report(folder, shared)
    for fault in faults:
        print(f"fault: {fault}")
    if not read_published(shared):
        print("The published table is not here, so whether all its rows are there was not checked.")
    words = f"{len(faults)} faults" if len(faults) != 1 else "1 fault"
    print(f"{folder.name}: {words if faults else 'every claim has a run behind it'}.")
    return 1 if faults else 0


def find_run(name: str) -> Path:
    """The folder of a run by path or name; "" = the run whose run.json changed last.

    Raises ConfigError where there is none.
    """
    home = runtime.project_root() / "runs"
    if not name:
        made = sorted(home.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
        if not made:
            raise ConfigError("There is no run yet; make one with `ecgkit demo`.")
        return made[-1].parent
    for folder in (Path(name).expanduser(), runtime.project_root() / name, home / name):
        if folder.is_dir():
            return folder
    raise ConfigError(f"There is no run {name!r}; give its folder, or its name in runs/.")


def _shown(path: Path) -> str:
    """Relative to where the user stands, where it lies below."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
