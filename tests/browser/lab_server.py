"""JupyterLab on this machine's own address, with settings, kernels and files of its own.

Usage:
    with lab_server(folder) as server:         # `folder` holds the notebooks
        server.address("00_start_here.ipynb")  # with its token, for a browser
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

START_S, STOP_S = 60, 10
# What a terminal, another Jupyter or pytest would hand on: a reader's server has none of it.
NOT_HANDED_ON = ("ECGKIT_BATCH", "MPLBACKEND", "JPY_PARENT_PID", "PYTEST_CURRENT_TEST")
SETTINGS = {
    # Every cell stays in the page, so that one off the screen can be looked at too.
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@dataclass(frozen=True)
class Server:
    """Where a running JupyterLab is reached."""

    url: str
    token: str

    def address(self, notebook: str) -> str:
        return f"{self.url}lab/tree/{notebook}?token={self.token}&reset"

    def end_kernels(self) -> None:
        """Ends every kernel, as a reader does who is through with a notebook."""
        for kernel in json.load(self._ask("api/kernels")):
            self._ask(f"api/kernels/{kernel['id']}", "DELETE")

    def _ask(self, path: str, method: str = "GET"):
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, headers=headers, method=method)
        return urllib.request.urlopen(request, timeout=STOP_S)


@contextlib.contextmanager
def lab_server(notebooks: Path) -> Iterator[Server]:
    """Serves the folder `notebooks`; at the end no process of it is left, whatever happened.

    Its own files lie beside that folder. Raises RuntimeError with its log where it does not start.
    """
    home, token = notebooks.parent / "jupyter", secrets.token_hex(16)
    _write_settings(home / "settings")
    command = [
        *(sys.executable, str(Path(__file__).with_name("lab_main.py"))),
        *("--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={notebooks}"),
        "--LabApp.extension_manager=readonly",
    ]
    log = home / "server.log"
    with log.open("w") as out:
        process = psutil.Popen(
            command, env=_environment(home, token), stdin=subprocess.PIPE, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield Server(_wait_for_url(process, home / "runtime", log), token)
        finally:
            _end(process)


def _environment(home: Path, token: str) -> dict[str, str]:
    """This process's, with a reader's live mode, one thread a kernel, and Jupyter's own folders."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON}
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    own = {name: str(home / folder) for name, folder in folders.items()}
    return kept | own | {"JUPYTER_TOKEN": token, "OMP_NUM_THREADS": "1"}


def _write_settings(folder: Path) -> None:
    for name, values in SETTINGS.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def _wait_for_url(process: psutil.Popen, runtime: Path, log: Path) -> str:
    """The port is the system's choice (two runs never meet); the server's own file names it."""
    patience = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < patience:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, KeyError):  # not written to its end yet
                return json.loads(path.read_text())["url"]
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start within {START_S} s:\n{log.read_text()[-3000:]}")


def _end(process: psutil.Popen) -> None:
    """Asks the server to end, then ends what is left; kernels have sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_S)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(alive, timeout=STOP_S)
