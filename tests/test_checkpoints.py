"""Published checkpoints: read without running them, told apart, refused in a sentence, written."""

import argparse
import collections
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from ecgkit.features.ecg_fm_input import ecg_fm_input
from ecgkit.models import checkpoints, hub, registry
from ecgkit.models.checkpoint_sizes import conv_layers
from ecgkit.models.checkpoints import (
    export_fairseq,
    exported,
    input_of,
    load_fairseq,
    load_into,
    read_fairseq,
)
from ecgkit.models.ecg_transformer import (
    ECGTransformer,
    ECGTransformerClassifier,
    ECGTransformerConfig,
)
from ecgkit.models.fusion_qa import BlindQA, FusionConfig, FusionQA
from ecgkit.models.resnet_attention import ResNetAttention
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.models.torch_files import read_torch_file
from ecgkit.models.transfer import copy_fitting
from ecgkit.models.wav2vec import Wav2Vec2CMSC, Wav2VecConfig
from ecgkit.types import ConfigError, DataError, ModelError

SMALL = {"conv_layers": ((16, 2, 2),) * 4, "dim": 32, "ffn_dim": 48, "n_layers": 2, "n_heads": 4,
         "pos_kernel": 16, "pos_groups": 4}
PRETRAINING = Wav2VecConfig(**SMALL, final_dim=12, code_dim=16, n_codes=8, n_negatives=5)
FUSION = FusionConfig(**SMALL, vocab_size=50, max_text=20, sep_id=3)

MODELS = {
    "pretraining": lambda: Wav2Vec2CMSC(PRETRAINING),
    "classifier": lambda: ECGTransformerClassifier(ECGTransformerConfig(**SMALL), 5),
    "encoder": lambda: ECGTransformer(ECGTransformerConfig(**SMALL)),
    "fusion": lambda: FusionQA(FUSION, 7),
    "se_wrn": lambda: SEWideResNet(3, widths=(8, 8, 16), n_blocks=2),
    "resnet_attention": lambda: ResNetAttention(3, width=16, n_blocks=2),
}


@pytest.fixture
def pretraining():
    torch.manual_seed(0)
    return Wav2Vec2CMSC(PRETRAINING).eval()


def same_weights(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["new", "old"])
@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_comes_back_bit_for_bit(tmp_path, kind, spelling):
    torch.manual_seed(0)
    model = MODELS[kind]()
    found = read_fairseq(export_fairseq(model, tmp_path / "m.pt", spelling))
    assert found.kind == kind and found.left_out == ()
    assert found.n_labels == registry.n_labels_of(model)
    assert found.old_names == (spelling == "old" and kind not in ("se_wrn", "resnet_attention"))
    again = load_fairseq(found)
    assert type(again) is type(model) and same_weights(again, model) and not again.training
    if kind != "se_wrn":  # sizes and switches too, those of training included
        assert registry.settings_of(again) | {"protocol": "paper"} == registry.settings_of(model)


def test_what_the_published_format_does_not_know_is_not_exported(tmp_path):
    rough = ECGTransformer(ECGTransformerConfig(**SMALL, roughness_mv=0.01))
    with pytest.raises(ModelError, match="ROUGHNESS_MV=0.01"):
        export_fairseq(rough, tmp_path / "m.pt")
    assert not list(tmp_path.iterdir())


def test_published_size_has_the_published_names_and_shapes_both_ways(shared):
    lines = (shared / "references" / "ecgfm_state_dict.tsv").read_text().splitlines()[1:]
    published = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    with torch.device("meta"):
        model = Wav2Vec2CMSC(Wav2VecConfig())
        state = exported(model)["model"]
        assert {k: str(tuple(v.shape)) for k, v in state.items()} == published
        assert len(state) == 215
        old = {checkpoints._old_name(k): v for k, v in state.items()}
        assert sum(k.endswith(("weight_g", "weight_v")) for k in old) == 2
        assert {checkpoints._new_name(k) for k in old} == set(published)
        sizes = checkpoints._settings("pretraining", {k: v.shape for k, v in state.items()}, {})
        assert Wav2VecConfig(**sizes) == Wav2VecConfig()  # 12 heads: D / 64 where no cfg says so


