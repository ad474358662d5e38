"""Settings that document themselves: frozen dataclasses whose fields carry their doc and their
preset values.

A name in a notebook's `parameters` cell, in `--set NAME=VALUE` and in a dataclass is the same name;
notebooks write it in capitals (`N_STEPS`), the field in lower case. A preset (tiny | demo | paper)
only changes numbers.

Usage:

    config = BaselinesConfig.from_params({"PRESET": "tiny", "N_STEPS": 5})
    config.n_steps, config.hash(), print(config.describe())
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path

from ecgkit.disk import replacing
from ecgkit.types import ConfigError

PRESETS = ("tiny", "demo", "paper")
_UNSET = object()
_NOT_CONTENT = ("out", "jobs", "backend", "scheduler")


def setting(
    doc: str, default=_UNSET, *, tiny=_UNSET, demo=_UNSET, paper=_UNSET, choices: tuple = ()
):
    """A dataclass field with one-line `doc`; give either one `default` or a value per preset
    (absent ones take `demo`).
    """
    demo = default if demo is _UNSET else demo
    if demo is _UNSET:
        raise TypeError("setting() needs a default or a demo value")
    values = {
        "tiny": demo if tiny is _UNSET else tiny,
        "demo": demo,
        "paper": demo if paper is _UNSET else paper,
    }
    return dataclasses.field(
        default=demo, metadata={"doc": doc, "presets": values, "choices": tuple(choices)}
    )


@dataclasses.dataclass(frozen=True)
class KitConfig:
    """What every notebook takes: the preset, the data, where to write, and the cohort all studies
    share.
    """

    preset: str = setting(
        "tiny (seconds) | demo (minutes on 2 cores) | paper (published sizes)",
        "demo",
        choices=PRESETS,
    )
    data: str = setting("'synthetic', or a folder or .zip that holds a source of ECGs", "synthetic")
    ecgqa: str = setting(
        "folder or .zip that holds ECG-QA; '' = the simulated cohort's own questions", ""
    )
    out: str = setting("folder this run writes to; '' = runs/<preset>", "")
    seed: int = setting("seed of everything that is trained or sampled", 0)
    device: str = setting("auto | cpu | cuda | mps", "auto", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = setting(
        "auto | fp32 | fp16 | bf16", "auto", choices=("auto", "fp32", "fp16", "bf16")
    )
    fs: int = setting(
        "sampling rate of the store in Hz (PTB-XL offers 100 and 500)",
        tiny=100,
        demo=100,
        paper=500,
    )
    seconds: float = setting("length of each stored ECG in seconds", 10.0)
    cohort_size: int = setting("ECGs in the simulated cohort", tiny=160, demo=4000, paper=20_000)
    # The demo's settings were chosen on the cohort of seed 7; the default is another one, so that
    # the demo is scored on patients it was not tuned on (one change followed a look at them: see
    # INNER_LR in fewshot.py). Tune on 7, never on the default.
    cohort_seed: int = setting("seed of the simulated cohort, apart from `seed`", 2026)
    prevalence: str = setting(
        "findings in the simulated cohort: learning (rare ones lifted) | ptbxl (as often as there)",
        "learning",
        choices=("learning", "ptbxl"),
    )
    flavour: str = setting(
        "ECG-QA wording: template | paraphrased", "paraphrased", choices=("template", "paraphrased")
    )

    sample: int = setting(
        "keep about this many questions, by whole patients (0 = all); ECGs where ECGQA is empty", 0
    )
    fraction: float = setting("the same as a share of all, 0 to 1", 1.0)
    sample_seed: int = setting("seed of that choice of patients", 0)
    accept: str = setting(
        "quarantine reasons to store all the same, separated by blanks (e.g. flat_lead)", ""
    )
    jobs: int = setting("processes that read recordings; 0 = one per core", 0)
    backend: str = setting(
        "who runs them: joblib here, or a dask cluster", "joblib", choices=("joblib", "dask")
    )
    scheduler: str = setting("address of the dask scheduler; '' = a cluster started here", "")

    # --- building ---------------------------------------------------------------------------------

    @classmethod
    def from_params(cls, params: Mapping[str, object]):
        """Builds the config from names of any case; None means "the preset's value".

        Names that start with an underscore or are not all capitals are passed over when they come
        from a notebook's
        `globals()` (see `runs.start`), never here: here each name must be a field.
        Raises ConfigError for an unknown name, a wrong type, a value outside its choices, or a
        contradiction.
        """
        given = {name.lower(): value for name, value in params.items() if value is not None}
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in given:
            if name not in fields:
                close = difflib.get_close_matches(name, fields, n=1)
                hint = f" Did you mean {close[0].upper()}?" if close else ""
                raise ConfigError(
                    f"{name.upper()} is not a parameter of {cls.__name__}.{hint} It takes: "
                    + ", ".join(sorted(f.upper() for f in fields))
                    + "."
                )
        preset = given.get("preset", "demo")
        if preset not in PRESETS:
            raise ConfigError(f"PRESET is {preset!r}; choose one of {', '.join(PRESETS)}.")
        hints = typing.get_type_hints(cls)
        values = {
            name: _coerce(name, given[name], hints[name], f)
            if name in given
            else f.metadata["presets"][preset]
            for name, f in fields.items()
        }
        config = cls(**values)
        config.check()
        return config

    def check(self) -> None:
        """Raises ConfigError on a contradiction, naming both fields. Subclasses add their own and
        call super().
        """
        if self.fs not in (100, 250, 400, 500):
            raise ConfigError(f"FS is {self.fs}; the store takes 100, 250, 400 or 500 Hz.")
        if not 0 < self.seconds <= 3600:
            raise ConfigError(
                f"SECONDS is {self.seconds}; it must be positive, and an hour at most."
            )
        for name in (field.name for field in dataclasses.fields(self)):
            # Settings are printed and saved, so nothing secret may stand in one. Not repeated here.
            if name.endswith("url") and set("@?#") & set(getattr(self, name)):
                raise ConfigError(
                    f"{name.upper()} holds a user name, a ? or a #, where a password or key may "
                    "stand; give the address alone, and the key in the environment "
                    "(OPENAI_API_KEY)."
                )
        if self.ecgqa and self.simulated:
            raise ConfigError(
                f"ECGQA is {self.ecgqa!r} but DATA is 'synthetic': ECG-QA asks about PTB-XL "
                "recordings. "
                "Give DATA the PTB-XL folder or .zip, or leave ECGQA empty."
            )
        if self.prevalence != "learning" and not self.simulated:
            raise ConfigError(
                f"PREVALENCE is {self.prevalence!r} but DATA is {self.data!r}: it sets how often "
                "findings are simulated. Leave it out, or set DATA to 'synthetic'."
            )
        if self.sample < 0 or not 0 < self.fraction <= 1:
            raise ConfigError(
                f"SAMPLE is {self.sample} and FRACTION {self.fraction}; SAMPLE counts from 0 (all) "
                "and FRACTION lies above 0 and up to 1."
            )
        if self.sample and self.fraction < 1:
            raise ConfigError(
                f"SAMPLE is {self.sample} and FRACTION {self.fraction}; give one of the two."
            )
        if self.scheduler and self.backend != "dask":
            raise ConfigError(
                f"SCHEDULER is {self.scheduler!r} but BACKEND {self.backend!r}; an address needs "
                "BACKEND=dask."
            )
        for name in ("seed", "cohort_seed", "sample_seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ConfigError(
                    f"{name.upper()} is {getattr(self, name)}; a seed is 0 or more, below 2**63."
                )
        if self.jobs < 0:
            raise ConfigError(f"JOBS is {self.jobs}; give 0 (all cores) or a number of processes.")
        if self.cohort_size < 20:
            raise ConfigError(
                f"COHORT_SIZE is {self.cohort_size}; a cohort needs at least 20 ECGs to fill ten "
                "folds."
            )

    # --- reading ----------------------------------------------------------------------------------

    @property
    def simulated(self) -> bool:
        return self.data == "synthetic"

    @property
    def n_samples(self) -> int:
        """T, samples per stored ECG."""
        return round(self.fs * self.seconds)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    def hash(self) -> str:
        """Twelve hex digits over every field except where the run writes and who computes it."""
        content = {k: v for k, v in self.to_dict().items() if k not in _NOT_CONTENT}
        return short_hash(content)

    def describe(self) -> str:
        """One line per field: name, value, doc."""
        rows = [
            (f.name.upper(), repr(getattr(self, f.name)), f.metadata["doc"])
            for f in dataclasses.fields(self)
        ]
        w0, w1 = (max(len(r[i]) for r in rows) for i in (0, 1))
        return "\n".join(f"{a:<{w0}}  {b:<{min(w1, 24)}}  {c}" for a, b, c in rows)

    def save(self, path: str | Path) -> Path:
        path = Path(path)
        with replacing(path) as scratch:
            scratch.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return path


def short_hash(content) -> str:
    """Twelve hex digits of the JSON form of `content`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[
        :12
    ]


def _coerce(name: str, value, hint, field):
    """Turns `value` (a string when it came from the command line) into the field's type, or says
    why it cannot.
    """
    kinds = (
        [k for k in typing.get_args(hint) if k is not type(None)] if _is_optional(hint) else [hint]
    )
    kind = kinds[0]
    try:
        if kind is bool:
            value = _as_bool(value)
        elif kind is int:
            if isinstance(value, bool) or float(value) != int(float(value)):
                raise ValueError
            value = int(float(value))
        elif kind is float:
            value = float(value)
        elif kind is str and not isinstance(value, str):
            value = str(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name.upper()} is {value!r}; it takes {_article(kind.__name__)}."
        ) from None
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(
            f"{name.upper()} is {value!r}; choose one of {', '.join(map(str, choices))}."
        )
    return value


def _is_optional(hint) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _as_bool(value) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(word)
    return word in ("true", "1", "yes")


def _article(kind: str) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "text",
    }.get(kind, kind)
