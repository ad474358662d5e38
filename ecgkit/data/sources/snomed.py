"""SNOMED CT codes of the `Dx` line in PhysioNet challenge records, and what they are in SCP-ECG.

Codes, abbreviations and names: the challenge's own lists (scored and unscored diagnoses of 2020 and
2021) and the list that comes with the Chapman-Shaoxing database. The third column is ours: the SCP
statement a code implies, or nothing. Rule: a broader SCP statement is taken where the code implies
it (Mobitz II is second degree block), a narrower one never (an infarct without a place has no SCP
statement). PTB-XL's part of the challenge was coded the other way round, from SCP to SNOMED CT; the
counts agree where the map is one to one.

Usage:

    to_scp(["284470004", "427084000"])      # {"PAC": 100.0, "STACH": 100.0}
    from_scp(["IMI", "SR"])                 # ["164865005", "426783006"]
    NAMES["284470004"]                      # "premature atrial contraction"
"""

from __future__ import annotations

from collections.abc import Iterable

LIKELIHOOD = 100.0  # a Dx line carries no doubt

# code | abbreviation | name | SCP statement it implies
_SCORED = """
164889003|AF|atrial fibrillation|AFIB
164890007|AFL|atrial flutter|AFLT
6374002|BBB|bundle branch block|
426627000|Brady|bradycardia|
733534002|CLBBB|complete left bundle branch block|CLBBB
713427006|CRBBB|complete right bundle branch block|CRBBB
270492004|IAVB|first degree AV block|1AVB
713426002|IRBBB|incomplete right bundle branch block|IRBBB
39732003|LAD|left axis deviation|
445118002|LAnFB|left anterior fascicular block|LAFB
164909002|LBBB|left bundle branch block|CLBBB
251146004|LQRSV|low QRS voltages|LVOLT
698252002|NSIVCB|non-specific intraventricular conduction disorder|IVCD
426783006|NSR|sinus rhythm|SR
284470004|PAC|premature atrial contraction|PAC
10370003|PR|pacing rhythm|PACE
365413008|PRWP|poor R wave progression|
427172004|PVC|premature ventricular contractions|PVC
164947007|LPR|prolonged PR interval|LPR
111975006|LQT|prolonged QT interval|LNGQT
164917005|QAb|abnormal Q wave|QWAVE
47665007|RAD|right axis deviation|
59118001|RBBB|right bundle branch block|CRBBB
427393009|SA|sinus arrhythmia|SARRH
426177001|SB|sinus bradycardia|SBRAD
427084000|STach|sinus tachycardia|STACH
63593006|SVPB|supraventricular premature beats|PAC
164934002|TAb|abnormal T wave|TAB_
59931005|TInv|T wave inversion|INVT
17338001|VPB|ventricular premature beats|PVC
"""
# Doubtful ones of the list above.
# BBB, Brady: side and origin are not said. LAD, RAD: PTB-XL keeps the axis in a column of its own.
# LBBB, RBBB without "complete": the challenge scores them as the complete block, and SCP's
#   statement puts "complete" in brackets.
# SVPB: could be junctional; the challenge scores it as one with PAC.

