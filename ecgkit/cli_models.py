"""`ecgkit model VERB`: show, import, export, push, pull.

A model is a folder that the kit saved, a .pt file of the published code, or a hub id of either.
Each verb is a few lines that call the package. Exit codes as in `cli`.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(commands) -> None:
    """Adds `model` and its verbs to the sub-parsers of the `ecgkit` command."""
    model = commands.add_parser("model", help="saved models: show, import, export, push, pull")
    verbs = model.add_subparsers(required=True, metavar="VERB")

    def add(name: str, action, text: str, *places: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        verb.set_defaults(action=action)
        for place in places:
            verb.add_argument(place, metavar=place.upper())
        return verb

    show = add("show", _show, "what a model is: kind, sizes, weights, input", "model")
    show.add_argument("--keys", action="store_true", help="list every weight and its shape")

    imported = add("import", _import, "turn a .pt file of the published code into a folder",
                   "model")  # fmt: skip
    imported.add_argument("--out", required=True, help="folder to write")
    imported.add_argument(
        "--protocol", default="reference", choices=("reference", "paper"),
        help="pooling and masks: reference = as the weights were trained (default)",
    )  # fmt: skip

    export = add("export", _export, "turn a folder into a .pt file of the published code", "folder")
    export.add_argument("--out", required=True, help=".pt file to write")
    export.add_argument("--old-names", action="store_true", help="spell weight norm weight_g, _v")

    push = add("push", _push, "send a folder to the Hugging Face hub, private", "folder", "id")
    push.add_argument("--public", action="store_true", help="let everybody see it")
    push.add_argument("--allow-credentialed", action="store_true",
                      help="the agreement of its training data lets the model go")  # fmt: skip

    pull = add("pull", _pull, "fetch a model that the kit saved from the hub", "id")
    pull.add_argument("--out", required=True, help="folder to write")


def _show(args) -> int:
    folder = _kit_folder(args.model)
    facts, shapes = _facts_of_folder(folder) if folder else _facts_of_file(args.model)
    for name, value in facts.items():
        print(f"{name:<12} {value}")
    shown = shapes if args.keys else dict(list(shapes.items())[:5])
    for name, shape in shown.items():
        print(f"  {name}  {shape}")
    if len(shown) < len(shapes):
        print(f"  ... and {len(shapes) - len(shown)} more (--keys lists them)")
    return 0


def _kit_folder(place: str) -> Path | None:
    """The folder, or the local copy of the hub model, of the kit's own format; None for a file."""
    from ecgkit.models import hub
    from ecgkit.models.checkpoints import MAIN_FILE
    from ecgkit.models.saving import local_folder

    named = hub.split_id(place)
    if named:
        return None if named[1] or named[0] in MAIN_FILE else local_folder(place)
    path = Path(place).expanduser()
    return path if path.is_dir() else None  # where there is nothing, reading the file says so


def _facts_of_folder(folder: Path) -> tuple[dict, dict]:
    from ecgkit.models.saving import load_pretrained

    model = load_pretrained(folder)
    body, state = model.about, model.state_dict()
    data = body.get("data") or {}
    facts = {
        "model": body["class"], "saved by": f"ecgkit {body.get('version')}",
        "labels": body.get("n_labels") or "none", "settings": _joined(body["settings"]),
        "data": _joined(data) or "not recorded", "input": body.get("input") or "not recorded",
        "parameters": f"{body.get('n_parameters') or 0:,}", "weights": len(state),
    }  # fmt: skip
    return facts, {name: tuple(value.shape) for name, value in state.items()}


def _facts_of_file(place: str) -> tuple[dict, dict]:
    from ecgkit.models.checkpoints import input_of, read_fairseq

    found = read_fairseq(place)
    names = "weight_g, weight_v" if found.old_names else "parametrizations"
    facts = {
        "model": f"{found.model_class} ({found.kind}, published code)",
        "labels": found.n_labels or "none", "settings": _joined(found.settings),
        "input": input_of(found), "parameters": f"{found.n_parameters:,}",
        "left out": ", ".join(found.left_out) or "nothing", "weight norm": names,
        "weights": len(found.state),
    }  # fmt: skip
    return facts, {name: tuple(value.shape) for name, value in found.state.items()}


def _import(args) -> int:
    from ecgkit.models.checkpoints import input_of, load_fairseq, read_fairseq
    from ecgkit.models.saving import save_pretrained

    found = read_fairseq(args.model, args.protocol)
    about = {"input": input_of(found),
             "notes": f"Imported from {Path(args.model).name}, a file of the published code; its "
                      "licence and its training data are those of that file."}  # fmt: skip
    if found.is_ecg_fm:
        about["data"] = {"name": "mimic-iv-ecg and PhysioNet/CinC Challenge 2021",
                         "simulated": False}  # fmt: skip
    folder = save_pretrained(load_fairseq(found), args.out, about)
    print(f"{folder}  {found.model_class}, {found.n_parameters:,} parameters")
    return 0


def _export(args) -> int:
    from ecgkit.models.checkpoints import export_fairseq
    from ecgkit.models.saving import load_pretrained

    spelling = "old" if args.old_names else "new"
    print(export_fairseq(load_pretrained(args.folder), args.out, spelling))
    return 0


def _push(args) -> int:
    from ecgkit.models.saving import push

    print(push(args.folder, args.id, not args.public, args.allow_credentialed))
    return 0


def _pull(args) -> int:
    from ecgkit.models.saving import pull

    print(pull(args.id, args.out))
    return 0


def _joined(values: dict) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
