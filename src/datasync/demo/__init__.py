"""The demonstration: an agent on SQLite, fed with the network of this
machine. `python -m datasync demo`.

To read as an example: `agent.py` first, then `story.py`, `faults.py` and `reconciled.py`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from datasync.errors import MissingExtra

__all__ = ["main"]


def main(argv: Sequence[str] = ()) -> int:
    """Play it: 0 if all checks held, 1 if not, 2 for wrong usage, 130 after a
    Ctrl-C. Raises `MissingExtra`."""
    if argv:
        sys.stderr.write("datasync: the demo takes no arguments; leave them out\n")
        return 2
    try:
        for needed in ("google.protobuf", "orjson"):
            importlib.import_module(needed)
    except ModuleNotFoundError:
        raise MissingExtra(
            "the demo stores protobuf messages; install what they need with: pip install "
            "'datasync[protobuf]'"
        ) from None
    from datasync.demo import play  # not before: it imports protobuf

    return play.run()
