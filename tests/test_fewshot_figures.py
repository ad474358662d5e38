"""Figures of notebook 06: episodes, controls, settings, baselines, protocols, quirks, attention,
LLM modelling. Each is looked at for what it must show, from plain tables.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from ecgkit.config import KitConfig
from ecgkit.config.fewshot import QUIRKS
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.episodes import Episode
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.reports import (
    fewshot_attention,
    fewshot_comparison,
    fewshot_figures,
    fewshot_widget,
    llm_qa_figures,
)
from ecgkit.tasks.ask import Reply
from ecgkit.tasks.fewshot_look import (
    TimeRelevance,
    _without_windows,
    answer_attention,
    released_attention,
)
from ecgkit.types import DataError


def drawn(figure: Figure) -> Figure:
    figure.canvas.draw()
    return figure


def words(figure: Figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def bars(ax) -> list[float]:
    return [bar.get_width() for bar in ax.patches]


# --- episodes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def questions(tiny_cohort):
    config = KitConfig.from_params({"preset": "tiny"})
    return open_questions(config, tiny_cohort, quiet=True)


def episode_of(questions, n_way: int, k: int = 2) -> Episode:
    """The first questions of `n_way` answers to one kind of question, as an episode."""
    table = questions.table[questions.table["question_type"] == "single-query"]
    said = table["answer"].map(", ".join)
    chosen = [a for a, n in said.value_counts().items() if n >= 2 * k][:n_way]
    groups = [table.index[said == a].to_numpy()[: 2 * k] for a in chosen]
    ids = np.arange(n_way).repeat(k)
    return Episode(
        np.concatenate([g[:k] for g in groups]), np.concatenate([g[k:] for g in groups]), ids, ids,
        tuple(f"9: query = {a}" for a in chosen),
    )  # fmt: skip


@pytest.mark.parametrize("n_way,rows", [(2, 4), (5, 5)])
def test_an_episode_marks_classes_by_letter_and_hides_the_answers_asked(
    questions, tiny_cohort, n_way, rows
):
    episode = episode_of(questions, n_way)
    figure = drawn(fewshot_figures.plot_episode(tiny_cohort, questions, episode))
    assert len(figure.axes) == 2 * rows
    by_gid = {gid: [t for t in ax.texts if t.get_gid() == gid] for ax in figure.axes[::2]
              for gid in ("badge", "answer")}  # fmt: skip
    letters = [t.get_text() for ax in figure.axes[::2] for t in ax.texts if t.get_gid() == "badge"]
    assert sorted(set(letters)) == list("ABCDE"[:n_way]) and by_gid["answer"]
    table = questions.table
    for ax, place in zip(figure.axes[::2], _turns(episode.support_class, rows), strict=True):
        answer = ", ".join(table["answer"].iloc[episode.support[place]])
        (said,) = [t.get_text() for t in ax.texts if t.get_gid() == "answer"]
        assert answer.startswith(said.removesuffix(" ..."))
    for ax in figure.axes[1::2]:
        assert [t.get_text() for t in ax.texts if t.get_gid()] == ["?"]
    assert "A  9: query" in figure._supxlabel.get_text()


def _turns(classes, n):
    order = sorted(range(len(classes)), key=lambda i: (list(classes[:i]).count(classes[i]),
                                                       classes[i]))  # fmt: skip
    return order[:n]


def curve(start: float, stop: float) -> pd.DataFrame:
    mean = np.linspace(start, stop, 4)
    return pd.DataFrame({"step": range(4), "mean": mean, "low": mean - 0.1, "high": mean + 0.1})


def test_adaptation_dashes_controls_and_draws_the_ceiling():
    curves = {"unseen": curve(0.5, 0.8), "shuffled ECGs": curve(0.5, 0.5)}
    figure = drawn(fewshot_figures.plot_adaptation(curves, ceiling=0.55, simulated=True))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["unseen"].get_linestyle() == "-" and lines["shuffled ECGs"].get_linestyle() == "--"
    ceiling = next(line for name, line in lines.items() if "question alone" in name)
    assert set(ceiling.get_ydata()) == {0.55}
    assert "simulated" in words(figure) and "chance (0.50)" in words(figure)
    assert len(figure.axes[0].collections) == 2  # a band each


# --- tables ---------------------------------------------------------------------------------------


def settings_table() -> pd.DataFrame:
    rows = [
        (kind, k, who, 0.5 + 0.02 * k, 0.4, 0.8, 0.5, 0.6)
        for kind in ("single-verify", "single-query") for k in (10, 1, 5)
        for who in ("seen", "unseen")
    ]  # fmt: skip
    names = ["question_type", "k_shot", "attributes", "value", "low", "high", "chance", "ceiling"]
    return pd.DataFrame(rows, columns=names)


def test_the_grid_has_a_panel_per_type_and_a_line_per_group_with_numbers_in_order():
    figure = drawn(fewshot_comparison.plot_accuracy_grid(settings_table(), title="Grid"))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["single-verify", "single-query"]
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "5", "10"]
    assert len(ax.containers) == 2  # seen, unseen
    heights = ax.containers[0].lines[0].get_ydata(orig=False)
    np.testing.assert_allclose(heights, [0.52, 0.6, 0.7])
    assert "question alone" in words(figure)


def test_words_along_the_axis_are_not_joined_by_a_line():
    table = settings_table().query("k_shot == 5").assign(leads="I II III aVR")
    figure = fewshot_comparison.plot_accuracy_grid(table, x="leads", lines="attributes")
    assert figure.axes[0].containers[0].lines[0].get_linestyle() == "None"


def test_a_grid_with_a_cell_twice_or_a_column_missing_is_refused():
    with pytest.raises(DataError, match="several rows"):
        fewshot_comparison.plot_accuracy_grid(settings_table(), lines="question_type")
    with pytest.raises(DataError, match="no leads"):
        fewshot_comparison.plot_accuracy_grid(settings_table(), x="leads")


def test_baselines_have_a_bar_each_ours_in_bold_and_the_gain_beside():
    table = pd.DataFrame({
        "name": ["adapted", "unadapted", "majority"], "value": [0.8, 0.5, 0.5],
        "low": [0.7, 0.4, np.nan], "high": [0.9, 0.6, np.nan], "gain": [np.nan, 0.3, 0.3],
        "gain low": [np.nan, 0.2, 0.25], "gain high": [np.nan, 0.4, 0.35],
    })  # fmt: skip
    figure = drawn(fewshot_comparison.plot_baselines(table, chance=0.5, ceiling=0.55))
    ax = figure.axes[0]
    assert bars(ax) == [0.8, 0.5, 0.5]
    labels = ax.get_yticklabels()
    assert [label.get_text() for label in labels] == list(table["name"])
    assert [label.get_fontweight() for label in labels] == ["bold", "normal", "normal"]
    assert "+0.30 [+0.20, +0.40]" in words(figure) and "(0.55)" in words(figure)


def quirks_table() -> pd.DataFrame:
    values = {name: 0.1 for name in QUIRKS} | {"bos_scored": -0.2, "mapper_ignored": np.nan}
    frame = pd.DataFrame({"name": list(values), "value": list(values.values())})
    wide = frame["name"] == "oracle_length"
    return frame.assign(
        low=np.where(wide, -0.1, frame["value"] - 0.05), high=frame["value"] + 0.05
    )


@pytest.mark.parametrize("starts", [(), ("reference", "sound")])
def test_quirks_are_named_in_words_starred_where_clear_and_may_be_unmeasured(starts):
    table = quirks_table()
    if starts:
        table = pd.concat([table.assign(**{"from": start}) for start in starts])
    figure = drawn(fewshot_comparison.plot_quirks(table, simulated=True, title="Worth"))
    assert len(figure.axes) == max(1, len(starts))
    for ax in figure.axes:
        np.testing.assert_allclose(bars(ax), quirks_table()["value"].fillna(0))
        said = [text.get_text() for text in ax.texts]
        assert said.count("not measured") == 1 and "-0.200 *" in said and "+0.100" in said
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert all(name in label for name, label in zip(QUIRKS, labels, strict=True))
    assert set(fewshot_comparison.QUIRK_WORDS) == set(QUIRKS)


def test_protocols_stand_side_by_side_for_each_score():
    table = pd.DataFrame(
        [(p, s, v, v - 0.1, v + 0.1) for s in ("exact", "tokens")
         for p, v in (("sound", 0.6), ("reference", 0.8))],
        columns=["protocol", "score", "value", "low", "high"],
    )  # fmt: skip
    figure = drawn(fewshot_comparison.plot_protocols(table.assign(chance=0.5)))
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(heights, [0.6, 0.6, 0.8, 0.8])
    assert "whole answer" in words(figure) and "share of right" in words(figure)


# --- attention and relevance ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def llm():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["Question: is it normal? ECG: Answer: yes no"] * 3, 300)
    return build_small_llm(len(tokenizer), width=32, n_layers=3, n_heads=4), tokenizer


@pytest.mark.parametrize("prefix_first", [False, True])
def test_attention_of_an_answer_is_that_of_the_model_and_names_every_place(llm, prefix_first):
    reader = PrefixLLM(*llm, prefix_first=prefix_first)
    prefix = torch.randn(4, 32)
    seen = answer_attention(reader, prefix, "Is it normal?", "yes")
    n = seen.weights.shape[-1]
    assert seen.weights.shape[:2] == (3, 4) and len(seen.rows) == seen.weights.shape[2]
    assert len(seen.columns) == len(seen.parts) == n
    np.testing.assert_allclose(seen.weights.sum(-1), 1, atol=1e-5)
    assert seen.rows[-1] == "(end)" and "normal" in "".join(seen.columns)
    first = seen.parts.index("ECG")
    assert seen.columns[first : first + 4] == ("ECG 1", "ECG 2", "ECG 3", "ECG 4")
    assert (first < seen.parts.index("question")) is prefix_first
    assert seen.parts.count("start") == 1
    # The first layer's pattern by hand: only soft tokens that the answer sees move it.
    other = answer_attention(reader, prefix + 1, "Is it normal?", "yes")
    assert not np.allclose(other.weights, seen.weights)
    assert reader.llm.config._attn_implementation == "sdpa"  # put back
    assert sum(share.mean() for share in seen.by_part().values()) == pytest.approx(1, abs=1e-5)


def test_as_released_a_short_answer_looks_at_no_later_word_of_the_question(llm):
    seen = released_attention(PrefixLLM(*llm), torch.randn(4, 32), "Is it normal?", "yes")
    n_answer = seen.weights.shape[2]
    np.testing.assert_allclose(seen.weights.sum(-1), 1, atol=1e-5)
    assert seen.rows[0] == "<s>" and n_answer >= 2
    assert (seen.weights[:, :, 0, 4:] == 0).all()
    assert (seen.weights[..., 4 + n_answer :] == 0).all()
    assert drawn(fewshot_attention.plot_answer_attention(seen))
    assert drawn(fewshot_attention.plot_attention_shares(seen))


def test_attention_figures_show_layers_tokens_and_the_even_share(llm):
    seen = answer_attention(PrefixLLM(*llm), torch.randn(4, 32), "Is it normal?", "yes")
    figure = drawn(fewshot_attention.plot_answer_attention(seen, simulated=True))
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == [
        "layer 1, mean of 4 heads", "layer 2, mean of 4 heads"
    ]  # fmt: skip
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), seen.weights[1].mean(0))
    assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == list(seen.columns)
    one = fewshot_attention.plot_answer_attention(seen, layers=[0], head=3)
    np.testing.assert_allclose(one.axes[0].images[0].get_array(), seen.weights[0, 3])
    for wrong in ({"layers": [3]}, {"head": 4}, {"layers": []}):
        with pytest.raises(DataError, match="language model has"):
            fewshot_attention.plot_answer_attention(seen, **wrong)
    shares = drawn(fewshot_attention.plot_attention_shares(seen))
    assert len(shares.axes[0].patches) == 3 * len(set(seen.parts))
    assert f"{4 / len(seen.parts):.0%}" in words(shares)


def test_a_window_is_drawn_over_by_a_straight_line_and_nothing_else_changes():
    signal = np.random.default_rng(0).normal(size=(2, 25)).astype(np.float32)
    whole = _without_windows(signal, 10, by_lead=False)
    assert whole.shape == (3, 2, 25)
    assert (whole[1][:, :10] == signal[:, :10]).all() and (whole[1][:, 20:] == signal[:, 20:]).all()
    assert np.abs(np.diff(whole[1][:, 10:20], n=2)).max() < 1e-5
    single = _without_windows(signal, 10, by_lead=True)
    assert single.shape == (6, 2, 25) and (single[1][1] == signal[1]).all()
    np.testing.assert_allclose(single[1][0], whole[1][0])


@pytest.mark.parametrize("by_lead", [False, True])
def test_relevance_is_painted_on_paper_with_answer_and_method(tiny_cohort, by_lead):
    record = tiny_cohort.record(0)
    drop = np.linspace(-0.1, 0.4, 20)
    drop = np.tile(drop, (12, 1)) if by_lead else drop
    found = TimeRelevance(drop, "yes", 0.7, 0.5, record.leads)
    figure = drawn(fewshot_attention.plot_time_relevance(record, found, "Is it normal?"))
    text = words(figure)
    assert "answer: yes (p = 0.70)" in text and "largest fall 0.400" in text
    assert "largest rise 0.100" in text and "attention" not in text
    assert ("lead by lead" in text) is by_lead and "simulated" in text


# --- an answer ------------------------------------------------------------------------------------


def test_an_answer_stands_beside_its_ecg_with_a_bar_per_candidate(tiny_cohort):
    shares = tuple((name, 0.1) for name in "abcdefghij")
    reply = Reply("a", shares, 10, "atrial fibrillation", "A note.")
    figure = drawn(fewshot_widget.plot_answer(tiny_cohort.record(0), "Is it?", reply))
    ax = figure.axes[-1]
    assert bars(ax) == [0.1] * fewshot_widget.MOST_CANDIDATES
    text = words(figure)
    assert "Answer: a" in text and "10 examples" in text and "10.0%" in text
    assert "not for diagnosis" in text and "Trained on simulated" not in text
    bare = dataclasses.replace(reply, candidates=(), adapted_on=0)
    other = drawn(fewshot_widget.plot_answer(tiny_cohort.record(0), "x?", bare, simulated=True))
    assert len(other.axes) == 1 and "Trained on simulated data" in words(other)


# --- LLM modelling --------------------------------------------------------------------------------

TYPES = ["single-verify", "single-choose", "single-query"]


def scores_table() -> pd.DataFrame:
    rows = [
        (reader, level, kind, 100, value, value - 0.1, value + 0.1, 7, 0)
        for reader, value in (("m", 0.4), ("m, published matching", 0.3), ("training majority", 1))
        for level, kind in ((0, "all questions"), *((2, t) for t in TYPES), (3, "single-verify/x"))
    ]  # fmt: skip
    names = ["reader", "level", "type", "n", "exact_match", "low", "high", "unparsed", "unanswered"]
    return pd.DataFrame(rows, columns=names)


def test_readers_stand_at_every_question_type_beside_the_majority():
    figure = drawn(llm_qa_figures.plot_llm_types(scores_table(), simulated=True))
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["all questions", *TYPES]
    assert len(ax.containers) == 2
    np.testing.assert_allclose(ax.containers[1].lines[0].get_xdata(orig=False), 0.3)
    text = words(figure)
    assert text.count("n = 100, 7 unparsed") == 4 and "training majority" in text
    with pytest.raises(DataError, match="no unparsed"):
        llm_qa_figures.plot_llm_types(scores_table().drop(columns="unparsed"))
    with pytest.raises(DataError, match="no level 1"):
        llm_qa_figures.plot_llm_types(scores_table(), level=1)


def test_what_cannot_be_scored_is_counted_by_type():
    table = pd.DataFrame({"question_type": TYPES, "n": 50, "unreachable": [0, 5, 50]})
    figure = drawn(llm_qa_figures.plot_unreachable(table.assign(share=table.unreachable / table.n)))
    np.testing.assert_allclose(bars(figure.axes[0]), [0, 0.1, 1])
    assert "10.0% (5 of 50)" in words(figure)


def test_a_prompt_is_drawn_as_it_is_and_says_right_or_wrong_in_words():
    figure = drawn(llm_qa_figures.plot_prompt("costs $5 and $6", "yes", "yes", "no"))
    assert "True answer: no" in words(figure)
