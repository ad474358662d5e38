"""`ecgkit data`: what each subcommand prints, writes and refuses; the data cards."""

import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest

from ecgkit import cli, cli_data
from ecgkit.config import KitConfig
from ecgkit.data import cards, layouts
from ecgkit.data.cohort import open_cohort
from ecgkit.data.qa_generator import write_questions
from ecgkit.data.sources import SOURCES
from ecgkit.types import DataError


def run(capsys, *args: str) -> tuple[int, str, str]:
    """Exit code, what was printed, what was complained about."""
    code = cli.main(["data", *args])
    said = capsys.readouterr()
    return code, said.out, said.err


# --- cards ----------------------------------------------------------------------------------------


def test_every_source_has_a_card():
    assert set(cards.names()) == {*SOURCES, "ecg-qa"}


@pytest.mark.parametrize("name", cards.names())
def test_card_names_what_a_user_needs(name):
    facts, page = cards.facts(name), cards.read(name)
    for fact in "licence, version, fs, units, leads, length, splits, labels, access".split(", "):
        assert len(facts[fact]) > 2 or fact == "version", f"{name}: {fact}"
    assert facts["records, patients"] and facts["name"] == name
    for part in ("## How to get it", "## Known traps", "## Citation"):
        assert part in page
    assert page.split("## Known traps")[1].count("\n- ") >= 4


@pytest.mark.parametrize("name", list(SOURCES))
def test_card_agrees_with_the_registry(name):
    source, facts = SOURCES[name], cards.facts(name)
    assert facts["licence"] == source.licence
    assert source.version in facts["version"]
    assert set(facts["fs"].split()) >= {str(fs) for fs in source.fs}
    assert tuple(facts["leads"].split()) == source.leads
    assert (facts["access"] == "open") == source.open


def test_unknown_card_names_those_there_are():
    with pytest.raises(DataError, match="ptbxl"):
        cards.read("ptb")


def test_card_and_list_print_them(capsys):
    assert run(capsys, "card", "mimic-iv-ecg")[1].strip() == cards.read("mimic-iv-ecg").strip()
    code, out, _ = run(capsys, "list")
    assert code == 0 and all(f"\n{name} " in out for name in cards.names())
    code, _, err = run(capsys, "card", "ptb")
    assert code == 2 and "ptbxl" in err


# --- fetch ----------------------------------------------------------------------------------------


def test_fetch_explains_what_it_may_not_fetch(capsys):
    code, out, err = run(capsys, "fetch", "mimic-iv")
    assert code == 2 and out == "" and "CITI" in err and "wget" in err


def test_fetch_refuses_a_mirror_that_is_no_address(capsys, tmp_path):
    code, _, err = run(capsys, "fetch", "ptbxl", "--out", str(tmp_path), "--mirror", "/disk")
    assert code == 2 and "http" in err and not list(tmp_path.iterdir())


# --- check ----------------------------------------------------------------------------------------

SMALL = ("--cohort-size", "40", "--fs", "100")


def test_check_of_the_simulated_cohort(capsys):
    code, out, _ = run(capsys, "check", *SMALL, "--answers")
    assert code == 0 and "in = stored + quarantined: 40 = 40 + 0" in out
    assert "I + III = II" in out and "single-verify" in out and "questions (simulated" in out
    assert "published: of 24,348" in out


def test_data_without_a_verb_is_check(capsys):
    assert run(capsys, *SMALL) == run(capsys, "check", *SMALL)


def test_check_of_real_recordings_and_questions(capsys, shared):
    data, ecgqa = (str(shared / "data" / n) for n in ("ptbxl-subset-400.zip", "ecgqa-subset.zip"))
    code, out, _ = run(capsys, "check", "--data", data, "--ecgqa", ecgqa, "--fs", "100")
    assert code == 0 and "in = stored + quarantined: 400 = 400 + 0" in out
    assert "ECG lists: 291 train, 33 valid, 69 test; " in out
    assert "in = kept + dropped: 24348 = 489 + 23859" in out
    assert "dropped, ecg_not_stored: 23859, for one: ECG " in out
    assert "questions: not looked at" in run(capsys, "--data", data, "--fs", "100")[1]


def test_check_of_a_wrong_path_is_a_sentence(capsys):
    code, _, err = run(capsys, "check", "--data", "nowhere.zip")
    assert code == 2 and "nowhere.zip" in err
    code, _, err = run(capsys, "check", "--fs", "fast")
    assert code == 2 and "FS is 'fast'" in err


def test_check_names_each_reason_once(capsys, tmp_path, tiny_cohort):
    """Two records without their samples: a line of the quarantine, not two."""
    folder = tmp_path / "broken"
    shutil.copytree(tiny_cohort.place.root, folder)
    for name in tiny_cohort.table["source_name"][:2]:
        (folder / f"{name}.dat").unlink()
    n = len(tiny_cohort)
    code, out, _ = run(capsys, "check", "--data", str(folder), "--fs", "100")
    assert code == 0 and f"in = stored + quarantined: {n} = {n - 2} + 2" in out
    assert out.count("quarantined, missing_file: 2, for one: ") == 1


