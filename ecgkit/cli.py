"""The `ecgkit` command: each subcommand is a few lines that call the package.

Exit codes: 0 done, 1 a check or a notebook cell failed, 2 the input cannot be used (one sentence
says why), 3 the minutes of --budget are used (the same command goes on), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ecgkit import __version__, cli_ask, cli_data, cli_models, cli_plan, cli_report
from ecgkit.runtime import without_secrets
from ecgkit.types import NOT_FOR_DIAGNOSIS, ConfigError, KitError

# Where '' means "not given"; of another parameter it is a value, as in --set BASELINES=
_NOT_GIVEN = ("PRESET", "DATA", "ECGQA", "OUT")
_PATHS = ("DATA", "ECGQA", "OUT", "OWN_ECG", "OUTCOMES", "HAZARDS", "KNOWLEDGE", "TEST_DATA",
          "TEST_ECGQA", "SPLIT_FILE", "PUBLISHED_DATA")  # fmt: skip
_PATHS_OR_IDS = ("CHECKPOINT", "TEXT_ENCODER", "EMBEDDER", "ENCODER_FROM", "LLM", "MAPPER_FROM",
                 "TOKENIZER", "TRANSLATOR")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    argv = cli_data.with_verb(list(sys.argv[1:] if argv is None else argv))
    args = _parser().parse_args(argv)
    try:
        return args.action(args)
    except KitError as error:
        print(f"ecgkit: {without_secrets(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ecgkit: stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough: `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder of somebody else's: it names the path
        print(
            f"ecgkit: {without_secrets(str(error))}; check that it can be read and written, that "
            "the disk has room, and run the same command again.",
            file=sys.stderr,
        )
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ecgkit", description=f"Replication kit for ECG-language research. {NOT_FOR_DIAGNOSIS}"
    )
    parser.add_argument("--version", action="version", version=f"ecgkit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute notebooks headless")
    run.add_argument(
        "notebooks", nargs="*", metavar="NOTEBOOK", help="e.g. 03 or 03_baselines; none = all"
    )
    cli_plan.setting_options(run)
    run.add_argument("--force", action="store_true", help="run again even where nothing changed")
    run.add_argument(
        "--sweep",
        default="",
        metavar="FILE",
        help="run them once per point of FILE (see sweeps/); other options stand in for its base",
    )
    run.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="notebooks (of a sweep: points) at a time, sharing the cores",
    )
    run.add_argument(
        "--budget", type=float, metavar="MINUTES",
        help="once they are used, nothing starts and trainings stop; the same command goes on",
    )
    run.add_argument(
        "--processes", type=int, metavar="N",
        help="train in N processes (accelerate launch), e.g. one per GPU; notebook 07 stays in one",
    )
    run.set_defaults(action=_run, data="")  # '' = not given: a sweep's base may say

    demo = commands.add_parser("demo", help="all notebooks, simulated cohort, minutes on two cores")
    demo.set_defaults(
        action=lambda args: _execute([], {"PRESET": "demo", "DATA": "synthetic"})
    )

    doctor = commands.add_parser(
        "doctor", help="print the environment, ready to paste into a bug report"
    )
    doctor.set_defaults(action=_doctor)

    cli_data.add_commands(commands)
    cli_models.add_commands(commands)
    cli_ask.add_commands(commands)
    cli_report.add_commands(commands)
    cli_plan.add_commands(commands)

    plot = commands.add_parser("plot", help="draw an ECG (WFDB record, CSV or NPY) on ECG paper")
    plot.add_argument("record", help="path of the record")
    plot.add_argument("--fs", type=float, help="sampling rate in Hz (CSV and NPY)")
    plot.add_argument("--leads", help="comma-separated lead names (NPY, or CSV without a header)")
    plot.add_argument("--units", help="mV | uV | V (CSV, NPY; default: its header's, else mV)")
    plot.add_argument("--out", default="ecg.png", help="picture to write")
    plot.set_defaults(action=_plot)

    parity = commands.add_parser("parity", help="compare our models with golden fixtures")
    parity.add_argument(
        "files", nargs="*", metavar="FILE.npz", help="none = all in the shared folder"
    )
    parity.add_argument("--device", default="cpu")
    parity.set_defaults(action=_parity)
    return parser


def _run(args) -> int:
    params = cli_plan.given(args)
    n_processes = args.processes
    if args.profile:
        from ecgkit.profiles import read_profile
        from ecgkit.runner_order import choose

        profile = read_profile(args.profile)
        params = profile.params_for(choose(args.notebooks), params)
        n_processes = profile.processes if n_processes is None else n_processes
    if n_processes is not None:
        if n_processes < 1:
            raise ConfigError(f"--processes is {n_processes}; it must be at least 1.")
        os.environ["ECGKIT_PROCESSES"] = str(n_processes)
    if args.sweep:
        from ecgkit.sweeps import run_sweep

        params = _with_whole_paths(params)
        out = params.pop("OUT", "")
        return run_sweep(args.notebooks, args.sweep, params, out, args.force, args.jobs,
                         budget_min=args.budget)
    params = {"PRESET": "demo", "DATA": "synthetic"} | params
    return _execute(args.notebooks, params, args.force, args.jobs, args.budget)


def _execute(notebooks, params: dict, *how) -> int:
    from ecgkit.runner import run_notebooks

    return run_notebooks(notebooks, _with_whole_paths(params), *how)


def _with_whole_paths(params: dict) -> dict:
    """Notebooks run in their own folder, so a path the user typed here is made absolute; '' stays
    "not given", and so does a name that may as well be a hub id unless there is such a folder.
    """

    def whole(value: str) -> str:
        return str(Path(os.path.expanduser(value)).absolute())

    params = dict(params)
    for name in _PATHS:
        value = params.get(name, "")
        if value and value != "synthetic":
            params[name] = whole(value)
    for name in _PATHS_OR_IDS:
        value = str(params.get(name, ""))
        if value and Path(os.path.expanduser(value)).exists():
            params[name] = whole(value)
    if params.get("DATA", "synthetic") != "synthetic" and params.get("MORE_DATA"):
        parts = [part.strip() for part in params["MORE_DATA"].split(",")]
        params["MORE_DATA"] = ",".join(whole(part) for part in parts if part)
    return {k: v for k, v in params.items() if v != "" or k not in _NOT_GIVEN}


def _doctor(args) -> int:
    from ecgkit.runtime import environment_report

    print(environment_report())
    return 0


def _plot(args) -> int:
    from ecgkit.reports.paper import plot_ecg

    record = cli_ask.read_file(args.record, args.fs, args.leads, args.units)
    plot_ecg(record, title=f"{record.ecg_id}").savefig(args.out)
    print(f"{args.out}  ({NOT_FOR_DIAGNOSIS})")
    return 0


def _parity(args) -> int:
    from ecgkit.parity import compare_file, golden_files

    files = args.files or golden_files()
    if not files:
        raise ConfigError(
            "No fixture given and no shared folder found; name the .npz files or set ECGKIT_SHARED."
        )
    missed = 0
    for path in files:
        checks = compare_file(path, args.device)
        missed += sum(not c.passed for c in checks)
        print(f"\n{path}")
        for check in checks:
            print(
                f"  {'ok  ' if check.passed else 'MISS'} {check.difference:9.2e} (tolerance "
                f"{check.tolerance:.0e})  {check.name}"
            )
    print(f"\nparity: {len(files)} run, 0 skipped, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
