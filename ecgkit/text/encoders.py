"""Text encoders: any Hugging Face encoder by hub id or folder, or a small BERT trained in place.

Usage:

    tokenizer = train_wordpiece(captions, vocab_size=2000)
    encoder = small_bert(len(tokenizer), width=128)
    tokenizer, encoder = load_text_encoder("michiyasunaga/BioLinkBERT-base")   # needs the hub
    vectors = text_vectors(tokenizer, encoder, ["atrial flutter", "sinus rhythm"])      # (2, D)
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections import Counter
from pathlib import Path
from urllib.parse import urlparse

import numpy as np

from ecgkit import runtime
from ecgkit.types import ModelError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # [PAD] is id 0, which no loss counts
ENDINGS = ("##s", "##ed", "##d", "##ing", "##al", "##ly", "##ic", "##ion")


def train_wordpiece(texts: list[str], vocab_size: int = 2000):
    """A lower-case WordPiece tokenizer made from `texts`: [CLS] ... [SEP], pad id 0.

    Its vocabulary is the single characters, a few endings and the commonest words, in an order that
    the texts alone decide (the library's own trainer breaks ties at random, so that a resumed run
    would meet other ids). Give it training captions only, so that no test record shapes it.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(vocabulary(texts, vocab_size), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def vocabulary(texts: list[str], size: int) -> dict[str, int]:
    """Token -> id: special tokens, characters at a word's start and inside, endings, common
    words.
    """
    counts = Counter(re.findall(r"\w+|[^\w\s]", " ".join(sorted(set(texts))).lower()))
    letters = sorted({c for word in counts for c in word} | set("abcdefghijklmnopqrstuvwxyz"))
    pieces = [*SPECIAL, *letters, *(f"##{c}" for c in letters), *ENDINGS]
    words = sorted(counts, key=lambda word: (-counts[word], word))
    chosen = list(dict.fromkeys([*pieces, *words]))[: max(size, len(pieces))]
    return {token: i for i, token in enumerate(chosen)}


def small_bert(vocab_size: int, width: int = 128, n_layers: int = 2, max_tokens: int = 128):
    """A randomly initialised BERT without dropout or pooler, heads of 32 or the width if less."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocab_size, hidden_size=width, num_hidden_layers=n_layers,
        num_attention_heads=max(1, width // 32), intermediate_size=4 * width,
        max_position_embeddings=max_tokens, pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        initializer_range=0.5 / width**0.5,  # BERT's 0.02 is made for 768; narrower starts too flat
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


def load_text_encoder(name: str, timeout_s: float = 4.0):
    """(tokenizer, encoder) from a local folder, the hub's local cache, or the hub.

    Raises ModelError in one sentence, within 5 s, when `name` is a hub id that is not in the cache
    while the hub cannot be reached or HF_HUB_OFFLINE=1, and when a folder holds no model.
    """
    from transformers import AutoModel

    tokenizer, model = load_pretrained(AutoModel, name, "Text encoder", _no_encoder, timeout_s)
    return tokenizer, model.eval()


def load_pretrained(kind, name: str, what: str, refusal, timeout_s: float = 4.0):
    """(tokenizer, model) of a transformers class such as AutoModel, by folder or hub id, float32.

    `what` names it in the error about lacking weights, which the library would fill in at random;
    what nobody reads (a pooler) or no file holds (computed positions) may be missing.
    `refusal(name, local, offline, error)` is the ModelError raised where it cannot be loaded.
    """
    from transformers import AutoTokenizer, logging

    logging.disable_progress_bar()
    local = Path(name).expanduser().is_dir()
    place = str(Path(name).expanduser()) if local else name
    offline = local or os.environ.get("HF_HUB_OFFLINE") == "1" or not hub_reachable(timeout_s)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=offline)
        model, loaded = kind.from_pretrained(
            place, local_files_only=offline, dtype="float32", output_loading_info=True
        )
    except Exception as error:  # noqa: BLE001 - ImportError, OSError, ValueError, the file's own
        raise refusal(name, local, offline, error) from None
    needless = ("pooler", "embed_positions")
    lacking = sorted(k for k in loaded["missing_keys"] if not any(part in k for part in needless))
    if lacking:
        raise ModelError(
            f"{what} {Path(name).name if local else name!r} comes without {len(lacking)} of its "
            f"weights, e.g. {lacking[0]}; they would be random. Give the folder of a whole model."
        )
    return tokenizer, model


def _no_encoder(name: str, local: bool, offline: bool, error: Exception) -> ModelError:
    if local:
        return ModelError(
            f"{Path(name).name}/ holds no Hugging Face text encoder ({runtime.first_line(error)}); "
            "give a folder with config.json, weights and tokenizer."
        )
    why = "the hub cannot be reached from here" if offline else runtime.first_line(error)
    return ModelError(
        f"Text encoder {name!r} is not available ({why}); give a local folder that holds it, "
        "or leave the name empty for the small encoder trained in place."
    )


def text_vectors(
    tokenizer, model, texts: list[str], batch_size: int = 32, max_tokens: int = 512,
    device: str = "auto",
) -> np.ndarray:
    """(n, D) float32: the mean of each text's last states, padding left out; not normalised.

    Texts of like length share a batch, so that little is padding; longer ones than the model (or
    `max_tokens`) takes are cut. Of an encoder-decoder the encoder is taken.
    """  # fmt: skip
    import torch

    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    where, room = runtime.pick_device(device), min(max_tokens, longest_input(tokenizer, model))
    model = model.to(where).eval()
    order = np.argsort([len(text) for text in texts], kind="stable")[::-1]
    out = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(texts), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer([texts[i] or " " for i in rows], padding=True, truncation=True,
                          max_length=room, return_tensors="pt").to(where)  # fmt: skip
        mask = batch["attention_mask"]
        with torch.inference_mode():
            states = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
            weights = mask[..., None].to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1)  # (B, L, D) -> (B, D)
        out[rows] = pooled.float().cpu().numpy()
    return out


def longest_input(tokenizer, model) -> int:
    """Tokens that both take. A tokenizer saved without a limit claims 1e30; a RoBERTa's positions
    begin behind its padding id.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    if "roberta" in model.config.model_type:
        positions -= model.config.pad_token_id + 1
    return int(min(tokenizer.model_max_length, positions))


def hub_reachable(timeout_s: float = 4.0) -> bool:
    """True when the hub (HF_ENDPOINT) takes a connection within `timeout_s`, name lookup
    included.
    """
    url = urlparse(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    address = (url.hostname or "huggingface.co", url.port or (80 if url.scheme == "http" else 443))
    answer: list[bool] = []

    def knock():
        try:
            socket.create_connection(address, timeout=timeout_s).close()
            answer.append(True)
        except OSError:
            answer.append(False)

    # A name lookup has no timeout of its own, so it runs aside and is abandoned.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return bool(answer and answer[0])
