"""Sizes and settings that need no run: counted from the models, the paper presets and ECG-QA's
files, and written to `kit_counts.json`, so that a claim of the ledger has a file behind it.

A parameter count does not depend on data (models are built on the meta device, without memory); a
setting is what `--preset paper` asks for; counts of questions are read off the published files
where they are at hand (`ECGQA`, else the shared folder).

Usage:

    facts = measure_facts(ecgqa="")
    write_facts(Path("runs/demo"), facts)           # runs/demo/kit_counts.json
    facts["n_parameters_convnext_tiny"]["value"]    # 26814144
"""

from __future__ import annotations

import datetime
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from ecgkit import __version__, runs, runtime
from ecgkit.config import CONFIGS
from ecgkit.data.place import open_place
from ecgkit.reports.ledger_files import FACTS
from ecgkit.types import KitError

# Fields of the paper presets that a published command or table also states.
SETTINGS = {
    "04_esi_pretraining": (
        "lr", "n_steps", "batch_size", "top_k", "contrastive_weight", "caption_weight",
        "text_width", "seconds", "fs",
    ),
    "05_esi_evaluation": ("n_seeds",),
    "06_few_shot_qa": (
        "meta_steps", "n_test_episodes", "n_way", "query_way", "k_shot", "n_query", "prompt",
        "frozen_lm", "repeats", "max_question", "max_answer", "n_prefix", "tasks_per_step",
        "outer_lr", "inner_lr", "inner_steps", "llm_share", "mix_questions",
    ),
    "07_risk_finetuning": ("code_width", "base_features", "n_down", "finetune_lr",
                           "finetune_batch"),
    "03_baselines": ("ssl_batch",),
}  # fmt: skip
ESI_PAIRS = 660_000  # ECG-text pairs of ESI's pretraining, by its abstract
ESI_GPUS = 4


def write_facts(folder: Path, facts: dict[str, dict]) -> Path:
    """Writes `folder`/kit_counts.json, shaped like a notebook's metrics.json; returns its path."""
    body = {
        "kit": __version__, "machine": runtime.cpu_model(), "finished": now(),
        "preset": "paper", "data": {}, "metrics": facts,
    }  # fmt: skip
    path = Path(folder) / FACTS
    runs.write_json(path, body)
    return path


def measure_facts(ecgqa: str = "") -> dict[str, dict]:
    """Name -> {value, low, high, n, unit, note, data}. Counts that cannot be made here are absent.

    `ecgqa`: folder or .zip of ECG-QA; "" = the shared folder's, where there is one.
    """
    facts = {}
    for part in (model_sizes(), kit_tables(), paper_settings(), release_counts(ecgqa)):
        facts |= dict(part)
    return facts


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _fact(value, note: str, data: dict | None = None) -> dict:
    """One metrics row; an exact count has no interval."""
    return {"value": float(value), "low": None, "high": None, "n": None, "unit": "", "note": note,
            "headline": False, "exact": True, "data": data or {}}  # fmt: skip


# --- models and tables of the kit -----------------------------------------------------------------


def model_sizes() -> Iterator[tuple[str, dict]]:
    """Parameters of the models whose size is published, built on the meta device."""
    import torch

    for name, (build, note) in _builders().items():
        with torch.device("meta"):
            n = sum(p.numel() for p in build().parameters())
        yield f"n_parameters_{name}", _fact(n, note)


def _builders() -> dict[str, tuple[Callable, str]]:
    from ecgkit.models import convnext, vit1d, wav2vec, xresnet

    def convnext_of(size: str):
        return convnext.ConvNeXt1D(convnext.ConvNeXtConfig.preset(size))

    return {
        "convnext_tiny": (lambda: convnext_of("tiny"), "ECG encoder of ESI-tiny"),
        "convnext_base": (lambda: convnext_of("base"), "ECG encoder of ESI"),
        "xresnet1d101": (lambda: xresnet.XResNet1D(xresnet.XResNetConfig()), "narrow XResNet"),
        "vit1d": (lambda: vit1d.ViT1D(vit1d.ViTConfig()), "the kit's own: the paper's is not told"),
        "ecg_fm": (lambda: wav2vec.Wav2Vec2CMSC(wav2vec.Wav2VecConfig()),
                   "wav2vec 2.0 + CMSC + RLM with its defaults"),
    }  # fmt: skip


