"""Trained mappers in and out: the kit's folders, files as published, the published data set."""

import json

import numpy as np
import pytest
import scipy.io
import torch

from ecgkit.data.published_fewshot import read_published_fewshot, read_recording
from ecgkit.models import hub, registry
from ecgkit.models.prefix_mapper import MAPPERS, AttentionMapper, build_mapper
from ecgkit.models.published_mapper import KEYS, load_mapper, save_mapper
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.types import DataError, ModelError

X = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))


def mapper(kind: str = "attention", **sizes):
    torch.manual_seed(1)
    return build_mapper(kind, 16, 32, **({"n_prefix": 3} | sizes)).eval()


# --- the kit's own folders ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAPPERS)
def test_a_saved_mapper_comes_back_the_same(kind, tmp_path):
    one = mapper(kind, n_heads=4)
    folder = save_mapper(one, tmp_path / "m", "verify, 5-way 5-shot")
    again = load_mapper(folder, 16, 32)
    torch.testing.assert_close(again(X)["prefix"], one(X)["prefix"], rtol=0, atol=0)
    assert again.sizes == one.sizes and not again.training
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert "verify, 5-way 5-shot" in (folder / "README.md").read_text()


def test_a_mapper_for_other_widths_is_refused(tmp_path):
    folder = save_mapper(mapper(), tmp_path, {"protocol": "sound", "notes": "n"})
    with pytest.raises(ModelError, match="for a language model 32 wide, this one is 64"):
        load_mapper(folder, 16, 64)
    with pytest.raises(ModelError, match="reads ECG embeddings 16 wide, these are 8"):
        load_mapper(folder, 8, 32)


