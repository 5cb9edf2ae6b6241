"""A missing component is a failure in CI and a visible skip elsewhere."""

from __future__ import annotations

import pytest

from tests.components import needs, needs_module


def test_it_gives_the_path_of_a_program_that_is_there() -> None:
    assert needs("sh").endswith("/sh")


def test_it_skips_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match=r"nosuchprogram is not installed \(apt-get install nosuch\)"):
        needs("nosuchprogram", "nosuch")


def test_it_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="in CI every component has to be there"):
        needs_module("no_such_module")
