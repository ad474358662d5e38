"""Figures and tables about questions: they draw for any question set, and count right."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ecgkit.config import KitConfig
from ecgkit.data import ecgqa, layouts
from ecgkit.data.cohort import open_cohort
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


def test_answer_rows_show_what_counts_and_what_is_true(questions):
    kinds = ("single-verify", "single-choose", "single-query")
    positions = [questions.index("train", kind)[0] for kind in kinds]
    figure = qa_figures.plot_answer_rows(questions, positions)
    [axes] = figure.axes
    shade = axes.collections[0].get_array().reshape(len(positions), -1)[::-1]  # drawn from below
    labels, mask = questions.labels(positions), questions.valid_mask(positions)
    assert ((shade[:2] > 0).sum(axis=1) == mask[:2].sum(axis=1)).all()  # short lists are whole
    assert ((shade == 2).sum(axis=1) == labels.sum(axis=1)).all()  # no true answer is cut off
    assert shade.shape[1] <= 44


def test_uses_counts_every_ecg():
    figure = qa_figures.plot_uses(np.array([0, 3, 3, 12]), simulated=True)
    [axes] = figure.axes
    assert sum(bar.get_height() for bar in axes.patches) == 4
    assert "simulated" in axes.get_title(loc="left") and axes.texts[0].get_text() == "mean 4.5"


def test_join_of_another_layout(tmp_path):
    """A source without strat_fold; its folds and the refused recordings are in the figure."""
    config = KitConfig.from_params({"preset": "tiny", "fs": 500, "data": str(
        layouts.write_layout(tmp_path / "mimic", "mimic-iv-ecg", 40, seed=1))})  # fmt: skip
    cohort = open_cohort(config, quiet=True)
    questions = ecgqa.open_questions(config, cohort, quiet=True)
    above, below = qa_figures.plot_join(cohort, questions).axes
    assert "drawn by patient" in below.get_xlabel()
    said = "\n".join(text.get_text() for text in above.texts)
    assert "40 in the source" in said and "40 stored, 0 refused" in said
    n_pairs = (questions.table["row2"] >= 0).sum()
    assert f"{n_pairs} about two" in said
    cells = [text.get_text().replace(",", "") for text in below.texts]
    assert sum(int(cell) for cell in cells if cell != "·") == len(questions)
