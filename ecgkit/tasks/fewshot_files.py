"""What notebook 06 leaves behind so that anybody can go on asking: `ecgkit ask`, the widget.

    <folder>/ask.json      settings, kinds of questions with examples, input of the encoder
             support.npz   standardised embeddings of the examples, mean and deviation
             mapper/       model.safetensors, config.json
             llm/          the small Llama and its tokenizer (one named by LLM is loaded by name)
             encoder/      the ECG encoder (of more than 32 MB: a path to it in its place)

Usage:

    save_fewshot(run.folder / "ask", mapper, reader, features, questions, cohort, config, encoder)
    answerer = load_fewshot("runs/demo/06_few_shot_qa/ask")
    save_fewshot(run.folder / "ask" / "query", ...)       # a mapper of its own for other questions
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
from ecgkit.models.ecg_encoders import load_encoder
from ecgkit.models.llm_loading import load_llm
from ecgkit.models.lora import load_lora, lora_parameters, save_lora
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.published_mapper import load_mapper, save_mapper
from ecgkit.tasks.ask import Answerer
from ecgkit.tasks.ask_group import AnswererGroup
from ecgkit.tasks.ask_input import InputSpec
from ecgkit.tasks.ask_kinds import Kind, collect_kinds
from ecgkit.tasks.ecg_features import seen_leads
from ecgkit.tasks.fewshot_layout import mapper_kind
from ecgkit.tasks.meta_methods import last_layer
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
    folder that notebook 04 wrote. Examples and mean come from the training split alone. Under
    LEADS the features are those of these leads.
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
    save_mapper(mapper, folder / "mapper", {"protocol": config.protocol})
    _save_llm(reader, folder, config.llm)
    body = {
        "format": FORMAT, "about": _about(config, cohort), "encoder": _keep(encoder, folder),
        "llm": config.llm or "llm", "llm_dtype": config.llm_dtype, "llm_4bit": config.llm_4bit,
        "prompt": config.prompt, "prefix_first": config.prefix_first,
        "inner_steps": config.steps_at_test, "inner_lr": config.inner_lr,
        "only": last_layer(mapper, mapper_kind(config)) if config.method == "anil" else None,
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


def _about(config, cohort) -> dict:
    settings = {name: getattr(config, name) for name in _SETTINGS}
    data = {"data": cohort.name, "simulated": bool(cohort.simulated), "n_ecgs": len(cohort)}
    settings["quirks"] = sorted(config.active_quirks)
    return settings | data | {"fingerprint": cohort.fingerprint, "config": config.to_dict()}


def _input(store, config) -> dict:
    n = store.n_samples if store.seconds is not None or _one_length(store) else None
    seen = seen_leads(store.leads, config.leads.split())
    shown = [lead for lead, chosen in zip(store.leads, seen, strict=True) if chosen]
    return {"fs": float(store.fs), "n_samples": None if n is None else int(n), "align": store.align,
            "leads": list(store.leads), "shown": shown}  # fmt: skip


def _one_length(store) -> bool:
    return bool((store.lengths == store.n_samples).all())


def _keep(encoder: str | Path, folder: Path) -> str:
    """Copies a small encoder beside the rest; of a large one returns the way to it."""
    encoder = Path(encoder)
    files = [path for path in encoder.iterdir() if path.is_file()]
    if sum(path.stat().st_size for path in files) > SMALL_MB * 1e6:
        return os.path.relpath(encoder, folder)
    with runtime.replacing_folder(folder / "encoder") as copy:
        for path in files:
            shutil.copyfile(path, copy / path.name)
    return "encoder"


def _save_llm(reader: PrefixLLM, folder: Path, name: str) -> None:
    """The small Llama (one that has a name is loaded by it again), and LoRA adapters apart."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not name:
        with runtime.replacing_folder(folder / "llm") as place:
            _plain(reader.llm).save_pretrained(place)
            reader.tokenizer.save_pretrained(place)
    if lora_parameters(reader.llm):
        with runtime.replacing_folder(folder / "lora") as place:
            save_lora(reader.llm, place)
    else:  # an earlier run's, which `load_fewshot` would put on this model
        shutil.rmtree(folder / "lora", ignore_errors=True)


def _plain(llm: nn.Module) -> nn.Module:
    """The model without its LoRA adapters; itself where it has none."""
    if not lora_parameters(llm):
        return llm
    state = {k.replace(".base_layer.", "."): v for k, v in llm.state_dict().items()}
    plain = type(llm)(llm.config)
    plain.load_state_dict({k: v for k, v in state.items() if "lora_" not in k})
    return plain


# --- from disk ------------------------------------------------------------------------------------


def load_fewshot(folder: str | Path, device: str = "cpu") -> Answerer | AnswererGroup:
    """The `Answerer` of a folder that `save_fewshot` wrote: the folder itself, that of notebook 06
    or that of the run. Where one was saved for each kind of episode, all of them as a group.

    Raises ModelError in a sentence where a piece is missing, naming it and the notebook to run.
    """
    members = [_load_one(place, device) for place in find_folders(folder)]
    return members[0] if len(members) == 1 else AnswererGroup(members)


def _load_one(folder: Path, device: str) -> Answerer:
    body = _read(folder)
    encoder = _load(folder, body["encoder"], load_encoder, "04", "the ECG encoder")
    tokenizer, llm = _load_llm(folder, body)
    reader = PrefixLLM(llm, tokenizer, body["prompt"], body["prefix_first"])
    with np.load(folder / "support.npz") as arrays:
        support, mean, std = arrays["support"], arrays["mean"], arrays["std"]
    mapper = load_mapper(folder / "mapper", len(mean), reader.width)
    mapper.always_drop = False  # as released it would answer differently each time
    where = runtime.pick_device(device)
    given = body["input"]
    spec = InputSpec(
        given["fs"], given["n_samples"], given["align"], tuple(given["leads"]),
        tuple(given["shown"]), getattr(encoder, "notes", {}).get("input", ""), mean, std,
    )  # fmt: skip
    kinds = [_kind(line) for line in body["kinds"]]
    return Answerer(
        encoder.to(where), mapper.to(where), reader.to(where), spec, kinds, support,
        body["inner_steps"], body["inner_lr"], body["about"], body["only"],
    )  # fmt: skip


def find_folders(place: str | Path) -> list[Path]:
    """The folders with ask.json at or below `place`, that of verify questions first. Raises
    ModelError saying what to run.
    """
    place = Path(place).expanduser()
    for folder in (place, place / "ask", place / "06_few_shot_qa" / "ask"):
        found = [path.parent for path in (*folder.glob(NAME), *sorted(folder.glob(f"*/{NAME}")))]
        if found and folder.name != "06_few_shot_qa":
            return sorted(found, key=lambda path: "verify" not in path.name)
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


def _load_llm(folder: Path, body: dict):
    name = str(folder / "llm") if body["llm"] == "llm" else body["llm"]
    if body["llm"] == "llm" and not (folder / "llm").is_dir():
        raise ModelError(
            f"{folder.name}/ has no llm, the small language model; run notebook 06 again: "
            "ecgkit run 06 --force."
        )
    options = {"four_bit": True} if body["llm_4bit"] else {}
    dtype = "float32" if body["llm_dtype"] == "auto" else body["llm_dtype"]
    tokenizer, llm = load_llm(name, dtype, **options)
    return tokenizer, load_lora(llm, folder / "lora") if (folder / "lora").is_dir() else llm


def _kind(line: dict) -> Kind:
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items()}
    return Kind(**lists | {"examples": tuple((q, a) for q, a in line["examples"])})

