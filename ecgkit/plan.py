"""What a run will take, before it takes anything: time, memory and disk of each notebook, and what
is missing.

Times are measured where this kit was measured (the demo on simulated data), else scaled from the
operations of its trainings; each line says which. Nothing is read but tables of the source.

Usage:

    plan = make_plan(["03_baselines"], configs, profile)
    plan.rows, plan.disk_gb, plan.missing
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecgkit import run_times, runs, runtime
from ecgkit.config import KitConfig
from ecgkit.plan_trainings import Training, trainings
from ecgkit.profiles import Machine, Profile
from ecgkit.types import LEADS, KitError

PER_PARAMETER = 8  # bytes on disk: the weights that are scored, and the best beside them
WHILE_TRAINING = 12  # weights and AdamW's two moments, of the one checkpoint that is being kept
BASE_GB = 1.0  # memory of a notebook's process before it trains: packages, tables, figures
RATE_SHARE = 0.3  # of a large matrix product's speed, where no profile says what is reached
_EXTRAS = {  # setting: (value that needs it, module, extra)
    "retriever": ("chroma", "chromadb", "rag"), "backend": ("dask", "distributed", "cluster"),
    "frozen_lm": (False, "peft", "lora"),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One notebook. `hours` None: nobody knows; `how` says where the numbers are from."""

    notebook: str
    hours: float | None
    memory_gb: float | None
    disk_gb: float
    how: str


@dataclass
class Plan:
    """`disk` and `free`: GB by place; `missing`: sentences on what the run lacks."""

    rows: list[Row]
    store_gb: float
    n_ecgs: int
    disk: dict[str, float] = field(default_factory=dict)
    free: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    speed: str = ""

    @property
    def hours(self) -> float:
        return sum(row.hours or 0.0 for row in self.rows)

    @property
    def memory_gb(self) -> float:
        return max((row.memory_gb or 0.0 for row in self.rows), default=0.0)

    @property
    def disk_gb(self) -> float:
        return sum(self.disk.values())


def make_plan(
    names: Sequence[str], configs: Mapping[str, KitConfig], profile: Profile | None = None
) -> Plan:
    """The plan of notebooks `names` with their settings. A wrong path is a line of `missing`."""
    first, missing = configs[names[0]], []
    n_ecgs, rate = _cohort(first, profile, missing)
    machine = profile.machine if profile else None
    encoder = getattr(configs.get("04_esi_pretraining"), "encoder", "")
    found = {n: trainings(n, configs[n], encoder) for n in names}
    speed, how = _speed(machine, any(found.values()))
    rows = [_row(n, configs[n], found[n], profile, speed, how) for n in names]
    store_gb = n_ecgs * len(LEADS) * first.seconds * rate * 2 / 1e9
    plan = Plan(rows, store_gb, n_ecgs, missing=missing, speed=how)
    made = first.simulated and profile is None
    simulated_gb = store_gb if made else 0  # its WFDB files, 16 bits a sample too
    plan.disk = {"cache": store_gb + simulated_gb, "runs": sum(row.disk_gb for row in rows)}
    plan.free = {
        "cache": _free_gb(runtime.cache_dir()), "runs": _free_gb(runs.run_folder(first)),
    }  # fmt: skip
    _check(plan, configs, machine)
    return plan


# --- one notebook ---------------------------------------------------------------------------------


def _row(name: str, config, found: list[Training], profile, speed: float, how: str) -> Row:
    n_gpus = profile.processes if profile else 1
    half = config.precision in ("fp16", "bf16") or profile is not None
    models = sum(t.n_params for t in found) * PER_PARAMETER
    state = max((t.n_params for t in found), default=0) * WHILE_TRAINING
    disk = 0.01 + (models + state) / 1e9
    memory = max((t.memory_bytes(n_gpus, half) for t in found), default=0.0) / 1e9
    kept = run_times.measured().get(name)
    if config.preset == "demo" and config.simulated and kept and profile is None:
        return Row(name, kept.seconds / 3600, BASE_GB + memory, disk,
                   f"measured, {kept.machine}, {kept.date}")
    if config.preset == "tiny" and config.simulated:
        return Row(name, 20 / 3600, BASE_GB + memory, disk, "seconds, by design of the preset")
    if getattr(config, "llm", ""):
        return Row(name, None, None, disk, f"unknown: it depends on the size of {config.llm}")
    if not found:
        return Row(name, None, BASE_GB, disk, "trains nothing: minutes, by the number of ECGs")
    hours = sum(t.hours(speed) for t in found)
    parts = ", ".join(f"{t.name} {t.operations:.1e}" for t in found)
    memory += 0 if profile else BASE_GB
    return Row(name, hours, memory, disk, f"scaled, training alone: {parts}")


