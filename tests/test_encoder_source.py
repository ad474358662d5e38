"""Where notebook 06's frozen encoder comes from: the run, a folder, a published file."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ecgkit.features.encoder_input import INPUTS, prepare_for
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models import ecg_encoders, esi_published
from ecgkit.models.checkpoints import export_fairseq, load_fairseq
from ecgkit.models.ecg_transformer import ECGTransformerClassifier, ECGTransformerConfig
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.models.segment_encoder import SegmentConfig, SegmentEncoder
from ecgkit.models.wav2vec import Wav2Vec2CMSC, Wav2VecConfig
from ecgkit.tasks import encoder_source
from ecgkit.types import ConfigError, DataError, ModelError

SMALL = {"conv_layers": ((16, 2, 2),) * 4, "dim": 32, "ffn_dim": 48, "n_layers": 2, "n_heads": 4,
         "pos_kernel": 16, "pos_groups": 4}  # fmt: skip
PRETRAINING = Wav2VecConfig(**SMALL, final_dim=12, code_dim=16, n_codes=8, n_negatives=5)


@pytest.fixture
def run(tmp_path):
    """As much of a run as is asked: a folder, and no notebook 04 beside it."""

    def sibling(*parts):
        raise DataError("run notebook 04 first")

    (tmp_path / "06").mkdir()
    return SimpleNamespace(folder=tmp_path / "06", sibling=sibling)


@pytest.mark.parametrize("kind", ["pretraining", "classifier", "ecg-fm classifier"])
def test_a_published_transformer_gives_the_mean_of_its_segments(tmp_path, run, kind):
    torch.manual_seed(0)
    fine_tuned = ECGTransformerClassifier(ECGTransformerConfig(**SMALL), 5)
    model = (Wav2Vec2CMSC(PRETRAINING) if kind == "pretraining" else fine_tuned).eval()
    name = "ecg_fm.pt" if "fm" in kind else "m.pt"
    folder = encoder_source.encoder_folder(str(export_fairseq(model, tmp_path / name)), run)
    assert folder == run.folder / "encoder"
    encoder = encoder_source.open_encoder(folder, 500)
    wants = "" if kind == "classifier" else "zscore_leads"
    assert encoder.notes == {"fs": 500, "from": name, "input": wants}
    signal = torch.randn(2, 12, 5600)
    transformer = getattr(load_fairseq(tmp_path / name), "encoder", None)
    if kind == "pretraining":
        transformer = load_fairseq(tmp_path / name)
    with torch.no_grad():
        parts = [transformer(signal[..., i : i + 2500])["pooled"] for i in (0, 2500)]
        out = encoder(signal)
    torch.testing.assert_close(out["embedding"], torch.stack(parts).mean(0))
    assert out["tokens"].shape == (2, 2 * 156, 32)


def test_a_published_esi_is_reordered_for_the_standard_leads(shared):
    with np.load(shared / "golden" / "esi_model_small.npz") as file:
        state = {k[3:]: torch.tensor(file[k]) for k in file.files if k.startswith("sd/")}
    state = esi_published.kit_names(state)
    model = esi_published.of_settings(esi_published.settings_of_state(state, 4))
    model.load_state_dict(state)
    model.eval()
    signal = torch.randn(2, 12, 500)
    mimic_order = signal[:, [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]]
    with torch.no_grad():
        published = model.img_encoder(mimic_order)["embedding"]
        ours = esi_published.in_standard_order(model).img_encoder(signal)["embedding"]
    torch.testing.assert_close(ours, published)
    assert not torch.allclose(ours, model.img_encoder(mimic_order)["embedding"])


def test_a_folder_of_the_kit_is_taken_as_it_is(tmp_path, run):
    encoder = ecg_encoders.encoder_for("micro")
    ecg_encoders.save_encoder(encoder, tmp_path / "04" / "encoder", fs=100, input="esi_preprocess")
    for name in ("04", "04/encoder"):
        folder = encoder_source.encoder_folder(str(tmp_path / name), run)
        assert folder == tmp_path / "04" / "encoder"
    assert encoder_source.open_encoder(folder, 100).notes["fs"] == 100


def test_what_cannot_be_used_is_a_sentence(tmp_path, run):
    with pytest.raises(DataError, match="run notebook 04"):
        encoder_source.encoder_folder("", run)
    path = export_fairseq(SEWideResNet(3, widths=(8, 8, 16), n_blocks=2), tmp_path / "wrn.pt")
    with pytest.raises(ModelError, match="wrn.pt is a SEWideResNet; ENCODER_FROM takes"):
        encoder_source.encoder_folder(str(path), run)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty/ holds no ECG encoder"):
        folder = encoder_source.encoder_folder(str(tmp_path / "empty"), run)
        encoder_source.open_encoder(folder, 500)
    ecg_encoders.save_encoder(ecg_encoders.encoder_for("micro"), tmp_path / "e", fs=500)
    with pytest.raises(ConfigError, match="reads 500 Hz and FS is 100; run with --set FS=500"):
        encoder_source.open_encoder(tmp_path / "e", 100)
    with pytest.raises(DataError, match="segments of 2500 samples and this ECG has 1000"):
        SegmentEncoder(SegmentConfig(**SMALL))(torch.zeros(1, 12, 1000))


def test_the_input_is_made_as_the_notes_say():
    mv = np.random.default_rng(0).normal(size=(2, 12, 100)).astype(np.float32)
    mv[:, 3] = 0
    assert np.array_equal(prepare_for("")(mv), mv)
    assert np.array_equal(prepare_for("esi_preprocess")(mv), esi_preprocess(mv))
    scored = prepare_for("zscore_leads")(mv)
    assert not scored[:, 3].any() and np.allclose(scored[:, 0].std(-1), 1, atol=1e-5)
    with pytest.raises(ModelError, match="'other'; the kit knows esi_preprocess, zscore_leads"):
        prepare_for("other")
    assert all(prepare(mv).dtype == np.float32 for prepare in INPUTS.values())
