"""LoRA adapters for a language model that is to adapt as well: small low-rank additions to its
linear layers train, everything else stays frozen (Hu et al., ICLR 2022).

Needs peft (`pip install ecgkit[lora]`). Keys and values of a question then depend on what is
trained, so that a memory is good only until the next step of the adapters.

Usage:

    llm = add_lora(llm, rank=8)
    reader = PrefixLLM(llm, tokenizer)                # leaves the adapters trainable
    optimizer = AdamW([*mapper.parameters(), *lora_parameters(llm).values()])
    save_lora(llm, "runs/adapters")
    llm = load_lora(fresh_llm, "runs/adapters")
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import nn

from ecgkit.models.torch_files import read_weights
from ecgkit.types import ConfigError, ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def add_lora(
    llm: nn.Module, rank: int = 8, alpha: float | None = None,
    layers: tuple[str, ...] | str = "all-linear",
) -> nn.Module:
    """Puts LoRA of `rank` on the model's linear layers, head excepted, in place; returns it.

    alpha: scale of the addition times rank (None = 2 * rank). layers: names of the linear layers
    ("q_proj", "v_proj"), or all. The addition is zero to begin with. Raises ConfigError without
    peft, for a rank below 1, a model that has adapters already, or unknown layers.
    """  # fmt: skip
    _require_peft()
    if rank < 1:
        raise ConfigError(f"LORA_RANK is {rank}; it must be at least 1.")
    if lora_parameters(llm):
        raise ConfigError("This language model has LoRA adapters already; load it afresh.")
    from peft import LoraConfig

    targets = layers if isinstance(layers, str) else list(layers)
    config = LoraConfig(
        r=rank, lora_alpha=alpha or 2 * rank, target_modules=targets, task_type="CAUSAL_LM"
    )
    try:
        llm.add_adapter(config)
    except ValueError as error:
        raise ConfigError(f"LoRA does not fit this language model: {_first_line(error)}") from None
    return _only_adapters_train(llm)


def lora_parameters(llm: nn.Module) -> dict[str, nn.Parameter]:
    """The adapters' parameters by name; empty without adapters."""
    return {name: p for name, p in llm.named_parameters() if "lora_" in name}


def save_lora(llm: nn.Module, folder: str | Path) -> Path:
    """Writes the adapters alone, as peft does (safetensors and adapter_config.json)."""
    if not lora_parameters(llm):
        raise ModelError("This language model has no LoRA adapters to save; use add_lora first.")
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = Path(folder).expanduser()
    llm.save_pretrained(folder)
    return folder


def load_lora(llm: nn.Module, folder: str | Path) -> nn.Module:
    """Puts saved adapters on the model they were trained on, in place; returns it.

    Raises ModelError for a folder without adapters, or of another model's.
    """
    _require_peft()
    from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict

    folder = Path(folder).expanduser()
    if not all((folder / name).exists() for name in (CONFIG, WEIGHTS)):
        raise ModelError(f"{folder} holds no LoRA adapters; give a folder written by save_lora.")
    saved = {_bare(name): x for name, x in read_weights(folder / WEIGHTS)[0].items()}
    try:
        llm.add_adapter(LoraConfig.from_pretrained(str(folder)))
    except (ValueError, TypeError) as error:
        raise ModelError(f"The adapters in {folder} do not fit: {_first_line(error)}") from None
    own = {_bare(name): x.shape for name, x in get_peft_model_state_dict(llm).items()}
    given = {name: x.shape for name, x in saved.items()}
    other = [name for name in own.keys() | given.keys() if own.get(name) != given.get(name)]
    if other:
        llm.delete_adapter("default")
        raise ModelError(
            f"The adapters in {folder} do not fit this language model: {len(other)} of their "
            f"{len(saved)} tensors are missing, too many or of another shape, e.g. {min(other)}; "
            "load the model they were trained on."
        )
    set_peft_model_state_dict(llm, saved)
    return _only_adapters_train(llm)


def _bare(name: str) -> str:
    """Without the wrapper's prefix that peft writes into files."""
    return name.removeprefix("base_model.model.")


def _only_adapters_train(llm: nn.Module) -> nn.Module:
    for name, parameter in llm.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return llm


def _require_peft() -> None:
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(
            "FROZEN_LM=false needs the package peft, which is not installed; run "
            "`pip install ecgkit[lora]`, or set FROZEN_LM=true."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
