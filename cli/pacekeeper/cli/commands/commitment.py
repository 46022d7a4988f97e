"""`pacekeeper commitment`: the way of a commitment, from a template to its end.

The sub-commands are in three files: documents (new, lint, render, diff), acts on the log (propose, pledge, withdraw,
lift, extend, report), and outlook (status, simulate).
"""

from __future__ import annotations

import click

from pacekeeper.cli.commands import commitment_acts, commitment_documents, commitment_outlook


@click.group()
def command() -> None:
    """Write, foresee, propose, pledge to, follow and lift commitments."""


for _part in (commitment_documents, commitment_acts, commitment_outlook):
    for _command in _part.COMMANDS:
        command.add_command(_command)
