"""PrefixLLM over architectures and tokenizers: kept questions, prompts, orders, precision, limits.

Every layout is compared with one plain pass over the whole text of one row, without cache, padding
or mask.
"""

import copy

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ecgkit.models.prefix_llm import PrefixLLM, token_scores
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.prefix_prompts import HINT, Wording
from ecgkit.models.question_memory import to_the_right
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.types import ConfigError, ModelError

QUESTIONS = [
    "Is it normal?",
    "Would you report noise in lead V1 of this recording?",
    "Is atrial fibrillation present?",
]
ANSWERS = ["yes", "no", "not sure"]
VOCAB = 320
CHAT = (
    "<s>{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 48, "max_position_embeddings": 200}  # fmt: skip
MAKE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2)),
    # A window shorter than a question, and both soft caps: what is out of reach must stay so.
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=6,
                     final_logit_softcapping=0.5, attn_logit_softcapping=0.5)),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, num_key_value_heads=2, use_sliding_window=True, sliding_window=6,
                    max_window_layers=1)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=200)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SIZES)),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    text = [f"Question: {q} ECG: Answer: yes no not sure\n" for q in QUESTIONS] * 2
    return train_tokenizer(text, 300, ["atrial fibrillation"])


@pytest.fixture(scope="module")
def llms():
    """One small random model per architecture, of spread-out weights so that layers matter."""
    torch.manual_seed(0)
    made = {name: make() for name, make in MAKE.items()}
    for llm in made.values():
        for parameter in llm.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    return made


def whole_logits(reader, before, prefix, after, answer):
    """Logits of `answer` in one pass over before | prefix | after | answer of one row."""
    words = reader.llm.get_input_embeddings()
    text = [words(torch.tensor(before).long()), prefix]
    text += [words(torch.tensor([*after, *answer[:-1]]).long())]
    out = reader.llm(inputs_embeds=torch.cat(text)[None], use_cache=False)
    return out.logits[0, -len(answer) :]


def assert_rows_equal(reader, logits, prefix, targets):
    for i, question in enumerate(QUESTIONS):
        answer = targets[i][targets[i] >= 0].tolist()
        before, after = reader.wording.pieces(question)
        expected = whole_logits(reader, before, prefix[i], after, answer)
        torch.testing.assert_close(logits[i, : len(answer)], expected, atol=1e-4, rtol=0)


# --- architectures --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix_first", [False, True], ids=["question first", "prefix first"])
@pytest.mark.parametrize("name", MAKE)
def test_logits_are_those_of_one_plain_pass(name, prefix_first, llms, tokenizer):
    torch.manual_seed(1)
    reader = PrefixLLM(llms[name], tokenizer, prefix_first=prefix_first)
    prefix, targets = torch.randn(3, 4, 32), reader.encode_answers(ANSWERS)
    memory = reader.read_questions(QUESTIONS)
    assert bool(memory.layers) is not prefix_first
    logits = reader(memory, prefix, targets)
    assert logits.shape == (3, targets.shape[1], reader.vocab_size) and reader.vocab_size == VOCAB
    assert_rows_equal(reader, logits, prefix, targets)
    again = reader(memory.select(torch.tensor([2, 0])), prefix[[2, 0]], targets[[2, 0]])
    torch.testing.assert_close(again, logits[[2, 0]], atol=1e-4, rtol=0)
    assert reader._keeps_logits
    reader._keeps_logits = False  # a model that computes the logits of all places
    torch.testing.assert_close(reader(memory, prefix, targets), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MAKE)
def test_the_window_and_the_question_matter(name, llms, tokenizer):
    """Else the test above would pass for a reader that forgets the question, or the window."""
    torch.manual_seed(1)
    reader = PrefixLLM(llms[name], tokenizer)
    prefix = torch.randn(1, 4, 32)
    targets = reader.encode_answers(["yes"])
    one, two = (reader(reader.read_questions([q]), prefix, targets) for q in QUESTIONS[:2])
    assert (one - two).abs().max() > 1e-3
    if name == "gemma2":
        assert one.abs().max() <= 0.5  # the head's soft cap
        wide = copy.deepcopy(llms[name])
        wide.config.sliding_window = 100
        for layer in wide.model.layers:
            layer.self_attn.sliding_window = layer.self_attn.sliding_window and 100
        other = PrefixLLM(wide, tokenizer)
        far = other(other.read_questions(QUESTIONS[:1]), prefix, targets)
        assert (far - one).abs().max() > 1e-3


