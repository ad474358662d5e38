"""The lines an ECG cart prints for SCP codes, for simulated ECGs in MIMIC-IV-ECG's layout.

Usage:

    from_scp({"SBRAD": 0.0, "IMI": 50.0}, rng)
    # ["Sinus bradycardia.", "Possible inferior infarct - age undetermined", "", "Abnormal ECG"]
"""

from __future__ import annotations

import numpy as np

PLAIN, HEDGED = 100.0, 50.0  # likelihoods of a finding stated and of one only held possible

# code | plain wordings | hedged wordings; without the third, "Possible" goes before the first.
_WORDINGS = """
SR|Sinus rhythm;Normal sinus rhythm
SBRAD|Sinus bradycardia;Marked sinus bradycardia
STACH|Sinus tachycardia;Marked sinus tachycardia;Rapid sinus tachycardia
SARRH|Sinus arrhythmia;Marked sinus arrhythmia;Respiratory sinus arrhythmia
AFIB|Atrial fibrillation;Atrial fibrillation with rapid ventricular response|\
Probable atrial fibrillation
AFLT|Atrial flutter;Atrial flutter with 4:1 A-V block;Atrial flutter with variable A-V block|\
Probable atrial flutter
SVTAC|Supraventricular tachycardia;Atrial tachycardia;Narrow QRS supraventricular tachycardia|\
Probable supraventricular tachycardia
PSVT|Paroxysmal supraventricular tachycardia;PSVT;Run of paroxysmal supraventricular tachycardia
SVARR|Supraventricular arrhythmia;Unclassified supraventricular arrhythmia
PACE|Ventricular pacing;Pacemaker rhythm - no further analysis;Ventricular-paced rhythm
BIGU|Ventricular bigeminy;Bigeminy;Bigeminal pattern
TRIGU|Ventricular trigeminy;Trigeminy;Trigeminal pattern
PVC|PVC(s);Multifocal PVCs;Premature ventricular contractions
PAC|PAC(s);Premature atrial contractions;Atrial premature complex(es);\
Supraventricular extrasystoles
PRC(S)|Premature complexes;Premature ectopic complexes;Ectopic beats
1AVB|1st degree A-V block;First degree AV block;First-degree A-V conduction delay|\
Borderline 1st degree A-V block
2AVB|2nd degree A-V block, Mobitz I;Second degree AV block, Mobitz II;\
2nd degree A-V block (Wenckebach);Second degree A-V block
3AVB|Complete A-V block;3rd degree A-V block;Complete heart block;Third degree AV block
LPR|Prolonged PR interval;Long PR interval|Borderline prolonged PR interval
WPW|WPW pattern;Wolff-Parkinson-White pattern;Ventricular pre-excitation
LNGQT|Prolonged QT interval;Long QTc interval|Borderline prolonged QT interval
CLBBB|Left bundle branch block;LBBB;Complete left bundle branch block
CRBBB|Right bundle branch block;RBBB
ILBBB|Incomplete LBBB;Incomplete left bundle branch block;ILBBB
IRBBB|Incomplete RBBB;Incomplete right bundle branch block
IVCD|IV conduction defect;Nonspecific intraventricular conduction delay;\
Intraventricular conduction defect;IVCD|Borderline intraventricular conduction delay
LAFB|Left anterior fascicular block;LAFB;Left anterior hemiblock
LPFB|Left posterior fascicular block;LPFB;Left posterior hemiblock
LVH|Left ventricular hypertrophy;LVH
VCLVH|Left ventricular hypertrophy by voltage only;Voltage criteria for LVH|\
Minimal voltage criteria for LVH
RVH|Right ventricular hypertrophy;RVH;Right ventricular hypertrophy by tall R in V1
SEHYP|Septal hypertrophy;Septal hypertrophy pattern;Marked septal hypertrophy
LAO/LAE|Left atrial enlargement;Left atrial abnormality|Possible left atrial abnormality;\
Consider left atrial abnormality
RAO/RAE|Right atrial enlargement;Right atrial abnormality;Right atrial overload|\
Consider right atrial enlargement
LVOLT|Low QRS voltages;Generalized low QRS voltages;Low QRS voltages in limb leads
HVOLT|High QRS voltage;High QRS voltages;High voltage|\
Borderline high QRS voltage - probable normal variant
QWAVE|Abnormal Q waves of undetermined cause;Q waves of undetermined significance;Deep Q waves
ABQRS|Abnormal QRS;Abnormal QRS configuration
IMI|Inferior infarct - age undetermined;INFERIOR INFARCT, old;\
Inferior myocardial infarction, possibly acute;Inferior infarct, recent
ASMI|Anteroseptal infarct - age undetermined;Septal infarct - age undetermined|\
Cannot rule out anteroseptal infarct - age undetermined;Possible septal infarct - age undetermined
AMI|Anterior infarct - age undetermined;ANTERIOR INFARCT, old|\
Possible anterior infarct - age undetermined;\
Poor R wave progression - cannot rule out anterior infarct
ALMI|Anterolateral infarct - age undetermined;Anterolateral infarct, old;\
Anterolateral myocardial infarction
LMI|Lateral infarct - age undetermined;Lateral infarct, old;\
High lateral infarct - age undetermined
ILMI|Inferolateral infarct - age undetermined;Inferior and lateral infarct - age undetermined;\
Inferolateral infarct, old
IPMI|Inferoposterior infarct - age undetermined;Inferior and posterior infarct - age undetermined
IPLMI|Inferoposterolateral infarct - age undetermined;Inferior, posterior and lateral infarct
PMI|Posterior infarct - age undetermined;Posterior infarct, old;Posterior myocardial infarction|\
Possible posterior extension of infarct
ISC_|Widespread ST-T changes suggest myocardial ischemia|\
Extensive ST-T changes may be due to myocardial ischemia
ISCAL|Anterolateral ST-T changes suggest myocardial injury/ischemia|\
Anterolateral ST-T changes may be due to myocardial ischemia
ISCIN|Inferior ST-T changes suggest myocardial injury/ischemia|\
Inferior ST-T changes may be due to myocardial ischemia
ISCIL|Inferior/lateral ST-T changes suggest myocardial injury/ischemia|\
Inferior/lateral ST-T changes may be due to myocardial ischemia
ISCAS|Anteroseptal ST-T changes suggest myocardial injury/ischemia|\
Ant/septal ST-T changes may be due to myocardial ischemia
ISCLA|Lateral ST-T changes suggest myocardial injury/ischemia|\
Lateral ST-T changes may be due to myocardial ischemia
ISCAN|Anterior ST-T changes suggest myocardial injury/ischemia|\
Anterior ST-T changes may be due to myocardial ischemia
INJAS|Marked anteroseptal subendocardial injury;Anteroseptal subendocardial injury;\
Septal subendocardial injury
INJAL|Marked anterolateral subendocardial injury;Anterolateral subendocardial injury
INJIN|Marked inferior subendocardial injury;Inferior subendocardial injury
INJLA|Marked lateral subendocardial injury;Lateral subendocardial injury
INJIL|Marked inferolateral subendocardial injury;Inferolateral subendocardial injury
ANEUR|ST-T pattern of ventricular aneurysm;Pattern of ventricular aneurysm|\
Consider ventricular aneurysm
DIG|Digitalis effect;Digoxin effect;Digitalis effect on repolarization
EL|Electrolyte disturbance;Hyperkalemia pattern;Electrolyte abnormality|\
Tall T waves - consider hyperkalemia
NST_|Nonspecific ST-T changes;Minor ST changes are nonspecific|Borderline nonspecific ST-T changes
STD_|ST depression;ST junctional depression is nonspecific|ST junctional depression is borderline
STE_|ST elevation;ST elevation is nonspecific|Borderline ST elevation
NDT|Nonspecific T abnormalities;Inferior T wave abnormality is nonspecific
NT_|Nonspecific T wave changes;Lateral T wave changes are nonspecific
TAB_|T wave abnormality;Extensive T wave changes|T wave abnormality is borderline
LOWT|Low T wave amplitude;Flat T waves;Flattened T waves
INVT|T wave inversion;Inverted T waves;T wave inversions
"""
_WORDINGS = {
    code: (plain.split(";"), hedged.split(";") if hedged else [])
    for code, plain, hedged in (
        (line.split("|") + [""])[:3] for line in _WORDINGS.strip().split("\n")
    )
}
_RHYTHMS = ("AFIB", "AFLT", "PSVT", "SVTAC", "SVARR", "PACE", "SBRAD", "STACH", "SARRH", "SR")
_RIDERS = ("PVC", "PAC", "1AVB")  # carts hang these on the line of the rhythm
_TECHNICAL = ("Baseline artifact", "Baseline wander", "Artifact in lead(s) V1", "Noisy tracing")


