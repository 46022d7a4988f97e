"""Setting up a verifier and a lab of a party that is no founder, with the accession's document."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from living_acts import Newcomer, accession, amended_quorum
from site_on_disk import STILL_TERMS, Site, found_site

from pacekeeper.cli.commitments.caller import PARTICIPANT, open_caller
from pacekeeper.client.config import load_config
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.newcomers import read_accession, with_newcomers
from pacekeeper.node.config import load_settings
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay.state import State
from pacekeeper.verifier.daemon import VerifierConfig, load_identity

Run = Callable[..., Any]
Must = Callable[..., str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return found_site(tmp_path_factory.mktemp("newcomers"), {"borealis": "norland"}, STILL_TERMS)


@pytest.fixture(scope="module")
def newcomer(site: Site) -> Newcomer:
    return Newcomer.make(site, "highmark", "zephyr")


@pytest.fixture(scope="module")
def document(site: Site, newcomer: Newcomer) -> Path:
    path = site.root / "accession.md"
    path.write_bytes(accession("welcome", [newcomer], (4, 1)))
    return path


def test_a_newcomers_verifier_and_lab_are_set_up_with_the_accession(
    site: Site, newcomer: Newcomer, document: Path, pacekeeper: Run, must: Must
) -> None:
    """SPEC transport-23: with the keys that the document names; without the document they are nobody."""
    verifier, lab = site.root / "verifier/highmark", site.root / "lab/zephyr"
    bundle = site.root / "bundle"
    without = pacekeeper("verifier", "init", verifier, "--party", "highmark", "--bundle", bundle)
    assert (without.status, 'the agreement has no party "highmark"' in without.err) == (2, True)
    must("verifier", "init", verifier, "--party", "highmark", "--bundle", bundle, "--accession", document)
    must("lab", "init", lab, "--lab", "zephyr", "--bundle", bundle, "--accession", document)
    config = load_config(verifier / "verifier.toml", VerifierConfig)
    identity = load_identity(verifier / "verifier.toml", config)
    assert (identity.party, identity.is_founder) == (newcomer.party, False)
    assert load_settings(lab / "lab.toml").lab == newcomer.labs[0]
    for path, who in ((verifier / "verifier.toml", "highmark"), (lab / "lab.toml", "zephyr")):
        key = None if who == "zephyr" else site.root / "party/highmark/keys/party.key"
        caller = open_caller(path, key, None, PARTICIPANT)
        assert caller.signer(State(with_newcomers(caller.agreement, document), 0))[1] == who
        with pytest.raises(Refused, match="not of"):
            open_caller(path, key, "norland", PARTICIPANT)
        report = pacekeeper("doctor", path, "--offline").out
        assert "that the agreement pins for pacekeeper:" in report
        assert "the agreement has no" not in report


@pytest.mark.parametrize("key", ["statement.key", "cosign.key", "tls.pem", "tls.crt.pem"])
def test_a_newcomer_does_not_start_with_a_key_that_its_accession_does_not_name(
    site: Site, document: Path, tmp_path: Path, key: str, pacekeeper: Run
) -> None:
    """SPEC transport-23."""
    shutil.copytree(site.root / "verifier/highmark/keys", tmp_path / "keys")
    shutil.copy(site.root / "verifier/norland/keys" / key, tmp_path / "keys" / key)
    arguments = ("--party", "highmark", "--bundle", site.root / "bundle", "--accession", document)
    outcome = pacekeeper("verifier", "init", tmp_path, *arguments)
    assert outcome.status == 2
    assert "not the one that the agreement names for highmark" in outcome.err
    assert not (tmp_path / "verifier.toml").exists()


def test_a_document_that_is_no_accession_is_refused_by_name(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "act.md"

    for data, sentence in (
        (amended_quorum("stricter", (4, 0)), "not an accession"),
        (b"# Nothing\n", "act.md: "),
        (b"x" * 70_000, "act.md: "),
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=sentence):
            read_accession(path)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_accession(path)
