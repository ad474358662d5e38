"""Captions: greedy and beam search on a table of known probabilities, and on a model that has
learnt one batch by heart.
"""

import functools
import itertools

import pytest
import torch

from ecgkit.models import esi
from ecgkit.models.ecg_encoders import encoder_for
from ecgkit.models.esi_generate import beam_search, greedy, search
from ecgkit.models.losses_esi import caption_loss, contrastive_loss, shift_captions
from ecgkit.text.encoders import small_bert
from ecgkit.types import ModelError

END, VOCAB = 3, 6


def table(seed: int):
    """A next_word that depends on ECG and last word: log-probabilities (B, V, V), and it."""
    generator = torch.Generator().manual_seed(seed)
    logp = (2 * torch.randn(4, VOCAB, VOCAB, generator=generator)).log_softmax(-1)
    return logp, lambda ids, rows: logp[rows, ids[:, -1]]


def trap():
    """Word 4 looks best, but all that follows it is unlikely; 5 looks worse and leads to the end.

    (ECG 1 is the other way round, so that the two must not be mixed up.)
    """
    p = torch.full((2, VOCAB, VOCAB), 0.01)
    for ecg, (good, bad) in enumerate(((5, 4), (4, 5))):
        p[ecg, 2, bad], p[ecg, 2, good] = 0.5, 0.4
        p[ecg, bad] = 1 / VOCAB
        p[ecg, good, END] = 0.95
    logp = (p / p.sum(-1, keepdim=True)).log()
    return lambda ids, rows: logp[rows, ids[:, -1]]


def mean_logp(next_word, ids) -> torch.Tensor:
    """Per word said, the closing END included, of captions (B, L) that start with one word."""
    rows, total, words = torch.arange(len(ids)), torch.zeros(len(ids)), torch.zeros(len(ids))
    for t in range(1, ids.shape[1]):
        said = (ids[:, 1:t] != END).all(1)  # not ended before t
        logp = next_word(ids[:, :t], rows).gather(1, ids[:, t : t + 1])[:, 0]
        total, words = total + said * logp, words + said
    return total / words


def start(n: int = 4) -> torch.Tensor:
    return torch.full((n, 1), 2)


# --- on a table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy(seed):
    _, next_word = table(seed)
    one, plain = (f(next_word, start(), END, 7, *k) for f, k in ((beam_search, (1,)), (greedy, ())))
    assert torch.equal(one, plain)
    assert torch.equal(search(next_word, start(), END, 7), plain)


def test_beams_find_the_caption_that_greedy_misses():
    next_word = trap()
    plain = search(next_word, start(2), END, 6)
    found = search(next_word, start(2), END, 6, n_beams=2)
    assert plain[:, 1].tolist() == [4, 5] and found.tolist() == [[2, 5, 3], [2, 4, 3]]
    assert (mean_logp(next_word, found) > mean_logp(next_word, plain) + 0.1).all()


@pytest.mark.parametrize("seed", range(3))
def test_enough_beams_find_the_best_caption_there_is(seed):
    _, next_word = table(seed)
    best = torch.full((4,), -torch.inf)
    words = [w for w in range(VOCAB) if w != END]
    for n in range(4):  # 0 to 3 words and the end, or 4 words without one
        for said in itertools.product(words, repeat=n):
            ends = [END] if n < 3 else range(VOCAB)
            for last in ends:
                ids = torch.tensor([[2, *said, last]]).expand(4, -1)
                best = torch.maximum(best, mean_logp(next_word, ids))
    found = beam_search(next_word, start(), END, 4, n_beams=VOCAB**3)
    assert torch.allclose(mean_logp(next_word, found), best, atol=1e-5)


def test_the_length_does_not_decide_unless_asked_to():
    p = torch.full((1, VOCAB, VOCAB), 1e-4)
    p[0, 2, END], p[0, 2, 4] = 0.5, 0.5  # ends at once: mean log 0.5
    p[0, 4, 5], p[0, 5, END] = 0.8, 0.8  # three words: sum log 0.32, mean log 0.68
    logp = p.log()

    def next_word(ids, rows):
        return logp[rows, ids[:, -1]]

    assert beam_search(next_word, start(1), END, 6, 3).tolist() == [[2, 4, 5, END]]
    assert beam_search(next_word, start(1), END, 6, 3, length_power=0).tolist() == [[2, END]]


