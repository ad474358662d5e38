"""A small Llama of our own and its tokenizer, for machines without a real language model.

Usage:

    tokenizer = train_tokenizer(texts, vocab_size=1000)
    llm = build_small_llm(len(tokenizer), width=128, n_layers=4, n_heads=4)    # ~1 M, random
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1000, terms: Sequence[str] = ()):
    """A lower-casing byte-level BPE tokenizer of `vocab_size` tokens (256 bytes and 4 specials
    included) plus `terms`.

    Each term ("left bundle branch block") becomes one token with the space before it: a model with
    seconds to learn should not spend them on finding out that four words are one thing. Byte level
    means no text is out of vocabulary. Returns a transformers tokenizer that adds no special tokens
    by itself.
    """
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    whole = sorted({term.lower() for term in terms if " " in term}, key=lambda t: (-len(t), t))
    tokenizer.add_tokens(
        [AddedToken(" " + term, single_word=False, normalized=True) for term in whole]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def build_small_llm(
    vocab_size: int, width: int = 128, n_layers: int = 4, n_heads: int = 4, max_tokens: int = 1024
):
    """A Llama with random weights: `n_layers` blocks of `width`, feed-forward 8/3 as wide, tied
    word embeddings.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        intermediate_size=round(width * 8 / 3 / 32) * 32,
        max_position_embeddings=max_tokens,
        # 1/sqrt(width), not Llama's 0.02: at this width 0.02 keeps attention flat for hundreds of
        # steps.
        initializer_range=width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config)