def test_what_is_no_mapper_is_refused(tmp_path):
    from ecgkit.models.saving import save_pretrained

    save_pretrained(SEWideResNet(5, widths=(16, 16, 32), n_blocks=1), tmp_path / "wrn")
    with pytest.raises(ModelError, match="is a SEWideResNet, not a mapper"):
        load_mapper(tmp_path / "wrn", 16, 32)
    with pytest.raises(ModelError, match="There is no mapper at"):
        load_mapper(tmp_path / "nothing.pt", 16, 32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no weights"):
        load_mapper(tmp_path / "empty", 16, 32)
    for name in "ab":
        torch.save(mapper().state_dict(), tmp_path / "empty" / f"{name}.pt")
    with pytest.raises(ModelError, match="2 files of weights; name one .*: a.pt, b.pt"):
        load_mapper(tmp_path / "empty", 16, 32)


# --- files as published ---------------------------------------------------------------------------

SET_TRANSFORMER = {"tokens": "prefix", "query": "fc_q", "key": "fc_k", "value": "fc_v",
                   "out": "fc_o", "norm1": "ln0", "norm2": "ln1"}  # fmt: skip
COUNTED_FROM_ONE = SET_TRANSFORMER | {"tokens": "prefix_const", "norm1": "ln1", "norm2": "ln2"}
SPELT_OUT = {"tokens": "prefix.weight", "query": "W_q", "key": "W_k", "value": "W_v", "out": "W_o",
             "norm1": "layer_norm1", "norm2": "layer_norm2"}  # fmt: skip


def spelt(state: dict, names: dict, root: str = "") -> dict:
    """A state dict of ours under other names, e.g. query.weight -> mapper.fc_q.weight."""
    out = {}
    for key, value in state.items():
        part, dot, kind = key.partition(".")
        out[f"{root}{names[part]}{dot}{kind}"] = value
    return out


@pytest.mark.parametrize("names", [SET_TRANSFORMER, COUNTED_FROM_ONE, SPELT_OUT])
@pytest.mark.parametrize("root", ["", "mapper.", "module.model.mapper_net."])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_published_weights_are_found_by_name_and_give_the_same_numbers(names, root, kind, tmp_path):
    from safetensors.torch import save_file

    one, file = mapper(n_heads=8), tmp_path / f"m.{kind}"
    state = spelt(one.state_dict(), names, root)
    if root:  # a checkpoint of the whole model holds the language model too
        state["gpt.wte.weight"] = torch.zeros(5, 4)
    save_file(state, file) if kind == "safetensors" else torch.save(state, file)
    found = load_mapper(file, 16, 32)
    assert isinstance(found, AttentionMapper) and found.n_prefix == 3 and not found.training
    torch.testing.assert_close(found(X)["prefix"], one(X)["prefix"], rtol=0, atol=0)


def test_the_keys_are_those_of_the_mapper():
    assert set(KEYS) == set(mapper().state_dict())
    assert all(name in registry.MODELS for name in ("AttentionMapper", "PerceiverMapper"))


def test_mismatches_name_what_is_wrong(tmp_path):
    state, file = spelt(mapper().state_dict(), SET_TRANSFORMER, "mapper."), tmp_path / "m.pt"

    def refused(change: dict, drop: str = "") -> str:
        torch.save({k: v for k, v in (state | change).items() if k != drop}, file)
        with pytest.raises(ModelError) as error:
            load_mapper(file, 16, 32)
        return str(error.value)

    assert "missing key.bias; unexpected nothing" in refused({}, "mapper.fc_k.bias")
    assert "missing nothing; unexpected mapper.fc2.weight" in refused(
        {"mapper.fc2.weight": torch.zeros(2)}
    )
    narrow = {"mapper.fc_k.weight": torch.zeros(32, 15)}
    assert "key.weight has the shape (32, 15)" in refused(narrow)
    assert "tokens has the shape (3, 8)" in refused({"mapper.prefix": torch.zeros(3, 8)})
    torch.save({"a.weight": torch.zeros(2), "b": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match="missing tokens, .*unexpected a.weight, b"):
        load_mapper(file, 16, 32)


def test_published_weights_for_another_language_model(tmp_path):
    with torch.device("meta"):
        big = build_mapper("attention", 768, 4096).state_dict()
    assert sum(x.numel() for x in big.values()) == 26_250_240
    torch.save(spelt(mapper().state_dict(), SET_TRANSFORMER), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="for a language model 32 wide, this one is 2048; choose"):
        load_mapper(tmp_path / "m.pt", 16, 2048)


def test_a_file_that_runs_code_is_refused(tmp_path):
    class Bad:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    torch.save({"mapper.prefix": Bad()}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="nothing was run"):
        load_mapper(tmp_path / "m.pt", 16, 32)


def test_a_hub_id_is_fetched_through_the_kit_s_helper(tmp_path, monkeypatch):
    torch.save(spelt(mapper().state_dict(), SET_TRANSFORMER), tmp_path / "best.pth")
    asked = []

    def fetch_folder(repo_id, files, into=None):
        asked.append((repo_id, files))
        return tmp_path

    monkeypatch.setattr(hub, "fetch_folder", fetch_folder)
    monkeypatch.setattr(hub, "fetch", lambda place: tmp_path / place.split("/")[-1])
    assert load_mapper("jialucode/FSL_ECG_QA", 16, 32).n_prefix == 3
    assert load_mapper("jialucode/FSL_ECG_QA/best.pth", 16, 32).n_prefix == 3
    assert asked[0][0] == "jialucode/FSL_ECG_QA" and "*.pth" in asked[0][1]


# --- the published data set -----------------------------------------------------------------------


def sample(i: int, **change) -> dict:
    return {
        "template_id": 1, "question_id": 1, "sample_id": i, "question_type": "single-verify",
        "attribute_type": "scp_code", "question": "Is it normal?", "answer": ["yes"], "ecg_id": [i],
        "attribute": ["normal ecg"],
    } | change  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    shard = tmp_path / "ecgqa" / "paraphrased" / "train" / "00000.json"
    shard.parent.mkdir(parents=True)
    bad = {k: v for k, v in sample(4).items() if k != "answer"}
    shard.write_text(json.dumps([sample(1), sample(2), sample(3, answer="yes"), bad]))
    (tmp_path / "broken.json").write_text("[{")
    (tmp_path / "facts.json").write_text('{"n": 1}')
    signal = np.arange(12 * 2500).reshape(12, 2500) / 1000
    (tmp_path / "mat").mkdir()
    scipy.io.savemat(tmp_path / "mat" / "00001_hr.mat", {"feats": signal})
    return tmp_path


def test_questions_and_recordings_of_the_published_data_set(folder):
    data = read_published_fewshot(folder)
    assert data.n_in == 6 == len(data.table) + len(data.left_out)
    assert data.table["sample_id"].tolist() == [1, 2]
    assert data.table["recording"].tolist() == [True, False]
    assert (data.table["split"] == "train").all() and (data.table["flavour"] == "paraphrased").all()
    reasons = data.left_out["reason"].tolist()
    assert reasons == ["broken_json", "ill_typed", "missing_key", "foreign_json"]
    assert "question 2: answer is 'yes'" in data.left_out["sentence"][1]
    record = data.record(1)
    assert record.signal.shape == (12, 2500) and record.fs == 500 and record.duration_s == 5
    assert record.signal.dtype == np.float32 and record.signal[1, 3] == np.float32(2.503)
    with pytest.raises(DataError, match="no recording of ECG 2 .*00002_hr.mat"):
        data.record(2)


def test_a_folder_or_recording_of_another_kind_is_refused(folder, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="No question of ECG-QA's format"):
        read_published_fewshot(tmp_path / "none")
    with pytest.raises(DataError, match="is no folder"):
        read_published_fewshot(tmp_path / "nowhere")
    path = folder / "mat" / "00002_hr.mat"
    for content, said in (
        ({"feats": np.zeros((2500, 12))}, r"shape \(2500, 12\); feats of shape \(12, 2500\)"),
        ({"signal": np.zeros((12, 2500))}, r"holds \['signal'\]"),
        ({"feats": np.full((12, 2500), np.nan)}, "not finite"),
    ):
        scipy.io.savemat(path, content)
        with pytest.raises(DataError, match=said):
            read_recording(path)
    path.write_bytes(b"MATLAB")
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(path)
