"""Mapper, small Llama, its two layouts, and the first-order gradient."""

import time

import pytest
import torch
from torch.func import functional_call

from ecgkit.models import llm_loading
from ecgkit.models.llm_loading import load_llm
from ecgkit.models.prefix_llm import PrefixLLM, token_scores
from ecgkit.models.prefix_mapper import MAPPERS, build_mapper
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import maml
from ecgkit.types import ConfigError, ModelError

QUESTIONS = [
    "Is atrial fibrillation present?",
    "Would you report noise in lead V1 of this recording?",
    "Is it normal?",
]


@pytest.fixture(scope="module")
def reader() -> PrefixLLM:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(
        [f"Question: {q} ECG: Answer: yes no" for q in QUESTIONS] * 2, 300, ["atrial fibrillation"]
    )
    return PrefixLLM(build_small_llm(len(tokenizer), width=32, n_layers=2, n_heads=4), tokenizer)


# --- mapper ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width,expected", [(4096, 26_250_240), (256, 660_480)])
def test_the_attention_mapper_has_the_published_number_of_parameters(width, expected):
    with torch.device("meta"):
        assert (
            sum(p.numel() for p in build_mapper("attention", 768, width).parameters()) == expected
        )


def test_the_attention_mapper_is_a_set_transformer_block_over_tokens_and_ecg():
    torch.manual_seed(0)
    mapper = build_mapper("attention", 10, 16, n_prefix=3, n_heads=2).eval()
    features = torch.randn(5, 10)
    out = mapper(features, return_attention=True)
    assert out["prefix"].shape == (5, 3, 16) and out["attention"].shape == (5, 2, 3, 4)
    torch.testing.assert_close(out["attention"].sum(-1), torch.ones(5, 2, 3))
    x = torch.cat([mapper.tokens.repeat(5, 1, 1), features[:, None]], 1)
    q, k, v = mapper.query(x), mapper.key(x), mapper.value(x)
    heads = [
        q[..., h] + torch.softmax(q[..., h] @ k[..., h].mT / 4, -1) @ v[..., h]
        for h in (slice(0, 8), slice(8, 16))
    ]
    h = mapper.norm1(torch.cat(heads, -1))
    h = mapper.norm2(h + torch.nn.functional.leaky_relu(mapper.out(h)))
    torch.testing.assert_close(out["prefix"], h[:, :3])


def test_dropout_stays_on_at_test_time_only_as_released():
    x = torch.randn(2, 10)
    for always, same in ((False, True), (True, False)):
        mapper = build_mapper("attention", 10, 16, always_drop=always).eval()
        assert torch.equal(mapper(x)["prefix"], mapper(x)["prefix"]) is same


@pytest.mark.parametrize("kind", MAPPERS)
def test_every_mapper_reads_one_embedding_or_several_tokens(kind):
    torch.manual_seed(0)
    mapper = build_mapper(kind, 8, 16, n_prefix=3, n_heads=4).eval()
    x = torch.randn(2, 8)
    assert mapper(x)["prefix"].shape == (2, 3, 16)
    torch.testing.assert_close(mapper(x[:, None])["prefix"], mapper(x)["prefix"], rtol=0, atol=0)
    several = torch.randn(2, 5, 8)
    out = mapper(several, return_attention=True)
    assert out["prefix"].shape == (2, 3, 16)
    if kind in ("attention", "perceiver"):
        assert out["attention"].shape == (2, 4, 3, 3 + 5)
        torch.testing.assert_close(out["attention"].sum(-1), torch.ones(2, 4, 3))
    else:
        assert "attention" not in out
    other = several.clone()
    other[0, 4] = torch.randn(8)
    changed = (mapper(other)["prefix"] - out["prefix"]).abs().amax((1, 2))
    assert changed[0] > 1e-4 and changed[1] == 0


@pytest.mark.parametrize("kind", MAPPERS)
def test_every_mapper_has_second_derivatives_and_runs_per_task(kind):
    """Second-order MAML differentiates the inner step; vmap runs one set of weights per task."""
    torch.manual_seed(0)
    mapper = build_mapper(kind, 8, 16, n_prefix=2, n_heads=2, dropout=0.0)
    x = torch.randn(3, 8)
    weights = list(mapper.parameters())
    inner = torch.autograd.grad(
        (mapper(x)["prefix"] * torch.randn(16)).tanh().sum(), weights, create_graph=True
    )
    outer = torch.autograd.grad(sum((g**2).sum() for g in inner), weights, allow_unused=True)
    assert all(g is None or torch.isfinite(g).all() for g in outer)
    stacked = maml.stacked_parameters(mapper, 2)
    both = maml.map_tasks(mapper, stacked, torch.stack([x, x]))
    torch.testing.assert_close(both[1], mapper(x)["prefix"])


