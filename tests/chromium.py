"""Where the browser of tests/browser is: Debian's chromium, or the one ECGKIT_CHROMIUM names.

Usage:
    path, reason = chromium.find()      # None and a reason where the notebooks cannot be opened
"""

import importlib.util
import os
import shutil


def find() -> tuple[str | None, str]:
    path = os.environ.get("ECGKIT_CHROMIUM") or shutil.which("chromium")
    if not path:
        return None, "chromium is not installed (apt-get install chromium, or ECGKIT_CHROMIUM)"
    if not importlib.util.find_spec("playwright"):
        return None, "playwright is not installed (pip install 'ecgkit[browser]')"
    return path, ""
