"""Meta-trains the mapper between a frozen encoder and a frozen language model, by any METHOD.

A mapper turns an ECG embedding into soft tokens the language model reads. Meta-training finds
mapper weights from which a few gradient steps on a handful of examples answer questions about an
attribute that never stood in meta-training.
Source: Tang et al., CHIL 2025; Finn et al., ICML 2017; what each method does: `meta_methods`.

Beside the engine's files, the folder gets flagged.csv: training key and number of every episode
left out because its loss was not finite. In the engine's model.safetensors the mapper's weights
begin with "mapper.", those of LoRA, where there is one, with "lora.".

Usage:

    mapper, log = meta_train(task, parts.train, config, folder, fingerprint)
    log.table[["step", "loss", "exact", "flagged"]]        # flagged: share of episodes left out
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from ecgkit import runtime
from ecgkit.config.fewshot import QUIRKS
from ecgkit.models.lora import add_lora, lora_parameters
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.published_mapper import load_mapper
from ecgkit.tasks import meta_memory
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.tasks.meta_methods import METHODS, METHODS_WITH_LORA
from ecgkit.tasks.training_files import training_key
from ecgkit.tasks.training_parts import is_out_of_memory
from ecgkit.types import ConfigError, ModelError

# What else decides the outcome, should the caller's fingerprint not say so.
_DECISIVE = ("method", "mapper", "mapper_dropout", "n_prefix", "inner_lr", "inner_steps",
             "outer_from", "frozen_lm", "lora_rank")  # fmt: skip
COLUMNS = ("step", "loss", "support_loss", "flagged", "lr", "seconds")


def meta_train(
    task: FewShotTask, sampler, config, folder, fingerprint: str = "", n_steps: int | None = None,
    time_budget_s: float | None = None, checkpoint_every: int = 100,
) -> tuple[nn.Module, TrainLog]:  # fmt: skip
    """Returns the mapper, in eval mode, and the log of its training; every outer step meets fresh
    episodes of `sampler`.

    Resumes from `folder`. With METHOD=none, or MAPPER_FROM given, nothing is trained and the log is
    empty. Raises ConfigError where METHOD cannot train LoRA, ModelError where all episodes that
    a process meets in a step are not finite, and when memory runs out, naming what to lower.
    """
    mapper = new_mapper(task, config)
    if config.method == "none" or config.mapper_from:
        return mapper.eval(), empty_log(task)
    learner = MetaLearner(task, mapper, config)
    settings = train_settings(config, n_steps, time_budget_s, checkpoint_every)
    n_episodes = settings.n_steps * settings.batch_size
    decisive = [task.protocol, *sorted(quirks_of(task)), *(getattr(config, d) for d in _DECISIVE)]
    key = " ".join(map(str, (fingerprint, *decisive)))
    flags = FlaggedEpisodes(folder, training_key(learner, n_episodes, settings, key))
    memory = meta_memory.estimate(task, mapper, config)
    feed = _Feed(task, sampler, memory)

    def loss_fn(model, batch):
        numbers = batch.pop("number")
        out = model(batch)
        finite = out.pop("finite")
        flags.add(numbers[~finite].tolist())
        return {**out, "flagged": (~finite).float().mean()}

    try:
        log = fit(
            learner, n_episodes, feed, loss_fn, settings, folder, fingerprint=key,
            names=lambda indices: [f"episode {i}" for i in indices],
        )  # fmt: skip
    except (ModelError, RuntimeError) as error:
        if not is_out_of_memory(error.__cause__ or error):
            raise
        raise meta_memory.out_of_memory(task, mapper, config) from error
    return mapper.eval(), log


class MetaLearner(nn.Module):
    """What the outer loop trains, as one module, so that several processes share its gradients.

    forward(positions: "support" (T, S), "query" (T, Q)) -> "loss", scores and "finite" (T,).
    """

    def __init__(self, task: FewShotTask, mapper: nn.Module, config):
        super().__init__()
        self.task, self.mapper, self.config = task, mapper, config
        if not config.frozen_lm:
            self.lora = nn.ParameterDict(
                {name.replace(".", "/"): p for name, p in open_lora(task, config).items()}
            )

    def forward(self, positions: dict[str, Tensor]) -> dict[str, Tensor]:
        return meta_loss(self.task, self.mapper, positions, self.config)


def meta_loss(
    task: FewShotTask, mapper: nn.Module, positions: dict[str, Tensor], config
) -> dict[str, Tensor]:
    """The outer loss of `config.method`, its gradient attached, and the score of the query."""
    return METHODS[config.method](task, mapper, positions, config)


# --- what goes in ---------------------------------------------------------------------------------


def new_mapper(task: FewShotTask, config) -> nn.Module:
    """The mapper training starts from: drawn with `config.seed`, or the one MAPPER_FROM names.

    Quirks of the released code: whatever MAPPER says it is the attention mapper, and its dropout of
    0.5 is never switched off.
    """
    width, llm_width = task.features.shape[1], task.reader.width
    if config.mapper_from:
        return load_mapper(config.mapper_from, width, llm_width)
    quirks = quirks_of(task)
    live = "live_dropout" in quirks
    torch.manual_seed(config.seed)
    return build_mapper(
        "attention" if "mapper_ignored" in quirks else config.mapper, width, llm_width,
        config.n_prefix, config.mapper_heads, 0.5 if live else config.mapper_dropout,
        always_drop=live,
    )  # fmt: skip


def quirks_of(task: FewShotTask) -> frozenset[str]:
    """Faults of the released code this task repeats; all of them where it does not say."""
    known = getattr(task, "quirks", None)
    if known is None:
        return frozenset(QUIRKS if task.protocol == "reference" else ())
    return frozenset(known)


def open_lora(task: FewShotTask, config) -> dict[str, nn.Parameter]:
    """LoRA's matrices in the language model of `task`, added where there are none yet. Theirs is an
    addition of zero again, whatever an earlier training made of it.
    """
    if config.method not in METHODS_WITH_LORA:
        raise ConfigError(
            f"METHOD is {config.method} and FROZEN_LM False: LoRA is trained under METHOD "
            f"{', '.join(METHODS_WITH_LORA)} only; choose one of them, or FROZEN_LM=True."
        )
    llm = task.reader.llm
    if not lora_parameters(llm):
        add_lora(llm, config.lora_rank)
    found = lora_parameters(llm)
    for name, matrix in found.items():
        if "lora_B" in name:
            nn.init.zeros_(matrix.data)
        else:
            nn.init.kaiming_uniform_(matrix.data, a=5**0.5)
    return found


def train_settings(config, n_steps, time_budget_s, checkpoint_every) -> TrainSettings:
    """AdamW at a constant rate with weight decay 0.01 and gradient norm clipped at 1, as
    published."""
    n_steps = n_steps or config.meta_steps
    return TrainSettings(
        n_steps=n_steps,
        batch_size=config.tasks_per_step,
        lr=config.outer_lr,
        weight_decay=0.01,
        clip_norm=1.0,
        schedule="constant",
        warmup_fraction=0.0,
        log_every=max(1, n_steps // 40),
        checkpoint_every=checkpoint_every,
        time_budget_s=time_budget_s,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )


class _Feed:
    """Episodes by number -> positions. Before the first it says how much memory a step takes."""

    def __init__(self, task: FewShotTask, sampler, memory: meta_memory.Memory):
        self.task, self.sampler, self.memory = task, sampler, memory
        self.announced = False

    def __call__(self, indices, rng) -> dict[str, Tensor]:
        if not self.announced:
            self.announced = True
            _say(self.memory)
        positions = self.task.positions([self.sampler[int(i)] for i in indices])
        return {**positions, "number": torch.as_tensor(indices)}


def _say(text) -> None:
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(text)


# --- what comes out -------------------------------------------------------------------------------


class FlaggedEpisodes:
    """flagged.csv of a folder: (training, episode) of those left out, each once.

    Rows are only ever added: a run that resumes, or another process, writes to the same file. Those
    of this training bear the key that done.json bears.
    """

    def __init__(self, folder, training: str):
        self.path, self.training = Path(folder) / "flagged.csv", training
        self.known = set()
        if self.path.exists():
            table = pd.read_csv(self.path, dtype={"training": str})
            self.known = set(table.loc[table["training"] == training, "episode"])
        elif os.environ.get("RANK", "0") == "0":  # one process begins the file
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with runtime.replacing(self.path) as scratch:
                scratch.write_text("training,episode\n")

    def add(self, numbers: list[int]) -> None:
        fresh = [number for number in numbers if number not in self.known]
        if fresh:
            self.known.update(fresh)
            lines = (f"{self.training},{number}\n" for number in fresh)
            runtime.append(self.path, "".join(lines))


def empty_log(task: FewShotTask) -> TrainLog:
    """The log of no training: its columns without a row."""
    score = "tokens" if task.protocol == "reference" else "exact"
    return TrainLog(pd.DataFrame(columns=[*COLUMNS, score], dtype=float), True, 0.0)
