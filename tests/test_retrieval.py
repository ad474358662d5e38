"""From a folder to the nearest passages: reading, chunking, embedding, exact and Chroma indices."""

import io
import math
import sys
from collections import Counter

import numpy as np
import pytest

from ecgkit import runtime
from ecgkit.text import embedders, retrieval
from ecgkit.text.embedders import Dense, EndpointEmbedder, KeptVectors, Tfidf
from ecgkit.text.passages import Passage, chunk, read_folder, sentences
from ecgkit.text.retrieval import ChromaIndex, ExactIndex, open_index
from ecgkit.types import ConfigError, DataError, ModelError


def pdf(pages: list[str]) -> bytes:
    """A .pdf with one line of text per line of each page ("" = a page without text)."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "", "<</Type/Font/Subtype/Type1/BaseFont/Courier>>"]
    for page in pages:
        lines = "".join(f"({line}) Tj T* " for line in page.splitlines())
        stream = f"BT /F 9 Tf 11 TL 40 700 Td {lines}ET" if page else ""
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
        objects.append(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources<</Font<</F 3 0 R>>>>"
            f"/Contents {len(objects)} 0 R>>"
        )
    kids = " ".join(f"{5 + 2 * i} 0 R" for i in range(len(pages)))
    objects[1] = f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>"
    out, starts = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode()
    rows = "".join(f"{start:010d} 00000 n \n" for start in starts)
    size = f"{len(objects) + 1}"
    return out + (
        f"xref\n0 {size}\n0000000000 65535 f \n{rows}trailer<</Size {size}/Root 1 0 R>>\n"
        f"startxref\n{len(out)}\n%%EOF"
    ).encode()


def notes(*texts: str, file: str = "a.md") -> list[Passage]:
    return [Passage(text.split(":")[0], (), text.split(":")[1].strip(), file) for text in texts]


SHELF = notes(
    "Atrial flutter: Saw-tooth waves replace the P waves.",
    "Atrial fibrillation: No P waves are seen and the rhythm is irregular.",
    "Long QT interval: The T wave ends late.",
)


class Letters(Dense):
    """A stand-in for a sentence encoder: how often each letter occurs. Counts what it computes."""

    def __init__(self, name="letters"):
        self.n_computed = 0
        super().__init__(name, self._compute)

    def _compute(self, texts):
        self.n_computed += len(texts)
        return np.array([[t.lower().count(c) + 0.1 for c in "abcdefghijklmno"] for t in texts])


# --- passages ---


def test_chunks_are_whole_sentences_that_overlap_and_lose_nothing():
    said = [f"Sentence {i} has these six words." for i in range(20)]
    pieces = chunk(" ".join(said), size=20, overlap=8)
    assert all(len(piece.split()) <= 20 for piece in pieces)
    split = [sentences(piece) for piece in pieces]
    assert all(a[-1] == b[0] for a, b in zip(split, split[1:]))  # one sentence of 6 words <= 8
    assert list(dict.fromkeys(s for piece in split for s in piece)) == said
    assert chunk(" ".join(said), size=20, overlap=0)[1].startswith("Sentence 3")


def test_a_sentence_longer_than_a_chunk_is_cut_and_short_text_stays_whole():
    assert [len(p.split()) for p in chunk("word " * 50, size=20, overlap=5)] == [20, 20, 10]
    assert chunk("Short.") == ["Short."] and chunk(" \n ") == []


def test_sentences_end_neither_at_decimals_nor_at_abbreviations():
    text = "ST sinks 0.05 mV (e.g. V5). See Fig. 3 for more. \"It\" rises! In lead I. Why? So"
    assert sentences(text) == [
        "ST sinks 0.05 mV (e.g. V5).", "See Fig. 3 for more.", '"It" rises!', "In lead I.", "Why?",
        "So",
    ]  # fmt: skip


def test_a_note_has_its_codes_and_statements_and_a_file_of_notes_nothing_else(tmp_path):
    (tmp_path / "own.md").write_text(
        "# My notes\nSources: a book.\n\n## Flutter\nCodes: AFLT, X1\nStatements: atrial flutter, "
        "flutter waves\n\nSaw-tooth\nwaves.\n\n## Plan\nTo be written.\n"
    )
    (tmp_path / "book.md").write_text("Preface.\n# One\nFirst text.\n### Two ##\nSecond text.\n")
    found = read_folder(tmp_path).passages
    assert found == [
        Passage("book", (), "Preface.", "book.md"), Passage("One", (), "First text.", "book.md"),
        Passage("Two", (), "Second text.", "book.md"),
        Passage("Flutter", ("AFLT", "X1"), "Saw-tooth waves.", "own.md",
                ("atrial flutter", "flutter waves")),
    ]  # fmt: skip
    assert [p.heading for p in found] == ["", "One", "Two", "Flutter"]


def test_what_cannot_be_read_is_named_and_counted_and_the_rest_goes_on(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.txt").write_text("The QRS is wide.")
    (tmp_path / "latin.txt").write_bytes("Purkinje\u2019s fibres; 37 \u00b0C.".encode("cp1252"))
    (tmp_path / "wide.txt").write_bytes("Wide letters.".encode("utf-16"))
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "zip.txt").write_bytes(b"PK\x03\x04\x00\x00\x08\x00\x00\x01\x02" * 99)
    (tmp_path / "letter.docx").write_bytes(b"PK")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4\nnothing more")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    read = read_folder(tmp_path)
    assert {p.file for p in read.passages} == {"deep/good.txt", "latin.txt", "wide.txt"}
    assert set(read.skipped) == {"empty.md", "noise.txt", "zip.txt", "letter.docx", "broken.pdf"}
    assert read.n_files == 8 == len({p.file for p in read.passages}) + len(read.skipped)
    assert all(why and "\n" not in why for why in read.skipped.values())
    assert "5 skipped" in read.summary() and "letter.docx is none of .md" in read.summary()
    assert {p.text for p in read.passages} >= {"Purkinje’s fibres; 37 °C.", "Wide letters."}


def test_nothing_to_read_is_an_error_that_says_why(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nothing to retrieve from \(no files\)"):
        read_folder(tmp_path)
    (tmp_path / "a.md").write_text("# Only a heading\n")
    with pytest.raises(DataError, match="a.md holds no text"):
        read_folder(tmp_path)


# --- .pdf ---


@pytest.fixture
def pypdf():
    return pytest.importorskip("pypdf", reason="pypdf is not installed (pip install ecgkit[rag])")


def test_a_pdf_is_read_by_page_once(tmp_path, monkeypatch, pypdf):
    path = tmp_path / "Garcia.pdf"
    pages = ["The ventri-\ncular rate is slow. In flutter the", "waves are large.", ""]
    path.write_bytes(pdf(pages))
    found = read_folder(path).passages
    assert [(p.title, p.text) for p in found] == [
        ("Garcia, page 1", "The ventricular rate is slow."),
        ("Garcia, page 2", "In flutter the waves are large."),
    ]
    monkeypatch.setitem(sys.modules, "pypdf", None)
    assert read_folder(path).passages == found  # from the cache
    path.write_bytes(pdf(["Other text."]))
    with pytest.raises(ConfigError, match=r"pip install ecgkit\[rag\]"):
        read_folder(path)


def test_scanned_and_locked_pdfs_are_left_out_in_a_sentence(tmp_path, pypdf):
    (tmp_path / "scan.pdf").write_bytes(pdf(["", ""]))
    for name, password in (("locked", "secret"), ("printable", "")):
        writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([f"This one is {name}."])))
        writer.encrypt(password, "owner", algorithm="RC4-128")
        writer.write(tmp_path / f"{name}.pdf")
    read = read_folder(tmp_path)
    assert [p.text for p in read.passages] == ["This one is printable."]
    assert "password" in read.skipped["locked.pdf"] and "scanned" in read.skipped["scan.pdf"]


# --- embedders ---


def slow_tfidf(query: str, shelf: list[Passage]) -> list[float]:
    """Cosine of `query` with each passage, written out word by word (headings, then texts)."""
    split = embedders.words
    bags = [set(split(f"{p.title} {p.text}")) for p in shelf]

    def weigh(text):
        idf = {w: math.log((1 + len(bags)) / (1 + sum(w in b for b in bags))) + 1
               for w in set().union(*bags)}  # fmt: skip
        return {w: (1 + math.log(n)) * idf[w] for w, n in Counter(split(text)).items() if w in idf}

    def norm(v):
        return math.sqrt(sum(x * x for x in v.values()))

    asked = weigh(query)
    known = sum(w in set().union(*bags) for w in split(query)) / len(split(query))
    scores = []
    for p in shelf:
        heading, text = weigh(p.title), weigh(p.text)
        both = {w: heading.get(w, 0) + 6 * text.get(w, 0) / norm(text) for w in heading | text}
        dot = sum(asked.get(w, 0) * both[w] for w in both)
        scores.append(math.sqrt(known) * dot / (norm(both) * (norm(asked) or 1)))
    return scores


@pytest.mark.parametrize("query", ["atrial flutter waves", "long zebra interval", "zebra crossing"])
def test_tfidf_is_what_its_formula_says(query):
    embedder = Tfidf()
    vectors = embedder.fit(SHELF)
    asked = embedder.embed([query])
    assert (asked @ vectors.T).toarray()[0] == pytest.approx(slow_tfidf(query, SHELF), abs=1e-9)
    assert asked.multiply(asked).sum() == pytest.approx(1) and vectors.shape[1] == asked.shape[1]


def test_no_words_at_all_is_a_sentence():
    with pytest.raises(DataError, match="no words"):
        Tfidf().fit([Passage("The", (), "is a ...", "a.md")])


def test_vectors_are_computed_once_per_text_and_machine():
    first, again = Letters("once"), Letters("once")
    vectors = first.fit(SHELF)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1) and vectors.dtype == np.float32
    assert first.n_computed == 6  # three headings, three whole passages
    assert np.array_equal(again.fit(SHELF[::-1]), vectors[::-1]) and again.n_computed == 0
    again.embed(["new", "new", SHELF[0].title])
    assert again.n_computed == 1
    assert Letters("other").fit(SHELF) is not None


def test_what_was_embedded_before_a_failure_is_kept():
    n_calls = []

    def failing(texts):
        n_calls.append(len(texts))
        if len(n_calls) == 2:
            raise ModelError("The endpoint is down.")
        return np.ones((len(texts), 3))

    texts = [f"text {i}" for i in range(5)]
    with pytest.raises(ModelError):
        KeptVectors("failing", failing, batch=2)(texts)
    assert KeptVectors("failing", failing, batch=9)(texts).shape == (5, 3)
    assert n_calls == [2, 2, 3]


def test_a_damaged_file_of_vectors_is_a_sentence():
    kept = KeptVectors("damaged", lambda texts: np.ones((len(texts), 2)))
    kept._path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="delete it and run again"):
        kept(["a"])


def test_a_model_that_changed_its_width_is_a_sentence():
    KeptVectors("widths", lambda texts: np.ones((len(texts), 2)))(["a"])
    with pytest.raises(DataError, match="two widths"):
        KeptVectors("widths", lambda texts: np.ones((len(texts), 3)))(["a", "b"])


@pytest.mark.parametrize(
    "given", [np.ones((1, 3)), np.ones(2), np.full((2, 3), np.nan), np.zeros((2, 3))]
)
def test_an_endpoint_that_answers_garbage_is_a_sentence(given):
    class Client:
        def __repr__(self):
            return f"client {given.shape} {given.sum()}"

        def embed(self, texts):
            return given

    with pytest.raises(ModelError, match="one finite row each"):
        EndpointEmbedder(Client()).embed(["a", "b"])


def test_a_folder_with_other_weights_is_another_embedder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = embedders.HFEmbedder(str(tmp_path)).name
    assert embedders.HFEmbedder(str(tmp_path)).name == first
    (tmp_path / "model.safetensors").write_bytes(b"22")
    assert embedders.HFEmbedder(str(tmp_path)).name != first


# --- indices ---


@pytest.fixture
def chroma():
    return pytest.importorskip("chromadb", reason="chromadb is not installed (ecgkit[rag])")


def test_every_note_of_the_kit_is_found_by_its_title():
    shelf = read_folder().passages
    hits = ExactIndex(shelf, Tfidf()).retrieve([p.title for p in shelf], k=2)
    missed = [p.title for p, found in zip(shelf, hits) if found[0][1] != p]
    assert len(missed) <= 0.02 * len(shelf), missed
    assert all(found[0][0] >= found[-1][0] >= embedders.MIN_SCORE for found in hits)


def test_exact_keeps_order_at_ties_and_gives_at_most_k():
    same = [Passage("Twin", (), "The same words.", f"{i}.md") for i in range(3)]
    index = ExactIndex(same, Tfidf())
    assert [p.file for _, p in index.retrieve(["same words"], k=2)[0]] == ["0.md", "1.md"]
    assert len(index.retrieve(["same words"], k=9)[0]) == 3
    assert index.retrieve(["zebra"], k=2) == [[]] and index.retrieve([], k=2) == []


@pytest.mark.parametrize("make", [Tfidf, Letters])
def test_chroma_finds_what_exact_finds(tmp_path, chroma, make):
    shelf = read_folder().passages
    queries = [p.title for p in shelf] + ["zebra", "wide QRS with a delta wave"]
    exact = ExactIndex(shelf, make()).retrieve(queries, k=3)
    other = ChromaIndex(shelf, make(), tmp_path).retrieve(queries, k=3)
    for a, b in zip(exact, other):
        assert [s for s, _ in a] == pytest.approx([s for s, _ in b], abs=1e-5)
        gaps = np.diff([s for s, _ in a]) < -1e-5
        if gaps.all():  # near-equal scores may change places
            assert [p for _, p in a] == [p for _, p in b]


def test_chroma_is_written_once_and_anew_when_the_content_changes(tmp_path, chroma, monkeypatch):
    written = []
    upsert = chroma.api.models.Collection.Collection.upsert

    def counting(self, **parts):
        written.append(len(parts["ids"]))
        return upsert(self, **parts)

    monkeypatch.setattr(chroma.api.models.Collection.Collection, "upsert", counting)
    ChromaIndex(SHELF, Tfidf(), tmp_path)
    others = notes("Pause: A beat is missing.", file="b.md")
    ChromaIndex(others, Tfidf(), tmp_path)
    ChromaIndex(SHELF, Tfidf(), tmp_path)
    assert written == [3, 1]
    changed = [*SHELF[:2], Passage("Long QT", (), "QT exceeds 480 ms.", "a.md")]
    index = ChromaIndex(changed, Tfidf(), tmp_path)
    assert written == [3, 1, 3] and index.retrieve(["480"], 1)[0][0][1].title == "Long QT"
    names = {c.name for c in retrieval._client(tmp_path).list_collections()}
    assert len(names) == 2  # a.md as it is now, and b.md; the old content of a.md is gone
    ChromaIndex(changed, Letters(), tmp_path)
    assert len(retrieval._client(tmp_path).list_collections()) == 3


def test_a_collection_that_was_cut_off_is_completed(tmp_path, chroma):
    whole = ChromaIndex(SHELF, Tfidf(), tmp_path)
    whole._collection.delete(ids=["1"])
    again = ChromaIndex(SHELF, Tfidf(), tmp_path)
    assert again._collection.count() == 3
    assert again.retrieve(["fibrillation"], 1)[0][0][1] == SHELF[1]


def test_chroma_never_uses_its_own_embedding_function(tmp_path, chroma, monkeypatch):
    def refuse(self, input):
        raise AssertionError("Chroma's own model was asked for")

    from chromadb.utils import embedding_functions

    monkeypatch.setattr(embedding_functions.DefaultEmbeddingFunction, "__call__", refuse)
    ChromaIndex(SHELF, Tfidf(), tmp_path)
    assert ChromaIndex(SHELF, Tfidf(), tmp_path).retrieve(["flutter"], 1)[0]
    client = retrieval._client(tmp_path)
    assert client.get_settings().anonymized_telemetry is False


def test_chroma_misses_next_to_nothing_of_2000(tmp_path, chroma):
    rng = np.random.default_rng(0)

    class Random:  # the hardest case: no text is near to any other
        name, min_score = "random", -1.0

        def fit(self, shelf):
            return embedders._unit(rng.standard_normal((len(shelf), 96)))

        embed = fit

    shelf = [Passage(str(i), (), "text", "a.txt") for i in range(2000)]
    embedder = Random()
    exact, approximate = ExactIndex(shelf, embedder), None
    vectors, queries = exact._vectors, embedder.embed(range(50))
    embedder.fit, embedder.embed = lambda _: vectors, lambda _: queries
    approximate = ChromaIndex(shelf, embedder, tmp_path)
    pairs = zip(exact.retrieve(["q"] * 50, 10), approximate.retrieve(["q"] * 50, 10))
    recall = [len({p.title for _, p in a} & {p.title for _, p in b}) / 10 for a, b in pairs]
    assert np.mean(recall) > 0.99


def test_a_missing_chroma_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(ConfigError, match=r"pip install ecgkit\[rag\]"):
        open_index("chroma", SHELF, Tfidf())
    assert open_index("exact", SHELF, Tfidf()).passages == SHELF


def test_nothing_to_retrieve_from_is_a_sentence():
    with pytest.raises(DataError, match="no passages"):
        open_index("exact", [], Tfidf())


def test_a_damaged_chroma_folder_is_a_sentence(tmp_path, chroma):
    (tmp_path / "chroma.sqlite3").write_bytes(b"not a database" * 1000)
    with pytest.raises(DataError, match="delete it and run again"):
        ChromaIndex(SHELF, Tfidf(), tmp_path)


def test_the_cache_holds_the_collections_by_default(chroma):
    ChromaIndex(SHELF, Tfidf())
    assert (runtime.cache_dir() / "chroma" / "chroma.sqlite3").exists()
