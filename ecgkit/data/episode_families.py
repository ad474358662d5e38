"""Names that stand for nearly the same on the paper: to keep one unseen, keep its family unseen.

A mapper that has met "myocardial infarction in inferolateral leads" knows most of "... in inferior
leads"; one that has met "prolonged pr interval" knows first degree block. So families, by the
kit's own reading of the SCP-ECG statements, go to one side of a division together. Exclusive
rhythms (sinus tachycardia, sinus bradycardia) are no family: each asks for its own look.

Usage:

    family_of("prolonged pr interval") == family_of("first degree av block")
    with_families({"atrial premature complex"}, known)     # and supraventricular extrasystoles ...
"""

from __future__ import annotations

from collections.abc import Iterable

from ecgkit.data.qa_vocabulary import (
    ALL_STAGES,
    ANY_DIAGNOSIS,
    ANY_FINDING,
    ANY_RHYTHM,
    AXES,
    CATEGORIES,
    NAME_OF,
    NORMAL,
)

_CODES = (
    "AMI ALMI ASMI IMI ILMI IPMI IPLMI LMI PMI QWAVE",
    "INJAL INJAS INJIN INJIL INJLA ISC_ ISCAN ISCAL ISCAS ISCIN ISCIL ISCLA STD_",
    "LVH VCLVH HVOLT",
    "RVH RAO/RAE",
    "CLBBB ILBBB",
    "CRBBB IRBBB",
    "1AVB LPR",
    "NDT NST_ NT_ TAB_ LOWT INVT",
    "PVC BIGU TRIGU PRC(S)",
    "PAC SVARR",
    "PSVT SVTAC",
)
_NAMES = (
    ("ventricular premature complex", "ventricular extrasystoles", "extrasystoles"),
    ("atrial premature complex", "supraventricular extrasystoles"),
    ("myocardial infarction in inferior leads", CATEGORIES["MI"], *ALL_STAGES),
    ("left ventricular hypertrophy", CATEGORIES["HYP"]),
    AXES,
    (ANY_FINDING, ANY_DIAGNOSIS, NORMAL),
    (NAME_OF["SR"], ANY_RHYTHM),
)


def _families() -> dict[str, str]:
    """Name -> the first name of its family; groups that share a name are one family."""
    groups = [*(tuple(NAME_OF[code] for code in line.split()) for line in _CODES), *_NAMES]
    family: dict[str, str] = {}
    for names in groups:
        first = next((family[name] for name in names if name in family), names[0])
        family |= dict.fromkeys(names, first)
    return family


_FAMILY = _families()


def family_of(name: str) -> str:
    """The family's first name; of a name without one, the name itself. "q waves in lead V1" is of
    the family of "q waves".
    """
    whole = name.split(" in lead ")[0]
    return _FAMILY.get(name, _FAMILY.get(whole, whole))


def with_families(names: Iterable[str], known: Iterable[str]) -> set[str]:
    """`names`, and all of `known` that are of a family with one of them."""
    wanted = {family_of(name) for name in names}
    return set(names) | {name for name in known if family_of(name) in wanted}
