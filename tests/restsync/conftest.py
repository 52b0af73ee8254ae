"""What the tests of REST share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.rest.browser import quit_chromium


@pytest.fixture(scope="session", autouse=True)
def no_chromium_left() -> Iterator[None]:
    """The browser that tests share is ended behind the last of them."""
    yield
    quit_chromium()
