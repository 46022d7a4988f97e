"""`pacekeeper lab`: run a lab's node, declare runs, meter commands, ask how it stands."""

from __future__ import annotations

from pathlib import Path

import click

from pacekeeper.cli.commands.rotating import new_key, rotate_key
from pacekeeper.cli.console import DIRECTORY, FILE, TEMPORARY, Sentence, echo_json, sentences


@click.group()
def command() -> None:
    """Run a lab node, declare runs, meter commands."""


command.add_command(rotate_key)
command.add_command(new_key)


@command.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--lab", required=True, help="The lab's id in the agreement.")
@click.option("--bundle", type=DIRECTORY, required=True, help="The agreement bundle.")
@click.option("--keys", type=DIRECTORY, help="The lab's keys; default: DIRECTORY/keys, as keygen made them.")
@click.option("--model", default="cpu", show_default=True, help="Accelerator model.")
@click.option("--count", default=1, show_default=True, help="How many of them the lab holds.")
@click.option("--peak", default="100e9 FLOP/s", show_default=True, help="Peak of one, fastest dense mode.")
@click.option("--accession", type=FILE, help="The accession's document, for a lab that is no founder's.")
@sentences
def init(
    directory: Path,
    lab: str,
    bundle: Path,
    keys: Path | None,
    model: str,
    count: int,
    peak: str,
    accession: Path | None,
) -> None:
    """Write DIRECTORY/lab.toml. Refuses to overwrite anything."""
    from pacekeeper.cli.configs import LAB, accession_line, relative, write_checked
    from pacekeeper.client.bundle import load_bundle
    from pacekeeper.client.errors import ConfigError
    from pacekeeper.client.newcomers import with_newcomers
    from pacekeeper.node.config import load_settings
    from pacekeeper.protocol.units import format_percent
    from pacekeeper.v1 import statements_pb2 as pb

    loaded = load_bundle(bundle)
    if lab not in {known.id for known in with_newcomers(loaded.agreement, accession).labs}:
        raise ConfigError(f'the agreement has no lab "{lab}"')
    config = directory / "lab.toml"
    directory.mkdir(parents=True, exist_ok=True)
    text = accession_line(accession, directory) + LAB.format(
        lab=lab,
        bundle=relative(bundle, directory),
        keys=relative(keys or directory / "keys", directory),
        model=model,
        count=count,
        peak=peak,
        margin=format_percent(loaded.agreement.margins.get(pb.METHOD_CHIP_TIME, 600_000)),
    )
    write_checked(config, text, load_settings)
    click.echo(f"wrote {config}; next: pacekeeper lab run {config}")


@command.command()
@click.argument("config", type=FILE)
@sentences
def run(config: Path) -> None:
    """Run the lab's daemon until it is told to stop (SIGTERM, Ctrl-C)."""
    from pacekeeper.node.daemon import run as serve

    serve(config)


@command.command()
@click.argument("config", type=FILE)
@click.argument("run_id", metavar="RUN")
@click.option("--title", default="", help="What the run is, in a sentence.")
@click.option("--fresh", metavar="DIGEST", help="Starts from new parameters with this digest (64 hexadecimal digits).")
@click.option("--from-checkpoint", metavar="DIGEST", help="Starts from the checkpoint with this digest.")
@sentences
def declare(config: Path, run_id: str, title: str, fresh: str | None, from_checkpoint: str | None) -> None:
    """Declare a run on the log before it starts."""
    from pacekeeper.node.daemon import declare as ask
    from pacekeeper.v1 import statements_pb2 as pb

    if fresh and from_checkpoint:
        raise Sentence("a run is either fresh or from a checkpoint", 2)
    state = pb.INITIAL_STATE_UNSTATED
    if fresh or from_checkpoint:
        state = pb.INITIAL_STATE_FRESH if fresh else pb.INITIAL_STATE_CHECKPOINT
    digest = _digest(fresh or from_checkpoint or "")
    if ask(config, run_id, title=title, initial_state=state, initial_digest=digest):
        click.echo(f"run {run_id} is declared; the daemon delivers it to the log")
    else:
        click.echo(f"the daemon does not run; it will declare run {run_id} when it starts")


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b"?"
    if len(digest) not in (0, 32):
        raise Sentence("a digest has 64 hexadecimal digits", 2)
    return digest


@command.command(name="exec")
@click.argument("config", type=FILE)
@click.option("--run", "run_id", required=True, help="The run that the command trains.")
@click.option("--chips", default=1, show_default=True, help="Accelerators that it occupies.")
@click.option("--title", default="", help="What the run is, in a sentence.")
@click.option(
    "--on-pause",
    type=click.Choice(["terminate", "stop"]),
    default="terminate",
    show_default=True,
    help="What a pause does to it once it had time to save: end it with status 75, or stop its processes until it is "
    "lifted (only if all of them run below this one, on this machine).",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- CMD ...")
@sentences
def execute(config: Path, run_id: str, chips: int, title: str, on_pause: str, arguments: tuple[str, ...]) -> int:
    """Run an unmodified command and account for its accelerator time. Exits as the command does."""
    from pacekeeper.node.config import load_settings
    from pacekeeper.node.meters.command import OnPause, run_metered
    from pacekeeper.node.meters.settings import resolve_settings

    lab = load_settings(config)
    try:
        settings = resolve_settings(lab.socket, lab.spool, lab.on_daemon_down)
    except ValueError as error:
        raise Sentence(str(error), 2) from None
    chosen = OnPause(on_pause)
    return run_metered(list(arguments), run_id, chips=chips, title=title, on_pause=chosen, settings=settings)


@command.command()
@click.argument("config", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@sentences
def status(config: Path, as_json: bool) -> None:
    """Say how the lab's daemon stands. Exit status 4 when it does not run."""
    import time

    import msgspec

    from pacekeeper.node.status import read_status
    from pacekeeper.protocol.text import printable
    from pacekeeper.protocol.units import format_time

    known = read_status(config)
    if known is None:
        raise Sentence(f"the daemon of {config} has never run; start it with: pacekeeper lab run {config}", TEMPORARY)
    age_ms = int(time.time() * 1000) - known.at_ms
    if as_json:
        echo_json({**msgspec.to_builtins(known), "age_ms": age_ms})
    else:
        due = "" if known.next_due_ms is None else f", due {format_time(known.next_due_ms)}"
        click.echo(f"lab         {known.lab} (agreement {known.agreement})")
        click.echo(f"next period {known.next_period}{due}")
        click.echo(f"signed      {known.sequence} statements, {known.outbox} not delivered yet")
        click.echo(f"log         {known.log_size} entries when last heard of")
        for job in known.jobs:
            click.echo(f"job         {printable(job.run)} on {job.chips} x {printable(job.pool)}")
            if job.gate == "hold":
                click.echo(f"  HELD      since {format_time(job.since_ms or 0)}: {printable(job.reason)}")
            elif job.gate == "throttle":
                rate = f"{job.flop_per_s or 0:.4g} FLOP/s"
                click.echo(f"  SLOWED    to {rate} since {format_time(job.since_ms or 0)}: {printable(job.reason)}")
        for problem in known.problems:
            click.echo(f"PROBLEM     {printable(problem)}")
    if age_ms > 10_000:
        raise Sentence(f"this is {age_ms // 1000} s old: the daemon does not run", TEMPORARY)
