"""`ecgkit data VERB`: list, card, check, outcomes, fetch, synthesize, map, preprocess, export, ...

Each verb is a few lines that call the package; options that are settings carry their names and
their docs (`KitConfig`, `RiskConfig`). Exit codes as in `cli`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

from ecgkit.config import KitConfig, RiskConfig
from ecgkit.types import ConfigError, DataError

_COHORT = ("fs", "seconds", "accept", "cohort_size", "prevalence")
_SUBSET = ("sample", "fraction", "sample_seed")
_WORKERS = ("jobs", "backend", "scheduler")
_OUTCOMES = ("outcomes", "outcome_map", "event_risk", "hazards", "baseline", "measured")
_OUTCOMES += ("hr_age", "hr_male", "effect_scale", "death_scale", "outcome_seed")
_LAYOUTS = ("ptbxl", "mimic-iv-ecg", "challenge", "chapman-shaoxing", "cpsc-2018")
_PUBLISHED = ("published-qa", "grounding")


def add_commands(commands) -> None:
    """Adds `data` and its verbs to the sub-parsers of the `ecgkit` command."""
    data = commands.add_parser(
        "data", help="sources of ECGs and questions: list, check, fetch, ..."
    )
    verbs = data.add_subparsers(required=True, metavar="VERB")

    def add(name: str, action, text: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        verb.set_defaults(action=action)
        return verb

    add("list", _list, "the sources the kit reads")
    add("card", _card, "the data card of one source").add_argument("name")

    check = add("check", _check, "open a source: doctor's table, what is left out, its questions")
    data_options(check)
    _settings(check, *_COHORT, *_SUBSET, "flavour", *_WORKERS)
    check.add_argument(
        "--answers", action="store_true", help="count answers and templates beside ECG-QA's"
    )

    survival = add("outcomes", _outcomes, "follow-up of the ECGs: read and checked, or simulated")
    data_options(survival)
    _settings(survival, *_COHORT, *_SUBSET, *_OUTCOMES, *_WORKERS, of=RiskConfig)
    survival.add_argument("--preset", default="demo", help="tiny | demo (default) | paper")
    survival.add_argument("--to", default="", help="folder to write the table into, as CSV")

    fetch = add("fetch", _fetch, "download an open source, or say what to do for others")
    fetch.add_argument("name")
    fetch.add_argument("--out", default="", help="folder to put it in (default: data/)")
    fetch.add_argument("--mirror", default="", help="http(s) address instead of the publisher's")

    synthesize = add("synthesize", _synthesize, "write a simulated source in another one's layout")
    synthesize.add_argument("--layout", default="ptbxl", choices=_LAYOUTS)
    synthesize.add_argument("--n", type=int, default=200, help="ECGs to write")
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument(
        "--rates", default="", help="Hz: 100, 500 or 100,500 (default) in PTB-XL's layout, else 500"
    )
    synthesize.add_argument(
        "--prevalence",
        default="learning",
        choices=("learning", "ptbxl"),
        help="rare findings lifted, or as rare as in PTB-XL",
    )
    synthesize.add_argument("--jobs", type=int, default=0, help="processes; 0 = one per core")
    synthesize.add_argument("--out", required=True, help="new folder")

    mapped = add("map", _map, "join ECG-QA to recordings: published JSON with ecg_path")
    data_options(mapped)
    _settings(mapped, *_COHORT, *_SUBSET, "flavour", *_WORKERS)
    mapped.add_argument("--root", help="folder that ecg_path starts with (default: the source's)")
    mapped.add_argument("--out", required=True, help="new folder")

    ready = add("preprocess", _preprocess, "build store, cached view and tokenised questions")
    data_options(ready)
    _settings(ready, *_COHORT, *_SUBSET, "flavour", *_WORKERS)
    ready.add_argument("--length", default="crop", choices=("crop", "pad", "segment"))
    ready.add_argument("--filter", default="none", help="none | highpass | bandpass | powerline")
    ready.add_argument("--normalise", default="none", help="none | per_lead | global (z-score)")
    ready.add_argument(
        "--tokenizer", default="", help="hub id or folder; '' = one trained on these questions"
    )

    export = add("export", _export, "write a published layout, for the older code")
    export.add_argument("--to", required=True, choices=_PUBLISHED)
    data_options(export)
    _settings(export, *_COHORT, *_SUBSET, "flavour", *_WORKERS)
    export.add_argument("--root", help="folder of the unpacked recordings, if --data is a .zip")
    export.add_argument(
        "--tokenizer", default="", help="counts tokens, e.g. bert-base-uncased ('' = words + 2)"
    )
    export.add_argument("--out", required=True, help="new folder")
    for verb in (mapped, export):
        verb.set_defaults(fs="500")  # the published paths lead to the 500 Hz recordings

    bring = add("import", _import, "read a published layout back and say what is in it")
    bring.add_argument("--from", dest="folder", required=True, help="folder with its .tsv files")


def with_verb(argv: list[str]) -> list[str]:
    """`data --data X` is `data check --data X`."""
    bare = argv[:1] == ["data"] and (len(argv) == 1 or argv[1].startswith("--"))
    return ["data", "check", *argv[1:]] if bare and "--help" not in argv else argv


def data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", default="synthetic", help="'synthetic', or a folder or .zip that holds a source"
    )
    parser.add_argument("--ecgqa", default="", help="folder or .zip that holds ECG-QA")


def _settings(parser: argparse.ArgumentParser, *names: str, of=KitConfig) -> None:
    """One option per setting, its doc as help; what is not given keeps the preset's value."""
    docs = {f.name: f.metadata["doc"] for f in dataclasses.fields(of)}
    for name in names:
        also = ["--seed"] if name == "sample_seed" else []
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, *also, dest=name, metavar="VALUE", help=docs[name])


