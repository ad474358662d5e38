"""Effects of the disagreements of ECG-QA: see `discrepancy_effects.py`.

Letters: B batch, C leads, T samples, P tokens, D width, H heads, K answers.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from discrepancy_data import (
    FUSION_STEPS,
    SEED,
    SMALL,
    answers_of,
    apart,
    excerpt,
    real,
    rms,
    simulated,
)

from ecgkit.config import BaselinesConfig
from ecgkit.features.ecg_fm_input import SEGMENT, ecg_fm_input
from ecgkit.models.checkpoint_sizes import conv_layers
from ecgkit.models.deaf_qa import DeafQA
from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerConfig, pool_tokens
from ecgkit.models.fusion_qa import FusionConfig, FusionQA
from ecgkit.models.losses_qa import answer_bce
from ecgkit.tasks import metrics, metrics_qa
from ecgkit.tasks.qa_data import prepare
from ecgkit.tasks.vl_pairs import draw_exchanges, half_exchanged, open_pairs
from ecgkit.text.masked_words import mask_words
from ecgkit.types import ModelError

# --- ECG-QA: models -------------------------------------------------------------------------------


@functools.cache
def small_fusion() -> SimpleNamespace:
    """A small fusion transformer under the published protocol, trained as published (all answers
    in the loss, published window) on pairs of simulated ECGs; `data`, and `test` positions.

    The question's padding mask is kept: its loss is another row's fault.
    """
    cohort, questions = simulated()
    config = BaselinesConfig.from_params({"preset": "demo", "cohort_seed": SEED})
    data = prepare(config, cohort, questions)
    pair = questions.table["row2"].to_numpy() >= 0
    train, test = (p[pair[p]] for p in (questions.index("train"), questions.index("test")))
    sizes = FusionConfig(**SMALL, protocol="reference", text_mask="kept",
                         vocab_size=len(data.tokenizer), max_text=config.max_text,
                         sep_id=data.tokenizer.sep_token_id)  # fmt: skip
    torch.manual_seed(0)
    model, rng = FusionQA(sizes, len(questions.classes)), np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(FUSION_STEPS):
        batch = data.batch(rng.choice(train, 32, replace=False))
        loss = answer_bce(answer_pairs(model, batch)["logits"], batch["labels"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return SimpleNamespace(model=model.eval(), data=data, test=test)


def answer_pairs(model, batch: dict) -> dict:
    mask = batch["text_padding_mask"]
    return model(batch["ecg"], batch["text"], batch["ecg_2"], text_padding_mask=mask)


def logits_by_window(model: FusionQA, out: dict, later: int) -> torch.Tensor:
    """Logits with the second ECG's window moved by `later` tokens, all else as published."""
    x, mask, second = out["x"], out["padding_mask"], out["parts"]["second"]
    moved = slice(second.start + later, second.stop + later)
    parts = {**out["parts"], "second": moved}.values()
    pooled = [pool_tokens(x[:, part], mask[:, part], "reference") for part in parts]
    return model.proj(torch.cat(pooled, dim=-1))


@functools.cache
def pair_answers() -> SimpleNamespace:
    """Both windows' logits (n, K) of the test questions, with labels and valid classes."""
    trained, parts = small_fusion(), []
    for start in range(0, len(trained.test), 64):
        batch = trained.data.batch(trained.test[start : start + 64])
        with torch.no_grad():
            out = answer_pairs(trained.model, batch)
            logits = [logits_by_window(trained.model, out, later) for later in (0, 1)]
        parts.append((*logits, batch["labels"], batch["valid"]))
    names = ("published", "mended", "labels", "valid")
    return SimpleNamespace(**dict(zip(names, map(torch.cat, zip(*parts)))))


