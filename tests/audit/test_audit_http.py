"""The same log over HTTP, from any static web server, gives the same report; a server that fails is no verdict."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable

import pytest
from published_log import PublishedLog, served

from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult
from pacekeeper.audit.verify import audit
from pacekeeper.client.errors import TemporaryFailure
from pacekeeper.client.fetch import HttpSource, open_source


def test_over_http_the_report_is_the_same(breached: PublishedLog, run_audit: Callable[..., AuditResult]) -> None:
    """SPEC audit-11."""
    with served(breached.directory) as url:
        source = open_source(url)
        report = write_report(audit(source, breached.fingerprint, jobs=0))
        source.close()
    assert report == write_report(run_audit(breached))
    assert url not in report


def test_a_missing_tile_over_http_is_a_fault(breached: PublishedLog) -> None:
    path = f"tile/0/000.p/{len(breached.world.entries)}"
    (breached.directory / path).unlink()
    with served(breached.directory) as url:
        source = open_source(url)
        result = audit(source, breached.fingerprint, jobs=0)
        source.close()
    assert [fault.resource for fault in result.faults] == [path]


class _Failing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


def test_a_server_that_fails_is_a_temporary_failure_and_no_verdict() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        source = HttpSource(f"http://127.0.0.1:{server.server_address[1]}/", attempts=2, backoff_s=0.01)
        with pytest.raises(TemporaryFailure, match="503"):
            audit(source, bytes(32), jobs=0)
        source.close()
        server.shutdown()
        thread.join()
