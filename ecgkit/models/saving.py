"""The kit's own format for models: a folder of model.safetensors, config.json and README.md.

config.json names the class and its settings, so that the folder alone is enough to build it again,
and says what it was trained on; README.md is the model card (`model_card.py`). No pickle anywhere.

`about` may hold (all optional; `data` and `metrics` as a notebook's metrics.json has them):
    task, protocol, input, licence, notes     sentences or words
    classes     names of the labels or answers, in the order of the head's outputs
    data        {name, fingerprint, simulated, n_ecgs}
    metrics     {name: {value, low, high, n, note}} or {name: number}

Usage:

    save_pretrained(model, "runs/my_model", {"classes": codes, "data": run.data})
    model = load_pretrained("runs/my_model")          # or "owner/name" of the hub; model.about
    push("runs/my_model", "owner/name")
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from ecgkit import __version__
from ecgkit.models import hub, registry
from ecgkit.models.checkpoints import load_into
from ecgkit.models.model_card import model_card
from ecgkit.runtime import replacing
from ecgkit.types import ConfigError, ModelError

FORMAT = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FILES = (WEIGHTS, CONFIG, CARD)
ABOUT = ("task", "protocol", "input", "licence", "notes", "classes", "data", "metrics")
# Sources whose use is bound to a signed agreement, in part (age, sex, outcomes) or as a whole.
CREDENTIALED = ("mimic-iv-ecg", "uk-biobank")


# --- to disk --------------------------------------------------------------------------------------


def save_pretrained(model: nn.Module, folder: str | Path, about: dict | None = None) -> Path:
    """Writes the model's weights, what builds it again, and its card; returns the folder.

    Raises ModelError for a class that is not in the registry and ConfigError for an `about` that
    does not fit the model.
    """
    from safetensors.torch import save_file

    body, folder = describe(model, about or {}), Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    # Cloned, because safetensors refuses tensors that share memory (tied word embeddings).
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    with replacing(folder / WEIGHTS) as scratch:
        save_file(state, str(scratch), metadata={"format": "pt"})
    for name, text in ((CONFIG, json.dumps(body, indent=2) + "\n"), (CARD, model_card(body))):
        with replacing(folder / name) as scratch:
            scratch.write_text(text, encoding="utf-8")
    return folder


def describe(model: nn.Module, about: dict) -> dict:
    """The content of config.json."""
    unknown = [name for name in about if name not in ABOUT]
    if unknown:
        raise ConfigError(f"about has no {', '.join(unknown)}; it may hold {', '.join(ABOUT)}.")
    name, n_labels = type(model).__name__, registry.n_labels_of(model)
    settings = registry.settings_of(model)
    classes = [str(c) for c in about.get("classes") or []]
    if classes and len(classes) != n_labels:
        raise ConfigError(
            f"about['classes'] names {len(classes)} classes, but {name} has {n_labels or 0} "
            "outputs; name each output once, in order."
        )
    body = {
        "library": "ecgkit", "format": FORMAT, "version": __version__, "class": name,
        "settings": settings, "n_labels": n_labels, "classes": classes,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "protocol": settings.get("protocol", ""), "data": {}, "metrics": {},
    }  # fmt: skip
    body |= {key: value for key, value in about.items() if key != "classes"}
    try:
        return json.loads(json.dumps(body, default=_plain, allow_nan=False))
    except ValueError:
        raise ConfigError("about holds a number that is not finite; leave it out.") from None


def _plain(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ConfigError(f"about holds a {type(value).__name__}; give plain numbers, words and lists.")


# --- from disk ------------------------------------------------------------------------------------


def read_config(folder: str | Path) -> dict:
    """config.json of a saved model. Raises ModelError where it is none of the kit's."""
    path = Path(folder) / CONFIG
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} holds no model that the kit saved ({error}); give a folder written by "
            "save_pretrained, or import a .pt file with `ecgkit model import`."
        ) from None
    needed = {"format": int, "class": str, "settings": dict}
    body = body if isinstance(body, dict) else {}
    wrong = [key for key, kind in needed.items() if not isinstance(body.get(key), kind)]
    if wrong:
        raise ModelError(
            f"{path} does not say {', '.join(wrong)} as the kit writes it; it belongs to another "
            "library, or was edited."
        )
    if body["format"] > FORMAT:
        raise ModelError(
            f"{path} was written by ecgkit {body.get('version')}, this is {__version__}, which "
            "reads an older format; update the kit (pip install -U ecgkit)."
        )
    return body


def load_pretrained(place: str | Path) -> nn.Module:
    """The model of a folder or hub id, in eval mode on the CPU; `model.about` is its config.json.

    Raises ModelError in a sentence: nothing there, another library's, unknown class or settings,
    weights missing, damaged or of other sizes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = local_folder(place)
    body = read_config(folder)
    model = registry.build(body["class"], body["settings"], body.get("n_labels"))
    try:
        state = load_file(str(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder / WEIGHTS} cannot be read ({error}); it is missing or cut short: save or "
            "download the model again."
        ) from None
    load_into(model, state, str(folder / WEIGHTS))
    model.about = body
    return model.eval()


def local_folder(place: str | Path) -> Path:
    """The folder itself, or the local copy of a hub model's three files."""
    named = hub.split_id(str(place))
    if named is None:
        return Path(place).expanduser()
    if named[1]:
        raise ModelError(f"{place} names a file; give the hub id alone (owner/name).")
    return hub.fetch_folder(named[0], FILES)


# --- the hub --------------------------------------------------------------------------------------


def push(folder: str | Path, repo_id: str, private: bool = True,
         allow_credentialed: bool = False) -> str:
    """Sends a saved model to the hub; returns its address. Private unless said otherwise.

    Raises ModelError for a folder that does not load, and for a model of data under a signed
    agreement unless `allow_credentialed` says that the agreement lets it go.
    """
    folder = Path(folder).expanduser()
    body = load_pretrained(folder).about  # what cannot be loaded is not sent
    source = credentialed_source(body)
    if source and not allow_credentialed:
        raise ModelError(
            f"This model was trained on {source}, whose data use agreement may forbid handing on "
            "what was learnt from it; read it, and if it allows this say so "
            "(allow_credentialed=True, --allow-credentialed)."
        )
    return hub.send_folder(folder, repo_id, FILES, private)


def pull(repo_id: str, folder: str | Path) -> Path:
    """Downloads a model that the kit saved into `folder`; raises ModelError where it is none."""
    named = hub.split_id(repo_id)
    if named is None or named[1]:
        raise ModelError(f"{repo_id!r} is no hub id; write owner/name.")
    folder = hub.fetch_folder(named[0], FILES, Path(folder).expanduser())
    read_config(folder)
    return folder


def credentialed_source(body: dict) -> str:
    """The credentialed source that a saved model was trained on; '' where there is none."""
    data = body.get("data") or {}
    if data.get("simulated"):
        return ""
    name = str(data.get("name", "")).lower()
    found = next((source for source in CREDENTIALED if source in name), "")
    return found or (name or "credentialed data" if data.get("credentialed") else "")