def _config(args, of=KitConfig):
    names = {f.name for f in dataclasses.fields(of)}
    return of.from_params({k: v for k, v in vars(args).items() if k in names})


# --- what there is --------------------------------------------------------------------------------


def _list(args) -> int:
    from ecgkit.data import cards
    from ecgkit.data.sources import SOURCES

    rows = [("name", "version", "licence", "fs", "access", "records")]
    for name in (*SOURCES, *(n for n in cards.names() if n not in SOURCES)):
        facts = cards.facts(name)
        told = (facts[key] for key in ("version", "licence", "fs", "access", "records, patients"))
        rows.append((name, *(text.split(" (")[0].split(";")[0].split(":")[0] for text in told)))
    _print_columns(rows)
    print("\necgkit data card NAME says more; ecgkit data fetch NAME downloads the open ones.")
    return 0


def _card(args) -> int:
    from ecgkit.data import cards

    print(cards.read(args.name))
    return 0


def _fetch(args) -> int:
    from ecgkit.data import fetch

    path = fetch.fetch(args.name, args.out, args.mirror)
    note = fetch.DOWNLOADS[args.name].note
    print(f"{path} is complete and checked.{' ' + note if note else ''}")
    option = "--data PTBXL --ecgqa" if args.name == "ecg-qa" else "--data"
    print(f"Next: ecgkit data check {option} {path}")
    return 0


# --- what is in it --------------------------------------------------------------------------------


def _check(args) -> int:
    from ecgkit.data.cohort import open_cohort
    from ecgkit.data.doctor import table

    config = _config(args)
    cohort = open_cohort(config, quiet=True)
    source, store = cohort.source, cohort.store
    if cohort.simulated and not config.simulated:
        print("SIMULATED recordings, in the layout of:")
    print(
        f"{source.title} ({source.name} {source.version}, {source.licence})\n"
        f"{len(cohort)} ECGs of {cohort.table.patient_id.nunique()} patients at {store.fs} Hz; "
        f"fingerprint {cohort.fingerprint}\n"
        f"in = stored + quarantined: {store.n_in} = {len(store)} + {len(cohort.quarantine)}\n"
    )
    if cohort.place.refused:
        print("\n".join(cohort.place.refused[:3]) + "\n")
    checks = table(cohort)
    _print_columns([tuple(checks.columns), *checks.astype(str).itertuples(index=False)])
    _print_reasons("quarantined", cohort.quarantine)
    _check_questions(config, cohort, args.answers)
    return 0


