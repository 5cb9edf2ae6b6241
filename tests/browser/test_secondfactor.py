"""The authenticator app of the journey shows what the standard says."""

from __future__ import annotations

import base64

import pytest

from tests.browser.secondfactor import code

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(("at", "shown"), [(59, "287082"), (1111111109, "081804"), (20000000000, "353130")])
def test_it_shows_the_codes_of_rfc_6238(at: float, shown: str) -> None:
    assert code(SECRET, at) == shown
