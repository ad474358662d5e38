"""The risk study's cost: training steps, loader and Cox loss, ours beside the published structure.

A step is forward, loss, backward and AdamW at the published sizes: pretraining (reconstruction and
cosine alignment) and fine-tuning (reconstruction and Cox), at 608 samples (median beats) and at
1024 (strips). `published_risk.py` goes lead by lead, and computes its attention maps whoever
looks. Ours is the kit's model, timed twice: with all that the published step computes, maps
included (exact), and without the maps nobody asked for in training (fast; --bf16 adds autocast,
which this kind of network does not gain from on a CPU). All have the same weights. Their losses and
gradients are compared first, with dropout off; with dropout on they are timed, taking turns, each
at its quickest. The ratios are those of the four steps together; each is printed.

The loader gives strips of 10 s at 100 Hz, masked as published (whole leads, windows around R peaks,
halves of leads), scored and padded to 1024. The published one cleans a record and finds its R peaks
each time it is asked for it; ours does it for all records at once, keeps the strips and peaks, and
draws masks. loader_ratio is records per s of an epoch once they are kept; the first epoch, with
all the work in it, is printed beside.

Wall time is reported, and CPU time beside it, which says more where others share the machine.
Prints machine, CPU model, threads and versions; the last line is JSON: exact_ratio, fast_ratio
(time of a step, published / ours), loader_ratio, cox_ms_100k (forward and backward, Efron, the
slower of distinct and tied times).
Usage: python benchmarks/risk_step.py [--batch 32] [--repeats 12] [--records 256] [--threads 2]
           [--bf16] [--quick]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from published_risk import PublishedAutoencoder, PublishedHead, PublishedRecords, published_cox
from torch import nn

from ecgkit import runtime
from ecgkit.features.rhythm import find_beats
from ecgkit.features.risk_input import risk_input
from ecgkit.models.dual_attention import (
    DualAttentionAutoencoder,
    DualAttentionConfig,
    RiskHead,
    projector,
)
from ecgkit.models.losses_risk import alignment_cosine, cox_loss, reconstruction_mse
from ecgkit.parity.risk import load_published
from ecgkit.tasks.risk_masks import masked, pretraining_masks

PUBLISHED, EXACT, FAST = "published", "ours with maps", "ours"
TASKS = ("pretrain", "fine-tune")
LENGTHS = {608: DualAttentionConfig(608), 1024: DualAttentionConfig(1024)}
SMALL = {128: DualAttentionConfig(128, base=2, code_width=32)}
TEXT_WIDTH, FS, STRIP = 768, 100, 1024


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    print(runtime.environment_report())
    print(f"batch {args.batch}, {args.repeats} turns, {args.threads} threads, load of the machine "
          f"{os.getloadavg()[0]:.1f}")  # fmt: skip
    total = dict.fromkeys((PUBLISHED, EXACT, FAST), 0.0)
    for config in (SMALL if args.quick else LENGTHS).values():
        for task in TASKS:
            seconds = step_times(config, task, args)
            print_times(f"{task}, {config.n_samples} samples", seconds)
            for name, times in seconds.items():
                total[name] += min(times)[0]
    found = {"exact_ratio": round(total[PUBLISHED] / total[EXACT], 2),
             "fast_ratio": round(total[PUBLISHED] / total[FAST], 2)}  # fmt: skip
    found["loader_ratio"] = round(loader_ratio(args), 1)
    found["cox_ms_100k"] = round(cox_milliseconds(1000 if args.quick else 100_000, args.repeats), 1)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    print(json.dumps(found))


def parse(argv: list[str] | None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=32, help="ECGs of one step")
    parser.add_argument("--repeats", type=int, default=12, help="turns of each side")
    parser.add_argument("--records", type=int, default=256, help="of the loader's epoch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="the fast step under autocast")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    args = parser.parse_args(argv)
    if args.quick:
        args.batch, args.repeats, args.records = 8, 2, 8
    return args


def print_times(what: str, seconds: dict[str, list[tuple[float, float]]]) -> None:
    """Wall and CPU time per step, each at its quickest, and the published time over it."""
    best = {name: [min(column) for column in zip(*times)] for name, times in seconds.items()}
    for name, (wall, cpu) in best.items():
        print(f"{what}, {name}: {1e3 * wall:.0f} ms (CPU {1e3 * cpu:.0f}), ratio "
              f"{best[PUBLISHED][0] / wall:.2f} (CPU {best[PUBLISHED][1] / cpu:.2f})")  # fmt: skip


# --- steps ----------------------------------------------------------------------------------------


class Published(nn.Module):
    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        self.ae, self.head = PublishedAutoencoder(config), PublishedHead(config.code_width)
        self.ecg = projector(config.code_width, 256, 128)
        self.text = projector(TEXT_WIDTH, 256, 128)

    def pretrain(self, batch) -> torch.Tensor:
        out = self.ae(batch["x"])
        ecg, text = F.normalize(self.ecg(out["z"])), F.normalize(self.text(batch["text"]))
        align = F.cosine_embedding_loss(ecg, text, torch.ones(len(ecg)))
        return F.mse_loss(batch["x"], out["recon"]) + align

    def finetune(self, batch) -> torch.Tensor:
        out = self.ae(batch["x"])
        cox = published_cox(self.head(out["z"])[0], batch["time"], batch["event"])
        return 0.5 * cox + 0.5 * F.mse_loss(batch["x"], out["recon"])


class Ours(nn.Module):
    """The kit's model with the weights of the published one."""

    def __init__(self, published: Published, config: DualAttentionConfig, maps: bool, bf16: bool):
        super().__init__()
        self.ae, self.head = DualAttentionAutoencoder(config), RiskHead(config.code_width)
        self.ecg = projector(config.code_width, 256, 128)
        self.text = projector(TEXT_WIDTH, 256, 128)
        self.maps, self.bf16 = maps, bf16
        load_published(self.ae, published.ae.state_dict())
        self.ecg.load_state_dict(published.ecg.state_dict())
        self.text.load_state_dict(published.text.state_dict())
        with torch.no_grad():  # layers stand in the same order on both sides
            for mine, theirs in zip(self.head.parameters(), published.head.parameters()):
                mine.copy_(theirs)

    def pretrain(self, batch) -> torch.Tensor:
        out = self.encode(batch["x"])
        align = alignment_cosine(self.ecg(out["z"]), self.text(batch["text"]))
        return reconstruction_mse(out["recon"], batch["x"]) + align

    def finetune(self, batch) -> torch.Tensor:
        out = self.encode(batch["x"])
        log_risk = self.head(out["z"])["log_risk"]
        cox = cox_loss(log_risk, batch["time"], batch["event"], "breslow")
        return 0.5 * cox + 0.5 * reconstruction_mse(out["recon"], batch["x"])

    def encode(self, x) -> dict:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            out = self.ae(x, return_attention=self.maps)
        return {k: out[k].float() for k in ("z", "recon")}


