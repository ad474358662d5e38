"""German wordings of SCP statements for simulated reports, in the kit's own words: lower case,
umlauts as two letters.
"""

from __future__ import annotations

# code | wordings. Those of infarcts take the age in front or behind (`AGES`).
_WORDS = """
NORM|normales ekg;unauffaelliges ekg;ekg ohne auffaelligkeiten;ekg im rahmen der norm
SR|sinusrhythmus;regelmaessiger sinusrhythmus;normofrequenter sinusrhythmus;sr
SBRAD|sinusbradykardie;bradykarder sinusrhythmus;langsamer sinusrhythmus unter 60/min
STACH|sinustachykardie;tachykarder sinusrhythmus;schneller sinusrhythmus ueber 100/min
SARRH|sinusarrhythmie;sinusrhythmus mit respiratorischer schwankung;respiratorische arrhythmie
AFIB|vorhofflimmern;absolute arrhythmie bei vorhofflimmern;\
vorhofflimmern, unregelmaessige ueberleitung;keine p-wellen, absolute arrhythmie
AFLT|vorhofflattern;vorhofflattern mit flatterwellen in ii, iii, avf;saegezahnfoermiges \
vorhofflattern
SVTAC|supraventrikulaere tachykardie;schmalkomplextachykardie;\
regelmaessige supraventrikulaere tachykardie
PSVT|paroxysmale supraventrikulaere tachykardie;anfall supraventrikulaerer tachykardie;\
anfallsartige supraventrikulaere tachykardie
SVARR|supraventrikulaere arrhythmie;wechselnder vorhofrhythmus;\
unregelmaessiger supraventrikulaerer rhythmus
PACE|schrittmacherrhythmus;schrittmacher-ekg;ventrikulaere stimulation durch schrittmacher
BIGU|bigeminus;bigeminie;jeder zweite schlag vorzeitig, bigeminus
TRIGU|trigeminus;trigeminie;jeder dritte schlag vorzeitig, trigeminus
PVC|ventrikulaere extrasystolen;ves;kammerextrasystolen;vorzeitige breite kammerkomplexe
PAC|supraventrikulaere extrasystolen;sves;vorhofextrasystolen
PRC(S)|extrasystolen;vorzeitige schlaege;extrasystolen unklaren ursprungs
1AVB|av-block grad 1;av-block 1. grades;pq verlaengert, av-block grad 1
2AVB|av-block grad 2;av-block 2. grades;av-block 2. grades mit kammerausfaellen
3AVB|av-block grad 3;totaler av-block;kompletter av-block, vorhof und kammer dissoziiert
LPR|pq-zeit lang;verlaengerte pq-zeit;pq ueber 200 ms
WPW|wpw-syndrom;praeexzitation mit deltawelle;kurze pq-zeit und deltawelle, wpw
CLBBB|kompletter linksschenkelblock;linksschenkelblock;lsb;\
breite kammerkomplexe vom linksschenkelblocktyp
CRBBB|kompletter rechtsschenkelblock;rechtsschenkelblock;rsb;\
breite kammerkomplexe vom rechtsschenkelblocktyp
ILBBB|inkompletter linksschenkelblock;unvollstaendiger linksschenkelblock;\
linksschenkelblock, inkomplett
IRBBB|inkompletter rechtsschenkelblock;unvollstaendiger rechtsschenkelblock;\
rsr' in v1, inkompletter rechtsschenkelblock;rechtsschenkelblock, inkomplett
IVCD|intraventrikulaere leitungsstoerung;unspezifische intraventrikulaere leitungsstoerung;\
qrs verbreitert, leitungsstoerung ohne typ
LAFB|linksanteriorer hemiblock;lahb;hemiblock links anterior
LPFB|linksposteriorer hemiblock;lphb;hemiblock links posterior
LVH|linkshypertrophie;linksventrikulaere hypertrophie;hypertrophie des linken ventrikels;lvh
RVH|rechtshypertrophie;rechtsventrikulaere hypertrophie;hypertrophie des rechten ventrikels;rvh
VCLVH|amplitudenkriterien einer linkshypertrophie;hohe voltage links;\
voltage-kriterien fuer linkshypertrophie;sokolow-index erhoeht
SEHYP|septumhypertrophie;hypertrophie des septums;betonte septumkraefte, septumhypertrophie
LAO/LAE|linker vorhof vergroessert;linksatriale belastung;p sinistroatriale;p breit, linker vorhof
RAO/RAE|rechter vorhof vergroessert;rechtsatriale belastung;p dextroatriale;p hoch, rechter vorhof
LVOLT|niedervoltage;niederspannung;periphere niederspannung;kleine amplituden von qrs
HVOLT|hochvoltage;hohe voltage;grosse amplituden von qrs
IMI|inferiorer infarkt;hinterwandinfarkt;infarkt der inferioren wand;myokardinfarkt inferior
AMI|anteriorer infarkt;vorderwandinfarkt;infarkt der vorderwand;myokardinfarkt anterior
ASMI|anteroseptaler infarkt;infarkt anteroseptal;vorderwandspitzeninfarkt, anteroseptal
ALMI|anterolateraler infarkt;infarkt anterolateral;vorderseitenwandinfarkt
ILMI|inferolateraler infarkt;infarkt inferolateral;hinterseitenwandinfarkt
LMI|lateraler infarkt;infarkt lateral;seitenwandinfarkt
PMI|posteriorer infarkt;infarkt posterior;streng posteriorer infarkt
IPMI|inferoposteriorer infarkt;infarkt inferior und posterior;hinterwandinfarkt, inferoposterior
IPLMI|inferoposterolateraler infarkt;infarkt inferior, posterior und lateral;\
grosser hinterseitenwandinfarkt
INJAS|subendokardiale schaedigung anteroseptal;innenschichtschaden anteroseptal;\
innenschichtschaden in v1 bis v4
INJAL|subendokardiale schaedigung anterolateral;innenschichtschaden anterolateral;\
innenschichtschaden vorderwand und seitenwand
INJIN|subendokardiale schaedigung inferior;innenschichtschaden inferior;\
innenschichtschaden in ii, iii, avf
INJLA|subendokardiale schaedigung lateral;innenschichtschaden lateral;\
innenschichtschaden in i, avl, v5, v6
INJIL|subendokardiale schaedigung inferolateral;innenschichtschaden inferolateral;\
innenschichtschaden hinterwand und seitenwand
QWAVE|q-zacken;pathologische q-zacken;breite q-zacken;tiefe q-zacken
ABQRS|qrs abnormal;qrs auffaellig;kammerkomplex abnorm geformt
ISC_|st-t wie bei ischaemie;st-t-veraenderungen vom ischaemietyp;myokardischaemie nach st-t;\
st gesenkt und t negativ wie bei ischaemie
ISCAL|ischaemie anterolateral;st-t wie bei anterolateraler ischaemie;\
ischaemische st-t-veraenderungen anterolateral
ISCIN|ischaemie inferior;st-t wie bei inferiorer ischaemie;\
ischaemische st-t-veraenderungen in ii, iii, avf
ISCIL|ischaemie inferolateral;st-t wie bei inferolateraler ischaemie;\
ischaemische st-t-veraenderungen inferior und lateral
ISCAS|ischaemie anteroseptal;st-t wie bei anteroseptaler ischaemie;\
ischaemische st-t-veraenderungen in v1 bis v4
ISCLA|ischaemie lateral;st-t wie bei lateraler ischaemie;\
ischaemische st-t-veraenderungen in i, avl, v5, v6
ISCAN|ischaemie anterior;st-t wie bei vorderwandischaemie;\
ischaemische st-t-veraenderungen der vorderwand
ANEUR|bleibende st-hebung, aneurysma;st-t wie bei herzwandaneurysma;\
st-hebung ueber der narbe wie bei aneurysma
NST_|unspezifische st-veraenderungen;st-strecke unspezifisch veraendert;\
unspezifisch abnormale st-strecke
NDT|unspezifisch abnormales t;t-wellen flach, nicht diagnostisch;t abnormal ohne diagnose;\
t-veraenderungen ohne sichere deutung
NT_|unspezifische t-veraenderungen;t-welle unspezifisch veraendert;t uncharakteristisch
TAB_|t-welle abnormal;t-wellen abnorm geformt;t-veraenderungen
LOWT|t-wellen niedrig;t-abflachung;flache t-wellen;t niedrig
INVT|t-negativierung;t-wellen negativ;t-inversion;negative t-wellen
STD_|st-senkung;st-strecken gesenkt;st-strecken unter der grundlinie
STE_|st-hebung;st-strecken gehoben;st-strecken ueber der grundlinie
DIG|digitaliseffekt;muldenfoermige st-senkung wie unter digitalis;st-t wie unter digitalis
EL|elektrolytstoerung oder medikamentenwirkung;st-t wie bei elektrolytstoerung;\
zeichen einer elektrolytentgleisung
LNGQT|qt verlaengert;verlaengerte qt-zeit;qt-verlaengerung;qtc verlaengert
"""
WORDS = {
    code: words.split(";")
    for code, words in (line.split("|") for line in _WORDS.strip().split("\n"))
}
AXIS = {
    "MID": ("indifferenztyp", "lagetyp normal", "normaltyp"),
    "LAD": ("linkstyp", "linkslage"),
    "ALAD": ("ueberdrehter linkstyp", "extreme linkslage"),
    "RAD": ("rechtstyp", "rechtslage"),
    "ARAD": ("ueberdrehter rechtstyp", "extreme rechtslage"),
}
# Stage of an infarct as a reader would put it.
AGES = {
    "Stadium I": ("{}, frisch", "frisch: {}", "{}, stadium i"),
    "Stadium I-II": ("{}, einige tage alt", "{}, stadium i-ii"),
    "Stadium II": ("{}, zwischenstadium", "{}, stadium ii", "{}, subakut"),
    "Stadium II-III": ("{}, wahrscheinlich alt", "{}, stadium ii-iii"),
    "Stadium III": ("{}, alt", "z.n. {}", "{}, stadium iii", "{}, narbe"),
    "unknown": ("{}, alter unbestimmt", "{} unbekannten alters", "{}"),
}
# Doubt by PTB-XL's likelihood.
DOUBT = {
    15: ("{} nicht auszuschliessen", "fraglich {}", "{}?"),
    35: ("moeglicherweise {}", "verdacht auf {}", "v.a. {}", "{} moeglich"),
    50: ("wahrscheinlich {}", "moeglicherweise {}", "{} wahrscheinlich", "vereinbar mit {}"),
}
DEGREE = ("{}, gering", "{}, leicht", "{}", "{}", "{}, ausgepraegt", "{}, deutlich")
OTHERWISE = ("sonst normales ekg", "sonst unauffaellig", "ansonsten im normbereich")
ABNORMAL = ("pathologisches ekg", "ekg pathologisch")
BEATS = {"PVC": "{} ves", "PAC": "{} sves"}
IN_LEADS = " in {}"
# What some readers sum up with: PTB-XL's superclasses in plain words.
IMPRESSION = "beurteilung: {}"
CLASSES = {
    "MI": ("myokardinfarkt", "infarkt"),
    "STTC": ("st-t-veraenderungen", "erregungsrueckbildungsstoerung"),
    "CD": ("leitungsstoerung", "erregungsleitungsstoerung"),
    "HYP": ("hypertrophie", "hypertrophie oder belastung"),
}
