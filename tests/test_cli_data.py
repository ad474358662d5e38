"""`ecgkit data`: what each subcommand prints, writes and refuses; the data cards."""

import pytest

from ecgkit import cli
from ecgkit.data import cards
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
