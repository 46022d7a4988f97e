"""The `pacekeeper` command: which sub-command lives where, and what an error's exit status is.

Exit statuses: 0 done; 1 verified, with violations; 2 usage or configuration; 3 verification failed; 4 temporary
failure; 5 local state unsafe; 75 held by a pause; 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

_COMMANDS: Final = {
    "agreement": ("agreement", "Write, check, sign and assemble the founding agreement."),
    "audit": ("audit", "Re-derive the whole record from a log and one fingerprint."),
    "commitment": ("commitment", "Write, foresee, propose, pledge to, follow and lift commitments."),
    "demo": ("demo", "Watch labs train, countries verify and an audit convict, on this machine."),
    "doctor": ("doctor", "Check a role's configuration, keys, clock, disk and reach, and say what to do."),
    "keygen": ("keygen", "Make a participant's keys, TLS certificate and public identity file."),
    "lab": ("lab", "Run a lab node, declare runs, meter commands."),
    "log": ("log", "Run the shared log, or check its state."),
    "party": ("party", "Rotate a party's offline key."),
    "verifier": ("verifier", "Run a national verifier."),
    "witness": ("witness", "Run a public witness, for logs of any kind (C2SP tlog-witness)."),
}


class LazyGroup(click.Group):
    """Lists every command from the table above.

    SPEC cli-9: help MUST import nothing but what describes the command that was asked for.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"pacekeeper.cli.commands.{_COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in sorted(_COMMANDS.items())])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pacekeeper")
def pacekeeper() -> None:
    """Verifiable compute governance: labs attest, countries verify, anyone audits."""


def main() -> None:
    """Run the command line; every expected error ends in one sentence on standard error and its exit status."""
    try:
        status = pacekeeper.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        from pacekeeper.protocol.text import printable

        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"pacekeeper: {printable(f'{where}{error.strerror or error}', 2_000)}", err=True)
        sys.exit(2)
    except ImportError as error:
        click.echo(f"pacekeeper: {error}; install the extra that has it, see the README", err=True)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