def test_a_golden_network_survives_the_way_out_and_in(shared, tmp_path):
    """Weights and output are those of the published class."""
    arrays = np.load(shared / "golden" / "fairseq_w2v_cmsc_small.npz")
    weights = {k[3:]: torch.tensor(arrays[k]) for k in arrays.files if k.startswith("sd:")}
    cfg = {"model": {"encoder_attention_heads": 4, "conv_feature_layers": "[(32, 2, 2)] * 4"}}
    torch.save({"model": weights, "cfg": cfg}, tmp_path / "golden.pt")
    model = load_fairseq(export_fairseq(load_fairseq(tmp_path / "golden.pt"), tmp_path / "out.pt"))
    with torch.no_grad():
        x = model(torch.tensor(arrays["in:source"]))["x"]
    torch.testing.assert_close(x, torch.tensor(arrays["out:encoder_x"]), atol=1e-5, rtol=0)


def test_into_a_given_model_and_over_the_file_it_was_read_from(tmp_path, pretraining):
    path = export_fairseq(pretraining, tmp_path / "m.pt")
    found = read_fairseq(path)
    other = load_fairseq(path, Wav2Vec2CMSC(PRETRAINING))
    assert same_weights(other, pretraining)
    export_fairseq(other, path)  # `found` still looks into the file's old content
    assert torch.equal(found.state["mask_emb"], pretraining.mask_emb)


# --- what fine-tuning leaves behind ---------------------------------------------------------------


@pytest.mark.parametrize("leftover", [(), ("mask_emb",), ("mask_emb", "project_q.bias",
                                                           "quantizer.vars", "final_proj.bias")])
def test_fine_tuned_with_and_without_leftovers_of_pretraining(tmp_path, pretraining, leftover):
    heads = pretraining.state_dict()
    state = MODELS["classifier"]().state_dict() | {f"encoder.{k}": heads[k] for k in leftover}
    torch.save({"model": state}, tmp_path / "m.pt")
    found = read_fairseq(tmp_path / "m.pt")
    assert found.kind == "classifier" and set(found.left_out) == {f"encoder.{k}" for k in leftover}
    assert set(load_fairseq(found).state_dict()) == set(state) - set(found.left_out)


def test_encoder_alone_after_its_pretraining_modules_were_removed(tmp_path, pretraining):
    state = {k: v for k, v in pretraining.state_dict().items()
             if not k.startswith(("quantizer", "project_q", "final_proj"))}
    torch.save(state, tmp_path / "m.pt")  # a bare state dict
    found = read_fairseq(tmp_path / "m.pt")
    assert (found.kind, found.left_out, found.cfg) == ("encoder", ("mask_emb",), {"model": {}})
    signal = torch.randn(2, 12, 200)
    found.settings["n_heads"] = 4  # no cfg, so D / 64 at least 1 was assumed
    with torch.no_grad():
        torch.testing.assert_close(load_fairseq(found)(signal)["x"], pretraining(signal)["x"])


def test_a_pretrained_file_starts_a_classifier(tmp_path, pretraining):
    """As docs/checkpoints.md has it."""
    classifier = MODELS["classifier"]()
    found = read_fairseq(export_fairseq(pretraining, tmp_path / "m.pt"))
    assert copy_fitting(classifier.encoder, found.state) == len(classifier.encoder.state_dict())
    own = pretraining.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in classifier.encoder.state_dict().items())


# --- wrong files: sentences -----------------------------------------------------------------------


def test_another_model_names_what_is_missing_unexpected_and_misshapen(pretraining):
    other = Wav2Vec2CMSC(Wav2VecConfig(**{**SMALL, "n_layers": 3, "ffn_dim": 64}, final_dim=12,
                                       code_dim=16, n_codes=8))
    with pytest.raises(ModelError) as said:
        load_into(other, pretraining.state_dict() | {"extra": torch.zeros(1)}, "m.pt")
    text = str(said.value)
    assert "16 missing: encoder.layers.2.self_attn" in text and "and 13 more" in text
    assert "1 unexpected: extra" in text
    assert "6 of another shape: encoder.layers.0.fc1.weight (48, 32) for (64, 32)" in text


