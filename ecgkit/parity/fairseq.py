"""Golden fixtures of the ECG-QA baselines (fairseq-signals): each one's model and checks.

Every size is read from the arrays. Two things are not in the shapes and follow these rules:
  heads   the first of (D / 16, D / 64, 16, 15, ... 1) that divides D *and* reproduces the encoder
          output of the fixture, else the first that divides; the check's name states it. (This
          picks one integer; a wrong network agrees with no choice.)
  strides each equal to its kernel, as published, unless the number of tokens says 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ecgkit.models import checkpoint_sizes
from ecgkit.models.ecg_transformer import ECGTransformerClassifier, ECGTransformerConfig
from ecgkit.models.fusion_qa import FusionConfig, FusionQA
from ecgkit.models.losses_qa import cmsc_loss, code_use_penalty, feature_penalty, info_nce_sum
from ecgkit.models.resnet_attention import ResNetAttention
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.models.wav2vec import Wav2Vec2CMSC, Wav2VecConfig
from ecgkit.parity.base import Case, Check, close

TOLERANCE = 1e-4
Arrays = dict[str, np.ndarray]

# --- reading a fixture ----------------------------------------------------------------------------


def weights(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {k[3:]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith("sd:")}


def given(arrays: Arrays, name: str, device) -> torch.Tensor | None:
    """Input `name` on the device, or None where the fixture has none."""
    found = arrays.get(f"in:{name}")
    return None if found is None else torch.as_tensor(found).to(device)


def ready(model: torch.nn.Module, arrays: Arrays, device) -> torch.nn.Module:
    """The model with the fixture's weights, in eval mode, on the device."""
    model.load_state_dict(weights(arrays))
    return model.eval().to(device)


def compare_all(arrays: Arrays, results: dict, note: str = "") -> list[Check]:
    """One check per `out:` array; one that we compute nothing for is a failed check."""
    checks = []
    for key in (k for k in arrays if k.startswith("out:")):
        name = key[4:]
        if name not in results:
            checks.append(Check(f"{name} (no comparison written)", float("inf"), TOLERANCE, False))
            continue
        ours = torch.as_tensor(results[name]).double().cpu().nan_to_num(neginf=-1e6)
        expected = np.nan_to_num(np.asarray(arrays[key], dtype=np.float64), neginf=-1e6)
        checks.append(close(name + note, ours, expected, atol=TOLERANCE, rtol=1e-5))
    return checks


# --- sizes ----------------------------------------------------------------------------------------


def shapes_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {k[3:]: v.shape for k, v in arrays.items() if k.startswith("sd:")}


def transformer_sizes(arrays: Arrays, prefix: str, n_samples: int, n_tokens: int) -> dict:
    """Keyword arguments of ECGTransformerConfig (heads 1), from weights named under `prefix`."""
    sizes = checkpoint_sizes.transformer_sizes(shapes_of(arrays), prefix)
    sizes |= {"protocol": "reference", "n_heads": 1}
    if ECGTransformerConfig(**sizes).n_tokens(n_samples) != n_tokens:
        sizes["conv_layers"] = tuple((*conv[:2], 2) for conv in sizes["conv_layers"])
    return sizes