@pytest.mark.parametrize("name", MAKE)
def test_examples_in_front_are_one_long_text(name, llms, tokenizer):
    torch.manual_seed(2)
    reader = PrefixLLM(llms[name], tokenizer)
    shown, prefix = torch.randn(2, 4, 32), torch.randn(3, 4, 32)
    targets = reader.encode_answers(ANSWERS)
    context = reader.read_examples(QUESTIONS[:2], shown, ["Yes.", "no"])
    assert len(context) == 1
    logits = reader(reader.read_questions(QUESTIONS, after=context), prefix, targets)
    ids, words = reader.wording.ids, reader.llm.get_input_embeddings()
    for i, question in enumerate(QUESTIONS):
        parts = [
            [tokenizer.bos_token_id, *ids(f"Question: {QUESTIONS[0]} ECG:")], shown[0],
            [*ids(" Answer:"), *ids(" yes"), *ids("\n")],
            ids(f"Question: {QUESTIONS[1]} ECG:"), shown[1],
            [*ids(" Answer:"), *ids(" no"), *ids("\n")],
            ids(f"Question: {question} ECG:"), prefix[i],
            [*ids(" Answer:"), *targets[i][targets[i] >= 0].tolist()[:-1]],
        ]  # fmt: skip
        text = [p if isinstance(p, torch.Tensor) else words(torch.tensor(p)) for p in parts]
        n = int((targets[i] >= 0).sum())
        expected = reader.llm(inputs_embeds=torch.cat(text)[None], use_cache=False).logits[0, -n:]
        torch.testing.assert_close(logits[i, :n], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi"])
def test_examples_in_front_of_a_prefix_first_question(name, llms, tokenizer):
    torch.manual_seed(2)
    reader = PrefixLLM(llms[name], tokenizer, prefix_first=True)
    shown, prefix = torch.randn(1, 4, 32), torch.randn(3, 4, 32)
    targets = reader.encode_answers(ANSWERS)
    context = reader.read_examples(QUESTIONS[:1], shown, ["yes"])
    logits = reader(reader.read_questions(QUESTIONS, after=context), prefix, targets)
    ids, words = reader.wording.ids, reader.llm.get_input_embeddings()
    for i, question in enumerate(QUESTIONS):
        first = [tokenizer.bos_token_id, *ids(f"Question: {QUESTIONS[0]} Answer:")]
        answer = targets[i][targets[i] >= 0].tolist()
        parts = [
            shown[0], words(torch.tensor([*first, *ids(" yes"), *ids("\n")])), prefix[i],
            words(torch.tensor([*ids(f"Question: {question} Answer:"), *answer[:-1]])),
        ]  # fmt: skip
        whole = torch.cat(parts)[None]
        expected = reader.llm(inputs_embeds=whole, use_cache=False).logits[0, -len(answer) :]
        torch.testing.assert_close(logits[i, : len(answer)], expected, atol=1e-4, rtol=0)


def test_the_released_layout_is_blind_to_the_question_for_every_architecture(llms, tokenizer):
    for llm in llms.values():
        torch.manual_seed(3)
        reader, prefix = PrefixLLM(llm, tokenizer), torch.randn(1, 4, 32).repeat(2, 1, 1)
        ids, targets = reader.encode_reference(QUESTIONS[:2], ["yes", "yes"])
        assert ids.shape == (2, 30) and not torch.equal(ids[0], ids[1])
        blind = reader.reference_logits(prefix, ids, targets.shape[1], trim=False)
        assert (blind[0] - blind[1]).abs().max() == 0.0
        short = reader.reference_logits(prefix, ids, targets.shape[1])
        torch.testing.assert_close(blind, short, atol=1e-4, rtol=0)


def test_gradients_reach_the_mapper_through_kept_questions_and_padding(llms, tokenizer):
    features = torch.randn(3, 16)
    for first in (False, True):
        mapper = build_mapper("attention", 16, 32, n_heads=4, dropout=0.0)
        reader = PrefixLLM(llms["gemma2"], tokenizer, prefix_first=first)
        targets = reader.encode_answers(ANSWERS)
        logits = reader(reader.read_questions(QUESTIONS), mapper(features)["prefix"], targets)
        token_scores(logits, targets)["loss"].mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in mapper.parameters())
        assert mapper.query.weight.grad.abs().max() > 0
        assert all(p.grad is None for p in reader.parameters())


