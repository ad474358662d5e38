"""What notebook 06 leaves behind so that anybody can go on asking: `ecgkit ask`, the widget.

    <folder>/ask.json      settings, kinds of questions with examples, input of the encoder
             support.npz   standardised embeddings of the examples, mean and deviation
             mapper/       model.safetensors, config.json
             llm/          the small Llama and its tokenizer (one named by LLM is loaded by name)
             encoder/      the ECG encoder (of more than 32 MB: a path to it in its place)

Usage:
    save_fewshot(run.folder / "ask", mapper, reader, features, questions, cohort, config, encoder)
    answerer = load_fewshot("runs/demo/06_few_shot_qa/ask")
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
from torch import nn

from ecgkit import runtime
from ecgkit.models.checkpoints import load_into
from ecgkit.models.ecg_encoders import load_encoder
from ecgkit.models.llm_loading import load_llm
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.tasks.ask import Answerer, InputSpec
from ecgkit.tasks.ask_kinds import Kind, collect_kinds
from ecgkit.types import ModelError

NAME, FORMAT = "ask.json", 1
SMALL_MB = 32
_SETTINGS = ("protocol", "method", "question_type", "k_shot", "llm", "seed")


# --- to disk --------------------------------------------------------------------------------------


def save_fewshot(
    folder: str | Path, mapper: nn.Module, reader: PrefixLLM, features: np.ndarray, questions,
    cohort, config, encoder: str | Path,
) -> Path:
    """Writes everything `load_fewshot` needs and returns the folder.

    features (n_ecgs, F) are the encoder's own, before `ecg_features.standardise`; `encoder` is the
    folder that notebook 04 wrote. Examples and mean come from the training split alone.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = collect_kinds(questions, config)
    rows = sorted({row for kind in kinds for row in kind.rows})
    kinds = [_renumbered(kind, rows) for kind in kinds]
    mean, std = _spread(features, cohort.rows("train"))
    support = (features[rows] - mean) / np.where(std > 1e-6, std, np.inf)
    with runtime.replacing(folder / "support.npz") as scratch, open(scratch, "wb") as file:
        np.savez(file, support=support.astype(np.float32), mean=mean, std=std)
    _save_mapper(mapper, folder / "mapper", config, features.shape[1], reader.width)
    if not config.llm:
        _save_llm(reader, folder / "llm")
    body = {
        "format": FORMAT, "about": _about(config, cohort), "encoder": _keep(encoder, folder),
        "llm": config.llm or "llm", "llm_dtype": config.llm_dtype, "llm_4bit": config.llm_4bit,
        "prompt": config.prompt, "prefix_first": config.prefix_first,
        "inner_steps": _inner_steps(config), "inner_lr": config.inner_lr,
        "input": _input(cohort.store, config), "kinds": [dataclasses.asdict(k) for k in kinds],
    }  # fmt: skip
    with runtime.replacing(folder / NAME) as scratch:
        scratch.write_text(json.dumps(body, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def _renumbered(kind: Kind, rows: list[int]) -> Kind:
    """The same kind with rows of `support` in place of rows of the store."""
    return dataclasses.replace(kind, rows=tuple(np.searchsorted(rows, kind.rows).tolist()))


def _spread(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (F,) over the training folds, as `ecg_features.standardise` takes them."""
    return features[rows].mean(0), features[rows].std(0)


def _inner_steps(config) -> int:
    """In-context learning changes no weights."""
    return 0 if config.method == "in-context" else config.steps_at_test


def _about(config, cohort) -> dict:
    settings = {name: getattr(config, name) for name in _SETTINGS}
    data = {"data": cohort.name, "simulated": bool(cohort.simulated), "n_ecgs": len(cohort)}
    return settings | data | {"fingerprint": cohort.fingerprint, "config": config.to_dict()}


def _input(store, config) -> dict:
    n = store.n_samples if store.seconds is not None or _one_length(store) else None
    shown = tuple(config.leads.split()) or tuple(store.leads)
    return {"fs": float(store.fs), "n_samples": None if n is None else int(n), "align": store.align,
            "leads": list(store.leads), "shown": list(shown)}  # fmt: skip


def _one_length(store) -> bool:
    return bool((store.lengths == store.n_samples).all())


def _keep(encoder: str | Path, folder: Path) -> str:
    """Copies a small encoder beside the rest; of a large one returns the way to it."""
    encoder = Path(encoder)
    files = [path for path in encoder.iterdir() if path.is_file()]
    if sum(path.stat().st_size for path in files) > SMALL_MB * 1e6:
        return os.path.relpath(encoder, folder)
    (folder / "encoder").mkdir(exist_ok=True)
    for path in files:
        shutil.copyfile(path, folder / "encoder" / path.name)
    return "encoder"


def _save_llm(reader: PrefixLLM, folder: Path) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    reader.llm.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)


def _save_mapper(mapper: nn.Module, folder: Path, config, feature_dim: int, llm_dim: int) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in mapper.state_dict().items()}
    save_file(state, str(folder / "model.safetensors"))
    sizes = {"kind": config.mapper, "feature_dim": feature_dim, "llm_dim": llm_dim,
             "n_prefix": config.n_prefix, "n_heads": config.mapper_heads}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(sizes, indent=2) + "\n")


# --- from disk ------------------------------------------------------------------------------------


def load_fewshot(folder: str | Path, device: str = "cpu") -> Answerer:
    """The `Answerer` of a folder that `save_fewshot` wrote: the folder itself, that of notebook 06
    or that of the run.

    Raises ModelError in a sentence where a piece is missing, naming it and the notebook to run.
    """
    folder = find_folder(folder)
    body = _read(folder)
    encoder = _load(folder, body["encoder"], load_encoder, "04", "the ECG encoder")
    mapper = _load(folder, "mapper", _load_mapper, "06", "the mapper")
    tokenizer, llm = _load_llm(folder, body)
    layout = {"prompt": body["prompt"], "prefix_first": body["prefix_first"]}
    plain = layout == {"prompt": "1", "prefix_first": False}
    reader = PrefixLLM(llm, tokenizer, **({} if plain else layout))
    with np.load(folder / "support.npz") as arrays:
        support, mean, std = arrays["support"], arrays["mean"], arrays["std"]
    where = runtime.pick_device(device)
    given = body["input"]
    spec = InputSpec(
        given["fs"], given["n_samples"], given["align"], tuple(given["leads"]),
        tuple(given["shown"]), getattr(encoder, "notes", {}).get("input", ""), mean, std,
    )  # fmt: skip
    kinds = [_kind(line) for line in body["kinds"]]
    return Answerer(
        encoder.to(where), mapper.to(where), reader.to(where), spec, kinds, support,
        body["inner_steps"], body["inner_lr"], body["about"],
    )  # fmt: skip


def find_folder(place: str | Path) -> Path:
    """The folder with ask.json at or below `place`. Raises ModelError saying what to run."""
    place = Path(place).expanduser()
    for found in (place, place / "ask", place / "06_few_shot_qa" / "ask"):
        if (found / NAME).is_file():
            return found
    raise ModelError(
        f"Nothing can be asked in {place}: notebook 06 has not run there. Run `ecgkit run 04 06` "
        "first, or name another run with --run."
    )


def _read(folder: Path) -> dict:
    try:
        body = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise ValueError(f"format {body['format']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder.name}/{NAME} cannot be read ({error}); run notebook 06 again: ecgkit run 06."
        ) from None
    missing = [name for name in ("support.npz", "mapper") if not (folder / name).exists()]
    if missing:
        raise ModelError(
            f"{folder.name}/ has no {' and no '.join(missing)}; run notebook 06 again: "
            "ecgkit run 06 --force."
        )
    return body


def _load(folder: Path, place: str, load, notebook: str, what: str):
    path = (folder / place).resolve()
    if not path.is_dir():
        raise ModelError(
            f"{what.capitalize()} that the answers need is not at {place} beside {NAME}; run "
            f"notebook {notebook} again: ecgkit run {notebook} --force."
        )
    return load(path)


def _load_mapper(folder: Path) -> nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        sizes = json.loads((folder / "config.json").read_text())
        state = load_file(str(folder / "model.safetensors"))
        mapper = build_mapper(**sizes, dropout=0.0)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"The mapper in {folder.name}/ cannot be read ({error}); run notebook 06 again: "
            "ecgkit run 06 --force."
        ) from None
    return load_into(mapper, state, f"{folder.name}/model.safetensors").eval()


def _load_llm(folder: Path, body: dict):
    name = str(folder / "llm") if body["llm"] == "llm" else body["llm"]
    if body["llm"] == "llm" and not (folder / "llm").is_dir():
        raise ModelError(
            f"{folder.name}/ has no llm, the small language model; run notebook 06 again: "
            "ecgkit run 06 --force."
        )
    options = {"four_bit": True} if body["llm_4bit"] else {}
    dtype = "float32" if body["llm_dtype"] == "auto" else body["llm_dtype"]
    return load_llm(name, dtype, **options)


def _kind(line: dict) -> Kind:
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items()}
    return Kind(**lists | {"examples": tuple((q, a) for q, a in line["examples"])})

