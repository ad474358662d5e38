"""Exercises of notebook 06: what a question gives away, the size of a mapper, one inner step."""

from __future__ import annotations

from ecgkit.exercises.base import exercise


@exercise(
    "06.1",
    "the expected share of right answers of somebody who sees the support answers and the "
    "questions, but no ECG",
    tolerance=0.002,
    unit="a share from 0 to 1",
    why="A question asked with one answer only needs no ECG. Here chance is one in five, and the "
    "ceiling far above it: a score is worth what it has above the ceiling, and contrastive "
    "episodes bring the two together.",
    hints=(
        "Take the five classes one by one: after reading the support, what would you answer to "
        "this question, and how often is that right?",
        "Questions that stand in the support with one answer are always right; a question with two "
        "answers is right half the time.",
    ),
    slips={
        "That is chance, one in the number of classes; the question helps.": lambda classes: (
            1 / len(classes)
        ),
        "The question with both answers is not lost: a guess is right half the time.": (
            lambda classes: sum(n == 1 for n in _answers_by_question(classes)) / len(classes)
        ),
    },
)
def question_only_ceiling(classes):
    # A question with m answers, each asked equally often, is m classes guessed right 1/m of the
    # time: it adds one class's worth, whatever m is.
    return len(_answers_by_question(classes)) / len(classes)


def _answers_by_question(classes) -> list[int]:
    questions = [name.rpartition(" = ")[0] for name in classes]
    return [questions.count(q) for q in dict.fromkeys(questions)]


@exercise(
    "06.2",
    "the number of trainable parameters of the attention mapper in front of Llama-3.1-8B",
    why="26 million beside 8 billion that stay frozen. Two thirds stand in the output layer, whose "
    "size depends on the language model alone.",
    hints=(
        "P learned tokens of width F; query, key and value each F x D with a bias; the output "
        "layer D x D with a bias; two LayerNorms.",
        "A LayerNorm has a weight and a bias of width D. Sum: P F + 3 (F D + D) + (D D + D) + 4 D.",
    ),
    slips={
        "The biases are missing (a LayerNorm has one too).": lambda sizes: (
            _count(sizes) - 6 * sizes["llm_dim"]
        ),
        "The learned tokens are parameters too.": lambda sizes: (
            _count(sizes) - sizes["n_prefix"] * sizes["feature_dim"]
        ),
        "The LayerNorms are missing.": lambda sizes: _count(sizes) - 4 * sizes["llm_dim"],
    },
)
def mapper_size(sizes):
    return _count(sizes)


def _count(sizes) -> int:
    import torch

    from ecgkit.models.prefix_mapper import build_mapper

    with torch.device("meta"):  # shapes only, no memory
        mapper = build_mapper("attention", **sizes)
    return sum(p.numel() for p in mapper.parameters())


@exercise(
    "06.3",
    "the first-order outer gradient of the toy model",
    tolerance=1e-6,
    why="First order takes the query gradient where the inner step ended, as if the start had "
    "moved along one for one. Second order multiplies it by 1 - 2 alpha x^2, the part of a move of "
    "theta that survives the step: here it would be a fifth smaller.",
    hints=(
        "First the step: theta_1 = theta_0 - alpha times the derivative of the support loss at "
        "theta_0. Where is the query loss differentiated after that?",
        "The derivative of (theta x - y)^2 is 2 x (theta x - y); of the query, take it at theta_1.",
    ),
    slips={
        "That is the query gradient before the inner step.": lambda toy: _slope(
            toy["theta"], toy["query"]
        ),
        "That is second order, through the step; first order leaves that factor out.": (
            lambda toy: (
                _slope(_stepped(toy), toy["query"])
                * (1 - 2 * toy["alpha"] * toy["support"][0] ** 2)
            )
        ),
        "That is the support gradient after the step; the outer loop asks the query.": (
            lambda toy: _slope(_stepped(toy), toy["support"])
        ),
    },
)
def outer_gradient(toy):
    return _slope(_stepped(toy), toy["query"])


def _slope(theta: float, example: tuple[float, float]) -> float:
    """Derivative of (theta x - y)^2 with regard to theta."""
    x, y = example
    return 2 * x * (theta * x - y)


def _stepped(toy) -> float:
    return toy["theta"] - toy["alpha"] * _slope(toy["theta"], toy["support"])
