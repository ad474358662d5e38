"""A trained ESI on disk.

    <folder>/encoder/              the ECG encoder, for any notebook (`models.ecg_encoders`)
             model/model.safetensors, config.json, tokenizer/, text_encoder/
                   sources.json    what it was trained on: sources, fingerprints, ECGs of each
                   training_captions.json   every text it has read, to keep prompts unseen

Usage:

    save_study(study, run.folder)
    model, tokenizer, config, texts = load_trained(run.sibling("04_esi_pretraining"))
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ecgkit import runtime
from ecgkit.config import EsiConfig
from ecgkit.models.ecg_encoders import save_encoder
from ecgkit.models.esi import ESI
from ecgkit.tasks.esi_study import Study, build_model
from ecgkit.types import ModelError


def save_study(study: Study, folder: str | Path) -> Path:
    """Writes encoder/ (for any notebook) and model/ (weights, settings, tokenizer, captions
    read).
    """
    from safetensors.torch import save_file

    folder, config = Path(folder), study.config
    notes = {"fs": study.cohort.store.fs, "input": "esi_preprocess", "protocol": config.protocol,
             "cohort": study.cohort.fingerprint}
    save_encoder(study.model.img_encoder, folder / "encoder", **notes)
    state = {k: v.detach().cpu().contiguous() for k, v in study.model.state_dict().items()}
    texts = list(dict.fromkeys(study.training_texts()))
    with runtime.replacing_folder(folder / "model") as place:
        save_file(state, str(place / "model.safetensors"))
        study.tokenizer.save_pretrained(place / "tokenizer")
        study.model.unimodal_layers.config.save_pretrained(place / "text_encoder")
        for name, content in (("config", asdict(config)), ("sources", _sources(study)),
                              ("training_captions", texts)):  # fmt: skip
            (place / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    return folder


def _sources(study: Study) -> list[dict]:
    table = study.mixture.table()
    return [
        {"source": label, "fingerprint": cohort.fingerprint, "pretraining": n}
        for label, cohort, n in zip(table["source"], study.mixture.cohorts,
                                    table["pretraining"].tolist())
    ]  # fmt: skip


def load_trained(folder: str | Path) -> tuple[ESI, object, EsiConfig, list[str]]:
    """(model in eval mode, tokenizer, its config, every caption it was trained on) from save_study.

    Raises ModelError when the folder holds no such model.
    """
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    place = Path(folder) / "model"
    try:
        config = EsiConfig.from_params(json.loads((place / "config.json").read_text()))
        tokenizer = PreTrainedTokenizerFast.from_pretrained(place / "tokenizer")
        text_config = AutoConfig.from_pretrained(place / "text_encoder")
        state = load_file(str(place / "model.safetensors"))
        texts = json.loads((place / "training_captions.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{Path(folder).name}/model is not a trained ESI ({error}); run notebook 04."
        ) from None
    pooler = {"add_pooling_layer": any(".pooler." in k for k in state)}
    text_encoder = AutoModel.from_config(text_config, **pooler)
    model = build_model(config, text_encoder, len(tokenizer))
    model.load_state_dict(state)
    return model.eval(), tokenizer, config, texts