def test_check_and_preprocess_of_another_real_source(capsys, shared):
    """Chapman-Shaoxing: ids are names, two records have dead leads, no questions exist."""
    data = str(shared / "data" / "chapman-subset-10.zip")
    code, out, _ = run(capsys, "check", "--data", data, "--fs", "500")
    assert code == 0 and "in = stored + quarantined: 10 = 8 + 2" in out
    assert out.count("quarantined, flat_lead: 2") == 1 and "not looked at" in out
    code, out, _ = run(capsys, "check", "--data", data, "--fs", "500", "--accept", "flat_lead")
    assert code == 0 and "in = stored + quarantined: 10 = 10 + 0" in out
    code, out, _ = run(capsys, "preprocess", "--data", data, "--fs", "250", "--filter", "bandpass")
    assert code == 0 and "(B, 12, 2500)" in out and "not looked at" in out
    code, _, err = run(capsys, "map", "--data", data, "--out", "unused")
    assert code == 2 and "chapman-shaoxing, whose ECGs have names" in err


# --- preprocess and map ---------------------------------------------------------------------------


def test_preprocess_prints_counts_and_sizes(capsys):
    how = (
        "--filter",
        "highpass",
        "--normalise",
        "per_lead",
        "--seconds",
        "5",
        "--length",
        "segment",
    )
    code, out, _ = run(capsys, "preprocess", *SMALL, *how)
    assert code == 0 and "(B, 12, 500) float32 standard deviations at 100 Hz" in out
    for line in (
        r"store: [\d.]+ MB in ",
        r"view: [\d.]+ MB in ",
        r"tokens: [1-9]\d+ questions in \d+ wo",
    ):
        assert re.search(line, out), line
    code, _, err = run(capsys, "preprocess", *SMALL, "--filter", "magic")
    assert code == 2 and "highpass" in err


def test_map_lists_what_it_drops(capsys, tmp_path, shared):
    data, ecgqa = (str(shared / "data" / n) for n in ("ptbxl-subset-400.zip", "ecgqa-subset.zip"))
    args = ("map", "--data", data, "--ecgqa", ecgqa, "--flavour", "template", "--root", "/ptbxl")
    code, out, _ = run(capsys, *args, "--out", str(tmp_path / "mapped"))
    assert code == 0 and "489 of 24348 questions mapped to recordings in /ptbxl" in out
    assert "dropped, recording_missing: 23859, for one: " in out
    sample = json.loads((tmp_path / "mapped/template/train/120000.json").read_text())[0]
    assert sample["ecg_path"][0].startswith("/ptbxl/records500/00000/")
    part = ("--sample", "60", "--seed", "3", "--out", str(tmp_path / "part"))
    code, out, _ = run(capsys, *args, *part)
    kept = int(re.search(r"part: (\d+) of 24348", out)[1])
    assert code == 0 and 50 <= kept <= 70 and f"dropped, not_sampled: {489 - kept}" in out
    code, _, err = run(capsys, *args, *part)
    assert code == 2 and "there already" in err


# --- synthesize -----------------------------------------------------------------------------------


def test_synthesize_offers_every_layout():
    assert cli_data._LAYOUTS == layouts.LAYOUTS


@pytest.mark.parametrize("layout", cli_data._LAYOUTS)
def test_synthesized_source_is_read_as_the_one_it_imitates(capsys, tmp_path, layout):
    out = str(tmp_path / "simulated")
    code, said, _ = run(capsys, "synthesize", "--layout", layout, "--n", "12", "--out", out)
    assert code == 0 and f"ecgkit data check --data {out}" in said
    code, said, _ = run(capsys, "check", "--data", out, "--fs", "500", "--seconds", "10")
    assert code == 0 and f"({layout} " in said and said.startswith("SIMULATED")
    assert "in = stored + quarantined: 12 = 12 + 0" in said
    code, _, err = run(capsys, "synthesize", "--layout", layout, "--n", "12", "--out", out)
    assert code == 2 and "there already" in err


@pytest.mark.parametrize("rates", ["", "100", "500"])
def test_what_synthesize_says_comes_next_works_as_printed(capsys, tmp_path, rates):
    out = str(tmp_path / "few")
    code, said, _ = run(capsys, "synthesize", "--n", "5", "--rates", rates, "--out", out)
    following = said.split("Next: ecgkit data ")[1].split()
    code, said, err = run(capsys, *following)
    assert code == 0, err
    assert "5 = 5 + 0" in said


def test_synthesize_refuses_what_is_no_rate(capsys, tmp_path):
    code, _, err = run(capsys, "synthesize", "--rates", "fast", "--out", str(tmp_path / "new"))
    assert code == 2 and "--rates" in err and not (tmp_path / "new").exists()