def _speed(machine: Machine | None, needed: bool) -> tuple[float, str]:
    """Operations a second that trainings are taken to reach, and where that is from."""
    if machine is not None:
        speed = machine.teraflops * 1e12 * machine.share * machine.n_gpus
        return speed, (
            f"{machine.n_gpus} x {machine.gpu}, {machine.teraflops:g} Tflop/s at "
            f"{machine.share:.0%} ({machine.how})"
        )
    if not needed:
        return 1.0, ""
    import torch

    device = runtime.pick_device("auto")
    a = torch.randn(2048, 2048, device=device)
    a @ a
    started = time.perf_counter()
    float((a @ a)[0, 0])  # reading a number waits for the GPU
    peak = 2 * 2048**3 / (time.perf_counter() - started)
    return peak * RATE_SHARE, (
        f"this machine's {device.type}: {peak / 1e9:.0f} Gflop/s of a large product, measured now, "
        f"at {RATE_SHARE:.0%}"
    )


# --- data and disk --------------------------------------------------------------------------------


def _cohort(config: KitConfig, profile: Profile | None, missing: list[str]) -> tuple[int, int]:
    """How many ECGs are stored, at which rate; what is wrong with their place goes to `missing`."""
    if config.simulated and profile is None:
        return config.cohort_size, config.fs
    if config.simulated:
        missing.append(_data_sentence(profile))
        return profile.data.n_ecgs, profile.data.fs
    from ecgkit.data import sources
    from ecgkit.data.cohort import resolve_path

    try:
        name, place = sources.open_source(resolve_path(config.data))
        reader = sources.adapter(name)
        rate = reader.base_rate(config.fs)
        table, _ = reader.read_table(place, rate)
    except KitError as error:
        missing.append(str(error))
        return (profile.data.n_ecgs, profile.data.fs) if profile else (0, config.fs)
    if config.ecgqa and runtime.find_path(config.ecgqa) is None:
        missing.append(f"ECGQA is {config.ecgqa!r}, but there is no such file or folder.")
    if profile and profile.data.ecgqa and not config.ecgqa:
        missing.append("The profile counts on ECG-QA: give its folder or .zip as --ecgqa.")
    return len(table), rate


def _data_sentence(profile: Profile) -> str:
    from ecgkit.data.sources import SOURCES

    source = SOURCES.get(profile.data.source)
    closed = source is not None and not source.open
    how = " It is credentialed: an account, a course and a signed agreement come first." * closed
    return (
        f"No data is given; the profile counts on {profile.data.source} (--data), see `ecgkit data "
        f"card {profile.data.source}`.{how}"
    )


def _free_gb(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


# --- what does not fit ----------------------------------------------------------------------------


def _check(plan: Plan, configs: Mapping[str, KitConfig], machine: Machine | None) -> None:
    for place, need in plan.disk.items():
        if need > plan.free[place]:
            plan.missing.append(
                f"Disk: the {place} folder needs about {need:.0f} GB and has "
                f"{plan.free[place]:.0f} GB free; make room, or move it (ECGKIT_CACHE, --out)."
            )
    if machine is None:
        _check_memory(plan)
    else:
        _check_gpu(plan, machine)
    for name, config in configs.items():
        for setting, (value, module, extra) in _EXTRAS.items():
            wants = getattr(config, setting, None) == value
            if wants and importlib.util.find_spec(module) is None:
                plan.missing.append(
                    f"{name}: {setting.upper()}={value} needs `pip install ecgkit[{extra}]`."
                )
        hub = [f"{s.upper()}={getattr(config, s)}" for s in ("text_encoder", "tokenizer", "llm")
               if _is_hub_id(getattr(config, s, ""))]  # fmt: skip
        if hub:
            plan.missing.append(f"{name}: {', '.join(hub)} comes from the Hugging Face hub "
                                "(network, or its cache).")


def _is_hub_id(value) -> bool:
    return bool(value) and value != "stand-in" and runtime.find_path(str(value)) is None


def _check_memory(plan: Plan) -> None:
    import psutil

    have = psutil.virtual_memory().total / 1e9
    if plan.memory_gb > have:
        plan.missing.append(
            f"Memory: about {plan.memory_gb:.0f} GB at the peak, of {have:.0f} GB; raise "
            "ACCUMULATE, lower BATCH_SIZE, or take a profile for a GPU."
        )


def _check_gpu(plan: Plan, machine: Machine) -> None:
    import torch

    have = torch.cuda.device_count()
    if have < machine.n_gpus:
        plan.missing.append(
            f"GPU: the profile counts on {machine.n_gpus} x {machine.gpu}, this machine has {have}."
        )
    over = [row for row in plan.rows if (row.memory_gb or 0) > machine.memory_gb]
    for row in over:
        plan.missing.append(
            f"GPU memory: {row.notebook} takes about {row.memory_gb:.0f} GB, a {machine.gpu} has "
            f"{machine.memory_gb:g} GB; raise ACCUMULATE or lower BATCH_SIZE."
        )


