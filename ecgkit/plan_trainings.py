"""What a notebook trains, counted without training: models on the meta device, which has shapes and
no numbers.

One item is pushed through each model; torch counts its multiply-adds (2 operations each) and what
it keeps for the backward pass. Counted are the trainings that make up nearly all of a paper-sized
run; what is evaluated, drawn and read comes on top.

Usage:

    for training in trainings("04_esi_pretraining", config):
        print(training.name, training.operations, training.n_params)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ecgkit.config import KitConfig
from ecgkit.types import LEADS

# Words of an average question, caption and few-shot example, in tokens; the longest are longer.
QUESTION, CAPTION, EXAMPLE = 20, 120, 40
VOCABULARY = 30522  # of BERT, which the published text encoders share
STEP_S = 0.05  # assumed: a small network's step on a GPU is hardly ever quicker
CLASSES = 100  # answers or labels: ECG-QA has 103; what a head costs is nothing beside its body


@dataclass(frozen=True)
class Cost:
    """Of one model: `forward` operations per item, parameters, bytes kept per item for backward."""

    forward: float
    n_params: int
    kept: float


@dataclass(frozen=True)
class Training:
    """`batch` items a step, over all processes, in `accumulate` portions."""

    name: str
    n_steps: int
    batch: int
    cost: Cost
    accumulate: int = 1

    @property
    def operations(self) -> float:
        """Of the whole training: a backward pass costs two forward ones."""
        return 3 * self.cost.forward * self.n_steps * self.batch

    @property
    def n_params(self) -> int:
        return self.cost.n_params

    def hours(self, speed: float) -> float:
        """At `speed` operations a second; no step is quicker than its reading and its kernels'
        start.
        """
        return max(self.operations / speed, self.n_steps * STEP_S) / 3600

    def memory_bytes(self, n_gpus: int = 1, half: bool = False) -> float:
        """Weights, gradients and AdamW's two moments in fp32, and what a portion's items keep."""
        items = -(-self.batch // (n_gpus * self.accumulate))
        return 16 * self.n_params + items * self.cost.kept * (0.5 if half else 1)


def trainings(name: str, config: KitConfig, encoder: str = "") -> list[Training]:
    """What notebook `name` trains with these settings; [] for one that trains nothing.

    `encoder`: the one that notebook 05 is to evaluate ('' = the preset's).
    """
    plan = {
        "03_baselines": _baselines, "04_esi_pretraining": _esi,
        "05_esi_evaluation": partial(_evaluation, encoder=encoder),
        "06_few_shot_qa": _few_shot, "07_risk_finetuning": _risk,
    }  # fmt: skip
    found = plan[name](config) if name in plan else []
    return [training for training in found if training.n_steps]


# --- one function per notebook --------------------------------------------------------------------


def _baselines(c) -> list[Training]:
    from ecgkit.models.fusion_qa import BlindQA, FusionConfig, FusionQA
    from ecgkit.tasks.classifiers import build_classifier, transformer_config
    from ecgkit.tasks.qa_study import bounds_of

    ecg = (1, len(LEADS), c.n_samples)
    text = {"vocab_size": VOCABULARY, "max_text": c.max_text}
    sizes = transformer_config(c, FusionConfig, **text)
    fusion = cost(("fusion", sizes), lambda: FusionQA(sizes, CLASSES),
                  lambda m: m(torch.zeros(ecg), torch.zeros(1, QUESTION, dtype=torch.long)))
    blind = cost(("blind", sizes), lambda: BlindQA(sizes, CLASSES),
                 lambda m: m(torch.zeros(1, QUESTION, dtype=torch.long)))
    grid = len(c.lr_grid.split())
    search = grid * c.search_steps if grid > 1 else 0
    found = []
    for name in bounds_of(c):
        one = cost((name, c.hash()), lambda name=name: build_classifier(c, name, CLASSES),
                   lambda m: m(torch.zeros(ecg)))
        pretrained = name == "ecg_transformer"
        steps, batch = ((c.pretrain_steps, c.pretrain_batch) if pretrained
                        else (c.upper_steps, c.upper_batch))
        found.append(Training(name, steps, batch, one))
        if not pretrained:
            found.append(Training(f"{name} on grounding", c.grounding_steps, batch, one))
    kinds = [kind for kind in c.chosen_models() if kind not in bounds_of(c)]
    # Those without a count of their own are about as large as the fusion model.
    return found + [
        Training(kind, c.n_steps + search, c.batch_size, blind if kind == "blind" else fusion,
                 c.accumulate)
        for kind in kinds
    ]


def _esi(c) -> list[Training]:
    """The ECG side once and the text encoder twice (all words seen, and the earlier alone); the
    decoder, which packs words as they come, counts as another text encoder of its size.
    """
    from ecgkit.tasks.esi_study import build_model

    bert = _bert(768, 12) if c.text_encoder else _bert(c.text_width, c.text_layers)

    def ecg_and_text(model):
        words = torch.zeros(1, min(CAPTION, c.max_tokens), dtype=torch.long)
        model.img_encoder(torch.zeros(1, len(LEADS), c.n_samples))
        model.unimodal_layers(input_ids=words)

    both = cost(("esi", c.hash()), lambda: build_model(c, bert(), VOCABULARY), ecg_and_text)
    text = cost(("text", c.hash()), bert, lambda m: m(
        input_ids=torch.zeros(1, min(CAPTION, c.max_tokens), dtype=torch.long)))  # fmt: skip
    ecg = cost(("encoder", c.encoder, c.n_samples), *_encoder(c.encoder, c.n_samples))
    again = 1 + (both.n_params - text.n_params - ecg.n_params) / text.n_params
    one = Cost(both.forward + again * text.forward, both.n_params, both.kept + again * text.kept)
    return [Training("ESI", c.n_steps, c.batch_size, one)]


def _evaluation(c, encoder: str) -> list[Training]:
    """ESI's own encoder stands for the others, which are of its order."""
    from ecgkit.config import EsiConfig

    encoder = encoder or EsiConfig.from_params({"PRESET": c.preset}).encoder
    one = cost(("encoder", encoder, c.n_samples), *_encoder(encoder, c.n_samples))
    n_tasks = len((c.tasks or "").split())
    tuned, n_baselines = c.finetune_steps * n_tasks * c.n_seeds, len((c.baselines or "").split())
    return [
        Training("fine-tuning", tuned, c.finetune_batch, one),
        Training("other encoders", n_baselines * c.baseline_steps, c.finetune_batch, one),
    ]


def _few_shot(c) -> list[Training]:
    """Reading by the language model; of one from the hub the size is not known beforehand."""
    from ecgkit.models.small_llm import build_small_llm

    if c.llm:
        return []
    words = torch.zeros(1, EXAMPLE, dtype=torch.long)
    one = cost(
        ("small llm", c.llm_width, c.llm_layers),
        lambda: build_small_llm(4096, c.llm_width, c.llm_layers, c.llm_heads),
        lambda m: m(input_ids=words.to("meta")),
    )  # fmt: skip
    # An outer step is so many passes over the examples, one after the other; two kinds of episodes.
    passes, examples = c.inner_steps + 1, c.tasks_per_step * c.n_way * max(c.k_shot, c.n_query)
    return [
        Training("small language model", c.llm_steps, c.llm_batch, one),
        Training("meta-training", 2 * c.meta_steps * passes, examples, one),
    ]


def _risk(c) -> list[Training]:
    from ecgkit.models.dual_attention import DualAttentionAutoencoder, DualAttentionConfig

    n_samples = getattr(c, "input_samples", 0) or 1024
    sizes = DualAttentionConfig(
        n_samples=n_samples, n_leads=len(LEADS), base=c.base_features, code_width=c.code_width,
        n_down=c.n_down, stem=c.stem, lead_attention=c.lead_attention,
        time_attention=c.time_attention, dropout=c.dropout,
    )  # fmt: skip
    one = cost(("risk", sizes), lambda: DualAttentionAutoencoder(sizes),
               lambda m: m(torch.zeros(1, len(LEADS), n_samples)))
    return [
        Training("alignment", c.pretrain_steps, c.pretrain_batch, one),
        Training("risk", c.finetune_steps * c.test_folds, c.finetune_batch, one),
    ]


def _encoder(name: str, n_samples: int) -> tuple[Callable, Callable]:
    from ecgkit.models.ecg_encoders import encoder_for

    return lambda: encoder_for(name), lambda m: m(torch.zeros(1, len(LEADS), n_samples))


def _bert(width: int, n_layers: int) -> Callable:
    from transformers import BertConfig, BertModel

    return lambda: BertModel(BertConfig(
        hidden_size=width, num_hidden_layers=n_layers, num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
    ))  # fmt: skip


# --- counting -------------------------------------------------------------------------------------


def cost(key: tuple, build: Callable[[], nn.Module], call: Callable) -> Cost:
    """Counts `call(build())` on the meta device; the same key is counted once."""
    return _counted(_Once(key, build, call))


class _Once:
    """Compared by its key alone, so that the cache keeps one count per model."""

    def __init__(self, key, build, call):
        self.key, self.build, self.call = key, build, call

    def __hash__(self):
        return hash(self.key)

    def __eq__(self, other):
        return self.key == other.key


class _NoNumbers(TorchDispatchMode):
    """Where a model asks for a number ("is anything padded?") it is told 0."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            return 0
        return function(*args, **(kwargs or {}))


@cache
def _counted(model_of: _Once) -> Cost:
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"):
        model = model_of.build().eval()
        own = {p.untyped_storage()._cdata for p in model.parameters()}
        with _NoNumbers(), FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                model_of.call(model)
    n_bytes = sum(t.untyped_storage().nbytes() for k, t in kept.items() if k not in own)
    n_params = sum(p.numel() for p in model.parameters())
    return Cost(float(counter.get_total_flops()), n_params, float(n_bytes))
