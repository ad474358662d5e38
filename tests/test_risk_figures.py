"""Every figure of the risk study bears its mark, shows what it was given, and refuses nonsense."""

import functools
import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from risk_parts import tiny_study

from ecgkit.reports import (
    risk_attention,
    risk_figures,
    risk_page,
    risk_paper,
    risk_search,
    risk_widget,
)
from ecgkit.reports.watermark import SIMULATED, is_marked, mark_title, watermark
from ecgkit.tasks import risk, risk_files, risk_look
from ecgkit.tasks.risk_whatif import Change
from ecgkit.types import LEADS, DataError, ECGRecord

RNG = np.random.default_rng(0)
RECORD = ECGRecord(RNG.normal(0, 0.3, (12, 500)).astype(np.float32), 100)
EVENT = np.arange(30) % 3 == 0
TIME = RNG.dirichlet(np.ones(8), 12)
LOG = pd.DataFrame({"step": [1, 2, 3, 4], "loss": [4.0, 3, 2, 1], "reconstruction": [1.0, 1, 1, 1],
                    "cox": [3.0, 2, 1, 0]})  # fmt: skip
NEAREST = pd.DataFrame({"place": range(1, 10), "similarity": np.linspace(0.9, -0.1, 9),
                        "codes": ["IMI, SR"] * 9, "own": [True] + [False] * 8})  # fmt: skip


def deletion():
    table = pd.DataFrame({
        "silenced": ["most attended", "random"], "change": [0.3, 0.1], "low": [0.2, 0.05],
        "high": [0.4, 0.2], "gap": [0.2, 0], "gap_low": [0.1, 0], "gap_high": [0.3, 0],
    })  # fmt: skip
    return risk_look.Deletion(table, pd.DataFrame(), "time", 0.1, 5, 1.0)


FIGURES = {
    "plot_similarity": lambda f, s: f({"a": (np.eye(5), np.eye(5))}, np.arange(5), simulated=s),
    "plot_statement_similarity": None,  # no outcome is in it
    "plot_reconstruction": lambda f, s: f(np.zeros((12, 64)), np.ones((12, 64)), 100, simulated=s),
    "plot_reconstruction_quality": lambda f, s: f(
        risk_look.reconstruction_quality(*RNG.normal(size=(2, 9, 12, 40))), simulated=s
    ),
    "plot_latent_map": lambda f, s: f(
        RNG.normal(size=(30, 2)), (0.5, 0.2), RNG.normal(size=30), EVENT, simulated=s
    ),
    "plot_risk_training": lambda f, s: f(LOG, 2, control=LOG, simulated=s),
    "plot_risk_by_truth": lambda f, s: f(RNG.normal(size=30), RNG.normal(size=30), EVENT),
    "plot_lead_attention": lambda f, s: f(np.full((12, 12), 1 / 12), simulated=s),
    "plot_group_difference": lambda f, s: f(
        risk_look.group_difference(RNG.normal(size=(30, 12, 12)), EVENT, 50), simulated=s
    ),
    "plot_beat_attention": lambda f, s: f(
        RNG.normal(size=(12, 128)), 100, TIME, "beat", simulated=s, lead_weights=np.ones(12) / 12
    ),
    "plot_deletion": lambda f, s: f(deletion(), simulated=s),
    "plot_nearest_reports": lambda f, s: f(RECORD, NEAREST, "Nearest", simulated=s),
    "plot_what_if": None,  # marked by its scorer, see below
}  # fmt: skip


def functions():
    rooms = (risk_figures, risk_attention, risk_search, risk_page)
    return {k: f for room in rooms for k, f in inspect.getmembers(room) if k.startswith("plot_")}


def said(figure: Figure) -> str:
    return " ".join(t.get_text() for t in figure.findobj(Text) if t.get_gid() != "watermark")


def test_every_risk_figure_is_checked():
    assert set(functions()) == set(FIGURES)


@pytest.mark.parametrize("name", [k for k, make in FIGURES.items() if make])
def test_simulated_outcomes_are_marked_across_the_figure_and_in_its_title(name):
    figure = FIGURES[name](functions()[name], True)
    assert is_marked(figure) and SIMULATED in said(figure)


@pytest.mark.parametrize("name", [k for k, f in FIGURES.items() if f and k != "plot_risk_by_truth"])
def test_real_outcomes_are_not(name):
    figure = FIGURES[name](functions()[name], False)
    assert not is_marked(figure) and "simulated" not in said(figure)