@pytest.mark.parametrize("cfg, words", [
    ({"encoder_embed_dim": 64}, "encoder_embed_dim=64, its weights 32"),
    ({"encoder_layers": 12}, "encoder_layers=12, its weights 2"),
    ({"latent_vars": 9}, "latent_vars=9, its weights 8"),
    ({"layer_norm_first": True}, "layer_norm_first=True; the kit has"),
    ({"extractor_mode": "layer_norm"}, "extractor_mode"),
    ({"conv_feature_layers": "[(16, 3, 2)] * 4"}, "conv_feature_layers"),
    ({"conv_feature_layers": "__import__('os').getcwd()"}, "cannot be read"),
])
def test_settings_that_contradict_the_weights_are_refused(tmp_path, pretraining, cfg, words):
    torch.save({"model": pretraining.state_dict(), "cfg": {"model": cfg}}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="m.pt: its setting") as said:
        read_fairseq(tmp_path / "m.pt")
    assert words in str(said.value)


def test_heads_and_strides_come_from_the_settings(tmp_path, pretraining):
    cfg = {"encoder_attention_heads": 8, "conv_feature_layers": "[(16, 2, 1)] + [(16,2,2)]*3"}
    torch.save({"model": pretraining.state_dict(), "cfg": {"model": cfg}}, tmp_path / "m.pt")
    config = load_fairseq(tmp_path / "m.pt").config
    assert config.n_heads == 8 and [c[2] for c in config.conv_layers] == [1, 2, 2, 2]
    assert conv_layers("[(512, 10, 5)] + [(512, 3, 2), (8, 1, 1)] * 2")[1:] == (
        (512, 3, 2), (8, 1, 1), (512, 3, 2), (8, 1, 1))


@pytest.mark.parametrize("content, words", [
    ({}, "is empty"),
    ({"model": {}}, "no weights found"),
    ({"epoch": 3, "loss": 0.1}, r"no weights found \(entries: epoch, loss\)"),
    ([1, 2], "holds a list"),
    ({"model": {"some.weight": torch.zeros(2)}}, "belongs to no model the kit can import"),
    ({"model": {"quantizer.vars": torch.zeros(1, 4, 2)}}, "incomplete or of another model"),
    ({"model": {"mask_emb": "text"}}, "no weights found"),
])
def test_files_that_are_no_checkpoint_of_ours(tmp_path, content, words):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=words):
        read_fairseq(tmp_path / "m.pt")


