"""LLM modelling of ECG-QA: a classifier's findings become text, a chat model answers from it.

A tenth of the test questions by type (`data/qa_sampling`), prompts (`llm_qa_prompts`), a chat model
at any OpenAI-compatible endpoint or a local one behind a server of this machine, a parser, exact
match. Beside the model stand the training majority of each template and the lookup reader, the
ceiling of what the blocks hold. Both matchings, sound and published, score the same replies.

What may go wrong with an endpoint ends in a counted "unanswered" question; answers are kept as they
come, so that a run that is stopped, or broke its budget, goes on where it was. Prompts about
credentialed records (MIMIC) go to this machine only, unless ALLOW_REMOTE_TEXT, and are not
written to the run folder.

Source: Oh et al. 2023 (ECG-QA), LLM experiments.

Usage:

    client, close = open_endpoint(config, (llm, tokenizer), folder)
    try:
        results = run_llm_qa(config, cohort, questions, bound, folder, client)
    finally:
        close()
    results.scores, results.table, print(results.summary())
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config.llm_qa import LlmQaSettings
from ecgkit.data.qa_sampling import sample_by_type, strata
from ecgkit.tasks import metrics
from ecgkit.tasks.answers_qa import AnswerSets
from ecgkit.tasks.llm_qa_findings import Findings, as_classifier
from ecgkit.tasks.llm_qa_prompts import PromptWriter, question_rows
from ecgkit.tasks.llm_qa_reader import NAME as LOOKUP
from ecgkit.tasks.llm_qa_reader import Question, look_up
from ecgkit.tasks.llm_qa_scores import BALANCED, OVERALL, score_table, unreachable
from ecgkit.tasks.metrics_qa import judgeable
from ecgkit.text import endpoints
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.answer_parser import (
    UNPARSED,
    parse,
    parse_reference,
    score,
    score_reference,
)
from ecgkit.text.chat_client import ChatClient
from ecgkit.text.llm_budget import Budget, Pace, PacedClient, ask_all
from ecgkit.text.llm_prompts import key_of
from ecgkit.text.local_server import LocalServer
from ecgkit.types import ConfigError

MAJORITY, PUBLISHED = "training majority", ", published matching"
LOCAL_NAME = "small-llama"


@dataclass(frozen=True)
class Results:
    """table: one row a question: position, question_type, question, options, gold, prompt (hash),
    reply, parsed, right, right_reference, lookup, unparsed, answered, why. scores: as
    `llm_qa_scores.score_table`, readers = the model under both matchings (the chosen one first),
    the lookup reader, the majority. never: what the published matching can never score. strata:
    questions there are and were drawn, by type. mark: what the prompts held besides the classifier.
    """

    model: str
    table: pd.DataFrame
    scores: pd.DataFrame
    never: pd.DataFrame
    strata: pd.DataFrame
    meter: str
    mark: str
    left_out: int

    def summary(self) -> str:
        """A few lines: how many were asked, answered, read; exact match beside the baselines."""
        n, answered = len(self.table), int(self.table["answered"].sum())
        lines = [
            f"{self.model}{f' ({self.mark})' if self.mark else ''}: {n} questions asked, "
            f"{n - answered} unanswered, {int(self.table['unparsed'].sum())} replies unparsed"
            + (f"; {self.left_out} left out without a valid answer" if self.left_out else "")
        ]
        for reader in self.scores["reader"].unique():
            cells = [_cell(self.scores, reader, name) for name in (OVERALL, BALANCED)]
            lines.append(f"  {reader}: exact match {cells[0]}, balanced {cells[1]}")
        whys = self.table.loc[~self.table["answered"], "why"]
        whys = whys.str.replace(r"(?<!\S)\d[\d,.]*(?= (tokens|tries|s\b))", "N", regex=True)
        whys = whys.value_counts()
        lines += [f"  unanswered {count}: {why}" for why, count in whys.head(3).items()]
        return "\n".join([*lines, f"  {self.meter}"])


# --- the endpoint ---------------------------------------------------------------------------------


def open_endpoint(
    config: LlmQaSettings, local=None, folder: str | Path | None = None,
    credentialed: bool = False, positions: int | None = None, **client_options,
) -> tuple[PacedClient, Callable[[], None]]:  # fmt: skip
    """(client, close): of LLM_URL, or of `local` = (llm, tokenizer), served on this machine.

    folder: where what was spent is kept. positions: of the local server, see there. The key of
    LLM_URL comes from OPENAI_API_KEY, the local server needs none. Raises ConfigError where text of
    `credentialed` records would leave this machine, and where there is neither a URL nor a local
    model.
    """
    kept = Path(folder) / "spent.jsonl" if folder else None
    budget = Budget(config.llm_token_budget, config.llm_budget, config.prices(), kept)
    options = dict(
        jobs=config.llm_jobs, prices=config.prices(), credentialed=credentialed,
        allow_remote=config.allow_remote_text, pace=Pace(config.llm_per_minute), budget=budget,
        options={"temperature": 0, "max_tokens": config.llm_max_tokens}, **client_options,
    )  # fmt: skip
    if config.llm_url:
        return PacedClient(config.llm_url, config.llm_model, **options), lambda: None
    if local is None:
        raise ConfigError(
            "LLM_URL is empty and no local model was given; set LLM_URL and LLM_MODEL, or pass "
            "local=(llm, tokenizer)."
        )
    server = LocalServer(*local, config.llm_model or LOCAL_NAME, positions=positions).start()
    options = {"timeout_s": 600.0, **options}  # a CPU takes its time
    return PacedClient(server.url, server.name, key_env="", **options), server.stop


# --- the study ------------------------------------------------------------------------------------


def run_llm_qa(
    config: LlmQaSettings, cohort, questions, bound_or_model, folder: str | Path,
    client: ChatClient | None = None, local=None, positions=None, n_boot: int = 1000,
) -> Results:  # fmt: skip
    """Asks LLM_SHARE of the test questions (or `positions`) and scores the answers.

    bound_or_model: see `llm_qa_findings.as_classifier`. client: of `open_endpoint`; None = one of
    `config` and `local`. Writes answers.jsonl, prompts.jsonl, table.csv and scores.csv to `folder`.
    Raises ConfigError before anything is sent where text of credentialed records would leave this
    machine, and DataError as `sample_by_type` does.
    """
    folder = Path(folder)
    classifier, credentialed = as_classifier(bound_or_model), cohort.credentialed
    close: Callable[[], None] = lambda: None  # noqa: E731
    if client is None:
        client, close = open_endpoint(config, local, folder, credentialed)
    try:
        endpoints.check(client.url, credentialed, config.allow_remote_text)
        drawn, rows, left_out = _draw(config, questions, positions)
        findings = Findings(classifier, cohort.store)
        writer = PromptWriter(config, cohort, questions, findings)
        texts = writer.write(rows)
        rows["prompt"] = [key_of(client.model, text, client.options) for text in texts]
        if not credentialed:
            _keep_prompts(folder, rows["prompt"], texts)
        replies = _ask(config, client, dict(zip(rows["prompt"], texts)), folder)
    finally:
        close()
    rows["lookup"] = _looked_up(rows, writer)
    table = _read(rows, replies)
    scores = _scores(config, questions, table, client.model, n_boot)
    results = Results(client.model, table, scores, unreachable(rows), drawn, _meter(client),
                      writer.mark, left_out)
    _write(folder, results)
    return results


def _draw(config, questions, positions):
    """(strata, rows, left out): the questions to ask."""
    test = questions.index("test")
    drawn = strata(questions, test, config.llm_share)
    if positions is None:
        positions = sample_by_type(questions, test, config.llm_share, config.llm_share_seed)
    kept = np.asarray(positions)[judgeable(questions, positions)]
    return drawn, question_rows(questions, kept), len(positions) - len(kept)


def _ask(config, client, prompts: dict[str, str], folder: Path) -> dict:
    """key -> reply or error, asked in random order: a budget that ends early hits all types."""
    order = np.random.default_rng(config.llm_share_seed).permutation(list(prompts)).tolist()
    return ask_all(client, {key: prompts[key] for key in order},
                   AnswerCache(folder / "answers.jsonl"))


def _looked_up(rows: pd.DataFrame, writer: PromptWriter) -> list[frozenset]:
    """The lookup reader's answers, from the same views as the prompts."""
    rows = list(rows.itertuples())
    writer.findings.learn(view for row in rows for view in writer.views(row))
    return [
        look_up(Question(r.question_type, r.template_id, r.question, r.options, r.attribute),
                writer.views(r), writer.findings)
        for r in rows
    ]  # fmt: skip