def kit_tables() -> Iterator[tuple[str, dict]]:
    """What the kit's own copies of ECG-QA's tables and the risk network hold."""
    import torch

    from ecgkit.data.qa_templates import TEMPLATES
    from ecgkit.data.qa_vocabulary import answer_classes
    from ecgkit.models.dual_attention import DualAttentionAutoencoder, DualAttentionConfig
    from ecgkit.tasks import risk_cv

    kinds = TEMPLATES.values()
    yield "qa_templates", _fact(len(TEMPLATES), "templates of the kit's questions")
    yield "qa_question_types", _fact(len({t.question_type for t in kinds}), "of these templates")
    yield "qa_attribute_types", _fact(len({t.attribute_type for t in kinds}), "of these templates")
    yield "qa_answers", _fact(len(answer_classes()) - 1, "answer classes, none not counted")
    with torch.device("meta"):
        network = DualAttentionAutoencoder(DualAttentionConfig())
    yield "risk_time_attention", _fact(_groups(network), "attention over time, one a lead")
    defaults = inspect.signature(risk_cv.cross_validate).parameters
    yield "risk_folds", _fact(defaults["n_folds"].default, "default of tasks.risk_cv")
    yield "risk_repeats", _fact(len(defaults["seeds"].default), "seeds of tasks.risk_cv")


def _groups(network) -> int:
    """Leads that have temporal attention weights of their own: the first axis of its weights."""
    return max(next(iter(network.attention.time.parameters())).shape[0], 1)


def paper_settings() -> Iterator[tuple[str, dict]]:
    """`paper_<notebook number>_<field>`: what `--preset paper` sets, some worked out."""
    for notebook, names in SETTINGS.items():
        config = CONFIGS[notebook].from_params({"PRESET": "paper"})
        for name in names:
            note = f"{name.upper()} of notebook {notebook[:2]}, preset paper"
            yield f"paper_{notebook[:2]}_{name}", _fact(getattr(config, name), note)
        if notebook.startswith("04"):
            seen = config.n_steps * config.batch_size / ESI_PAIRS
            yield "paper_04_epochs", _fact(seen, f"N_STEPS x BATCH_SIZE / {ESI_PAIRS:,} pairs")
            each = config.batch_size / ESI_GPUS
            yield "paper_04_batch_each", _fact(each, f"BATCH_SIZE over {ESI_GPUS} processes")
            yield "paper_05_half_s", _fact(config.seconds / 2, "half a record, in seconds")
        if notebook.startswith("03"):
            yield "paper_03_segments", _fact(2 * config.ssl_batch, "two segments an ECG, SSL_BATCH")


# --- ECG-QA's published files ---------------------------------------------------------------------


def release_counts(ecgqa: str = "") -> Iterator[tuple[str, dict]]:
    """Counts read off ECG-QA's files, as `release_<source>_<what>`; nothing where they are absent.

    Questions of a split: a shard's name is the number of its first question, so the last shard's
    name and length give the sum; a copy without the last shard would give less, and its name is in
    the note.
    """
    path = Path(ecgqa) if ecgqa else _shared_release()
    if path is None or not path.exists():
        return
    try:
        place = open_place(path)
        names = set(place.listing())
    except KitError:
        return
    data = {"name": f"ECG-QA files ({path.name})", "simulated": False,
            "fingerprint": place.digest()[:12]}  # fmt: skip
    for source in ("ptbxl", "mimic-iv-ecg"):
        for key, value, note in _of_source(place, names, source):
            yield f"release_{source.split('-')[0]}_{key}", _fact(value, note, data)


def _shared_release() -> Path | None:
    shared = runtime.shared_dir()
    return shared / "data" / "ecgqa-subset.zip" if shared else None


def _of_source(place, names: set[str], source: str) -> Iterator[tuple[str, int, str]]:
    files = {"answers": f"ecgqa/{source}/answers.csv",
             "templates": f"ecgqa/{source}/answers_for_each_template.csv",
             "attributes": f"llm_modeling/metadata/{source}/grounding_class.csv"}  # fmt: skip
    for key, ending in files.items():
        name = next((n for n in names if n.endswith(ending)), None)
        if name:
            rows = _lines(place, name)[1:]
            none = sum(row.split(",", 1)[-1].strip('"') == "none" for row in rows)
            yield key, len(rows) - none, f"rows of {ending.rpartition('/')[2]}, none not counted"
    for split in ("train", "valid", "test"):
        name = next((n for n in names if n.endswith(f"ecgqa/{source}/{split}_ecgs.tsv")), None)
        if name:
            yield f"{split}_ecgs", len(_lines(place, name)), f"lines of {split}_ecgs.tsv"
        found = _last_shard(place, names, f"ecgqa/{source}/paraphrased/{split}/")
        if found and source == "ptbxl":
            yield f"{split}_questions", *found


def _lines(place, name: str) -> list[str]:
    return [line for line in place.read(name).decode("utf-8").splitlines() if line.strip()]


def _last_shard(place, names: set[str], folder: str) -> tuple[int, str] | None:
    """(first number + length, its name) of the shard with the highest number in `folder`."""
    shards = [n for n in names if folder in n and n.endswith(".json")]
    if not shards:
        return None
    last = max(shards, key=lambda name: int(Path(name).stem))
    number = int(Path(last).stem) + len(json.loads(place.read(last)))
    return number, f"number and length of the last shard at hand, {Path(last).name}"
