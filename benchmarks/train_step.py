"""One epoch of the ECG-QA fusion transformer: ours beside the published structure, in one run.

Half of the questions are about one ECG, half about two; both sides get the same questions, weights
and sizes. The published side (`published_fusion.py`) shuffles them, so that every batch has the
shape of two ECGs and of its longest question; ours runs the kit's model, optimiser and grouped
batches (`tasks/batching.py`). Each batch is one update: forward, loss, backward, clipping, AdamW.
Batches are laid out before the clock starts. The sides live in a process each and take turns, epoch
by epoch, so that what else the machine does falls on all alike; medians count. bf16 is ours under
autocast, beside the published side in fp32; null where the machine has no bf16 instructions.

Utilisation counts the operations that the questions need (no padding, no absent ECG, the position
code as a direct convolution, three times the forward pass) over time and over the speed of a large
matrix product in that precision, measured first.

Prints machine, CPU model, threads and versions; the last line is JSON: fp32_ratio and bf16_ratio
(epoch time, published / ours), memory_ratio (peak memory, published / ours in fp32).
Usage: python benchmarks/train_step.py [--size base] [--layers 12] [--questions 16] [--batch 8]
           [--samples 5000] [--repeats 2] [--threads 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time

import numpy as np
import torch
from published_fusion import PublishedFusion, as_published

from ecgkit import runtime
from ecgkit.models.fusion_qa import FusionConfig, FusionQA
from ecgkit.models.losses_qa import answer_bce
from ecgkit.tasks.batching import GroupedBatches, batch_indices
from ecgkit.tasks.training_parts import TrainSettings, make_accelerator, make_optimiser

SIZES = {
    "tiny": dict(dim=32, ffn_dim=64, n_layers=2, n_heads=2, conv_layers=((16, 2, 2),) * 4,
                 pos_kernel=32, pos_groups=4, vocab_size=400),
    "demo": dict(dim=96, ffn_dim=384, n_layers=3, n_heads=4, conv_layers=((32, 9, 2),) * 5,
                 pos_kernel=16, pos_groups=8, vocab_size=800),
    "base": {},  # the published sizes are the defaults
}  # fmt: skip
N_ANSWERS = 103
N_ECGS = 32  # different recordings; questions share them
PUBLISHED, OURS, OURS_BF16 = "published fp32", "ours fp32", "ours bf16"


def main(argv: list[str] | None = None, context=None) -> None:
    """`context`: where the sides run, a module like multiprocessing; default fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base", choices=SIZES, help="base: as published")
    parser.add_argument("--layers", type=int, default=0, help="transformer layers; 0: the size's")
    parser.add_argument("--questions", type=int, default=16, help="of one epoch")
    parser.add_argument("--batch", type=int, default=8, help="questions of one update")
    parser.add_argument("--samples", type=int, default=5000, help="of one ECG")
    parser.add_argument("--repeats", type=int, default=2, help="epochs of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args(argv)
    if args.questions % (2 * args.batch):
        parser.error("--questions must be a multiple of twice --batch, so that none is left out")
    torch.set_num_threads(args.threads)
    print(runtime.environment_report())
    config, work = model_config(args), Questions(args.questions, args.samples, args.size)
    print(f"size {args.size}: {config.n_layers} layers of width {config.dim}, {args.samples} "
          f"samples, {args.questions} questions in batches of {args.batch}, {args.repeats} epochs "
          f"a side, {args.threads} threads, {args.device}")  # fmt: skip
    flops = sum(needed_flops(config, n_ecgs, n_words, args.samples)
                for n_ecgs, n_words in zip(work.n_ecgs, work.n_words))  # fmt: skip
    names = [PUBLISHED, OURS] + [OURS_BF16] * has_bf16(args.device)
    seconds, memory, peaks = take_turns(
        names, args, context or multiprocessing.get_context("spawn")
    )
    for name in names:
        middle = statistics.median(seconds[name])
        print(f"{name}: {args.questions / middle:.3g} questions per s, epochs of "
              f"{', '.join(f'{s:.3g}' for s in seconds[name])} s, "
              f"{flops / middle / 1e9:,.0f} of {peaks[name] / 1e9:,.0f} GFLOP/s "
              f"({flops / middle / peaks[name]:.0%}), peak {memory[name]:.2f} GB")  # fmt: skip
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    print(json.dumps(ratios(seconds, memory)))


def ratios(seconds: dict[str, list[float]], memory: dict[str, float]) -> dict[str, float | None]:
    """Published / ours: of median epoch times, and of peak memories."""
    middle = {name: statistics.median(s) for name, s in seconds.items()}
    bf16 = middle[PUBLISHED] / middle[OURS_BF16] if OURS_BF16 in middle else None
    return {
        "fp32_ratio": round(middle[PUBLISHED] / middle[OURS], 2),
        "bf16_ratio": bf16 and round(bf16, 2),
        "memory_ratio": round(memory[PUBLISHED] / memory[OURS], 2),
    }


def has_bf16(device: str) -> bool:
    """Whether the machine multiplies bf16 by an instruction of its own."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


# --- the work -------------------------------------------------------------------------------------


def model_config(args) -> FusionConfig:
    """Published dropout while answering: only inside the feed-forward part."""
    sizes = SIZES[args.size] | ({"n_layers": args.layers} if args.layers else {})
    return FusionConfig(**sizes, dropout=0.0, attention_dropout=0.0, activation_dropout=0.1)


class Questions:
    """Random questions of 8 to 28 tokens, alternately about one ECG and two; labels (N, 103)."""

    def __init__(self, n: int, n_samples: int, size: str):
        rng = np.random.default_rng(0)
        self.n_ecgs, self.n_words = 1 + np.arange(n) % 2, rng.integers(8, 29, n)
        self.ecgs = rng.standard_normal((N_ECGS, 12, n_samples), dtype=np.float32)
        self.rows = rng.integers(0, N_ECGS, (n, 2))
        vocabulary = SIZES[size].get("vocab_size", 30522)
        self.words = rng.integers(103, vocabulary, (n, 28))
        self.labels = (rng.random((n, N_ANSWERS)) < 0.1).astype(np.float32)

    def batch(self, items: np.ndarray) -> dict[str, torch.Tensor]:
        """Laid out as `QAData.batch` does, in the same names and shapes."""
        two, longest = self.n_ecgs[items] == 2, self.n_words[items].max()
        padding = np.arange(longest) >= self.n_words[items, None]
        out = {"ecg": self.ecgs[self.rows[items, 0]], "labels": self.labels[items],
               "text": np.where(padding, 0, self.words[items, :longest]),
               "text_padding_mask": padding}  # fmt: skip
        if two.any():
            second = self.ecgs[self.rows[items, 1]]
            out["ecg_2"] = np.where(two[:, None, None], second, np.float32(0))
        if two.any() and not two.all():
            shape = (len(items), self.ecgs.shape[-1])
            out["ecg_2_padding_mask"] = np.broadcast_to(~two[:, None], shape).copy()
        return {name: torch.from_numpy(array) for name, array in out.items()}

    def published_epoch(self, size: int, seed: int) -> list[dict]:
        n_batches = len(self.n_ecgs) // size
        return [self.batch(batch_indices(i, len(self.n_ecgs), size, seed))
                for i in range(n_batches)]  # fmt: skip

    def grouped_epoch(self, size: int, seed: int) -> list[dict]:
        """As many batches about one ECG as about two; `GroupedBatches` draws that share."""
        epoch = []
        for n_ecgs in (1, 2):
            own = np.flatnonzero(self.n_ecgs == n_ecgs)
            n_batches = len(own) // size
            order = GroupedBatches(np.zeros(len(own)), self.n_words[own], size, n_batches, seed)
            epoch += [self.batch(own[order(i)]) for i in range(n_batches)]
        return epoch


def needed_flops(config: FusionConfig, n_ecgs: int, n_words: int, n_samples: int) -> float:
    """Operations (2 per multiply-add) of training on one question, forward and backward."""
    dim, n_tokens = config.dim, config.n_tokens(n_samples)
    n_signal = n_tokens if n_ecgs == 1 else 2 * n_tokens + 1
    length = n_signal + n_words
    layer = length * (4 * dim**2 + 2 * dim * config.ffn_dim) + 2 * length**2 * dim
    position = n_signal * dim * (dim // config.pos_groups) * config.pos_kernel
    convolutions, width, steps = 0, config.n_leads, n_samples
    for channels, kernel, stride in config.conv_layers:
        steps = (steps - kernel) // stride + 1
        convolutions += steps * channels * width * kernel
        width = channels
    convolutions += n_tokens * width * dim
    return 3 * 2 * (config.n_layers * layer + position + n_ecgs * convolutions)


# --- the sides ------------------------------------------------------------------------------------


def take_turns(names: list[str], args, context) -> tuple[dict, dict, dict]:
    """Seconds of each epoch, peak memory (GB), and matrix product speed (FLOP/s) of each side."""
    pipes = {}
    for name in names:  # one after the other: loading is not measured
        pipes[name], theirs = context.Pipe()
        process = context.Process(target=side, args=(name, args, theirs))
        process.daemon = True  # ends with this one
        process.start()
        theirs.close()  # so that a side that dies is noticed here
        _hear(pipes[name])
    seconds = {name: [] for name in names}
    for i in range(args.repeats):
        for name in names if i % 2 == 0 else names[::-1]:
            seconds[name].append(_ask(pipes[name], i))
    memory = {name: _ask(pipes[name], "memory") for name in names}
    peaks = {name: _ask(pipes[name], "peak") for name in names}
    for pipe in pipes.values():
        pipe.send(None)
    return seconds, memory, peaks


def _ask(pipe, question):
    pipe.send(question)
    return _hear(pipe)


def _hear(pipe):
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(
            "One side ended early, most likely for want of memory; lower --batch, --layers "
            "or --size."
        ) from None


def side(name: str, args, pipe) -> None:
    """A process: builds its model, warms up, then answers with the seconds of epoch i, "memory" in
    GB, or "peak", the speed of a large matrix product.
    """
    torch.set_num_threads(args.threads)
    step = build(name, args)
    work = Questions(args.questions, args.samples, args.size)
    lay_out = work.published_epoch if name == PUBLISHED else work.grouped_epoch
    for batch in lay_out(args.batch, 0)[:: max(1, args.questions // args.batch - 1)]:
        step({k: v[: max(1, args.batch // 8)] for k, v in batch.items()})
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        if asked == "memory":
            pipe.send(peak_memory(args.device))
        elif asked == "peak":
            pipe.send(product_speed(torch.bfloat16 if name == OURS_BF16 else torch.float32, args))
        else:
            pipe.send(timed_epoch(step, lay_out(args.batch, asked), args.device))


def timed_epoch(step, batches: list[dict], device: str) -> float:
    start = time.perf_counter()
    for batch in batches:
        step(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def build(name: str, args):
    """One update as a function of a batch: `tasks/engine.py`'s for ours, plain PyTorch else."""
    torch.manual_seed(0)
    config, device = model_config(args), torch.device(args.device)
    settings = TrainSettings(n_steps=1, batch_size=args.batch, lr=1e-5, betas=(0.9, 0.98),
                             weight_decay=0.0)  # fmt: skip
    model = FusionQA(config, N_ANSWERS)
    if name == PUBLISHED:
        published = PublishedFusion(config, N_ANSWERS)
        published.load_state_dict(model.state_dict())
        return published_step(published.to(device).train(), settings, device)
    accelerator = make_accelerator(device, "bf16" if name == OURS_BF16 else "fp32")
    model, optimiser = accelerator.prepare(model.train(), make_optimiser(model, settings))

    def step(batch):
        inputs = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        labels = inputs.pop("labels")
        with accelerator.autocast():
            loss = answer_bce(model(**inputs)["logits"], labels)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def published_step(model, settings: TrainSettings, device: torch.device):
    """The same update with an optimiser that goes through the parameters one by one."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=settings.betas,
                                  weight_decay=0.0, foreach=False)  # fmt: skip

    def step(batch):
        inputs = {k: v.to(device) for k, v in as_published(batch).items()}
        loss = answer_bce(model(**inputs), batch["labels"].to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def peak_memory(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return runtime.peak_memory_gb()


def product_speed(dtype: torch.dtype, args, n: int = 2048) -> float:
    """FLOP/s of an n x n matrix product, best of 5."""
    a = torch.randn(n, n, device=args.device).to(dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        if args.device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


if __name__ == "__main__":
    main()
