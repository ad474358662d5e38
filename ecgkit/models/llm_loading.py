"""Any causal language model of the hub or of a folder, frozen.

Usage:
    tokenizer, llm = load_llm("meta-llama/Llama-3.2-1B")    # or a folder
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlparse

from ecgkit.types import ModelError


def load_llm(name: str, dtype: str = "float32"):
    """Returns (tokenizer, causal language model) from a local folder or a hub id, in `dtype`,
    frozen and in eval mode.

    A folder, or a hub model already in the local cache, needs no network. Raises ModelError in one
    sentence, within five seconds, when the model is neither here nor reachable.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    local = Path(name).expanduser()
    source = str(local) if local.is_dir() else name
    if local.is_dir() and not (local / "config.json").exists():
        raise ModelError(
            f"{name} is a folder without config.json; give the folder that save_pretrained wrote."
        )
    options = {"local_files_only": local.is_dir() or _in_hub_cache(name) or not _reachable(name)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        llm = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype), **options)
    except (OSError, ValueError) as error:
        reason = (
            "is gated, misspelt or not a causal language model"
            if not options["local_files_only"]
            else "failed to load"
        )
        raise ModelError(
            f"Language model {name!r} {reason} ({_first_line(error)}); check the name, log in with "
            "`hf auth login` if its licence asks for it, or leave LLM empty for the small Llama."
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, llm.requires_grad_(False).eval()


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # not of the form "owner/name": huggingface_hub's own check
        raise ModelError(
            f"Language model {name!r} is neither a folder here nor a hub id (owner/name); give "
            "one of the two, "
            "or leave LLM empty for the small Llama."
        ) from None


def _reachable(name: str, seconds: float = 3.0) -> bool:
    """True when the hub answers a connection. Raises ModelError in a sentence when it does not, or
    is switched off.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("", "0", "FALSE", "NO"):
        raise ModelError(
            f"Language model {name!r} is not on this machine and HF_HUB_OFFLINE is set; unset "
            "it, give a local "
            "folder, or leave LLM empty for the small Llama."
        )
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    url = urlparse(proxy or os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    found = []
    # In a thread of its own because a name look-up ignores socket timeouts.
    probe = threading.Thread(target=_connect, args=(url, seconds, found), daemon=True)
    probe.start()
    probe.join(seconds)
    if not found:
        raise ModelError(
            f"Language model {name!r} is not on this machine and {url.hostname} does not "
            "answer; connect to the "
            "internet, give a local folder, or leave LLM empty for the small Llama."
        )
    return True


def _connect(url, seconds: float, found: list) -> None:
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname, port), timeout=seconds).close()
        found.append(True)
    except OSError:
        pass


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
