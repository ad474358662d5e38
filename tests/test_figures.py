"""Figures: the paper is metric, gaps and absent leads are drawn as such, estimators are right."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ecgkit import runs
from ecgkit.config import StartConfig
from ecgkit.data import doctor, sources
from ecgkit.reports import (
    curves,
    kit_map,
    overlay,
    paper,
    preprocessing,
    record_page,
    sources_figures,
    style,
    tables,
)
from ecgkit.reports.watermark import is_marked
from ecgkit.types import LEADS, DataError, ECGRecord

FS = 250


def record(seconds: float = 10, leads=LEADS, amplitude: float = 1.0) -> ECGRecord:
    t = np.arange(round(seconds * FS)) / FS
    wave = amplitude * np.exp(-((((t * 1.2) % 1) - 0.4) ** 2) / 0.002)
    scale = np.linspace(0.4, 1.0, len(leads))[:, None]
    return ECGRecord((scale * wave).astype(np.float32), FS, tuple(leads), 17, {"simulated": True})


def line(axes, gid: str):
    """Points of the line with this gid, in millimetres on the figure's own canvas."""
    found = next(ln for ln in axes.lines if ln.get_gid() == gid)
    pixels = axes.transData.transform(found.get_xydata())
    return pixels / axes.figure.dpi * 25.4


def texts(figure) -> str:
    return "\n".join(t.get_text() for ax in figure.axes for t in ax.texts)


# --- paper ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dpi", [72, 110, 300])
def test_one_millimetre_is_one_millimetre_at_any_dpi(dpi):
    figure, axes, page = paper.draw_page(record())
    figure.set_dpi(dpi)
    strip = line(axes, "lead II")  # the panel of 2.5 s; 25 mm/s
    assert np.ptp(strip[:, 0]) == pytest.approx(62.5, abs=0.01)
    pulse = line(axes, "calibration")
    assert np.ptp(pulse[:, 1]) == pytest.approx(10.0, abs=0.01)  # 1 mV
    plateau = pulse[np.isclose(pulse[:, 1], pulse[:, 1].max()), 0]
    assert np.ptp(plateau) == pytest.approx(5.0, abs=0.01)  # 200 ms


def test_rhythm_strip_is_250_mm_and_voltages_are_10_mm_per_mv():
    one = record()
    figure, axes, page = paper.draw_page(one)
    panel = page.panels[-1]
    assert (panel.lead, panel.start, panel.stop) == ("II", 0, 10)
    strip = [ln for ln in axes.lines if ln.get_gid() == "lead II"][-1].get_xydata()
    assert np.ptp(strip[:, 0]) == pytest.approx(250, abs=25 / FS + 0.01)
    expected = np.ptp(one.signal[LEADS.index("II")]) * 10
    assert np.ptp(strip[:, 1]) == pytest.approx(expected, rel=1e-5)


def test_grid_squares_are_1_and_5_mm():
    _, axes, _ = paper.draw_page(record())
    steps = []
    for lines in axes.collections[:2]:
        xs = sorted({seg[0][0] for seg in lines.get_segments() if seg[0][0] == seg[1][0]})
        steps.append(np.diff(xs))
    assert np.allclose(steps[0], 1) and np.allclose(steps[1], 5)


def test_gain_and_speed_scale_the_trace():
    _, axes, _ = paper.draw_page(record(), gain=5, speed=50)
    assert np.ptp(line(axes, "calibration")[:, 1]) == pytest.approx(5, abs=0.01)
    assert np.ptp(line(axes, "lead I")[:, 0]) == pytest.approx(125, abs=0.01)


def test_leads_of_one_column_share_their_time_and_columns_follow_on():
    page = paper.lay_out(record())
    start = {p.lead: p.start for p in page.panels[:12]}
    assert [start[n] for n in ("I", "II", "III")] == [0, 0, 0]
    assert [start[n] for n in ("aVR", "V1", "V4")] == [2.5, 5.0, 7.5]


@pytest.mark.parametrize("seconds", [2.5, 4, 12])
def test_any_duration_from_2_5_s(seconds):
    page = paper.lay_out(record(seconds))
    assert page.panels[-1].stop == pytest.approx(min(seconds, 10))
    assert paper.plot_ecg(record(seconds)).axes


def test_too_short_is_a_sentence():
    with pytest.raises(DataError, match="2.5 s"):
        paper.plot_ecg(record(2))


def test_absent_leads_leave_a_labelled_empty_panel():
    figure, axes, _ = paper.draw_page(record(leads=("I", "V5")))
    drawn = {ln.get_gid() for ln in axes.lines if str(ln.get_gid()).startswith("lead")}
    assert drawn == {"lead I", "lead V5"}
    assert texts(figure).count("absent") == 11  # ten leads and the rhythm strip