def from_scp(codes, rng: np.random.Generator, axis_deg: float | None = None) -> list[str]:
    """Lines a cart could print for an ECG with `codes` (SCP codes, or a dict code -> likelihood).

    Likelihoods above 0 and up to 50 are hedged; 0 is PTB-XL's "not given" and is worded plainly.
    `axis_deg` (degrees) adds a line on the axis where it deviates. Case and full stops vary;
    now and then a technical line is in between. "" stands before the overall line, where the
    carts leave a column empty. `machine_statements.to_scp` reads back every code of PTB-XL's 71.
    """
    likelihood = dict(codes) if isinstance(codes, dict) else dict.fromkeys(codes, PLAIN)
    rhythm = [_word(code, likelihood[code], rng) for code in _RHYTHMS if code in likelihood]
    riders = [code for code in _RIDERS if code in likelihood and not 0 < likelihood[code] <= HEDGED]
    if rhythm and " with " not in rhythm[0] and riders and rng.random() < 0.7:
        rhythm[0] += f" with {_WORDINGS[riders[0]][0][0]}"
    else:
        riders = []
    said = {*_RHYTHMS, *riders[:1], "NORM"}
    lines = rhythm + _axis_line(axis_deg)
    lines += [_word(c, p, rng) for c, p in likelihood.items() if c in _WORDINGS and c not in said]
    if rng.random() < 0.08:
        lines.append(str(rng.choice(_TECHNICAL)))
    return [_typed(line, rng) for line in lines] + ["", _overall(likelihood, rng)]


