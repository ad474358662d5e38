"""The kit's own model folders: there and back, cards, refusals, and a hub that really answers."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hub_server import TOKEN, Hub

from ecgkit import cli
from ecgkit.models import registry, saving
from ecgkit.models.checkpoints import export_fairseq
from ecgkit.models.deaf_qa import DeafQA
from ecgkit.models.ecg_encoders import encoder_for
from ecgkit.models.ecg_transformer import (
    ECGTransformer,
    ECGTransformerClassifier,
    ECGTransformerConfig,
)
from ecgkit.models.esi import ESI, ESIConfig
from ecgkit.models.fusion_qa import BlindQA, FusionConfig, FusionQA
from ecgkit.models.m3ae import M3AEQA, M3AEConfig, M3AEPretraining
from ecgkit.models.medvill import ATTENTION, MedViLLPretraining
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.resnet_attention import ResNetAttention
from ecgkit.models.resnet_lstm import ResNetLSTM, ResNetLSTMConfig
from ecgkit.models.saving import load_pretrained, push, read_config, save_pretrained
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.models.wav2vec import Wav2Vec2CMSC, Wav2VecConfig
from ecgkit.text.encoders import small_bert
from ecgkit.types import NOT_FOR_DIAGNOSIS, ConfigError, ModelError

SMALL = {"conv_layers": ((16, 2, 2),) * 4, "dim": 32, "ffn_dim": 48, "n_layers": 2, "n_heads": 4,
         "pos_kernel": 16, "pos_groups": 4}
FUSION = FusionConfig(**SMALL, vocab_size=50, max_text=20, sep_id=3, protocol="reference")


MODELS = {
    "ECGTransformer": lambda: ECGTransformer(ECGTransformerConfig(**SMALL)),
    "ECGTransformerClassifier": lambda: ECGTransformerClassifier(ECGTransformerConfig(**SMALL), 5),
    "Wav2Vec2CMSC": lambda: Wav2Vec2CMSC(Wav2VecConfig(**SMALL, final_dim=8, code_dim=8,
                                                       n_codes=4)),
    "SEWideResNet": lambda: SEWideResNet(3, widths=(8, 8, 16), n_blocks=(1, 2), dropout=0.1),
    "ResNetAttention": lambda: ResNetAttention(3, width=16, n_blocks=2, n_heads=2, kernels=(7, 5)),
    "FusionQA": lambda: FusionQA(FUSION, 7),
    "BlindQA": lambda: BlindQA(FUSION, 7),
    "DeafQA": lambda: DeafQA(ECGTransformerConfig(**SMALL), 7, num_ecgs=1),
    "ResNetLSTM": lambda: ResNetLSTM(ResNetLSTMConfig(
        resnet_blocks=(1, 1, 1, 1), resnet_width=8, vocab_size=50, word_dim=8, lstm_dim=8,
        dim=16), 7),
    "M3AEQA": lambda: M3AEQA(M3AEConfig(**SMALL, vocab_size=50, max_text=20, sep_id=3), 7),
    "M3AEPretraining": lambda: M3AEPretraining(M3AEConfig(**SMALL, vocab_size=50, max_text=20)),
    "MedViLLPretraining": lambda: MedViLLPretraining(FUSION, attention=ATTENTION[-1]),
    "ConvNeXt1D": lambda: encoder_for("micro"),
    "XResNet1D": lambda: encoder_for("small_xresnet"),
    "ViT1D": lambda: encoder_for("small_vit"),
    "ESI": lambda: ESI(encoder_for("micro"), small_bert(40, 32, 1, 16), ESIConfig(
        40, n_layers=1, n_heads=2, head_dim=8, protocol="paper", contrast_pool="query")),
    "AttentionMapper": lambda: build_mapper("attention", 8, 16, 3, 2, 0.1, always_drop=True),
    "FeedForwardMapper": lambda: build_mapper("mlp", 8, 16, 3),
    "PerceiverMapper": lambda: build_mapper("perceiver", 8, 16, 3, 2),
}


def classifier(**about) -> tuple[SEWideResNet, dict]:
    torch.manual_seed(0)
    about = {"classes": ["AF", "a|b", "NORM"], "data": {
        "name": "synthetic", "fingerprint": "1a2b", "simulated": True, "n_ecgs": 400}} | about
    return SEWideResNet(3, widths=(8, 8, 16), n_blocks=1).eval(), about


@pytest.fixture
def folder(tmp_path) -> Path:
    model, about = classifier()
    return save_pretrained(model, tmp_path / "model", about)


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_rebuilt_from_its_folder_alone(tmp_path, name):
    torch.manual_seed(0)
    model = MODELS[name]()
    again = load_pretrained(save_pretrained(model, tmp_path))
    assert type(again) is type(model) and not again.training
    assert registry.settings_of(again) == registry.settings_of(model)
    assert registry.n_labels_of(again) == registry.n_labels_of(model)
    own, read = model.state_dict(), again.state_dict()
    assert own.keys() == read.keys() and all(torch.equal(own[k], read[k]) for k in own)
    assert {p.name for p in tmp_path.iterdir()} == set(saving.FILES)


def test_what_is_said_about_it_comes_back_and_numpy_is_no_obstacle(tmp_path):
    model, about = classifier(metrics={"auroc": {"value": np.float64(0.9), "n": np.int64(40)}},
                              protocol="reference", input="mV")
    body = load_pretrained(save_pretrained(model, tmp_path, about)).about
    assert body["classes"] == about["classes"] and body["data"] == about["data"]
    assert body["metrics"] == {"auroc": {"value": 0.9, "n": 40}}
    assert (body["protocol"], body["input"], body["n_labels"]) == ("reference", "mV", 3)


def test_every_model_of_the_registry_is_tried_here():
    assert set(MODELS) == set(registry.MODELS)


def test_weights_that_share_memory_are_saved(tmp_path):
    model = BlindQA(FUSION, 50)
    model.proj.weight = model.language_embedding.weight
    again = load_pretrained(save_pretrained(model, tmp_path))
    assert torch.equal(again.proj.weight, model.proj.weight)


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1,)


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    layers: tuple = ((1, 2),)


def test_settings_within_settings():
    plain = json.loads(json.dumps(dataclasses.asdict(Outer(Inner((3, 4)), ((5, 6), (7, 8))))))
    assert registry.make_config(Outer, plain) == Outer(Inner((3, 4)), ((5, 6), (7, 8)))


# --- cards ----------------------------------------------------------------------------------------


def card_of(tmp_path, **about) -> str:
    model, about = classifier(**about)
    return (save_pretrained(model, tmp_path, about) / "README.md").read_text()


def test_the_card_says_simulated_scores_with_intervals_and_not_for_diagnosis(tmp_path):
    card = card_of(tmp_path, metrics={
        "macro AUROC": {"value": 0.912, "low": 0.88, "high": 0.94, "n": 70, "note": "fold 10"},
        "plain": 0.5, "unknown": {"value": None}})
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "other" and header["library_name"] == "ecgkit"
    assert {"ecg", "SEWideResNet", "simulated-data"} <= set(header["tags"])
    assert "SIMULATED" in card and NOT_FOR_DIAGNOSIS in card and "load_pretrained(" in card
    assert "| macro AUROC | 0.912 | 0.880 to 0.940 | 70 | fold 10 |" in card
    assert "| plain | 0.500 | - | - | - |" in card and "| unknown | - |" in card
    assert "AF, a\\|b, NORM" in card and "1a2b" in card


def test_the_card_of_real_data_does_not_say_simulated(tmp_path):
    card = card_of(tmp_path, licence="cc-by-4.0", notes="Line: with colon", data={
        "name": "ptbxl", "simulated": False, "n_ecgs": 21799, "fingerprint": "ff"})
    assert "imulated" not in card and "ptbxl" in card and "21799" in card
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"
    assert "The data are not recorded." in card_of(tmp_path, data={})


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("about, words", [
    ({"classes": ["one"]}, "names 1 classes, but SEWideResNet has 3 outputs"),
    ({"clases": []}, "about has no clases; it may hold task"),
    ({"notes": object()}, "holds a object; give plain"),
    ({"metrics": {"auroc": float("nan")}}, "not finite"),
])
def test_an_about_that_does_not_fit_is_refused_before_anything_is_written(tmp_path, about, words):
    model, known = classifier()
    with pytest.raises(ConfigError, match=words):
        save_pretrained(model, tmp_path / "m", known | about)
    assert not (tmp_path / "m").exists()


def test_a_model_that_is_not_in_the_registry(tmp_path):
    with pytest.raises(ModelError, match="no model 'Linear' to save or load; it has ECGTransf"):
        save_pretrained(torch.nn.Linear(2, 2), tmp_path / "m")


@pytest.mark.parametrize("change, words", [
    ({"class": "Unheard"}, "no model 'Unheard'"),
    ({"format": 99, "version": "9.0"}, "written by ecgkit 9.0.*update the kit"),
    ({"class": 3}, "does not say class"),
    ({"settings": {"depth": 3}}, "has no setting depth"),
    ({"settings": {"widths": [8, 8], "n_blocks": "two"}}, "cannot be built from these settings"),
    ({"n_labels": None}, "needs n_labels"),
    ({"n_labels": 4}, r"2 of another shape: proj.weight \(3, 16\) for \(4, 16\)"),
    ({"settings": {"widths": [8, 8, 16], "n_blocks": 2, "squeezes": [1, 2]}}, "missing: encoder"),
])
def test_folders_that_do_not_fit(folder, change, words):
    body = read_config(folder) | change
    (folder / "config.json").write_text(json.dumps(body))
    with pytest.raises(ModelError, match=words):
        load_pretrained(folder)


def test_damaged_and_foreign_folders(folder, tmp_path):
    with pytest.raises(ModelError, match="holds no model that the kit saved"):
        load_pretrained(tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    for content in (b"", weights[:40], weights[:-20]):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="missing or cut short"):
            load_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="missing or cut short"):
        load_pretrained(folder)
    for text in ("{", "[]", '{"architectures": ["BertModel"]}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match="kit"):
            load_pretrained(folder)


def test_models_of_credentialed_data_stay_here_unless_the_agreement_lets_them_go(tmp_path):
    for data, stays in (({"name": "mimic-iv-ecg"}, True), ({"name": "UK-Biobank 2024"}, True),
                        ({"name": "clinic", "credentialed": True}, True),
                        ({"name": "ptbxl"}, False), ({}, False),
                        ({"name": "mimic-iv-ecg layout", "simulated": True}, False)):
        model, about = classifier(data=data)
        folder = save_pretrained(model, tmp_path / "m", about)
        words = "data use agreement" if stays else "cannot be sent"  # the hub is switched off here
        with pytest.raises(ModelError, match=words):
            push(folder, "me/model")
        with pytest.raises(ModelError, match="cannot be sent"):
            push(folder, "me/model", allow_credentialed=True)


def test_ids_and_offline(folder, tmp_path):
    with pytest.raises(ModelError, match="is no hub id; write owner/name"):
        push(folder, "no-owner")
    with pytest.raises(ModelError, match="cannot be fetched"):
        saving.pull("me/model", tmp_path / "out")
    with pytest.raises(ModelError, match="switched off; download it elsewhere"):
        load_pretrained("me/model")
    with pytest.raises(ModelError, match="names a file; give the hub id alone"):
        load_pretrained("hf://me/model/model.safetensors")


# --- the hub and the command line -----------------------------------------------------------------

SESSION = """
import os, sys, torch
from pathlib import Path
from ecgkit.models.saving import load_pretrained, pull, push
from ecgkit.types import ModelError

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
print(push(folder, "me/model"))
ours, theirs = load_pretrained(folder).state_dict(), load_pretrained("me/model").state_dict()
assert all(torch.equal(ours[k], theirs[k]) for k in ours)
assert {p.name for p in pull("hf://me/model", out).iterdir()} >= {p.name for p in folder.iterdir()}

