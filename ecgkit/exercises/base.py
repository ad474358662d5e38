"""Exercises whose answers are checked: the right one is computed from what the notebook holds.

An exercise is a function from the notebook's objects to the right answer, registered under its id.

Usage, in one of the files beside this one:

    @exercise("00.1", "QRS duration of the blocked heart in ms", tolerance=10, unit="ms",
              why="...", hints=("...", "..."))
    def qrs_of_block(blocked):
        return blocked.meta["truth"]["qrs_ms"]
In a notebook:
    answer_1 = None  # the QRS duration in ms
    exercises.check("00.1", answer_1, blocked=blocked)
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ecgkit.types import ConfigError

EXERCISES: dict[str, Exercise] = {}
_tries: Counter[str] = Counter()  # of this kernel: the second wrong answer gets the second hint


class NotHere(Exception):
    """Raised by an exercise where this run's data or preset hold no answer; says why."""


@dataclass(frozen=True)
class Exercise:
    """One question. `right(**objects)` computes its answer: a number, a text, True or False, or a
    set of texts or numbers. `tolerance` is absolute; `slips` name what a usual mistake would give.
    `unit` may be ms, mV, %, ..., or "a share from 0 to 1"; it makes a wrong power of ten a hint.
    """

    id: str
    title: str
    right: Callable[..., object]
    why: str
    hints: tuple[str, ...]
    tolerance: float = 0.0
    unit: str = ""
    slips: Mapping[str, Callable[..., object]] = field(default_factory=dict)

    @property
    def takes(self) -> list[str]:
        """Names of the objects it is computed from."""
        return list(inspect.signature(self.right).parameters)


def exercise(
    id: str,
    title: str,
    *,
    why: str,
    hints: Iterable[str],
    tolerance: float = 0.0,
    unit: str = "",
    slips: Mapping[str, Callable[..., object]] | None = None,
):
    """Registers the function below it as exercise `id` ("00.1": notebook 00, first).

    `why` is said with the right answer, `hints` one by one with wrong ones; neither may hold the
    answer. `slips` maps a sentence to a function of the same objects that gives the wrong answer
    which that sentence explains. Raises ConfigError where the id is taken.
    """

    def register(right):
        if id in EXERCISES:
            raise ConfigError(f"There are two exercises {id}; give one of them another number.")
        EXERCISES[id] = Exercise(
            id, title, right, why, tuple(hints), tolerance, unit, dict(slips or {})
        )
        return right

    return register


def check(id: str, answer: object, *, must: bool = False, **objects) -> None:
    """Prints whether `answer` is right, with one sentence: why, or a hint.

    A wrong answer never raises, whatever its type, unless `must` (the solutions): then it is an
    AssertionError. Raises ConfigError where `id` is unknown or an object it needs is not given.
    """
    found, sentence = verdict(id, answer, **objects)
    print(f"{id}: {found}." + (f" {sentence}" if sentence else ""))
    if must and found in ("not yet", "no answer yet"):
        raise AssertionError(f"The solution of exercise {id} is not the answer that its check has.")


def verdict(id: str, answer: object, **objects) -> tuple[str, str]:
    """`check` without printing: ("no answer yet" | "right" | "not yet" | "cannot be asked here",
    sentence).
    """
    one = _find(id, objects)
    if answer is None:
        return "no answer yet", ""
    try:
        right = one.right(**objects)
    except NotHere as reason:
        return "cannot be asked here", str(reason)
    wrong_kind = _wrong_kind(answer, right)
    if wrong_kind:
        return "not yet", f"{wrong_kind} The question is: {one.title}."
    if agrees(answer, right, one.tolerance):
        return "right", one.why
    return "not yet", _help(one, answer, right, objects)


def agrees(answer: object, right: object, tolerance: float = 0.0) -> bool:
    """True where `answer` is `right`: numbers within `tolerance` (and rounding), texts whatever
    their case, sets whatever their order.
    """
    if _is_many(right):
        return _plain_set(answer) == _plain_set(right)
    if isinstance(right, bool | np.bool_):
        return bool(answer) == bool(right)
    if isinstance(right, str):
        return _plain(answer) == _plain(right)
    near = max(tolerance, 1e-9 * abs(_number(right)))
    return math.isfinite(_number(answer)) and abs(_number(answer) - _number(right)) <= near


# --- what to say of a wrong answer ----------------------------------------------------------------


def _help(one: Exercise, answer, right, objects) -> str:
    for sentence, slip in one.slips.items():
        given = slip(**objects)
        if not agrees(given, right, one.tolerance) and agrees(answer, given, one.tolerance):
            return sentence
    if one.unit and _unit_slip(_number(answer), _number(right), one.tolerance):
        return f"The digits are right, but not the size: the answer is asked for in {one.unit}."
    _tries[one.id] += 1
    return one.hints[min(_tries[one.id], len(one.hints)) - 1]


def _unit_slip(answer: float, right: float, tolerance: float) -> bool:
    return any(
        abs(answer * factor - right) <= max(tolerance, 1e-9 * abs(right)) and abs(right) > tolerance
        for factor in (1000, 100, 1 / 100, 1 / 1000)
    )


def _wrong_kind(answer, right) -> str:
    """A sentence where the answer is of a kind that can never be right, else ''."""
    if _is_many(right):
        fits = _is_many(answer)
        wanted = 'several things: a set or a list such as {"a", "b"}'
    elif isinstance(right, bool | np.bool_):
        fits, wanted = isinstance(answer, bool | np.bool_), "True or False"
    elif isinstance(right, str):
        fits, wanted = isinstance(answer, str), 'text in quotes, such as "V1"'
    else:
        fits, wanted = _number(answer) is not None, "one number"
    return "" if fits else f"The answer is {wanted}, not a {type(answer).__name__}."


def _number(value) -> float | None:
    """One real number as a float: an int, numpy's, an array or tensor of one element; else None."""
    if isinstance(value, str | bytes | bool | np.bool_):
        return None
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _is_many(value) -> bool:
    return (
        isinstance(value, set | frozenset | list | tuple | np.ndarray)
        and np.ndim(list(value) if isinstance(value, set | frozenset) else value) == 1
    )


def _plain_set(values) -> set:
    return {_plain(value) for value in values}


def _plain(value):
    return value.strip().casefold() if isinstance(value, str) else value


def _find(id: str, objects: Mapping[str, object]) -> Exercise:
    if id not in EXERCISES:
        raise ConfigError(f"There is no exercise {id!r}; there are {', '.join(sorted(EXERCISES))}.")
    one = EXERCISES[id]
    if set(objects) != set(one.takes):
        wanted = ", ".join(f"{name}={name}" for name in one.takes)
        raise ConfigError(f'Exercise {id} is checked by exercises.check("{id}", answer, {wanted}).')
    return one
