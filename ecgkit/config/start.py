"""Settings of notebook 00: an ECG of one's own.

Usage:

    config = StartConfig.from_params({"OWN_ECG": "mine.csv", "OWN_FS": 500, "OWN_UNITS": "uV"})
"""

from __future__ import annotations

from dataclasses import dataclass

from ecgkit.config.base import KitConfig, setting


@dataclass(frozen=True)
class StartConfig(KitConfig):
    """KitConfig and the file to read; a WFDB record states rate, units and leads itself."""

    own_ecg: str = setting("your own ECG: a WFDB record, CSV or NPY; '' = a simulated CSV", "")
    own_fs: float = setting("its sampling rate in Hz (CSV, NPY); 0 = not given", 0.0)
    own_units: str = setting("its units, mV | uV | V (CSV, NPY); '' = as its header says", "")
    own_leads: str = setting("its leads in order, with commas; '' = as its header says", "")
