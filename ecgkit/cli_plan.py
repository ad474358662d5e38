"""`ecgkit plan` and `ecgkit times`: what a run will take, and what runs took.

Exit codes as in `cli`.
"""

from __future__ import annotations

from pathlib import Path

from ecgkit import cli_data
from ecgkit.types import ConfigError


def add_commands(commands) -> None:
    """Adds `plan` and `times` to the sub-parsers of the `ecgkit` command."""
    plan = commands.add_parser("plan", help="what a run will take, and what it lacks; runs nothing")
    plan.add_argument(
        "notebooks", nargs="*", metavar="NOTEBOOK", help="e.g. 03 or 03_baselines; none = all"
    )
    setting_options(plan)
    plan.set_defaults(action=_plan, data="")

    times = commands.add_parser("times", help="how long each notebook of a demo run took")
    times.add_argument("run", nargs="?", default="", help="its folder (none = what was kept)")
    times.add_argument(
        "--write", action="store_true",
        help="keep these times: the kit's table, and the notebooks' `It takes` lines",
    )  # fmt: skip
    times.set_defaults(action=_times)


def setting_options(parser) -> None:
    """What decides a run's settings: profile, preset, data, --set."""
    parser.add_argument(
        "--profile", default="", metavar="NAME",
        help="preset and settings for a machine, of profiles/ or a .yaml file; other options win",
    )
    parser.add_argument("--preset", default="", help="tiny | demo (default) | paper")
    cli_data.data_options(parser)
    parser.add_argument("--out", default="", help="folder to write to (default runs/<preset>)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="any parameter of the notebooks",
    )


def given(args) -> dict[str, object]:
    """The parameters that the command line names. Raises ConfigError for --set without a value."""
    named = {"PRESET": args.preset, "DATA": args.data, "ECGQA": args.ecgqa, "OUT": args.out}
    params = {name: value for name, value in named.items() if value}
    for item in args.set:
        name, separator, value = item.partition("=")
        if not separator:
            raise ConfigError(f"--set takes NAME=VALUE, not {item!r}.")
        params[name.strip().upper()] = value
    return params


def _plan(args) -> int:
    from ecgkit import profiles, runner_order
    from ecgkit.plan import make_plan
    from ecgkit.runner import resolve

    names = runner_order.choose(args.notebooks)
    profile = profiles.read_profile(args.profile) if args.profile else None
    params = given(args)
    params = profile.params_for(names, params) if profile else {"PRESET": "demo"} | params
    _show(make_plan(names, resolve(names, params), profile), profile)
    return 0


def _show(plan, profile) -> None:
    if profile:
        print(f"{profile.name}: {profile.about}")
    print(f"{'notebook':<22} {'time':>9} {'memory':>8} {'disk':>8}  how")
    for row in plan.rows:
        memory = "–" if row.memory_gb is None else f"{row.memory_gb:.1f} GB"
        disk = f"{row.disk_gb:.1f} GB"
        print(f"{row.notebook:<22} {_time(row.hours):>9} {memory:>8} {disk:>8}  {row.how}")
    memory, disk = f"{plan.memory_gb:.1f} GB", f"{plan.disk_gb:.1f} GB"
    print(f"{'together':<22} {_time(plan.hours):>9} {memory:>8} {disk:>8}  disk: the store too")
    if plan.speed:
        print(f"speed: {plan.speed}")
    print(f"store: {plan.n_ecgs} ECGs x 12 leads, 2 bytes a sample: {plan.store_gb:.2f} GB")
    for place, need in plan.disk.items():
        print(f"disk, {place} folder: about {need:.1f} GB of {plan.free[place]:.0f} GB free")
    for sentence in plan.missing:
        print(f"to see to: {sentence}")
    if not plan.missing:
        print("Nothing is missing.")


def _time(hours: float | None) -> str:
    if hours is None:
        return "–"
    seconds = hours * 3600
    return f"{seconds:.0f} s" if seconds < 90 else (
        f"{seconds / 60:.0f} min" if seconds < 5400 else f"{hours:.0f} h"
    )


def _times(args) -> int:
    from ecgkit import run_times

    rows = run_times.of_run(Path(args.run)) if args.run else run_times.measured().values()
    for row in rows:
        print(f"{row.notebook:<22} {row.seconds:6.0f} s  {row.machine}, {row.date}")
    if args.write and args.run:
        for path in run_times.write(Path(args.run)):
            print(f"changed {path}")
    return 0
