"""LLM modelling as notebook 06 runs it: notebook 03's classifier, a model, the scores.

Usage:

    classifier = find_classifier(run.folder.parent, config, cohort)      # None where 03 left none
    results = ask_model(config, cohort, questions, classifier, run.folder / "llm_qa", (llm, tok))
    for name, value in metrics_of(results).items(): run.metric(name, **value)
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ecgkit.data.ecgqa import open_questions
from ecgkit.data.grounding import read_grounding
from ecgkit.tasks.llm_qa import PUBLISHED, Results, open_endpoint, run_llm_qa
from ecgkit.tasks.llm_qa_findings import Classifier, load_classifier
from ecgkit.tasks.llm_qa_scores import OVERALL
from ecgkit.types import KitError

PLACE = ("03_baselines", "grounding")
# The small Llama learns on lines; a prompt with a findings block is longer than any of them.
LOCAL_POSITIONS = 4096


def find_classifier(run_folder: str | Path, config, cohort) -> Classifier | None:
    """The classifier that notebook 03 of this run trained on the grounding table.

    None where there is none that fits, and a line says what to do.
    """
    folder = Path(run_folder).joinpath(*PLACE)
    try:
        template = dataclasses.replace(config, flavour="template")
        classes = read_grounding(open_questions(template, cohort, quiet=True)).classes
        return load_classifier(folder, config, classes)
    except KitError as error:
        print(f"LLM modelling is left out: {error}")
        return None


def ask_model(
    config, cohort, questions, classifier: Classifier, folder: str | Path, local
) -> Results:
    """Sends LLM_SHARE of the test questions to LLM_URL or, served here, to `local` = (llm,
    tokenizer).
    """
    client, close = open_endpoint(
        config, local, folder, cohort.credentialed, positions=LOCAL_POSITIONS
    )
    try:
        return run_llm_qa(config, cohort, questions, classifier, folder, client)
    finally:
        close()


def example(results: Results, folder: str | Path) -> dict[str, str] | None:
    """prompt, reply, parsed and gold of the first question that was answered; None where there is
    none, or its prompt was not written down (credentialed records).
    """
    answered = results.table[results.table["answered"]]
    path = Path(folder) / "prompts.jsonl"
    if answered.empty or not path.exists():
        return None
    row = answered.iloc[0]
    prompts = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    prompt = next(line["prompt"] for line in prompts if line["key"] == row["prompt"])
    parsed, gold = (", ".join(sorted(x)) if not isinstance(x, str) else x
                    for x in (row["parsed"], row["gold"]))  # fmt: skip
    return {"prompt": prompt, "reply": row["reply"], "parsed": parsed, "gold": gold or "none"}


def metrics_of(results: Results) -> dict[str, dict]:
    """Name -> value, low, high, n: exact match over all questions of each reader, and what the
    published matching costs the same replies.
    """
    overall = results.scores[results.scores["type"] == OVERALL]
    found = {}
    for row in overall.to_dict("records"):
        reader = row["reader"].replace(PUBLISHED, " published matching")
        name = "llm_qa_" + reader.replace("-", "_").replace(",", "").replace(" ", "_")
        found[name] = {"value": row["exact_match"], **{k: row[k] for k in ("low", "high", "n")}}
    return found