def test_the_perceiver_is_that_of_flamingo():
    """Keys and values from latents and ECG, both normalised; two residual halves per layer."""
    torch.manual_seed(0)
    mapper = build_mapper("perceiver", 8, 16, n_prefix=3, n_heads=2, dropout=0.0).eval()
    ecg, latents = torch.randn(1, 5, 8), mapper.latents
    norm = torch.nn.functional.layer_norm
    for layer in mapper.layers:
        x, y = norm(latents, (8,)), norm(ecg[0], (8,))  # fresh norms have weight 1, bias 0
        q, (k, v) = layer.query(x), layer.key_value(torch.cat([x, y])).chunk(2, -1)
        heads = [
            torch.softmax(q[:, h] @ k[:, h].T / 2, -1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))
        ]
        latents = latents + layer.out(torch.cat(heads, -1))
        latents = latents + layer.feed_forward(latents)
    expected = mapper.norm(mapper.proj(latents))
    torch.testing.assert_close(mapper(ecg)["prefix"][0], expected)


def test_mappers_for_an_8b_llama_have_these_sizes():
    with torch.device("meta"):
        sizes = {
            kind: sum(p.numel() for p in build_mapper(kind, 768, 4096).parameters())
            for kind in MAPPERS
        }
    assert sizes == {
        "attention": 26_250_240, "linear": 12_607_488, "mlp": 70_283_264, "perceiver": 17_333_760,
    }  # fmt: skip


def test_a_wrong_mapper_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="MAPPER"):
        build_mapper("rnn", 10, 16)
    with pytest.raises(ConfigError, match="MAPPER_HEADS"):
        build_mapper("attention", 10, 20, n_heads=8)
    with pytest.raises(ConfigError, match="MAPPER_HEADS"):
        build_mapper("perceiver", 10, 16, n_heads=8)


# --- language model -------------------------------------------------------------------------------


def test_terms_are_single_tokens_and_no_text_is_unknown(reader):
    assert " atrial fibrillation" in reader.tokenizer.tokenize("is Atrial Fibrillation here")
    ids = reader.tokenizer("Ünïcödé, 5 mV?")["input_ids"]
    assert reader.tokenizer.unk_token_id not in ids and reader.tokenizer.decode(ids).startswith(
        "ünïcödé"
    )


def test_a_saved_folder_loads_without_network(reader, tmp_path):
    reader.llm.save_pretrained(tmp_path)
    reader.tokenizer.save_pretrained(tmp_path)
    tokenizer, llm = load_llm(str(tmp_path))
    ids = torch.tensor([tokenizer("Is it normal?")["input_ids"]])
    assert ids.tolist()[0] == reader.tokenizer("Is it normal?")["input_ids"]
    torch.testing.assert_close(llm(ids).logits, reader.llm(ids).logits)
    assert not any(p.requires_grad for p in llm.parameters())


