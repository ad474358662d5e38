"""Few-shot meta-learning: episodes per second of ours beside the published structure, in one run.

5-way 5-shot 5-query episodes, 15 inner steps, 4 episodes per outer step, in the released layout
(ECG first, the answer on top of the question), dropout off, so that both sides have the same
numbers: losses and outer gradient are compared first. `published_fewshot.py` reads the query and
writes its answers at every step; ours reads it at the steps whose loss counts, and at test after
the last step alone, and takes the ECG embeddings from a file, which it reads in every step.
Training is timed twice: with the published outer loss (theta_2 .. theta_K), and with that of
theta_K alone (the query scored at the last step only), the same on both sides. A step is all that
an update takes: inner loops, outer gradient, clipping, AdamW. Drawing and tokenising episodes is
left out on both sides. The sides take turns; each counts at its quickest.

The stub encoder is one convolution. With the real-size encoder (12 layers of width 768, 90 M
parameters, random weights) one call on 25 ECGs is timed, and the published side pays it as often as
it calls it; `--real-encoder N` runs N episodes of training in full instead.

Memory is the peak of what PyTorch's allocator holds during the outer loss and gradient, above what
stands before. The floor counts the matrix products of the language model that the episodes need:
forward, and backward to the soft tokens; logits of answer tokens only.

With a GPU, also episodes per s of ours with an 8B-shaped Llama (random weights, bf16).

Prints machine, CPU model, threads and versions; the last line is JSON, all published / ours:
train_ratio and test_ratio (time of an episode, stub encoder), encoder_ratio (the same in training
with the real-size encoder against cached embeddings), memory_ratio (at 15 steps).
Usage: python benchmarks/fewshot.py [--steps 15] [--tasks 4] [--test-tasks 16] [--repeats 3]
           [--real-encoder 0] [--threads 2] [--device cpu] [--large | --smoke] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from fewshot_work import (
    FEATURES,
    K_SHOT,
    LR,
    N_ECGS,
    N_PREFIX,
    N_QUERY,
    N_WAY,
    OURS,
    OUTER_LR,
    PUBLISHED,
    QUICK,
    RealEncoder,
    Work,
    make_llm,
)
from published_fewshot import meta_loss, meta_step, meta_test
from torch.profiler import ProfilerActivity, profile
from train_step import product_speed

from ecgkit import runtime
from ecgkit.models.prefix_mapper import build_mapper

LARGE = dict(vocab_size=128_256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
             num_key_value_heads=8, intermediate_size=14_336)  # fmt: skip
EPISODES = 10_000  # of the published run


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    print(runtime.environment_report())
    print(f"{N_WAY}-way {K_SHOT}-shot, {N_QUERY} queries, {args.steps} inner steps, {args.tasks} "
          f"episodes per outer step, {args.test_tasks} at test, {args.threads} threads, "
          f"{args.device}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        work, speed = Work(args, Path(folder)), matrix_speed(args)
        compare(work, args)
        train = turns("training, outer loss of theta_2 .. theta_K", work.train_sides(2), args)
        last = turns(f"training, outer loss of theta_{args.steps} alone",
                     work.train_sides(args.steps), args)  # fmt: skip
        test = turns("testing, query scored at the last step", work.test_sides(), args)
        sound = turns("sound layout, questions kept (ours alone)", work.sound_sides(2), args)
        speed = max(speed, matrix_speed(args))  # others may use the machine at either moment
        floor(work, {"training": train, "training, last": last, "testing": test}, sound, speed)
        with_encoder = real_encoder(work, train, test, args)
        memory = memories(work, args)
    if args.large or args.smoke or args.device == "cuda":
        large(args)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    print(json.dumps({
        "train_ratio": ratio(train), "test_ratio": ratio(test), "encoder_ratio": with_encoder,
        "memory_ratio": memory,
    }))  # fmt: skip


def parse(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=15, help="inner steps")
    parser.add_argument("--tasks", type=int, default=4, help="episodes of one outer step")
    parser.add_argument("--test-tasks", type=int, default=16, help="episodes ours tests at once")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each side")
    parser.add_argument("--real-encoder", type=int, default=0, metavar="N",
                        help="episodes run in full with the real-size encoder")  # fmt: skip
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--large", action="store_true", help="the 8B shape; what a GPU always does")
    parser.add_argument("--smoke", action="store_true", help="the same code with a tiny shape")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all")
    args = parser.parse_args(argv)
    if args.quick:
        args.steps, args.tasks, args.test_tasks, args.repeats = 4, 1, 2, 1
    return args


def ratio(seconds: dict[str, float]) -> float:
    return round(seconds[PUBLISHED] / seconds[OURS], 2)


# --- the same numbers -----------------------------------------------------------------------------


def compare(work: Work, args) -> None:
    """Raises SystemExit where losses (1e-4) or outer gradient (1e-5 relative, of each parameter)
    are not those of the published side.

    The gradient is judged in float64: the inner steps multiply float32's rounding on both sides.
    """
    for first in (2, args.steps):
        loss, _, gap, _ = gaps(work, args, first)
        work.to(torch.float64)
        _, worst, gap64, off = gaps(work, args, first)
        work.to(torch.float32)
        print(f"outer loss from theta_{first}: {loss:.4f}, ours off by {gap:.1e}; outer gradient "
              f"off by {off:.1e} of its norm at most ({worst}), in float64")  # fmt: skip
        if not (max(gap, gap64) < 1e-4 and off < 1e-5):
            raise SystemExit("The two do not compute the same; their times say nothing.")
    compare_test(work, args)


def gaps(work: Work, args, first: int, seed: int = 99) -> tuple[float, str, float, float]:
    """The published outer loss; where the gradients differ most; the difference of the losses, and
    of that gradient as a share of its norm. Softmax does not feel the key's bias, whose gradient
    is 0 and not looked at.
    """
    model, off = work.published(), {}
    model.decode = False
    theirs = meta_loss(model, work.published_tasks(2, seed), args.steps, LR, first)
    theirs.backward()
    ours = work.our_loss(work.task, work.mapper, 2, seed, first)["loss"]
    ours.backward()
    found = dict(work.mapper.named_parameters())
    for name, p in model.mapper.named_parameters():
        if name != "key.bias":
            off[name] = float((found[name].grad - p.grad).norm() / p.grad.norm())
    work.mapper.zero_grad()
    worst = max(off, key=off.get)
    return float(theirs.detach()), worst, abs(float(ours.detach() - theirs.detach())), off[worst]


def compare_test(work: Work, args) -> None:
    model = work.published()
    losses, scores = meta_test(model, work.published_tasks(2, 98), args.steps, LR)
    done = work.our_test(work.task, 2, 98).query[args.steps]
    gap = float((losses[:, -1] - done["loss"].mean(1).cpu()).abs().max())
    counted = done.get("released", done["tokens"]).mean(1).cpu()
    print(f"test: query loss after the last step off by {gap:.1e}, share of right tokens "
          f"{scores[:, -1].mean():.3f} and {counted.mean():.3f}")  # fmt: skip
    if not (gap < 1e-4 and torch.allclose(scores[:, -1], counted, atol=1e-4)):
        raise SystemExit("The two do not compute the same; their times say nothing.")


# --- time -----------------------------------------------------------------------------------------


def turns(title: str, sides: dict, args) -> dict[str, float]:
    """Seconds per episode of each side, at its quickest; prints medians and CPU time too."""
    wall, cpu = {name: [] for name in sides}, {name: [] for name in sides}
    for name, (_, call) in sides.items():
        if name == OURS:  # the published side is slow enough not to need it
            call(0)
    for i in range(args.repeats):
        for name in list(sides)[:: 1 if i % 2 == 0 else -1]:
            n, call = sides[name]
            start, used = now(args), time.process_time()
            call(i + 1)
            wall[name].append((now(args) - start) / n)
            cpu[name].append((time.process_time() - used) / n)
    best = {name: min(x) for name, x in wall.items()}
    for name in sides:
        print(f"{title}: {name} {best[name]:.3g} s per episode (median "
              f"{np.median(wall[name]):.3g}, CPU time {min(cpu[name]):.3g})")  # fmt: skip
    if PUBLISHED in sides:
        print(f"  ratio {ratio(best):.2f}, of medians "
              f"{np.median(wall[PUBLISHED]) / np.median(wall[OURS]):.2f}, of CPU times "
              f"{min(cpu[PUBLISHED]) / min(cpu[OURS]):.2f}")  # fmt: skip
    return best


def now(args) -> float:
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def real_encoder(work: Work, train: dict, test: dict, args) -> float:
    """Prints the cost of encoding; returns published / ours seconds per episode in training."""
    torch.manual_seed(0)
    encoder = RealEncoder(args.quick).to(args.device).requires_grad_(False)
    n_rows, n_calls = N_WAY * K_SHOT, 2 * args.steps + 1
    one_call = encoding_seconds(encoder, work.ecgs[:n_rows], args)
    print(f"real-size encoder ({sum(p.numel() for p in encoder.parameters()) / 1e6:.1f} M "
          f"parameters): {one_call / n_rows:.3g} s per ECG; the published loop calls it {n_calls} "
          f"times on {n_rows} ECGs per episode, ours once per ECG and run: "
          f"{one_call / n_rows * N_ECGS:.3g} s for {N_ECGS}, not in its time below")  # fmt: skip
    theirs = {"training": train[PUBLISHED] + n_calls * one_call,
              "testing": test[PUBLISHED] + n_calls * one_call}  # fmt: skip
    how = "stub episode + calls x one call"
    if args.real_encoder:
        model, how = work.published(encoder), f"{args.real_encoder} episodes in full"
        optimiser = torch.optim.AdamW(model.mapper.parameters(), lr=OUTER_LR)
        start = now(args)
        for i in range(args.real_encoder):
            meta_step(model, optimiser, work.published_tasks(1, i), args.steps, LR)
        theirs["training"] = (now(args) - start) / args.real_encoder
    for name, ours in (("training", train[OURS]), ("testing", test[OURS])):
        print(f"{name} with it: published {theirs[name]:.4g} s per episode "
              f"({how if name == 'training' else 'stub episode + calls x one call'}), ours "
              f"{ours:.3g}, ratio {theirs[name] / ours:.0f}")  # fmt: skip
    return round(theirs["training"] / train[OURS], 1)


@torch.no_grad()
def encoding_seconds(encoder, ecgs, args) -> float:
    """Of one call, the quicker of two after a small one."""
    encoder(ecgs[:2])
    seconds = []
    for _ in range(2):
        start = now(args)
        encoder(ecgs)
        seconds.append(now(args) - start)
    return min(seconds)


# --- floor ----------------------------------------------------------------------------------------


def reading_flops(config, n_tokens: int, n_answer: int, n_before: int = 0) -> float:
    """Operations (2 per multiply-add) of one forward pass of the language model over one row:
    n_tokens new ones behind n_before kept ones, logits of n_answer. A backward pass to the inputs
    of a frozen model takes as many again, and the two products of attention once more.
    """
    width, head = config.hidden_size, config.head_dim
    heads, kept = config.num_attention_heads * head, config.num_key_value_heads * head
    layer = 2 * width * (heads + kept) + 3 * width * config.intermediate_size
    pairs = n_tokens * n_before + n_tokens * (n_tokens + 1) / 2
    macs = config.num_hidden_layers * (n_tokens * layer + 2 * pairs * heads)
    return 2 * (macs + n_answer * width * config.vocab_size)


def episode_flops(work: Work, n_counted: int, n_scored: int) -> float:
    """What an episode needs: support and counted query rows forward and back, scored ones forward.

    In the released layout: soft tokens and all answer tokens but the last.
    """
    n_answer = int((work.task.targets >= 0).sum(1).max())
    once = reading_flops(work.llm.config, N_PREFIX + n_answer - 1, n_answer)
    rows = N_WAY * (K_SHOT * work.args.steps + N_QUERY * n_counted)
    return once * (2 * rows + N_WAY * N_QUERY * n_scored)


def matrix_speed(args) -> float:
    """FLOP/s of a large product in float32."""
    return product_speed(torch.float32, args, 256 if args.quick else 2048)


def floor(work: Work, times: dict, sound: dict, speed: float) -> None:
    """Prints how much of the machine's matrix `speed` the needed products use."""
    needed = {
        "training": episode_flops(work, work.args.steps - 1, 0),
        "training, last": episode_flops(work, 1, 0),
        "testing": episode_flops(work, 0, 1),
    }
    print(f"large fp32 matrix product: {speed / 1e9:,.0f} GFLOP/s")
    for name, flops in needed.items():
        seconds = times[name][OURS]
        print(f"floor of {name}: {flops / 1e9:.3g} GFLOP per episode, {flops / speed:.3g} s; ours "
              f"{flops / seconds / 1e9:,.0f} GFLOP/s ({flops / seconds / speed:.0%})")  # fmt: skip
    print(f"sound layout: {sound[OURS] / times['training'][OURS]:.2f} times the released layout")


