"""The requirement helper skips with a reason, and fails where everything must be there."""

from __future__ import annotations

import sys

import pytest
from requirements import require, require_executable


def test_what_is_there_is_returned() -> None:
    assert require("json").dumps(1) == "1"
    assert require_executable("sh").endswith("sh")


def test_what_is_absent_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs the Python package no_such_package"):
        require("no_such_package")
    monkeypatch.setenv("REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="REQUIRE_ALL=1"):
        require("no_such_package.inner")
    with pytest.raises(pytest.fail.Exception, match="needs the executable"):
        require_executable("no-such-executable")
    assert "no_such_package" not in sys.modules
