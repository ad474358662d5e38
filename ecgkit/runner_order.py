"""Which notebook waits for which: the one place that says so.

Usage:

    choose(["05", "notebooks/04_esi_pretraining.ipynb"])     # ["04_esi_pretraining", "05_..."]
    waits_for("06_few_shot_qa", choose([]))                  # what has to end before it starts
    needs("06_few_shot_qa", config)                          # what has to have succeeded
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecgkit.config import CONFIGS, RUNNABLE, SOLUTIONS, KitConfig
from ecgkit.types import ConfigError

# A notebook runs only when those it needs have succeeded in the same run folder.
NEEDS = {
    "05_esi_evaluation": ("04_esi_pretraining",),
    "06_few_shot_qa": ("04_esi_pretraining",),
}
# What it takes along if it is there: waited for where both are to run.
READS = {"06_few_shot_qa": ("03_baselines",)}
# It fills the store that all but these two read; it runs first, so that none fills it beside it.
STORE = "01_data_mapping"
REPORT = "08_replication_report"
# Its losses (Cox, alignment) compare the items of a batch; shared out among processes, each would
# compare its own part alone, which is another loss. Its networks are small besides.
ONE_PROCESS = ("07_risk_finetuning",)
WITHOUT_STORE = ("00_start_here", REPORT)


def choose(names: Sequence[str]) -> list[str]:
    """Full notebook names in order; accepts `03`, `03_baselines` or
    `notebooks/03_baselines.ipynb`; where `names` is empty all but the solutions.

    Raises ConfigError for a name that is no notebook's.
    """
    chosen = set()
    for name in names or CONFIGS:
        stem = Path(name).stem
        found = [known for known in RUNNABLE if known == stem or known.split("_")[0] == stem]
        if not found:
            raise ConfigError(f"There is no notebook {name!r}; choose from {', '.join(RUNNABLE)}.")
        chosen.add(found[0])
    return [name for name in RUNNABLE if name in chosen]


def needs(name: str, config: KitConfig) -> tuple[str, ...]:
    """The notebooks that must have succeeded in the same run folder before `name` may run."""
    if getattr(config, "encoder_from", ""):  # an encoder of elsewhere stands in for notebook 04
        return ()
    return NEEDS.get(name, ())


def upstream(name: str, known: Sequence[str]) -> list[str]:
    """Those of `known` whose results `name` reads; the report and the solutions read whatever run
    files there are.
    """
    if name in (REPORT, SOLUTIONS):
        return [n for n in known if n not in (name, SOLUTIONS)]
    return [n for n in known if n in (*NEEDS.get(name, ()), *READS.get(name, ()))]


def waits_for(name: str, chosen: Sequence[str]) -> set[str]:
    """Those of `chosen` that have to end, well or badly, before `name` starts."""
    first = {STORE} if name not in (*WITHOUT_STORE, STORE) else set()
    return {*upstream(name, chosen), *(first & set(chosen))}
