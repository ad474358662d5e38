"""Golden fixtures of the risk study: the dual-attention autoencoder with its heads and losses, the
Cox cases, the input.

Weights come under the published names; `load_published` maps them onto ours. All sizes are read off
the arrays."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ecgkit.features.risk_input import pad_centre, zscore_leads
from ecgkit.models.dual_attention import (
    DualAttentionAutoencoder,
    DualAttentionConfig,
    RiskHead,
    projector,
)
from ecgkit.models.losses_risk import (
    alignment_cosine,
    cox_loss,
    cox_loss_reference,
    finetune_loss,
    reconstruction_mse,
)
from ecgkit.parity.base import Case, Check, close

Arrays = dict[str, np.ndarray]

# --- published names -> ours ----------------------------------------------------------------------

_RENAMES = (
    ("encoder.input_conv.", "stem.layers."),
    ("encoder.encoder.", "blocks."),
    ("decoder.decoder.", "decoder.blocks."),
    ("decoder.final_conv.0.", "decoder.scale."),
    ("encoder.attention.attention_pool_1.1.", "attention.mean_pool."),
    ("encoder.attention.attention_pool_2.1.", "attention.max_pool."),
    ("idfunc_0.", "up."),
    ("idfunc_1.", "skip."),
)
_TIME = {"time_norm_1": "norm1", "mlp_norm_1": "norm2", "time_mha": "", "time_mlp": ""}
_LEAD = {"lead_norm_1": "norm1", "norm2": "norm2", "lead_mha": "", "lead_mlp": ""}
_INNER = {
    "in_proj_weight": "qkv",
    "in_proj_bias": "qkv_bias",
    "out_proj.weight": "out",
    "out_proj.bias": "out_bias",
    "fc1.weight": "fc1",
    "fc1.bias": "fc1_bias",
    "fc2.weight": "fc2",
    "fc2.bias": "fc2_bias",
}


def load_published(model: DualAttentionAutoencoder, state: dict[str, torch.Tensor]) -> None:
    """Loads a published autoencoder state dict; strict: every weight on both sides must find its
    place."""
    ours, groups = {}, {}
    for key, value in state.items():
        place = _token_block_place(key, model.config.lead_attention)
        if place is None:
            ours[_renamed(key)] = value
        else:
            groups.setdefault(place[0], {})[place[1]] = value
    for name, by_lead in groups.items():
        ours[name] = torch.stack([by_lead[i] for i in range(len(by_lead))])  # one group per lead
    model.load_state_dict(ours)


def _token_block_place(key: str, lead_attention: bool) -> tuple[str, int] | None:
    """('attention.time.qkv', 3) for time_mha.3.in_proj_weight; None where the key lies outside the
    token blocks."""
    if not key.startswith("encoder.attention."):
        return None
    part, _, rest = key.removeprefix("encoder.attention.").partition(".")
    if part in _TIME:
        index, _, rest = rest.partition(".")
        return f"attention.time.{_inner(_TIME[part], rest)}", int(index)
    if part in _LEAD and lead_attention:
        return f"attention.lead.{_inner(_LEAD[part], rest)}", 0
    return None


def _inner(norm: str, rest: str) -> str:
    return (norm if rest == "weight" else f"{norm}_bias") if norm else _INNER[rest]


def _renamed(key: str) -> str:
    for old, new in _RENAMES:
        key = key.replace(old, new)
    return key.replace("encoder.attention.norm2.", "attention.idle_norm.")


def infer_config(state: dict, n_leads: int, n_samples: int) -> DualAttentionConfig:
    """Reads base features, code width, halvings, stem and ablations off the published weights."""
    stem = state["encoder.input_conv.3.weight"]
    return DualAttentionConfig(
        n_samples=n_samples,
        n_leads=n_leads,
        base=stem.shape[0] // n_leads,
        code_width=state["decoder.linear.0.weight"].shape[1],
        n_down=1 + max(int(k.split(".")[2]) for k in state if k.startswith("encoder.encoder.")),
        lead_attention="encoder.attention.lead_mha.in_proj_weight" in state,
        time_attention="encoder.attention.time_mha.0.in_proj_weight" in state,
        stem="mixed" if stem.shape[1] == stem.shape[0] else "per_lead",
    )


_HEAD = {
    "model.0.": "hidden.0.",
    "model.2.": "hidden.2.",
    "model.4.": "hidden.4.",
    "model.6.": "out.",
}


def load_published_head(state: dict[str, torch.Tensor]) -> RiskHead:
    """Builds the risk head from its published weights."""
    hidden, width = state["model.2.weight"].shape
    head = RiskHead(width, hidden)
    head.load_state_dict(
        {
            new + key.removeprefix(old): value
            for key, value in state.items()
            for old, new in _HEAD.items()
            if key.startswith(old)
        }
    )
    return head.eval()


# --- autoencoder ----------------------------------------------------------------------------------

_ATOL = {
    "recon": 3e-4,
    "z": 1e-4,
    "log_risk": 1e-4,
    "hidden3": 1e-4,
    "ecg_proj": 1e-4,
    "text_proj": 1e-4,
    "lead_attention": 1e-5,
    "time_attention": 1e-5,
}


def compare_autoencoder(arrays: Arrays, device) -> list[Check]:
    a = {
        k: torch.as_tensor(v).to(device)
        for k, v in arrays.items()
        if np.asarray(v).dtype.kind in "fiub"
    }
    x = a["in/x"]
    state = _under(a, "sd/ae/")
    model = DualAttentionAutoencoder(infer_config(state, *x.shape[1:])).to(device).eval()
    load_published(model, state)
    parts = [
        model,
        load_published_head(_under(a, "sd/risk/")).to(device),
        _projector(_under(a, "sd/ecg_projector/"), device),
        _projector(_under(a, "sd/text_projector/"), device),
    ]
    out = _run(*parts, x, a["in/text"])
    checks = [
        close(f"out/{k}", out[k], arrays[f"out/{k}"], tol)
        for k, tol in _ATOL.items()
        if f"out/{k}" in arrays
    ]
    checks += [
        close(k, out[k.removeprefix("act/")].reshape(arrays[k].shape), arrays[k], 1e-4)
        for k in arrays
        if k.startswith("act/")
    ]
    return checks + _compare_losses(arrays, a, out, *parts[:2])


def _run(model, head, ecg_projector, text_projector, x, text) -> dict:
    out = model(x, return_attention=True, return_stages=True)
    risk = head(out["z"])
    return out | {
        "theta": risk["log_risk"],
        "log_risk": risk["log_risk"][:, None],
        "hidden3": risk["hidden"],
        "ecg_proj": F.normalize(ecg_projector(out["z"]), dim=1),
        "text_proj": F.normalize(text_projector(text), dim=1),
    }


def _compare_losses(arrays: Arrays, a: dict, out: dict, model, head) -> list[Check]:
    mse = reconstruction_mse(out["recon"], a["in/x"])
    align = alignment_cosine(out["ecg_proj"], out["text_proj"])
    cox = cox_loss(out["theta"], a["in/time"], a["in/event"])
    losses = {"loss/mse": mse, "loss/align": align, "loss/cox": cox, "loss/pretrain": mse + align}
    finetune = next((k for k in arrays if k.startswith("loss/finetune_alpha")), None)
    if finetune:  # the published code's alpha weighs the risk
        losses[finetune] = finetune_loss(mse, cox, float(finetune.split("alpha")[1]), "reference")
        losses[finetune].backward()
    checks = [close(k, v, arrays[k], 1e-5) for k, v in losses.items() if k in arrays]
    ours = dict(model.named_parameters()) | {f"risk.{k}": v for k, v in head.named_parameters()}
    for key in (k for k in arrays if k.startswith("grad/")):
        value = _gradient(ours, key.removeprefix("grad/"))
        checks.append(
            close(key, value, arrays[key], 1e-3 * float(np.abs(arrays[key]).max()), rtol=1e-3)
        )
    return checks


def _gradient(ours: dict, key: str) -> torch.Tensor:
    """Gradient under a published name, from wherever our layout keeps that weight."""
    if key.startswith("risk."):
        old = next(o for o in _HEAD if key.startswith(f"risk.{o}"))
        return ours[key.replace(old, _HEAD[old])].grad
    place = _token_block_place(key, any(name.startswith("attention.lead.") for name in ours))
    return ours[_renamed(key)].grad if place is None else ours[place[0]].grad[place[1]]


def _projector(state: dict, device) -> torch.nn.Module:
    layers = projector(state["0.weight"].shape[1], *[state[f"{i}.weight"].shape[0] for i in (0, 2)])
    layers.load_state_dict(state)
    return layers.to(device).eval()


def _under(arrays: dict, prefix: str) -> dict:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


# --- Cox cases and preprocessing ------------------------------------------------------------------


def compare_cox(arrays: Arrays, device) -> list[Check]:
    """Exact losses against exact values; the published formula against the values the published
    code gave."""
    checks = []
    for name in dict.fromkeys(k.rpartition("/")[0] for k in arrays if k.endswith("/theta")):
        case = _under(arrays, f"{name}/")
        time, event = (torch.as_tensor(case[k]).to(device) for k in ("time", "event"))
        theta = torch.as_tensor(case["theta"]).to(device).requires_grad_()
        for ties in ("breslow", "efron"):
            if f"exact_{ties}_mean" in case:
                # Without events the mean is 0/0 = NaN; the kit's answer there is a documented 0.
                exact = case[f"exact_{ties}_mean"] if event.any() else 0.0
                value = cox_loss(theta, time, event, ties)
                checks.append(close(f"{name}/exact_{ties}_mean", value, exact, 1e-5))
        if "ref_loss" in case:
            value = cox_loss_reference(theta, time, event)
            (grad,) = torch.autograd.grad(value, theta)
            checks.append(
                close(
                    f"{name}/ref_loss (published formula)", value, case["ref_loss"], 1e-5, rtol=1e-6
                )
            )
            checks.append(
                close(
                    f"{name}/ref_grad (published formula)", grad, case["ref_grad"], 1e-5, rtol=1e-3
                )
            )
    return checks


def compare_preprocessing(arrays: Arrays, device) -> list[Check]:
    keys = [k for k in arrays if k.startswith("out/z_pad")]
    return [
        close(k, pad_centre(zscore_leads(arrays["in/x"]), arrays[k].shape[-1]), arrays[k], 1e-5)
        for k in keys
    ]


CASES = [
    Case(
        "risk_autoencoder",
        lambda name, a: "sd/ae/encoder.input_conv.0.weight" in a,
        compare_autoencoder,
    ),
    Case(
        "risk_cox",
        lambda name, a: (
            any(k.endswith(("ref_loss", "exact_breslow_mean")) for k in a)
            and any(k.endswith("/theta") for k in a)
        ),
        compare_cox,
    ),
    Case(
        "risk_preprocessing",
        lambda name, a: "in/x" in a and any(k.startswith("out/z_pad") for k in a),
        compare_preprocessing,
    ),
]
