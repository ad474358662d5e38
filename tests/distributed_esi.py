"""One small ESI pretraining for test_esi_distributed to start under `accelerate launch`.

Augmentation and crops are off: their chance is drawn per process. Writes the gradients of each step
(clipped, as the optimiser gets them) and the weights at the end; prints from the main process only.

Usage: distributed_esi.py FOLDER
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ecgkit.config import EsiConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.tasks import esi_batches, esi_pretrain, esi_study

N_STEPS = 3


def train(folder: Path, protocol: str, is_main: bool) -> None:
    # The published code cuts the last column off the texts of each process, wherever they end;
    # texts of one length lose the same in one process and in two.
    equal = {"full_share": 1.0, "max_tokens": 24} if protocol == "reference" else {}
    config = EsiConfig.from_params({
        "preset": "tiny", **equal, "protocol": protocol, "n_steps": N_STEPS, "batch_size": 9,
        "lr": 1e-4, "crop_s": 0.0, "n_sampled": 1, "device": "cpu", "precision": "fp32",
    })  # fmt: skip
    study = esi_study.prepare(config, open_cohort(config, quiet=True))
    gradients, named = [], list(study.model.named_parameters())

    def keep(optimiser, args, kwargs):
        gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    hook = register_optimizer_step_pre_hook(keep)
    log = esi_pretrain.pretrain(study, folder / protocol)
    hook.remove()
    if is_main:
        torch.save({"gradients": gradients, "weights": study.model.state_dict(),
                    "log": log.table.drop(columns="seconds").to_dict("list")},
                   folder / f"{protocol}.pt")


def main() -> None:
    folder, state = Path(sys.argv[1]), PartialState(cpu=True)
    esi_batches.augmented = lambda signals, rng, shift=False: esi_preprocess(signals)
    for protocol in ("paper", "reference"):
        train(folder, protocol, state.is_main_process)
    if state.is_main_process:
        print("processes:", state.num_processes)


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()  # its threads may outlive the interpreter and abort it
