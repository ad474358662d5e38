"""English wordings of SCP statements for simulated reports, in the kit's own words, lower case."""

from __future__ import annotations

# code | wordings. Those of infarcts take the age in front or behind (`AGES`).
_WORDS = """
NORM|normal ecg;tracing within normal limits;no abnormality seen;ecg unremarkable
SR|sinus rhythm;regular sinus rhythm;normal sinus rhythm;sinus rhythm throughout
SBRAD|sinus bradycardia;slow sinus rhythm;sinus rhythm, rate below 60
STACH|sinus tachycardia;fast sinus rhythm;sinus rhythm, rate above 100
SARRH|sinus arrhythmia;sinus rhythm varying with respiration;respiratory sinus arrhythmia
AFIB|atrial fibrillation;atrial fibrillation, irregular ventricular response;absolute arrhythmia \
with atrial fibrillation;no p waves, irregular rr intervals: atrial fibrillation
AFLT|atrial flutter;atrial flutter with flutter waves in ii, iii, avf;saw-tooth atrial flutter
SVTAC|supraventricular tachycardia;narrow complex tachycardia;\
regular tachycardia of supraventricular origin
PSVT|paroxysmal supraventricular tachycardia;run of supraventricular tachycardia;\
supraventricular tachycardia of sudden onset
SVARR|supraventricular arrhythmia;changing atrial rhythm;irregular supraventricular rhythm
PACE|paced ventricular rhythm;pacemaker rhythm;ventricular pacing with capture
BIGU|bigeminy;bigeminal rhythm;every second beat premature, bigeminy
TRIGU|trigeminy;trigeminal rhythm;every third beat premature, trigeminy
PVC|ventricular extrasystoles;premature ventricular complexes;ventricular ectopic beats;\
premature wide beats of ventricular origin
PAC|supraventricular extrasystoles;premature atrial complexes;atrial ectopic beats
PRC(S)|premature complexes;extrasystoles;premature beats of uncertain origin
1AVB|first degree av block;av block grade 1;pr interval prolonged, first degree av block
2AVB|second degree av block;av block grade 2;second degree av block with dropped beats
3AVB|third degree av block;complete av block;complete heart block, atria and ventricles dissociated
LPR|long pr interval;prolonged pr;pr above 200 ms
WPW|wolff-parkinson-white pattern;pre-excitation with delta wave;short pr and delta wave, wpw
CLBBB|complete left bundle branch block;left bundle branch block;lbbb;\
wide qrs of left bundle branch block type
CRBBB|complete right bundle branch block;right bundle branch block;rbbb;\
wide qrs of right bundle branch block type
ILBBB|incomplete left bundle branch block;partial left bundle branch block;incomplete lbbb
IRBBB|incomplete right bundle branch block;rsr' in v1, incomplete right bundle branch block;\
incomplete rbbb;partial right bundle branch block
IVCD|intraventricular conduction delay;non-specific intraventricular block;\
qrs widened, conduction disturbance of no specific type
LAFB|left anterior fascicular block;left anterior hemiblock;lafb with left axis
LPFB|left posterior fascicular block;left posterior hemiblock;lpfb with right axis
LVH|left ventricular hypertrophy;hypertrophy of the left ventricle;lvh;lvh by voltage and pattern
RVH|right ventricular hypertrophy;hypertrophy of the right ventricle;rvh;\
tall r in v1, right ventricular hypertrophy
VCLVH|voltage criteria for left ventricular hypertrophy;high left ventricular voltage;\
voltages suggest lvh;chest lead voltages high
SEHYP|septal hypertrophy;hypertrophy of the septum;prominent septal forces, septal hypertrophy
LAO/LAE|left atrial enlargement;left atrium enlarged;left atrial overload, p waves broad
RAO/RAE|right atrial enlargement;right atrium enlarged;right atrial overload, p waves tall
LVOLT|low qrs voltage;low voltage;qrs voltage reduced;low limb lead voltage
HVOLT|high qrs voltage;high voltage;large qrs amplitudes
IMI|inferior myocardial infarction;inferior infarct;infarction of the inferior wall
AMI|anterior myocardial infarction;anterior infarct;infarction of the anterior wall
ASMI|anteroseptal myocardial infarction;anteroseptal infarct;infarction of the anterior septum
ALMI|anterolateral myocardial infarction;anterolateral infarct;\
infarction of the anterolateral wall
ILMI|inferolateral myocardial infarction;inferolateral infarct;infarction of the inferolateral wall
LMI|lateral myocardial infarction;lateral infarct;infarction of the lateral wall
PMI|posterior myocardial infarction;posterior infarct;infarction of the posterior wall
IPMI|inferoposterior myocardial infarction;inferoposterior infarct;\
infarction of the inferior and posterior walls
IPLMI|inferoposterolateral myocardial infarction;inferoposterolateral infarct;\
infarction of the inferior, posterior and lateral walls
INJAS|anteroseptal subendocardial injury;subendocardial injury, anteroseptal leads;\
injury current in v1 to v4
INJAL|anterolateral subendocardial injury;subendocardial injury, anterolateral leads;\
injury current in the anterolateral leads
INJIN|inferior subendocardial injury;subendocardial injury, inferior leads;\
injury current in ii, iii, avf
INJLA|lateral subendocardial injury;subendocardial injury, lateral leads;\
injury current in i, avl, v5, v6
INJIL|inferolateral subendocardial injury;subendocardial injury, inferolateral leads;\
injury current in the inferior and lateral leads
QWAVE|q waves present;pathological q waves;q waves noted;wide q waves
ABQRS|abnormal qrs;qrs configuration abnormal;qrs complexes of abnormal shape
ISC_|ischaemic st-t changes;st-t changes of ischaemic type;st-t pattern of myocardial ischaemia;\
st segments down and t waves inverted as in ischaemia
ISCAL|anterolateral ischaemia;ischaemic st-t changes in anterolateral leads;\
st-t changes of ischaemia, anterolateral
ISCIN|inferior ischaemia;ischaemic st-t changes in ii, iii, avf;st-t changes of ischaemia, inferior
ISCIL|inferolateral ischaemia;ischaemic st-t changes in inferolateral leads;\
st-t changes of ischaemia, inferior and lateral
ISCAS|anteroseptal ischaemia;ischaemic st-t changes in v1 to v4;\
st-t changes of ischaemia, anteroseptal
ISCLA|lateral ischaemia;ischaemic st-t changes in i, avl, v5, v6;st-t changes of ischaemia, lateral
ISCAN|anterior ischaemia;ischaemic st-t changes in anterior leads;\
st-t changes of ischaemia, anterior
ANEUR|st elevation persists, ventricular aneurysm;st-t changes of ventricular aneurysm;\
raised st over the old infarct as in aneurysm
NST_|non-specific st changes;st changes of no specific kind;non-specific st segment abnormality
NDT|non-diagnostic t wave abnormality;t waves flat, not diagnostic;unspecific t wave abnormality;\
t wave changes without diagnostic value
NT_|non-specific t wave changes;t wave changes, not specific;unspecific t changes
TAB_|t wave abnormality;abnormal t waves;t waves of abnormal shape
LOWT|low t waves;t waves of low amplitude;t waves flat;flattened t waves
INVT|inverted t waves;t wave inversion;t waves negative
STD_|st depression;st segments depressed;st segments below the baseline
STE_|st elevation;st segments elevated;st segments raised
DIG|digitalis effect;sagging st segments of digitalis;st-t changes as under digitalis
EL|electrolyte disturbance or drug effect;st-t pattern of electrolyte imbalance;\
changes as with an electrolyte disorder
LNGQT|long qt interval;prolonged qt;qtc prolonged;qt interval lengthened
"""
WORDS = {
    code: words.split(";")
    for code, words in (line.split("|") for line in _WORDS.strip().split("\n"))
}
AXIS = {
    "MID": ("normal axis", "axis normal"),
    "LAD": ("left axis", "axis to the left", "left axis deviation"),
    "ALAD": ("marked left axis deviation", "axis far left", "extreme left axis"),
    "RAD": ("right axis deviation", "axis to the right", "right axis"),
    "ARAD": ("extreme right axis deviation", "axis far right"),
}
# Stage of an infarct as a reader would put it.
AGES = {
    "Stadium I": ("acute {}", "recent {}", "{}, fresh"),
    "Stadium I-II": ("recent {}", "{}, some days old", "evolving {}"),
    "Stadium II": ("subacute {}", "healing {}", "{}, weeks old"),
    "Stadium II-III": ("{}, probably old", "{}, late subacute stage"),
    "Stadium III": ("old {}", "{}, old", "healed {}", "chronic {}"),
    "unknown": ("{}, age undetermined", "{} of unknown age", "{}"),
}
# Doubt by PTB-XL's likelihood.
DOUBT = {
    15: ("cannot rule out {}", "questionable {}", "{} not excluded"),
    35: ("possible {}", "possibly {}", "suggests {}", "consider {}"),
    50: ("probable {}", "possible {}", "{} likely", "consistent with {}"),
}
DEGREE = ("slight {}", "mild {}", "{}", "{}", "marked {}", "pronounced {}")
OTHERWISE = ("otherwise normal ecg", "otherwise within normal limits", "otherwise unremarkable")
ABNORMAL = ("abnormal ecg", "pathological ecg")
BEATS = {"PVC": "{} ventricular extrasystole(s)", "PAC": "{} supraventricular extrasystole(s)"}
IN_LEADS = " in {}"
# What some readers sum up with: PTB-XL's superclasses in plain words.
IMPRESSION = "impression: {}"
CLASSES = {
    "MI": ("myocardial infarction", "infarct"),
    "STTC": ("st-t changes", "repolarisation abnormality", "st/t change"),
    "CD": ("conduction disturbance", "conduction defect"),
    "HYP": ("hypertrophy", "chamber hypertrophy or overload"),
}
