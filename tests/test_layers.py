"""Imports point one way: a room may use only the rooms above it (docs/architecture.md)."""

import ast
from pathlib import Path

import ecgkit

PACKAGE = Path(ecgkit.__file__).parent
LAYERS = [
    "types",
    "colab",
    "signal",
    "disk",
    "config",
    "runtime",
    "runs",
    "run_times",
    "data",
    "features",
    "text",
    "models",
    "tasks",
    "reports",
    "parity",
    "exercises",
    "profiles",
    "plan_trainings",
    "plan",
    "runner_order",
    "runner_lock",
    "runner_notebook",
    "runner_export",
    "runner_files",
    "runner",
    "sweep_file",
    "sweeps",
    "cli_data",
    "cli_plan",
    "cli_ask",
    "cli_models",
    "cli_report",
    "cli",
    "__main__",
]


def modules():
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the kit that a file imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            base = node.module
            found |= {f"{base}.{a.name}" for a in node.names} if base == "ecgkit" else {base}
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path.name}: relative import; write the full name")
    rooms = {name.split(".")[1] for name in found if name.startswith("ecgkit.")}
    return rooms & set(LAYERS)


def test_every_file_stands_in_a_known_room():
    for path in modules():
        assert room(path.relative_to(PACKAGE).parts) in LAYERS, path


def test_no_import_against_the_arrows():
    wrong = []
    for path in modules():
        own = LAYERS.index(room(path.relative_to(PACKAGE).parts))
        wrong += [
            f"{path.relative_to(PACKAGE)} imports {r}"
            for r in imported_rooms(path)
            if LAYERS.index(r) > own
        ]
    assert not wrong, "\n".join(wrong)


def test_the_check_sees_an_arrow_against_the_list(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "def f():\n    from ecgkit.tasks.engine import fit\n    from ecgkit import runs\n"
    )
    assert imported_rooms(bad) == {"tasks", "runs"}