def with_heads(build: Callable, run: Callable, sizes: dict, expected: np.ndarray):
    """Builds the model with the number of heads that the module docstring's rule gives."""
    dim, first = sizes["dim"], None
    options = [h for h in (dim // 16, dim // 64, *range(16, 0, -1)) if h and dim % h == 0]
    for heads in dict.fromkeys(options):
        model = build({**sizes, "n_heads": heads})
        first = first or (model, heads)
        if np.abs(run(model).cpu().numpy() - expected).max() < TOLERANCE:
            return model, heads
    return first


# --- the families ---------------------------------------------------------------------------------


def compare_wav2vec(arrays: Arrays, device) -> list[Check]:
    """Pretraining model: encoder, padding, quantiser, contrastive logits and every loss term."""
    source, expected = given(arrays, "source", device), arrays["out:encoder_x"]
    masked = given(arrays, "mask_indices", device)
    sizes = checkpoint_sizes.pretraining_sizes(shapes_of(arrays))
    sizes |= transformer_sizes(arrays, "", source.shape[-1], expected.shape[1])
    sizes["n_negatives"] = arrays["in:neg_idxs"].shape[1] // int(masked[0].sum())
    model, heads = with_heads(
        lambda s: ready(Wav2Vec2CMSC(Wav2VecConfig(**s)), arrays, device),
        lambda m: m(source)["x"], sizes, expected)
    plain, padded = model(source), model(source, given(arrays, "padding_mask", device))
    pretext = model(source, mask_indices=masked, negatives=given(arrays, "neg_idxs", device))
    normed = model.features(source)[1]
    everywhere, masked_codes = model.quantizer(normed), pretext["quantised"]
    n_total = arrays["sd:quantizer.vars"].shape[1]
    mask = padded["padding_mask"]
    if mask is None:
        mask = torch.zeros(padded["x"].shape[:2], dtype=torch.bool, device=device)
    return compare_all(arrays, {
        "encoder_x": plain["x"], "global_feature": plain["pooled"], "conv_features_ln": normed,
        "encoder_x_padded": padded["x"].masked_fill(mask[..., None], 0.0),
        "token_padding_mask": mask.float(),
        "contrastive_logits_NxBxT": pretext["logits"],
        "infonce_sum": info_nce_sum(pretext["logits"]),
        "prob_ppl_penalty": code_use_penalty(masked_codes["prob_perplexity"], n_total),
        "features_pen": feature_penalty(plain["features"]),
        "prob_perplexity": masked_codes["prob_perplexity"],
        "code_perplexity": masked_codes["code_perplexity"],
        "quant_x": everywhere["x"], "quant_targets": everywhere["codes"],
    }, f" (heads {heads})")


def compare_cmsc(arrays: Arrays, device) -> list[Check]:
    names = ("features", "patient_id", "segment")
    loss = cmsc_loss(*(given(arrays, name, device) for name in names))
    return compare_all(arrays, {"cmsc_loss": loss})


def compare_classifier(arrays: Arrays, device) -> list[Check]:
    source, expected = given(arrays, "source", device), arrays["out:encoder_out"]
    sizes = transformer_sizes(arrays, "encoder.", source.shape[-1], expected.shape[1])
    n_labels = len(arrays["sd:proj.bias"])

    def build(s):
        return ready(ECGTransformerClassifier(ECGTransformerConfig(**s), n_labels), arrays, device)

    model, heads = with_heads(build, lambda m: m(source)["x"], sizes, expected)
    plain, padded = model(source), model(source, given(arrays, "padding_mask", device))
    results = {"logits": plain["logits"], "encoder_out": plain["x"],
               "logits_padded": padded["logits"]}
    return compare_all(arrays, results, f" (heads {heads})")


def compare_fusion(arrays: Arrays, device) -> list[Check]:
    """QA transformer: one ECG, two ECGs, and a mixed batch with question padding lost and kept."""
    take = {n: given(arrays, n, device) for n in (
        "ecg", "ecg_2", "text", "ecg_2_mixed", "ecg_2_mixed_padding_mask", "text_mixed",
        "text_mixed_padding_mask")}
    expected = arrays["out:encoder_out_single"]
    n_tokens = expected.shape[1] - take["text"].shape[1]
    sizes = transformer_sizes(arrays, "encoder.", take["ecg"].shape[-1], n_tokens)
    sizes |= {"vocab_size": len(arrays["sd:encoder.language_embedding.weight"]),
              "max_text": len(arrays["sd:encoder.position_embedding.weight"]),
              "sep_id": int(take["text"][0, -1])}  # every BERT question ends in [SEP]

    def build(s):
        model = FusionQA(FusionConfig(**s), len(arrays["sd:proj.bias"]))
        return ready(model, arrays, device)

    model, heads = with_heads(build, lambda m: m(take["ecg"], take["text"])["x"], sizes, expected)
    single = model(take["ecg"], take["text"])
    two = model(take["ecg"], take["text"], take["ecg_2"])
    mends = build({**sizes, "n_heads": heads, "text_mask": "kept"})
    mixed = {"ecg": take["ecg"], "text": take["text_mixed"], "ecg_2": take["ecg_2_mixed"],
             "ecg_2_padding_mask": take["ecg_2_mixed_padding_mask"],
             "text_padding_mask": take["text_mixed_padding_mask"]}
    results = {"logits_single": single["logits"], "encoder_out_single": single["x"],
               "logits_two": two["logits"], "encoder_out_two": two["x"],
               "logits_mixed_asref": model(**mixed)["logits"],
               "logits_mixed_textmask_fixed": mends(**mixed)["logits"]}
    return compare_all(arrays, results, f" (heads {heads})")


def compare_nejedly(arrays: Arrays, device) -> list[Check]:
    sizes = checkpoint_sizes.resnet_attention_sizes(shapes_of(arrays))
    model = ResNetAttention(len(arrays["sd:proj.bias"]), **sizes, protocol="reference")
    out = ready(model, arrays, device)(given(arrays, "source", device))
    return compare_all(arrays, {"logits": out["logits"], "encoder_out": out["encoder_out"]})


def compare_se_wrn(arrays: Arrays, device) -> list[Check]:
    sizes = checkpoint_sizes.se_wrn_sizes(shapes_of(arrays))
    model = SEWideResNet(len(arrays["sd:proj.bias"]), **sizes)
    out = ready(model, arrays, device)(given(arrays, "source", device))
    return compare_all(arrays, {"logits": out["logits"], "encoder_out": out["encoder_out"]})


def _case(name: str, *keys: str, without: str = "", compare: Callable = None) -> Case:
    def recognises(_, arrays):
        return all(key in arrays for key in keys) and without not in arrays

    def run(arrays, device):
        with torch.no_grad():
            return compare(arrays, device)

    return Case(name, recognises, run)


CASES = [
    _case("fairseq_w2v_cmsc", "sd:quantizer.vars", "out:encoder_x", compare=compare_wav2vec),
    _case("fairseq_cmsc_loss", "in:patient_id", "out:cmsc_loss", compare=compare_cmsc),
    _case("fairseq_ecg_transformer_cls", "sd:encoder.post_extract_proj.weight", "out:logits",
          without="sd:encoder.language_embedding.weight", compare=compare_classifier),
    _case("fairseq_ecg_qa_transformer", "sd:encoder.language_embedding.weight",
          compare=compare_fusion),
    _case("fairseq_nejedly2021", "sd:mha.in_proj_weight", "out:logits", compare=compare_nejedly),
    _case("fairseq_se_wrn", "sd:encoder.groups.0.layers.0.conv1.weight", compare=compare_se_wrn),
]
