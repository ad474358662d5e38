"""Does the order that the ESI paper's ablations report show in a sweep? One row per claim.

"shows": the difference has the paper's sign and is longer than its noise, the root of the summed
squares of both half intervals (95 % over test patients of one seed, else sd over seeds). Runs share
their test patients, so for one seed this asks for more than a paired comparison would.

Source: Yu et al. 2024, Tables 5 and 6; of Fig. 5 to 7 no numbers are printed.

Usage:

    ordering(study_of(read_points("runs/esi_demo")))     # DataFrame: Claim, Paper, Here, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.reports import esi_ablations as ablations
from ecgkit.reports.esi_ablations import IDENTITY, MMD, PARTS, PROBE, ZERO_SHOT
from ecgkit.reports.sweep_points import Number, Study, number, read_points

COLUMNS = ("Claim of the paper", "Paper", "Here", "Difference", "Verdict")
NO_CQA, NO_CAPTION, NO_CONTRAST = (PARTS[k] for k in list(PARTS)[1:])
VIT, XRESNET = ("small_vit", "vit"), ("small_xresnet", "xresnet1d101")
Pick = Callable[[Study], Number]


@dataclass(frozen=True)
class Claim:
    """`words`: `more` is larger than `less`; `paper` as printed."""

    words: str
    paper: str
    more: Pick
    less: Pick
    digits: int = 3


def ordering(study: Study) -> pd.DataFrame:
    """One row per claim, in the order of the paper's tables and figures."""
    return pd.DataFrame([_row(claim, study) for claim in CLAIMS], columns=COLUMNS)


def ordering_of(folder: str | Path) -> pd.DataFrame:
    return ordering(ablations.study_of(read_points(folder)))


def verdict(more: Number, less: Number) -> str:
    """See the module's first lines."""
    if not (more.known and less.known):
        return "not run"
    difference, noise = more.value - less.value, float(np.hypot(more.half, less.half))
    if difference > noise:
        return "shows"
    if difference < -noise:
        return "the opposite"
    return "same sign, within the noise" if difference > 0 else "does not show"


def _row(claim: Claim, study: Study) -> tuple[str, str, str, str, str]:
    more, less = claim.more(study), claim.less(study)
    here, apart = "–", "–"
    if more.known and less.known:
        here = f"{more.value:.{claim.digits}f} against {less.value:.{claim.digits}f}"
        noise = float(np.hypot(more.half, less.half))
        apart = f"{more.value - less.value:+.{claim.digits}f} ± {noise:.{claim.digits}f}"
    return claim.words, claim.paper, here, apart, verdict(more, less)


# --- which runs a claim compares ------------------------------------------------------------------


def _of(metric: str, **changed) -> Pick:
    return lambda study: study.measure(metric, **changed)


def _better_of(metric: str, *changes: dict) -> Pick:
    """The smaller of two: what beats it is beaten by both."""

    def pick(study: Study) -> Number:
        found = [study.measure(metric, **changed) for changed in changes]
        if not all(n.known for n in found):
            return Number()
        return min(found, key=lambda n: n.value)

    return pick


def _encoder(names: tuple[str, ...]) -> Pick:
    def pick(study: Study) -> Number:
        there = [name for name in names if name in study.values("encoder")]
        return study.measure(PROBE, encoder=there[0]) if there else Number()

    return pick


def _convnext(largest: bool, least: int = 2) -> Pick:
    """The largest or smallest ConvNeXt; nothing where there are fewer than `least`."""

    def pick(study: Study) -> Number:
        names = [n for n in study.values("encoder") if n not in VIT + XRESNET]
        size = {n: number(study.pick(encoder=n), "n_parameters").value for n in names}
        names = sorted((n for n in names if np.isfinite(size[n])), key=size.get)
        if len(names) < least:
            return Number()
        return study.measure(PROBE, encoder=names[-1 if largest else 0])

    return pick


def _subset(metric: str) -> Pick:
    """The smallest subset that ESI was pretrained on."""

    def pick(study: Study) -> Number:
        sizes = [n for n in study.values("n_pretrain") if n > 0]
        return study.measure(metric, n_pretrain=sizes[0]) if sizes else Number()

    return pick


def _shuffled(which: int) -> Pick:
    """The run with the smallest (0) or largest (-1) share of shuffled pairs."""

    def pick(study: Study) -> Number:
        shares, groups = ablations.shuffles(study)
        return number(groups[which], PROBE) if len(shares) > 1 else Number()

    return pick


def _source(metric: str, alone: bool) -> Pick:
    def pick(study: Study) -> Number:
        groups = ablations.sources(study)
        mine = [p for label, p in groups.items() if label.endswith(" only") == alone]
        mixed = [p for p in mine if p[0].config.get("more_data")]
        return number(mixed[0], metric) if mixed else Number()

    return pick


CLAIMS = (
    Claim("Without CQA the probe is worse", ".928 against .901",
          _of(PROBE), _of(PROBE, **NO_CQA)),
    Claim("Without the caption loss the probe is worse", ".928 against .913",
          _of(PROBE), _of(PROBE, **NO_CAPTION)),
    Claim("Without the contrastive loss the probe is worse", ".928 against .850",
          _of(PROBE), _of(PROBE, **NO_CONTRAST)),
    Claim("The contrastive loss matters most (probe)", ".901 against .850",
          _better_of(PROBE, NO_CQA, NO_CAPTION), _of(PROBE, **NO_CONTRAST)),
    Claim("Without CQA identification is worse", ".923 against .902",
          _of(IDENTITY), _of(IDENTITY, **NO_CQA)),
    Claim("Without the caption loss identification is worse", ".923 against .905",
          _of(IDENTITY), _of(IDENTITY, **NO_CAPTION)),
    Claim("The contrastive loss matters most (identification)", ".902 against .877",
          _better_of(IDENTITY, NO_CQA, NO_CAPTION), _of(IDENTITY, **NO_CONTRAST)),
    Claim("ConvNeXt beats ViT (probe)", ".928 against .897", _convnext(True, 1), _encoder(VIT)),
    Claim("ConvNeXt beats XResNet (probe)", ".928 against .894", _convnext(True, 1),
          _encoder(XRESNET)),
    Claim("A larger ConvNeXt beats a smaller one (probe)", ".932 against .928",
          _convnext(True), _convnext(False)),
    Claim("Pretraining on few ECGs beats a random start (probe)", "Fig. 5",
          _subset(PROBE), ablations.untrained),
    Claim("More pretraining ECGs help (all against the fewest)", "Fig. 5",
          _of(PROBE), _subset(PROBE)),
    Claim("More ECGs bring test and pretraining embeddings together", "Fig. 6",
          _subset(MMD), _of(MMD), 4),
    Claim("Shuffled pairs hurt (none against the most)", "Fig. 7", _shuffled(0), _shuffled(-1)),
    Claim("Enough shuffled pairs are worse than a random start", "Fig. 7",
          ablations.untrained, _shuffled(-1)),
    Claim("All sources beat one alone (probe)", ".928 against .912",
          _source(PROBE, False), _source(PROBE, True)),
    Claim("All sources beat one alone (zero-shot)", ".807 against .792",
          _source(ZERO_SHOT, False), _source(ZERO_SHOT, True)),
    Claim("All sources beat one alone (identification)", ".923 against .917",
          _source(IDENTITY, False), _source(IDENTITY, True)),
)  # fmt: skip