# --- precision ------------------------------------------------------------------------------------


def test_a_half_precision_model_meets_a_full_precision_mapper_at_the_seam(llms, tokenizer):
    torch.manual_seed(4)
    mapper, features = build_mapper("attention", 16, 32, n_heads=4, dropout=0.0), torch.randn(3, 16)
    full = PrefixLLM(llms["llama"], tokenizer)
    half = PrefixLLM(copy.deepcopy(llms["llama"]).bfloat16(), tokenizer)
    targets = full.encode_answers(ANSWERS)
    found = {}
    for name, reader in (("full", full), ("half", half)):
        mapper.zero_grad()
        memory = reader.read_questions(QUESTIONS)
        logits = reader(memory, mapper(features)["prefix"], targets)
        token_scores(logits, targets)["loss"].mean().backward()
        assert logits.dtype == torch.float32 and mapper.out.weight.grad.dtype == torch.float32
        found[name] = logits.detach(), mapper.out.weight.grad.clone()
    assert half.read_questions(QUESTIONS).layers[0][0].dtype == torch.bfloat16
    gap = (found["full"][0] - found["half"][0]).abs().max() / found["full"][0].abs().max()
    assert 0 < gap < 0.05
    cosine = torch.cosine_similarity(found["full"][1].flatten(), found["half"][1].flatten(), dim=0)
    assert cosine > 0.98


# --- tokenizers -----------------------------------------------------------------------------------


def changed(tokenizer, **special):
    other = copy.deepcopy(tokenizer)
    for name, value in special.items():
        setattr(other, name, value)
    return other


def test_a_tokenizer_without_pad_token_gives_the_same_logits(llms, tokenizer):
    bare = changed(tokenizer, pad_token=None)
    assert bare.pad_token_id is None
    torch.manual_seed(5)
    prefix, out = torch.randn(3, 4, 32), []
    for t in (tokenizer, bare):
        reader = PrefixLLM(llms["gpt2"], t)
        out.append(reader(reader.read_questions(QUESTIONS), prefix, reader.encode_answers(ANSWERS)))
    torch.testing.assert_close(*out)
    assert bare.pad_token_id is None  # the caller's tokenizer is not changed


def test_a_tokenizer_without_bos_writes_none_and_one_that_adds_it_writes_it_once(tokenizer):
    from tokenizers.processors import TemplateProcessing

    assert Wording(tokenizer, "1").pieces("Is it normal?")[0].count(0) == 1
    without = Wording(changed(tokenizer, bos_token=None), "1")
    assert 0 not in without.pieces("Is it normal?")[0] and 0 not in without.reference("Is it?")
    adding = copy.deepcopy(tokenizer)
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    assert adding("yes")["input_ids"][0] == 0
    for ids in (Wording(adding, "1").pieces("Is it?")[0], Wording(adding, "1").reference("Is it?")):
        assert ids[0] == 0 and ids.count(0) == 1
    same = Wording(changed(tokenizer, bos_token="</s>"), "1")  # GPT-2's is its end of text
    assert same.pieces("Is it?")[0][0] == same.eos and same.eos not in same.reference("Is it?")


def test_what_a_tokenizer_must_have(llms, tokenizer):
    with pytest.raises(ModelError, match="no end-of-text token"):
        PrefixLLM(llms["llama"], changed(tokenizer, eos_token=None))
    with pytest.raises(ModelError, match="take the tokenizer it was trained with"):
        PrefixLLM(build_small_llm(len(tokenizer) - 1, 32, 1, 4), tokenizer)


# --- prompts --------------------------------------------------------------------------------------


def text_of(tokenizer, ids) -> str:
    return tokenizer.decode(ids)


