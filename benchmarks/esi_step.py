"""One training step of ESI: ours beside the published structure, in one run, on the same batches.

A step is forward, both losses, backward and AdamW. The captions are a fixed draw of token ids with
the lengths of the published ones (one to three statements, each with its waveform text); batches
are cut from it as they come, the same for both sides. `published_esi.py` pads each batch to its
longest caption, and carries the padding through both text models and the logits; ours is the kit's
model, which leaves it out (and so has no need of length buckets). The 16 captions that are the
default, padded, are 1.55 times as many tokens; of a long draw in batches of 8 it would be 1.58.
Both have the same weights, no dropout, no clipping; their losses on these batches are compared
first. The two take turns, step by step, so that what else the machine does falls on both alike;
each batch counts at its quickest. bf16 is ours under autocast, against the published fp32; null
where the machine has no bf16 instructions. The speed of a large matrix product in either precision
is printed beside: where bf16 is no quicker there, nor is the step.

Memory is the peak of what PyTorch's allocator holds while one step goes forward and back, above
what it holds before: weights, optimiser state and gradients (which are there from the start).

With a GPU, also samples per s of ours in bf16, compiled, at --size base and batch 48, the share of
the GPU's matrix speed that this uses, its memory, and the hours of pretraining.

Prints machine, CPU model, threads and versions; the last line is JSON: exact_ratio and bf16_ratio
(time of the step, published / ours), memory_ratio (ours / published, fp32).
Usage: python benchmarks/esi_step.py [--size tiny] [--captions 16] [--batch 8] [--repeats 2]
           [--threads 2] [--device cpu] [--throughput] [--compiler inductor]
"""

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np
import torch
from published_esi import PublishedESI
from torch.profiler import ProfilerActivity, profile
from train_step import has_bf16, product_speed
from transformers import BertConfig, BertModel

from ecgkit import runtime
from ecgkit.models.convnext import Block, ConvNeXt1D, ConvNeXtConfig
from ecgkit.models.esi import ESI, ESIConfig
from ecgkit.models.esi_decoder import Residual
from ecgkit.models.losses_esi import caption_loss, contrastive_loss, shift_captions

LR = 5e-5
PUBLISHED, OURS, OURS_BF16 = "published fp32", "ours fp32", "ours bf16"
TEXT = dict(vocab_size=28_895, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
            intermediate_size=3072, max_position_embeddings=512)  # fmt: skip
SMOKE_TEXT = dict(vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                  intermediate_size=64, max_position_embeddings=512)  # fmt: skip
SIZES = {  # name: (ECG encoder, text encoder, decoder), as published but for smoke
    "tiny": (ConvNeXtConfig.preset("tiny", n_classes=5), TEXT, {}),
    "base": (ConvNeXtConfig.preset("base", n_classes=5), TEXT, {}),
    "smoke": (ConvNeXtConfig(depths=(1, 1, 1, 1), dims=(8, 12, 16, 24)), SMOKE_TEXT,
              dict(n_layers=2, n_heads=2, head_dim=8)),
}  # fmt: skip
PAIRS, EPOCHS = 660_000, 30  # the published pretraining


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="tiny", choices=SIZES)
    parser.add_argument("--captions", type=int, default=16, help="of one round")
    parser.add_argument("--batch", type=int, default=8, help="captions of one step")
    parser.add_argument("--samples", type=int, default=5000, help="of one ECG")
    parser.add_argument("--repeats", type=int, default=2, help="rounds of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--throughput", action="store_true", help="what a GPU always does")
    parser.add_argument("--compiler", default="inductor", help="torch.compile backend; '' = none")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(runtime.environment_report())
    batches = make_batches(args, args.captions, args.batch)
    n_words = [int((ids != 0).sum()) for _, ids in batches]
    print(f"ESI {args.size}, {len(batches)} batches of {args.batch}, {args.samples} samples, "
          f"{sum(n_words)} tokens, {sum(ids.numel() for _, ids in batches)} with padding, "
          f"{args.repeats} rounds, {args.threads} threads, {args.device}")  # fmt: skip
    sides = make_sides(args)
    compare_losses(sides, batches)
    seconds = take_turns(sides, batches, args)
    memory = {name: peak_memory(side, max(batches, key=lambda b: b[1].numel()), args.device)
              for name, side in sides.items()}  # fmt: skip
    report(seconds, memory, args)
    del sides
    if args.throughput or args.device == "cuda":
        throughput(args)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    print(json.dumps(ratios(seconds, memory)))


def report(seconds: dict, memory: dict, args) -> None:
    for name, rounds in seconds.items():
        forward, backward, update = rounds.min(0).mean(0)
        middle = np.median(rounds.sum(2), axis=0).mean()
        print(f"{name}: {quickest(rounds):.3g} s a step (median {middle:.3g}): forward "
              f"{forward:.3g}, backward {backward:.3g}, AdamW {update:.3g}; memory above weights, "
              f"gradients and optimiser {memory[name] / 1e9:.3g} GB")  # fmt: skip
    for dtype in (torch.float32, torch.bfloat16):
        print(f"large matrix product in {str(dtype)[6:]}: {matrix_speed(dtype, args) / 1e9:,.0f} "
              "GFLOP/s")  # fmt: skip


