"""One small training for test_engine to start under `accelerate launch`, in one or two processes.

Usage: see test_engine.launch; arguments are FOLDER STEPS BUDGET (seconds, below 0 = none)
"""

import sys

import torch
from accelerate import PartialState

from ecgkit.tasks.batching import GroupedBatches
from ecgkit.tasks.engine import TrainSettings, fit

N_ITEMS = 48


def main() -> None:
    folder, n_steps, budget = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_ITEMS, 6, generator=generator)
    y = (x[:, :1] > 0).float()

    def make_batch(indices, rng):
        return {"x": x[indices], "y": y[indices]}

    def loss_fn(model, batch):
        logits = model(batch["x"])
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["y"])}

    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    settings = TrainSettings(n_steps=n_steps, batch_size=9, lr=1e-2, log_every=5, device="cpu",
                             eval_every=10, checkpoint_every=1000,
                             time_budget_s=budget if budget >= 0 else None)
    group = [i % 3 == 0 for i in range(N_ITEMS)]
    order = GroupedBatches(group, range(N_ITEMS), settings.batch_size, n_steps, seed=0)
    state = PartialState(cpu=True)
    if state.is_main_process:  # one voice: two that print at once cut into each other's lines
        print("processes:", state.num_processes)
    fit(model, N_ITEMS, make_batch, loss_fn, settings, folder, batches=order,
        evaluate=lambda m: {"norm": sum(float(p.square().sum()) for p in m.parameters())})


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()  # its threads may outlive the interpreter and abort it