@pytest.mark.parametrize("n_beams", [1, 3])
def test_the_end_ends(n_beams):
    logp, asked = table(0)[0], []
    logp[0, 2] = torch.tensor([-9.0, -9, -9, -0.01, -9, -9])  # ECG 0 has nothing to say
    logp[1:, :, END] = -60  # the others never come to an end

    def next_word(ids, rows):
        asked.append(rows.tolist())
        assert not (ids == END).any()  # a caption that has ended is not asked for again
        return logp[rows, ids[:, -1]]

    ids = search(next_word, start(), END, 5, n_beams)
    assert ids.shape == (4, 6) and (ids[0, 1:] == END).all() and (ids[1:] != END).all()
    assert search(next_word, start(), END, 0, n_beams).tolist() == start().tolist()
    if n_beams == 1:
        assert asked[1:5] == [[1, 2, 3]] * 4
        logp[:, 2, END] = 9
        assert search(next_word, start(), END, 5).tolist() == [[2, END]] * 4


def test_fewer_words_than_beams_and_no_beam():
    _, next_word = table(1)
    assert search(next_word, start(), END, 3, n_beams=50).shape[0] == 4
    with pytest.raises(ModelError, match="n_beams is 0"):
        search(next_word, start(), END, 3, n_beams=0)


# --- on a model -----------------------------------------------------------------------------------

CAPTIONS = torch.tensor([
    [2, 10, 11, 12, 13, 3], [2, 10, 14, 15, 3, 0], [2, 10, 11, 16, 3, 0], [2, 10, 11, 12, 3, 0],
])  # fmt: skip


@functools.cache
def trained(protocol: str, pool: str, n_steps: int = 120):
    """A small model after `n_steps` on four ECGs and their captions, and the ECGs."""
    torch.manual_seed(0)
    sizes = esi.ESIConfig(20, n_layers=1, n_heads=2, head_dim=16, ff_mult=2, n_queries=2,
                          protocol=protocol, contrast_pool=pool)
    model = esi.ESI(encoder_for("micro"), small_bert(20, 32, 1, 16), sizes)
    signals = torch.randn(4, 12, 320)
    batch = shift_captions(CAPTIONS, (CAPTIONS != 0).long(), protocol)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(n_steps):
        out = model(signals, *batch)
        loss = caption_loss(out["caption_logits"], out["caption_labels"])
        loss = loss + contrastive_loss(out["ecg_latents"], out["text_latents"], out["temperature"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), signals


@pytest.mark.parametrize("pool", ["mean", "query"])
def test_each_ecg_gets_its_own_caption(pool):
    """CoCa's complaint (open_clip #549): the same caption for every picture."""
    model, signals = trained("paper", pool)
    said = model.generate(signals, start(), END, max_tokens=8)
    assert said.tolist() == [[2, 10, 11, 12, 13, 3], [2, 10, 14, 15, 3, 3], [2, 10, 11, 16, 3, 3],
                             [2, 10, 11, 12, 3, 3]]
    turned = model.generate(signals[[2, 0]], start(2), END, max_tokens=8, n_beams=3)
    assert turned.tolist() == [[2, 10, 11, 16, 3, 3], [2, 10, 11, 12, 13, 3]]
    assert model.generate(signals[:1], start(1), END, max_tokens=2).tolist() == [[2, 10, 11]]


def test_the_reference_learns_to_copy_words_not_to_read_the_ecg():
    """Both say their captions word for word while these are shown to them. With another's ECG the
    paper's model is lost, the reference hardly minds; left to speak, it says wrong things.
    """
    lost, spoken = {}, {}
    for protocol in ("paper", "reference"):
        model, signals = trained(protocol, "mean")
        batch = shift_captions(CAPTIONS, (CAPTIONS != 0).long(), protocol)
        with torch.no_grad():
            told, lost[protocol] = (
                caption_loss(out["caption_logits"], out["caption_labels"])
                for out in (model(signals[order], *batch) for order in ([0, 1, 2, 3], [1, 2, 3, 0]))
            )
        assert told < 0.05
        said = model.generate(signals, CAPTIONS[:, :2], END, max_tokens=4)
        spoken[protocol] = sum(
            a[: a.index(END)] == b[: b.index(END)] if END in a else False
            for a, b in zip(said.tolist(), CAPTIONS.tolist())
        )
    assert lost["paper"] > 2 * lost["reference"], lost
    assert spoken["paper"] == 4 and spoken["reference"] < 4, spoken
    with pytest.raises(ModelError, match="first word"):
        model.generate(signals, start(), END)
