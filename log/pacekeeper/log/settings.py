"""The log's configuration file, and everything it names, loaded and checked before anything starts.

bundle = "bundle"                           the agreement bundle
state = "state"                             the store, the lock and the public files
listen = "127.0.0.1:7801"                   gRPC, mutual TLS, for the agreement's participants
http_listen = "127.0.0.1:7802"              HTTP, for anyone
checkpoint_key, statement_key               signing keys; <checkpoint_key>.head beside it is what the key remembers
next_statement_key                          where the statement key that follows lies, or will
tls_key, tls_certificate                    the transport identity
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pacekeeper.client.bundle import Bundle, load_bundle
from pacekeeper.client.config import Config, load_config, resolve
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import load_key, read_private
from pacekeeper.client.successors import KeyFiles, open_key_files
from pacekeeper.client.tls import LOG_URI, check_certificate
from pacekeeper.log.mark import MARK_SUFFIX
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.replay.key_life import RULES_WITH_SUCCESSORS


class LogConfig(Config):
    """log.toml. Paths are relative to its directory; port 0 takes any free port."""

    bundle: str
    state: str
    listen: str
    http_listen: str
    checkpoint_key: str
    statement_key: str
    tls_key: str
    tls_certificate: str
    next_statement_key: str = ""


@dataclass(frozen=True)
class LogFiles:
    """What the configuration names, loaded. bundle_path: the bundle's directory, for newcomers' certificates."""

    bundle_path: Path
    bundle: Bundle
    state: Path
    host: str
    port: int
    http_host: str
    http_port: int
    checkpoint_key: SigningKey
    head_mark: Path
    statement_keys: KeyFiles
    tls_key_pem: bytes
    tls_certificate_pem: bytes

    @property
    def store(self) -> Path:
        return self.state / "log.sqlite"


def load_files(config_path: Path) -> LogFiles:
    """Load the configuration and what it names. ConfigError, or Refused(unsafe-state) for keys, naming the file.

    SPEC log-24: a log MUST NOT start with a key other than the one that the agreement names for its purpose.
    """
    config = load_config(config_path, LogConfig)
    bundle_path = resolve(config_path, config.bundle)
    bundle = load_bundle(bundle_path)
    terms = bundle.agreement.log
    checkpoint_key = _key(resolve(config_path, config.checkpoint_key), terms.key.public_key, "checkpoint key")
    statement_keys = _statement_keys(config_path, config, bundle.agreement)
    certificate_path = resolve(config_path, config.tls_certificate)
    try:
        certificate = check_certificate(certificate_path.read_bytes(), LOG_URI, terms.tls_spki)
    except OSError as error:
        raise ConfigError(f"{certificate_path} cannot be read: {error.strerror}") from None
    except Refused as refused:
        raise ConfigError(f"{certificate_path}: {refused.message}") from None
    host, port = _address(config_path, "listen", config.listen)
    http_host, http_port = _address(config_path, "http_listen", config.http_listen)
    return LogFiles(
        bundle_path=bundle_path,
        bundle=bundle,
        state=resolve(config_path, config.state),
        host=host,
        port=port,
        http_host=http_host,
        http_port=http_port,
        checkpoint_key=checkpoint_key,
        head_mark=resolve(config_path, config.checkpoint_key + MARK_SUFFIX),
        statement_keys=statement_keys,
        tls_key_pem=read_private(resolve(config_path, config.tls_key)),
        tls_certificate_pem=certificate,
    )


def _statement_keys(config_path: Path, config: LogConfig, agreement: Agreement) -> KeyFiles:
    """Open the key files for statements. Where keys can follow each other, the replayed log says which is in force."""
    path = resolve(config_path, config.statement_key)
    if agreement.rules_version < RULES_WITH_SUCCESSORS:
        return KeyFiles([_key(path, agreement.log.statement_key, "statement key")])
    following = [resolve(config_path, config.next_statement_key)] if config.next_statement_key else []
    return open_key_files([path, *following])


def _key(path: Path, expected: bytes, what: str) -> SigningKey:
    key = load_key(path)
    if key.public != expected:
        raise Refused(Code.UNSAFE_STATE, f"{path} is not the {what} that the agreement names")
    return key


def _address(config_path: Path, name: str, text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f'{config_path}: {name}: expected an address such as "127.0.0.1:7801"')
    return host.strip("[]"), int(port)
