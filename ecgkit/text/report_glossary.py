"""German ECG terms in English, word by word: no translation, and named so.

There is no grammar in it: words follow each other as in the German, and what the list lacks stays
German. It is the offline default, so that a reader without German sees what a report speaks of.

Usage:

    english, share = glossary("Sinusrhythmus, Linkstyp")  # "sinus rhythm, left axis type", 1.0
"""

from __future__ import annotations

import re

# term = English; umlauts as two letters, the longer of two that fit is taken.
_TERMS = """
sinusrhythmus = sinus rhythm
sinusbradykardie = sinus bradycardia
sinustachykardie = sinus tachycardia
sinus arrhythmie = sinus arrhythmia
arrhythmie = arrhythmia
vorhofflimmern = atrial fibrillation
vorhofflattern = atrial flutter
vorhof = atrium
kammer = ventricle
schrittmacher = pacemaker
schrittmacherrhythmus = paced rhythm
supraventrikulaere extrasystole(n) = supraventricular premature beat(s)
ventrikulaere extrasystole(n) = ventricular premature beat(s)
extrasystole(n) = premature beat(s)
extrasystolen = premature beats
supraventrikulaere = supraventricular
ventrikulaere = ventricular
lagetyp normal = normal axis
indifferenztyp = normal axis
steiltyp = vertical axis
linkstyp = left axis type
rechtstyp = right axis type
ueberdrehter linkstyp = marked left axis deviation
ueberdrehter rechtstyp = marked right axis deviation
schenkelblock = bundle branch block
linksschenkelblock = left bundle branch block
rechtsschenkelblock = right bundle branch block
linksanteriorer hemiblock = left anterior fascicular block
linksposteriorer hemiblock = left posterior fascicular block
unvollstaendiger = incomplete
inkompletter = incomplete
kompletter = complete
intraventrikulaere leitungsstoerung = intraventricular conduction disturbance
leitungsstoerung = conduction disturbance
linkshypertrophie = left ventricular hypertrophy
rechtshypertrophie = right ventricular hypertrophy
hypertrophie = hypertrophy
amplitudenkriterien = voltage criteria
periphere niederspannung = low voltage in the limb leads
niederspannung = low voltage
vorhofueberlastung = atrial overload
vorderwandinfarkt = anterior infarct
hinterwandinfarkt = inferior infarct
infarkt = infarct
inferiorer = inferior
anteriorer = anterior
lateraler = lateral
septaler = septal
anteroseptaler = anteroseptal
anterolateraler = anterolateral
myokardschaden = myocardial damage
ischaemie = ischaemia
st-senkung = ST depression
st-hebung = ST elevation
senkung = depression
hebung = elevation
qt-verlaengerung = QT prolongation
verlaengerung = prolongation
verbreiterung = widening
veraenderungen = changes
unspezifisches abnormales t = non-specific abnormal T
unspezifisch = non-specific
unspezifische = non-specific
abnormales = abnormal
nicht auszuschliessen = cannot be excluded
wahrscheinlich = probably
moeglich = possible
verdacht auf = suspected
alter unbest = age undetermined
alt = old
frisch = recent
sonst = otherwise
normales = normal
pathologisches = pathological
kein = no
nicht = not
oder = or
und = and
mit = with
ekg = ECG
"""
TERMS = dict(line.split(" = ") for line in _TERMS.strip().splitlines())
_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
_PATTERN = re.compile(
    "|".join(rf"(?<!\w){re.escape(term)}(?!\w)" for term in sorted(TERMS, key=len, reverse=True))
)
# Written alike in both languages: leads, waves, single letters.
_ALIKE = re.compile(r"av[rlf]?|i{1,3}|[a-z]|st|qt|qrs|pq|normal|abnormal|block|sinus|in|typ")


def glossary(text: str) -> tuple[str, float]:
    """(text with the known terms in English, share of its words that are known, 0..1)."""
    german = text.lower().translate(_TWO_LETTERS)
    unknown = re.findall(r"[^\W\d_]+", _PATTERN.sub(" ", german))
    unknown = [word for word in unknown if not _ALIKE.fullmatch(word)]
    n_words = len(re.findall(r"[^\W\d_]+", german))
    english = _PATTERN.sub(lambda found: TERMS[found.group()], german)
    return " ".join(english.split()), 1 - len(unknown) / n_words if n_words else 0.0
