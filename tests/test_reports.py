"""Structured reports, what zero likelihoods lose, their vectors, and search by ECG."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit.config.risk import RiskConfig
from ecgkit.data.outcomes import open_outcomes
from ecgkit.data.scp_table import scp_statements, write_statements
from ecgkit.data.sources.ptbxl import parse_codes
from ecgkit.tasks import risk, trained_encoder
from ecgkit.tasks.report_search import ReportSearch, held_out_search
from ecgkit.text import report_encoder, reports
from ecgkit.text.encoders import small_bert, train_wordpiece
from ecgkit.text.report_encoder import VectorCache, pooled, text_embedder
from ecgkit.text.reports import (
    aggregate,
    embed_reports,
    render,
    structured_report,
    zero_effect,
    zero_summary,
)
from ecgkit.text.statement_table import statement_table, unknown_codes
from ecgkit.types import ConfigError, DataError, ModelError

TABLE = scp_statements()
CODES = {"IMI": 15.0, "LNGQT": 100.0, "AFIB": 0.0}


# --- as text ---


def test_seed_style_is_the_seeds_line():
    findings = structured_report({"IMI": 15.0}, TABLE)
    assert render(findings) == (
        "Myocardial Infarction: inferior myocardial infarction, Confidence score: 15.0"
    )
    assert render(findings, "reference") == (
        "[CLS] Myocardial Infarction:inferior myocardial infarction [SCP]"
    )


def test_prose_hedges_by_confidence_and_says_nothing_of_what_was_not_given():
    codes = {"SR": 0.0, "NORM": 80.0, "IMI": 15.0, "LVH": 100.0, "ISCAL": 50.0}
    assert render(structured_report(codes, TABLE, "keep"), "prose") == (
        "Sinus rhythm and left ventricular hypertrophy. Probably normal ECG (80 %). "
        "Inferior myocardial infarction cannot be excluded (15 %). "
        "Possibly ischemic in anterolateral leads (50 %)."
    )
    assert render([], "prose") == render([]) == reports.EMPTY
    with pytest.raises(DataError, match="or prose"):
        render(structured_report(codes, TABLE), "poem")


def test_the_table_is_read_whatever_its_first_column_is_called(tmp_path):
    write_statements(tmp_path / "scp.csv")
    plain = pd.read_csv(tmp_path / "scp.csv")
    assert plain.columns[0] == "Unnamed: 0"
    for table in (plain, plain.rename(columns={"Unnamed: 0": "key"}), TABLE):
        assert structured_report(CODES, table) == structured_report(CODES, TABLE)
    with pytest.raises(DataError, match="no column of SCP codes"):
        statement_table(plain.drop(columns="Unnamed: 0"))
    with pytest.raises(DataError, match="stands twice"):
        statement_table(pd.concat([TABLE, TABLE.loc[["IMI"]]]))


@pytest.mark.parametrize("likelihood", [-1.0, 101.0, float("nan"), None, "100"])
def test_an_impossible_likelihood_is_one_sentence(likelihood):
    with pytest.raises(DataError, match="The likelihood of IMI"):
        structured_report({"IMI": likelihood}, TABLE)


def test_unknown_codes_are_named_and_counted():
    several = [{"IMI": 100.0, "XYZ": 50.0}, {"XYZ": 0.0, "QQ": 100.0}, CODES]
    assert unknown_codes(several, TABLE) == {"XYZ": 2, "QQ": 1}
    with pytest.raises(DataError, match=r"2 SCP codes are not .*XYZ \(2\), QQ \(1\)"):
        embed_reports(several, TABLE, lambda t: np.eye(len(t)))
    book = embed_reports(several, TABLE, lambda t: np.eye(len(t)), unknown="skip")
    assert book.unknown == {"XYZ": 2, "QQ": 1} and book.has_text.tolist() == [True, False, True]


# --- zero likelihoods ---


def test_zero_effect_counts_by_code():
    several = [CODES, {"AFIB": 0.0}, {"AFIB": 100.0, "SR": 0.0}]
    table = zero_effect(several, TABLE)
    assert table.loc["AFIB", ["stated", "dropped"]].tolist() == [3, 2]
    assert table.loc["AFIB", "share"] == pytest.approx(2 / 3) and table.index[0] == "AFIB"
    assert table.loc["IMI", "dropped"] == 0
    assert table.loc["SR", "description"] == "sinus rhythm"
    summary = zero_summary(several)
    assert summary["statements"] == 6 and summary["dropped"] == 3 and summary["emptied"] == 1
    assert summary["losing"] == 3 and zero_summary([])["share"] == 0


def test_a_record_with_zero_likelihoods_alone_is_empty_and_not_an_error():
    assert structured_report({"AFIB": 0.0}, TABLE) == []
    assert not aggregate(np.zeros((0, 4)), []).any()
    with pytest.raises(DataError, match="ZERO_POLICY"):
        embed_reports([{"AFIB": 0.0}], TABLE, lambda t: np.eye(len(t)))


def real_codes(shared) -> tuple[list[dict], pd.DataFrame]:
    with zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip") as file:
        names = {name.rsplit("/", 1)[-1]: name for name in file.namelist()}
        table = pd.read_csv(io.BytesIO(file.read(names["ptbxl_database.csv"])))
        statements = pd.read_csv(io.BytesIO(file.read(names["scp_statements.csv"])))
    return parse_codes(table["scp_codes"]), statements


def test_on_real_reports_nearly_half_of_the_statements_vanish(shared):
    codes, statements = real_codes(shared)
    table, summary = zero_effect(codes, statements), zero_summary(codes)
    assert not unknown_codes(codes, statements)
    assert 0.4 < summary["share"] < 0.55 and summary["losing"] > 0.85 * len(codes)
    assert table.loc["SR", "share"] == 1 and table.loc["AFIB", "share"] > 0.8
    assert summary["distinct_after"] < summary["distinct_before"]
    assert table["dropped"].sum() == summary["dropped"]


# --- vectors ---


def test_normalised_weights_forget_how_sure_a_single_statement_is():
    def embed(texts):
        return np.random.default_rng(0).normal(size=(len(texts), 8))

    pair = [{"IMI": 15.0}, {"IMI": 100.0}]
    book = embed_reports(pair, TABLE, embed)
    assert (book.vectors[0] == book.vectors[1]).all() and book.group.tolist() == [0, 0]
    book = embed_reports(pair, TABLE, embed, normalise=False)
    assert book.vectors[0] == pytest.approx(0.15 * book.vectors[1]) and len(set(book.group)) == 2


def test_groups_are_numbered_without_gaps_where_a_report_is_empty():
    book = embed_reports([{"SR": 0.0}, {"IMI": 15.0}, CODES], TABLE, lambda t: np.eye(len(t)))
    assert sorted(book.group) == [-1, 0, 1]


def test_pooling_by_hand():
    states = torch.tensor([[[1.0], [3.0], [8.0]]])
    mask = torch.tensor([[1, 1, 0]])
    found = [pooled(states, mask, p).item() for p in ("cls", "mean", "published")]
    assert found == [1.0, 2.0, 4.0]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    texts = [*TABLE["description"], *TABLE["Statement Category"], "[ ] : , ."]
    tokenizer = train_wordpiece(texts, 400)
    torch.manual_seed(0)
    tokenizer.save_pretrained(folder)
    small_bert(len(tokenizer), width=32, n_layers=1).save_pretrained(folder)
    return folder


def test_poolings_differ_and_do_not_depend_on_the_batch(bert):
    texts = list(TABLE["description"][:20])
    vectors = {}
    for pooling in report_encoder.POOLINGS:
        embed, what = text_embedder(str(bert), pooling=pooling)
        vectors[pooling] = embed(texts)
        assert bert.name in what
        alone = text_embedder(str(bert), pooling=pooling, keep=False)
        assert np.allclose(alone[0](texts[3:4])[0], vectors[pooling][3], atol=1e-5)
    assert not np.allclose(vectors["mean"], vectors["published"], atol=1e-2)
    assert not np.allclose(vectors["mean"], vectors["cls"], atol=1e-2)
    with pytest.raises(ConfigError, match="pooling"):
        text_embedder(str(bert), pooling="max")


def test_the_published_mean_holds_all_hundred_positions_and_no_special_tokens(bert):
    from transformers import AutoModel, AutoTokenizer

    text = "[CLS] Rhythm:sinus rhythm [SCP]"
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    padded = torch.tensor([ids + [0] * (100 - len(ids))])
    with torch.no_grad():
        states = model(input_ids=padded, attention_mask=(padded > 0).long()).last_hidden_state
    embed, _ = text_embedder(str(bert), style="reference")
    assert embed([text])[0] == pytest.approx(states[0].mean(0).numpy(), abs=1e-5)
    pieces = tokenizer.tokenize(text)
    assert pieces[0] == "[CLS]" and "[SCP]" not in pieces and pieces[-1] == "]"


def test_each_text_is_embedded_once_per_model(bert, tmp_path):
    cache, asked = VectorCache([str(tmp_path)]), []

    def compute(texts):
        asked.extend(texts)
        return np.array([[len(t), 1.0] for t in texts], np.float32)

    first = cache(["ab", "abc", "ab"], compute)
    again = VectorCache([str(tmp_path)])(["abcd", "ab"], compute)
    assert asked == ["ab", "abc", "abcd"]
    assert first.tolist() == [[2, 1], [3, 1], [2, 1]] and again.tolist() == [[4, 1], [2, 1]]
    cache.path.write_bytes(b"broken")
    with pytest.raises(DataError, match="delete it"):
        cache(["ab"], compute)


def test_a_folder_with_other_weights_has_another_cache(bert, tmp_path):
    one = report_encoder.name_of_weights(str(bert))
    (tmp_path / "config.json").write_text("{}")
    assert one != report_encoder.name_of_weights(str(tmp_path))
    assert report_encoder.name_of_weights("some/hub-id") == "some/hub-id"
    with pytest.raises(ModelError, match="holds no"):
        text_embedder(str(tmp_path))[0](["x"])


def test_the_encoder_trained_in_place_is_kept_and_named(monkeypatch):
    folder = trained_encoder.trained_encoder(seed=1, n_steps=8)
    monkeypatch.setattr(trained_encoder, "_train", None)  # a second training would fail
    assert trained_encoder.trained_encoder(seed=1, n_steps=8) == folder
    monkeypatch.setattr(trained_encoder, "trained_encoder", lambda seed: folder)
    embed, what = trained_encoder.open_text_embedder("")
    assert "trained in place" in what and "not a clinical" in what
    assert embed(["sinus rhythm", "atrial flutter"]).shape == (2, trained_encoder.WIDTH)
    assert "stand-in" in trained_encoder.open_text_embedder("stand-in")[1]


def test_statement_check_knows_classes_from_noise():
    kinds = TABLE["diagnostic_class"].dropna()

    def by_class(texts):
        return np.eye(5)[pd.factorize(kinds)[0]]

    def noise(texts):
        return np.random.default_rng(0).normal(size=(len(texts), 16))

    assert trained_encoder.statement_check(by_class, TABLE, n_boot=5)["auroc"] == 1.0
    found = trained_encoder.statement_check(noise, TABLE, n_boot=50)
    assert found["low"] < 0.5 < found["high"] and found["n"] == 44


# --- search ---


def search(ecg, group, **options):
    """Four reports of which two ECGs share one; the text vectors are the corners."""
    words = [{"NORM": 100.0}, {"IMI": 100.0}, {"IMI": 100.0, "LVH": 100.0}]
    found = [structured_report(words[max(g, 0)], TABLE) for g in group]
    return ReportSearch(ecg, np.eye(3)[np.maximum(group, 0)], found, np.array(group), **options)


def test_nearest_reports_are_distinct_and_tell_what_is_shared():
    one = search(np.array([[0, 0.6, 0.8], [1, 0, 0], [1, 0.1, 0], [0, 1, 0.0]]), [2, 0, 0, 1])
    table = one.by_ecg(0, k=3)
    assert table["codes"].tolist() == ["IMI, LVH", "IMI", "NORM"]
    assert table["shared"].tolist() == ["IMI, LVH", "IMI", ""]
    assert table["own"].tolist() == [True, False, False] and table["ecgs"].tolist() == [1, 1, 2]
    assert table["similarity"].tolist() == pytest.approx([0.8, 0.6, 0.0])
    back = one.by_text(1, k=2)
    assert back["ecg"].tolist() == [1, 2] and back["own"].all() and back["place"].tolist() == [1, 2]
    assert one.by_ecg(1, 1, "prose")["statements"].tolist() == ["Normal ECG."]
    assert one.read(3) == "Inferior myocardial infarction."
    with pytest.raises(DataError, match="no ECG 9"):
        one.by_ecg(9)


def test_a_shared_report_counts_as_right_and_perfect_is_one():
    group = [0, 0, 1, 2]
    scores = search(np.eye(3)[group], group).scores()
    assert scores["ecg_to_report"]["recall@1"] == scores["report_to_ecg"]["recall@1"] == 1
    assert scores["ecg_to_report"]["chance@1"] == pytest.approx(1 / 3)
    assert scores["ecg_to_report"]["commonest@1"] == pytest.approx(1 / 2)
    assert scores["report_to_ecg"]["chance@1"] == pytest.approx((0.5 + 0.25 + 0.25) / 3)


def test_a_collapsed_space_scores_as_chance():
    group = [0, 0, 1, 2]
    noise = 3e-7 * np.random.default_rng(0).normal(size=(4, 3))
    scores = search(np.ones((4, 3)) + noise, group).scores()
    for found in scores.values():
        assert found["tied"] == 1 and found["recall@1"] <= found["chance@1"] + 0.2
    assert scores["ecg_to_report"]["recall@1"] == pytest.approx(1 / 3)
    table = search(np.ones((4, 3)) + noise, group).by_ecg(0)
    assert table["place"].tolist() == [1, 1, 1]


def test_ecgs_without_a_report_are_searched_but_not_asked():
    group = [0, -1, 1, 2]
    one = search(np.eye(3)[[0, 0, 1, 2]], group)
    scores = one.scores()
    assert scores["ecg_to_report"]["n"] == 3 and scores["report_to_ecg"]["candidates"] == 4
    assert one.by_ecg(1)["shared"].tolist() == ["", "", ""] and not one.by_ecg(1)["own"].any()
    with pytest.raises(DataError, match="is empty"):
        one.by_text(1)


def test_text_of_credentialed_records_is_not_shown_unless_allowed():
    group, written = [0, 1, 2], ["first", "second", "third"]
    for options, shown in (({}, True), ({"credentialed": True}, False),
                           ({"credentialed": True, "show_text": True}, True)):  # fmt: skip
        table = search(np.eye(3), group, written=written, **options).by_ecg(0)
        assert ("report" in table) == shown


def test_shapes_that_do_not_fit_are_sentences():
    found = [structured_report({"NORM": 100.0}, TABLE)] * 3
    eye = np.eye(3)
    with pytest.raises(DataError, match="after their projectors"):
        ReportSearch(np.ones((3, 2)), eye, found, [0, 1, 2])
    with pytest.raises(DataError, match="ecg_group"):
        ReportSearch(np.ones((5, 3)), eye, found, [0, 1, 2])
    with pytest.raises(DataError, match="one each"):
        ReportSearch(eye, eye, found[:2], [0, 1, 2])
    with pytest.raises(DataError, match="not finite"):
        ReportSearch(eye * np.nan, eye, found, [0, 1, 2])
    with pytest.raises(DataError, match="No record has a report"):
        ReportSearch(eye, eye, found, [-1, -1, -1])
    wide = ReportSearch(np.ones((5, 3)), eye, found, [0, 1, 2], ecg_group=[0, 0, 1, 2, 2])
    assert wide.scores()["ecg_to_report"]["n"] == 5


def test_search_among_the_held_out_patients_of_a_study(tiny_cohort):
    """Untrained: rows, groups and reports belong together, and nothing is said of training."""
    config = RiskConfig.from_params({"preset": "tiny", "zero_policy": "drop"})
    outcomes = open_outcomes(config, tiny_cohort)
    codes = tiny_cohort.table["scp_codes"].iloc[outcomes.table["row"]]
    book = embed_reports(codes, tiny_cohort.statements, report_encoder.stand_in_embedder(16))
    study = risk.prepare(config, tiny_cohort, outcomes, book)
    model = risk.AlignmentModel(study.network, 16).eval()
    statements = tiny_cohort.statements
    one = held_out_search(study, model.autoencoder, model.projectors, codes, statements)
    told = study.test[(study.group[study.test] >= 0).numpy()]
    assert len(one.ecg) == len(told) and one.n_reports == len(set(study.group[told].tolist()))
    for i in (0, len(told) - 1):
        own = [code for code, value in codes.iloc[told[i]].items() if value]
        table = one.by_ecg(i, one.n_reports)
        assert table.loc[table["own"], "codes"].tolist() == [", ".join(own)]
    assert 0 <= one.scores()["ecg_to_report"]["recall@1"] <= 1
    assert list(one.score_table().columns) == [
        "direction", "k", "recall", "chance", "commonest", "n"
    ]  # fmt: skip
    with pytest.raises(DataError, match="sets of codes"):
        held_out_search(study, model.autoencoder, model.projectors, codes[:3], statements)
