"""Help is quick and complete: nothing heavy is imported for it, and every command says what it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from pacekeeper.cli.main import pacekeeper as root

_PROGRAM = """
import sys
sys.argv = ["pacekeeper", *sys.argv[1:]]
from pacekeeper.cli.main import main
try:
    main()
finally:
    heavy = {"grpc", "google.protobuf", "rich", "msgspec", "cryptography", "nacl", "structlog", "jax", "torch"}
    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))


COMMANDS = dict(all_commands(root))


@pytest.mark.parametrize(
    "arguments", [(), ("log",), ("agreement",), ("audit",), ("commitment",), ("doctor",), ("keygen",)], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """SPEC cli-9."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
    assert done.stdout.startswith("Usage: pacekeeper")


def test_the_top_lists_every_command_in_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pacekeeper.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("agreement", "audit", "commitment", "demo", "doctor", "keygen", "lab", "log", "verifier", "witness"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_says_what_it_does(path: tuple[str, ...]) -> None:
    """SPEC cli-9."""
    command = COMMANDS[path]
    assert command.help
    assert command.help.rstrip().endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_commands_that_answer_offer_json() -> None:
    """SPEC cli-8."""
    informing = ("lint", "diff", "status", "simulate", "propose", "pledge", "withdraw", "lift", "extend", "report")
    paths = [
        ("audit", "log"),
        ("audit", "check-evidence"),
        ("doctor",),
        ("agreement", "show"),
        ("agreement", "lint"),
        ("verifier", "status"),
    ]
    for path in [*paths, *(("commitment", name) for name in informing)]:
        assert "as_json" in {parameter.name for parameter in COMMANDS[path].params}


@pytest.mark.parametrize("arguments", [("nonsense",), ("audit",), ("log", "nonsense"), ("keygen", "king", "x")])
def test_usage_errors_exit_2(arguments: tuple[str, ...]) -> None:
    """SPEC cli-7."""
    command = [sys.executable, "-m", "pacekeeper.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
