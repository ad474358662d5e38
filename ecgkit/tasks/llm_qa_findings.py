"""A classifier's findings of ECGs through some of their leads, each worked out once, in batches.

Letters: K classes, m views.

Usage:

    findings = Findings(as_classifier(bound), cohort.store)
    findings.learn(views)                       # one pass over all that is new
    findings.text(view), findings.positive(view)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ecgkit.config import BaselinesConfig
from ecgkit.tasks.classifiers import Items, build_classifier, predict_items
from ecgkit.tasks.llm_qa_views import View
from ecgkit.text.llm_prompts import THRESHOLD, finding_lines
from ecgkit.types import LEADS, ConfigError, DataError, ModelError

KINDS = ("se_wrn", "ecg_transformer", "resnet_attention")


@dataclass(frozen=True)
class Classifier:
    """A module with `logits` (B, K) and the names of its K classes."""

    model: torch.nn.Module
    classes: tuple[str, ...]
    name: str = ""

    def __post_init__(self):
        n = getattr(getattr(self.model, "proj", None), "out_features", len(self.classes))
        if n != len(self.classes):
            raise ModelError(
                f"The classifier has {n} outputs, but {len(self.classes)} names were given; give "
                "the classes it was trained on (83 of PTB-XL, 164 of MIMIC in the published ones)."
            )


def as_classifier(source) -> Classifier:
    """A Classifier of what is given: itself, a `GroundingBound`, (model, classes), or a model of
    `load_pretrained` whose card names its classes. Raises ModelError for anything else.
    """
    if isinstance(source, Classifier):
        return source
    if hasattr(source, "grounding"):
        return Classifier(source.model, tuple(source.grounding.classes), source.name)
    if isinstance(source, tuple) and len(source) == 2:
        return Classifier(source[0], tuple(source[1]), type(source[0]).__name__)
    classes = (getattr(source, "about", None) or {}).get("classes")
    if not classes:
        raise ModelError(
            "LLM modelling needs a classifier and the names of its classes; give a "
            "GroundingBound, (model, classes), or a saved model whose config.json names them."
        )
    return Classifier(source, tuple(classes), type(source).__name__)


def load_classifier(folder: str | Path, config, classes, names=KINDS) -> Classifier:
    """The classifier of grounding tuples that notebook 03 left in runs/<run>/03_baselines/grounding
    (`folder`). Its sizes are those of the config.json beside that folder, else `config`'s preset.

    Raises ModelError where no kind of classifier with these classes fits the weights.
    """
    from safetensors.torch import load_file

    path, config = Path(folder) / "model.safetensors", _settings(Path(folder), config)
    place = "/".join(path.parts[-3:-1])  # inside the run: no machine's folders in a notebook
    if not path.exists():
        raise ModelError(f"{place} of this run holds no {path.name}; run notebook 03 first.")
    state = load_file(str(path))
    for name in names:
        if name == "ecg_transformer" and not hasattr(config, "conv_channels"):
            continue  # its sizes are settings of notebook 03 alone
        model = build_classifier(config, name, len(classes))
        if _fits(model, state):
            model.load_state_dict(state)
            return Classifier(model.eval(), tuple(classes), name)
    raise ModelError(
        f"The weights in {place} of this run are none of {', '.join(names)} with {len(classes)} "
        "classes at this preset's sizes; run notebooks 03 and 06 with the same preset and data."
    )


def _settings(folder: Path, config):
    """What notebook 03 was run with: strides and protocol leave no trace in the weights."""
    try:
        return BaselinesConfig.from_params(json.loads((folder.parent / "config.json").read_text()))
    except (OSError, ValueError, ConfigError):
        return config


class Findings:
    """Probabilities of each (record, leads), kept. The store's ECGs are never written to."""

    def __init__(self, classifier: Classifier, store, batch: int = 128):
        self.classifier, self.store, self.batch = classifier, store, batch
        self._scores: dict[tuple, np.ndarray] = {}
        self.n_passes = 0  # how often the model was run over a set of views

    def __len__(self) -> int:
        return len(self._scores)

    def learn(self, views: Iterable[View]) -> None:
        """Scores all views not known yet. Raises DataError for a row outside the store."""
        new = list(dict.fromkeys(key for v in views if (key := _key(v)) not in self._scores))
        if not new:
            return
        masks = np.zeros((len(new), len(LEADS)), dtype=bool)
        for i, (_, leads) in enumerate(new):
            masks[i, list(leads)] = True
        rows, k = np.array([row for row, _ in new]), len(self.classifier.classes)
        items = Items(rows, np.zeros((len(new), k), np.float32), list(self.classifier.classes),
                      leads=masks)
        index = np.argsort(rows, kind="stable")  # the store is read in its own order
        scores = predict_items(self.classifier.model, self.store, items, index, self.batch)
        self.n_passes += 1
        if not np.isfinite(scores).all():
            raise DataError(
                f"The classifier's scores of {int((~np.isfinite(scores)).any(1).sum())} of "
                f"{len(new)} views are not finite; look at their ECGs, or train it again."
            )
        self._scores.update({new[i]: score for i, score in zip(index, scores)})

    def probabilities(self, view: View) -> np.ndarray:
        """(K,). Learns the view first where it is new."""
        if _key(view) not in self._scores:
            self.learn([view])
        return self._scores[_key(view)]

    def text(self, view: View) -> str:
        """One line per class above 0.5; "" without any."""
        return finding_lines(self.classifier.classes, self.probabilities(view))

    def positive(self, view: View) -> frozenset[str]:
        """Names of the classes above 0.5."""
        at = np.flatnonzero(self.probabilities(view) > THRESHOLD)
        return frozenset(self.classifier.classes[k] for k in at)


def _key(view: View) -> tuple:
    return int(view.row), view.leads


def _fits(model, state) -> bool:
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return own == {name: tuple(tensor.shape) for name, tensor in state.items()}

