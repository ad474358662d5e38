"""Who is in the simulated cohort: shares, company, ages, likelihoods, visits, and their reports."""

import numpy as np
import pandas as pd
import pytest

from ecgkit.config import KitConfig
from ecgkit.data.scp_table import scp_statements
from ecgkit.data.synthetic import prevalence as shares
from ecgkit.data.synthetic import report_words_english, report_words_german, tables
from ecgkit.data.synthetic.findings import DESCRIPTIVE, EFFECTS
from ecgkit.data.synthetic.patients import STAGE_DAYS, Visits, draw_visits
from ecgkit.data.synthetic.population import draw_population
from ecgkit.data.synthetic.prevalence import CODES, GROUPS, NEEDS, PLACE
from ecgkit.data.synthetic.report_text import report_text
from ecgkit.types import ConfigError

DIAGNOSTIC = scp_statements()["diagnostic"].eq(1)


@pytest.fixture(scope="module", params=shares.TABLES)
def cohort(request):
    n = 2400 if request.param == "learning" else 8000
    return request.param, draw_visits(n, np.random.default_rng(5), request.param)


@pytest.fixture(scope="module")
def learning():
    return draw_visits(4000, np.random.default_rng(9))


def odds_ratio(has: dict, one: str, other: str) -> float:
    """Odds of `other` beside `one` against without it, half a case added to each cell."""
    a, b = has[one], has[other]
    both, first, second, none = ((x & y).sum() + 0.5 for x, y in (
        (a, b), (a, ~b), (~a, b), (~a, ~b)))  # fmt: skip
    return both * none / (first * second)


# --- how often, and with what ---------------------------------------------------------------------


def test_every_statement_of_ptbxl_is_drawn():
    assert {*CODES, "SR"} == set(scp_statements().index)
    assert set(CODES) <= {*EFFECTS, *DESCRIPTIVE}


def test_shares_are_those_of_the_table(cohort):
    name, visits = cohort
    n, has = len(visits.table), visits.has()
    for code, share in shares.share(name).items():
        found = has[code].sum() if code in has else 0
        assert abs(found - share * n) <= 5 + 0.15 * share * n, (code, found, share * n)
    ill = [len(codes.keys() - {"SR"}) for codes in visits.codes if "NORM" not in codes]
    assert min(ill) >= 1 and 2 < np.mean(ill) < 3.2 and max(ill) >= 6


def test_a_small_cohort_has_the_main_findings_and_a_demo_has_all(cohort):
    tiny = draw_visits(160, np.random.default_rng(0)).has()
    assert all(tiny[c].sum() >= 5 for c in ("NORM", "AFIB", "LVH", "IMI", "CLBBB", "STACH", "NDT"))
    name, visits = cohort
    if name == "learning":
        assert min(mask.sum() for mask in visits.has().values()) >= 24


def test_nothing_stands_beside_what_excludes_it(cohort):
    has = cohort[1].has()
    matrix = np.stack([has.get(code, np.zeros(len(cohort[1].codes), bool)) for code in CODES])
    together = matrix.astype(int) @ matrix.T.astype(int)
    assert together[shares.BARRED].sum() == 0
    for code, needed in NEEDS.items():
        row = matrix[PLACE[code]]
        assert row.any() and matrix[[PLACE[c] for c in needed]].any(axis=0)[row].all()


def test_each_ecg_has_a_rhythm(cohort):
    rhythms = {"SR", *GROUPS["RHYTHM"]}
    for codes in cohort[1].codes:
        found = rhythms & codes.keys()
        assert len(found) == 1 or found == {"SARRH", "SBRAD"}, codes


@pytest.mark.parametrize(
    "one, other, least",
    [
        ("LVH", "VCLVH", 8),
        ("LVH", "ISC_", 2),
        ("ISC_", "STD_", 4),
        ("AFIB", "DIG", 5),
        ("AFIB", "NST_", 1.5),
        ("CRBBB", "LAFB", 2),
        ("RVH", "RAO/RAE", 4),
        ("ASMI", "QWAVE", 2),
        ("IMI", "ABQRS", 2),
        ("EL", "LNGQT", 2),
        ("NDT", "NT_", 2),
        ("1AVB", "LPR", 50),
    ],
)
def test_what_belongs_together_is_together(learning, one, other, least):
    assert odds_ratio(learning.has(), one, other) > least