@pytest.mark.parametrize("offline", ["1", ""])
def test_a_hub_id_without_network_is_one_sentence_within_five_seconds(monkeypatch, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HTTPS_PROXY", "")
    monkeypatch.setenv("https_proxy", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(ModelError) as error:
        load_llm("nobody/no-such-model")
    assert time.monotonic() - start < 5
    message = str(error.value)
    assert "nobody/no-such-model" in message and "\n" not in message and message.count(". ") == 0


@pytest.mark.parametrize("settings,said", [
    ({"four_bit": True}, "LLM_4BIT needs a CUDA GPU"),
    ({"dtype": "int8"}, "LLM_DTYPE is 'int8'"),
])  # fmt: skip
def test_settings_this_machine_cannot_serve_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        load_llm("nobody/no-such-model", device="cpu", **settings)


def test_four_bits_without_bitsandbytes_name_the_package(monkeypatch):
    monkeypatch.setattr(llm_loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        llm_loading._options("auto", "cuda", True)


def test_precision_is_half_on_a_gpu_and_full_on_a_cpu_unless_said_otherwise():
    assert llm_loading._options("auto", "cpu", False) == {"dtype": torch.float32}
    assert llm_loading._options("auto", "cuda", False) == {"dtype": torch.bfloat16}
    assert llm_loading._options("float16", "cpu", False) == {"dtype": torch.float16}


def test_a_folder_is_loaded_in_the_precision_asked_for(reader, tmp_path):
    reader.llm.save_pretrained(tmp_path)
    reader.tokenizer.save_pretrained(tmp_path)
    assert load_llm(str(tmp_path), "bfloat16", device="cpu")[1].dtype == torch.bfloat16
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="without config.json"):
        load_llm(str(tmp_path))


# --- layouts --------------------------------------------------------------------------------------


def test_remembered_questions_give_the_logits_of_the_whole_sequence(reader):
    prefix, targets = torch.randn(3, 4, 32), reader.encode_answers(["yes", "no", "not sure"])
    logits = reader(reader.read_questions(QUESTIONS), prefix, targets)
    words = reader.llm.get_input_embeddings()
    for i, question in enumerate(QUESTIONS):
        ids, mask = reader.encode_questions([question])
        answer = targets[i][targets[i] >= 0]
        rest = torch.tensor([*reader.bridge, *answer[:-1].tolist()])
        whole = torch.cat([words(ids[0]), prefix[i], words(rest)])[None]
        expected = reader.llm(inputs_embeds=whole, use_cache=False).logits[0, -len(answer) :]
        torch.testing.assert_close(logits[i, : len(answer)], expected, atol=1e-5, rtol=1e-4)


def test_the_released_layout_is_blind_to_the_question_and_the_sound_one_is_not(reader):
    torch.manual_seed(3)
    prefix = torch.randn(1, 4, 32).repeat(2, 1, 1)
    pair = ["Is it normal?", "Is atrial fibrillation present in this recording?"]
    ids, targets = reader.encode_reference(pair, ["yes", "yes"])
    assert ids.shape == (2, 30) and not torch.equal(ids[0], ids[1])
    blind = reader.reference_logits(prefix, ids, targets.shape[1], trim=False)
    assert (blind[0] - blind[1]).abs().max() == 0.0
    torch.testing.assert_close(
        blind, reader.reference_logits(prefix, ids, targets.shape[1]), atol=1e-5, rtol=1e-4
    )
    sound = reader(reader.read_questions(pair), prefix, reader.encode_answers(["yes", "yes"]))
    assert (sound[0] - sound[1]).abs().max() > 1e-4


# --- first-order MAML -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 4])
def test_the_outer_gradient_is_that_of_plain_autograd(reader, n_steps):
    """T tasks one by one, inner gradients as constants, against the batched hand-made gradient
    through the language model.
    """
    torch.manual_seed(2)
    mapper, lr = build_mapper("attention", 6, 32, n_prefix=2, n_heads=4, dropout=0.0), 0.1
    support, query = torch.randn(2, 2, 6), torch.randn(2, 3, 6)
    targets = reader.encode_answers(["yes", "no", "no", "yes", "yes"] * 2).unflatten(0, (2, 5))
    memory = reader.read_questions(["Is it normal?"])
    cut = {"support": slice(0, 2), "query": slice(2, 5), "both": slice(0, 5)}

    def read(prefix, part):
        answers = targets[-len(prefix) :, cut[part]].flatten(0, 1)
        memories = memory.select(torch.zeros(len(answers), dtype=torch.long))
        loss = token_scores(reader(memories, prefix.flatten(0, 1), answers), answers)["loss"]
        return {"loss": loss.unflatten(0, prefix.shape[:2])}

    done = maml.inner_loop(
        mapper, support, query, read, n_steps, lr, outer_at=maml.outer_steps(n_steps)
    )
    expected = _plain_gradient(mapper, support, query, targets, memory, reader, n_steps, lr)
    for name, theirs in expected.items():
        ours = done.outer_gradient[name].mean(0)
        if name == "key.bias":  # softmax does not feel it: its true gradient is 0
            assert ours.abs().max() < 1e-6
        else:
            assert (ours - theirs).norm() <= 1e-5 * theirs.norm(), name


def _plain_gradient(mapper, support, query, targets, memory, reader, n_steps, lr):
    names = [name for name, _ in mapper.named_parameters()]
    total = 0.0
    for task in range(len(support)):
        weights, losses = dict(mapper.named_parameters()), []

        def loss(x, answers, weights):
            prefix = functional_call(mapper, weights, (x,))["prefix"]
            memories = memory.select(torch.zeros(len(x), dtype=torch.long))
            return token_scores(reader(memories, prefix, answers), answers)["loss"].mean()

        for step in range(n_steps + 1):
            if step >= min(2, n_steps):
                losses.append(loss(query[task], targets[task, 2:], weights))
            inner = torch.autograd.grad(
                loss(support[task], targets[task, :2], weights), list(weights.values())
            )
            weights = {n: w - lr * g for (n, w), g in zip(weights.items(), inner, strict=True)}
        total = total + torch.stack(losses).mean() / len(support)
    return dict(zip(names, torch.autograd.grad(total, list(mapper.parameters())), strict=True))


def test_a_carried_gradient_arrives_unchanged():
    mapper = build_mapper("linear", 4, 8)
    gradient = {name: torch.randn_like(p) for name, p in mapper.named_parameters()}
    loss = maml.carry_gradient(torch.tensor(1.5), mapper, gradient)
    loss.backward()
    assert loss.item() == pytest.approx(1.5)
    for name, p in mapper.named_parameters():
        torch.testing.assert_close(p.grad, gradient[name])
