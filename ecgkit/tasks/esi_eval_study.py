"""The evaluation of an ESI as the calls a notebook shows: each reads the same ECGs, embedded once.

What is computed lives in `zero_shot`, `probes`, `finetune`, `identification`, `retrieval_scores`,
`caption_scores`, `mmd`; here they are given the ECGs, labels and settings of one run.

Letters: n ECGs of the store, m test ECGs, K classes, E width of an embedding, D of a latent.

Usage:

    study = open_evaluation(config, cohort, model, tokenizer, trained_with)
    read = study.zero_shot();  value_of(read.table, "macro AUC")
    study.label_sweep(); study.identify(); study.speak()
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit.config import EsiConfig, EsiEvalConfig
from ecgkit.data.labels import multi_hot
from ecgkit.tasks import esi_eval, identification, mmd, probes, zero_shot
from ecgkit.tasks.caption_scores import CaptionScores, score_captions, write_captions_of
from ecgkit.tasks.ecg_baselines import baseline_names, run_baseline
from ecgkit.tasks.embeddings import EcgEncoder, embed, set_aside
from ecgkit.tasks.esi_data import open_mixture
from ecgkit.tasks.eval_tables import tidy
from ecgkit.tasks.finetune import finetune_table
from ecgkit.tasks.label_sets import LabelSet, label_sets
from ecgkit.tasks.metrics_multilabel import macro_auc_interval
from ecgkit.tasks.named_findings import Lexicon
from ecgkit.tasks.retrieval_scores import retrieval_table, text_latents
from ecgkit.text import prompts
from ecgkit.text.captions import write_captions
from ecgkit.text.cqa import open_assistant

MMD_ECGS = 2000  # at most so many of the pretraining ECGs are compared with the test split
FINDING_METRICS = {"finding F1": "caption_f1", "ROUGE-L": "caption_rouge_l", "BLEU-4":
                   "caption_bleu4"}  # fmt: skip


def value_of(table: pd.DataFrame, metric: str) -> dict:
    """value, low, high, n of the first line of `metric` in a tidy table, as `run.metric` takes."""
    line = table[table["metric"] == metric].iloc[0]
    return {name: line[name] for name in ("value", "low", "high", "n")}


def open_evaluation(config: EsiEvalConfig, cohort, model, tokenizer, trained_with: EsiConfig):
    """Embeds every ECG of the cohort once. Raises DataError where a set of labels has no ECG."""
    ecg = embed(model, cohort)
    sets = label_sets(cohort, config.tasks)
    return Evaluation(config, cohort, model, tokenizer, trained_with, ecg, sets)


@dataclass
class Evaluation:
    """`ecg`: {"embedding" (n, E), "latents" (n, D)} of the whole store; `sets`: the labels asked
    for, of which the first is what figures show.
    """

    config: EsiEvalConfig
    cohort: object
    model: torch.nn.Module
    tokenizer: object
    trained_with: EsiConfig
    ecg: dict[str, np.ndarray]
    sets: list[LabelSet]

    def __post_init__(self):
        self.aside = set_aside(self.ecg["embedding"], self.cohort.table["ecg_id"])
        self.rows = self.cohort.rows("test")
        self.n_test = len(self.rows)
        self.n_aside = int((~self.aside.good[self.rows]).sum())
        self.n_scored = int(self.aside.good[self.rows].sum())
        self.encoder = EcgEncoder("ESI", self.model.img_encoder)

    def summary(self) -> str:
        """Which labels, how many test ECGs have one, and what was set aside."""
        parts = [f"{s.task}: {len(s.index('test'))} of {self.n_test} test ECGs have a label, "
                 f"{len(s.classes)} classes" for s in self.sets]  # fmt: skip
        return "\n".join([*parts, self.aside.sentence or "every ECG has an embedding"])

    # --- reading ----------------------------------------------------------------------------------

    @property
    def labels(self) -> LabelSet:
        return self.sets[0]

    @property
    def classes(self) -> list[str]:
        return self.labels.classes

    @functools.cached_property
    def prompts(self) -> dict[str, list[str]]:
        """Class -> its prompts, of the first set of labels."""
        return zero_shot.task_prompts(self.labels)

    def zero_shot(self):
        """`ReadByPrompts` of the first set; its table holds the lines of every set."""
        each = [
            zero_shot.read_by_prompts(
                self.model, self.tokenizer, self.ecg["latents"], labels, self.config
            )
            for labels in self.sets
        ]
        first = each[0]
        table = pd.concat([one.table for one in each], ignore_index=True)
        return zero_shot.ReadByPrompts(first.labels, first.prompts, first.scores,
                                       first.thresholds, table, first.by_class)  # fmt: skip

    def classes_of(self, scores: np.ndarray) -> pd.DataFrame:
        """AUC of each class on the test split, of (ECGs of the set, K) scores, for bars."""
        test = self._readable.index("test")
        return esi_eval.auc_table(
            self._readable.labels[test], scores[test], self.classes,
            self._readable.patients[test], self.config.n_boot, self.config.seed,
        )  # fmt: skip

    @functools.cached_property
    def _readable(self) -> LabelSet:
        return self.labels.take(self.aside.good[self.labels.rows])

    @functools.cached_property
    def _twin(self) -> torch.nn.Module:
        return zero_shot.untrained_twin(self.trained_with, self.model, self.tokenizer)

    @functools.cached_property
    def _twin_ecg(self) -> dict[str, np.ndarray]:
        return embed(self._twin, self.cohort)

    def untrained(self) -> dict:
        """Zero-shot macro AUC of the untrained twin: value, low, high, n."""
        test, labels = self._readable.index("test"), self._readable
        latents = zero_shot.prompt_latents(self._twin, self.tokenizer, self.prompts)
        scores = zero_shot.zero_shot(self._twin_ecg["latents"][labels.rows[test]], latents)
        value, low, high = macro_auc_interval(
            labels.labels[test], scores, labels.patients[test], self.config.n_boot,
            self.config.seed,
        )  # fmt: skip
        return {"value": value, "low": low, "high": high, "n": len(test)}

    # --- with labels ------------------------------------------------------------------------------

    def probe(self) -> pd.DataFrame:
        """Linear probes of every set of labels, on all training labels."""
        return pd.concat([
            probes.probe_table("ESI, linear probe", self.ecg["embedding"], labels, self.config)
            for labels in self.sets
        ], ignore_index=True)  # fmt: skip

    @functools.cached_property
    def probed(self) -> np.ndarray:
        """(ECGs of the first set, K) scores of its probe."""
        labels, x = self._readable, self.ecg["embedding"][self._readable.rows]
        train = labels.index("train")
        return probes.linear_probe(x[train], labels.labels[train], x, self.config.probe_c or 0.1)

    def untrained_probe(self) -> dict:
        """The same probe on the twin's embedding: value, low, high, n."""
        table = probes.probe_table(
            "untrained, linear probe", self._twin_ecg["embedding"], self.labels, self.config
        )
        return value_of(table, "macro AUC")

    def label_sweep(self) -> pd.DataFrame:
        """Probe by share of the labels, of this encoder and of its untrained twin."""
        parts = {"ESI, linear probe": self.ecg, "untrained, linear probe": self._twin_ecg}
        return pd.concat([
            probes.label_sweep(name, ecg["embedding"], self.labels, self.config)
            for name, ecg in parts.items()
        ], ignore_index=True)  # fmt: skip

    def trained_with_labels(self, folder: Path) -> pd.DataFrame:
        """Fine-tuning (FINETUNE_STEPS) and the encoders of BASELINES; empty where none is asked."""
        tables = []
        for labels in self.sets:
            place = Path(folder) / "fine_tuning" / labels.task
            if self.config.finetune_steps:
                tables.append(finetune_table("ESI, fine-tuned", self.encoder, self.cohort, labels,
                                             self.config, place))  # fmt: skip
            for name in baseline_names(self.config.baselines):
                tables.append(run_baseline(name, self.config, self.cohort, labels, place / name,
                                           self.trained_with.encoder).table)  # fmt: skip
        return pd.concat(tables, ignore_index=True) if tables else tidy([])

    # --- one ECG, one subject ---------------------------------------------------------------------

    def read_findings(self) -> Findings:
        """Zero-shot scores of single SCP statements on the test split."""
        rows = self.rows[self.aside.good[self.rows]]
        codes = zero_shot.scorable_codes(self.cohort, rows, self.config.min_positive)
        asked = prompts.finding_prompts(codes)
        latents = zero_shot.prompt_latents(self.model, self.tokenizer, asked)
        scores = zero_shot.zero_shot(self.ecg["latents"][rows], latents)
        present = multi_hot(self.cohort.table["scp_codes"].iloc[rows], codes)
        patients = self.cohort.table["patient_id"].to_numpy()[rows]
        table = esi_eval.auc_table(present, scores, codes, patients, self.config.n_boot,
                                   self.config.seed)  # fmt: skip
        table = table.sort_values("auc", ascending=False)
        return Findings(rows, codes, asked, latents, scores, present, table)

    def read_sentence(self, words: str) -> tuple[np.ndarray, str]:
        """Scores (m,) of the test ECGs of `read_findings` by any sentence, in standard deviations
        over them, and a remark where the model does not know a word.
        """
        latents = zero_shot.prompt_latents(self.model, self.tokenizer, {"": [words]})
        scores = zero_shot.zero_shot(self.ecg["latents"][self._spoken_rows], latents)[:, 0]
        unknown = [one for one in words.split()
                   if self.tokenizer.unk_token in self.tokenizer.tokenize(one)]  # fmt: skip
        remark = f"The model knows no such word as {', '.join(unknown)}." if unknown else ""
        return (scores - scores.mean()) / max(float(scores.std()), 1e-9), remark

    def identify(self) -> Identified:
        """Half-record identification among the subjects of the test split."""
        rows = identification.pick_subjects(self.cohort, self.config.n_subjects,
                                            seed=self.config.seed)  # fmt: skip
        halves = identification.read_halves(self.cohort.store, rows)
        read = identification.read_all(self.encoder, halves, self.config)
        table = identification.table_of("ESI", read, self.config)
        places = {reader: identification.own_places(scores[0])
                  for reader, scores in read.scores.items()}  # fmt: skip
        return Identified(table, places, read.n)

    @property
    def has_map(self) -> bool:
        """Whether the encoder has a feature map over time (a ViT has none)."""
        return hasattr(self.model.img_encoder, "stages")

    # --- captions ---------------------------------------------------------------------------------

    @functools.cached_property
    def captions(self) -> list[str]:
        """Full captions of the test ECGs that have an embedding, as notebook 04 wrote them."""
        table = self.cohort.table.iloc[self._spoken_rows]
        assistant = open_assistant(self.trained_with, credentialed=not self.cohort.simulated)
        return write_captions(table, self.cohort.statements, assistant, self.trained_with.seed,
                              0).full  # fmt: skip

    @functools.cached_property
    def _spoken_rows(self) -> np.ndarray:
        return self.rows[self.aside.good[self.rows]]

    def retrieve(self) -> pd.DataFrame:
        """Captions for ECGs and ECGs for captions, on the test split."""
        rows = self._spoken_rows
        texts = text_latents(self.model, self.tokenizer, self.captions,
                             self.trained_with.max_tokens)  # fmt: skip
        patients = self.cohort.table["patient_id"].to_numpy()[rows]
        return retrieval_table("ESI", self.ecg["latents"][rows], texts, self.captions, patients,
                               self.config)  # fmt: skip

    def speak(self) -> CaptionScores | None:
        """What the model says of the first N_CAPTIONS test ECGs, scored; None where captioning was
        not trained.
        """
        rows = self._spoken_rows[: self.config.n_captions]
        if not self.trained_with.caption_weight or len(rows) < 2:
            return None
        said = write_captions_of(self.model, self.tokenizer, self.cohort, rows,
                                 self.config.n_beams)  # fmt: skip
        patients = self.cohort.table["patient_id"].to_numpy()[rows]
        lexicon = Lexicon.of(self.cohort.statements)
        return score_captions(said, self.captions[: len(rows)], lexicon, patients, self.config)

    # --- embeddings -------------------------------------------------------------------------------

    def embedding_of(self, split: str) -> np.ndarray:
        """Embeddings of the labelled ECGs of a split, (m, E)."""
        return self.ecg["embedding"][self._readable.rows[self._readable.index(split)]]

    def labels_of(self, split: str) -> np.ndarray:
        return self._readable.labels[self._readable.index(split)]

    def distance_to_pretraining(self) -> float:
        """Squared MMD of embeddings, the ECGs it was pretrained on against the test split."""
        mixture = open_mixture(self.trained_with, self.cohort)
        rng = np.random.default_rng([self.config.seed, 4])
        n = min(MMD_ECGS, len(mixture.train))
        items = np.sort(rng.choice(mixture.train, n, replace=False))
        seen = np.concatenate([self.encoder.of_signals(mixture.read(items[i : i + 256]))
                               for i in range(0, n, 256)])  # fmt: skip
        seen = seen[np.isfinite(seen).all(1)]
        return float(mmd.squared_mmd(seen, self.ecg["embedding"][self._spoken_rows]))


