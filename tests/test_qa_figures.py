"""Figures and tables about questions: they draw for any question set, and count right."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ecgkit.data import ecgqa
from ecgkit.reports import qa_figures


@pytest.fixture(scope="module")
def questions(tiny_config, tiny_cohort):
    return ecgqa.open_questions(tiny_config, tiny_cohort)


def test_every_figure_draws(questions, tiny_cohort, tmp_path):
    position = qa_figures.pick_question(questions)
    figures = [
        qa_figures.plot_join(tiny_cohort, questions),
        qa_figures.plot_types(questions),
        qa_figures.plot_answers(questions),
        qa_figures.plot_templates(questions),
        qa_figures.plot_question(tiny_cohort, questions, position),
    ]
    for figure in figures:
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png")
        written = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
        titles = " ".join(axes.get_title(loc="left") for axes in figure.axes)
        assert "simulated data" in written + titles


def test_template_table_counts_every_question(questions):
    table = qa_figures.template_table(questions)
    assert table["questions"].sum() == len(questions)
    assert table["majority"].between(0, 1).all() and (table["allowed"] >= 2).all()
    share = qa_figures.majority_share(questions, "single-verify")
    assert 0.3 < share < 0.65
    assert np.isnan(qa_figures.majority_share(questions, "no such type"))


def test_pick_question_falls_back(questions):
    row = questions.table.iloc[qa_figures.pick_question(questions, "single-choose", "none")]
    assert row["question_type"] == "single-choose" and row["answer"] == ["none"]
    row = questions.table.iloc[qa_figures.pick_question(questions, "unknown type")]
    assert row["row2"] == -1
