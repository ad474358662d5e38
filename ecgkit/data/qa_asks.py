"""Every question that can be asked about some ECGs, template by template (numbers: `qa_templates`).

Usage:

    asks = single_asks(facts, rows) + pair_asks(facts, pairs, "irrelevant")
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ecgkit.data import qa_vocabulary as words
from ecgkit.data.qa_draw import Ask, choose, query, verify, verify_state
from ecgkit.data.qa_facts import Facts
from ecgkit.data.qa_leads import ABSENT, PRESENT, UNKNOWN
from ecgkit.data.qa_templates import FIRST_ID, NEVER_ANSWERED
from ecgkit.data.qa_templates_pairs import RELATIONS
from ecgkit.types import LEADS

MAX_PAIRS, ECGS_PER_PAIR = 24, 40  # choose questions per template, and ECGs that call for one more
ENOUGH = 2000  # pairs of one kind kept for one question; far more than are drawn
_LEADS = {f"lead {lead}": (i,) for i, lead in enumerate(LEADS)}
_DIAGNOSES = sorted(words.DIAGNOSTIC.values())
_RHYTHMS = sorted(words.RHYTHM.values())


def single_asks(facts: Facts, rows: np.ndarray) -> list[Ask]:
    """Every question about one ECG that `rows` (positions in the table) can answer."""
    return [
        *_verify_statements(facts, rows), *_choose_statements(facts, rows),
        *_query_statements(facts, rows), *_form_leads(facts, rows), *_noise_asks(facts, rows),
        *_extra_asks(facts, rows), *_axis_stage_asks(facts, rows), *_measure_asks(facts, rows),
    ]  # fmt: skip


# --- statements -----------------------------------------------------------------------------------


def _verify_statements(facts: Facts, rows) -> list[Ask]:
    asks = []
    for name in (*sorted(set(words.NAME_OF.values()) - {words.NORMAL}), *words.CATEGORIES.values()):
        asks += verify_state(1, rows, facts.state[name], [name], {"a": words.spoken(name)})
    normal = facts.state[words.NORMAL]
    asks += verify_state(2, rows, _sure(normal), [words.NORMAL], {})
    diagnosis = facts.state[words.ANY_DIAGNOSIS]
    for number, name, state in (
        (12, words.ANY_FINDING, _sure(facts.state[words.ANY_FINDING])),
        (13, words.ANY_DIAGNOSIS, _included(diagnosis)),
        (14, words.ANY_DIAGNOSIS, _left_out(diagnosis)),
        (15, words.ANY_FORM, facts.state[words.ANY_FORM]),
        (16, words.ANY_RHYTHM, facts.state[words.ANY_RHYTHM]),
    ):
        asks += verify_state(number, rows, state, [name], {})
    return asks


def _sure(state: np.ndarray) -> np.ndarray:
    """Not sure becomes not known: there is no such answer, so it is not asked."""
    return np.where(state < 0, UNKNOWN, state)


def _included(state: np.ndarray) -> np.ndarray:
    return (state != ABSENT).astype(np.int8)


def _left_out(state: np.ndarray) -> np.ndarray:
    return (state == PRESENT).astype(np.int8)


def _choose_statements(facts: Facts, rows) -> list[Ask]:
    state = facts.state
    families = (
        (3, words.CATEGORIES.values(), _sure), (4, _DIAGNOSES, _included),
        (5, _DIAGNOSES, _left_out), (6, words.FORMS, _sure), (7, _RHYTHMS, _sure),
    )  # fmt: skip
    asks = []
    for number, names, seen in families:
        asks += _choose_all(number, rows, {name: seen(state[name]) for name in names})
    return asks


def _query_statements(facts: Facts, rows) -> list[Ask]:
    """ECGs with a statement of the kind that is no answer class cannot be answered in full."""
    asks = []
    for number, kind, names, seen in (
        (8, "diagnosis", _DIAGNOSES, _included), (9, "diagnosis", _DIAGNOSES, _left_out),
        (10, "rhythm", _RHYTHMS, _sure), (11, "form", words.FORMS, _sure),
    ):  # fmt: skip
        listed = rows[~facts.unlisted[kind][rows]]
        asks += _query_states(number, listed, {name: seen(facts.state[name]) for name in names})
    return asks


def _choose_all(number: int, rows, states: dict[str, np.ndarray], lead: str = "") -> list[Ask]:
    """Choose questions over the pairs of `states` (name -> (N,)) most evenly filled in all N ECGs.

    The same pairs in every split; fewer in a small cohort, so that each is asked more than once.
    """
    names = [name for name, state in states.items() if (state == PRESENT).any()]
    if len(names) < 2:
        return []
    matrix = np.stack([states[name] for name in names], axis=1)
    there, gone = (matrix == PRESENT).astype(np.float32), (matrix == ABSENT).astype(np.float32)
    alone = there.T @ gone  # [i, j] = how many have i and not j
    pairs = sorted(combinations(range(len(names)), 2), key=lambda p: -min(alone[p], alone[p[::-1]]))
    n_pairs = int(np.clip(len(matrix) // ECGS_PER_PAIR, 4, MAX_PAIRS))
    asks = []
    for i, j in pairs[:n_pairs]:
        pair = (names[i], names[j])
        slots = {"a": pair[0], "b": pair[1]} | ({"c": lead} if lead else {})
        asks += choose(number, rows, matrix[rows, i], matrix[rows, j], pair, slots)
    return asks


def _query_states(number, rows, states: dict[str, np.ndarray], slots=None) -> list[Ask]:
    """Query over named states; ECGs where any of them is not known for sure are left out."""
    names = [name for name, state in states.items() if (state == PRESENT).any()]
    if not names:
        return []
    seen = np.stack([states[name] for name in names], axis=1)[rows]
    sure = (seen >= 0).all(axis=1)
    return query(number, names, slots or {}, rows[sure][:, None], seen[sure] == PRESENT, names)


# --- in which lead --------------------------------------------------------------------------------


def _verify_in(number: int, rows, leads: np.ndarray, name: str, where: dict) -> list[Ask]:
    """Is `name` in a lead (or a group of leads, which it must fill)? Half of the noes are ECGs that
    have it in other leads.
    """
    asks, some = [], (leads[rows] == PRESENT).any(axis=1)
    for place, which in where.items():
        here = leads[rows][:, list(which)]
        yes, known = (here == PRESENT).all(axis=1), (here >= 0).all(axis=1)
        no, elsewhere = known & ~yes & ~some, known & ~yes & some
        slots = {"a": words.spoken(name), "b": place}
        found = (rows[mask][:, None] for mask in (yes, no, elsewhere))
        yes, no, elsewhere = found
        asks += verify(number, [name], slots, yes, no, elsewhere=elsewhere)
    return asks


def _which_leads(number: int, rows, leads: np.ndarray, name: str) -> list[Ask]:
    known = rows[(leads[rows] >= 0).all(axis=1)]
    slots = {"a": words.spoken(name)}
    return query(number, [name], slots, known[:, None], leads[known] == PRESENT, list(_LEADS))


def _form_leads(facts: Facts, rows) -> list[Ask]:
    asks = []
    for name in words.FORMS_WITH_LEADS:
        where = words.LEAD_GROUPS if name in words.BY_GROUP else _LEADS
        asks += _verify_in(17, rows, facts.leads[name], name, where)
        asks += _which_leads(19, rows, facts.leads[name], name)
    for place, (i,) in _LEADS.items():
        states = {name: facts.leads[name][:, i] for name in words.FORMS_WITH_LEADS}
        asks += _query_states(18, rows, states, {"b": place})
    return asks


def _noise_asks(facts: Facts, rows) -> list[Ask]:
    asks, states = [], {noise: facts.state[noise] for noise in words.NOISES}
    for noise in words.NOISES:
        asks += _verify_in(26, rows, facts.leads[noise], noise, _LEADS)
        asks += verify_state(27, rows, states[noise], [noise], {"a": noise})
        asks += _which_leads(34, rows, facts.leads[noise], noise)
    any_noise = words.ANY_NOISE
    asks += _verify_in(28, rows, facts.leads[any_noise], any_noise, _LEADS)
    asks += verify_state(29, rows, facts.state[any_noise], [any_noise], {})
    asks += _choose_all(30, rows, states) + _query_states(32, rows, states)
    for place, (i,) in _LEADS.items():
        here = {noise: facts.leads[noise][:, i] for noise in words.NOISES}
        asks += _choose_all(31, rows, here, place)
        asks += _query_states(33, rows, here, {"b": place})
    return asks


# --- extra beats, axis, stage, measurements -------------------------------------------------------


def _extra_asks(facts: Facts, rows) -> list[Ask]:
    any_beat, states = words.ANY_EXTRA, {name: facts.state[name] for name in words.EXTRA_BEATS}
    asks = verify_state(35, rows, facts.state[any_beat], [any_beat], {})
    for name in words.EXTRA_BEATS:
        asks += verify_state(36, rows, states[name], [name], {"a": name})
    return asks + _choose_all(37, rows, states) + _query_states(38, rows, states)


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
            asks += verify_state(ids[0], dated, states[name], [name], {"a": name})
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
            asks += verify_state(39, known, states[k], [named[k]], slots)
        for j, k in combinations(range(len(words.RANGES)), 2):
            options = (words.RANGES[j], words.RANGES[k])
            slots = {"a": " or ".join(options), "b": measure}
            pair = (states[j][known], states[k][known], (named[j], named[k]))
            asks += choose(40, known, *pair, slots, options)
        found = side[known][:, None] == np.arange(len(words.RANGES))
        asks += query(41, named, {"b": measure}, known[:, None], found, words.RANGES)
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
    asks = []
    names = [name for name in words.NAME_OF.values() if (facts.state[name] == PRESENT).any()]
    names = sorted(set(names) - {words.NORMAL})
    if names:
        listed = ~np.stack(list(facts.unlisted.values())).any(axis=0)
        asks += _relation_asks(facts.matrix(names), names, pairs, kind, "scp_code", listed)
    if facts.ranges:
        within = words.RANGES.index("within the normal range")
        sides = np.stack(list(facts.ranges.values()), axis=1)
        abnormal = np.where(sides < 0, -1, sides != within).astype(np.int8)
        everyone = np.ones(len(sides), dtype=bool)
        asks += _relation_asks(
            abnormal, list(facts.ranges), pairs, kind, "numeric_feature", everyone
        )
    return asks


def _relation_asks(states, names, pairs, kind: str, attribute_type: str, listed) -> list[Ask]:
    """Gone, new, kept, absent (of statements); normal now, abnormal now, ... (of measurements).

    states (N, K); listed (N,) bool: ECGs that "what ...?" can be answered for.
    """
    before, after = states[pairs[:, 0]], states[pairs[:, 1]]  # (P, K) each
    verify_id = FIRST_ID[kind, attribute_type, "verify"]
    query_id = FIRST_ID[kind, attribute_type, "query"]
    sure = ((before >= 0) & (after >= 0)).all(axis=1) & listed[pairs].all(axis=1)
    classes = np.array([name in _CLASSES for name in names])
    asks = []
    for step, relation in enumerate(RELATIONS[attribute_type].values()):
        one, two = relation.states
        for k, name in enumerate(names):
            yes, no = _yes_no(before[:, k], after[:, k], one, two)
            slots = {"a": words.spoken(name)}
            asks += verify(verify_id + step, None, slots, pairs[yes], pairs[no])
        if relation.query:
            found = (before == one) & (after == two)
            never = np.isin(names, list(NEVER_ANSWERED.get(query_id + step, ())))
            may = sure & ~found[:, never].any(axis=1)
            kept = [name for name, k in zip(names, classes) if k]
            asks += query(query_id + step, None, {}, pairs[may], found[may][:, classes], kept)
    return asks


_CLASSES = {*words.STATEMENTS, *words.MEASURES}


def _yes_no(before: np.ndarray, after: np.ndarray, one: int, two: int):
    """(pairs where (before, after) == (one, two), a mix of the other three, as even as can be)."""
    states = [(i, j) for i in (0, 1) for j in (0, 1)]
    cells = {(i, j): np.flatnonzero((before == i) & (after == j)) for i, j in states}
    yes = cells.pop((one, two))
    share = -(-2 * max(len(yes), 1) // 3)
    no = [rows[: min(share, ENOUGH)] for rows in cells.values()]
    return yes[:ENOUGH], np.concatenate(no)