def make_sides(config: DualAttentionConfig, bf16: bool = False) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    published = Published(config)
    return {
        PUBLISHED: published.train(),
        EXACT: Ours(published, config, maps=True, bf16=False).train(),
        FAST: Ours(published, config, maps=False, bf16=bf16).train(),
    }


def make_batch(config: DualAttentionConfig, n: int) -> dict[str, torch.Tensor]:
    """n ECGs of noise with text vectors and follow-up; every third has its event."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(n, config.n_leads, config.n_samples, generator=rng)
    return {"x": x, "text": torch.randn(n, TEXT_WIDTH, generator=rng),
            "time": 1 + torch.rand(n, generator=rng), "event": (torch.arange(n) % 3 == 0).float()}


def step_times(config, task: str, args) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each turn of each side, after a comparison of what they compute."""
    batch = make_batch(config, args.batch)
    compare(config, task, batch, args.bf16)
    sides = make_sides(config, args.bf16)
    steps = {name: make_step(side, task, batch) for name, side in sides.items()}
    for step in steps.values():  # memory and kernels are fetched once
        step()
    seconds = {name: [] for name in steps}
    for i in range(args.repeats):
        for name in list(steps)[:: 1 if i % 2 == 0 else -1]:
            seconds[name].append(timed(steps[name]))
    return seconds


