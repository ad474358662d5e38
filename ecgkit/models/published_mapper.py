"""Trained mappers, in and out: the kit's folders, and the weights published with Tang et al. (2025)
(`jialucode/FSL_ECG_QA`).

A kit folder is model.safetensors, config.json and a card (`saving.py`). A published file is a state
dict of the attention mapper, by itself or inside that of the whole model; which of its tensors is
which is told by the names in `NAMES`, behind any prefix ("mapper.", "module."), and checked by
shape. Nothing in a file is run (`torch_files.py`).

Letters: P soft tokens, F width of the ECG embedding, D width of the language model.

Usage:

    save_mapper(mapper, "runs/my_mapper", "verify, 5-way 5-shot, simulated cohort")
    mapper = load_mapper("runs/my_mapper", feature_dim=768, llm_dim=4096)
    mapper = load_mapper("jialucode/FSL_ECG_QA", 768, 4096)      # the authors'; needs the hub
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor, nn

from ecgkit.models import hub, saving
from ecgkit.models.prefix_mapper import AttentionMapper
from ecgkit.models.torch_files import read_weights
from ecgkit.types import ModelError

TASK = "Few-shot ECG question answering: turns an ECG embedding into soft tokens for an LLM."
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# Ours -> spellings of the same part. The release's own are not known to us; these are those of the
# Set Transformer's attention block, on which it is built, and of its usual relatives.
NAMES = {
    "tokens": ("tokens", "prefix", "prefix_const", "prefix_tokens", "learned_prefix", "latents"),
    "query": ("query", "fc_q", "w_q", "wq", "q_proj", "to_q", "linear_q"),
    "key": ("key", "fc_k", "w_k", "wk", "k_proj", "to_k", "linear_k"),
    "value": ("value", "fc_v", "w_v", "wv", "v_proj", "to_v", "linear_v"),
    "out": ("out", "fc_o", "w_o", "wo", "o_proj", "out_proj", "to_out", "linear_o"),
}
# The two norms by pairs: some count them from 0, some from 1.
NORMS = (("norm1", "norm2"), ("ln0", "ln1"), ("ln1", "ln2"), ("ln_1", "ln_2"),
         ("layer_norm1", "layer_norm2"), ("layernorm1", "layernorm2"))  # fmt: skip
_LINEAR = ("query", "key", "value", "out")
_PARTS = [f"{part}.{kind}" for part in (*_LINEAR, "norm1", "norm2") for kind in ("weight", "bias")]
KEYS = ("tokens", *_PARTS)  # those of our AttentionMapper
_MAPPERS = ("AttentionMapper", "FeedForwardMapper", "PerceiverMapper")


def save_mapper(mapper: nn.Module, folder: str | Path, notes: str | dict = "") -> Path:
    """Writes the mapper and what builds it again; returns the folder. `notes`: a text, or what
    `saving` lets a card say (data, metrics, protocol ...).
    """
    about = notes if isinstance(notes, dict) else {"notes": notes}
    return saving.save_pretrained(mapper, folder, {"task": TASK} | about)


def load_mapper(source: str | Path, feature_dim: int, llm_dim: int) -> nn.Module:
    """The mapper of a folder, file or hub id, in eval mode, for embeddings (B, feature_dim) and a
    language model `llm_dim` wide.

    Raises ModelError in a sentence: not there, no mapper, keys missing or unexpected, or made for
    other widths.
    """
    place = _local(source)
    if place.is_dir() and (place / saving.CONFIG).exists():
        mapper = saving.load_pretrained(place)
        if type(mapper).__name__ not in _MAPPERS:
            raise ModelError(
                f"{source} is a {type(mapper).__name__}, not a mapper; give a folder written by "
                "save_mapper."
            )
        _require_widths(source, mapper.sizes, feature_dim, llm_dim)
        return mapper
    file = _only_file(place, source) if place.is_dir() else place
    state = published_state(read_weights(file)[0], str(source))
    sizes = _sizes(state, str(source))
    _require_widths(source, sizes, feature_dim, llm_dim)
    mapper = AttentionMapper(**sizes)
    mapper.load_state_dict({name: x.float() for name, x in state.items()})
    return mapper.eval()


# --- where it lies --------------------------------------------------------------------------------


def _local(source: str | Path) -> Path:
    """The folder or file, fetched where it is a hub id."""
    named = hub.split_id(str(source))
    if named is None:
        place = Path(source).expanduser()
        if not place.exists():
            raise ModelError(
                f"There is no mapper at {source}; MAPPER_FROM is a hub id, folder or file."
            )
        return place
    if named[1]:
        return hub.fetch(str(source))
    return hub.fetch_folder(named[0], (saving.CONFIG, *(f"*{end}" for end in WEIGHTS)))


def _only_file(folder: Path, source: str | Path) -> Path:
    files = sorted(p for p in folder.rglob("*") if p.suffix in WEIGHTS)
    if len(files) == 1:
        return files[0]
    if not files:
        raise ModelError(f"{source} holds no weights ({', '.join(WEIGHTS)}) to make a mapper of.")
    names = ", ".join(p.relative_to(folder).as_posix() for p in files[:8])
    raise ModelError(
        f"{source} holds {len(files)} files of weights; name one of them after it: {names}."
    )


# --- the published file ---------------------------------------------------------------------------


def published_state(weights: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The attention mapper's tensors under our names. Other parts of a whole model are passed over;
    a mapper with other parts is refused, naming what is missing and what is unexpected.
    """
    tried = {root: _match([n for n in weights if n.startswith(root)], root)
             for root in _roots(weights)}  # fmt: skip
    root = max(tried, key=lambda r: len(tried[r]))  # of equals the shortest
    found = tried[root]
    missing = [key for key in KEYS if key not in found]
    used = set(found.values())
    unexpected = [name for name in weights if name.startswith(root) and name not in used]
    if missing or unexpected:
        raise ModelError(
            f"{source} holds no attention mapper as published: missing "
            f"{_few(missing) or 'nothing'}; unexpected {_few(unexpected) or 'nothing'}. Give the "
            "file of the mapper's weights; if its tensors are only called otherwise, add their "
            "names to NAMES in models/published_mapper.py."
        )
    return {key: weights[name] for key, name in found.items()}