def matrix_speed(dtype: torch.dtype, args) -> float:
    """FLOP/s of a large product."""
    n = {"smoke": 256}.get(args.size, 8192 if args.device == "cuda" else 2048)
    return product_speed(dtype, args, n)


def quickest(rounds: np.ndarray) -> float:
    """Seconds of a step, from (rounds, batches, phases): each batch at its quickest."""
    return float(rounds.sum(2).min(0).mean())


def ratios(seconds: dict, memory: dict) -> dict[str, float | None]:
    step = {name: quickest(rounds) for name, rounds in seconds.items()}
    bf16 = step[PUBLISHED] / step[OURS_BF16] if OURS_BF16 in step else None
    return {
        "exact_ratio": round(step[PUBLISHED] / step[OURS], 2),
        "bf16_ratio": bf16 and round(bf16, 2),
        "memory_ratio": round(memory[OURS] / memory[PUBLISHED], 2),
    }


# --- the work -------------------------------------------------------------------------------------


def caption_lengths(n: int, seed: int = 0) -> np.ndarray:
    """Tokens of n captions with [CLS] and [SEP]. An opening of 17, one to three statements of 11,
    each with a waveform text around 87 long: medians of 117, 215 and 313, as measured on the
    published texts; at most 500, where the published code cuts.
    """
    rng = np.random.default_rng(seed)
    n_statements = rng.integers(1, 4, n)
    texts = np.clip(rng.normal(87, 25, (n, 3)).round(), 10, 406) * (
        np.arange(3) < n_statements[:, None]
    )
    return np.minimum(2 + 17 + 11 * n_statements + texts.sum(1), 500).astype(int)


