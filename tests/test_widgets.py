"""Every widget: its picture follows each control, is reached by keyboard, says problems, and is a
saved figure in a batch run.
"""

import dataclasses
import io
import re
from types import SimpleNamespace

import ipywidgets as w
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ecgkit import runtime
from ecgkit.reports import (
    attention_widget,
    live_page,
    paper,
    record_widget,
    scores_widget,
    simulator_widget,
    widget_base,
    widgets,
)
from ecgkit.tasks import attention_maps, caption_attention, look_inside, zero_shot
from ecgkit.types import LEADS, DataError, ModelError

STANDARD = (w.Dropdown, w.Text, w.IntSlider, w.FloatSlider, w.Checkbox, w.Button)
SILENT = (w.HTML, w.Image, w.Label, w.VBox, w.HBox)  # nothing to operate


@pytest.fixture(scope="module")
def questions(tiny_config, tiny_cohort):
    from ecgkit.data.ecgqa import open_questions

    return open_questions(tiny_config, tiny_cohort, quiet=True)


def parts(view):
    """Every widget below the root, in tab order."""
    for child in getattr(view, "children", ()):
        yield child
        yield from parts(child)


def check_for_everybody(view, name):
    """A root and a picture to be found by class; standard, named controls; no script; words."""
    assert view._dom_classes == ("ecgkit-widget", f"ecgkit-{name}")
    inside = list(parts(view))
    images = [one for one in inside if isinstance(one, w.Image)]
    assert images and all("ecgkit-figure" in one._dom_classes for one in images)
    # In a browser an Image with a tooltip does not show: ipywidgets 8.1 then asks for its label.
    assert all(one.tooltip is None for one in images)
    controls = [one for one in inside if not isinstance(one, SILENT)]
    assert controls and all(isinstance(one, STANDARD) for one in controls)
    # A narrow window: what stands in a row goes under it, and nothing is wider than the window.
    assert all(one.layout.flex_flow == "row wrap" for one in inside if isinstance(one, w.HBox))
    assert all(one.layout.max_width == "100%" or int(one.layout.width[:-2] or 0) < 100
               for one in controls if one.layout.width)  # fmt: skip
    assert all(one.description and one.tabbable is not False for one in controls)
    assert not any(getattr(one, "continuous_update", False) for one in controls)
    said = " ".join(one.value for one in inside if isinstance(one, w.HTML))
    assert not re.search(r"<script|\son\w+\s*=|javascript:", said)
    assert "role='status'" in said and "not for diagnosis" in said
    return said


def follows(image, changes):
    """Each change gives a picture not seen before."""
    seen = [bytes(image.value)]
    assert seen[0].startswith(b"\x89PNG")
    for change in changes:
        change()
        assert bytes(image.value) not in seen
        seen.append(bytes(image.value))


def setting(control, value):
    return lambda: setattr(control, "value", value)


# --- the base -------------------------------------------------------------------------------------


