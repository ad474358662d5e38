"""Which finding does what to a heart, and in which order.

Uncertain statements (likelihood 15-50) come with small severity: their criterion is met barely or
not quite.

Usage:

    apply_findings(hearts, has={"AFIB": bool (N,)}, severity={"AFIB": float (N,)}, rng=rng)
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import findings_av as av
from ecgkit.data.synthetic import findings_conduction as conduction
from ecgkit.data.synthetic import findings_ectopy as ectopy
from ecgkit.data.synthetic import findings_infarction as infarction
from ecgkit.data.synthetic import findings_injury as injury
from ecgkit.data.synthetic import findings_rhythm as rhythm
from ecgkit.data.synthetic import findings_size as size
from ecgkit.data.synthetic import findings_stt as stt
from ecgkit.data.synthetic.hearts import Hearts, place_t_wave
from ecgkit.data.synthetic.normal_limits import keep_normal

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
    "SVARR": rhythm.supraventricular_arrhythmia,
    "2AVB": av.second_degree_block,
    "3AVB": av.third_degree_block,
    "AFIB": rhythm.atrial_fibrillation,
    "AFLT": rhythm.atrial_flutter,
    "SVTAC": rhythm.supraventricular_tachycardia,
    "PSVT": rhythm.paroxysmal_tachycardia,
    "PACE": av.pacemaker,
    "SEHYP": size.septal_hypertrophy,
    "LVH": size.left_hypertrophy,
    "VCLVH": size.high_voltage_of_lvh,
    "HVOLT": size.high_voltage,
    "CRBBB": conduction.complete_rbbb,
    "IRBBB": conduction.incomplete_rbbb,
    "LVOLT": size.low_voltage,
    "RAO/RAE": size.right_atrium,
    "LAO/LAE": size.left_atrium,
    "1AVB": conduction.first_degree_block,
    "LPR": conduction.long_pr,
    "WPW": conduction.pre_excitation,
    "LNGQT": stt.long_qt,
    "DIG": stt.digitalis,
    "EL": stt.electrolytes,
    "NDT": stt.t_nondiagnostic,
    "NT_": stt.t_nonspecific,
    "LOWT": stt.t_low,
    "TAB_": stt.t_abnormal,
    "INVT": stt.t_inverted,
    "IMI": infarction.inferior_infarction,
    "ILMI": infarction.inferolateral_infarction,
    "IPMI": infarction.inferoposterior_infarction,
    "IPLMI": infarction.inferoposterolateral_infarction,
    "LMI": infarction.lateral_infarction,
    "PMI": infarction.posterior_infarction,
    "ASMI": infarction.anteroseptal_infarction,
    "AMI": infarction.anterior_infarction,
    "ALMI": infarction.anterolateral_infarction,
    "QWAVE": infarction.q_waves_present,
    "ABQRS": infarction.abnormal_qrs,
    "ISC_": injury.ischaemia,
    "ISCAL": injury.ischaemia_anterolateral,
    "ISCIN": injury.ischaemia_inferior,
    "ISCIL": injury.ischaemia_inferolateral,
    "ISCAS": injury.ischaemia_anteroseptal,
    "ISCLA": injury.ischaemia_lateral,
    "ISCAN": injury.ischaemia_anterior,
    "NST_": injury.st_nonspecific,
    "STD_": injury.st_depression,
    "INJAS": injury.injury_anteroseptal,
    "INJAL": injury.injury_anterolateral,
    "INJIN": injury.injury_inferior,
    "INJLA": injury.injury_lateral,
    "INJIL": injury.injury_inferolateral,
    "STE_": injury.st_elevation,
    "ANEUR": injury.aneurysm,
    "PVC": ectopy.ventricular_beats,
    "PAC": ectopy.atrial_beats,
    "PRC(S)": ectopy.premature_beats,
    "BIGU": ectopy.bigeminy,
    "TRIGU": ectopy.trigeminy,
}
# Statements that only name what another one already drew.
DESCRIPTIVE = ("NORM",)


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
    keep_normal(hearts)
    size.keep_ordinary(hearts, np.flatnonzero(~(has["LVH"] | has["VCLVH"] | has["LVOLT"])))
    for code, effect in EFFECTS.items():
        rows = np.flatnonzero(has[code])
        if len(rows):
            effect(hearts, rows, severity[code][rows], rng)
    if heart_rate is not None:
        hearts.rate[:] = heart_rate
    place_t_wave(hearts)