def make_batches(args, n_captions: int, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """[(signals (B, C, T), ids (B, L))] as they come; id 0 pads to a batch's longest caption."""
    rng, batches = np.random.default_rng(0), []
    vocabulary = SIZES[args.size][1]["vocab_size"]
    for lengths in np.split(caption_lengths(n_captions), range(size, n_captions, size)):
        ids = rng.integers(5, vocabulary, (len(lengths), lengths.max()))
        ids[:, 0], ids[np.arange(len(ids)), lengths - 1] = 2, 3
        ids *= np.arange(lengths.max()) < lengths[:, None]
        signals = rng.standard_normal((len(lengths), 12, args.samples), dtype=np.float32)
        batches.append(tuple(torch.from_numpy(x).to(args.device) for x in (signals, ids)))
    return batches


# --- the sides ------------------------------------------------------------------------------------


def make_model(size: str, device: str) -> ESI:
    ecg, text, decoder = SIZES[size]
    torch.manual_seed(0)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    text_encoder = BertModel(BertConfig(**text, **no_dropout))
    config = ESIConfig(text["vocab_size"], **decoder)
    return ESI(ConvNeXt1D(ecg), text_encoder, config).to(device).train()


class Side:
    """A model, its loss and its optimiser; a step returns the seconds of its three phases."""

    def __init__(self, model, loss, optimiser, device: str, bf16: bool = False):
        self.model, self._loss, self.optimiser = model, loss, optimiser
        self.device, self.bf16 = device, bf16

    def loss(self, signals, ids):
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return self._loss(self.model, signals, ids)

    def step(self, signals, ids) -> tuple[float, float, float]:
        times = [self._now()]
        loss = self.loss(signals, ids)
        times.append(self._now())
        loss.backward()
        times.append(self._now())
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return tuple(np.diff([*times, self._now()]))

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def our_loss(model, signals, ids):
    inputs, mask, labels = shift_captions(ids, (ids != 0).long(), "reference")
    out = model(signals, inputs, mask, labels)
    contrast = contrastive_loss(out["ecg_latents"], out["text_latents"], out["temperature"])
    return contrast + caption_loss(out["caption_logits"], out["caption_labels"])


def published_loss(model, signals, ids):
    return model(signals.transpose(1, 2), ids, (ids != 0).long())["loss"]


def make_sides(args) -> dict[str, Side]:
    """All train the same weights, so that memory holds them once; the published optimiser is
    PyTorch's AdamW as it comes, ours fused.
    """
    model = make_model(args.size, args.device)
    published = PublishedESI(model.img_encoder.config, model.unimodal_layers, model.config)
    published.load_state_dict(model.state_dict(), assign=True)
    fused = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    plain = torch.optim.AdamW(published.parameters(), lr=LR)
    sides = {PUBLISHED: Side(published.train(), published_loss, plain, args.device),
             OURS: Side(model, our_loss, fused, args.device)}  # fmt: skip
    if has_bf16(args.device):
        sides[OURS_BF16] = Side(model, our_loss, fused, args.device, bf16=True)
    return sides


@torch.no_grad()
def compare_losses(sides: dict[str, Side], batches) -> None:
    """Raises SystemExit where a loss is not the published one (1e-5; bf16: 1e-2)."""
    losses = {name: [float(s.loss(*batch)) for batch in batches] for name, s in sides.items()}
    for name in list(sides)[1:]:
        gap = np.abs(np.subtract(losses[name], losses[PUBLISHED])).max()
        print(f"loss of {name}: at most {gap:.1e} from the published {losses[PUBLISHED][0]:.4f}")
        if not gap < (1e-2 if sides[name].bf16 else 1e-5):
            raise SystemExit("The two do not compute the same; their times say nothing.")


def take_turns(sides: dict[str, Side], batches, args) -> dict[str, np.ndarray]:
    """Seconds (rounds, batches, phases) of each side."""
    for side in sides.values():  # memory and kernels are fetched once
        side.step(*(x[: max(2, args.batch // 4)] for x in batches[0]))
    seconds = {name: np.zeros((args.repeats, len(batches), 3)) for name in sides}
    for i in range(args.repeats):
        for j, batch in enumerate(batches):
            for name in list(sides)[:: 1 if (i + j) % 2 == 0 else -1]:
                seconds[name][i, j] = sides[name].step(*batch)
    return seconds


def peak_memory(side: Side, batch, device: str) -> float:
    """Bytes at the peak of forward and backward, above what stood before, gradients included."""
    for parameter in side.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side.loss(*batch).backward()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            side.loss(*batch).backward()
        events = (e for e in found.profiler.kineto_results.events() if e.name() == "[memory]")
        changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
        peak = np.cumsum(changes).max()  # bytes taken, or given back where negative
    side.optimiser.zero_grad(set_to_none=True)
    return float(peak)


# --- what a GPU does ------------------------------------------------------------------------------


def needed_flops(model: ESI, lengths: np.ndarray, n_samples: int) -> float:
    """Operations (2 per multiply-add) of training on captions of these lengths and as many ECGs:
    matrix products alone, no padding; backward is twice the forward pass.
    """
    ecg, text, width = model.img_encoder.config, model.unimodal_layers.config, 0
    steps, ecg_macs = n_samples, 0
    for i, (depth, dim) in enumerate(zip(ecg.depths, ecg.dims)):
        stride = ecg.stride if i else ecg.stem
        steps //= stride
        ecg_macs += steps * dim * ((width or ecg.n_leads) * stride + depth * (8 * dim + ecg.kernel))
        width = dim
    dim, sizes = text.hidden_size, model.config
    layer = 4 * dim**2 + 2 * dim * text.intermediate_size
    inner, hidden = sizes.n_heads * sizes.head_dim, sizes.ff_mult * dim
    decoder = dim * (2 * inner + 2 * sizes.head_dim + 6 * hidden)
    said = lengths - 2  # [CLS] and the first word are not asked for
    words = lengths.sum() * text.num_hidden_layers * layer
    words += said.sum() * (sizes.n_layers * decoder + dim * sizes.vocab_size)
    words += (2 * dim * text.num_hidden_layers * lengths**2).sum()
    words += (inner * sizes.n_layers * said**2).sum()  # half of all pairs, for it is causal
    return 3 * 2 * float(len(lengths) * ecg_macs + words)


def compile_blocks(model: ESI, backend: str) -> None:
    """Compiles what repeats; a block's code then serves all of its kind, whatever the lengths."""
    layers = type(model.unimodal_layers.encoder.layer[0])
    for module in model.modules():
        if isinstance(module, (Block, Residual, layers)):
            module.compile(backend=backend, dynamic=True)


def throughput(args) -> None:
    """Prints samples per s of ours in bf16 at base size and batch 48 (smoke: 4), MFU, memory, and
    hours of pretraining.
    """
    size, batch = ("smoke", 4) if args.size == "smoke" else ("base", 48)
    model, batches = make_model(size, args.device), make_batches(args, 4 * batch, batch)
    if args.compiler:
        compile_blocks(model, args.compiler)
    fused = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    side = Side(model, our_loss, fused, args.device, bf16=True)
    for one in batches:  # every length once, so that all is compiled
        side.step(*one)
    seconds = float(np.sum([side.step(*one) for one in batches]))
    lengths = np.concatenate([(ids != 0).sum(1).cpu().numpy() for _, ids in batches])
    rate = needed_flops(model, lengths, args.samples) / seconds
    peak, memory = matrix_speed(torch.bfloat16, args), peak_memory(side, batches[0], args.device)
    hours = PAIRS * EPOCHS / (len(lengths) / seconds) / 3600
    print(f"ours bf16, ESI {size}, batch {batch}: {len(lengths) / seconds:.3g} samples per s, "
          f"{rate / 1e9:,.0f} of {peak / 1e9:,.0f} GFLOP/s ({rate / peak:.0%}), "
          f"{memory / 1e9:.3g} GB above weights, gradients and optimiser")  # fmt: skip
    print(f"{PAIRS:,} pairs x {EPOCHS} epochs: {hours:,.0f} h on 1 GPU, {hours / 4:,.0f} h on 4 "
          "if they share it evenly")  # fmt: skip


if __name__ == "__main__":
    main()
