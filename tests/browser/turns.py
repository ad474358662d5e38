"""What is done to each widget by keyboard: the control, the key (or words and Enter), and what must
then be another: the picture, unless something else is named.
"""

from __future__ import annotations

from lab_page import CHOOSE_NEXT

RIGHT, LEFT, PRESS, TICK = ({"keys": key} for key in ("ArrowRight", "ArrowLeft", "Enter", "Space"))
DOWN = {"keys": CHOOSE_NEXT}
WORDS = {"changes": "words"}
BROWSER = [
    ("Record", DOWN), ("Next", PRESS), ("Previous", PRESS), ("Filter", DOWN), ("V6", TICK),
    ("Statement", DOWN), ("ECG id", {"write": "no such ECG"} | WORDS),
]  # fmt: skip
ATTENTION = [("Words", DOWN), ("Layer", DOWN), ("Head", DOWN), ("Lead", DOWN)]

TURNS: dict[str, dict[str, list[tuple[str, dict[str, str]]]]] = {
    "00_start_here": {"browser": [("Record", DOWN), ("Next", PRESS), ("Previous", PRESS)]},
    "01_data_mapping": {"browser": BROWSER},
    "02_preprocessing": {
        "simulator": [
            ("Heart rate (/min)", RIGHT), ("QRS width (ms)", RIGHT), ("Axis (degrees)", LEFT),
            ("ST level (mV)", RIGHT), ("Statement", DOWN), ("As it began", PRESS),
        ],
        "browser": BROWSER,
    },
    "03_baselines": {"attention": [*ATTENTION, ("Weigh by", DOWN), ("Colour up to", DOWN)]},
    "05_esi_evaluation": {
        "zero-shot": [
            ("Record", DOWN), ("Next", PRESS),
            ("Your sentence", {"write": "The rhythm is irregular without P waves."}),
        ],
        "attention": ATTENTION,
    },
    "06_few_shot_qa": {
        "ask": [
            ("Record", DOWN), ("Question", {"write": "Is there an old infarction?"} | WORDS),
            ("Your own", {"write": "no/such/file.csv"} | WORDS),
        ],
    },
    "07_risk_finetuning": {
        "what-if": [
            ("II", TICK), ("Scale", DOWN), ("by factor", RIGHT), ("Shift (ms)", RIGHT),
            ("As recorded", PRESS), ("Patient", DOWN), ("Next", PRESS),
        ],
    },
}  # fmt: skip
