"""How much memory a step of meta-training takes, said before the first one, and what to lower when
it does not fit.

Bytes when the backward pass begins, the peak of a step. T tasks of S support and Q query rows; R
rows that are read at once, T (S + Q) where an inner step reads both; a question of L tokens that is
kept, n new tokens after it (soft tokens, " Answer:", the answer), A of them scored; a language
model D wide, I in its feed-forward layers, G in its keys, of Y layers and V words, b bytes a
number; a mapper of M parameters; K inner steps:

    language model   what its weights take
    mapper           16 M (T + 1)           adapted, next, outer and inner gradient of each task;
                                            once more for the optimiser; second order 8 M T K beside
    questions        2 Y R L G b            keys and values, a copy for each row
    activations      Y R [ n (4 D + 3 I) + 2 (L + n) G ] b    two residuals, query and attention's
                                            output, three of the feed-forward layer; keys and values
    answers          8 R A V                logits and log-probabilities, fp32

The layers are frozen, so no input of a linear layer is kept; with LoRA (FROZEN_LM=False) they are,
and activations take 1.3 times as much. Second order reads the support once
more per inner step, with about three times the graph: R is 3 T S at least. First order does not
grow with K. Upper ends: the longest question and answer of all are taken.

Usage:

    print(estimate(task, mapper, config))
"""

from __future__ import annotations

import dataclasses

from torch import nn

from ecgkit.types import ModelError


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes by what holds them."""

    llm: int
    mapper: float
    questions: int
    activations: float
    answers: int

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self))

    def __str__(self) -> str:
        parts = {
            "language model": self.llm, "mapper": self.mapper, "questions": self.questions,
            "activations": self.activations, "answers": self.answers,
        }  # fmt: skip
        listed = ", ".join(f"{name} {in_words(n_bytes)}" for name, n_bytes in parts.items())
        return f"A step of meta-training takes about {in_words(self.total)}: {listed}."


def in_words(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The letters of the formula that the language model decides."""

    width: int
    feed_forward: int
    keys: int
    layers: int
    words: int
    n_bytes: int  # of one number
    weights: int  # bytes of them all


def sizes_of(llm: nn.Module) -> Sizes:
    """Reads them off a causal language model of transformers."""
    config = llm.config.get_text_config()
    width, heads = config.hidden_size, config.num_attention_heads
    head = getattr(config, "head_dim", None) or width // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    number = llm.get_input_embeddings().weight
    return Sizes(
        width, getattr(config, "intermediate_size", None) or 4 * width, kept * head,
        config.num_hidden_layers, number.shape[0], number.element_size(),
        sum(p.numel() * p.element_size() for p in llm.parameters()),
    )  # fmt: skip


def estimate(task, mapper: nn.Module, config) -> Memory:
    """Bytes of one step under `config.method`, from shapes alone: nothing is run.

    Above what the weights take, 0.85 to 1.25 times the peak measured on a CPU (small Llamas of 64
    to 512 wide; first order, second order, supervised, Reptile, LoRA; both layouts), up to 1.4
    times where a step takes a few MB. Not measured on a GPU, whose allocator keeps more than it
    uses.
    """
    sizes = sizes_of(task.reader.llm)
    rows, held = rows_at_once(config)
    kept, new, scored = token_counts(task, config)
    values = new * (4 * sizes.width + 3 * sizes.feed_forward) + 2 * (kept + new) * sizes.keys
    return Memory(
        llm=sizes.weights,
        mapper=16 * mapper_copies(config) * sum(p.numel() for p in mapper.parameters()),
        questions=2 * sizes.layers * rows * kept * sizes.keys * sizes.n_bytes,
        activations=sizes.layers * held * values * sizes.n_bytes * (1 if config.frozen_lm else 1.3),
        answers=8 * held * scored * sizes.words,
    )


def rows_at_once(config) -> tuple[int, int]:
    """Rows of the widest reading of a step, and as many whose graph is held at once."""
    n_support = config.n_way * config.k_shot * (1 + config.repeats)
    n_query = config.n_way * config.n_query
    apart = config.method in ("maml", "maml2", "anil") and config.inner_steps <= config.outer_from
    rows = config.tasks_per_step * (max(n_support, n_query) if apart else n_support + n_query)
    again = 3 * config.tasks_per_step * n_support if config.method == "maml2" else 0
    return rows, max(rows, again)


def mapper_copies(config) -> float:
    """Copies of the mapper, each with what belongs to it (four numbers a parameter)."""
    if config.method in ("supervised", "in-context"):
        return 1
    trail = config.inner_steps / 2 if config.method == "maml2" else 0
    return config.tasks_per_step * (1 + trail) + 1


def token_counts(task, config) -> tuple[int, int, int]:
    """Tokens of the longest question that are kept (L), new tokens after them (n), and how many of
    those get logits over all words (A)."""
    answer, mask = task.targets.shape[1], task.layout.mask
    if mask is None:  # read on top of the question: the whole sequence gets logits
        return 0, config.n_prefix + answer - 1, config.n_prefix + answer - 1
    question = int(mask.sum(1).max())
    new = config.n_prefix + len(task.reader.wording.fixed()) + answer - 1
    if task.reader.prefix_first:  # then all of it depends on the soft tokens
        return 0, question + new, answer
    return question, new, answer


# --- when it does not fit -------------------------------------------------------------------------


def out_of_memory(task, mapper: nn.Module, config) -> ModelError:
    """The sentence for a step that did not fit: its estimate, and what to lower, most effective
    first."""
    now = estimate(task, mapper, config)
    saved = {advice: now.total - other.total for advice, other in _smaller(task, mapper, config)}
    saved |= _smaller_llm(now.llm, config)
    best = sorted((a for a in saved if saved[a] > 0), key=lambda advice: -saved[advice])
    advice = "; ".join(f"{a} (saves about {in_words(saved[a])})" for a in best)
    return ModelError(
        f"Out of memory in meta-training. {now} Most effective first: {advice or 'a smaller LLM'}."
    )


def _smaller(task, mapper, config):
    """(advice, its estimate) for every setting of a step that can go down."""
    for name in ("tasks_per_step", "n_query", "k_shot"):
        value = getattr(config, name)
        if value > 1:
            less = dataclasses.replace(config, **{name: value // 2})
            yield f"{name.upper()}={value // 2}", estimate(task, mapper, less)
    if config.method == "maml2":
        yield "METHOD=maml", estimate(task, mapper, dataclasses.replace(config, method="maml"))


def _smaller_llm(n_bytes: int, config) -> dict[str, int]:
    """Advice about the weights of a language model that was given -> bytes it saves."""
    if not config.llm or config.llm_4bit:
        return {}
    half = {"LLM_DTYPE=bfloat16": n_bytes // 2} if config.llm_dtype == "float32" else {}
    return {**half, "LLM_4BIT=True (GPU only)": n_bytes * 3 // 4}