def _word(code: str, likelihood: float, rng) -> str:
    """One wording of a code, hedged where its likelihood is low."""
    plain, hedged = _WORDINGS[code]
    if not 0 < likelihood <= HEDGED:
        return plain[int(rng.integers(len(plain)))]
    if hedged:
        return hedged[int(rng.integers(len(hedged)))]
    first = plain[0]
    return f"Possible {first if first[:2].isupper() else first[0].lower() + first[1:]}"


def _axis_line(degrees: float | None) -> list[str]:
    if degrees is None or -30 <= degrees <= 90:
        return []
    return ["Right axis deviation" if 90 < degrees < 180 else "Left axis deviation"]


def _typed(line: str, rng) -> str:
    """Some lines are printed in capitals, some end with a full stop."""
    pick = rng.random()
    return line.upper() if pick < 0.05 else f"{line}." if pick < 0.15 else line


def _overall(likelihood: dict, rng) -> str:
    """The last line. NORM is said here: plainly, or hedged where something minor stands beside."""
    if "NORM" in likelihood:
        if {"SBRAD", "STACH"} & likelihood.keys():
            return "Normal ECG except for rate"
        return "Probable normal ECG" if 0 < likelihood["NORM"] <= HEDGED else "Normal ECG"
    return "Abnormal ECG" if rng.random() < 0.75 else "Borderline ECG"
