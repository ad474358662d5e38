"""Processor time from a change of a control to the new picture, for each interactive part.

Every part is built on a preset's simulated cohort with untrained networks of its sizes, whose work
is that of trained ones, and its controls are changed as a browser would change them.

Usage: OMP_NUM_THREADS=1 python benchmarks/widgets.py [--preset demo] [--n 20] [--only "what if"]
Prints a table (first change, median, worst, in ms of processor time of this process) and as its
last line JSON {name: median_ms}. Exits with 1 where a median is above 200 ms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from ecgkit import runtime
from ecgkit.config import (
    BaselinesConfig,
    EsiConfig,
    EsiEvalConfig,
    FewShotConfig,
    KitConfig,
    RiskConfig,
)
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions

LIMIT_MS = 200
ALLOWED = "updates within 200 ms on 2 cores"
Changes = Iterator[Callable[[], None]]


def put(control, value) -> Callable[[], None]:
    """A change of one control, to be made later."""
    return lambda: setattr(control, "value", value)


# --- the six --------------------------------------------------------------------------------------


def record_browser(cohort, preset: str) -> Changes:
    """Statements, records, filters, leads in turn, beside the questions."""
    from ecgkit.reports.record_widget import RecordBrowser

    config = BaselinesConfig.from_params({"preset": preset})
    browser = RecordBrowser(cohort, range(len(cohort)), open_questions(config, cohort, quiet=True))
    codes = itertools.cycle(code for _, code in browser.statement.options)
    filters = itertools.cycle(["highpass", "bandpass", "powerline", "none"])
    leads = itertools.cycle(browser.leads.values())
    while True:
        yield browser.on.click
        yield put(browser.filter, next(filters))
        box = next(leads)
        yield put(box, not box.value)
        yield put(browser.statement, next(codes))


def simulator(cohort, preset: str) -> Changes:
    """Each knob in turn."""
    from ecgkit.reports.simulator_widget import KNOBS, START, SimulatorBench

    bench, rng = SimulatorBench("SR", 3, dict(START)), np.random.default_rng(0)
    for name in itertools.cycle(KNOBS):
        _, low, high, step, _ = KNOBS[name]
        yield put(bench.sliders[name], low + step * int(rng.integers((high - low) / step)))


def attention_explorer(cohort, preset: str) -> Changes:
    """Layer, head, lead, weighing, question in turn."""
    from ecgkit.reports.attention_widget import AttentionExplorer
    from ecgkit.tasks import attention_maps, baselines_qa

    config = BaselinesConfig.from_params({"preset": preset})
    data = baselines_qa.prepare(config, cohort, open_questions(config, cohort, quiet=True))
    model = baselines_qa.build_qa(config, data, "fusion").eval()
    test = data.questions.index("test")
    some = attention_maps.questions_to_show(data, test, test[0])
    maps = attention_maps.maps_of_questions(model, data, some, cohort)
    explorer = AttentionExplorer(maps)
    controls = (explorer.which, explorer.layer, explorer.head, explorer.lead, explorer.weigh)
    return _menus(*controls)


def zero_shot_scorer(cohort, preset: str) -> Changes:
    """Another record, another sentence."""
    from ecgkit.reports.scores_widget import ZeroShotScorer
    from ecgkit.tasks import esi_eval_study, esi_study

    config = EsiConfig.from_params({"preset": preset, "n_steps": 1})
    study = esi_study.prepare(config, cohort)
    evaluation = esi_eval_study.open_evaluation(EsiEvalConfig.from_params({"preset": preset}),
                                                cohort, study.model, study.tokenizer, config)
    scorer = ZeroShotScorer(cohort, evaluation.read_findings(), evaluation.read_sentence)
    for i in itertools.count():
        yield scorer.on.click
        yield put(scorer.sentence, f"The rhythm is irregular, and the rate is {60 + i} per minute.")


def ask(cohort, preset: str) -> Changes:
    """Another record, another question (the first of a kind adapts the mapper)."""
    from ecgkit.models.ecg_encoders import encoder_for, load_encoder, save_encoder
    from ecgkit.models.prefix_llm import PrefixLLM
    from ecgkit.models.prefix_mapper import build_mapper
    from ecgkit.models.small_llm import build_small_llm, train_tokenizer
    from ecgkit.reports.fewshot_widget import AskWidget
    from ecgkit.tasks import ecg_features
    from ecgkit.tasks.fewshot_files import load_fewshot, save_fewshot

    config = FewShotConfig.from_params({"preset": preset})
    questions = open_questions(config, cohort, quiet=True)
    texts = [f"Question: {q} ECG: Answer: yes no" for q in questions.table["question"].unique()]
    tokenizer = train_tokenizer(texts, 400)
    llm = build_small_llm(len(tokenizer), config.llm_width, config.llm_layers, config.llm_heads)
    reader, folder = PrefixLLM(llm, tokenizer), Path(tempfile.mkdtemp(prefix="widgets_"))
    encoder = EsiConfig.from_params({"preset": preset}).encoder
    save_encoder(encoder_for(encoder), folder / "encoder", fs=100, input="esi_preprocess")
    features = ecg_features.encoder_features(load_encoder(folder / "encoder"), cohort, device="cpu")
    mapper = build_mapper("attention", features.shape[1], reader.width, config.n_prefix,
                          config.mapper_heads).eval()  # fmt: skip
    save_fewshot(folder / "ask", mapper, reader, features, questions, cohort, config,
                 folder / "encoder")  # fmt: skip
    answerer = load_fewshot(folder / "ask")
    known = [kind.wordings[0] for kind in answerer.kinds if kind.rows]
    widget = AskWidget(answerer, cohort, list(cohort.rows("test")), known)
    return _menus(widget.menu, widget.question, values={widget.question: known})


def what_if(cohort, preset: str) -> Changes:
    """Another patient (always a first visit), then a change or two of his beat."""
    from ecgkit.data.outcomes import open_outcomes
    from ecgkit.reports.risk_widget import WhatIf, report_of
    from ecgkit.tasks import risk, risk_files
    from ecgkit.text.reports import embed_reports, stand_in_embedder

    config = RiskConfig.from_params({"preset": preset})
    outcomes = open_outcomes(config, cohort)
    codes = cohort.table["scp_codes"].iloc[outcomes.table["row"]]
    book = embed_reports(codes, cohort.statements, stand_in_embedder(16), "seed")
    study = risk.prepare(config, cohort, outcomes, book)
    scorer = risk_files.scorer_of(risk.RiskModel(study.network, config.head_units).eval(), study,
                                  cohort)  # fmt: skip
    rows = [int(row) for row in outcomes.table["row"]]
    widget = WhatIf(scorer, cohort, rows, lambda row: report_of(cohort, row))
    boxes = itertools.cycle(widget.silent.values())
    while True:
        yield widget.on.click
        box = next(boxes)
        yield put(box, not box.value)
        yield put(widget.shift, (widget.shift.value + 110) % 200 // 10 * 10 - 100)


def _menus(*controls, values: dict = {}) -> Changes:  # noqa: B006, read only
    """Each control in turn to the next of its choices."""
    turns = {
        control: itertools.cycle(
            values.get(control) or [value for _, value in _options(control)][1:]
            + [_options(control)[0][1]]
        )
        for control in controls
    }
    for control in itertools.cycle(controls):
        yield put(control, next(turns[control]))


def _options(control) -> list[tuple]:
    return [one if isinstance(one, tuple) else (one, one) for one in control.options]


PARTS = {
    "record browser": record_browser, "simulator": simulator,
    "attention explorer": attention_explorer, "zero-shot scorer": zero_shot_scorer,
    "ask this ECG": ask, "what if": what_if,
}  # fmt: skip


# --- timing ---------------------------------------------------------------------------------------


def time_part(changes: Changes, n: int) -> list[float]:
    """Processor time in ms of each of `n` changes; building the part is not among them."""
    times = []
    for change in itertools.islice(changes, n):
        start = time.process_time()
        change()
        times.append(1000 * (time.process_time() - start))
    return times


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--preset", default="tiny", choices=("tiny", "demo"))
    arguments.add_argument("--n", type=int, default=24, help="changes of each part")
    arguments.add_argument("--only", default="", help="names that hold this alone")
    given = arguments.parse_args()
    torch.manual_seed(0)
    cohort = open_cohort(KitConfig.from_params({"preset": given.preset}), quiet=True)
    print(f"{runtime.cpu_model()}, torch threads {torch.get_num_threads()}, preset {given.preset}, "
          f"n = {given.n}; allowed: {ALLOWED}")  # fmt: skip
    print(f"{'':20}{'first':>8}{'median':>8}{'worst':>8}  ms")
    medians = {}
    for name, part in PARTS.items():
        if given.only in name:
            times = time_part(part(cohort, given.preset), given.n)
            medians[name] = round(float(np.median(times)), 1)
            print(f"{name:20}{times[0]:8.0f}{medians[name]:8.0f}{max(times):8.0f}", flush=True)
    print(json.dumps(medians))
    return int(any(value > LIMIT_MS for value in medians.values()))


if __name__ == "__main__":
    raise SystemExit(main())
