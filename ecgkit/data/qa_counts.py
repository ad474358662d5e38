"""How often each answer and template occurs, beside what the published shards at hand hold.

ECG-QA 1.0.2 has 414,348 questions about PTB-XL (train 267,539, valid 64,663, test 82,146). The
counts beside ours are of SHARDS alone, 24,348 of them: verify questions about noise and queries
that compare measurements of two patients. Of all other answers and templates no published count is
known here (shown as "").

Usage:

    print(qa_counts(questions).to_string(index=False))           # 104 answers
    print(template_counts(questions).to_string(index=False))     # 70 templates
    print(counts_text(questions))        # both, and where the published column is from
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.qa_templates import TEMPLATES

SHARDS = ("train/120000.json", "train/260000.json", "valid/60000.json", "test/80000.json")
PUBLISHED_ANSWERS = {
    "no": 6927,
    "yes": 3073,
    "rr interval": 7053,
    "qt interval": 7477,
    "p duration": 7188,
    "qt corrected": 7088,
    "pr interval": 6911,
    "qrs duration": 6992,
    "none": 350,
}
PUBLISHED_TEMPLATES = {26: 5528, 27: 1038, 28: 3434, 68: 2604, 69: 5406, 70: 6338}


def qa_counts(questions) -> pd.DataFrame:
    """One row per answer class and `none`: how many questions of the set have it (a question may
    have several), its share of all questions, templates that allow it; `published`: questions of
    SHARDS that have it, "" where they have none to say.
    """
    said = questions.table["answer"].explode().value_counts()
    names = [*questions.classes, "none"]
    counts = said.reindex(names, fill_value=0)
    allowed = [sum(name in answers for answers in questions.valid.values()) for name in names]
    return pd.DataFrame({
        "answer": names, "questions": counts.to_numpy(),
        "share": (counts / max(len(questions), 1)).round(4).to_numpy(), "templates": allowed,
        "published": [PUBLISHED_ANSWERS.get(name, "") for name in names],
    })  # fmt: skip


def template_counts(questions) -> pd.DataFrame:
    """One row per template: types, questions, share of its commonest answer, and `published`."""
    table = questions.table.assign(said=questions.table["answer"].map(lambda a: tuple(sorted(a))))
    groups = table.groupby("template_id")["said"]
    n, most = groups.size(), groups.agg(lambda said: said.value_counts().iloc[0])
    rows = [
        (number, t.question_type, t.attribute_type, int(n.get(number, 0)),
         round(most[number] / n[number], 3) if number in n else np.nan,
         PUBLISHED_TEMPLATES.get(number, ""))
        for number, t in ((number, TEMPLATES[number]) for number in questions.valid)
    ]  # fmt: skip
    columns = ("template_id", "question_type", "attribute_type", "questions", "majority")
    return pd.DataFrame(rows, columns=[*columns, "published"])


def counts_text(questions) -> str:
    """Both tables and a sentence on where the published column is from."""
    said_of = (
        f"\npublished: of {sum(PUBLISHED_TEMPLATES.values()):,} of ECG-QA 1.0.2's 414,348 PTB-XL "
        f"questions, those in {', '.join(SHARDS)} (noise, and measurements of two patients); not "
        "known for the others."
    )
    tables = (qa_counts(questions), template_counts(questions))
    return "\n\n".join(["", *(t.to_string(index=False, na_rep="") for t in tables), said_of[1:]])