@pytest.mark.parametrize("prompt,first,before,after", [
    ("1", False, "<s>question: is it? ecg:", " answer:"),
    ("1", True, "", "<s>question: is it? answer:"),
    ("2", False, "<s>is it?", ""),
    ("2", True, "", "<s>is it?"),
    ("3", False, f"<s>is it? {HINT}", ""),
    ("3", True, "", f"<s>is it? {HINT}"),
    ("chat", False, "<s>[user] question: is it? ecg:", "</s>\n[assistant] "),
    ("chat", True, "<s>[user] ecg:", " question: is it?</s>\n[assistant] "),
])  # fmt: skip
def test_prompts_in_both_orders(prompt, first, before, after, llms, tokenizer):
    tokenizer = changed(tokenizer, chat_template=CHAT)
    reader = PrefixLLM(llms["llama"], tokenizer, prompt, first)
    found = reader.wording.pieces("Is it?")
    assert tuple(text_of(tokenizer, ids) for ids in found) == (before, after)
    torch.manual_seed(6)
    prefix, targets = torch.randn(3, 4, 32), reader.encode_answers(ANSWERS)
    said = text_of(tokenizer, targets[0][targets[0] >= 0])
    assert said == ("yes</s>" if prompt == "chat" else " yes</s>")
    assert_rows_equal(reader, reader(reader.read_questions(QUESTIONS), prefix, targets), prefix,
                      targets)  # fmt: skip


@pytest.mark.parametrize("prompt,expected", [
    ("1", "<s>question: is it?answer: "),  # the missing blank is the release's
    ("2", "<s>is it?"),
    ("3", "<s>is it?the answer can be both, none or in question."),
])  # fmt: skip
def test_released_prompts_word_for_word(prompt, expected, llms, tokenizer):
    reader = PrefixLLM(llms["llama"], tokenizer, prompt)
    ids, _ = reader.encode_reference(["Is it?"], ["yes"], length=60)
    n_padding = 60 - len(reader.wording.reference("Is it?"))
    assert text_of(tokenizer, ids[0]) == expected + "</s>" * n_padding


@pytest.mark.parametrize("first", [False, True])
def test_a_chat_with_examples_is_the_template_s_own_conversation(first, llms, tokenizer):
    tokenizer = changed(tokenizer, chat_template=CHAT)
    wording = Wording(tokenizer, "chat", first)
    one, two = wording.pieces("Is it?"), wording.pieces("And this?", first=False)
    text = "".join(text_of(tokenizer, ids) for ids in (
        one[0], one[1], wording.answer("yes"), wording.ending(), two[0], two[1]))  # fmt: skip
    content = [" question: is it?", " question: and this?"] if first else ["", ""]
    asked = ["ecg:", "ecg:"] if first else ["question: is it? ecg:", "question: and this? ecg:"]
    assert text == (
        f"<s>[user] {asked[0]}{content[0]}</s>\n[assistant] yes</s>\n"
        f"[user] {asked[1]}{content[1]}</s>\n[assistant] "
    )
    reader = PrefixLLM(llms["gpt2"], tokenizer, "chat", first)
    context = reader.read_examples(["Is it?"], torch.randn(1, 4, 32), ["yes"])
    targets = reader.encode_answers(["no"])
    memory = reader.read_questions(["And this?"], after=context)
    assert reader(memory, torch.randn(1, 4, 32), targets).shape == (1, 2, VOCAB)


def test_prompts_that_cannot_be(llms, tokenizer):
    with pytest.raises(ConfigError, match="no chat template"):
        PrefixLLM(llms["llama"], tokenizer, "chat")
    with pytest.raises(ConfigError, match="PROMPT is '4'"):
        PrefixLLM(llms["llama"], tokenizer, "4")
    chat = PrefixLLM(llms["llama"], changed(tokenizer, chat_template=CHAT), "chat")
    with pytest.raises(ConfigError, match="released code does not have"):
        chat.encode_reference(["Is it?"], ["yes"])
    loop = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        Wording(changed(tokenizer, chat_template=loop), "chat").pieces("Is it?", first=False)


# --- limits ---------------------------------------------------------------------------------------


def test_long_questions_lose_their_first_words_and_are_counted(llms, tokenizer):
    reader = PrefixLLM(llms["llama"], tokenizer, max_question=5)
    with pytest.warns(UserWarning, match="2 of 2 questions have more than MAX_QUESTION"):
        ids, mask = reader.encode_questions(QUESTIONS[1:])
    said = text_of(tokenizer, ids[0][mask[0]])
    assert said.startswith("<s>question: ") and said.endswith("recording? ecg:")
    assert "would you" not in said


