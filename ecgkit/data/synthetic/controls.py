"""Setting single measures of a heart by hand: QRS width, axis, ST level. For the reader who turns a
knob and watches the ECG follow.

Usage:

    check_measures(heart_rate=75, qrs_ms=140)      # or a sentence: what is wrong, what to give
    set_measures(hearts, qrs_ms=140, axis_deg=-60, st_mv=-0.15)
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import LEADS8, QRS_WAVES, Hearts, J
from ecgkit.data.synthetic.shaping import turn_axis, widen_qrs
from ecgkit.data.synthetic.truth import net_axis
from ecgkit.types import ConfigError

# What may be set by hand: least, most, unit. Beyond it nothing is drawn that could be meant (clocks
# tick 222 times a minute at most, a QRS above 300 ms runs into its own T).
LIMITS = {
    "heart_rate": (20, 220, "beats/min"),
    "qrs_ms": (40, 300, "ms"),
    "axis_deg": (-360, 360, "degrees"),
    "st_mv": (-2, 2, "mV"),
    "age": (0, 120, "years"),
    "sex": (0, 1, "(0 male, 1 female)"),
    "fs": (50, 2000, "Hz"),
    "seconds": (0.5, 3600, "s"),
    "seed": (0, 2**63 - 1, "(a whole number)"),
}

# ST shifts most where the left ventricle faces the lead, and the other way round behind it.
_ST_SHARE = {
    "I": 0.6, "II": 0.8, "V1": -0.3, "V2": 0.2, "V3": 0.7, "V4": 1.0, "V5": 1.0, "V6": 0.8,
}  # fmt: skip


def check_measures(**given) -> None:
    """Raises ConfigError unless each of `given` (names of LIMITS) is None or within its limits; NaN
    and text are not.
    """
    for name, value in given.items():
        least, most, unit = LIMITS[name]
        if value is not None and (isinstance(value, str) or not least <= value <= most):
            raise ConfigError(f"{name} is {value!r}; give {least} to {most} {unit}.")


def set_measures(
    hearts: Hearts,
    qrs_ms: float | None = None,
    axis_deg: float | None = None,
    st_mv: float | None = None,
) -> None:
    """Gives every heart this QRS duration (ms), frontal axis (degrees, 90 straight down) and ST
    shift in V4 and V5 (mV, added to its own); None leaves a measure as it is. Beats that do not
    start in the atria keep their own shape.
    """
    rows = np.arange(len(hearts))
    if qrs_ms is not None:
        widen_qrs(hearts, rows, np.full(len(rows), qrs_ms / 1000))
    if axis_deg is not None:
        _turn_to(hearts, rows, float(axis_deg))
    if st_mv is not None:
        hearts.local[:, J] += st_mv * np.array([_ST_SHARE[lead] for lead in LEADS8])


def _turn_to(hearts: Hearts, rows, axis_deg: float) -> None:
    """Turns the QRS until the axis as the truth measures it (without late waves) is `axis_deg`."""
    aim = np.full(len(rows), axis_deg)
    for _ in range(4):
        turn_axis(hearts, rows, aim, QRS_WAVES)
        aim += (axis_deg - net_axis(hearts) + 180) % 360 - 180