def test_normal_ecgs_have_little_beside_sinus_rhythm(learning):
    for codes in learning.codes:
        if "NORM" in codes:
            assert codes.keys() <= {"NORM", "SR", *shares.BESIDE_NORMAL}
    has = learning.has()
    assert 0 < (has["NORM"] & has["PVC"]).sum() < 0.05 * has["NORM"].sum()
    assert odds_ratio(has, "NORM", "SARRH") > 1.2


def test_age_and_sex_follow_the_finding(learning):
    table, has = learning.table, learning.has()
    age = {code: table["age"][mask].mean() for code, mask in has.items()}
    assert age["NORM"] < 58 < 66 < min(age["AFIB"], age["CLBBB"], age["CRBBB"], age["1AVB"])
    assert age["SARRH"] < 55 and age["WPW"] < 55
    assert (table["sex"][has["IMI"]] == 0).mean() > 0.55 > (table["sex"][has["NORM"]] == 0).mean()
    assert abs(table["age"].median() - 62) <= 2 and table["age"].between(18, 95).all()


def test_an_unknown_table_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="learning, ptbxl"):
        tables.write_cohort(tmp_path / "x", 5, seed=0, prevalence="real")
    with pytest.raises(ConfigError, match="PREVALENCE is 'real'"):
        KitConfig.from_params({"prevalence": "real"})
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_part_of_what_names_a_cached_cohort(monkeypatch):
    from ecgkit.data import cohort

    written = []
    monkeypatch.setattr(cohort.runtime, "write_once", lambda folder, write: written.append(folder))
    for name in shares.TABLES:
        cohort._simulated_folder(KitConfig.from_params({"preset": "tiny", "prevalence": name}))
    assert len(set(written)) == 2


# --- likelihoods, severity, visits ----------------------------------------------------------------


def test_likelihoods_and_severity(learning):
    form = [lik for codes in learning.codes for c, lik in codes.items() if not DIAGNOSTIC[c]]
    assert set(form) == {0.0}
    given = pd.Series(
        [(c, p) for codes in learning.codes for c, p in codes.items() if DIAGNOSTIC[c]]
    ).apply(pd.Series)
    assert set(given[1]) == {100, 80, 50, 35, 15, 0}
    conduction, infarct = (given[given[0].isin(GROUPS[g])] for g in ("BRANCH", "MI"))
    assert conduction[1].isin([15, 35, 50]).mean() < 0.15 < infarct[1].isin([15, 35, 50]).mean()
    for code, severity in learning.severity.items():
        for i, codes in enumerate(learning.codes):
            if code not in codes:
                assert severity[i] == 0
            elif code != "SR" and codes[code] in (100, 80, 0):
                assert 0.35 <= severity[i] <= 1
            elif code != "SR":
                assert severity[i] <= 0.45


def test_later_visits_follow_the_first(learning):
    table, has = learning.table, learning.has()
    later = np.flatnonzero(table["visit"] > 0)
    assert (table["patient"].to_numpy()[later] == table["patient"].to_numpy()[later - 1]).all()
    for code in (*GROUPS["MI"], "PACE", "CLBBB"):
        before = later[has[code][later - 1]]
        assert has[code][before].all(), code  # scars, pacemakers and full blocks stay
    for code in ("LVH", "AFIB", "NORM", "1AVB"):
        before = has[code][later - 1]
        assert has[code][later[before]].mean() > 3 * has[code][later[~before]].mean()
    again = [
        (learning.severity[code][i], learning.severity[code][i - 1])
        for code in ("LVH", "IMI", "LAFB", "ASMI")
        for i in later
        if learning.codes[i].get(code, -1) == learning.codes[i - 1].get(code, -2)
    ]
    assert np.corrcoef(np.array(again).T)[0, 1] > 0.7


def test_infarcts_age(learning):
    table, has = learning.table, learning.has()
    infarct = np.any([has[code] for code in GROUPS["MI"]], axis=0)
    stage = table["mi_stage"].to_numpy()
    assert ((stage > 0) == infarct).all()
    assert set(stage[infarct]) == {value for _, value in STAGE_DAYS}
    later = np.flatnonzero((table["visit"] > 0) & infarct)
    later = later[infarct[later - 1]]
    assert (stage[later] >= stage[later - 1]).all() and (stage[later] > stage[later - 1]).any()


def test_folds_share_the_rare_findings(learning):
    table, has = learning.table, learning.has()
    assert table.groupby("patient")["strat_fold"].nunique().max() == 1
    first = (table["visit"] == 0).to_numpy()
    spread = []
    for code in CODES:
        per_fold = np.bincount(table["strat_fold"][first & has[code]], minlength=11)[1:]
        assert per_fold.min() >= 1, code
        spread.append(per_fold.var() / per_fold.mean())
    assert np.mean(spread) < 0.6  # dealt at random it would be 0.9


