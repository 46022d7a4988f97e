"""What every sub-command shares: errors as one sentence with the right exit status, JSON, and a progress bar.

@click.command()
@sentences
def command(...): ...
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

USAGE, TEMPORARY, UNSAFE = 2, 4, 5

FILE = click.Path(path_type=Path, dir_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False)


class Sentence(click.ClickException):
    """An expected error.

    SPEC cli-1: an expected error MUST be one sentence on standard error and an exit status, without a traceback.
    SPEC cli-2: text that the command did not write itself MUST be escaped where it is shown.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        from pacekeeper.protocol.text import printable

        click.echo(f"pacekeeper: {printable(self.message, 2_000)}", err=True)


def sentences(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the project's typed errors into a sentence and an exit status.

    SPEC cli-6: a key or state that is unsafe MUST exit 5; SPEC cli-7: other errors MUST exit as the table says.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from pacekeeper.client.errors import ConfigError, TemporaryFailure
        from pacekeeper.protocol.documents.blocks import DocumentError
        from pacekeeper.protocol.errors import Code, Refused

        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            raise Sentence(str(error), USAGE) from None
        except DocumentError as error:
            raise Sentence(str(error), USAGE) from None
        except Refused as refusal:
            status = UNSAFE if refusal.code == Code.UNSAFE_STATE else USAGE
            raise Sentence(f"{refusal.message} ({refusal.code})", status) from None
        except TemporaryFailure as failure:
            raise Sentence(f"{failure.message} ({failure.code}); try again later", TEMPORARY) from None

    return wrapped


def echo_json(value: object) -> None:
    """Print a value as JSON. SPEC cli-8: with --json, standard output MUST be one JSON value with sorted keys."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Give a callback (done, total) that draws a bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
