"""A script of the tests in one or several gloo processes on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def launched(script: str, args, n_processes: int) -> None:
    """Runs tests/<script> with `args`; fails where it does, or where other processes ran it.

    The script prints `processes: N` from its main process.
    """
    # `launch --cpu` alone starts one process; this is how it starts several, which then take gloo.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ECGKIT_BATCH": "1", "ACCELERATE_USE_CPU": "true"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
               "--num_machines", "1", "--num_processes", str(n_processes),
               "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port",
               str(port)] if n_processes > 1 else [sys.executable]
    path = Path(__file__).with_name(script)
    done = subprocess.run([*started, str(path), *map(str, args)], env=env, capture_output=True,
                          text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"processes: {n_processes}" in done.stdout
