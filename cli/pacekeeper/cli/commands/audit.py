"""`pacekeeper audit`: re-derive the whole record from a log and one fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pacekeeper.cli.console import FILE, USAGE, Sentence, echo_json, sentences

FAILED = 3


class _Audit(click.Group):
    """Audits what is named, unless it is one of the sub-commands: `audit DIR` is `audit log DIR`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["log", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[log] URL|DIR --fingerprint FINGERPRINT [OPTIONS]  or  COMMAND [ARGS]..."]


@click.group(cls=_Audit)
def command() -> None:
    """Re-derive the whole record from a log and one fingerprint; prove a fork; check evidence offline.

    `pacekeeper audit log --help` lists the options of an audit.
    """


@command.command("log")
@click.argument("location", metavar="URL|DIR")
@click.option("--fingerprint", required=True, help="SHA-256 of the agreement's document, 64 hexadecimal digits.")
@click.option("--at", type=int, help="Replay only this many entries of the same tree.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--jobs", type=click.IntRange(0, 64), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--offline", is_flag=True, help="Do not ask the verifiers of a live log directly.")
@sentences
def audit_log(location: str, fingerprint: str, at: int | None, as_json: bool, jobs: int, offline: bool) -> int:
    """Verify every entry, tile, signature and the quorum of the log at URL or in DIR, replay it, and report.

    Exit status: 0 verified and compliant; 1 verified, with violations; 2 usage; 3 verification failed; 4 no answer, or
    the live log is stale.
    """
    from pacekeeper.audit.export import export
    from pacekeeper.audit.report import write_report
    from pacekeeper.audit.result import AuditResult
    from pacekeeper.cli.auditing import audited

    def show(result: AuditResult) -> None:
        if as_json:
            echo_json(export(result))
        else:
            click.echo(write_report(result), nl=False)

    return audited(location, fingerprint, at=at, jobs=jobs, offline=offline, show=show)


@command.command("prove-fork")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--fingerprint", required=True, help="SHA-256 of the agreement's document, 64 hexadecimal digits.")
@click.option("--out", type=FILE, required=True, help="The proof's file; it is not overwritten.")
@sentences
def prove_fork(one: str, other: str, fingerprint: str, out: Path) -> int:
    """Prove that two views of a log cannot both be true, and write the proof.

    A and B are each a URL, a directory, or the file of a checkpoint that the log signed. Where their sizes differ, the
    tree of the larger one is needed. Exit status: 0 a proof is written; 3 the two can both be true, or one is damaged.
    """
    from pacekeeper.audit.forks import prove
    from pacekeeper.cli.auditing import parse_fingerprint
    from pacekeeper.client.keyfiles import write_public
    from pacekeeper.protocol.errors import Refused
    from pacekeeper.protocol.fork_proof import format_fork_proof

    wanted = parse_fingerprint(fingerprint)
    if out.exists():
        raise Sentence(f"{out} exists already and is not overwritten", USAGE)
    try:
        proof = prove(one, other, wanted)
    except Refused as refusal:
        raise Sentence(f"{refusal.message} ({refusal.code})", FAILED) from None
    if proof is None:
        click.echo("no fork: the two trees can both be true")
        return FAILED
    write_public(out, format_fork_proof(proof))
    click.echo("fork proved; anyone can check it with:")
    click.echo(f"pacekeeper audit check-evidence {out} --fingerprint {fingerprint}")
    return 0


@command.command("check-evidence")
@click.argument("file", type=FILE)
@click.option("--fingerprint", required=True, help="SHA-256 of the agreement's document, 64 hexadecimal digits.")
@click.option("--json", "as_json", is_flag=True, help="What it shows as JSON.")
@sentences
def check_evidence(file: Path, fingerprint: str, as_json: bool) -> int:
    """Decide offline whether a fork proof convicts the log of the agreement with this fingerprint.

    Exit status: 0 it does; 3 it does not.
    """
    import base64

    from pacekeeper.cli.auditing import parse_fingerprint
    from pacekeeper.client.reading import read_bounded
    from pacekeeper.protocol.errors import Code, Refused
    from pacekeeper.protocol.fork_proof import MAX_BYTES, check_fork_proof, parse_fork_proof
    from pacekeeper.protocol.text import printable

    wanted = parse_fingerprint(fingerprint)
    data = read_bounded(file, MAX_BYTES)
    try:
        agreement, first, second = check_fork_proof(parse_fork_proof(data))
        if agreement.fingerprint != wanted:
            raise Refused(Code.WRONG_AGREEMENT, "it is about the log of another agreement")
    except Refused as refusal:
        raise Sentence(f"it convicts nobody: {refusal.message} ({refusal.code})", FAILED) from None
    trees = [{"size": tree.size, "root": base64.b64encode(tree.root).decode()} for tree in (first, second)]
    if as_json:
        echo_json({"convicted": "log", "origin": agreement.origin, "trees": trees})
        return 0
    click.echo(f"it convicts the log {printable(agreement.origin)}: it signed two trees that cannot both be true,")
    for tree in trees:
        click.echo(f"  of {tree['size']} entries with the root {tree['root']}")
    return 0


@command.command("check-receipt")
@click.argument("receipt", type=FILE)
@click.option("--entry", type=FILE, required=True, help="The entry's exact bytes.")
@click.option("--policy", type=FILE, required=True, help="A policy file (C2SP tlog-policy).")
@sentences
def check_receipt(receipt: Path, entry: Path, policy: Path) -> int:
    """Decide offline whether a receipt (.tlog-proof) shows an entry on a log under a policy.

    `pacekeeper agreement policy` prints an agreement's. Exit status: 0 it does; 3 it does not.
    """
    from pacekeeper.client.reading import read_bounded
    from pacekeeper.protocol import limits
    from pacekeeper.protocol.errors import Refused
    from pacekeeper.protocol.text import printable
    from pacekeeper.protocol.tlog import policy_file
    from pacekeeper.protocol.tlog.receipt import MAX_RECEIPT_BYTES, check_receipt_under, parse_receipt

    rules = policy_file.parse_policy(read_bounded(policy, policy_file.MAX_BYTES))
    try:
        shown = parse_receipt(read_bounded(receipt, MAX_RECEIPT_BYTES))
        tree, cosigned = check_receipt_under(shown, read_bounded(entry, limits.MAX_ENTRY_BYTES), rules)
    except Refused as refusal:
        raise Sentence(f"it shows nothing: {refusal.message} ({refusal.code})", FAILED) from None
    names = ", ".join(printable(name.decode(errors="replace")) for name in cosigned)
    click.echo(f"entry {shown.index} is on {printable(tree.origin)}, in a tree of {tree.size}, cosigned by {names}")
    return 0
