"""Settings of notebook 06: mapper, language model, inner and outer loop; episodes and LLM modelling
have files of their own.
"""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import setting
from ecgkit.config.episodes import EpisodeSettings
from ecgkit.config.llm_qa import LlmQaSettings
from ecgkit.types import ConfigError

MAPPERS = ("attention", "mlp", "linear", "perceiver")
METHODS = ("maml", "maml2", "reptile", "anil", "supervised", "none", "in-context")
QUIRKS = (
    "question_blind", "oracle_length", "bos_scored", "with_replacement", "live_dropout",
    "shared_classes", "mapper_ignored", "untrained_mapper", "episodes_twice",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FewShotConfig(EpisodeSettings, LlmQaSettings):
    """Settings of notebook 06.

    Published flags: model_name = LLM, frozen_gpt = FROZEN_LM, prefix_length = N_PREFIX,
    mapper_type = MAPPER, seq_len = MAX_QUESTION, seq_len_a = MAX_ANSWER, update_lr = INNER_LR,
    update_step = INNER_STEPS, update_step_test = TEST_INNER_STEPS, meta_lr = OUTER_LR, task_num =
    TASKS_PER_STEP, batchsz_train = META_STEPS * TASKS_PER_STEP, batchsz_test = N_TEST_EPISODES.
    """

    quirks: str = setting(
        "under reference, which faults of the released code to repeat, blank-separated; 'all', or "
        "'none'; under sound always none", "all",
    )  # fmt: skip
    query_way: int = setting(
        "also single-query episodes with this many answers to one question; 0 = leave them out",
        tiny=2, demo=5, paper=5,
    )  # fmt: skip
    query_test_steps: int = setting(
        "inner steps at test of these; 0 = TEST_INNER_STEPS", tiny=0, demo=8, paper=0
    )
    n_query_episodes: int = setting(
        "test episodes of these; 0 = N_TEST_EPISODES", tiny=0, demo=32, paper=0
    )
    some_leads: str = setting(
        "leads of the comparison with fewer leads; '' = leave it out", "I II V2"
    )
    shots: str = setting("support sizes K of the comparison by K, blank-separated", "1 3 5")
    # --- mapper -----------------------------------------------------------------------------------
    encoder_from: str = setting(
        "frozen ECG encoder: '' = notebook 04 of this run; a folder that it wrote; or a published "
        "ESI, W2V + CMSC (+ RLM) or ECG-FM, file or hub id", "",
    )  # fmt: skip
    mapper: str = setting(
        "attention (published) | mlp | linear | perceiver", "attention", choices=MAPPERS
    )
    mapper_from: str = setting(
        "hub id, folder or file of a trained mapper, the authors' or the kit's; '' = train one", ""
    )
    n_prefix: int = setting("soft tokens an ECG becomes", 4)
    mapper_heads: int = setting("heads of the attention and perceiver mappers", 8)
    mapper_dropout: float = setting("dropout inside the mapper while training", demo=0.0, paper=0.5)
    # --- language model ---------------------------------------------------------------------------
    llm: str = setting(
        "hub id or folder of a causal language model; '' = a small Llama trained here", ""
    )
    llm_dtype: str = setting(
        "auto = bf16 on a GPU, fp32 on a CPU | float32 | bfloat16 | float16", "auto",
        choices=("auto", "float32", "bfloat16", "float16"),
    )  # fmt: skip
    llm_4bit: bool = setting("hold it in 4 bits (GPU only, pip install bitsandbytes)", False)
    frozen_lm: bool = setting("False = adapt it too, through LoRA (pip install ecgkit[lora])", True)
    lora_rank: int = setting("rank of LoRA", 8)
    prompt: str = setting(
        "1 'Question: .. Answer:' | 2 the bare question | 3 with a hint at choose answers "
        "(published numbers) | chat = the model's own chat template", "1",
        choices=("1", "2", "3", "chat"),
    )  # fmt: skip
    prefix_first: bool = setting(
        "the paper's order, soft tokens before the question; False = question first, whose keys "
        "and values can then be kept", False,
    )  # fmt: skip
    max_question: int = setting(
        "tokens of a question at most (reference: exactly)", demo=64, paper=30
    )
    max_answer: int = setting("tokens of an answer at most; longer ones are left out", 30)
    # the small Llama
    llm_width: int = setting("width of the small Llama", tiny=64, demo=160)
    llm_layers: int = setting("layers of the small Llama", tiny=2, demo=3, paper=4)
    llm_heads: int = setting("attention heads of the small Llama", 4)
    llm_vocab: int = setting("word pieces of its tokenizer, clinical terms not counted", 600)
    llm_steps: int = setting("its training steps", tiny=10, demo=400, paper=3000)
    llm_batch: int = setting("lines of text per step", tiny=16, demo=32, paper=64)
    llm_lr: float = setting("its AdamW rate", 2e-3)
    # --- inner and outer loop ---------------------------------------------------------------------
    method: str = setting(
        "maml = first order (published) | maml2 = second order | reptile | anil | supervised = one "
        "mapper for all tasks | none = no meta-training | in-context = no inner steps",
        "maml", choices=METHODS,
    )  # fmt: skip
    # The demo's values were chosen on the cohort of seed 7. More outer steps move the end of the
    # adaptation little there (40 x 6 against 16 x 5 episodes: .63 and .62) but raise its start.
    inner_lr: float = setting("step of the inner SGD", demo=2.0, paper=0.05)
    inner_steps: int = setting("inner steps on the support set", tiny=2, demo=3, paper=15)
    test_inner_steps: int = setting("inner steps at test; 0 = INNER_STEPS", tiny=0, demo=4, paper=0)
    outer_lr: float = setting("AdamW rate of the outer loop", tiny=2e-3, demo=2e-3, paper=5e-4)
    meta_steps: int = setting("outer steps", tiny=4, demo=16, paper=10_000)
    tasks_per_step: int = setting("episodes per outer step", tiny=2, demo=5, paper=1)
    outer_from: int = setting("first inner step whose query loss counts (published 2)", 2)
    reference_steps: int = setting(
        "outer steps of the small run in the released layout; 0 = leave it out",
        tiny=2,
        demo=20,
        paper=0,
    )

    @property
    def steps_at_test(self) -> int:
        return self.test_inner_steps or self.inner_steps

    @property
    def active_quirks(self) -> frozenset[str]:
        """The faults of the released code that this run repeats."""
        if self.protocol == "sound" or self.quirks == "none":
            return frozenset()
        return frozenset(QUIRKS if self.quirks == "all" else self.quirks.split())

    def check(self) -> None:
        super().check()
        if self.llm_width % self.llm_heads:
            raise ConfigError(
                f"LLM_WIDTH ({self.llm_width}) is not a multiple of LLM_HEADS ({self.llm_heads})."
            )
        if not self.llm and self.mapper != "linear" and self.llm_width % self.mapper_heads:
            raise ConfigError(
                f"LLM_WIDTH ({self.llm_width}) is not a multiple of MAPPER_HEADS "
                f"({self.mapper_heads})."
            )
        if self.inner_steps < 1 or self.inner_lr <= 0 or self.outer_from < 0:
            raise ConfigError(
                "INNER_STEPS must be at least 1, INNER_LR positive and OUTER_FROM not negative."
            )
        unknown = self.active_quirks - set(QUIRKS)
        if unknown:
            raise ConfigError(
                f"QUIRKS names {', '.join(sorted(unknown))}; it takes all, none, or some of "
                f"{', '.join(QUIRKS)}."
            )
        bad = [k for k in self.shots.split() if not (k.isdigit() and int(k))]
        if bad or self.query_way < 0:
            raise ConfigError(
                f"SHOTS ({self.shots!r}) takes whole numbers from 1, QUERY_WAY one from 0."
            )
        if self.prefix_first and self.protocol == "reference":
            raise ConfigError(
                "PREFIX_FIRST is about the sound protocol; PROTOCOL=reference has its own layout."
            )
