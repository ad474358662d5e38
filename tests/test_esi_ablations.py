"""ESI's ablation figures and the table of orderings, from run folders written here by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ecgkit import runner
from ecgkit.reports import esi_ablations, esi_ordering, sweep_page
from ecgkit.reports.sweep_points import Number, Study, SweepPoint, number, read_points
from ecgkit.sweep_file import read_sweep
from ecgkit.types import DataError

ROOT = Path(__file__).parents[1]
NAMES = ("04_esi_pretraining", "05_esi_evaluation")
# name -> (probe, identification AUC, MMD): the paper's order, invented values
VALUES = {
    "full": (0.93, 0.92, 0.0004), "no_cqa": (0.91, 0.90, 0), "no_caption_loss": (0.915, 0.905, 0),
    "no_contrastive_loss": (0.85, 0.87, 0), "convnext_small": (0.945, 0.935, 0),
    "convnext_atto": (0.95, 0.94, 0), "small_vit": (0.895, 0.91, 0), "untrained": (0.78, 0.7, 0.01),
    "pretrain_200": (0.83, 0.8, 0.006), "pretrain_800": (0.89, 0.88, 0.002),
    "shuffled_25": (0.91, 0.9, 0), "shuffled_50": (0.87, 0.8, 0), "shuffled_75": (0.80, 0.75, 0),
    "shuffled_100": (0.74, 0.7, 0), "all_sources": (0.94, 0.93, 0), "mimic_only": (0.91, 0.92, 0),
}  # fmt: skip
SIZES = {"atto": 3_175_720, "small": 400_000, "small_xresnet": 160_000, "small_vit": 600_000}
WIDTH = 0.008


def write_run(folder: Path, params: dict, values, simulated: bool = True) -> None:
    """A run folder of notebooks 04 and 05 as they leave it."""
    config = runner.resolve(NAMES, params)[NAMES[0]]
    data = {"name": "synthetic", "simulated": simulated, "n_ecgs": 4000, "fingerprint": "abc"}
    rows = {
        "linear_probe_macro_auc": values[0], "identification_auc": values[1],
        "mmd_to_test": values[2], "zero_shot_macro_auc": values[0] - 0.05,
        "identification_top1": values[1] - 0.4,
    }  # fmt: skip
    scores = {
        k: {"value": v, "low": v - WIDTH, "high": v + WIDTH, "headline": True}
        for k, v in rows.items()
    }
    counts = {"n_parameters": SIZES[config.encoder], "n_pretrain_ecgs": config.n_pretrain or 3187}
    bodies = dict(zip(NAMES, ({k: {"value": v} for k, v in counts.items()}, scores)))
    for name, metrics in bodies.items():
        place = folder / name
        place.mkdir(parents=True)
        body = {"metrics": metrics, "data": data, "captions": {}, "checks": []}
        (place / "metrics.json").write_text(json.dumps(body))
        (place / "config.json").write_text(json.dumps(config.to_dict() if name < "05" else {}))
    entries = [{"name": name, "status": "ok"} for name in bodies]
    (folder / "run.json").write_text(json.dumps({"notebooks": entries}))


def write_sweep(folder: Path, without=(), seeds=(None,), simulated=True, values=VALUES) -> Path:
    """The shipped demo sweep with VALUES, but for the points in `without`, which never ran."""
    listed = []
    for seed in seeds:
        for point in read_sweep(ROOT / "sweeps" / "esi_demo.yaml"):
            name = point.name + ("" if seed is None else f"-seed_{seed}")
            missing = point.name in without
            status = "not run" if missing else "ok"
            params = point.params | ({} if seed is None else {"SEED": seed})
            entry = {"own": point.own, "params": params, "seconds": 9}
            listed.append({"name": name, "status": status, **entry})
            if not missing:
                moved = tuple(v + 0.002 * (seed or 0) for v in values[point.name])
                write_run(folder / name, params, moved, simulated)
    body = {"sweep": "esi_demo", "notebooks": NAMES, "machine": "m", "started": "t"}
    (folder / "sweep.json").write_text(json.dumps(body | {"points": listed}))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"))


def axis_values(ax) -> list[float]:
    """Heights of the bars of a panel, from the top."""
    bars = sorted(ax.patches, key=lambda bar: -bar.get_y())
    return [round(bar.get_x() + bar.get_width(), 6) for bar in bars]


def line_values(ax) -> list[float]:
    return [line for line in ax.lines if line.get_marker() == "o"][0].get_ydata().tolist()


# --- figures --------------------------------------------------------------------------------------


def test_every_figure_shows_the_numbers_of_its_points(whole):
    drawn = {n: f for n, (f, _) in esi_ablations.figures(read_points(whole)).items()}
    assert all(isinstance(figure, Figure) for figure in drawn.values())
    parts, encoders, sources = (
        drawn[n].axes for n in ("table5_parts", "table5_encoders", "table6_sources")
    )
    assert axis_values(parts[0]) == [0.93, 0.91, 0.915, 0.85, 0.78]
    assert axis_values(parts[1]) == [0.92, 0.90, 0.905, 0.87, 0.7]
    labels = [t.get_text() for t in encoders[0].get_yticklabels()]
    assert labels == ["small_xresnet\n160 k", "small\n400 k", "small_vit\n600 k", "atto\n3.2 M"]
    assert axis_values(encoders[0]) == [0.93, 0.945, 0.895, 0.95]
    assert [t.get_text() for t in sources[0].get_yticklabels()] == [
        "the cohort alone", "all: with chapman, mimic", "mimic only",
    ]  # fmt: skip
    assert axis_values(sources[0]) == [0.93, 0.94, 0.91]
    lines = ("fig5_amount", "fig6_mmd", "fig7_shuffled")
    amount, shift, shuffled = (drawn[n].axes[0] for n in lines)
    assert line_values(amount) == [0.78, 0.83, 0.89, 0.93]
    assert [t.get_text() for t in amount.get_xticklabels()] == ["0", "200", "800", "all\n(3,187)"]
    assert line_values(shift) == [0.01, 0.006, 0.002, 0.0004]
    assert line_values(shuffled) == [0.93, 0.91, 0.87, 0.80, 0.74]
    dashed = [line for line in shuffled.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [0.78]  # the random start


def test_figures_and_captions_say_that_the_data_are_simulated(whole, tmp_path):
    real = write_sweep(tmp_path, without=["small_vit"], simulated=False)
    for simulated, folder in ((True, whole), (False, real)):
        for figure, caption in esi_ablations.figures(read_points(folder)).values():
            assert ("imulated" in caption) == simulated
            assert ("imulated" in figure.get_suptitle()) == simulated
            assert "One seed" in caption


def test_missing_points_leave_a_gap_and_are_named(tmp_path):
    gone = ("no_cqa", "pretrain_800", "untrained", "shuffled_50", "small_vit")
    write_sweep(tmp_path, without=gone)
    captions = esi_ablations.save_figures(tmp_path)
    assert set(captions) == {p.stem for p in (tmp_path / "figures").glob("*.png")}
    assert "Not there: no_cqa, small_vit, untrained, pretrain_800, shuffled_50." in captions[
        "table5_parts"
    ]
    study = esi_ablations.study_of(read_points(tmp_path))
    figure, _ = esi_ablations.plot_parts(study)
    assert "not run" in [t.get_text() for t in figure.axes[0].texts]
    assert not esi_ablations.untrained(study).known
    ax = esi_ablations.plot_shuffled(study)[0].axes[0]
    assert np.isnan(line_values(ax)[2])
    assert [t.get_text() for t in ax.get_xticklabels()][2] == "50%\nnot run"


def test_no_point_at_all_draws_empty_figures(tmp_path):
    write_sweep(tmp_path, without=VALUES)
    assert len(esi_ablations.save_figures(tmp_path)) == len(esi_ablations.PLOTS)
    assert set(esi_ordering.ordering_of(tmp_path)["Verdict"]) == {"not run"}
    with pytest.raises(DataError, match="holds no run"):
        read_points(tmp_path / "figures")


def test_a_failed_notebook_gives_no_number_even_where_an_old_one_left_some(tmp_path):
    write_sweep(tmp_path)
    record = {"notebooks": [{"name": "05_esi_evaluation", "status": "failed"}]}
    (tmp_path / "no_cqa" / "run.json").write_text(json.dumps(record))
    study = esi_ablations.study_of(read_points(tmp_path))
    assert not study.measure("linear_probe_macro_auc", cqa=False).known
    assert study.measure("linear_probe_macro_auc").value == 0.93


def test_run_folders_alone_are_enough(tmp_path):
    write_sweep(tmp_path)
    (tmp_path / "sweep.json").unlink()
    assert len(read_points(tmp_path)) == len(VALUES)


def test_several_seeds_become_mean_and_sd(tmp_path):
    write_sweep(tmp_path, seeds=(0, 1, 2))
    study = esi_ablations.study_of(read_points(tmp_path))
    found = study.measure("linear_probe_macro_auc", contrastive_weight=0.0)
    assert found.n_seeds == 3 and found.value == pytest.approx(0.852)
    assert found.half == pytest.approx(np.std([0.85, 0.852, 0.854], ddof=1))
    assert esi_ablations.note(study).startswith("Mean and sd over 3 seeds")
    assert line_values(esi_ablations.plot_amount(study)[0].axes[0])[-1] == pytest.approx(0.932)


def test_shuffled_runs_on_a_subset_are_compared_with_that_subset():
    def point(name, probe, **config):
        base = {"n_pretrain": 0, "shuffled_share": 0.0, "encoder": "tiny", "seed": 0}
        row = {"linear_probe_macro_auc": {"value": probe}}
        return SweepPoint(name, "ok", base | config, row)

    study = Study(
        [point("full", 0.9), point("other", 0.7, encoder="base"),
         point("part", 0.8, n_pretrain=100),
         point("half", 0.6, n_pretrain=100, shuffled_share=0.5)],
        ("n_pretrain", "shuffled_share", "encoder"),
    )  # fmt: skip
    shares, groups = esi_ablations.shuffles(study)
    assert shares == [0.0, 0.5]
    assert [number(g, "linear_probe_macro_auc").value for g in groups] == [0.8, 0.6]


# --- orderings ------------------------------------------------------------------------------------


def test_the_papers_order_shows_where_it_is_there(whole):
    table = esi_ordering.ordering_of(whole).set_index("Claim of the paper")
    assert list(table["Verdict"].unique()) == ["shows", "same sign, within the noise"]
    most = table.loc["The contrastive loss matters most (probe)"]
    assert most["Here"] == "0.910 against 0.850" and most["Difference"] == "+0.060 ± 0.011"
    assert table.loc["Shuffled pairs hurt (none against the most)", "Here"] == "0.930 against 0.740"
    assert table.loc["All sources beat one alone (zero-shot)", "Verdict"] == "shows"
    assert table.loc["A larger ConvNeXt beats a smaller one (probe)", "Here"] == (
        "0.950 against 0.945"
    )


def test_another_order_is_said_plainly(tmp_path):
    values = VALUES | {
        "no_contrastive_loss": (0.95, 0.9, 0), "no_cqa": (0.931, 0.9, 0),
        "no_caption_loss": (0.929, 0.9, 0), "untrained": (0.70, 0.6, 0),
    }  # fmt: skip
    table = esi_ordering.ordering_of(write_sweep(tmp_path, values=values))
    said = dict(zip(table["Claim of the paper"], table["Verdict"]))
    assert said["Without the contrastive loss the probe is worse"] == "the opposite"
    assert said["Without CQA the probe is worse"] == "does not show"
    assert said["Without the caption loss the probe is worse"] == "same sign, within the noise"
    assert said["Enough shuffled pairs are worse than a random start"] == "the opposite"


def test_a_verdict_needs_more_than_the_noise():
    wide, narrow = Number(0.9, 0.8, 1.0, 1), Number(0.85, 0.84, 0.86, 1)
    assert esi_ordering.verdict(wide, narrow) == "same sign, within the noise"
    assert esi_ordering.verdict(Number(0.9, 0.89, 0.91, 1), narrow) == "shows"
    assert esi_ordering.verdict(narrow, Number(0.9, 0.89, 0.91, 1)) == "the opposite"
    assert esi_ordering.verdict(Number(), narrow) == "not run"


def test_the_page_lists_points_figures_and_verdicts(whole):
    captions = esi_ablations.save_figures(whole)
    table = esi_ordering.ordering_of(whole)
    page = sweep_page.build_page(whole, captions, table).read_text()
    for word in ("Simulated data", "CONTRASTIVE_WEIGHT=0", "figures/fig7_shuffled.png", "shows",
                 "not for diagnosis", "0.850 [0.842, 0.858]"):  # fmt: skip
        assert word in page, word
    assert "href='full/" not in page  # this stand-in left no page of its own