def make_step(side: nn.Module, task: str, batch):
    """The published optimiser is PyTorch's AdamW as it comes, ours fused."""
    loss = side.pretrain if task == TASKS[0] else side.finetune
    optimiser = torch.optim.AdamW(side.parameters(), lr=1e-4, betas=(0.9, 0.95),
                                  fused=isinstance(side, Ours) or None)  # fmt: skip

    def step() -> None:
        loss(batch).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def timed(call) -> tuple[float, float]:
    """(wall, CPU) seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(config, task: str, batch, bf16: bool) -> None:
    """Raises SystemExit where a loss or the gradient of the first weights is not the published
    one. Without dropout, in training mode, so that batch moments are compared too.
    """
    sides = make_sides(dataclasses.replace(config, dropout=0.0), bf16)
    found = {}
    for name, side in sides.items():
        for module in side.head.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        loss = side.pretrain(batch) if task == TASKS[0] else side.finetune(batch)
        loss.backward()
        found[name] = loss.item(), first_gradient(side)
    loss, gradient = found.pop(PUBLISHED)
    for name, (value, other) in found.items():
        gap = abs(value - loss)
        turn = 1 - F.cosine_similarity(other.flatten(), gradient.flatten(), dim=0).item()
        print(f"{task}, {config.n_samples} samples, {name}: loss {gap:.1e} from the published "
              f"{loss:.4f}, first gradient turned by 1 - cos = {turn:.1e}")  # fmt: skip
        loose = bf16 and name == FAST
        if not (gap < (5e-2 if loose else 2e-5) and (loose or turn < 1e-3)):
            raise SystemExit("The two do not compute the same; their times say nothing.")


def first_gradient(side: nn.Module) -> torch.Tensor:
    layer = side.ae.stem.layers[0] if isinstance(side, Ours) else side.ae.encoder.input_conv[0]
    return layer.weight.grad


# --- loader ---------------------------------------------------------------------------------------


def strips(n: int, seed: int = 0) -> np.ndarray:
    """(n, 12, 1000) mV: a spike train with T waves, a rate of its own, and noise, lead by lead."""
    rng = np.random.default_rng(seed)
    t = np.arange(1000) / FS
    out = 0.02 * rng.standard_normal((n, 12, 1000))
    for one in out:
        beats = np.arange(rng.uniform(0.2, 0.6), 10, 60 / rng.uniform(55, 100))
        qrs = np.exp(-0.5 * ((t[:, None] - beats) / 0.02) ** 2).sum(1)
        wave = np.exp(-0.5 * ((t[:, None] - beats - 0.28) / 0.05) ** 2).sum(1)
        one += rng.uniform(0.5, 1.5, (12, 1)) * qrs + rng.uniform(0.1, 0.3, (12, 1)) * wave
    return out.astype(np.float32)


class OurRecords:
    """Strips and R peaks once for all records; a batch is a gather and its masks."""

    def __init__(self, signals: np.ndarray):
        self.x = torch.from_numpy(risk_input(signals, FS, STRIP, kind="strip"))
        beats = find_beats(signals, FS)
        offset = (STRIP - signals.shape[-1]) // 2
        self.peaks = [beats.of(i) + offset for i in range(len(signals))]

    def batch(self, rows: np.ndarray, rng) -> torch.Tensor:
        peaks = [self.peaks[i] for i in rows]
        return masked(self.x[rows], pretraining_masks(len(rows), rng, STRIP, peaks, FS))


def loader_ratio(args) -> float:
    """Records per s, ours / published, of an epoch in batches once ours holds strips and peaks."""
    signals = strips(args.records)
    rng = np.random.default_rng(0)
    theirs = PublishedRecords(signals[: max(args.records // 4, 2)], FS, STRIP, rng)
    theirs[0]  # what is imported at the first call
    seconds = min(timed(lambda: [theirs[i] for i in range(len(theirs))]) for _ in range(2))[0]
    slow = len(theirs) / seconds
    OurRecords(signals[:2])
    first = timed(lambda: our_epoch(OurRecords(signals), rng, args.batch))[0]
    kept = OurRecords(signals)
    quick = min(timed(lambda: our_epoch(kept, rng, args.batch)) for _ in range(5))[0]
    print(f"loader: published {slow:.0f} records per s; ours {len(signals) / first:,.0f} in the "
          f"first epoch, {len(signals) / quick:,.0f} in the next")  # fmt: skip
    return len(signals) / quick / slow


def our_epoch(records: OurRecords, rng, batch: int) -> None:
    order = rng.permutation(len(records.x))
    for start in range(0, len(order), batch):
        records.batch(order[start : start + batch], rng)


# --- Cox ------------------------------------------------------------------------------------------


def cox_milliseconds(n: int, repeats: int) -> float:
    """Forward and backward for n people, the quickest of the repeats; the slower kind of times."""
    rng = torch.Generator().manual_seed(0)
    event = (torch.rand(n, generator=rng) < 0.1).float()
    theta = torch.randn(n, generator=rng).requires_grad_()
    days = torch.rand(n, generator=rng)
    best = {}
    for name, when in (("distinct times", days), ("months", (120 * days).ceil())):
        times = [timed(lambda when=when: cox_loss(theta, when, event, "efron").backward())
                 for _ in range(max(repeats, 5))]  # fmt: skip
        best[name] = 1e3 * min(times)[0]
        print(f"Cox loss, {n:,} people, {name}: {best[name]:.1f} ms (CPU "
              f"{1e3 * min(cpu for _, cpu in times):.1f})")  # fmt: skip
    return max(best.values())


if __name__ == "__main__":
    main()