def qa_second_window() -> str:
    found = pair_answers()
    gap = (found.published - found.mended).abs()[found.valid]
    best = [x.masked_fill(~found.valid, -1e9).argmax(1) for x in (found.published, found.mended)]
    said = [(x > 0) & found.valid for x in (found.published, found.mended)]
    return (
        f"small network after {FUSION_STEPS} steps, {len(best[0]):,} test pairs, simulated: logits "
        f"move by {gap.max():.3f} at most, {gap.mean():.3f} on average (their SD "
        f"{found.published.std():.2f}); "
        f"{100 * (best[0] != best[1]).float().mean():.2f} % of likeliest answers and "
        f"{100 * (said[0] != said[1]).any(1).float().mean():.1f} % of answer sets change"
    )


@torch.no_grad()
def qa_deaf_window_twice() -> str:
    cohort, _ = simulated()
    ecg = torch.from_numpy(cohort.store.read(np.arange(2)))  # (2, C, T)
    padding = torch.zeros(2, ecg.shape[-1], dtype=torch.bool)
    padding[1, ecg.shape[-1] // 2 :] = True
    gaps, spread = [], []
    for seed in range(20):
        torch.manual_seed(seed)
        model = DeafQA(ECGTransformerConfig(**SMALL, protocol="reference"), 20).eval()
        out = model(ecg, ecg_padding_mask=padding)
        whole = pool_tokens(out["x"], None, "reference")
        mended = model.proj(torch.cat([whole, torch.zeros_like(whole)], dim=-1))
        gaps.append(float((out["logits"] - mended).abs().max()))
        spread.append(float(mended.std()))
    size = ECGTransformerConfig()
    window = [size.n_tokens(size.n_tokens(10 * fs)) for fs in (100, 500)]
    return (
        f"never met with ECGs of one length; beside a padded one the window shrinks to {window[0]} "
        f"of {size.n_tokens(1000)} tokens (100 Hz), {window[1]} of {size.n_tokens(5000)} (500 Hz): "
        f"largest logit change, mean of 20 seeds, {np.mean(gaps):.2f} (SD of the logits "
        f"{np.mean(spread):.2f})"
    )


def qa_vl_wrong_report_words() -> str:
    config = BaselinesConfig.from_params({"preset": "demo", "cohort_seed": SEED})
    pairs = open_pairs(config, simulated()[0])
    rng, train = np.random.default_rng(0), pairs.index("train")
    words = np.zeros(3)  # all, labelled as mismatched, of another ECG's report
    for _ in range(200):
        i = rng.choice(train, config.vl_batch, replace=False)
        exchanges = draw_exchanges(pairs.wording[i], pairs.content[i], rng,
                                   config.vl_mismatch_share)  # fmt: skip
        shown = half_exchanged(exchanges, len(i))
        ids, padding = pairs.tokens.read(i[shown])
        targets = mask_words(ids, padding, pairs.words, rng, config.vl_mlm_share)[1]
        hidden = (targets >= 0).sum(1)
        labelled = np.isin(np.arange(len(i)), exchanges)
        words += hidden.sum(), hidden[labelled].sum(), hidden[shown != np.arange(len(i))].sum()
    share = 100 * words[1:] / words[0]
    return (
        f"200 batches of the development cohort: {share[0]:.0f} % of the hidden words stand in "
        f"pairs labelled as mismatched, {share[1]:.0f} % in another ECG's report (MedViLL, whose "
        "exchange reaches one of two); of M3AE, which exchanges nothing, 0 %"
    )


# --- ECG-QA: files and input ----------------------------------------------------------------------

NOTATIONS = {
    "[(256, 2, 2)] * 4": ((256, 2, 2),) * 4,
    "[(256,2,2)]*4": ((256, 2, 2),) * 4,
    "[(512, 10, 5)] + [(512, 3, 2)] * 4": ((512, 10, 5), *((512, 3, 2),) * 4),
    "[(32, 2, 2), (64, 3, 2)]": ((32, 2, 2), (64, 3, 2)),
}
# Harmless, but each is more than numbers: eval would call a function or look something up.
EXPRESSIONS = ("__import__('os').getcwd()", "[(sum(range(16)), 2, 2)]", "print('run')",
               "[(256, 2, 2)] * len('four')", "(lambda: [(256, 2, 2)])()", "[].append(1)",
               "open('/dev/null').read()", "().__class__.__bases__")  # fmt: skip


def ckpt_eval() -> str:
    same = sum(conv_layers(text) == layers for text, layers in NOTATIONS.items())
    refused = 0
    for text in EXPRESSIONS:
        try:
            conv_layers(text)
        except ModelError:
            refused += 1
    return (
        f"eval would run any expression: {refused} of {len(EXPRESSIONS)} that are more than "
        f"numbers are refused in a sentence; {same} of {len(NOTATIONS)} plain notations give their "
        "layers"
    )


@torch.no_grad()
def ecgfm_scale() -> str:
    signal = real(500).store.read(np.arange(400))[:, :, : 2 * SEGMENT]  # (B, C, T)
    sd = signal.std(-1)
    some = signal[:: len(signal) // 60][:60]
    torch.manual_seed(0)
    sizes = SMALL | dict(dim=128, ffn_dim=256, conv_layers=((64, 2, 2),) * 4)
    model = ECGTransformer(ECGTransformerConfig(**sizes)).eval()
    raw = torch.cat([model(x)["pooled"] for x in torch.from_numpy(some).split(10)])
    scored = torch.from_numpy(ecg_fm_input(some, 500)[:, 0])
    scored = torch.cat([model(x)["pooled"] for x in scored.split(10)])
    nearest = F.normalize(scored - raw.mean(0), dim=1) @ F.normalize(raw - raw.mean(0), dim=1).T
    own = (nearest.argmax(1) == torch.arange(len(some))).float().mean()
    ratio = np.median(sd.max(1) / sd.min(1).clip(1e-3))
    shift = rms(scored - raw) / apart(raw)
    return (
        f"400 real ECGs: a lead's SD is {np.median(sd):.2f} mV in place of 1, and an ECG's loudest "
        f"lead has {ratio:.1f} times that of its quietest (medians); small random encoder, 60 of "
        f"them: features move by {shift:.2f} of what two ECGs differ by, {100 * own:.0f} % stay "
        "nearest to their own ECG"
    )


# --- ECG-QA: answers ------------------------------------------------------------------------------


def qa_empty_valid() -> str:
    n_empty = n_in = 0
    for variant in ("ptbxl", "mimic-iv-ecg"):
        _, valid = answers_of(*excerpt(variant))
        n_empty, n_in = n_empty + int((~valid.any(1)).sum()), n_in + len(valid)
    _, questions = simulated()
    made = len(metrics_qa.unanswerable(questions, np.arange(len(questions))))
    nothing = np.zeros((1, 3))
    hit = metrics.exact_match(np.ones((1, 3)), nothing, nothing)[0]
    return (
        f"{n_empty} of {n_in:,} questions of the real excerpt, {made} of {len(questions):,} of the "
        f"development cohort; arithmetic: one such question scores {int(hit)} whatever is "
        "predicted, so a share p of them adds p times (1 - exact match)"
    )


def qa_loss() -> str:
    right, valid = answers_of(*excerpt())
    found = pair_answers()
    loss = F.binary_cross_entropy_with_logits(found.published, found.labels, reduction="none")
    pairs = (~found.valid).float().mean()
    share = (loss * ~found.valid).sum() / loss.sum()
    return (
        f"{100 * (~valid).mean():.1f} % of the (question, answer) pairs of the real excerpt are "
        f"invalid, {(right & ~valid).sum()} of them right; small network, questions about two "
        f"simulated ECGs: {100 * pairs:.0f} % of the pairs, {100 * share:.1f} % of the loss after "
        f"{FUSION_STEPS} steps"
    )


EFFECTS = (
    qa_second_window, qa_deaf_window_twice, qa_vl_wrong_report_words, ckpt_eval, ecgfm_scale,
    qa_empty_valid, qa_loss,
)
