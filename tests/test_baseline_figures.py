"""Figures of notebook 03 say what they show: names, counts, darker for worse, layer and head."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from ecgkit.data.qa_reading import QUESTION_TYPES
from ecgkit.reports import attention_figures, baseline_figures, error_figures, style
from ecgkit.tasks.answers_qa import ALL
from ecgkit.tasks.look_inside import Look
from ecgkit.types import LEADS, DataError, ECGRecord


def texts(figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip()]


def words(figure) -> str:
    return "\n".join(texts(figure))


def inside(figure) -> bool:
    """All that is drawn lies on the figure: no label is cut."""
    figure.draw_without_rendering()
    dpi, (width, height) = figure.dpi, figure.get_size_inches()
    boxes = [t.get_window_extent() for ax in figure.axes for t in ax.texts if ax.get_visible()]
    corners = [(b.x0 / dpi, b.y0 / dpi, b.x1 / dpi, b.y1 / dpi) for b in boxes]
    corners.append(figure.get_tightbbox().extents)
    return all(x0 > -0.02 and y0 > -0.02 and x1 < width + 0.02 and y1 < height + 0.02
               for x0, y0, x1, y1 in corners)


# --- inputs ---------------------------------------------------------------------------------------


def dots(figure) -> np.ndarray:
    """(models, inputs): size of each dot, 0 where it is hollow."""
    found = {tuple(c.get_offsets()[0]): c.get_sizes()[0] * bool(len(c.get_facecolor()))
             for c in figure.axes[0].collections if len(c.get_offsets()) == 1}
    n_inputs = len(baseline_figures.INPUTS)
    n_models = len(found) // n_inputs
    return np.array([[found[x, y] for x in range(n_inputs)] for y in range(n_models)])


def test_inputs_of_all_models():
    figure = baseline_figures.plot_inputs()
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(names) == 10 and "M3AE" in names and "ECG only (deaf)" in names
    seen = dict(zip(names, dots(figure) > 100))  # large dots
    first, second, asked, attribute, mode = range(5)
    assert seen["Text only (blind)"].tolist() == [False, False, True, False, False]
    assert seen["ECG only (deaf)"].tolist() == [True, True, False, False, False]
    assert seen["Per-template majority"].tolist() == [False] * 4 + [True]
    for bound in ("W2V+CMSC+RLM", "ResNet + attention", "SE-WRN"):
        row = seen[f"Bound: {bound}"]
        assert row[first] and row[attribute] and not row[second] and not row[asked]
    assert {"317.6 M", "90.4 M", "1.4 M", "ECG + report", "ECG only"} <= set(texts(figure))
    assert inside(figure)


def test_inputs_of_the_models_trained():
    figure = baseline_figures.plot_inputs(["majority", "fusion"], note="A remark.")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        "Per-template majority", "Fusion transformer"]
    assert dots(figure).shape == (2, 5) and "A remark." in words(figure)
    with pytest.raises(DataError, match="no-such"):
        baseline_figures.plot_inputs(["no-such"])


# --- training -------------------------------------------------------------------------------------


def log(losses, exact=None) -> pd.DataFrame:
    table = pd.DataFrame({"step": np.arange(1, len(losses) + 1) * 10, "loss": losses})
    if exact is not None:
        table["eval_loss"] = 1 - np.array(exact, float)
        table["eval_exact_match"] = exact
    return table


def test_trainings_mark_the_best_step():
    nan = np.nan
    logs = {"fusion": log([3, 2, 1, 1], [nan, 0.5, 0.7, 0.6]), "blind": log([3, 3, 2, 2])}
    figure = baseline_figures.plot_trainings(logs, simulated=True)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "Training loss", "Valid loss", "Valid exact match"]
    stars = [line for line in figure.axes[2].lines if line.get_gid() == "best"]
    assert [line.get_xydata().tolist() for line in stars] == [[[30, 0.7]]]
    lowest = [line for line in figure.axes[1].lines if line.get_gid() == "best"]
    assert lowest[0].get_xydata()[0] == pytest.approx([30, 0.3])
    assert "Fusion transformer, best at step 30" in words(figure)
    assert "Text only (blind)" in texts(figure) and "simulated" in words(figure)
    assert len(figure.axes[0].lines) == 2 and inside(figure)


def test_one_evaluation_is_a_number_not_a_panel():
    figure = baseline_figures.plot_trainings({"fusion": log([2, 1], [np.nan, 0.61])})
    assert len(figure.axes) == 1
    assert "valid exact match 0.61 at step 20" in words(figure)


# --- by type --------------------------------------------------------------------------------------

NAMES = ("fusion", "m3ae", "medvill", "resnet_lstm", "blind", "deaf", "mine", "other", "majority")


def scores(names=NAMES, kinds=(ALL, *QUESTION_TYPES)) -> pd.DataFrame:
    rows = [(kind, name, 100 + i, 0.3 + 0.05 * j, 0.25 + 0.05 * j, 0.4 + 0.05 * j)
            for i, kind in enumerate(kinds) for j, name in enumerate(names)]
    return pd.DataFrame(rows, columns=["question_type", "model", "n", "value", "low", "high"])


def test_by_type_shows_every_score_with_its_interval():
    table = scores().sample(frac=1, random_state=0)  # the order of rows is not relied on
    figure = baseline_figures.plot_by_type(table, simulated=True)
    said = texts(figure)
    for short in ("All", "S-Verify", "S-Choose", "S-Query", "CC-Verify", "CC-Query", "CI-Verify",
                  "CI-Query"):
        assert short in said
    assert "consecutive ECGs, verify" in said and "n = 104" in said
    panels = dict(zip([ALL, *QUESTION_TYPES], figure.axes))
    order = list(table["model"].unique())
    for kind, ax in panels.items():
        mine = table[table["question_type"] == kind].set_index("model").loc[order]
        drawn = [ln.get_xydata()[0] for ln in ax.lines if ln.get_gid() == "score"]
        assert [x for x, _ in drawn] == pytest.approx(mine["value"].tolist())
        spans = [ln.get_xdata() for ln in ax.lines if ln.get_gid() == "interval"]
        assert np.ravel(spans) == pytest.approx(mine[["low", "high"]].to_numpy().ravel())
    assert inside(figure)


def test_by_type_colours_tell_models_apart_and_the_majority_is_grey():
    ax = baseline_figures.plot_by_type(scores()).axes[0]
    colours = [to_hex(ln.get_color()) for ln in ax.lines if ln.get_gid() == "score"]
    assert len(set(colours)) == len(NAMES) and colours[-1] == to_hex(style.MUTED)


def test_by_type_keeps_to_the_types_asked():
    figure = baseline_figures.plot_by_type(scores(("fusion", "majority"), (ALL, "single-verify")))
    assert len(figure.axes) == 2
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        "Fusion transformer", "Per-template majority"]


# --- errors ---------------------------------------------------------------------------------------


def error_rows() -> pd.DataFrame:
    rows = [("rare", "fusion", 4, 4), ("rare", "blind", 4, 4), ("common", "fusion", 100, 0),
            ("common", "blind", 100, 3), ("hard", "fusion", 50, 10), ("hard", "blind", 50, 40)]
    table = pd.DataFrame(rows, columns=["item", "model", "n", "wrong"])
    return table.assign(rate=table["wrong"] / table["n"])


def luminance(colour) -> float:
    return float(np.dot(colour[:3], [0.2126, 0.7152, 0.0722]))


def test_more_errors_are_darker():
    figure = error_figures.plot_errors(error_rows(), simulated=True)
    image = figure.axes[0].images[0]
    shades = [luminance(image.cmap(image.norm(v))) for v in (0.0, 0.2, 0.8, 1.0)]
    assert shades == sorted(shades, reverse=True) and shades[0] - shades[-1] > 0.5
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == ["hard (50)", "rare (4)", "common (100)"]
    assert np.asarray(image.get_array())[0].tolist() == [0.2, 0.8]  # hard: fusion, blind
    assert {"80% (40)", "100% (4)"} <= set(texts(figure)) and "simulated" in words(figure)
    assert inside(figure)


def test_errors_of_the_most_frequent():
    figure = error_figures.plot_errors(error_rows(), n=2, order="frequent")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["common (100)", "hard (50)"]
    assert "2 of 3 attributes, most questions first" in words(figure)
    with pytest.raises(DataError, match="frequent"):
        error_figures.plot_errors(error_rows(), order="best")


def test_confusion_frames_what_is_right():
    table = pd.DataFrame([[8, 1, 1], [5, 0, 0]], index=["no", "yes"],
                         columns=["no", "yes", "another answer"])
    figure = error_figures.plot_confusion(table, "blind", simulated=True)
    ax = figure.axes[0]
    framed = [p.get_center().tolist() for p in ax.patches if p.get_gid() == "right"]
    assert np.allclose(framed, [[0, 0], [1, 1]])
    assert np.allclose(ax.images[0].get_array(), [[0.8, 0.1, 0.1], [1, 0, 0]])
    assert "Text only (blind) (simulated data)" in words(figure)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["no (10)", "yes (5)"] and inside(figure)


def test_gap_joins_both_ends_widest_first():
    table = pd.DataFrame({"attribute": ["a", "b", "c"], "n": [30, 20, 9],
                          "classifier": [0.8, 0.9, np.nan], "qa": [0.7, 0.5, 0.5],
                          "low": [0.6, 0.4, 0.4], "high": [0.8, 0.6, 0.6]})
    figure = error_figures.plot_gap(table)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b (20)", "a (30)"]
    ends = {c.get_gid(): [s[:, 0].tolist() for s in c.get_segments()] for c in ax.collections}
    assert ends["gap"] == [[0.9, 0.5], [0.8, 0.7]] and ends["interval"] == [[0.4, 0.6], [0.6, 0.8]]
    assert "2 of 2 attributes" in words(figure) and "mean gap 0.25" in words(figure)
    assert inside(figure)
    assert len(error_figures.plot_gap(table.drop(columns=["low", "high"]), n=1).axes[0].lines) == 3
    named = table.rename(columns={"classifier": "se_wrn", "qa": "fusion"})
    same = error_figures.plot_gap(named, "se_wrn", "fusion", "Accuracy")
    assert {"Bound: SE-WRN", "Fusion transformer", "Accuracy"} <= set(texts(same))
    with pytest.raises(DataError, match="qa"):
        error_figures.plot_gap(table.drop(columns="qa"))


# --- attention ------------------------------------------------------------------------------------

FS, P = 100, 20


def record(seconds: float = 10) -> ECGRecord:
    t = np.arange(round(seconds * FS)) / FS
    wave = np.exp(-((t % 0.8 - 0.4) ** 2) / 0.002)
    return ECGRecord(np.tile(wave, (12, 1)).astype(np.float32), FS, LEADS, 17, {"simulated": True})


def look(part: str = "first", **changes) -> Look:
    rows = np.full((3, P), 0.01)
    rows[1, 4] = 0.3
    relevance = np.zeros((12, P))
    relevance[LEADS.index("V2"), 4] = 1
    given = dict(
        part=part, layer="layer 2 of 3", head="head 1 of 4", method="attention x gradient",
        answer="yes", probability=0.8, words=["[CLS]", "infarction", "[SEP]"], rows=rows,
        attention=rows.mean(0), gradient=relevance, drop=np.linspace(-0.1, 1, 12),
        relevance=relevance, leads=LEADS, centres=(np.arange(P) + 0.5) / P, reach=0.05)
    return Look(**{**given, **changes})


def meshes(figure):
    return [c for ax in figure.axes for c in ax.collections if c.get_gid() == "words"]


def test_words_stand_under_the_strip_on_the_same_seconds():
    figure = attention_figures.plot_words(record(), look(), "V1", title="Is it an infarction?")
    strip, heat = figure.axes[1], figure.axes[2]
    assert strip.get_xlim() == heat.get_xlim() and heat.get_xlim()[1] == 10
    assert [t.get_text() for t in heat.get_yticklabels()] == ["[CLS]", "infarction", "[SEP]"]
    mesh = meshes(figure)[0]
    weights = np.asarray(mesh.get_array())
    assert np.unravel_index(weights.argmax(), weights.shape) == (1, 4) and weights.max() == 1
    edges = mesh.get_coordinates()[0, 4:6, 0]
    assert edges.tolist() == pytest.approx([2.0, 2.5])  # token 4 of 20 in 10 s
    assert {"49%", "20%"} <= set(texts(figure))  # shares of the softmax rows
    for said in ("lead V1", "25 mm/s", "layer 2 of 3, head 1 of 4", "largest weight shown",
                 "Is it an infarction? (simulated data)"):
        assert said in words(figure)
    assert inside(figure)


def test_words_are_on_metric_paper():
    figure = attention_figures.plot_words(record(), look())
    strip = figure.axes[1]
    box = strip.get_position()
    width, height = figure.get_size_inches() * 25.4
    assert box.width * width / np.ptp(strip.get_xlim()) == pytest.approx(25)
    assert box.height * height / np.ptp(strip.get_ylim()) == pytest.approx(10)
    pulse = next(ln for ln in strip.lines if ln.get_gid() == "calibration").get_xydata()
    assert np.ptp(pulse[:, 1]) == 1


def test_rows_may_be_scaled_each_by_itself():
    figure = attention_figures.plot_words(record(), look(), normalise="row")
    assert np.asarray(meshes(figure)[0].get_array()).max(1).tolist() == [1, 1, 1]
    assert "each row divided" in words(figure)
    plain = meshes(attention_figures.plot_words(record(), look(), normalise="none"))[0]
    assert np.asarray(plain.get_array()).max() == 0.3 and plain.get_clim() == (0, 0.3)


def test_two_ecgs_stand_side_by_side_on_one_scale():
    second = look("second", rows=np.full((3, P), 0.03))
    title = "Was there an infarction in the first ECG that has cleared in the second? " * 3
    figure = attention_figures.plot_words([record(), record()], [look(), second], "II", title)
    assert [np.asarray(m.get_array()).max() for m in meshes(figure)] == pytest.approx([1, 0.1])
    assert "first ECG (17)" in words(figure) and "second ECG (17)" in words(figure)
    assert "12.5 mm/s" in words(figure) and inside(figure)


def test_centres_decide_where_a_token_stands():
    late = look(centres=np.linspace(0.3, 0.7, P))
    edges = meshes(attention_figures.plot_words(record(), late))[0].get_coordinates()[0, :, 0]
    assert edges[0] == 0 and edges[-1] == 10 and edges[1] == pytest.approx(3 + 4 / 19 / 2)


def test_the_lead_map_paints_the_lead_and_the_moment():
    # Token 16 of 20 is seconds 8 to 8.5, which V4, V5, V6 and the rhythm strip show.
    relevance = np.zeros((12, P))
    relevance[LEADS.index("V5"), 16] = 1
    figure = attention_figures.plot_lead_map(record(), look(relevance=relevance), "A " * 99)
    painted = {c.get_gid(): c for c in figure.axes[0].collections
               if str(c.get_gid()).startswith("attention")}
    assert {g for g, c in painted.items() if c.get_array().max() > 0} == {"attention V5"}
    mesh = painted["attention V5"]
    x = mesh.get_coordinates()[0, :-1, 0][np.asarray(mesh.get_array()).ravel() == 1]
    assert (x - 20).min() == pytest.approx(8 * 25) and (x - 20).max() == pytest.approx(8.48 * 25)
    for said in ("layer 2 of 3, head 1 of 4", "gradient of logit", "answer: yes (p = 0.80)",
                 "sees 0.5 s", "largest weight", "(simulated data)"):
        assert said in words(figure)
    assert inside(figure)


def test_lead_drop_is_a_bar_a_lead():
    figure = attention_figures.plot_lead_drop([look(), look("second")], simulated=True)
    for ax in figure.axes:
        assert [b.get_width() for b in ax.patches] == pytest.approx(look().drop.tolist())
    first = figure.axes[0].patches
    assert to_hex(first[0].get_facecolor()) == style.COLOURS[1]  # below zero
    assert to_hex(first[-1].get_facecolor()) == style.COLOURS[0]
    assert "drop in the logit of 'yes'" in words(figure) and inside(figure)


def test_looks_that_do_not_fit_are_a_sentence():
    with pytest.raises(DataError, match="give one of each"):
        attention_figures.plot_words([record()], [look(), look()])
    with pytest.raises(DataError, match="no lead V9"):
        attention_figures.plot_words(record(), look(), "V9")
    with pytest.raises(DataError, match="max | row | none"):
        attention_figures.plot_words(record(), look(), normalise="lead")


def test_broken_signal_is_a_gap_not_an_error():
    one = record()
    one.signal[:, 100:200] = np.nan
    assert attention_figures.plot_words(one, look()).axes
