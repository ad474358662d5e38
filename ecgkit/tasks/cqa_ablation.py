"""Appendix A of the ESI paper as a runnable ablation: how many passages, which books, which wording
of the question, each scored by BERTScore against reference texts.

Per finding the question is asked in one of five wordings, `k` passages are retrieved for it from a
set of files (none, each alone, all), and a writer makes a text of them. A control scores the texts
against another finding's reference: raw BERTScores start high, so that is what they are worth.
Without passages the extractive writer has nothing to say; a chat model answers from memory.

Source: Yu et al., ESI (TMLR 2024), tables 7 and 8, appendix A.3.

Usage:

    references = reference_texts()                              # tasks/cqa_references.py
    ablation = Ablation(references, read_folder().passages, BertScorer("FacebookAI/roberta-large"))
    table = ablation.run()                                      # tidy, one row per setting
    over_prompts(table)                                         # mean and sd of F1: A.3
Command:
    python -m ecgkit.tasks.cqa_ablation --scorer FOLDER_OR_ID --references refs.csv
    ... --set KNOWLEDGE=my_textbooks WRITER=chat LLM_URL=http://127.0.0.1:8000/v1 LLM_MODEL=NAME
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.config.cqa import CqaSettings
from ecgkit.tasks.cqa_references import reference_texts
from ecgkit.text import cqa, llm
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.bertscore import BertScorer, Scores
from ecgkit.text.embedders import Tfidf, open_embedder
from ecgkit.text.passages import Passage
from ecgkit.text.retrieval import ExactIndex, open_index
from ecgkit.text.statements import normalise
from ecgkit.types import ConfigError, DataError, KitError

TOP_KS = (1, 2, 3, 4, 5)
PROMPT = "question"  # the paper's own wording
# (table, setting) -> F1 as printed: two textbooks, GPT-3.5, roberta-large.
PUBLISHED_F1 = {
    ("top-k", "1"): 0.8256, ("top-k", "2"): 0.8296, ("top-k", "3"): 0.8297,
    ("top-k", "4"): 0.8299, ("top-k", "5"): 0.8295,
    ("knowledge", "none"): 0.7928, ("knowledge", "all"): 0.8296,
}  # fmt: skip
PUBLISHED_PROMPTS = (0.8295, 0.0003)  # mean and sd of F1 over five wordings


def extractive(prompt: str, closed_book: bool) -> llm.ExtractiveWriter:
    """The offline writer: every passage's first sentence, so that the number of them matters."""
    return llm.ExtractiveWriter(every=True)


def exact(passages: list[Passage]) -> ExactIndex:
    """The offline index: exact cosine of TF-IDF."""
    return ExactIndex(passages, Tfidf())


class Ablation:
    """What all settings share.

    references: finding -> text. passages: of all files. scorer: has `.score(texts, references)`.
    make_index(passages): what retrieves from a set of files. make_writer(prompt, closed_book): who
    writes. kept: a JSON-lines file of texts, so that a killed run goes on where it was.
    """

    def __init__(
        self, references: Mapping[str, str], passages: Sequence[Passage], scorer: BertScorer, *,
        make_index: Callable[[list[Passage]], object] = exact,
        make_writer: Callable[[str, bool], object] = extractive,
        kept: Path | None = None,
    ):  # fmt: skip
        self.references, self.scorer, self.make_writer = dict(references), scorer, make_writer
        self.knowledge = knowledge_sets(passages)
        self._indices = {
            name: make_index(part) for name, part in self.knowledge.items() if part
        }
        self._cache = AnswerCache(kept)

    def run(self, top_ks: Sequence[int] = TOP_KS, top_k: int = 2) -> pd.DataFrame:
        """One row per setting: table (top-k | knowledge | prompt | control), setting, n texts,
        n_empty, mean and sd of precision, recall and F1 (an empty text scores 0), `f1_written`
        (mean F1 of those that are not empty) and `published_f1`.

        Raises DataError where the writer fails, after what it did write was kept.
        """
        scores: dict[tuple, Scores] = {}
        rows = []
        for table, setting, asked in settings(top_ks, top_k, self.knowledge):
            if asked not in scores:
                scores[asked] = self._score(self.texts(*asked))
            rows.append(_row(table, setting, scores[asked]))
        standard = list(self.texts("all", top_k, PROMPT).values())
        turned = np.roll(list(self.references.values()), 1).tolist()
        rows.append(_row("control", "another's reference", self.scorer.score(standard, turned)))
        return pd.DataFrame(rows)

    def texts(self, knowledge: str, k: int, prompt: str) -> dict[str, str]:
        """Finding -> the text written in this setting."""
        wordings = {name: llm.ask(prompt, normalise(name)) for name in self.references}
        index = self._indices.get(knowledge)
        found = index.retrieve(list(wordings.values()), k) if index else [[] for _ in wordings]
        shown = {name: [p for _, p in hits] for name, hits in zip(wordings, found)}
        writer = self.make_writer(prompt, index is None)
        keys = {
            name: short_hash([writer.name, wordings[name], [(p.title, p.text) for p in passages]])
            for name, passages in shown.items()
        }
        self._write(writer, {
            keys[name]: (normalise(name), passages) for name, passages in shown.items()
            if self._cache.get(keys[name]) is None
        })  # fmt: skip
        return {name: self._cache.get(key) for name, key in keys.items()}

    def _write(self, writer, items: dict[str, tuple[str, list[Passage]]]) -> None:
        def keep(key: str, text: str) -> None:
            if self._cache.get(key) is None:
                self._cache.put(key, {"finding": items[key][0], "text": text, "by": writer.name})

        results = cqa.write_many(writer, items, keep)
        failed = {key: error for key, error in results.items() if isinstance(error, KitError)}
        for key in results.keys() - failed.keys():
            keep(key, results[key])
        if failed:
            error = next(iter(failed.values()))
            raise DataError(
                f"{writer.name} gave no text for {len(failed)} of {len(items)} findings "
                f"({str(error).rstrip('.')}). The others are kept: run again to ask for these."
            ) from error

    def _score(self, texts: dict[str, str]) -> Scores:
        return self.scorer.score(list(texts.values()), list(self.references.values()))


