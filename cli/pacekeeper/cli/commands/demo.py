"""`pacekeeper demo`: the main job, end to end, on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pacekeeper.cli.console import DIRECTORY, Sentence, sentences


@click.command()
@click.option("--dir", "root", type=DIRECTORY, default=Path(".demo"), show_default=True, help="Where the state lies.")
@sentences
def command(root: Path) -> int:
    """Labs train a real model, stop and slow down together; verifiers replay and witness; an audit re-derives it all.

    Takes about four minutes. Needs JAX (pip install 'pacekeeper[jax]'). Exits 0 when everything that it promises to
    show was found by the audit.
    """
    from importlib.util import find_spec

    if find_spec("jax") is None:
        raise Sentence("the demonstration trains with JAX: pip install 'pacekeeper[jax]'", 2)
    from pacekeeper.audit.report import write_report
    from pacekeeper.cli.demo.scene import build_scene, prepare_directory
    from pacekeeper.cli.demo.story import play, shortcomings

    begun = time.monotonic()

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - begun:5.1f} s] {line}")

    root = root.resolve()
    prepare_directory(root)
    say("four countries and four labs make their keys and found an agreement")
    scene = build_scene(root)
    say(f"fingerprint {scene.fingerprint}")
    result = play(scene, say)
    click.echo("")
    click.echo(write_report(result), nl=False)
    click.echo("")
    click.echo(f"The state lies in {root}. Audit it again, here or from a copy on another machine:")
    click.echo(f"  pacekeeper audit {scene.public} --fingerprint {scene.fingerprint}")
    click.echo(f"  pacekeeper agreement show {root / 'agreement.md'}")
    lacking = shortcomings(result)
    if lacking:
        raise Sentence("the demonstration did not show what it promises: " + "; ".join(lacking), 1)
    return 0
