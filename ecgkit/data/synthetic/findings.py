"""Which finding does what to a heart, and in which order.

Uncertain statements (likelihood 15-50) come with small severity: their criterion is met barely or
not quite.

Usage:
    apply_findings(hearts, has={"AFIB": bool (N,)}, severity={"AFIB": float (N,)}, rng=rng)
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import findings_conduction as conduction
from ecgkit.data.synthetic import findings_infarction as infarction
from ecgkit.data.synthetic import findings_rhythm as rhythm
from ecgkit.data.synthetic import findings_size as size
from ecgkit.data.synthetic import findings_stt as stt
from ecgkit.data.synthetic.hearts import Hearts, place_t_wave

# Order matters: anatomy of conduction first, then what rides on it; sizes before local damage; the
# T wave last.
EFFECTS = {
    "SR": rhythm.sinus,
    "SBRAD": rhythm.sinus_bradycardia,
    "STACH": rhythm.sinus_tachycardia,
    "SARRH": rhythm.sinus_arrhythmia,
    "LAFB": conduction.left_anterior_block,
    "LPFB": conduction.left_posterior_block,
    "RVH": size.right_hypertrophy,
    "CLBBB": conduction.complete_lbbb,
    "ILBBB": conduction.incomplete_lbbb,
    "IVCD": conduction.ventricular_delay,
    "PACE": rhythm.pacemaker,
    "AFIB": rhythm.atrial_fibrillation,
    "AFLT": rhythm.atrial_flutter,
    "SEHYP": size.septal_hypertrophy,
    "LVH": size.left_hypertrophy,
    "VCLVH": size.high_voltage_of_lvh,
    "HVOLT": size.high_voltage,
    "LVOLT": size.low_voltage,
    "CRBBB": conduction.complete_rbbb,
    "IRBBB": conduction.incomplete_rbbb,
    "RAO/RAE": size.right_atrium,
    "LAO/LAE": size.left_atrium,
    "1AVB": conduction.first_degree_block,
    "LPR": conduction.long_pr,
    "WPW": conduction.pre_excitation,
    "NDT": stt.t_flat,
    "LOWT": stt.t_flat,
    "INVT": stt.t_inverted,
    "IMI": infarction.inferior_infarction,
    "AMI": infarction.anterior_infarction,
    "ASMI": infarction.anteroseptal_infarction,
    "ILMI": infarction.inferolateral_infarction,
    "ALMI": infarction.anterolateral_infarction,
    "ISC_": stt.ischaemia,
    "NST_": stt.st_nonspecific,
    "STD_": stt.st_depression,
    "STE_": stt.st_elevation,
    "LNGQT": stt.long_qt,
    "PVC": rhythm.ventricular_beats,
    "PAC": rhythm.atrial_beats,
}
# Statements that only name what another one already drew.
DESCRIPTIVE = ("NORM", "ABQRS", "QWAVE", "NT_", "TAB_", "PRC(S)")


def apply_findings(
    hearts: Hearts, has: dict, severity: dict, rng, heart_rate: float | None = None
) -> None:
    """Applies the findings in EFFECTS' order to the rows that have them; sizes and T waves follow.

    `has` code -> bool (N,), `severity` code -> (N,) in 0..1; `heart_rate` beats/min overrides the
    findings' rates.
    """
    absent = np.zeros(len(hearts), bool)
    has = {code: has.get(code, absent) for code in EFFECTS}
    has["VCLVH"] = has["VCLVH"] & ~has["LVH"]  # beside LVH it only names what LVH has drawn
    _keep_ordinary_size(hearts, np.flatnonzero(~(has["LVH"] | has["VCLVH"] | has["LVOLT"])))
    for code, effect in EFFECTS.items():
        rows = np.flatnonzero(has[code])
        if len(rows):
            effect(hearts, rows, severity[code][rows], rng)
    if heart_rate is not None:
        hearts.rate[:] = heart_rate
    place_t_wave(hearts)


def _keep_ordinary_size(hearts: Hearts, rows: np.ndarray) -> None:
    """Scales hearts without a voltage statement into Sokolow-Lyon's ordinary 1.3 to 3.2 mV."""
    index = size.sokolow(hearts, rows)
    hearts.scale_qrs(rows, np.clip(index, 1.3, 3.2) / index)
