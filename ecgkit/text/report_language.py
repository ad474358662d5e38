"""The language of a free ECG report: German, Swedish, English, or not to be told.

PTB-XL's reports are a mixture of the three. Small and rule-based: words that one of the languages
alone uses are counted, then letters that it alone has. Words common to two (infarkt, ekg, sinus,
normal) count for neither.

Usage:

    language_of("Sinusrhythmus, Linkstyp, sonst normales EKG")      # "german"
    table["report"].map(language_of).value_counts()
"""

from __future__ import annotations

import re

LANGUAGES = ("german", "swedish", "english")
UNKNOWN = "unknown"

_WORDS = {
    "german": """
        und oder mit bei nicht kein keine sonst normales normaler unter auf nach von der die das
        des im ist wie zu als alt neu frisch verdacht wahrscheinlich moeglich möglich lagetyp
        linkstyp rechtstyp steiltyp indifferenztyp steillage linkslage rechtslage ueberdrehter
        überdrehter sinusrhythmus sinusbradykardie sinustachykardie vorhofflimmern vorhofflattern
        vorhof kammer schenkelblock linksschenkelblock rechtsschenkelblock linkshypertrophie
        rechtshypertrophie hypertrophie unvollständiger unvollstaendiger kompletter inkompletter
        leitungsstörung leitungsstoerung verlängerung verlaengerung senkung hebung niederspannung
        niedervoltage periphere unspezifisches unspezifische abnormales vorderwand hinterwand
        vorderwandinfarkt hinterwandinfarkt inferiorer anteriorer lateraler septaler anteroseptaler
        anterolateraler myokardschaden ischämie ischaemie extrasystolen extrasystole arrhythmie
        supraventrikuläre supraventrikulaere ventrikuläre ventrikulaere schrittmacher unauffälliges
        unauffaelliges pathologisches auszuschliessen auszuschließen linksanteriorer
        linksposteriorer amplitudenkriterien belastung verbreiterung ableitungen lsb rsb beurteilung
        gering leicht deutlich ausgepraegt ohne grades zeit verlaengerte links fuer regelmaessiger
        ekg-befund veraenderungen veränderungen""",
    "swedish": """
        och eller med utan ej inget ingen inga vid som såsom för förmaksflimmer förmaksfladder
        sinusrytm rytm sinusbradykardi sinustakykardi sinustachykardi axel vänster höger
        vänstersidigt högersidigt elaxel normalt avvikande förlopp skänkelblock grenblock
        kammarhypertrofi hypertrofi kammare kammar kammarfrekvens ålder bestämmbar sänkning höjning
        förändring förändringar myokardskada myokardaffektion ischemi förlängd förlängt låga låg
        hög amplituder extremitetsavledningarna bröstavledningarna eljest bör övervägas sannolikt
        möjligen möjlig äldre färsk gammal ospecifikt ospecifika extrasystoli svårbestämmbar säkert
        inkomplett belastning""",
    "english": """
        and or with without the of is are be may to this no not otherwise rhythm left right axis
        deviation wave waves changes change segment segments elevation depression depressed block
        bundle branch heart rate beat beats complex complexes atrial ventricular fibrillation
        flutter tachycardia bradycardia hypertrophy enlargement infarct infarction ischaemia
        ischemia ischaemic ischemic possible probable probably likely prolonged inverted flattening
        flat leads lead chest limb low high voltage voltages old acute abnormal normal consistent
        suggesting suggests premature contraction contractions pacemaker minor trace within limits
        due strain disease incomplete complete degree fascicular arrhythmia ecg specific""",
}
_WORDS = {name: frozenset(words.split()) for name, words in _WORDS.items()}
# English words that German carts print too ("qrs(t) abnormal"): they count by half.
_SHARED = frozenset("normal abnormal block".split())
# German puts words together, more than a list can hold; its endings are not the other languages'.
_GERMAN_ENDING = re.compile(r"\w+(?:rhythmus|arrhythmie|kardie|typ|ung|keiten|wellen)")
_LETTERS = {"german": re.compile("[üß]"), "swedish": re.compile("å")}


def language_of(text: str) -> str:
    """One of LANGUAGES, or "unknown" where no word decides or two languages are level."""
    text = text.lower()
    words = re.findall(r"[^\W\d_]+", text)
    counts = {name: sum(word in own for word in words) for name, own in _WORDS.items()}
    compounds = [word for word in words if word not in _WORDS["german"]]
    counts["german"] += sum(bool(_GERMAN_ENDING.fullmatch(word)) for word in compounds)
    counts["english"] -= sum(word in _SHARED for word in words) / 2
    for name, letters in _LETTERS.items():
        counts[name] += 2 * bool(letters.search(text))
    best, second = sorted(LANGUAGES, key=counts.get, reverse=True)[:2]
    return best if counts[best] > counts[second] else UNKNOWN