class Fragile(widget_base.Bench):
    def __init__(self):
        super().__init__("fragile")
        self.n = widget_base.labelled(w.IntSlider, "Number", value=1, max=9)
        self.follow(self.n)
        self.lay_out(self.n, self.message, self.said, self.image)

    def show(self):
        if self.n.value == 2:
            raise DataError("Two is <b>not</b> a number here; give another.")
        self.draw(b"%d" % (6 // (3 - self.n.value)), f"{self.n.value}")


def test_what_goes_wrong_is_said_and_then_forgotten(caplog):
    one = Fragile()
    assert one.image.value == b"3" and one.message.value == ""
    one.n.value = 2
    assert "Two is &lt;b&gt;not" in one.message.value and "role='alert'" in one.message.value
    one.n.value = 3  # a fault of ours: the kind of error is named, its place goes to the log
    assert "ZeroDivisionError" in one.message.value and "ecgkit doctor" in one.message.value
    assert "6 // (3" in caplog.text and one.image.value == b"3"
    one.n.value = 0
    assert one.message.value == "" and one.image.value == b"2"


def test_several_changes_are_drawn_once():
    one = Fragile()
    with one.held():
        one.n.value = 0
    assert one.image.value == b"3"


def test_a_batch_figure_is_kept_and_a_live_widget_left_alone():
    kept = {}
    run = SimpleNamespace(figure=lambda figure, name, caption: kept.setdefault(name, figure))
    figure, view = Figure(), w.VBox()
    assert widget_base.keep(run, figure, "one", "...") is figure and kept == {"one": figure}
    assert widget_base.keep(run, view, "two", "...") is view and len(kept) == 1


# --- records --------------------------------------------------------------------------------------


def test_a_menu_of_records(monkeypatch):
    monkeypatch.setattr(runtime, "is_batch", lambda: False)
    records = [simulator_widget.simulated("SR", seed, simulator_widget.START) for seed in (1, 2)]
    view = widgets.browse_records(records, ["one", "two"])
    check_for_everybody(view, "browser")
    menu, back, on = view.children[0].children
    assert [label for label, _ in menu.options] == ["1. one", "2. two"]
    image = next(one for one in parts(view) if isinstance(one, w.Image))
    follows(image, [on.click])
    assert menu.value == 1
    on.click()
    assert menu.value == 0  # round
    back.click()
    assert menu.value == 1


def test_a_menu_is_its_first_figure_in_batch():
    records = [simulator_widget.simulated("SR", 1, simulator_widget.START)]
    figure = widgets.browse_records(records, ["first"])
    assert any("first" in text.get_text() for text in figure.axes[0].texts)
    with pytest.raises(DataError, match="at least one"):
        widgets.browse_records([])


def test_record_browser_follows_its_controls(tiny_cohort, questions):
    browser = record_widget.RecordBrowser(tiny_cohort, [4, 5, 6], questions)
    assert "questions" in browser.text.value and "simulated data" in browser.said.value
    check_for_everybody(browser.view, "browser")
    ids = tiny_cohort.table["ecg_id"]
    follows(browser.image, [
        setting(browser.menu, 6), setting(browser.filter, "highpass"),
        setting(browser.leads["II"], True), setting(browser.leads["V1"], True),
        setting(browser.number, str(ids.iloc[50])),
        browser.on.click,
    ])  # fmt: skip
    assert browser.row in (4, 5, 6) and "leads II, V1" in browser.said.value
    assert "high-pass 0.5 Hz" in browser.said.value and "100 Hz" in browser.said.value
    browser.number.value = "<no such>"
    assert "&lt;no such&gt; is stored" in browser.message.value


def test_a_statement_narrows_the_records(tiny_cohort):
    browser = record_widget.RecordBrowser(tiny_cohort, range(len(tiny_cohort)))
    codes = tiny_cohort.table["scp_codes"]
    n = sum("AFIB" in one for one in codes)
    assert any(f"AFIB: atrial fibrillation ({n} ECGs)" == words
               for words, _ in browser.statement.options)  # fmt: skip
    browser.statement.value = "AFIB"
    assert len(browser.menu.options) == n and "AFIB" in codes.iloc[browser.row]
    seen = set()
    for _ in range(n):
        browser.on.click()
        seen.add(browser.row)
    assert seen == {row for row, one in enumerate(codes) if "AFIB" in one}
    assert "questions" not in browser.text.value  # nothing is asked of a cohort alone


def test_record_browsers_in_batch_and_without_rows(tiny_cohort, questions):
    figure = record_widget.browse_questions(tiny_cohort, questions, [7], leads=("II",))
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert f"ECG {tiny_cohort.table['ecg_id'].iloc[7]}" in words and "Questions" in words
    alone = record_widget.browse_cohort(tiny_cohort, [7])
    assert "Questions" not in " ".join(text.get_text() for text in alone.axes[0].texts)
    with pytest.raises(DataError, match="at least one"):
        record_widget.browse_cohort(tiny_cohort, [])


def test_what_stands_beside_a_record_is_escaped(tiny_cohort, questions):
    table = questions.table.assign(question="<script>x</script>")
    row = int(table["row1"].iloc[0])
    html = record_widget.side_html(tiny_cohort, SimpleNamespace(table=table), row)
    assert "<script>" not in html and "&lt;script&gt;" in html


# --- live pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("leads", [(), ("II", "V1")])
def test_a_live_page_shows_what_the_static_one_does(tiny_cohort, leads):
    """The paper is drawn once and used for every record of one layout; the picture is the same."""
    first, record = tiny_cohort.record(3), tiny_cohort.record(4).select(LEADS[:9])
    for one in (first, record, first):
        live, caption = live_page.page_png(one, "Title", leads, dpi=80)
        assert caption == paper.caption(one)
        figure = paper.draw_page(one, "Title", leads=leads, room=live_page.ROOM)[0]
        pixels = [np.asarray(Image.open(io.BytesIO(image)).convert("L"), int)
                  for image in (live, widget_base.png(figure))]  # fmt: skip
        assert pixels[0].shape == pixels[1].shape
        assert (np.abs(pixels[0] - pixels[1]) > 40).mean() < 0.002  # names lie under traces


# --- the simulator --------------------------------------------------------------------------------


def test_turning_a_knob_redraws_the_page(monkeypatch):
    monkeypatch.setattr(runtime, "is_batch", lambda: False)
    check_for_everybody(simulator_widget.meet_simulator("SR", seed=3), "simulator")
    live = simulator_widget.SimulatorBench("SR", 3, dict(simulator_widget.START))
    first = bytes(live.image.value)
    follows(live.image, [
        setting(live.sliders["axis_deg"], -30), setting(live.sliders["heart_rate"], 100),
        setting(live.sliders["qrs_ms"], 140), setting(live.sliders["st_mv"], 0.2),
        setting(live.code, "CLBBB"),
    ])  # fmt: skip
    assert "CLBBB" in live.said.value and "100/min" in live.said.value
    live.code.value = "SR"
    live.reset.click()
    assert bytes(live.image.value) == first


# --- the zero-shot scorer -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(tiny_cohort):
    from ecgkit.config import EsiConfig, EsiEvalConfig
    from ecgkit.tasks import esi_eval_study, esi_study

    config = EsiConfig.from_params({"preset": "tiny", "n_steps": 1})
    study = esi_study.prepare(config, tiny_cohort)
    return esi_eval_study.open_evaluation(EsiEvalConfig.from_params({"preset": "tiny"}),
                                          tiny_cohort, study.model, study.tokenizer, config)


def test_a_sentence_is_scored_as_a_finding_is(evaluation):
    """Typed in, a finding's own prompt gives that finding's score."""
    findings = evaluation.read_findings()
    code = findings.codes[0]
    findings = dataclasses.replace(findings, prompts={code: findings.prompts[code][:1]})
    latents = zero_shot.prompt_latents(evaluation.model, evaluation.tokenizer, findings.prompts)
    own = zero_shot.zero_shot(evaluation.ecg["latents"][findings.rows], latents)[:, 0]
    scores, remark = evaluation.read_sentence(findings.prompts[code][0])
    assert np.corrcoef(scores, own)[0, 1] > 0.999 and remark == ""
    assert scores.std() == pytest.approx(1) and abs(scores.mean()) < 1e-6
    assert "☃" in evaluation.read_sentence("Snow ☃")[1]


def test_scorer_follows_record_and_sentence(evaluation, tiny_cohort, monkeypatch):
    findings = evaluation.read_findings()
    scorer = scores_widget.ZeroShotScorer(tiny_cohort, findings, evaluation.read_sentence)
    check_for_everybody(scorer.view, "zero-shot")
    page = bytes(scorer.page.value)
    follows(scorer.image, [scorer.on.click, setting(scorer.sentence, "normal ECG <b>")])
    assert bytes(scorer.page.value) != page
    place = int((scorer.own > scorer.own[1]).sum()) + 1
    assert f"place {place} of {len(findings.rows)}" in scorer.said.value
    scorer.sentence.value = ""
    assert "Your sentence" not in scorer.said.value
    monkeypatch.setattr(runtime, "is_batch", lambda: True)
    assert isinstance(scores_widget.score_ecgs(tiny_cohort, findings, None), Figure)


def test_stated_findings_are_hatched_and_named():
    bars = scores_widget.ScoreBars(3, 2.0)
    bars.png([("mine", 1.0, None), ("said", 0.5, True), ("unsaid", -1.0, False)], "Title")
    assert [bar.get_hatch() or "" for bar in bars.bars] == ["", "//", ""]
    assert [text.get_text() for text in bars.values] == [" +1.0", " +0.5 stated", " -1.0"]


# --- the attention explorer -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def fusion(tiny_cohort, questions):
    """A small fusion transformer, untrained, and its maps of three questions."""
    import torch

    from ecgkit.config import BaselinesConfig
    from ecgkit.tasks import baselines_qa

    config = BaselinesConfig.from_params({"preset": "tiny"})
    data = baselines_qa.prepare(config, tiny_cohort, questions)
    torch.manual_seed(0)
    return baselines_qa.build_qa(config, data, "fusion").eval(), data


@pytest.fixture(scope="module")
def maps(fusion, tiny_cohort):
    model, data = fusion
    test = data.questions.index("test")
    one = next(int(i) for i in test if data.row2[i] < 0)
    some = attention_maps.questions_to_show(data, test, one, n=3)
    assert some[0] == one and len(set(data.questions.table["question"].iloc[some])) == 3
    return attention_maps.maps_of_questions(model, data, some, tiny_cohort)


@pytest.mark.parametrize("layer, head", [(0, 1), (1, 0), (1, None)])
def test_maps_kept_are_those_of_a_look(fusion, tiny_cohort, layer, head):
    model, data = fusion
    pair = next(i for i in range(len(data.row2)) if data.row2[i] >= 0)
    first, second = attention_maps.maps_of_questions(model, data, [pair], tiny_cohort)
    for one, part in ((first, "first"), (second, "second")):
        seen = look_inside.look(model, data, pair, part, layer=layer, head=head)
        kept = one.at(layer, head)
        assert np.allclose(kept.rows, seen.rows, atol=1e-6) and kept.where == seen.where
        assert kept.words == seen.words and part in one.title


def test_a_lead_weighs_tokens_by_its_gradient(maps):
    plain, weighed = maps[0].at(0, 1), maps[0].at(0, 1, "V1")
    force = maps[0].seen.gradient[LEADS.index("V1")]
    assert np.allclose(weighed.rows * force.mean(), plain.rows * force)
    assert not np.allclose(weighed.rows, maps[0].at(0, 1, "V6").rows)
    assert maps[0].at().where == "mean of 2 layers, mean of 2 heads"
    with pytest.raises(ModelError, match="no layer 2; count from 0 to 1"):
        maps[0].at(layer=2)
    with pytest.raises(DataError, match="no lead V9"):
        maps[0].at(lead="V9")


def test_explorer_follows_layer_head_lead_and_question(maps, monkeypatch):
    explorer = attention_widget.AttentionExplorer(maps)
    check_for_everybody(explorer.view, "attention")
    assert "mean of 2 layers, mean of 2 heads" in explorer.said.value.replace("M", "m")
    monkeypatch.setattr(look_inside, "_forward", None)  # no model runs any more
    follows(explorer.image, [
        setting(explorer.layer, 0), setting(explorer.head, 1), setting(explorer.lead, "V1"),
        setting(explorer.weigh, True), setting(explorer.lead, "aVR"),
        setting(explorer.scale, True), setting(explorer.which, 1),
    ])  # fmt: skip
    assert "Layer 1 of 2, head 2 of 2, lead aVR" in explorer.said.value
    page = explorer.pages[1]
    rows = maps[1].at(0, 1, "aVR").rows
    shades = np.asarray(page.mesh.get_array()).reshape(rows.shape)
    assert np.allclose(shades, rows / rows.max(1, keepdims=True))
    seconds = maps[1].seen.centres[rows.argmax(1)] * 10  # a ring for those who see no colour
    assert np.allclose(page.peaks[0].get_xdata(), seconds)
    for words in ("× |gradient × signal| of aVR", "layer 1 of 2", "head 2 of 2", "each row"):
        assert words in page.caption.get_text().replace("\n", " ")
    assert "100 Hz" in page.about.get_text() and "25 mm/s" in page.about.get_text()


def test_explorer_in_batch_and_without_maps(maps):
    figure = attention_widget.explore_attention(maps)
    assert isinstance(figure, Figure)
    with pytest.raises(DataError, match="at least one"):
        attention_widget.explore_attention([])


def test_captions_are_explored_without_a_gradient(evaluation, tiny_cohort):
    record = tiny_cohort.record(0)
    maps = caption_attention.maps_of_caption(evaluation.model, evaluation.tokenizer, record)
    seen = caption_attention.look_at_words(evaluation.model, evaluation.tokenizer, record)
    assert np.allclose(maps.at().rows, seen.rows, atol=1e-6)
    assert np.allclose(maps.weights.sum(-1), 1, atol=1e-4)  # in each layer and head by itself
    explorer = attention_widget.AttentionExplorer([maps])
    assert [label for label, _ in explorer.weigh.options] == ["attention alone"]
    follows(explorer.image, [setting(explorer.head, 0), setting(explorer.head, 1)])
