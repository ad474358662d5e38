"""The measured effects of the discrepancy ledger: its words are those benchmarks/
discrepancy_effects.py returns. The quick ones are measured again here.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ecgkit.reports.discrepancies import DISCREPANCIES
from ecgkit.reports.discrepancies_base import UNMEASURED

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import discrepancy_data  # noqa: E402
import discrepancy_ecgqa  # noqa: E402
import discrepancy_effects as effects  # noqa: E402
import discrepancy_esi  # noqa: E402
import discrepancy_fewshot  # noqa: E402
from discrepancy_fewshot import sentence_bleu  # noqa: E402

LEDGER = {d.id: d.effect for d in DISCREPANCIES}
BY_ARITHMETIC = ("ckpt_eval", "esi_pairing", "esi_technical", "few_bleu",
                 "few_mapper_ignored", "risk_cv_sd")  # fmt: skip


def test_each_function_is_named_after_a_row_whose_effect_is_known():
    assert effects.EFFECTS.keys() <= LEDGER.keys()
    for name, effect in effects.EFFECTS.items():
        assert effect.__name__ == name
        assert LEDGER[name] != UNMEASURED, f"{name}: write the script's words into the ledger"


@pytest.mark.parametrize("name", BY_ARITHMETIC)
def test_the_ledger_says_what_arithmetic_gives(name):
    assert effects.EFFECTS[name]() == LEDGER[name]


@pytest.mark.parametrize("name", ["risk_masked_target", "risk_mask_floor"])
def test_the_ledger_says_what_real_strips_give(name, shared):
    assert effects.EFFECTS[name]() == LEDGER[name]


def test_unfreezing_trains_what_the_ledger_says():
    if importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed (pip install ecgkit[lora])")
    assert discrepancy_fewshot.few_frozen_flags() == LEDGER["few_frozen_flags"]


def test_main_ends_with_json_of_the_rows_asked_for(capsys, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["discrepancy_effects.py", "few_bleu"])
    effects.main()
    torch.set_num_threads(threads)
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"few_bleu: {LEDGER['few_bleu']}"
    assert json.loads(last) == {"few_bleu": LEDGER["few_bleu"]}


def test_main_refuses_an_id_without_an_effect(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["discrepancy_effects.py", "esi_evaluation"])
    with pytest.raises(SystemExit):
        effects.main()
    assert "no effect of esi_evaluation" in capsys.readouterr().err


# --- parts ----------------------------------------------------------------------------------------


def test_sentence_bleu_by_hand():
    """Worked out from the definition: clipped counts, 0.1 for none, brevity penalty."""
    assert sentence_bleu(["yes"], ["yes"]) == pytest.approx(0.1**0.75)
    same = sentence_bleu("a b c d e".split(), "a b c d e".split())
    assert same == pytest.approx(1)
    assert sentence_bleu("a a".split(), "a b".split()) == pytest.approx(
        (1 / 2 * 0.1 / 1 * 0.1 * 0.1) ** 0.25
    )
    short = sentence_bleu("a b c d".split(), "a b c d e".split())
    assert short == pytest.approx(np.exp(1 - 5 / 4))


@pytest.mark.parametrize("n_workers", [1, 2, 8])
def test_answers_come_once_each_and_in_order_from_one_worker(n_workers):
    order = discrepancy_esi.completion_order(200, n_workers, np.random.default_rng(3))
    assert sorted(order) == list(range(200))
    assert (order == np.arange(200)).all() == (n_workers == 1)


def test_apart_is_the_difference_of_two_rows():
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).double()
    pairs = [(x[i] - x[j]).pow(2).mean() for i in range(7) for j in range(i)]
    assert discrepancy_data.apart(x) == pytest.approx(float(torch.stack(pairs).mean().sqrt()))


def test_the_windows_differ_by_one_token():
    """Moved by one, the window leaves the separator out and takes the last token in."""
    model = SimpleNamespace(proj=lambda pooled: pooled)
    x = torch.arange(1.0, 10.0)[None, :, None]  # tokens 1-3 | separator 4 | 5-7 | words 8-9
    parts = {"first": slice(0, 3), "second": slice(3, 6), "text": slice(7, 9)}
    out = {"x": x, "padding_mask": torch.zeros(1, 9, dtype=torch.bool), "parts": parts}
    assert discrepancy_ecgqa.logits_by_window(model, out, 0).tolist() == [[2, 5, 8.5]]
    assert discrepancy_ecgqa.logits_by_window(model, out, 1).tolist() == [[2, 6, 8.5]]