def test_long_answers_are_found_and_refused(llms, tokenizer):
    reader = PrefixLLM(llms["llama"], tokenizer, max_answer=2)
    answers = ["yes", "sinus rhythm, left axis deviation", "no"]
    assert reader.too_long(answers) == [1]
    assert PrefixLLM(llms["llama"], tokenizer).too_long(answers) == []
    with pytest.raises(ConfigError, match="1 of 3 answers have more than MAX_ANSWER .2. tokens"):
        reader.encode_answers(answers)
    assert reader.encode_answers(["yes", "no"]).shape == (2, 2)


def test_too_many_examples_and_a_wrong_width_are_sentences(llms, tokenizer):
    reader = PrefixLLM(llms["gpt2"], tokenizer)
    with pytest.raises(ConfigError, match="20 examples .* 200 positions; lower K_SHOT"):
        reader.read_examples(["Is it?"] * 20, torch.randn(20, 4, 32), ["yes"] * 20)
    memory, targets = reader.read_questions(["Is it?"]), reader.encode_answers(["yes"])
    with pytest.raises(ModelError, match="48 wide, this language model reads 32"):
        reader(memory, torch.randn(1, 4, 48), targets)
    with pytest.raises(ModelError, match="48 wide"):
        reader.reference_logits(torch.randn(1, 4, 48), *reader.encode_reference(["Is it?"], ["a"]))
    with pytest.raises(ConfigError, match="lower K_SHOT"):
        reader(memory, torch.randn(1, 300, 32), targets)


def test_a_model_that_keeps_no_keys_can_only_read_the_prefix_first(llms, tokenizer):
    llm = copy.deepcopy(llms["llama"])
    llm.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ModelError, match="PREFIX_FIRST=true"):
        PrefixLLM(llm, tokenizer).read_questions(["Is it?"])
    assert not PrefixLLM(llm, tokenizer, prefix_first=True).read_questions(["Is it?"]).layers


# --- memory and decoding --------------------------------------------------------------------------


def test_one_question_for_many_rows_is_not_copied_and_stays_as_it_is(llms, tokenizer):
    reader = PrefixLLM(llms["llama"], tokenizer)
    memory = reader.read_questions(["Is it normal?"])
    many = memory.select(torch.zeros(5, dtype=torch.long))
    keys = memory.layers[0][0]
    assert many.layers[0][0].shape[0] == 5 and many.layers[0][0].data_ptr() == keys.data_ptr()
    before = keys.clone()
    reader(many, torch.randn(5, 4, 32), reader.encode_answers(["yes"] * 5))
    assert torch.equal(memory.layers[0][0], before)


def test_padding_moves_in_front_and_words_keep_their_order():
    mask = torch.tensor([[True, True, False], [True, True, True], [False, True, False]])
    x = torch.arange(9).view(3, 3)
    found, moved = to_the_right(mask, x)
    assert found.tolist() == [[False, True, True], [True] * 3, [False, False, True]]
    assert moved.tolist() == [[2, 0, 1], [3, 4, 5], [6, 8, 7]]


@pytest.mark.parametrize("prefix_first", [False, True])
def test_greedy_decoding_writes_the_argmax_of_the_teacher_forced_logits(
    prefix_first, llms, tokenizer
):
    torch.manual_seed(7)
    reader = PrefixLLM(llms["llama"], tokenizer, prefix_first=prefix_first)
    memory, prefix = reader.read_questions(QUESTIONS), torch.randn(3, 4, 32)
    said = reader.generate(memory, prefix, max_tokens=4)
    stops = {tokenizer.eos_token_id, reader.wording.ids("\n")[-1]}
    for i in range(3):
        ids = []
        for _ in range(4):
            targets, row = torch.tensor([[*ids, 0]]), torch.tensor([i])
            logits = reader(memory.select(row), prefix[row], targets)
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] in stops:
                break
        text = tokenizer.decode([t for t in ids if t != tokenizer.eos_token_id]).strip()
        assert said[i] == " ".join(text.split("\n")[0].lower().split()).rstrip(".")
