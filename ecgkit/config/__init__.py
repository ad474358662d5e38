"""Settings: one config class per notebook, one file per study. `CONFIGS` says which notebook takes
which.
"""

from ecgkit.config.base import PRESETS, KitConfig, setting, short_hash
from ecgkit.config.baselines import BaselinesConfig
from ecgkit.config.esi import EsiConfig, EsiEvalConfig
from ecgkit.config.fewshot import FewShotConfig
from ecgkit.config.risk import RiskConfig
from ecgkit.config.start import StartConfig

CONFIGS: dict[str, type[KitConfig]] = {
    "00_start_here": StartConfig,
    "01_data_mapping": KitConfig,
    "02_preprocessing": KitConfig,
    "03_baselines": BaselinesConfig,
    "04_esi_pretraining": EsiConfig,
    "05_esi_evaluation": EsiEvalConfig,
    "06_few_shot_qa": FewShotConfig,
    "07_risk_finetuning": RiskConfig,
    "08_replication_report": KitConfig,
}
# What can be run by name. Without names, the notebooks above run; the exercises' solutions read
# their run folder.
SOLUTIONS = "solutions"
RUNNABLE: dict[str, type[KitConfig]] = CONFIGS | {SOLUTIONS: KitConfig}

__all__ = [
    "CONFIGS",
    "PRESETS",
    "RUNNABLE",
    "SOLUTIONS",
    "BaselinesConfig",
    "EsiConfig",
    "EsiEvalConfig",
    "FewShotConfig",
    "KitConfig",
    "RiskConfig",
    "StartConfig",
    "setting",
    "short_hash",
]