def test_damaged_and_foreign_files(tmp_path, pretraining):
    whole = export_fairseq(pretraining, tmp_path / "m.pt").read_bytes()
    torch.save({"model": pretraining.state_dict()}, tmp_path / "legacy.pt",
               _use_new_zipfile_serialization=False)
    legacy = (tmp_path / "legacy.pt").read_bytes()
    for content in (b"", b"not a checkpoint", whole[:100], whole[: len(whole) // 2], whole[:-30],
                    legacy[: len(legacy) // 2], legacy[:40], b"PK\x03\x04" + bytes(200)):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ModelError, match="bad.pt .*(checkpoint|model)"):
            read_fairseq(tmp_path / "bad.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(ModelError, match="not a readable PyTorch checkpoint"):
        read_fairseq(tmp_path / "script.pt")
    with pytest.raises(ModelError, match="There is no file"):
        read_fairseq(tmp_path / "absent.pt")
    with pytest.raises(ModelError, match="is a folder"):
        read_fairseq(tmp_path)


def test_what_cannot_be_written(pretraining, tmp_path):
    with pytest.raises(ModelError, match="no counterpart of BlindQA"):
        export_fairseq(BlindQA(FUSION, 3), tmp_path / "m.pt")
    with pytest.raises(ConfigError, match="choose new or old"):
        export_fairseq(pretraining, tmp_path / "m.pt", "older")


# --- reading what the published trainer writes ----------------------------------------------------


def foreign_modules():
    """Look-alikes of what published trainers pickle; gone again before the file is read."""
    config, meters = types.ModuleType("omegaconf"), types.ModuleType("fairseq_signals.meters")

    def make(module, name, base=object):
        made = type(name, (base,), {"__module__": module.__name__})
        setattr(module, name, made)
        return made

    DictConfig, ListConfig = make(config, "DictConfig"), make(config, "ListConfig")
    AnyNode, Meter = make(config, "AnyNode"), make(meters, "AverageMeter")
    MetersDict = make(meters, "MetersDict", collections.OrderedDict)

    def node(value):
        made = DictConfig() if isinstance(value, dict) else (
            ListConfig() if isinstance(value, list) else AnyNode())
        children = {k: node(v) for k, v in value.items()} if isinstance(value, dict) else (
            [node(v) for v in value] if isinstance(value, list) else value)
        made.__dict__.update({"_val" if isinstance(made, AnyNode) else "_content": children,
                              "_metadata": {"ref_type": dict[str, int]}, "_parent": made})
        return made

    meters_of_a_run = MetersDict(loss=Meter())
    meters_of_a_run["loss"].__dict__.update(sum=np.float64(3.5), n=np.int64(7))
    return {"omegaconf": config, "fairseq_signals.meters": meters}, node, meters_of_a_run


@pytest.mark.parametrize("zipped", [True, False])
def test_foreign_classes_beside_the_weights_are_no_obstacle(tmp_path, monkeypatch, pretraining,
                                                           zipped):
    modules, node, meters = foreign_modules()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "fairseq_signals", types.ModuleType("fairseq_signals"))
    cfg = exported(pretraining)["cfg"]
    cfg["model"]["dropout"] = 0.25
    body = {"args": argparse.Namespace(lr=[1e-4]), "cfg": node(cfg), "metrics": meters,
            "extra_state": {"val_loss": np.float64(0.5), "seen": {1, 2}, "place": tmp_path,
                            "counts": collections.defaultdict(int, a=1)},
            "model": collections.OrderedDict(pretraining.state_dict())}
    torch.save(body, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    for name in (*modules, "fairseq_signals"):
        monkeypatch.delitem(sys.modules, name)
    found = read_fairseq(tmp_path / "m.pt")
    assert found.cfg["model"]["latent_temp"] == [2.0, 0.5, 0.999995]
    assert found.settings["dropout"] == 0.25
    assert same_weights(load_fairseq(found), pretraining)
    assert not set(modules) & set(sys.modules)  # nothing was imported


def test_settings_in_a_namespace_of_the_older_trainer(tmp_path, pretraining):
    args = argparse.Namespace(encoder_attention_heads=8, activation_dropout=np.float64(0.125))
    torch.save({"args": args, "cfg": None, "model": pretraining.state_dict()}, tmp_path / "m.pt")
    config = load_fairseq(tmp_path / "m.pt").config
    assert config.n_heads == 8 and config.activation_dropout == 0.125


def test_half_precision_shared_and_strided_weights(tmp_path, pretraining):
    state = dict(pretraining.state_dict())
    state["layer_norm.weight"] = torch.arange(32.0)[::2]  # a view into a longer storage
    state["mask_emb"] = state["mask_emb"].half()
    torch.save({"model": state, "args": argparse.Namespace()}, tmp_path / "m.pt")
    loaded = load_fairseq(tmp_path / "m.pt").state_dict()
    assert torch.equal(loaded["layer_norm.weight"], torch.arange(0, 32, 2.0))
    assert torch.equal(loaded["mask_emb"], state["mask_emb"].float())


# --- files made to run code -----------------------------------------------------------------------


class Runs:
    """Pickles as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def hostile(target):
    touch = f"touch {target}"
    return {
        "system": Runs(os.system, touch),
        "eval": Runs(eval, f"open({str(target)!r}, 'w')"),
        "exec": Runs(exec, f"open({str(target)!r}, 'w')"),
        "popen": Runs(__import__("subprocess").getoutput, touch),
        "open": Runs(open, str(target), "w"),
        "getattr": Runs(getattr, "text", "upper"),
        "import": Runs(__import__("importlib").import_module, "antigravity"),
    }


@pytest.mark.parametrize("where", ["beside", "in cfg", "in model", "legacy", "bare pickle"])
@pytest.mark.parametrize("name", ["system", "eval", "exec", "popen", "open", "getattr", "import"])
def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path, pretraining, name, where):
    target = tmp_path / "it_ran"
    bad, state = hostile(target)[name], dict(pretraining.state_dict())
    body = {"model": state, "cfg": {"model": bad} if where == "in cfg" else {}}
    if where == "in model":
        state["mask_emb"] = bad
    elif where != "in cfg":
        body["extra_state"] = bad
    path = tmp_path / "m.pt"
    if where == "bare pickle":
        path.write_bytes(pickle.dumps(bad, protocol=4))
    else:
        torch.save(body, path, _use_new_zipfile_serialization=where != "legacy")
    with pytest.raises(ModelError, match="m.pt") as said:
        read_torch_file(path)
    assert not target.exists() and "antigravity" not in sys.modules
    assert "nothing was run" in str(said.value)


def test_other_peoples_functions_are_left_lying(tmp_path, pretraining):
    """A call of an installed package becomes an object that does nothing."""
    called = []
    module = types.ModuleType("some_package")
    module.run = lambda *a: called.append(a)
    module.run.__module__, module.run.__qualname__ = "some_package", "run"
    sys.modules["some_package"] = module
    try:
        torch.save({"model": pretraining.state_dict(), "metrics": Runs(module.run, 1)},
                   tmp_path / "m.pt")
        assert same_weights(load_fairseq(tmp_path / "m.pt"), pretraining)
    finally:
        del sys.modules["some_package"]
    assert not called


def test_a_tensor_larger_than_its_data_is_refused(tmp_path):
    """A stride of 0 would let a few bytes ask for terabytes."""
    class Huge:
        def __reduce__(self):
            storage = torch.zeros(4)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, (10**6, 10**6), (0, 0), False, {})

    torch.save({"model": {"a": Huge()}, "args": argparse.Namespace()}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="larger than its data"):
        read_torch_file(tmp_path / "m.pt")


# --- hub ids and input conventions ----------------------------------------------------------------


def test_ids_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert hub.split_id("wanglab/ecg-fm") == ("wanglab/ecg-fm", "")
    assert hub.split_id("hf://a/b/c/d.pt") == ("a/b", "c/d.pt")
    for path in ("runs/demo/model.pt", "./a/b", "/a/b/c", "~/a/b", "model.pt", "x/model.pt"):
        assert hub.split_id(path) is None


def test_ecg_fm_by_its_id_takes_its_main_file(monkeypatch, tmp_path, pretraining):
    path, asked = export_fairseq(pretraining, tmp_path / "m.pt"), []
    monkeypatch.setattr("huggingface_hub.hf_hub_download",
                        lambda repo, name, **kw: asked.append((repo, name)) or str(path))
    found = read_fairseq("wanglab/ecg-fm")
    assert asked == [("wanglab/ecg-fm", "mimic_iv_ecg_physionet_pretrained.pt")]
    assert found.kind == "pretraining" and found.source == "wanglab/ecg-fm"


def test_without_the_hub_an_id_is_a_sentence_with_the_next_step():
    with pytest.raises(ModelError, match="cannot be reached.*give its path"):
        read_fairseq("wanglab/ecg-fm")
    with pytest.raises(ModelError, match="names no file; write owner/name/file"):
        read_fairseq("somebody/something")


def test_each_kind_says_what_it_wants_as_input(tmp_path):
    for kind, words in (("pretraining", "z-scored"), ("fusion", "mV as recorded"),
                        ("classifier", "fine-tuned from ECG-FM")):
        assert words in input_of(read_fairseq(export_fairseq(MODELS[kind](), tmp_path / "m.pt")))
    named = export_fairseq(MODELS["classifier"](), tmp_path / "mimic_iv_ecg_finetuned.pt")
    assert input_of(read_fairseq(named)).startswith("12 leads")


def test_ecg_fm_input_scores_the_whole_lead_and_cuts():
    rng = np.random.default_rng(0)
    signals = rng.normal(2.0, 0.3, (2, 12, 5600)).astype(np.float32)
    signals[0, 3] = 0.7
    x = ecg_fm_input(signals, fs=500)
    assert x.shape == (2, 2, 12, 2500) and x.dtype == np.float32
    assert (x[0, :, 3] == 0).all()
    lead = signals[1, 5].astype(np.float64)
    np.testing.assert_allclose(x[1, 1, 5], ((lead - lead.mean()) / lead.std())[2500:5000],
                               atol=1e-5)
    for bad, fs, words in ((signals, 100, "500 Hz"), (signals[:, :8], 500, r"\(B, 12, T\)"),
                           (signals[..., :2000], 500, "longer recordings")):
        with pytest.raises(DataError, match=words):
            ecg_fm_input(bad, fs)