def test_nan_is_a_gap_and_a_lead_of_nan_does_not_fail():
    one = record()
    signal = one.signal.copy()
    signal[0, 100:200] = np.nan
    signal[5] = np.nan
    _, axes, _ = paper.draw_page(replace(one, signal=signal))
    lead = next(ln for ln in axes.lines if ln.get_gid() == "lead I")
    assert np.isnan(lead.get_ydata()).sum() == 100


def test_caption_says_rate_filter_speed_gain_and_simulated():
    one = record()
    figure = paper.plot_ecg(replace(one, meta=one.meta | {"filter": "0.5-40 Hz"}), "A title")
    for words in ("250 Hz", "0.5-40 Hz", "25 mm/s", "10 mm/mV", "A title (simulated data)"):
        assert words in texts(figure)


def test_tall_traces_get_more_room():
    small, tall = paper.lay_out(record()), paper.lay_out(record(amplitude=2.5))
    assert tall.height > small.height


def test_chosen_leads_are_strips_of_the_whole_time():
    figure, axes, page = paper.draw_page(record(), leads=("V1", "II"))
    assert [(p.lead, p.start, p.stop) for p in page.panels] == [("V1", 0, 10), ("II", 0, 10)]
    assert np.ptp(line(axes, "lead V1")[:, 0]) == pytest.approx(250, abs=25 / FS + 0.01)
    assert np.ptp(line(axes, "calibration")[:, 1]) == pytest.approx(10, abs=0.01)
    assert page.height < paper.lay_out(record()).height


# --- attention ------------------------------------------------------------------------------------


def attention(figure, lead: str):
    return [m for m in figure.axes[0].collections if m.get_gid() == f"attention {lead}"]


def test_attention_lies_over_the_time_it_belongs_to():
    weights = np.zeros(20)
    weights[3] = 1  # 1.5 to 2.0 s of 10 s
    figure = overlay.plot_attention(record(), weights, "layer 1, head 2, row [CLS]")
    mesh = attention(figure, "I")[0]
    x0 = paper.MARGIN + paper.PULSE_ZONE
    brightest = int(np.argmax(mesh.get_array().ravel()))
    edges = mesh.get_coordinates()[0, :, 0]
    assert np.allclose(edges[brightest : brightest + 2], [x0 + 37.5, x0 + 50])
    assert "layer 1, head 2, row [CLS]" in texts(figure) and "largest weight" in texts(figure)


def test_attention_per_lead_goes_by_name():
    weights = np.zeros((2, 4))
    weights[1] = 1
    figure = overlay.plot_attention(record(), weights, "x", leads=("V1", "V6"))
    assert not attention(figure, "I")
    assert attention(figure, "V6")[0].get_array().max() == 1
    assert attention(figure, "V1")[0].get_array().max() == 0


@pytest.mark.parametrize("bad", [np.ones((3, 4)), np.ones((2, 3, 4)), -np.ones(5), np.ones(0)])
def test_attention_that_does_not_fit_is_a_sentence(bad):
    with pytest.raises(DataError):
        overlay.plot_attention(record(), bad, "x")


# --- curves ---------------------------------------------------------------------------------------


def test_kaplan_meier_by_hand():
    # Five people: events at 1 and 3 (two at once), censored at 3 and 5.
    table = curves.kaplan_meier([1, 3, 3, 3, 5], [1, 1, 1, 0, 0])
    assert table.time.tolist() == [0, 1, 3, 5]
    assert table.at_risk.tolist() == [5, 5, 4, 1]
    assert table.survival.tolist() == pytest.approx([1, 0.8, 0.4, 0.4])
    # Greenwood at t=3: 1/(5*4) + 2/(4*2) = 0.3; band 0.4 ** exp(+-1.96 sqrt(0.3) / ln 0.4).
    width = 1.959964 * np.sqrt(0.3) / abs(np.log(0.4))
    assert table.low[2] == pytest.approx(0.4 ** np.exp(width))
    assert table.high[2] == pytest.approx(0.4 ** np.exp(-width))


def test_kaplan_meier_agrees_with_lifelines():
    import lifelines

    rng = np.random.default_rng(0)
    time, event = rng.exponential(5, 300).round(1), rng.random(300) < 0.6
    theirs = lifelines.KaplanMeierFitter().fit(time, event)
    ours = curves.kaplan_meier(time, event).drop_duplicates("time", keep="last")
    assert np.allclose(ours.survival, theirs.survival_function_.iloc[:, 0])
    bands = theirs.confidence_interval_.to_numpy()[ours.low.notna()]
    assert np.allclose(ours[["low", "high"]].dropna(), bands, atol=1e-6)


