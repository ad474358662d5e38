"""Published ESI weights: the authors' key lists load strictly, files are read safely, wrong ones
refused; the kit's own folders of a whole ESI.
"""

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ecgkit import cli
from ecgkit.models import convnext, ecg_encoders, esi, esi_published, registry, xresnet
from ecgkit.models.checkpoints import (
    export_fairseq,
    input_of,
    load_fairseq,
    load_into,
    read_fairseq,
)
from ecgkit.models.saving import load_pretrained, save_pretrained
from ecgkit.text.encoders import small_bert
from ecgkit.types import ModelError

COUNTS = {"tiny": 255_461_574, "base": 314_436_870}


def published_state(shared, name):
    """Tensors on the meta device with the published keys and shapes."""
    with open(shared / "references" / f"esi_state_dict_{name}.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shapes = {r["key"]: [int(n) for n in r["shape"].split(",") if n] for r in rows}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def golden(shared) -> dict:
    """The small whole model of the published code, as a file of it would have it."""
    with np.load(shared / "golden" / "esi_model_small.npz") as file:
        return {k[3:]: torch.tensor(file[k]) for k in file.files if k.startswith("sd/")}


def same_weights(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- the authors' keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", COUNTS)
@pytest.mark.parametrize("kept", ["both", "pretrained_text_encoder.", "unimodal_layers."])
def test_whole_model_loads_the_published_keys_strictly(shared, size, kept):
    """The text encoder is there under two names, or (safetensors) under either one."""
    published = published_state(shared, f"full_{size}")
    other = {"pretrained_text_encoder.": "unimodal_layers.",
             "unimodal_layers.": "pretrained_text_encoder."}.get(kept, "none")
    published = {f"module.{k}": v for k, v in published.items() if not k.startswith(other)}
    position = "module.unimodal_layers.embeddings.position_ids"  # of older transformers
    state = esi_published.kit_names(published | {position: torch.empty(1, 512, device="meta")})
    with torch.device("meta"):
        model = esi_published.of_settings(esi_published.settings_of_state(state))
    load_into(model, state, "esi.pt")
    model.load_state_dict(state, strict=True)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[size]
    assert model.config == esi.ESIConfig(28_895) and model.unimodal_layers.pooler is not None


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_encoders_load_the_published_keys_strictly(shared, size):
    state = published_state(shared, f"encoder_{size}")
    with torch.device("meta"):
        model = convnext.ConvNeXt1D(convnext.ConvNeXtConfig.preset(size, n_classes=5))
    model.load_state_dict(state, strict=True)
    assert model.config == convnext.ConvNeXtConfig.of_state_dict(state)


def test_xresnet_loads_the_published_keys_strictly_alone_and_in_an_esi(shared):
    published = published_state(shared, "encoder_xresnet1d101")
    with torch.device("meta"):
        model = ecg_encoders.encoder_for("xresnet1d101")
    model.load_state_dict(xresnet.from_published(published), strict=True)
    whole = published_state(shared, "full_tiny")
    whole = {k: v for k, v in whole.items() if not k.startswith("img_encoder.")}
    whole |= {f"img_encoder.{k}": v for k, v in published.items()}
    whole["img_token_head.weight"] = torch.empty(768, 512, device="meta")
    for key in ("gamma", "beta"):
        whole[f"img_attn_pool.context_norm.{key}"] = torch.empty(256, device="meta")
    whole["img_attn_pool.to_kv.weight"] = torch.empty(128, 256, device="meta")
    state = esi_published.kit_names(whole)
    with torch.device("meta"):
        model = esi_published.of_settings(esi_published.settings_of_state(state))
    model.load_state_dict(state, strict=True)
    assert isinstance(model.img_encoder, xresnet.XResNet1D)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["esi.pt", "pytorch_model.bin", "model.safetensors"])
def test_a_file_by_path_becomes_the_model_it_was(shared, tmp_path, name):
    state, path = golden(shared), tmp_path / name
    if path.suffix == ".safetensors":
        save_file({k: v for k, v in state.items() if not k.startswith("pretrained_text")}, path)
    else:
        torch.save(state, path)
    found = read_fairseq(path)
    assert (found.kind, found.model_class, found.n_labels) == ("esi", "ESI", None)
    assert "MIMIC-IV-ECG" in input_of(found) and found.settings["protocol"] == "reference"
    model = load_fairseq(path)
    assert not model.training and same_weights(
        model.state_dict(), esi_published.kit_names(state))


def test_the_command_line_imports_and_shows_it(shared, tmp_path, capsys):
    torch.save(golden(shared), tmp_path / "esi.pt")
    assert cli.main(["model", "show", str(tmp_path / "esi.pt")]) == 0
    assert "ESI (esi, published code)" in capsys.readouterr().out
    folder = str(tmp_path / "folder")
    assert cli.main(["model", "import", str(tmp_path / "esi.pt"), "--out", folder]) == 0
    model = load_pretrained(folder)
    assert same_weights(model.state_dict(), esi_published.kit_names(golden(shared)))
    assert model.about["protocol"] == "reference"
    with pytest.raises(ModelError, match="no counterpart of ESI"):
        export_fairseq(model, tmp_path / "out.pt")


def test_wrong_files_are_refused_in_a_sentence(shared, tmp_path):
    state = golden(shared)
    without = {k: v for k, v in state.items() if not k.startswith("text_cls_norm")}
    torch.save(without | {"stray.weight": torch.zeros(1)}, tmp_path / "cut.pt")
    with pytest.raises(ModelError) as said:
        load_fairseq(tmp_path / "cut.pt")
    assert "cut.pt does not fit ESI: 2 missing: text_cls_norm." in str(said.value)
    assert "1 unexpected: stray.weight" in str(said.value)
    torch.save({k: v for k, v in state.items() if "word_embeddings" not in k}, tmp_path / "no.pt")
    with pytest.raises(ModelError, match="no.pt looks like ESI, but what gives its sizes"):
        read_fairseq(tmp_path / "no.pt")
    torch.save({k: v for k, v in state.items() if "layer." not in k}, tmp_path / "none.pt")
    with pytest.raises(ModelError, match="looks like ESI"):
        read_fairseq(tmp_path / "none.pt")
    torch.save(state, tmp_path / "esi.pt")
    with pytest.raises(ModelError, match="protocol reference"):
        read_fairseq(tmp_path / "esi.pt", protocol="paper")
    (tmp_path / "short.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    for name in ("short", "absent"):
        with pytest.raises(ModelError, match=f"{name}.safetensors is not a readable"):
            read_fairseq(tmp_path / f"{name}.safetensors")


# --- the kit's folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["micro", "small_xresnet", "small_vit"])
def test_a_whole_esi_is_rebuilt_from_its_folder_alone(tmp_path, name):
    torch.manual_seed(0)
    sizes = esi.ESIConfig(40, n_layers=1, n_heads=2, head_dim=8, ff_mult=2, n_queries=3,
                          protocol="paper", contrast_pool="query")
    model = esi.ESI(ecg_encoders.encoder_for(name), small_bert(40, 32, 1, 16), sizes).eval()
    again = load_pretrained(save_pretrained(model, tmp_path / name, {"input": "z-scored"}))
    assert registry.settings_of(again) == registry.settings_of(model)
    assert same_weights(again.state_dict(), model.state_dict())
    assert again.about["protocol"] == "paper"
    x, ids = torch.randn(2, 12, 320), torch.randint(4, 40, (2, 6))
    with torch.no_grad():
        ours, theirs = (m(x, ids, torch.ones_like(ids))["logits"] for m in (model, again))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("change, words", [
    ({"text_encoder": None}, "cannot be built"),
    ({"text_encoder": {"model_type": "no such"}}, "cannot be built"),
    ({"encoder": {"class": "ResNet"}}, "no model 'ResNet'"),
    ({"n_lairs": 3}, "no setting n_lairs"),
])
def test_settings_that_make_no_esi_are_refused(change, words):
    encoder = {"class": "ViT1D", "dim": 8, "depth": 1, "n_heads": 2}
    text = small_bert(40, 32, 1, 16).config.to_diff_dict()
    settings = {"vocab_size": 40, "encoder": encoder, "text_encoder": text} | change
    with pytest.raises(ModelError, match=words):
        registry.build("ESI", settings)
    with pytest.raises(ModelError, match="lack text_encoder"):
        registry.build("ESI", {"encoder": encoder})
