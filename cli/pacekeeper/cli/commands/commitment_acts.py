"""`pacekeeper commitment propose, pledge, withdraw, lift, extend, report`: one signed statement on the log each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pacekeeper.cli.console import FILE, Sentence, sentences
from pacekeeper.cli.copies import no_cache_option

if TYPE_CHECKING:
    from pacekeeper.cli.commitments.acting import Build

F = TypeVar("F", bound=Callable[..., Any])


def _calling(function: F) -> F:
    """The arguments of every act: who calls the log, who signs, and what is written."""
    for option in (
        no_cache_option,
        click.option("--json", "as_json", is_flag=True, help="The outcome as JSON."),
        click.option("--receipt", type=FILE, help="Write the receipt, which verifies offline, to this file."),
        click.option("--as", "who", metavar="ID", help="The participant; refused unless the key is its key."),
        click.option("--key", type=FILE, help="The signing key's file; default: the one that CONFIG names."),
        click.argument("config", type=FILE),
    ):
        function = option(function)
    return function


def _act(
    config: Path,
    key: Path | None,
    who: str | None,
    receipt: Path | None,
    as_json: bool,
    no_cache: bool,
    build: Build,
    subject: str,
    reports: bool = False,
) -> None:
    """Put a statement on the log and say what it brought about."""
    from pacekeeper.cli.commitments.acting import act
    from pacekeeper.cli.commitments.caller import PARTICIPANT, REPORTER, open_caller
    from pacekeeper.cli.commitments.telling import tell_outcome
    from pacekeeper.cli.copies import open_copy

    if receipt is not None and receipt.exists():
        raise Sentence(f"{receipt} exists already", 2)  # SPEC cli-4, before anything is signed
    caller = open_caller(config, key, who, REPORTER if reports else PARTICIPANT)
    outcome = act(caller, build, open_copy(caller.agreement.fingerprint, no_cache=no_cache))
    tell_outcome(outcome, subject, receipt, as_json=as_json)


@click.command()
@click.argument("document", type=FILE)
@_calling
@sentences
def propose(document: Path, **calling: Any) -> None:
    """Propose the commitment of DOCUMENT, for the lab or party whose key signs. CONFIG is a lab.toml or verifier.toml.

    To propose is not to pledge.
    """
    from pacekeeper.cli.commitments import statements

    _act(**calling, build=statements.proposal(document), subject=statements.commitment_id(document))


@click.command()
@click.argument("commitment", metavar="ID")
@click.option(
    "--if",
    "conditions",
    multiple=True,
    metavar="DEMANDS",
    help='Only if these are bound: "parties>=3, labs>=2, weight>=55 %, with norland+sudland"; repeat for alternatives.',
)
@click.option("--document", type=FILE, help="The document that was read: refused unless it is the one on the log.")
@_calling
@sentences
def pledge(commitment: str, conditions: tuple[str, ...], document: Path | None, **calling: Any) -> None:
    """Pledge to the commitment ID, in any case or on conditions. CONFIG is a lab.toml or verifier.toml.

    With several --if, one of them is enough.
    """
    from pacekeeper.cli.commitments import statements

    _act(**calling, build=statements.pledge(commitment, conditions, document), subject=commitment)


@click.command()
@click.argument("commitment", metavar="ID")
@click.option("--reason", default="", help="Why; some commitments require it.")
@_calling
@sentences
def withdraw(commitment: str, reason: str, **calling: Any) -> None:
    """Take back a pledge to the commitment ID, at once or after notice, as its terms say."""
    from pacekeeper.cli.commitments import statements

    _act(**calling, build=statements.withdrawal(commitment, reason), subject=commitment)


@click.command()
@click.argument("commitment", metavar="ID")
@_calling
@sentences
def lift(commitment: str, **calling: Any) -> None:
    """Speak for lifting the commitment ID. It is lifted, or its ramp begins, when enough of those bound have."""
    from pacekeeper.cli.commitments import statements

    _act(**calling, build=statements.vote(commitment, extend=False), subject=commitment)


@click.command()
@click.argument("commitment", metavar="ID")
@_calling
@sentences
def extend(commitment: str, **calling: Any) -> None:
    """Speak for extending the term of the commitment ID. It is extended when enough of those bound have."""
    from pacekeeper.cli.commitments import statements

    _act(**calling, build=statements.vote(commitment, extend=True), subject=commitment)


@click.command()
@click.argument("indicator")
@click.option("--unit", required=True, help='As in the commitments, such as "%" or "h".')
@click.option("--lower", help="Lower confidence bound.")
@click.option("--central", help="Central estimate.")
@click.option("--upper", help="Upper confidence bound.")
@click.option("--censored", type=click.Choice(["above", "below"]), help="The value lies beyond what can be measured.")
@click.option("--until", metavar="TIME", help="End of the time measured, RFC 3339 UTC; default: the log's last entry.")
@click.option("--method", required=True, help="How it was measured, and at which confidence the bounds hold.")
@click.option("--evidence", type=FILE, required=True, help="The evidence, which you keep; its digest is signed.")
@_calling
@sentences
def report(
    indicator: str,
    unit: str,
    lower: str | None,
    central: str | None,
    upper: str | None,
    censored: str | None,
    until: str | None,
    method: str,
    evidence: Path,
    **calling: Any,
) -> None:
    """Report what was measured of INDICATOR, as the lab or the party's verifier whose configuration CONFIG is."""
    from pacekeeper.cli.commitments import statements

    given = [value for value in (lower, central, upper) if value is not None]
    if len(given) != (0 if censored else 3):
        raise Sentence("a report has --lower, --central and --upper, or is --censored and has none of them", 2)
    build = statements.report(
        indicator,
        unit=unit,
        values=None if censored else (given[0], given[1], given[2]),
        censored=censored,
        until_ms=statements.parse_until(until),
        method=method,
        evidence_digest=statements.digest_file(evidence),
    )
    _act(**calling, build=build, subject=indicator, reports=True)


COMMANDS: Final = (propose, pledge, withdraw, lift, extend, report)