def test_kaplan_meier_edges():
    nobody = curves.kaplan_meier([1.0, 2.0], [0, 0])
    assert nobody.survival.eq(1).all() and nobody.low.isna().all()
    everyone = curves.kaplan_meier([1.0, 1.0], [1, 1])
    assert everyone.survival.iloc[-1] == 0 and np.isnan(everyone.high.iloc[-1])
    for time, event in (([], []), ([-1.0], [1]), ([np.nan], [1]), ([1.0, 2.0], [1])):
        with pytest.raises(DataError):
            curves.kaplan_meier(time, event)


def test_kaplan_meier_plot_counts_those_at_risk():
    time = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    groups, labels = np.arange(8) % 2 == 1, ["low", "high"]
    figure = curves.plot_kaplan_meier(time, time < 6, groups, labels, simulated=True, title="T")
    assert "simulated" in figure.axes[0].get_title(loc="left") and is_marked(figure)
    assert not is_marked(curves.plot_kaplan_meier(time, time < 6, groups, labels))
    counts = [t.get_text() for t in figure.axes[1].texts]
    assert counts[0] == "4" and "Number at risk" in figure.axes[1].get_title(loc="left")
    assert "low (n=4, 3 events)" in [t.get_text() for t in figure.axes[0].get_legend().texts]


def test_training_curves_skip_rows_without_a_value_and_name_what_is_missing():
    table = pd.DataFrame({"step": range(20), "loss": np.linspace(2, 1, 20)})
    table["eval_macro_auc"] = np.where(table.step % 5 == 0, 0.8, np.nan)
    figure = curves.plot_training(table, ["loss", "eval_macro_auc", "other"], "Title")
    assert len(figure.axes[1].lines[0].get_xdata()) == 4
    assert figure.axes[1].get_ylabel() == "Eval macro AUC"
    assert "Other: not logged" in texts(figure)
    with pytest.raises(DataError, match="no column"):
        curves.plot_training(table, ["loss"], x="epoch")


def test_bars_show_intervals_and_gaps():
    names, values = ["a", "b", "c"], [0.5, None, 0.7]
    figure = curves.plot_bars(names, values, [0.4, None, None], [0.6, None, None], simulated=True)
    assert "not computed" in texts(figure) and "0.700" in texts(figure)
    ends = figure.axes[0].collections[0].get_segments()
    assert np.asarray(ends[0])[:, 0] == pytest.approx([0.4, 0.6])
    assert len(ends) == 1  # no mark where there is no interval
    with pytest.raises(DataError):
        curves.plot_bars(["a"], [1, 2])


# --- tables, widgets, style -----------------------------------------------------------------------


def test_answers_are_escaped_and_judged_as_sets():
    questions, truth = ["<script>x</script>", "Which?"], [["yes"], ["a", "b"]]
    view = tables.answers_table(questions, truth, ["no", ["b", "a"]], simulated=True)
    html = view.to_html()
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert view.data["Verdict"].tolist() == ["wrong", "right"]
    assert "not for diagnosis" in html and "Simulated data" in html
    with pytest.raises(DataError, match="one entry per question"):
        tables.answers_table(["a", "b"], ["x"], ["y"])


# --- a recording with its questions ---------------------------------------------------------------


@pytest.fixture(scope="module")
def questions(tiny_config, tiny_cohort):
    from ecgkit.data.ecgqa import open_questions

    return open_questions(tiny_config, tiny_cohort, quiet=True)


def test_a_record_beside_its_codes_and_questions(tiny_cohort, questions):
    row = int(questions.table["row1"].iloc[0])
    about = record_page.questions_about(questions, row)
    theirs = questions.table[(questions.table[["row1", "row2"]] == row).any(axis=1)]
    assert sorted(about.index) == sorted(theirs.index)
    # The first ones show each type there is.
    n_types = about["question_type"].nunique()
    assert about["question_type"].head(n_types).nunique() == n_types
    said = texts(record_page.plot_record_with_questions(tiny_cohort, questions, row))
    for code in tiny_cohort.table["scp_codes"].iloc[row]:
        assert f"{code}: {tiny_cohort.statements['description'][code]}"[:40] in said
    shown = int(said.split("Questions, ")[1].split(" of ")[0])
    assert 0 < shown <= len(about) and f"of {len(about)}" in said
    assert f"ECG {tiny_cohort.table['ecg_id'].iloc[row]} (simulated data)" in said


