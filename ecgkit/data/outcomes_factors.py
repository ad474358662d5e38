"""The table of hazard ratios, and what it says about each ECG.

Usage:

    hazards = read_hazards()                # hazards.yaml of the kit, or read_hazards("my.yaml")
    flags = ecg_factors(codes, statements)                      # (n, factors) 0/1
    x, beta = linear_terms(hazards, table, statements, truth)   # eta = x @ beta
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from ecgkit import runtime
from ecgkit.types import ConfigError

KIT_HAZARDS = Path(__file__).with_name("hazards.yaml")
KINDS = ("codes", "diagnostic_class", "measured", "person")


@dataclass(frozen=True)
class Factor:
    """One line of the table; exactly one of `KINDS` says where its value comes from."""

    name: str
    hazard_ratio: float
    codes: tuple[str, ...] = ()
    diagnostic_class: str = ""
    measured: str = ""
    person: str = ""
    unit: float = 1.0
    centre: float = 0.0
    range: tuple[float, float] = (-np.inf, np.inf)
    in_place_of: tuple[str, ...] = ()
    not_with: tuple[str, ...] = ()
    source: str = ""
    confidence: str = ""

    @property
    def log_ratio(self) -> float:
        return float(np.log(self.hazard_ratio))

    @property
    def is_flag(self) -> bool:
        return bool(self.codes or self.diagnostic_class)

    def scaled(self, value) -> np.ndarray:
        """(n,) raw values -> units from the centre; unknown ones stand at the centre."""
        value = np.clip(np.asarray(value, float), *self.range)
        return np.nan_to_num((value - self.centre) / self.unit)


@dataclass(frozen=True)
class Hazards:
    """Everything a simulated outcome is drawn from. Rates are per year, `death_rate` at age 60."""

    label: str
    outcome: str
    factors: tuple[Factor, ...]
    weibull_shape: float
    death_rate: float
    death_slope: float
    death_male: float
    administrative_years: tuple[float, float]
    drop_out: float

    def with_person(self, hr_age: float = 0, hr_male: float = 0) -> Hazards:
        """The same with another ratio per decade of age, or for men; 0 keeps the table's."""
        factors = self.factors
        for person, name, ratio, unit, centre in (
            ("age", "age_decade", hr_age, 10.0, 60.0), ("male", "male", hr_male, 1.0, 0.0)
        ):  # fmt: skip
            if ratio:
                others = tuple(f for f in factors if f.person != person)
                new = Factor(name, ratio, person=person, unit=unit, centre=centre)
                factors = (*others, new)
        return dataclasses.replace(self, factors=factors)

    @property
    def age_slope(self) -> float:
        """Rise of the log hazard per year of age."""
        return sum(f.log_ratio / f.unit for f in self.factors if f.person == "age")


# --- reading --------------------------------------------------------------------------------------


def read_hazards(path: str | Path = "") -> Hazards:
    """The kit's table, or the user's. Raises ConfigError with a sentence for whatever is wrong."""
    return _read(KIT_HAZARDS if path == "" else _find(path))


def _find(path: str | Path) -> Path:
    found = runtime.find_path(path)
    if found is None or not found.is_file():
        raise ConfigError(
            f"HAZARDS is {str(path)!r}, but there is no such file; copy ecgkit/data/hazards.yaml "
            "and edit it."
        )
    return found


def _read(path: Path) -> Hazards:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{path.name} is not readable as YAML ({where}); mend it.") from error
    at = path.name
    _only(given, ("outcome", "factors", "weibull", "death", "censoring"), at)
    factors = _part(given, "factors", at)
    read = tuple(_factor(name, body, f"{at}, factor {name}") for name, body in factors.items())
    _check_names(read, at)
    death, shape = _part(given, "death", at), _part(given, "weibull", at)
    censoring = _part(given, "censoring", at)
    told = ("source", "confidence")
    _only(shape, ("shape", *told), f"{at}, weibull")
    _only(death, ("rate_per_year_at_60", "slope_per_year", "male_hazard_ratio", *told), at)
    _only(censoring, ("administrative_years", "drop_out_per_year", *told), f"{at}, censoring")
    return Hazards(
        label=at, outcome=str(given.get("outcome", "heart failure")), factors=read,
        weibull_shape=_number(shape, "shape", f"{at}, weibull", above=0),
        death_rate=_number(death, "rate_per_year_at_60", f"{at}, death", above=0),
        death_slope=_number(death, "slope_per_year", f"{at}, death"),
        death_male=_number(death, "male_hazard_ratio", f"{at}, death", above=0),
        administrative_years=_pair(censoring, "administrative_years", f"{at}, censoring", above=0),
        drop_out=_number(censoring, "drop_out_per_year", f"{at}, censoring", above=-1e-12),
    )  # fmt: skip


def _factor(name, body, at: str) -> Factor:
    allowed = [f.name for f in dataclasses.fields(Factor) if f.name != "name"]
    _only(body, allowed, at)
    if sum(kind in body for kind in KINDS) != 1:
        raise ConfigError(f"{at}: give exactly one of {', '.join(KINDS)}.")
    if body.get("person", "age") not in ("age", "male"):
        raise ConfigError(f"{at}: person is {body['person']!r}; choose age or male.")
    values = {key: str(body[key]) for key in (*KINDS[1:], "source", "confidence") if key in body}
    for key in ("codes", "in_place_of", "not_with"):
        if key in body:
            values[key] = _words(body[key], key, at)
    values["hazard_ratio"] = _number(body, "hazard_ratio", at, above=0)
    for key in ("unit", "centre"):
        if key in body:
            values[key] = _number(body, key, at, above=0 if key == "unit" else -np.inf)
    if "range" in body:
        values["range"] = _pair(body, "range", at)
    return Factor(str(name), **values)


