"""Every command in the pages for readers is one the command line takes, every parameter one that a
notebook has, every link one that leads somewhere.
"""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from ecgkit import cli, cli_data, runner
from ecgkit.config import CONFIGS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("[!C]*.md"), *ROOT.glob("CO*.md"), *(ROOT / "docs").glob("*.md")])
FIELDS = {f.name.upper() for config in CONFIGS.values() for f in dataclasses.fields(config)}
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def commands(page: Path) -> list[str]:
    """`ecgkit ...` and `make ...` of a page: lines of code blocks, and code inside a sentence
    where it is a whole command (`ecgkit model show` is the name of one).
    """
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    inside = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [re.sub(r"\s+#.*", "", line.strip()) for line in [*lines, *inside]]
    found = [re.sub(r"^[A-Z_]+=\S+ (?=ecgkit)", "", line) for line in found]
    found = [line for line in found if re.match(r"(ecgkit [a-z]|make [a-z])", line)]
    return [line for line in found if line not in inside or len(line.split()) > 3 or "make" in line]


def settings(words: list[str]) -> list[str]:
    """NAME of every --set NAME=VALUE."""
    given = [b for a, b in zip(words, words[1:]) if a == "--set"]
    given += [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
    return [item.partition("=")[0] for item in given]


@each_page
def test_commands_are_understood(page):
    for command in commands(page):
        words = shlex.split(command)
        if words[0] == "make":
            assert words[1] in TARGETS, command
            continue
        try:
            args = cli._parser().parse_args(cli_data.with_verb(words[1:]))
        except SystemExit as end:
            raise AssertionError(f"{page.name}: ecgkit does not take `{command}`") from end
        unknown = set(settings(words)) - FIELDS
        assert not unknown, f"{page.name}: `{command}` sets {unknown}"
        if words[1] == "run":
            runner.choose(args.notebooks)


@each_page
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_pages_do_hold_commands():
    """The reader above finds them: a change of layout must not empty the tests."""
    found = {page.name: len(commands(page)) for page in PAGES}
    assert found["README.md"] > 10 and found["data.md"] > 15 and found["running.md"] > 15
    assert found["published_commands.md"] > 15


def test_the_readme_is_read_in_three_minutes():
    """At 250 words a minute; its table of commands is not read but looked at."""
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(text.split()) < 1000
