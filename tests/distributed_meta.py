"""One small meta-training for test_fewshot_train to start under `accelerate launch`.

Usage: see test_two_processes_share_their_gradients; the argument is the FOLDER
"""

import sys

from accelerate import PartialState
from few_shot_stand_in import Sampler, make_config, make_task

from ecgkit.tasks.fewshot_train import meta_train


def main() -> None:
    state = PartialState(cpu=True)
    if state.is_main_process:  # one voice: two that print at once cut into each other's lines
        print("processes:", state.num_processes)
    config = make_config(meta_steps=3, tasks_per_step=3)
    meta_train(make_task(), Sampler(), config, sys.argv[1])


if __name__ == "__main__":
    main()
    PartialState().destroy_process_group()  # its threads may outlive the interpreter and abort it