_UNSCORED = """
233892002|AAR|accelerated atrial escape rhythm|
164951009|abQRS|abnormal QRS|ABQRS
251187003|AED|atrial escape beat|
61277005|AIVR|accelerated idioventricular rhythm|
426664006|AJR|accelerated junctional rhythm|
251139008|ALR|suspected reversal of arm leads|
57054005|AMI|acute myocardial infarction|
413444003|AMIs|acute myocardial ischaemia|ISC_
426434006|AnMIs|anterior ischaemia|ISCAN
54329005|AnMI|anterior myocardial infarction|AMI
251173003|AB|atrial bigeminy|BIGU
195080001|AFAFL|atrial fibrillation and flutter|
195126007|AH|atrial hypertrophy|
251268003|AP|atrial pacing pattern|PACE
106068003|ARH|atrial rhythm|
713422000|ATach|atrial tachycardia|SVTAC
233917008|AVB|AV block|
50799005|AVD|AV dissociation|
29320008|AVJR|AV junctional rhythm|
251166008|AVNRT|AV nodal re-entrant tachycardia|SVTAC
233896004|AVNRT|AV nodal re-entrant tachycardia|SVTAC
233897008|AVRT|AV re-entrant tachycardia|SVTAC
251170000|BPAC|blocked premature atrial contraction|PAC
418818005|BRU|Brugada pattern|
74615001|BTS|bradycardia-tachycardia syndrome|
426749004|CAF|chronic atrial fibrillation|AFIB
251199005|CCR|counterclockwise rotation|
61721007|CVCL/CCVCL|clockwise or counterclockwise vectorcardiographic loop|
698247007|CD|cardiac dysrhythmia|
27885002|CHB|complete heart block|3AVB
204384007|CIAHB|congenital incomplete AV block|
53741008|CHD|coronary heart disease|
413844008|CMI|chronic myocardial ischaemia|ISC_
251198002|CR|clockwise rotation|
82226007|DIB|diffuse intraventricular block|IVCD
428417006|ERe|early repolarisation|
13640000|FB|fusion beats|
164942001|FQRS|fragmented QRS|
84114007|HF|heart failure|
368009|HVD|heart valve disorder|
251259000|HTV|high T voltage|
251200008|ICA|indeterminate cardiac axis|
195042002|IIAVB|second degree AV block|2AVB
426183003|IIAVBII|Mobitz II second degree AV block|2AVB
28189009|2AVB2|Mobitz II second degree AV block|2AVB
425419005|IIs|inferior ischaemia|ISCIN
251120003|ILBBB|incomplete left bundle branch block|ILBBB
704997005|ISTD|inferior ST depression|STD_
49260003|IR|idioventricular rhythm|
426995002|JE|junctional escape|
251164006|JPC|junctional premature complex|
426648003|JTach|junctional tachycardia|
253352002|LAA|left atrial abnormality|LAO/LAE
67741000119109|LAE|left atrial enlargement|LAO/LAE
446813000|LAH|left atrial hypertrophy|LAO/LAE
425623009|LIs|lateral ischaemia|ISCLA
445211001|LPFB|left posterior fascicular block|LPFB
251147008|LVQRSLL|low QRS voltages in the limb leads|LVOLT
251148003|LVQRSCL|low QRS voltages in the chest leads|LVOLT
164873001|LVH|left ventricular hypertrophy|LVH
55827005|LVHV|left ventricular high voltage|VCLVH
370365005|LVS|left ventricular strain|
164865005|MI|myocardial infarction|
164861001|MIs|myocardial ischaemia|ISC_
54016002|MoI|Mobitz I second degree AV block (Wenckebach)|2AVB
428750005|NSSTTA|non-specific ST-T abnormality|NST_
164867002|OldMI|old myocardial infarction|
282825002|PAF|paroxysmal atrial fibrillation|
251205003|PPW|prolonged P wave|
67198005|PSVT|paroxysmal supraventricular tachycardia|PSVT
425856008|PVT|paroxysmal ventricular tachycardia|
164912004|PWC|P wave change|
253339007|RAAb|right atrial abnormality|RAO/RAE
164921003|RAb|abnormal R wave|
446358003|RAH|right atrial hypertrophy|RAO/RAE
67751000119106|RAHV|right atrial high voltage|RAO/RAE
314208002|RAF|rapid atrial fibrillation|AFIB
89792004|RVH|right ventricular hypertrophy|RVH
17366009|SAAWR|sinus to atrial wandering rhythm|
65778007|SAB|sinoatrial block|
5609005|SARR|sinus arrest|
60423000|SND|sinus node dysfunction|
49578007|SPRI|short PR interval|
77867006|SQT|short QT interval|
55930002|STC|ST changes|NST_
429622005|STD|ST depression|STD_
164931005|STE|ST elevation|STE_
164930006|STIAb|abnormal ST interval|NST_
251168009|SVB|supraventricular bigeminy|BIGU
426761007|SVT|supraventricular tachycardia|SVTAC
266257000|TIA|transient ischaemic attack|
251223006|TPW|tall P wave|
164937009|UAb|abnormal U wave|
11157007|VBig|ventricular bigeminy|BIGU
164884008|VEB|ventricular ectopics|PVC
75532003|VEsB|ventricular escape beat|
81898007|VEsR|ventricular escape rhythm|
164896001|VF|ventricular fibrillation|
111288001|VFL|ventricular flutter|
266249003|VH|ventricular hypertrophy|
195060002|VPEx|ventricular pre-excitation|WPW
251266004|VPP|ventricular pacing pattern|PACE
251182009|VPVC|paired ventricular premature complexes|PVC
164895002|VTach|ventricular tachycardia|
251180001|VTrig|ventricular trigeminy|TRIGU
195101003|WAP|wandering atrial pacemaker|
74390002|WPW|Wolff-Parkinson-White pattern|WPW
"""
# Doubtful ones of the list above.
# AMI here is "acute", in SCP "anterior": AMI, OldMI and MI name no place, so SCP has nothing.
# STC, STIAb, NSSTTA: SCP's NST_ ("non-specific ST changes"; the challenge coded PTB-XL's NST_ as
#   STC). NSSTTA may mean the T wave alone; NST_ and NDT are in one superclass (STTC), the smallest
#   harm. STC is not NDT, which speaks of T waves.
# AFAFL: one of the two, not said which. PAF: a history; the rhythm of this strip is not said.
# AVD: seen in complete block, but not only there. AVB, VH, AH: degree or side not said.
# JTach: neither SVTAC nor SVARR as PTB-XL's readers used them; JPC is no PAC.
# VPEx: WPW is SCP's only statement of pre-excitation. DIB: IVCD in other words.
# LVOLT in one plane only: PTB-XL uses its one statement for either plane.