def _check_questions(config: KitConfig, cohort, answers: bool) -> None:
    from ecgkit.data.ecgqa import open_questions
    from ecgkit.data.qa_counts import counts_text

    print()
    if not _has_questions(config, cohort):
        return
    questions = open_questions(config, cohort, quiet=True)
    print(
        f"questions ({questions.source}, {questions.flavour}), in = kept + dropped: "
        f"{questions.n_in} = {len(questions)} + {len(questions.dropped)}"
    )
    print(questions.counts().to_string())
    if answers:
        print(counts_text(questions))
    _print_reasons("dropped", questions.dropped)
    _print_broken_files(questions.files)
    if config.ecgqa:
        _print_ecg_lists(config, cohort)


def _outcomes(args) -> int:
    from ecgkit.data.cohort import open_cohort
    from ecgkit.data.outcomes import open_outcomes

    config = _config(args, RiskConfig)
    outcomes = open_outcomes(config, open_cohort(config))
    print(outcomes.describe())
    _print_reasons("left out", outcomes.left_out)
    if args.to:
        folder = Path(os.path.expanduser(args.to))
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{outcomes.write(folder)}: {len(outcomes)} patients")
    return 0


def _print_ecg_lists(config: KitConfig, cohort) -> None:
    """ECG-QA's own lists of ECGs per split; no question depends on them."""
    from ecgkit.data.qa_reading import open_shelf, read_ecg_ids, variant_of
    from ecgkit.data.splits import from_ecg_lists

    try:
        listed = read_ecg_ids(open_shelf(config.ecgqa, variant_of(cohort.name)))
    except DataError as error:
        print(error)
    else:
        print(from_ecg_lists(listed, cohort.table).describe())


def _has_questions(config: KitConfig, cohort) -> bool:
    """Whether there are questions to look at: none are written about real ECGs unasked."""
    if config.ecgqa or cohort.simulated:
        return True
    print("questions: not looked at; --ecgqa names a folder or .zip of ECG-QA.")
    return False


def _print_reasons(what: str, table) -> None:
    """Per reason how many, and one sentence of them."""
    for reason, lines in table.groupby("reason", sort=True):
        print(f"{what}, {reason}: {len(lines)}, for one: {lines['sentence'].iloc[0]}")


def _print_broken_files(files) -> None:
    """Of files of questions that could not be read at all nobody knows how many they hold."""
    _print_reasons("files not usable", files[files["reason"] != ""])