def test_the_same_seed_draws_the_same_people():
    one, two, other = (draw_population(300, seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one.visits.table, two.visits.table)
    assert one.visits.codes == two.visits.codes != other.visits.codes
    assert all(np.array_equal(u, two.visits.severity[c]) for c, u in one.visits.severity.items())


def test_has_lists_what_the_codes_say():
    visits = Visits(pd.DataFrame({"patient": [0, 1]}), [{"SR": 0.0}, {"AFIB": 0.0}], {})
    assert {c: m.tolist() for c, m in visits.has().items()} == {
        "AFIB": [False, True],
        "SR": [True, False],
    }


# --- reports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [report_words_english, report_words_german])
def test_every_statement_has_several_wordings(words):
    assert set(words.WORDS) == set(scp_statements().index)
    seen = {}
    for code, wordings in words.WORDS.items():
        assert len(set(wordings)) >= 3
        for text in wordings:
            assert text == text.strip().lower() and text.isascii() and seen.setdefault(text, code)
            assert seen[text] == code, f"{text!r} says {seen[text]} and {code}"


def report(codes, seed=0, axis="", **facts):
    return report_text(codes, axis, np.random.default_rng(seed), **facts)


def test_reports_vary_and_repeat_by_seed():
    codes = {"LVH": 100.0, "ISC_": 100.0, "SR": 0.0}
    texts = {report(codes, seed) for seed in range(60)}
    assert len(texts) > 40
    assert report(codes, 7) == report(codes, 7)


@pytest.mark.parametrize("code", [code for code in CODES if code != "NORM"])
def test_each_finding_is_told(code):
    """In words of its own, in both languages, unless it is minor and passed over."""
    told = 0
    for seed in range(40):
        text = report({code: 0.0}, seed)
        told += any(w in text for m in (report_words_english, report_words_german)
                    for w in m.WORDS[code])  # fmt: skip
    assert told >= 25


def test_doubt_is_hedged_and_certainty_is_not():
    doubts = ("cannot rule out", "questionable", "not excluded", "possibl", "suggests", "consider",
              "probabl", "likely", "consistent", "nicht auszuschliessen", "fraglich", "?",
              "moeglich", "verdacht", "v.a.", "wahrscheinlich", "vereinbar")  # fmt: skip
    for seed in range(80):
        for likelihood in (15.0, 35.0, 50.0):
            assert any(d in report({"CLBBB": likelihood, "SR": 0.0}, seed) for d in doubts)
        for likelihood in (0.0, 80.0, 100.0):
            assert not any(d in report({"CLBBB": likelihood, "SR": 0.0}, seed) for d in doubts)


def test_facts_beyond_the_codes_are_told():
    texts = " / ".join(
        report(
            {"IMI": 100.0, "PVC": 0.0, "STD_": 0.0, "SR": 0.0}, seed, axis="LAD",
            stage="Stadium III", beats={"PVC": 3}, leads={"STD_": ["V5", "V6"]},
            severity={"STD_": 0.95},
        )
        for seed in range(60)
    )  # fmt: skip
    for words in ("old ", "z.n. ", "linkstyp", "left axis", "3 ves", "in v5, v6", "marked st",
                  "deutlich"):  # fmt: skip
        assert words in texts, words
    undated = " / ".join(report({"IMI": 100.0, "SR": 0.0}, s, stage="unknown") for s in range(40))
    assert "age undetermined" in undated and "old " not in undated


def test_a_normal_ecg_ends_normal():
    endings = (*report_words_english.OTHERWISE, *report_words_german.OTHERWISE)
    for seed in range(40):
        text = report({"NORM": 100.0, "IRBBB": 100.0, "SR": 0.0}, seed).rstrip(".")
        assert text.endswith(endings)
        assert "otherwise" not in report({"NORM": 100.0, "SR": 0.0}, seed)


def test_some_reports_sum_up_what_is_certain():
    texts = [report({"LAFB": 100.0, "IMI": 15.0, "SR": 0.0}, seed) for seed in range(120)]
    summed = [t.split(": ")[-1] for t in texts if "impression: " in t or "beurteilung: " in t]
    assert 5 < len(summed) < 40
    assert all("leitungsst" in t or "conduction" in t for t in summed)
    assert not any("infar" in t for t in summed)
