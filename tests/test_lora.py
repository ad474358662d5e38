"""LoRA adapters: zero to begin with, only they train, saved and loaded alone."""

import importlib.util

import pytest
import torch

from ecgkit.models import lora
from ecgkit.models.lora import add_lora, load_lora, lora_parameters, save_lora
from ecgkit.models.prefix_llm import PrefixLLM, token_scores
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.types import ConfigError, ModelError

needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None,
    reason="peft is not installed (pip install ecgkit[lora])",
)


def small(width: int = 32, n_layers: int = 2):
    torch.manual_seed(0)
    return build_small_llm(300, width, n_layers, 4).requires_grad_(False)


IDS = torch.arange(10)[None]


def test_without_peft_the_extra_is_named(monkeypatch):
    llm = small()
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"FROZEN_LM=false .*pip install ecgkit\[lora\]"):
        add_lora(llm)


@needs_peft
def test_adapters_change_nothing_at_first_and_alone_are_trained():
    llm = small()
    before, names = llm(IDS).logits, {n for n, _ in llm.named_parameters()}
    assert add_lora(llm, rank=3) is llm
    torch.testing.assert_close(llm(IDS).logits, before, rtol=0, atol=0)
    trained = {n for n, p in llm.named_parameters() if p.requires_grad}
    assert trained == set(lora_parameters(llm)) and not trained & names
    assert all(3 in p.shape for p in lora_parameters(llm).values())
    assert not any("lm_head" in name or "embed" in name for name in trained)


@needs_peft
def test_the_reader_trains_adapters_through_question_and_answer():
    tokenizer = train_tokenizer(["Question: Is it normal? ECG: Answer: yes no"] * 2, 300)
    llm = build_small_llm(len(tokenizer), 32, 2, 4)
    reader = PrefixLLM(add_lora(llm, rank=2), tokenizer)
    targets, prefix = reader.encode_answers(["yes"]), torch.randn(1, 4, 32)
    optimizer = torch.optim.Adam(lora_parameters(llm).values(), lr=0.03)
    base = {n: p.clone() for n, p in llm.named_parameters() if "lora_" not in n}
    losses = []
    for _ in range(12):
        memory = reader.read_questions(["Is it normal?"])
        loss = token_scores(reader(memory, prefix, targets), targets)["loss"].mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # keys of the question carry a gradient too, so its own words train the adapters
    assert memory.layers[1][0].requires_grad and losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(p, base[n]) for n, p in llm.named_parameters() if n in base)


@needs_peft
def test_saved_adapters_come_back_on_the_same_model_and_no_other(tmp_path):
    llm = add_lora(small(), rank=2)
    for p in lora_parameters(llm).values():
        torch.nn.init.normal_(p, std=0.1)
    folder = save_lora(llm, tmp_path / "adapters")
    assert (folder / "adapter_model.safetensors").exists()
    assert not (folder / "model.safetensors").exists()
    fresh = small()
    assert (fresh(IDS).logits - llm(IDS).logits).abs().max() > 1e-2
    load_lora(fresh, folder)
    torch.testing.assert_close(fresh(IDS).logits, llm(IDS).logits, rtol=0, atol=0)
    assert all(p.requires_grad for p in lora_parameters(fresh).values())
    for other in (small(width=64), small(n_layers=1)):
        with pytest.raises(ModelError, match="load the model they were trained on"):
            load_lora(other, folder)
        assert not lora_parameters(other)
    with pytest.raises(ModelError, match="holds no LoRA adapters"):
        load_lora(small(), tmp_path)


@needs_peft
def test_what_add_lora_refuses(tmp_path):
    with pytest.raises(ConfigError, match="LORA_RANK is 0"):
        add_lora(small(), 0)
    with pytest.raises(ConfigError, match="LoRA does not fit"):
        add_lora(small(), 2, layers=("nope",))
    with pytest.raises(ConfigError, match="adapters already"):
        add_lora(add_lora(small(), 2), 2)
    with pytest.raises(ModelError, match="no LoRA adapters to save"):
        save_lora(small(), tmp_path)