def _read(rows: pd.DataFrame, replies: dict) -> pd.DataFrame:
    """Parses and scores each reply under both matchings."""
    said = [replies[key] for key in rows["prompt"]]
    forms = [kind.rsplit("-", 1)[1] for kind in rows["question_type"]]
    texts = [one if isinstance(one, str) else "" for one in said]
    parsed = [parse(*item) for item in zip(texts, rows["options"], forms)]
    found = [parse_reference(*item) for item in zip(texts, rows["options"], forms)]
    answered = np.array([isinstance(one, str) for one in said], dtype=bool)
    right = np.array([score(p, gold) for p, gold in zip(parsed, rows["gold"])], dtype=bool)
    published = [score_reference(f, gold) for f, gold in zip(found, rows["gold"])]
    return rows.assign(
        reply=texts,
        parsed=["unparsed" if p is UNPARSED else ", ".join(sorted(p)) or "none" for p in parsed],
        right=right & answered, right_reference=np.array(published, dtype=bool) & answered,
        unparsed=np.array([p is UNPARSED for p in parsed], dtype=bool) & answered,
        answered=answered, why=["" if isinstance(one, str) else str(one) for one in said],
    )  # fmt: skip


def _scores(config, questions, table: pd.DataFrame, model: str, n_boot: int) -> pd.DataFrame:
    positions = table["position"].to_numpy()
    majority = AnswerSets(questions, questions.index("train")).majority(positions)
    hits = metrics.exact_match(
        questions.labels(positions), majority, questions.valid_mask(positions)
    )
    looked = [score(answer, gold) for answer, gold in zip(table["lookup"], table["gold"])]
    both = {model: table["right"], model + PUBLISHED: table["right_reference"]}
    if config.llm_scoring == "reference":
        both = dict(reversed(both.items()))
    baselines = {LOOKUP: looked, MAJORITY: hits}
    if table["answered"].any():  # all readers on the same questions
        return score_table(table, {**both, **baselines}, n_boot)
    everything = table.assign(answered=True)
    return pd.concat([score_table(table, both, n_boot), score_table(everything, baselines, n_boot)],
                     ignore_index=True)  # fmt: skip


def _meter(client: ChatClient) -> str:
    budget = getattr(client, "budget", None)
    spent = f"; {budget.tokens:,} tokens spent in all" if budget and budget.tokens else ""
    return f"{client.meter}{spent}"


# --- files ----------------------------------------------------------------------------------------


def _keep_prompts(folder: Path, keys, texts: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"key": key, "prompt": text}) for key, text in zip(keys, texts)]
    with runtime.replacing(folder / "prompts.jsonl") as scratch:
        scratch.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write(folder: Path, results: Results) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = results.table.assign(
        lookup=[", ".join(sorted(answer)) or "none" for answer in results.table["lookup"]],
        **{c: ["; ".join(v) or "none" for v in results.table[c]] for c in ("options", "gold")},
    ).drop(columns="attribute")  # fmt: skip
    plain.to_csv(folder / "table.csv", index=False)
    results.scores.to_csv(folder / "scores.csv", index=False)


def _cell(scores: pd.DataFrame, reader: str, name: str) -> str:
    [row] = scores[(scores["reader"] == reader) & (scores["type"] == name)].itertuples()
    return f"{row.exact_match:.3f} ({row.low:.3f} to {row.high:.3f}, n={row.n})"
