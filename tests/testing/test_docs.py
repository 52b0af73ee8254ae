"""The worked example of docs/testing.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_example_holds() -> None:
    blocks = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(_PAGE), "exec"), {"__name__": "docs"})