def test_watermark_once_and_inside_the_figure():
    for size in ((4, 4), (12, 3), (3, 9)):
        figure = watermark(watermark(Figure(figsize=size)))
        assert len(figure.texts) == 1
        box = figure.texts[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert mark_title("Risk (simulated outcomes)", True) == "Risk (simulated outcomes)"


# --- what they show -------------------------------------------------------------------------------


def test_cells_apart_from_zero_are_outlined_and_those_that_hold_thickly():
    values = RNG.normal(size=(90, 12, 12))
    values[::3, 4, 7] += 3
    found = risk_look.group_difference(values, np.arange(90) % 3 == 0, 300)
    figure = risk_figures.plot_group_difference(found)
    boxes = {gid: [p.get_center().round().tolist() for p in figure.axes[0].patches
                   if p.get_gid() == gid] for gid in ("held", "apart")}  # fmt: skip
    assert [7, 4] in boxes["held"] and len(boxes["held"]) == found.held.sum()
    assert len(boxes["apart"]) == (found.apart & ~found.held).sum()
    signed = [t.get_text() for t in figure.axes[0].texts if t.get_position() == (7, 4)]
    assert signed[0].startswith("+")  # the sign reads without colour
    assert "by chance" in said(figure)
    by_lead = risk_look.group_difference(values[:, 0], EVENT.repeat(3), 20)
    with pytest.raises(DataError, match="lead attention"):
        risk_figures.plot_group_difference(by_lead)


def test_attention_is_painted_where_its_token_is():
    weights = np.full((12, 8), 0.05)
    weights[1, 3] = 1 - 0.05 * 7
    figure = risk_figures.plot_beat_attention(np.zeros((12, 128)), 100, weights, "beat")
    mesh = {m.get_gid(): m for m in figure.axes[0].collections if m.get_gid()}["attention II"]
    shades = np.ravel(mesh.get_array())
    assert shades.argmax() == 3 and shades[3] == 1 and (np.delete(shades, 3) == 0).all()
    page = risk_paper.page_of(ECGRecord(np.zeros((12, 128)), 100))
    (panel,) = [p for p in page.panels if p.lead == "II"]
    left = mesh.get_coordinates()[0, 3, 0]
    assert left == pytest.approx(panel.x + 3 * 0.16 * 50)  # mm at 50 mm/s
    assert len([m for m in figure.axes[0].collections if m.get_gid()]) == 12


def test_near_even_attention_stays_pale():
    scale = risk_paper.Excess.of(np.full((12, 8), 1 / 8) * 1.04)
    assert scale.of_lead(np.full((12, 8), 1 / 8) * 1.04).max() < 0.05


def test_a_strip_is_painted_on_its_page_and_shapes_are_checked():
    figure = risk_figures.plot_beat_attention(RECORD.signal, 100, TIME, "strip")
    names = [m.get_gid() for m in figure.axes[0].collections if m.get_gid()]
    assert names.count("attention II") == 2 and len(set(names)) == 12  # and the rhythm strip
    with pytest.raises(DataError, match="do not fit"):
        risk_figures.plot_beat_attention(RECORD.signal, 100, TIME[:3], "strip")


def test_latent_map_reads_without_colour():
    risks = np.arange(30.0)
    figure = risk_figures.plot_latent_map(RNG.normal(size=(30, 2)), None, risks, EVENT)
    circles, triangles = figure.axes[0].collections[:2]
    assert len(triangles.get_offsets()) == 10 and len(circles.get_offsets()) == 20
    assert len(triangles.get_paths()[0].vertices) < len(circles.get_paths()[0].vertices)
    assert (np.diff(circles.get_sizes()) > 0).all()  # larger mark, higher risk
    assert figure.axes[0].get_xlabel() == "t-SNE 1"


def test_training_curves_are_means_over_epochs():
    figure = risk_figures.plot_risk_training(LOG, steps_per_epoch=2)
    x, y = figure.axes[0].lines[0].get_data()
    assert list(x) == [1, 2] and list(y) == [3.5, 1.5]


def test_nearest_reports_that_do_not_fit_are_counted():
    figure = risk_search.plot_nearest_reports(RECORD, pd.concat([NEAREST] * 3), own="SR")
    words = said(figure)
    shown = words.count("cosine")
    assert f"and {27 - shown} more" in words and "cosine 0.90, its own" in words
    with pytest.raises(DataError, match="no column similarity"):
        risk_search.plot_nearest_reports(RECORD, NEAREST.drop(columns="similarity"))
    with pytest.raises(DataError, match="no row"):
        risk_search.plot_nearest_reports(RECORD, NEAREST[:0])


# --- what if --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer(tiny_cohort):
    study = tiny_study(tiny_cohort)
    torch.manual_seed(0)
    model = risk.RiskModel(study.network, 16)
    model(study.x[:64])
    with torch.no_grad():
        model.head.out.weight.mul_(5)  # so that a change moves the curve visibly
    return risk_files.scorer_of(model.eval(), study, tiny_cohort)


@pytest.fixture(scope="module")
def widget(scorer, tiny_cohort):
    report = functools.partial(risk_widget.report_of, tiny_cohort)
    return risk_widget.WhatIf(scorer, tiny_cohort, [3, 4, 5], report)


def test_what_if_page_bears_the_mark_of_its_scorer(scorer, tiny_cohort):
    record, change = tiny_cohort.record(3), Change(("V6", "II"), ("I",), 2.0)
    figure = risk_page.plot_what_if(scorer, record, change, "Normal ECG")
    assert is_marked(figure) and SIMULATED in said(figure) and "Normal ECG" in said(figure)
    assert said(figure).count(" silent") >= 1 and "lower third" in said(figure)
    real = risk_files.dataclasses.replace(scorer, about=scorer.about | {"simulated": False})
    figure = risk_page.plot_what_if(real, record)
    assert not is_marked(figure) and "imulated" not in said(figure)


def test_original_stays_behind_the_changed_curve(scorer, tiny_cohort):
    page = risk_page.RiskPage(scorer, risk_page.Reading.of(scorer, tiny_cohort.record(3)))
    page.update(Change())
    assert not len(page.curve.get_xdata())
    page.update(Change(silent=LEADS[:6]))
    assert np.allclose(page.curve.get_ydata(), page.now.survival)
    (before,) = [line for line in page.curve.axes.lines if line.get_label() == "as recorded"]
    assert np.allclose(before.get_ydata(), page.before.survival)
    assert page.now.log_risk != page.before.log_risk and "Log risk" in page.sentences()[-1]
    x = Change(silent=LEADS[:6]).of(page.x, LEADS, 100)
    assert page.now.log_risk == pytest.approx(risk.predict_risk(scorer.model, x[None])[0], abs=1e-6)


def test_a_strip_is_one_page(scorer, tiny_cohort):
    """A network of strips: the ECG itself carries the attention, and every pixel may move."""
    record = tiny_cohort.record(3)
    page = risk_page.RiskPage(scorer, risk_page.Reading.of(scorer, record))
    assert page.png()[:4] == b"\x89PNG"
    strips = risk_files.dataclasses.replace(scorer, kind="strip", n_samples=1000)
    shown = strips.shown(record)
    assert shown.shape == (12, 1000) and np.allclose(shown, record.signal, atol=1e-6)


def test_a_page_turned_to_another_patient_is_that_patients_page(scorer, tiny_cohort):
    """The widget draws one layout once; what it then shows of a patient must be his alone."""
    first, second = (risk_page.Reading.of(scorer, tiny_cohort.record(row)) for row in (3, 4))
    room = {"whole": False, "room": (-2.9, 2.9)}  # so that both fit one layout
    own, turned = (risk_page.RiskPage(scorer, one, **room) for one in (second, first))
    turned.update(Change(silent=("V6",)))
    turned.png()
    assert turned.turn_to(second)
    for page in (own, turned):
        page.update(Change(scaled=("II",), factor=2.0))
    assert turned.png() == own.png() and turned.sentences() == own.sentences()
    assert not risk_page.RiskPage(scorer, first).turn_to(second)  # a whole page holds the ECG


def test_widget_updates_picture_and_words(widget):
    before = widget.image.value, widget.said.value
    assert "as recorded" in before[1] and widget.change.nothing
    widget.silent["V6"].value = True
    widget.scaled.value = "II"
    assert widget.image.value != before[0] and "V6 silent; II × 1.5" in widget.said.value
    still = widget.still.value
    widget.menu.value = 4
    assert "V6 silent" in widget.said.value and widget.still.value != still
    widget.menu.value = 3
    widget.reset.click()
    assert (widget.image.value, widget.said.value) == before


def test_widget_is_reached_by_keyboard_and_names_its_controls(widget):
    import ipywidgets as w

    controls = [*widget.silent.values(), widget.menu, widget.scaled, widget.factor, widget.shift,
                widget.reset]  # fmt: skip
    assert all(isinstance(c, (w.Checkbox, w.Dropdown, w.FloatSlider, w.IntSlider, w.Button))
               and c.description for c in controls)  # fmt: skip
    shown = " ".join(child.value for child in widget.view.children if isinstance(child, w.HTML))
    assert "z-scored" in shown and "SIMULATED" in shown and "not for diagnosis" in shown


def test_a_record_that_cannot_be_read_is_said_in_its_place(scorer, tiny_cohort):
    class Damaged:
        table, statements, simulated = tiny_cohort.table, tiny_cohort.statements, True

        def rows(self, part):
            return [2, 3]

        def record(self, row):
            record = tiny_cohort.record(row)
            return ECGRecord(record.signal * (row != 2), record.fs, ecg_id="<b>")

    report = functools.partial(risk_widget.report_of, Damaged)
    widget = risk_widget.WhatIf(scorer, Damaged(), [2, 3], report)
    assert "role='alert'" in widget.message.value and "&lt;b&gt; is flat" in widget.message.value
    widget.silent["I"].value = True  # nothing to change yet
    widget.menu.value = 3
    assert "I silent" in widget.said.value and widget.image.value
    assert isinstance(risk_widget.what_if(scorer, Damaged()), Figure)  # the first that can be read


def test_batch_run_gives_a_figure_and_no_record_is_a_sentence(scorer, tiny_cohort):
    figure = risk_widget.what_if(scorer, tiny_cohort, [3])
    assert isinstance(figure, Figure) and is_marked(figure) and " silent" in said(figure)
    with pytest.raises(DataError, match="at least one row"):
        risk_widget.what_if(scorer, tiny_cohort, [])
