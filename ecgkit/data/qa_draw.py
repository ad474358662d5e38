"""Draws balanced questions from facts: who can be asked what, and how many of each answer.

A question about one attribute gets as many "yes" as "no", a choice as many of either option, a
query no answer in more than half of its samples: text alone must not give the answer away.

Usage:
    asks = single_asks(facts, rows) + pair_asks(facts, pairs, "irrelevant")
    for ask, n in zip(asks, share_out([a.capacity for a in asks], weights, total)): ask.draw(n, rng)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ecgkit.data import qa_vocabulary as words
from ecgkit.data.qa_facts import ABSENT, PRESENT, UNSURE, Facts
from ecgkit.data.qa_templates import FIRST_ID, RELATIONS
from ecgkit.types import LEADS

MIN_YES = 2  # an attribute found in fewer ECGs of a split is not asked about there
MAX_PAIRS, ECGS_PER_PAIR = 24, 40  # choose questions per template, and ECGs that call for one more
MAX_LABELS = 6  # the longest answer ECG-QA has


@dataclass
class Ask:
    """One question (a template with its attribute) and the ECGs it can be put to, sorted by answer.

    groups: (answer, rows (m, 1) or (m, 2)). caps: how many of each group may be drawn.
    """

    template_id: int
    attribute: list[str] | None
    slots: dict[str, str]
    groups: list[tuple[tuple[str, ...], np.ndarray]]
    caps: np.ndarray
    weight: float = 1.0
    key: tuple = field(init=False)

    def __post_init__(self):
        self.key = (self.template_id, *(self.attribute or ()), *self.slots.values())

    @property
    def capacity(self) -> int:
        return int(self.caps.sum())

    def draw(self, n: int, rng: np.random.Generator) -> list[tuple[tuple[str, ...], list[int]]]:
        """`n` (answer, rows) in random order, spread over the answers as evenly as they go."""
        order = rng.permutation(len(self.caps))  # so that an odd one out falls to any answer
        counts = share_out(self.caps[order], np.ones(len(order)), n)[np.argsort(order)]
        drawn = []
        for (answer, rows), count in zip(self.groups, counts):
            if count:
                chosen = rows[rng.permutation(len(rows))[:count]].tolist()
                drawn += [(answer, row) for row in chosen]
        return [drawn[i] for i in rng.permutation(len(drawn))]


def share_out(capacity, weights, total: int) -> np.ndarray:
    """(n,) int: how many each may take so that the sum is at most `total`, filled like water.

    Those with little give all they have; the rest share what is left by weight.
    """
    capacity, weights = np.asarray(capacity, float), np.asarray(weights, float)
    if capacity.sum() <= total:
        return capacity.astype(int)
    low, high = 0.0, float((capacity / weights).max())
    for _ in range(50):
        level = (low + high) / 2
        filled = np.minimum(capacity, level * weights).sum()
        low, high = (level, high) if filled < total else (low, level)
    counts = np.floor(np.minimum(capacity, high * weights) + 1e-6).astype(int)
    spare = np.flatnonzero(counts < capacity)[: max(total - counts.sum(), 0)]
    counts[spare] += 1
    return counts


# --- shapes of questions --------------------------------------------------------------------------


def verify(template_id: int, attribute, slots, yes, no, unsure=None, weight=1.0) -> list[Ask]:
    """[Ask] with as many yes as no, and at most as many not sure; [] where either is missing."""
    n = min(len(yes), len(no))
    if n < MIN_YES:
        return []
    groups = [(("yes",), yes), (("no",), no)]
    if unsure is not None and len(unsure):
        groups.append((("not sure",), unsure))
    caps = np.array([min(len(rows), n) for _, rows in groups])
    return [Ask(template_id, attribute, slots, groups, caps, weight)]


def _verify_state(template_id, rows, state, attribute, slots, weight=1.0) -> list[Ask]:
    """Verify from (n,) states of `rows`."""
    yes, no, unsure = (rows[state[rows] == value][:, None] for value in (PRESENT, ABSENT, UNSURE))
    return verify(template_id, attribute, slots, yes, no, unsure, weight)


def choose(template_id: int, rows, a: np.ndarray, b: np.ndarray, names, slots=None, answers=None):
    """Ask which of two is present: a, b (n,) states of `rows`. Returns None where one never is."""
    known = (a >= 0) & (b >= 0)
    answers = answers or names
    one, two = answers
    cells = {(one,): (1, 0), (two,): (0, 1), (one, two): (1, 1), ("none",): (0, 0)}
    groups = [(w, rows[known & (a == i) & (b == j)][:, None]) for w, (i, j) in cells.items()]
    sizes = np.array([len(found) for _, found in groups])
    if min(sizes[:2]) < MIN_YES:
        return None
    slots = slots or {"a": names[0], "b": names[1]}
    return Ask(template_id, list(names), slots, groups, np.minimum(sizes, max(sizes[:2])))


def _choose_all(template_id: int, rows, states: dict[str, np.ndarray]) -> list[Ask]:
    """Choose questions over the pairs of `states` (name -> (N,)) most evenly filled in all N ECGs.

    The same pairs in every split; fewer in a small cohort, so that each is asked more than once.
    """
    filled = {}
    for a, b in combinations(states, 2):
        one, two = states[a], states[b]
        only = ((one == 1) & (two == 0)).sum(), ((one == 0) & (two == 1)).sum()
        filled[a, b] = int(min(only))
    n_pairs = int(np.clip(len(one) // ECGS_PER_PAIR, 4, MAX_PAIRS)) if filled else 0
    best = sorted(filled, key=lambda pair: -filled[pair])[:n_pairs]
    asks = [choose(template_id, rows, states[a][rows], states[b][rows], (a, b)) for a, b in best]
    return [ask for ask in asks if ask is not None]


def query(template_id: int, attribute, slots, rows, found, names, weight=1.0) -> list[Ask]:
    """Ask for all that is present: found (n, K) bool per row of `rows` (n, 1 or 2); none = no name.

    The commonest answer is capped at the number of all others; [] where there is but one answer.
    """
    short = found.sum(axis=1) <= MAX_LABELS
    rows, found = rows[short], found[short]
    if not len(rows):
        return []
    patterns, which = np.unique(found, axis=0, return_inverse=True)
    which = which.ravel()
    order = np.argsort(which, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which))[:-1])
    groups = [
        (tuple(names[k] for k in np.flatnonzero(pattern)) or ("none",), rows[part])
        for pattern, part in zip(patterns, parts)
    ]
    caps = np.array([len(part) for part in parts])
    caps = np.minimum(caps, caps.sum() - caps.max()) if len(caps) > 1 else caps * 0
    return [Ask(template_id, attribute, slots, groups, caps, weight)] if caps.sum() else []


def _query_state(template_id, rows, facts: Facts, names, weight=1.0) -> list[Ask]:
    """Query over named states; ECGs where any of them is not known for sure are left out."""
    names = [name for name in names if (facts.state[name] == PRESENT).any()]
    if not names:
        return []
    states = facts.matrix(names)[rows]
    sure = (states >= 0).all(axis=1)
    found = states[sure] == PRESENT
    return query(template_id, names, {}, rows[sure][:, None], found, names, weight)


# --- one ECG --------------------------------------------------------------------------------------


def single_asks(facts: Facts, rows: np.ndarray) -> list[Ask]:
    """Every question about one ECG that `rows` (positions in the table) can answer."""
    return [
        *_statement_asks(facts, rows), *_noise_asks(facts, rows), *_extra_asks(facts, rows),
        *_axis_stage_asks(facts, rows), *_measure_asks(facts, rows),
    ]  # fmt: skip


def _statement_asks(facts: Facts, rows) -> list[Ask]:
    diagnoses = sorted(words.DIAGNOSTIC.values())
    forms, rhythms = sorted(words.FORM.values()), sorted(words.RHYTHM.values())
    asks = []
    for name in (*diagnoses, *words.CATEGORIES.values(), words.NORMAL):
        asks += _verify_state(1, rows, facts.state[name], [name], {"a": words.spoken(name)})
    for name in (*forms, *rhythms):
        asks += _verify_state(2, rows, facts.state[name], [name], {"a": words.spoken(name)})
    anything = "any abnormal finding"
    asks += _verify_state(12, rows, facts.state[anything], [anything], {})
    asks += _query_state(3, rows, facts, words.CATEGORIES.values(), weight=2)
    asks += _query_state(5, rows, facts, diagnoses, weight=3)
    both = [words.DIAGNOSTIC[code] for code in words.BOTH]
    asks += _query_state(6, rows, facts, sorted([*forms, *both]), weight=2)
    asks += _query_state(7, rows, facts, rhythms, weight=2)
    for template_id, names in ((8, diagnoses), (10, rhythms), (11, forms)):
        asks += _choose_all(template_id, rows, {name: facts.state[name] for name in names})
    return asks


def _noise_asks(facts: Facts, rows) -> list[Ask]:
    asks = []
    for noise in words.NOISES:
        asks += _verify_state(27, rows, facts.state[noise], [noise], {"a": noise})
        leads = facts.noise_leads[noise]
        for i, lead in enumerate(LEADS):
            slots = {"a": noise, "b": f"lead {lead}"}
            asks += _verify_state(26, rows, leads[:, i], [noise], slots, weight=0.1)
        known = rows[(leads[rows] >= 0).all(axis=1)]
        names = [f"lead {lead}" for lead in LEADS]
        asks += query(34, [noise], {"a": noise}, known[:, None], leads[known] == 1, names, 0.3)
    asks += _verify_state(29, rows, facts.state["any noise"], ["any kind of noises"], {})
    asks += _choose_all(30, rows, {noise: facts.state[noise] for noise in words.NOISES})
    return asks + _query_state(33, rows, facts, words.NOISES)


def _extra_asks(facts: Facts, rows) -> list[Ask]:
    any_beat = "any extra beat"
    asks = _verify_state(35, rows, facts.state[any_beat], ["any kind of extra systoles"], {})
    for name in words.EXTRA_BEATS:
        asks += _verify_state(36, rows, facts.state[name], [name], {"a": name})
    asks += _choose_all(37, rows, {name: facts.state[name] for name in words.EXTRA_BEATS})
    return asks + _query_state(38, rows, facts, words.EXTRA_BEATS)


def _axis_stage_asks(facts: Facts, rows) -> list[Ask]:
    asks = []
    for ids, position, names, asked in (
        ((20, 21, 22), facts.axis, words.AXES, words.AXES),
        ((23, 24, 25), facts.stage, words.ALL_STAGES, words.STAGES),
    ):
        known = rows[position[rows] >= 0]
        # An infarction of unknown stage is neither a yes nor a no to a question about one stage.
        dated = known[position[known] != _at(names, words.UNKNOWN_STAGE)]
        states = {name: (position == _at(names, name)).astype(np.int8) for name in asked}
        for name in asked:
            asks += _verify_state(ids[0], dated, states[name], [name], {"a": name})
        asks += _choose_all(ids[1], dated, states)
        found = position[known][:, None] == np.arange(len(names))
        asks += query(ids[2], list(names), {}, known[:, None], found, names)
    return asks


def _at(names, name) -> int:
    return names.index(name) if name in names else -1


def _measure_asks(facts: Facts, rows) -> list[Ask]:
    asks = []
    for measure, side in facts.ranges.items():
        known = rows[side[rows] >= 0]
        states = [(side == k).astype(np.int8) for k in range(len(words.RANGES))]
        named = [f"{name} of {measure}" for name in words.RANGES]
        for k, name in enumerate(words.RANGES):
            slots = {"a": name, "b": measure}
            asks += _verify_state(39, known, states[k], [named[k]], slots, weight=0.7)
        for j, k in combinations(range(len(words.RANGES)), 2):
            options = (words.RANGES[j], words.RANGES[k])
            slots = {"a": " or ".join(options), "b": measure}
            pair = (states[j][known], states[k][known], (named[j], named[k]))
            ask = choose(40, known, *pair, slots, options)
            asks += [] if ask is None else [ask]
        found = side[known][:, None] == np.arange(len(words.RANGES))
        asks += query(41, named, {"b": measure}, known[:, None], found, words.RANGES, 0.5)
    return asks + _which_measures(facts, rows)


def _which_measures(facts: Facts, rows) -> list[Ask]:
    names, asks = list(facts.ranges), []
    if not names:
        return []
    sides = np.stack([facts.ranges[name] for name in names], axis=1)[rows]
    sure = (sides >= 0).all(axis=1)
    for k, name in enumerate(words.RANGES):
        attribute = [f"{name} of {measure}" for measure in names]
        found = sides[sure] == k
        asks += query(42, attribute, {"a": name}, rows[sure][:, None], found, names)
    return asks


# --- two ECGs -------------------------------------------------------------------------------------


def pair_asks(facts: Facts, pairs: np.ndarray, kind: str) -> list[Ask]:
    """Every question about `pairs` (P, 2): consecutive (of one patient) or irrelevant (of two)."""
    if not len(pairs):
        return []
    names = [name for name in words.STATEMENTS if (facts.state[name] == PRESENT).any()]
    asks = _relation_asks(facts.matrix(names), names, pairs, kind, "scp_code") if names else []
    if facts.ranges:
        within = words.RANGES.index("within the normal range")
        sides = np.stack(list(facts.ranges.values()), axis=1)
        abnormal = np.where(sides < 0, -1, sides != within).astype(np.int8)
        asks += _relation_asks(abnormal, list(facts.ranges), pairs, kind, "numeric_feature")
    return asks


def _relation_asks(states: np.ndarray, names, pairs, kind: str, attribute_type: str) -> list[Ask]:
    """New, gone, kept (of statements); normal now, abnormal now, abnormal still (of measures)."""
    before, after = states[pairs[:, 0]], states[pairs[:, 1]]  # (P, K) each
    wanted = {"new": (0, 1), "gone": (1, 0), "kept": (1, 1)}
    wanted |= {"abnormal now": (0, 1), "normal now": (1, 0), "abnormal still": (1, 1)}
    verify_id = FIRST_ID[kind, attribute_type, "verify"]
    query_id = FIRST_ID[kind, attribute_type, "query"]
    sure = ((before >= 0) & (after >= 0)).all(axis=1)
    asks = []
    for step, relation in enumerate(RELATIONS[attribute_type]):
        one, two = wanted[relation]
        for k, name in enumerate(names):
            yes, no = _yes_no(before[:, k], after[:, k], one, two)
            slots = {"a": words.spoken(name)}
            asks += verify(verify_id + step, None, slots, pairs[yes], pairs[no])
        found = (before[sure] == one) & (after[sure] == two)
        asks += query(query_id + step, None, {}, pairs[sure], found, names)
    return asks


def _yes_no(before: np.ndarray, after: np.ndarray, one: int, two: int):
    """(pairs where (before, after) == (one, two), a mix of the other three, even if it can be)."""
    states = [(i, j) for i in (0, 1) for j in (0, 1)]
    cells = {(i, j): np.flatnonzero((before == i) & (after == j)) for i, j in states}
    yes = cells.pop((one, two))
    share = -(-len(yes) // 3)
    return yes, np.concatenate([rows[:share] for rows in cells.values()])
