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
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.types import ModelError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def question_tokenizer(questions: Sequence[str], vocab_size: int = 800, source: str = ""):
    """Returns a PreTrainedTokenizerFast: `source` (hub id or folder) if given, else a trained one.

    Raises ModelError when `source` is neither a folder nor reachable, or lacks [PAD] or [SEP].
    """
    return load_tokenizer(source) if source else train_tokenizer(questions, vocab_size)


def train_tokenizer(questions: Sequence[str], vocab_size: int):
    """A WordPiece tokenizer of the commonest words, and of all letters for any other word.

    The words are counted here: the trainer of `tokenizers` breaks ties at random, and then the same
    questions would give other ids in each run.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normaliser = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    counts = Counter()
    for text, n in Counter(questions).items():
        for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(text)):
            counts[word] += n
    letters = sorted({letter for word in counts for letter in word})
    pieces = [*SPECIAL, *letters, *("##" + letter for letter in letters)]
    words = sorted((w for w in counts if len(w) > 1), key=lambda w: (-counts[w], w))
    pieces += words[: max(0, vocab_size - len(pieces))]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normaliser, splitter
    core.decoder = decoders.WordPiece()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
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
    which, distinct = pd.factorize(np.asarray(questions, dtype=object))
    coded = token_lists(tokenizer, distinct.tolist(), max_tokens)
    ids = np.full((len(coded), max(map(len, coded))), tokenizer.pad_token_id, dtype=np.int64)
    lengths = np.array([len(row) for row in coded])
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    ids[inside] = np.concatenate([np.asarray(row) for row in coded])
    return ids[which], ~inside[which]


def token_lists(tokenizer, texts: list[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each text with its special tokens, cut at `max_tokens`."""
    return tokenizer(
        texts, truncation=True, max_length=max_tokens,
        return_attention_mask=False, return_token_type_ids=False,
    )["input_ids"]  # fmt: skip


def _hub_reachable(seconds: float = 3.0) -> bool:
    """Whether the hub answers; False at once where the user set offline mode."""
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "True"):
        return False
    try:
        socket.create_connection(("huggingface.co", 443), timeout=seconds).close()
    except OSError:
        return False
    return True
