"""`ecgkit times` and `ecgkit plan`: what runs took, and what one will take.

Exit codes as in `cli`.
"""

from __future__ import annotations

from pathlib import Path


def add_commands(commands) -> None:
    """Adds `times` to the sub-parsers of the `ecgkit` command."""
    times = commands.add_parser("times", help="how long each notebook of a demo run took")
    times.add_argument("run", nargs="?", default="", help="its folder (none = what was kept)")
    times.add_argument(
        "--write", action="store_true",
        help="keep these times: the kit's table, and the notebooks' `It takes` lines",
    )  # fmt: skip
    times.set_defaults(action=_times)


def _times(args) -> int:
    from ecgkit import run_times

    rows = run_times.of_run(Path(args.run)) if args.run else run_times.measured().values()
    for row in rows:
        print(f"{row.notebook:<22} {row.seconds:6.0f} s  {row.machine}, {row.date}")
    if args.write and args.run:
        for path in run_times.write(Path(args.run)):
            print(f"changed {path}")
    return 0