def test_the_side_column_ends_with_the_paper(tiny_cohort, questions):
    for leads in ((), ("II",)):
        figure = record_page.plot_record_with_questions(tiny_cohort, questions, 3, leads)
        lowest = min(t.get_position()[1] for t in figure.axes[0].texts)
        assert lowest > 0
        assert figure.axes[0].get_xlim()[1] / 25.4 == pytest.approx(figure.get_figwidth())


def test_filter_and_leads_of_the_page(tiny_cohort):
    """A source nothing is asked about has a page as well."""
    figure = record_page.plot_record_with_questions(
        tiny_cohort, None, 0, leads=("II", "V5"), filter="highpass"
    )
    assert "high-pass 0.5 Hz" in texts(figure) and "Questions" not in texts(figure)
    drawn = [ln.get_gid() for ln in figure.axes[0].lines if str(ln.get_gid()).startswith("lead")]
    assert drawn == ["lead II", "lead V5"]


# --- preprocessing --------------------------------------------------------------------------------


def noisy():
    one = record()
    t = np.arange(one.n_samples) / FS
    hum = 0.1 * np.sin(2 * np.pi * 50 * t) + 0.5 * np.sin(2 * np.pi * 0.1 * t)
    return replace(one, signal=(one.signal + hum).astype(np.float32))


def test_every_filter_is_drawn_and_the_notch_is_at_50_hz():
    left, right = preprocessing.plot_filters(noisy()).axes
    assert [ln.get_label() for ln in left.lines] == [
        "no filter", "high-pass 0.5 Hz", "band-pass 0.5-40 Hz", "notch 50 Hz"
    ]  # fmt: skip
    hz, gain = right.lines[-1].get_data()
    assert gain[np.argmin(abs(hz - 50))] < 0.01 and gain[np.argmin(abs(hz - 20))] > 0.95


def test_what_a_filter_takes_out_is_raw_minus_filtered():
    one, leads = noisy(), ("I", "V6")
    figure = preprocessing.plot_raw_and_filtered(one, "powerline", leads)
    pairs = [figure.axes[2 * i : 2 * i + 2] for i in range(len(leads))]
    for (left, right), lead in zip(pairs, leads):
        raw, clean, out = (ln.get_ydata() for ln in (*left.lines, right.lines[0]))
        assert np.allclose(raw - clean, out, atol=1e-6) and lead in left.get_ylabel()
        assert np.array_equal(raw, one.signal[LEADS.index(lead)][: len(raw)])
    amplitude = np.sqrt(2) * out[FS : 4 * FS].std()
    assert amplitude == pytest.approx(0.1, abs=0.03)  # the hum, and little else


def test_one_panel_per_reason_of_the_quarantine():
    one = record()
    flat = one.signal.copy()
    flat[0], flat[1] = 0.2, np.nan
    examples = [
        ("truncated", "Record a is left out: it ends early.", one),
        ("flat_lead", "Record b is left out: constant all the time: I.", replace(one, signal=flat)),
        ("missing_file", "Record c is left out: c.hea is not there.", None),
        ("amplitude", "Record d is left out: too large.", replace(one, signal=1000 * one.signal)),
    ]
    figure = preprocessing.plot_quarantine(examples, simulated=True)
    shown = figure.axes[:4]
    assert [ax.get_title(loc="left") for ax in shown] == [e[0] for e in examples]
    assert shown[1].get_xlabel() == "constant all the time: I."
    words = ["\n".join(t.get_text() for t in ax.texts) for ax in shown]
    assert "0.00 mV" in words[1] and "missing" in words[1] and "nothing can be read" in words[2]
    assert "1,000 mV" in words[3] and "simulated data" in figure.get_suptitle()
    assert not figure.axes[-1].axison


# --- sources --------------------------------------------------------------------------------------


def test_sources_side_by_side(tiny_cohort, tmp_path):
    table = sources_figures.sources_table().set_index("source")
    assert list(table.index) == list(sources.SOURCES)
    assert table.loc["mimic-iv-ecg", ["recordings", "patients"]].tolist() == [800035, 161352]
    assert table.loc["cpsc-2018", "seconds"][0] == 6
    assert np.isnan(table.loc["challenge", "patients"])
    figure = sources_figures.plot_sources([tiny_cohort])
    figure.savefig(tmp_path / "sources.png")
    said = texts(figure)
    assert f"this run: {len(tiny_cohort)}" in said and "21,799 of 18,869 patients" in said
    leads = figure.axes[2].texts
    moved = [t.get_text() for t in leads if t.get_color() == style.COLOURS[1]]
    assert moved == ["aVF", "aVL"]  # MIMIC-IV-ECG alone


