"""What the tests of REST share."""

from __future__ import annotations

import pytest

from tests.helpers.rest.browser import quit_chromium


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Chromium is ended behind the last of the tests that share it, which follow one another."""
    if nextitem is None or ("browser",) not in [m.args for m in nextitem.iter_markers("alone")]:
        quit_chromium()