_ROWS = [line.split("|") for line in (_SCORED.strip() + _UNSCORED).strip().split("\n")]
SCORED = frozenset(line.split("|")[0] for line in _SCORED.strip().split("\n"))
NAMES = {code: name for code, _, name, _ in _ROWS}
SCP = {code: scp for code, _, _, scp in _ROWS if scp}

# The SNOMED CT code written for an SCP statement: the scored one that says it, else the commonest,
# and for statements without one of their own what the challenge wrote for PTB-XL's.
_WRITTEN = {scp: code for code, scp in reversed(SCP.items())} | {
    "CLBBB": "164909002",
    "CRBBB": "713427006",
    "PVC": "427172004",
    "LAO/LAE": "67741000119109",
    "RAO/RAE": "446358003",
    "ISC_": "164861001",
    "NST_": "55930002",
    "STD_": "429622005",
    "BIGU": "11157007",
    "SVTAC": "426761007",
    "2AVB": "195042002",
    "WPW": "74390002",
    "NORM": "426783006",
    "NDT": "164934002",
    "NT_": "164934002",
    "LOWT": "164934002",
    "SEHYP": "266249003",
    "SVARR": "63593006",
    "DIG": "428750005",
    "EL": "428750005",
    "ANEUR": "428750005",
}
_INFARCTS = ("IMI", "ASMI", "ALMI", "ILMI", "LMI", "IPMI", "IPLMI", "PMI")
_ISCHAEMIA = ("ISCAL", "ISCAS", "ISCIL", "INJAS", "INJAL", "INJIN", "INJLA", "INJIL")
_WRITTEN |= {code: "164865005" for code in _INFARCTS} | {c: "164861001" for c in _ISCHAEMIA}


def to_scp(codes: Iterable[str | int]) -> dict[str, float]:
    """SNOMED CT codes -> SCP statements with likelihood 100; codes without one are passed over.

    Sinus rhythm is SR, not NORM: an adapter whose source says that its "sinus rhythm" class means a
    normal ECG (CPSC-2018) adds NORM itself. `unknown` tells which codes this module has never met.
    """
    found = (SCP.get(str(code).strip()) for code in codes)
    return {scp: LIKELIHOOD for scp in found if scp}


def from_scp(codes: Iterable[str]) -> list[str]:
    """SCP statements -> SNOMED CT codes in the same order, each once, as a challenge's Dx line.

    Places of infarcts are lost, as they are in the challenge's own version of PTB-XL; statements
    without any code (HVOLT, PRC(S)) are left out.
    """
    return list(dict.fromkeys(_WRITTEN[code] for code in codes if code in _WRITTEN))


def name(code: str | int) -> str:
    """A code's name, or the number itself where this module does not know it: never lost."""
    return NAMES.get(str(code).strip(), str(code).strip())


def unknown(codes: Iterable[str | int]) -> list[str]:
    """Those of `codes` that none of the lists holds, in order."""
    return [text for text in (str(code).strip() for code in codes) if text not in NAMES]
