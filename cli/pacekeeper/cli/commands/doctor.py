"""`pacekeeper doctor`: look at everything that a role needs, and say what to do."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.console import FILE, echo_json, sentences


@click.command()
@click.argument("config", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="The checks as JSON.")
@click.option("--offline", is_flag=True, help="Leave out what asks the log and the verifiers.")
@sentences
def command(config: Path, as_json: bool, offline: bool) -> int:
    """Check the configuration, keys, clock, disk, ports and reach of the role in CONFIG (log, verifier or lab).

    Changes nothing. Exit status: 0 no check failed; 2 one did; 5 one of keys or state did, so that nothing may be
    signed.
    """
    from pacekeeper.cli.doctor.check import status_of
    from pacekeeper.cli.doctor.examine import examine
    from pacekeeper.protocol.text import printable

    made = []
    for check in examine(config, offline=offline):
        made.append(check)
        if as_json:
            continue
        click.echo(f"{check.level:4}  {check.name:18} {printable(check.sentence, 1_000)}")
        if check.advice:
            click.echo(f"      {'':18} -> {printable(check.advice, 1_000)}")
    status = status_of(made)
    if as_json:
        checks = [
            {"name": check.name, "level": check.level.lower(), "sentence": check.sentence, "advice": check.advice}
            for check in made
        ]
        echo_json({"checks": checks, "status": status})
    return status