def said(call, *words):
    try:
        call()
    except ModelError as error:
        assert all(word in str(error) for word in words), error
        assert os.environ["HF_TOKEN"] not in str(error)
    else:
        raise AssertionError(words)

said(lambda: push(folder, "me/public"), "me/public exists already and is public")
push(folder, "me/public", private=False)
said(lambda: pull("me/absent", out / "2"), "is not on the hub under this name", "give its folder")
os.environ["HF_TOKEN"] = "hf_another_token"
said(lambda: push(folder, "me/model"), "me/model", "HF_TOKEN")
"""


def test_push_and_pull_against_a_server(folder, tmp_path):
    """A process of its own, because huggingface_hub reads HF_ENDPOINT when it is imported."""
    with Hub() as hub:
        hub.repos["me/public"] = {"private": False, "files": {}}
        env = os.environ | {
            "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "NO_PROXY": "*",
            "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SESSION), folder, tmp_path / "out"],
            env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"{hub.url}/me/model"
    assert TOKEN not in done.stdout + done.stderr
    sent = hub.repos["me/model"]
    assert sent["private"] and set(sent["files"]) == set(saving.FILES)
    assert sent["files"]["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert set(hub.repos["me/public"]["files"]) == set(saving.FILES)


def run(capsys, *words) -> tuple[int, str]:
    code = cli.main(["model", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_command_line_from_a_published_file_and_back(tmp_path, capsys):
    torch.manual_seed(0)
    model = MODELS["Wav2Vec2CMSC"]()
    path = export_fairseq(model, tmp_path / "ecg-fm.pt", "old")
    code, shown = run(capsys, "show", path)
    assert code == 0 and "Wav2Vec2CMSC (pretraining" in shown and "weight_g" in shown
    assert "z-scored" in shown and "--keys lists them" in shown
    assert run(capsys, "import", path, "--out", tmp_path / "m", "--protocol", "paper")[0] == 0
    body = read_config(tmp_path / "m")
    assert body["protocol"] == "paper" and "z-scored" in body["input"]
    assert saving.credentialed_source(body) == "mimic-iv-ecg"  # ECG-FM, by its name
    code, shown = run(capsys, "show", tmp_path / "m", "--keys")
    assert code == 0 and "quantizer.vars  (1, 8, 4)" in shown and "saved by" in shown
    again = tmp_path / "again.pt"
    assert run(capsys, "export", tmp_path / "m", "--out", again, "--old-names")[0] == 0
    state, first = (torch.load(p, weights_only=True)["model"] for p in (again, path))
    assert state.keys() == first.keys() and all(torch.equal(state[k], first[k]) for k in state)


def test_command_line_says_in_a_sentence_what_is_wrong(folder, tmp_path, capsys):
    for words in (("show", tmp_path / "absent.pt"), ("show", tmp_path), ("show", "me/model"),
                  ("import", folder, "--out", tmp_path / "x"), ("push", folder, "me/model"),
                  ("pull", "me/model", "--out", tmp_path / "x")):
        code, said = run(capsys, *words)
        assert code == 2 and said.startswith("ecgkit: ") and said.count("\n") == 1, said