def _check_names(factors: tuple[Factor, ...], at: str) -> None:
    flags = {f.name for f in factors if f.is_flag}
    for factor in factors:
        for other in {*factor.in_place_of, *factor.not_with} - flags:
            raise ConfigError(
                f"{at}, factor {factor.name}: {other!r} is no factor of codes or of a class."
                f"{_close(other, flags)}"
            )


def _part(given: dict, key: str, at: str) -> dict:
    part = given.get(key)
    if not isinstance(part, dict) or not part:
        raise ConfigError(f"{at} has no part '{key}'; see ecgkit/data/hazards.yaml.")
    return part


def _only(given, allowed, at: str) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"{at} should be a table of names and values; it is {given!r}.")
    for key in given:
        if key not in allowed:
            raise ConfigError(
                f"{at}: {key!r} is not known; it takes {', '.join(allowed)}.{_close(key, allowed)}"
            )


def _close(word, known) -> str:
    near = difflib.get_close_matches(str(word), sorted(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _number(given: dict, key: str, at: str, above: float = -np.inf) -> float:
    value = given.get(key)
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not right or not np.isfinite(value) or value <= above:
        more = f" above {above:g}" if above == 0 else ""
        raise ConfigError(f"{at}: {key} is {value!r}; give a number{more}.")
    return float(value)


def _pair(given: dict, key: str, at: str, above: float = -np.inf) -> tuple[float, float]:
    value = given.get(key)
    if not isinstance(value, list) or len(value) != 2:
        raise ConfigError(f"{at}: {key} is {value!r}; give two numbers, [low, high].")
    low, high = (_number({key: v}, key, at, above) for v in value)
    if low > high:
        raise ConfigError(f"{at}: {key} is {value!r}; the lower number comes first.")
    return low, high


def _words(value, key: str, at: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{at}: {key} is {value!r}; give a list, e.g. [LVH].")
    return tuple(str(word) for word in value)


# --- what it says about an ECG --------------------------------------------------------------------


@functools.cache
def kit_hazards() -> Hazards:
    """The kit's own table, ecgkit/data/hazards.yaml, read once."""
    return read_hazards()


def ecg_factors(
    codes: pd.Series, statements: pd.DataFrame, hazards: Hazards | None = None
) -> pd.DataFrame:
    """(n, factors) 0/1: which factors of the table each ECG's statements (code -> likelihood) name.

    A likelihood of 0 means "not given" and counts as present. Raises ConfigError for a code or
    class that `statements` (one row per SCP code) does not hold.
    """
    hazards = hazards or kit_hazards()
    named = {f.name: _codes_of(f, statements, hazards.label) for f in hazards.factors if f.is_flag}
    rows = [[float(not of.isdisjoint(present)) for of in named.values()] for present in codes]
    return pd.DataFrame(rows, columns=list(named), dtype=float)


def _codes_of(factor: Factor, statements: pd.DataFrame, label: str) -> set[str]:
    classes = statements["diagnostic_class"]
    for code in factor.codes:
        if code not in classes.index:
            raise ConfigError(
                f"{label}, factor {factor.name}: {code!r} is no SCP code."
                f"{_close(code, classes.index.astype(str))}"
            )
    of_class = set(classes.index[classes == factor.diagnostic_class])
    if factor.diagnostic_class and not of_class:
        known = ", ".join(sorted(classes.dropna().unique()))
        raise ConfigError(
            f"{label}, factor {factor.name}: there is no diagnostic class "
            f"{factor.diagnostic_class!r}; there are {known}."
        )
    return set(factor.codes) | of_class


def male(sex: pd.Series) -> np.ndarray:
    """(n,) 1 for men (sex 0), 0 for women (1), 0.5 where unknown."""
    return sex.map({0: 1.0, 1: 0.0}).fillna(0.5).to_numpy(float)


def linear_terms(
    hazards: Hazards,
    table: pd.DataFrame,
    statements: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    effect_scale: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """(n, F) covariates and {factor: log hazard ratio}, in the table's order: eta = x @ beta.

    `table` has age, sex and scp_codes; `truth` (its rows) adds the measured factors, None leaves
    them out. `effect_scale` multiplies the log ratios of ECG factors, not of the person's.
    """
    flags = ecg_factors(table["scp_codes"], statements, hazards)
    columns, beta = {}, {}
    known = () if truth is None else truth.columns
    measured = [f for f in hazards.factors if f.measured in known and f.measured]
    replaced = {name for f in measured for name in f.in_place_of}
    for factor in hazards.factors:
        if factor.person:
            raw = table["age"] if factor.person == "age" else male(table["sex"])
            columns[factor.name] = factor.scaled(raw)
        elif factor.is_flag and factor.name not in replaced:
            columns[factor.name] = flags[factor.name].to_numpy()
        elif factor in measured:
            free = 1 - flags[list(factor.not_with)].max(axis=1) if factor.not_with else 1.0
            columns[factor.name] = factor.scaled(truth[factor.measured]) * free
        else:
            continue
        beta[factor.name] = factor.log_ratio * (1.0 if factor.person else effect_scale)
    return pd.DataFrame(columns, index=table.index), beta
