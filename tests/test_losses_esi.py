"""ESI's losses: several processes are one process with the joint batch, in value and gradient."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from ecgkit.models.losses_esi import (
    caption_loss,
    caption_reduction,
    contrastive_loss,
    gather_rows,
    mean_words,
)
from ecgkit.types import ModelError

N, LENGTH, VOCAB, DIM = 8, 5, 11, 6


def data():
    """Of the joint batch: ECGs and texts (N, 4), words' inputs (N, L, 4), labels (N, L)."""
    make = torch.Generator().manual_seed(0)
    labels = torch.randint(1, VOCAB, (N, LENGTH), generator=make)
    for row, words in enumerate((5, 2, 3, 5, 1, 0, 4, 2)):  # as uneven as captions are
        labels[row, words:] = 0
    x = (torch.randn(N, 4, generator=make) for _ in range(2))
    return (*x, torch.randn(N, LENGTH, 4, generator=make), labels)


class Small(torch.nn.Module):
    """One weight per part; forward as ESI's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.ecg, self.text = torch.nn.Linear(4, DIM), torch.nn.Linear(4, DIM)
        self.words = torch.nn.Linear(4, VOCAB)
        self.temperature = torch.nn.Parameter(torch.tensor([1.5]))

    def forward(self, ecg, text, words, labels):
        latents = (F.normalize(part(x), dim=-1) for part, x in ((self.ecg, ecg), (self.text, text)))
        return (*latents, self.temperature, self.words(words[labels != 0]))


def losses(model, batch, protocol: str) -> torch.Tensor:
    """Contrast and captioning of one process's rows, as a task computes them."""
    labels = batch[3]
    ecg, text, temperature, logits = model(*batch)
    all_ecg, all_text = gather_rows(ecg, text)
    contrast = contrastive_loss(ecg, text, temperature, protocol, all_ecg, all_text)
    caption = caption_loss(
        logits, labels[labels != 0], reduction=caption_reduction(protocol),
        n_captions=len(labels), words_per_caption=mean_words(labels),
    )  # fmt: skip
    return torch.stack([contrast, caption])


def joint(protocol: str):
    model = Small()
    values = losses(model, data(), protocol)
    values.sum().backward()
    return values.detach(), {k: p.grad for k, p in model.named_parameters()}


# Rows of each of two processes, and the protocol. One start of the processes serves all.
CASES = [([4, 4], "paper"), ([4, 4], "reference"), ([5, 3], "reference"), ([7, 1], "paper")]


# Rows of each of two processes, and the protocol. One start of the processes serves all.
CASES = [([4, 4], "paper"), ([4, 4], "reference"), ([5, 3], "reference"), ([7, 1], "paper")]


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save([portion(rank, *case) for case in CASES], os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def portion(rank: int, sizes: list[int], protocol: str):
    """This process's rows; losses weighed by rows, as the engine does, and gradients averaged, as
    DistributedDataParallel does.
    """
    start, model = sum(sizes[:rank]), Small()
    values = losses(model, [x[start : start + sizes[rank]] for x in data()], protocol)
    share = sizes[rank] / N
    (values.sum() * share * len(sizes)).backward()
    total, grads = values.detach() * share, {k: p.grad for k, p in model.named_parameters()}
    dist.all_reduce(total)
    for gradient in grads.values():
        dist.all_reduce(gradient)
        gradient /= len(sizes)
    return total, grads


def test_two_processes_are_one_with_the_joint_batch(tmp_path):
    mp.spawn(process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        for (sizes, protocol), (theirs, their_grads) in zip(
            CASES, torch.load(tmp_path / f"{rank}.pt"), strict=True
        ):
            values, grads = joint(protocol)
            assert grads["temperature"].abs() > 1e-3
            assert torch.allclose(theirs, values, atol=1e-6), (sizes, protocol)
            for name, gradient in grads.items():
                assert torch.allclose(their_grads[name], gradient, atol=1e-6), (sizes, name)


def test_a_portion_alone_would_not_be_the_joint_loss():
    """What the test above would miss if negatives stayed at home, as in the published code."""
    ecg, text, temperature, _ = Small()(*data())
    whole = contrastive_loss(ecg, text, temperature)
    halves = [contrastive_loss(ecg[i : i + 4], text[i : i + 4], temperature) for i in (0, 4)]
    assert (whole - sum(halves) / 2).abs() > 0.3


def test_alone_nothing_is_gathered():
    x = torch.randn(3, 2)
    (same, first), = gather_rows(x)
    assert same is x and first == 0
    labels = torch.tensor([[4, 5, 0], [6, 0, 0]])
    assert mean_words(labels) == 1.5 and mean_words(torch.zeros(0, 3)) == 1
    assert mean_words(torch.zeros(2, 3)) > 0


def test_each_row_is_compared_with_its_own_among_the_gathered():
    ecg, text = (F.normalize(torch.randn(6, 4), dim=-1) for _ in range(2))
    whole = contrastive_loss(ecg, text, torch.tensor(2.0))
    parts = [
        contrastive_loss(ecg[i:j], text[i:j], torch.tensor(2.0), "reference", (ecg, i), (text, i))
        for i, j in ((0, 2), (2, 6))
    ]
    assert torch.isclose(whole, (2 * parts[0] + 4 * parts[1]) / 6)


def test_the_contrast_is_in_float32_under_autocast():
    ecg, text = (F.normalize(torch.randn(16, 8), dim=-1) for _ in range(2))
    exact = contrastive_loss(ecg, text, torch.tensor(4.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert contrastive_loss(ecg, text, torch.tensor(4.0)) == exact


def test_the_papers_sum_and_the_codes_mean():
    assert (caption_reduction("paper"), caption_reduction("reference")) == ("sum", "mean")
    logits, labels = torch.randn(2, 3, 7), torch.tensor([[1, 2, 0], [3, 0, 0]])
    counted = labels != 0
    for reduction in ("sum", "mean"):
        whole = caption_loss(logits, labels, reduction=reduction)
        short = caption_loss(logits[counted], labels[counted], reduction=reduction, n_captions=2)
        assert torch.isclose(whole, short)
    assert torch.isclose(
        caption_loss(logits, labels), caption_loss(logits, labels, words_per_caption=1.5)
    )
    with pytest.raises(ModelError, match="n_captions"):
        caption_loss(logits[counted], labels[counted], reduction="sum")