# --- published layouts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout, table, column",
    [
        ("published-qa", "answers.csv", "single-verify"),
        ("grounding", "grounding_class.csv", "train"),
    ],
)
def test_export_and_import(capsys, tmp_path, layout, table, column):
    out = str(tmp_path / "out")
    code, said, _ = run(capsys, "export", "--to", layout, *SMALL, "--out", out)
    n = re.search(r"out: (\d+) of \1 written", said)[1]
    assert code == 0 and (tmp_path / "out" / table).exists()
    code, said, _ = run(capsys, "import", "--from", out)
    assert code == 0 and f"{n} of {n} files read" in said and column in said
    code, _, err = run(capsys, "export", "--to", layout, *SMALL, "--out", out)
    assert code == 2 and "there already" in err


def test_export_from_a_zip_needs_the_unpacked_recordings(capsys, tmp_path, shared):
    data, ecgqa = (str(shared / "data" / n) for n in ("ptbxl-subset-400.zip", "ecgqa-subset.zip"))
    args = ("export", "--to", "published-qa", "--data", data, "--ecgqa", ecgqa, "--fs", "100")
    code, _, err = run(capsys, *args, "--out", str(tmp_path / "out"))
    assert code == 2 and "unpack it" in err


def test_import_of_a_folder_that_holds_none(capsys, tmp_path):
    code, _, err = run(capsys, "import", "--from", str(tmp_path))
    assert code == 2 and "answers.csv" in err


# --- what the pages promise -----------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
DATA_PAGE = ROOT / "docs" / "data.md"
PAGES = [DATA_PAGE, ROOT / "data" / "README.md", *(ROOT / "ecgkit").rglob("cards/*.md")]


def commands(page: Path) -> list[str]:
    """Command lines that start with `ecgkit`, in blocks of code and between back-ticks."""
    text = page.read_text()
    lines = [
        line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.split("\n")
    ]
    inline = re.findall(r"`(ecgkit [a-z][^`]*)`", text)
    return [line.split(" #")[0].strip() for line in [*lines, *inline] if line.startswith("ecgkit ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_parses(page):
    for command in commands(page):
        argv = cli_data.with_verb(shlex.split(command)[1:])
        cli._parser().parse_args(argv)


def test_the_page_on_data_shows_every_verb():
    verbs = {shlex.split(c)[2] for c in commands(DATA_PAGE) if c.startswith("ecgkit data")}
    assert verbs >= set("list card fetch check preprocess synthesize map export import".split())


def test_the_table_of_sources_agrees_with_the_cards():
    page = DATA_PAGE.read_text()
    for name in cards.names():
        row, facts = re.search(rf"^\| `{name}` .*$", page, re.M)[0], cards.facts(name)
        if facts["access"] == "open":
            count = re.search(r"\d[\d,]{4,}", facts["records, patients"])[0]
            assert facts["licence"] in row and count in row


def test_what_cannot_be_written_is_a_sentence(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    args = ("synthesize", "--n", "1", "--out", str(tmp_path / "file" / "new"))
    code, _, err = run(capsys, *args)
    assert code == 2 and "file" in err and "run the same command again" in err
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "file"))
    code, _, err = run(capsys, "check")
    assert code == 2 and "set ECGKIT_CACHE to a folder" in err


def test_check_names_what_it_passed_over(capsys, tmp_path):
    """Questions in a file that cannot be read, and members that would lead out of the .zip."""
    layouts.write_layout(tmp_path / "m", "ptbxl", 24, seed=3, rates=(100,))
    archive = shutil.make_archive(str(tmp_path / "m"), "zip", tmp_path / "m")
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr("../evil.hea", "x")
    table = open_cohort(KitConfig.from_params({"data": archive})).table
    qa = write_questions(tmp_path / "qa", table)
    (qa / "paraphrased/train/90000.json").write_text("[")
    code, out, _ = run(capsys, "check", "--data", archive, "--ecgqa", str(qa))
    assert code == 0 and "'../evil.hea' outside itself" in out
    assert "files not usable, broken_json: 1, for one: paraphrased/train/90000.json" in out


def test_a_damaged_list_of_ecgs_is_a_line_not_the_end(capsys, shared, tmp_path):
    """No question depends on ECG-QA's own lists of ECGs."""
    with zipfile.ZipFile(shared / "data" / "ecgqa-subset.zip") as archive:
        for name in archive.namelist():
            if "/ptbxl/" in name and not name.endswith("00.json") or "template/test/8" in name:
                archive.extract(name, tmp_path)
    (tmp_path / "ecg-qa/ecgqa/ptbxl/test_ecgs.tsv").write_text("garbage\n")
    data = str(shared / "data" / "ptbxl-subset-400.zip")
    how = ("--ecgqa", str(tmp_path / "ecg-qa"), "--flavour", "template")
    code, out, _ = run(capsys, "check", "--data", data, *how)
    assert code == 0 and "in = kept + dropped: 2146 = " in out and "no list of ECG ids" in out