def _roots(weights: dict[str, Tensor]) -> list[str]:
    """Every beginning of a name up to a dot, short ones first."""
    roots = {""}
    for name in weights:
        roots |= {name[: m.end()] for m in re.finditer(r"\.", name)}
    return sorted(roots, key=lambda root: (len(root), root))


def _match(names: list[str], root: str) -> dict[str, str]:
    """Ours -> theirs, for the names below `root`."""
    own = {name[len(root) :].lower(): name for name in names}
    norms = next((pair for pair in NORMS if all(f"{n}.weight" in own for n in pair)), NORMS[0])
    spelt = NAMES | {"norm1": norms[:1], "norm2": norms[1:]}
    found = {}
    for key in KEYS:
        part, _, kind = key.partition(".")
        # The learned tokens may be a bare parameter or the table of an embedding layer.
        ends = [f"{s}.{kind}" for s in spelt[part]] if kind else [
            end for s in spelt[part] for end in (s, f"{s}.weight")]  # fmt: skip
        match = next((own[end] for end in ends if end in own), None)
        if match:
            found[key] = match
    return found


def _sizes(state: dict[str, Tensor], source: str) -> dict[str, int]:
    """Sizes of the mapper, from the shapes, which must agree. Heads (8) are in no shape."""
    if state["tokens"].ndim == 3:
        state["tokens"] = state["tokens"].squeeze(0)
    d, f = state["query.weight"].shape if state["query.weight"].ndim == 2 else (0, 0)
    expected = {"tokens": (*state["tokens"].shape[:1], f)} | {key: (d,) for key in _PARTS}
    expected |= {f"{part}.weight": (d, f) for part in ("query", "key", "value")}
    expected["out.weight"] = (d, d)
    wrong = [k for k, shape in expected.items() if tuple(state[k].shape) != shape]
    if wrong:
        key = wrong[0]
        raise ModelError(
            f"{source} is no mapper as published: {key} has the shape {tuple(state[key].shape)}, "
            f"beside a query of {tuple(state['query.weight'].shape)} it must be {expected[key]}."
        )
    return {"feature_dim": f, "llm_dim": d, "n_prefix": len(state["tokens"])}


def _require_widths(source, sizes: dict, feature_dim: int, llm_dim: int) -> None:
    if sizes["llm_dim"] != llm_dim:
        raise ModelError(
            f"The mapper {source} is for a language model {sizes['llm_dim']} wide, this one is "
            f"{llm_dim}; choose the LLM it was trained with, or leave MAPPER_FROM empty."
        )
    if sizes["feature_dim"] != feature_dim:
        raise ModelError(
            f"The mapper {source} reads ECG embeddings {sizes['feature_dim']} wide, these are "
            f"{feature_dim}; choose the encoder it was trained with, or leave MAPPER_FROM empty."
        )


def _few(names, limit: int = 6) -> str:
    shown = ", ".join(list(names)[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