def test_what_one_cohort_holds(tiny_cohort, tmp_path):
    figure = sources_figures.plot_cohort(tiny_cohort)
    figure.savefig(tmp_path / "cohort.png")
    ages, patients, seconds = figure.axes
    counted = sum(bar.get_height() for bar in ages.patches)
    assert counted == tiny_cohort.table["age"].notna().sum()
    assert sum(bar.get_height() for bar in patients.patches) == tiny_cohort.table[
        "patient_id"].nunique()  # fmt: skip
    assert sum(bar.get_height() for bar in seconds.patches) == len(tiny_cohort)
    nobody = tiny_cohort.table.assign(age=np.nan, sex=np.nan)
    figure = sources_figures.plot_cohort(replace(tiny_cohort, table=nobody))
    assert f"({len(nobody):,} unknown)" in figure.axes[0].get_xlabel()


def test_doctor_table_is_tinted_where_something_was_found(tiny_cohort, monkeypatch):
    lines = [("a", "x", "y", 0, doctor.NOTHING), ("b", "x", "y", 2, "kept, flagged"),
             ("c", "<i>", "y", 3, "quarantined: c (3)")]  # fmt: skip
    made = pd.DataFrame(lines, columns=doctor.COLUMNS)
    monkeypatch.setattr(doctor, "table", lambda cohort: made)
    view = sources_figures.doctor_table(tiny_cohort)
    html = view.to_html()
    assert view.data is not None and "&lt;i&gt;" in html and "recordings are sound" in html
    assert html.count(sources_figures._MENDED) == html.count(sources_figures._REFUSED) == 1
    colours = view._compute().ctx
    assert not colours.get((0, 0)) and colours[(1, 0)] and colours[(2, 4)]


def test_figures_are_unknown_to_pyplot_and_alike():
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    for figure in (paper.plot_ecg(record()), kit_map.plot_map(), curves.plot_bars(["a"], [1])):
        assert type(figure).__name__ == "Figure"
    assert plt.get_fignums() == before
    style.use_style()
    assert not plt.rcParams["axes.spines.top"]


def test_a_large_picture_is_made_small_and_keeps_its_colours():
    page = paper.plot_ecg(record())
    buffer, small = io.BytesIO(), style.small_png(page)
    page.savefig(buffer, format="png", bbox_inches="tight")
    before, after = (np.asarray(Image.open(b).convert("RGB"), int) for b in (
        buffer, io.BytesIO(small)))  # fmt: skip
    assert len(small) < len(buffer.getvalue()) / 2 and before.shape == after.shape
    assert np.abs(before - after).max() <= 16


def test_a_saved_figure_is_not_drawn_a_second_time(tmp_path):
    """The notebook shows the picture that the run folder holds."""
    config = StartConfig.from_params({"preset": "tiny", "out": str(tmp_path)})
    run = runs.Run("00_start_here", config)
    figure, axes = style.new_figure()
    axes.plot([0, 1])
    run.figure(figure, "line", "A line")
    saved = (run.figures / "line.png").read_bytes()
    assert len(saved) < style.PALETTE_FROM and style.small_png(figure) == saved


def test_map_has_every_notebook_and_no_box_touches_another():
    table = kit_map.notebook_table()
    drawn = "\n".join(box[-1] for box in kit_map.BOXES.values())
    assert all(f"notebook {name[:2]}" in drawn for name in table["Notebook"])
    boxes = list(kit_map.BOXES.values())
    for i, (x, y, w, h, _) in enumerate(boxes):
        for x2, y2, w2, h2, _ in boxes[i + 1 :]:
            assert abs(x - x2) >= (w + w2) / 2 or abs(y - y2) >= (h + h2) / 2


@pytest.mark.parametrize("backend", ["", "Agg"])
def test_a_notebook_shows_each_figure_once(monkeypatch, backend):
    """A figure of ours before any style is set, a pyplot figure left open, and one returned."""
    nbclient = pytest.importorskip("nbclient")
    from nbformat import v4

    if backend:
        monkeypatch.setenv("MPLBACKEND", backend)
    else:
        monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel picks its inline backend
    sources = [
        "from ecgkit.reports import style\nfigure, _ = style.new_figure()\nfigure",
        "style.use_style()\nimport matplotlib.pyplot as plt\nfigure, _ = plt.subplots()",
        "figure, _ = plt.subplots()\nfigure",
        "style.use_style()\nassert not plt.get_fignums()",
    ]
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    shown = [sum("image/png" in o.get("data", {}) for o in c.outputs) for c in notebook.cells]
    assert shown == [1, 0, 1, 0]