# --- memory ---------------------------------------------------------------------------------------


def memories(work: Work, args) -> float:
    """Prints peaks of both sides at few and all inner steps; returns published / ours at all."""
    model, n, steps = work.published(), args.tasks, args.steps
    model.decode = False  # its graph is thrown away at once, so it adds nothing to the peak
    found = {}
    for k in sorted({max(4, steps // 3), steps}):  # from 4 on all there is stands side by side
        args.steps = k
        found[OURS, k] = peak(
            lambda: work.our_loss(work.task, work.mapper, n, 1, 2)["loss"].backward(), args
        )
        found[PUBLISHED, k] = peak(
            lambda k=k: meta_loss(model, work.published_tasks(n, 1), k, LR).backward(), args
        )
        print(f"memory at {k} inner steps: published {found[PUBLISHED, k] / 1e6:,.0f} MB, ours "
              f"{found[OURS, k] / 1e6:,.0f} MB")  # fmt: skip
        work.mapper.zero_grad()
        model.zero_grad()
    ks = sorted({k for _, k in found})
    growth = found[OURS, ks[-1]] / found[OURS, ks[0]]
    print(f"ours at {ks[-1]} steps holds {growth:.3f} times what it holds at {ks[0]}")
    if growth > 1.02:
        raise SystemExit("Ours keeps more with more inner steps; it should not.")
    return round(found[PUBLISHED, ks[-1]] / found[OURS, ks[-1]], 1)


def peak(call, args) -> float:
    """Bytes at most alive during the call, above what stood before."""
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    events = (e for e in found.profiler.kineto_results.events() if e.name() == "[memory]")
    return float(np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]).max())


# --- an 8B-shaped model ---------------------------------------------------------------------------


def large(args) -> None:
    """Prints episodes per s, memory and hours of the published run; ours, bf16, both layouts."""
    sizes = LARGE if not args.smoke else QUICK
    with tempfile.TemporaryDirectory() as folder:
        work = Work(args, Path(folder))
        work.llm = make_llm(sizes, args.device, torch.bfloat16)
        work.mapper = build_mapper("attention", FEATURES, sizes["hidden_size"], N_PREFIX, 8, 0.0)
        work.mapper.to(args.device)
        n_parameters = sum(p.numel() for p in work.llm.parameters())
        for protocol in ("reference", "sound"):
            work.task = work.make_task(work.llm, protocol)
            report_large(work, protocol, n_parameters, args)


def report_large(work: Work, protocol: str, n_parameters: int, args) -> None:
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    train = quickest(work.our_step(work.task, args.tasks, 2), args) / args.tasks
    test = quickest(lambda seed: work.our_test(work.task, args.test_tasks, seed), args)
    test /= args.test_tasks
    used = torch.cuda.max_memory_allocated() / 1e9 if args.device == "cuda" else float("nan")
    print(f"Llama of {n_parameters / 1e9:.3g} B parameters, bf16, {protocol} layout: training "
          f"{1 / train:.3g} episodes per s ({args.tasks} at once), testing {1 / test:.3g} "
          f"({args.test_tasks} at once), {used:.3g} GB in all, {EPISODES * train / 3600:.3g} h for "
          f"{EPISODES:,} episodes")  # fmt: skip


def quickest(call, args) -> float:
    """Seconds, the best of `repeats` after a warm-up."""
    call(0)
    seconds = []
    for i in range(args.repeats):
        start = now(args)
        call(i + 1)
        seconds.append(now(args) - start)
    return min(seconds)


if __name__ == "__main__":
    main()