def _print_columns(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


# --- what is written ------------------------------------------------------------------------------


def _synthesize(args) -> int:
    from ecgkit.data.layouts import write_layout

    asked = args.rates or ("100,500" if args.layout == "ptbxl" else "500")
    try:
        rates = tuple(int(rate) for rate in asked.split(","))
    except ValueError:
        raise ConfigError(f"--rates is {args.rates!r}; give Hz, e.g. 100,500.") from None
    folder = write_layout(
        _new(args.out),
        args.layout,
        args.n,
        args.seed,
        rates,
        args.jobs,
        prevalence=args.prevalence,
    )
    print(f"{folder}: {args.n} simulated ECGs as {args.layout}")
    rate = " --fs 500" if rates == (500,) and args.layout == "ptbxl" else ""
    print(f"Next: ecgkit data check --data {folder}{rate}")
    return 0


def _map(args) -> int:
    from ecgkit.data.cohort import open_cohort, resolve_path
    from ecgkit.data.qa_generator import generated_folder
    from ecgkit.data.qa_mapped import write_mapped
    from ecgkit.data.qa_subset import is_asked

    config = _config(args)
    if config.ecgqa and not is_asked(config):
        data = resolve_path(config.data)  # no store is built to look recordings up
    else:
        data = open_cohort(config)
    source = config.ecgqa or generated_folder(data, config.cohort_seed)
    out = Path(os.path.expanduser(args.out))
    done = write_mapped(source, data, out, args.flavour, root=args.root, config=config)
    print(done.summary())
    _print_reasons("dropped", done.dropped)
    _print_broken_files(done.files)
    return 0


def _preprocess(args) -> int:
    from ecgkit.data.cohort import open_cohort
    from ecgkit.data.ecgqa import open_questions
    from ecgkit.data.parallel import Workers

    config = _config(args)
    cohort = open_cohort(config)
    how = {key: getattr(args, key) for key in ("length", "filter", "normalise")}
    ready = cohort.store  # at the rate and length asked for
    if how != {"length": "crop", "filter": "none", "normalise": "none"}:
        view = cohort.view(fs=config.fs, seconds=config.seconds, **how)
        ready = view.cached(workers=Workers.of(config))
    print(f"store: {_size(cohort.base.folder)} in {cohort.base.folder}")
    print(f"view: {_size(ready.folder)} in {ready.folder}\n{ready.describe()}")
    if _has_questions(config, cohort):
        _tokenise(open_questions(config, cohort), args.tokenizer)
    return 0


def _tokenise(questions, source: str) -> None:
    from ecgkit.text.question_cache import open_tokens
    from ecgkit.text.question_tokenizer import question_tokenizer

    texts = questions.table["question"].to_numpy()
    tokenizer = question_tokenizer(texts[questions.index("train")], source=source)
    tokens = open_tokens(tokenizer, texts)
    print(
        f"tokens: {len(texts)} questions in {len(tokens.starts) - 1} wordings, "
        f"{tokens.ids.nbytes / 1e6:.1f} MB"
    )


def _export(args) -> int:
    from ecgkit.data import published_layout as layout
    from ecgkit.data.cohort import open_cohort
    from ecgkit.data.ecgqa import open_questions
    from ecgkit.data.grounding import read_grounding

    grounding = args.to == "grounding"
    args.flavour = "template" if grounding else args.flavour  # its rules read template wordings
    config, out = _config(args), _new(args.out)
    cohort = open_cohort(config)
    questions = open_questions(config, cohort)
    if grounding:
        done = layout.export_grounding(read_grounding(questions), cohort, out, root=args.root)
    else:
        count = _token_counter(args.tokenizer) if args.tokenizer else layout.count_words
        done = layout.export_questions(questions, cohort, out, root=args.root, count_tokens=count)
    print(done.summary())
    _print_reasons("left out", done.left_out)
    return 0


def _token_counter(source: str):
    """Question -> its length in tokens of the tokenizer `source` (hub id or folder)."""
    from ecgkit.text.question_tokenizer import load_tokenizer

    tokenizer = load_tokenizer(source)
    return lambda question: len(tokenizer(question)["input_ids"])


def _import(args) -> int:
    from ecgkit.data import published_import

    folder = Path(os.path.expanduser(args.folder))
    grounding = (folder / "grounding_class.csv").exists()
    read = published_import.import_grounding if grounding else published_import.import_questions
    found = read(folder)
    print(f"{folder}: {found.summary()}; {len(found.classes)} classes")
    by = ["attribute" if grounding else "question_type", "split"]
    print(found.table.groupby(by).size().unstack(fill_value=0).to_string())
    _print_reasons("left out", found.left_out)
    return 0


def _new(out: str) -> Path:
    """The folder to write. Raises ConfigError where something is there already."""
    folder = Path(os.path.expanduser(out))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out is {out!r}, which is there already; give a new folder.")
    return folder


def _size(folder: Path) -> str:
    return f"{sum(p.stat().st_size for p in Path(folder).rglob('*') if p.is_file()) / 1e6:.1f} MB"
