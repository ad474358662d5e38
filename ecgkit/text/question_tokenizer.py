"""Question text -> token ids, through a real Hugging Face fast tokenizer.

Either one is trained in place on the training questions (WordPiece, BERT's normaliser and special
tokens; needs no network), or any tokenizer is taken by hub id or folder, such as bert-base-uncased.

Letters: N questions, L tokens.

Usage:
    tokenizer = question_tokenizer(training_questions, vocab_size=800)
    ids, padding = encode_questions(tokenizer, all_questions)        # (N, L) int64, (N, L) bool
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecgkit.types import ModelError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def question_tokenizer(questions: Sequence[str], vocab_size: int = 800, source: str = ""):
    """Returns a PreTrainedTokenizerFast: `source` (hub id or folder) if given, else a trained one.

    Raises ModelError when `source` is neither a folder nor reachable, or lacks [PAD] or [SEP].
    """
    return load_tokenizer(source) if source else train_tokenizer(questions, vocab_size)


def train_tokenizer(questions: Sequence[str], vocab_size: int):
    """A WordPiece tokenizer learnt from `questions`; the same questions give the same ids."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = WordPieceTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL),
                               show_progress=False)
    core.train_from_iterator(sorted(set(questions)), trainer)
    ends = [(name, core.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]",
                                                        special_tokens=ends)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def load_tokenizer(source: str):
    """A tokenizer from a folder, the local cache, or the hub, in that order."""
    from transformers import AutoTokenizer

    try:
        local = not Path(source).is_dir()
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError):
        if Path(source).is_dir() or not _hub_reachable():
            raise ModelError(
                f"Tokenizer {source!r} is neither a tokenizer folder nor in the local cache, and "
                "the hub is not reachable; give a folder, or '' to train one on the questions."
            ) from None
        tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token_id is None or tokenizer.sep_token_id is None:
        raise ModelError(
            f"Tokenizer {source!r} has no [PAD] or no [SEP] token; take a BERT-like one."
        )
    return tokenizer


def encode_questions(tokenizer, questions: Sequence[str], max_tokens: int = 512):
    """(N, L) int64 ids, right-padded to the longest, and (N, L) bool, True = padding.

    Each distinct wording is tokenised once; longer questions are cut at `max_tokens`.
    """
    distinct, which = np.unique(np.asarray(questions, dtype=object), return_inverse=True)
    coded = tokenizer(list(distinct), truncation=True, max_length=max_tokens)["input_ids"]
    ids = np.full((len(coded), max(map(len, coded))), tokenizer.pad_token_id, dtype=np.int64)
    lengths = np.array([len(row) for row in coded])
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    ids[inside] = np.concatenate([np.asarray(row) for row in coded])
    return ids[which], ~inside[which]


def _hub_reachable(seconds: float = 3.0) -> bool:
    """Whether the hub answers; False at once where the user set offline mode."""
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "True"):
        return False
    try:
        socket.create_connection(("huggingface.co", 443), timeout=seconds).close()
    except OSError:
        return False
    return True
