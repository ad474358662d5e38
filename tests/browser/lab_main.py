"""JupyterLab that ends, kernels and all, when the process that started it does, however that ends:
its standard input is a pipe from there, which then closes.

Usage: python tests/browser/lab_main.py [JupyterLab's options], with a pipe as standard input
"""

import os
import signal
import sys
import threading

from jupyterlab.labapp import main


def end_with_the_pipe() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    main()
