"""Any causal language model of the hub or of a folder, frozen.

Usage:

    tokenizer, llm = load_llm("meta-llama/Llama-3.2-1B")    # or a folder
    tokenizer, llm = load_llm("meta-llama/Llama-3.1-8B", four_bit=True)     # a GPU with 8 GB
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ecgkit import runtime
from ecgkit.text.encoders import hub_reachable
from ecgkit.types import ConfigError, ModelError

DTYPES = ("auto", "float32", "bfloat16", "float16")
_OTHERWISE = "leave LLM empty for the small Llama"


def load_llm(name: str, dtype: str = "auto", device: str = "auto", four_bit: bool = False):
    """Returns (tokenizer, causal language model) from a local folder or a hub id, on `device`,
    frozen and in eval mode.

    dtype auto = bfloat16 on a GPU, float32 on a CPU; `four_bit` holds the weights in 4 bits (NF4).
    A folder, or a hub model already in the local cache, needs no network. Raises ModelError in one
    sentence, within five seconds, when the model is neither here nor reachable, and ConfigError for
    settings this machine cannot serve.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    device = runtime.pick_device(device)
    options = _options(dtype, device, four_bit)
    logging.disable_progress_bar()
    local = Path(name).expanduser()
    if local.is_dir() and not (local / "config.json").exists():
        raise ModelError(
            f"{name} is a folder without config.json; give the folder that save_pretrained wrote."
        )
    source = str(local) if local.is_dir() else name
    here = local.is_dir() or _in_hub_cache(name)
    if not here:
        _require_hub(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=here)
        llm = AutoModelForCausalLM.from_pretrained(source, local_files_only=here, **options)
    except (OSError, ValueError) as error:
        reason = "failed to load" if here else "is gated, misspelt or not a causal language model"
        raise ModelError(
            f"Language model {name!r} {reason} ({runtime.first_line(error, 160)}); check the name, "
            f"log in with `hf auth login` if its licence asks for it, or {_OTHERWISE}."
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    llm = llm if four_bit else llm.to(device)
    return tokenizer, llm.requires_grad_(False).eval()


def _options(dtype: str, device, four_bit: bool) -> dict:
    """What from_pretrained is told of precision and place."""
    import torch

    if dtype not in DTYPES:
        raise ConfigError(f"LLM_DTYPE is {dtype!r}; choose one of {', '.join(DTYPES)}.")
    on_gpu = torch.device(device).type == "cuda"
    if dtype == "auto":
        dtype = "bfloat16" if on_gpu else "float32"
    options = {"dtype": getattr(torch, dtype)}
    if not four_bit:
        return options
    if not on_gpu:
        raise ConfigError(
            "LLM_4BIT needs a CUDA GPU, which is not in use here; set LLM_4BIT=false, or choose a "
            "smaller LLM."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "LLM_4BIT needs the package bitsandbytes, which is not installed; run "
            "`pip install bitsandbytes`, or set LLM_4BIT=false."
        )
    from transformers import BitsAndBytesConfig

    four = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=options["dtype"]
    )
    return options | {"quantization_config": four, "device_map": {"": device}}


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # not of the form "owner/name": huggingface_hub's own check
        raise ModelError(
            f"Language model {name!r} is neither a folder here nor a hub id (owner/name); give "
            f"one of the two, or {_OTHERWISE}."
        ) from None


def _require_hub(name: str) -> None:
    """Raises ModelError in a sentence when the hub does not answer, or is switched off."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("", "0", "FALSE", "NO"):
        raise ModelError(
            f"Language model {name!r} is not on this machine and HF_HUB_OFFLINE is set; unset it, "
            f"give a local folder, or {_OTHERWISE}."
        )
    # Behind a proxy a direct connection says nothing: there the library itself finds out.
    proxied = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if not proxied and not hub_reachable(3.0):
        raise ModelError(
            f"Language model {name!r} is not on this machine and the hub does not answer; connect "
            f"to the internet, give a local folder, or {_OTHERWISE}."
        )