def knowledge_sets(passages: Sequence[Passage]) -> dict[str, list[Passage]]:
    """none, each file alone (by name), all; a single file is what all is."""
    files: dict[str, list[Passage]] = {}
    for passage in passages:
        files.setdefault(passage.file, []).append(passage)
    return {"none": [], **(files if len(files) > 1 else {}), "all": list(passages)}


def settings(top_ks: Sequence[int], top_k: int, knowledge: Mapping):
    """(table, setting, (knowledge, k, prompt)) of every row."""
    yield from (("top-k", str(k), ("all", k, PROMPT)) for k in top_ks)
    yield from (("knowledge", name, (name, top_k, PROMPT)) for name in knowledge)
    yield from (("prompt", prompt, ("all", top_k, prompt)) for prompt in llm.PROMPTS)


def over_prompts(table: pd.DataFrame) -> tuple[float, float]:
    """Mean and sd (n - 1) of F1 over the wordings of the question: the paper's A.3."""
    f1 = table.loc[table["table"] == "prompt", "f1"]
    return float(f1.mean()), float(f1.std(ddof=1))


def _row(table: str, setting: str, scores: Scores) -> dict:
    row = {"table": table, "setting": setting, **scores.summary()}
    written = scores.f1[~scores.empty]
    row["f1_written"] = float(written.mean()) if len(written) else float("nan")
    row["published_f1"] = PUBLISHED_F1.get((table, setting), float("nan"))
    return row


# --- the command ---


def open_ablation(
    config: CqaSettings, references: Mapping[str, str], scorer: BertScorer, folder: Path
) -> Ablation:
    """The ablation of `config`'s knowledge, embedder and writer; texts are kept in `folder`."""
    embeds, writes = _client(config, folder, embeds=True), _client(config, folder)

    def index(passages: list[Passage]):
        embedder = open_embedder(config.embedder, embeds, config.device)
        return open_index(config.retriever, passages, embedder, folder / "chroma")

    def chat(prompt: str, closed_book: bool) -> llm.ChatWriter:
        return llm.ChatWriter(writes, prompt, closed_book)

    return Ablation(
        references, cqa.read_knowledge(config.knowledge), scorer, make_index=index,
        make_writer=chat if writes else extractive, kept=folder / "texts.jsonl" if writes else None,
    )  # fmt: skip


def _client(config: CqaSettings, folder: Path, embeds: bool = False) -> llm.ChatClient | None:
    model = config.embedder.removeprefix("endpoint:") if embeds else config.llm_model
    wanted = config.embedder.startswith("endpoint:") if embeds else config.writer == "chat"
    if not wanted:
        return None
    # The findings are reference names, no patient's, so they may go where the user says.
    return llm.ChatClient(config.llm_url, model, jobs=config.llm_jobs, log=folder / "chat.jsonl")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the ablation, prints its table and writes it as CSV; 2 where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m ecgkit.tasks.cqa_ablation",
                                     description=__doc__.split("\n\n")[0])  # fmt: skip
    parser.add_argument("--references", default="", help="CSV with name, text ('' = torch_ecg's)")
    parser.add_argument("--scorer", default="FacebookAI/roberta-large",
                        help="encoder of the BERTScore, hub id or folder")  # fmt: skip
    parser.add_argument("--layer", type=int, help="its layer (default: its authors' choice)")
    parser.add_argument("--out", default="runs/cqa_ablation", help="folder to write to")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", action="extend",
                        help="KNOWLEDGE, TOP_K, EMBEDDER, WRITER, LLM_URL, LLM_MODEL ...")
    args = parser.parse_args(argv)
    try:
        bad = [item for item in args.set if "=" not in item]
        if bad:
            raise ConfigError(f"--set takes NAME=VALUE, not {bad[0]!r}.")
        config = CqaSettings.from_params(dict(item.split("=", 1) for item in args.set))
        _run(config, args)
    except KitError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(config: CqaSettings, args: argparse.Namespace) -> None:
    references = reference_texts(args.references)
    scorer = BertScorer(args.scorer, args.layer, device=config.device)
    folder = runtime.project_root() / args.out
    folder.mkdir(parents=True, exist_ok=True)
    ablation = open_ablation(config, references, scorer, folder)
    table = ablation.run(top_k=config.top_k)
    table.to_csv(folder / "cqa_ablation.csv", index=False)
    columns = ["table", "setting", "n", "n_empty", "f1", "f1_sd", "f1_written", "published_f1"]
    print(table[columns].round(4).to_string(index=False, na_rep="-"))
    print(f"Over the wordings: F1 {over_prompts(table)[0]:.4f} ({over_prompts(table)[1]:.4f}); "
          f"published {PUBLISHED_PROMPTS[0]} ({PUBLISHED_PROMPTS[1]}). BERTScore: {scorer.name}.")
    print(f"Wrote {args.out}/cqa_ablation.csv")


if __name__ == "__main__":
    sys.exit(main())