@dataclass(frozen=True)
class Findings:
    """`scores`, `present` (m, K) of `rows` (m,) and `codes`; `latents` (K, D) of their prompts."""

    rows: np.ndarray
    codes: list[str]
    prompts: dict[str, list[str]]
    latents: np.ndarray
    scores: np.ndarray
    present: np.ndarray
    table: pd.DataFrame

    @property
    def standard_scores(self) -> np.ndarray:
        """(m, K) scores in standard deviations over the test split."""
        return (self.scores - self.scores.mean(0)) / np.maximum(self.scores.std(0), 1e-9)

    def true(self, i: int) -> list[int]:
        """Positions of the findings stated of test ECG `i`."""
        return np.flatnonzero(self.present[i] > 0.5).tolist()

    def names(self, cohort) -> list[str]:
        """`ECG 17: IMI, SR` for each test ECG."""
        table = cohort.table.iloc[self.rows]
        return [f"ECG {ecg_id}: {', '.join(codes)}"
                for ecg_id, codes in zip(table["ecg_id"], table["scp_codes"])]  # fmt: skip

    def described(self, cohort) -> list[str]:
        """Descriptions of the codes, short enough for an axis."""
        words = cohort.statements["description"]
        full = [str(words.get(code) or code) for code in self.codes]
        return [name if len(name) <= 36 else f"{name[:34].rstrip()} …" for name in full]

    def telling(self, cohort) -> tuple[int, str, np.ndarray]:
        """(row, code, latent of its prompts) of an ECG worth a look."""
        row, code = esi_eval.telling_example(cohort, self.rows, self.present, self.scores,
                                             self.codes)  # fmt: skip
        return row, code, self.latents[self.codes.index(code)]


@dataclass(frozen=True)
class Identified:
    """`table` tidy; `places` reader -> (N,) place of the own subject among `n`."""

    table: pd.DataFrame
    places: dict[str, np.ndarray]
    n: int

    @property
    def metrics(self) -> dict[str, dict]:
        """What the ablations read: the linear head's top-1 accuracy and macro AUC."""
        own = self.table[self.table["model"].str.endswith("linear head")]
        return {"identification_top1": value_of(own, "top-1 accuracy"),
                "identification_auc": value_of(own, "macro AUC")}  # fmt: skip

    @property
    def above_chance(self) -> float:
        """How many times the top-1 accuracy of guessing the linear head's lower limit is."""
        return self.metrics["identification_top1"]["low"] * self.n


def caption_metrics(scored: CaptionScores) -> dict[str, dict]:
    """Metrics of the captions, and how far each is above the control (`_above`)."""
    out = {}
    for metric, name in FINDING_METRICS.items():
        own = scored.table[scored.table["model"] == "generated"]
        out[name] = value_of(own, metric)
        out[f"{name}_above"] = value_of(scored.above, metric)
    return out
