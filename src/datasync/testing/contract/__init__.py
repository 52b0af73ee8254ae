"""The contract suite: it proves a transport against the guarantees, on its real server.

    class TestMyTransport(ContractSuite):
        @contextlib.asynccontextmanager
        async def store(self):
            yield Store(url="mine://127.0.0.1:4000")      # fresh and empty for each test

The suite reads the `Capabilities` that the source declares: what is not promised is not skipped,
its declared alternative is asserted. A test that needs a hook of the store (see `Store`) is
skipped with the hook's name if the store has none. docs/transports.md has a complete example.
Needs pytest, and no plugin of it.
"""

from __future__ import annotations

import pytest

_PARTS = (
    "changes",
    "closing",
    "feedback",
    "handover",
    "isolation",
    "naming",
    "probe",
    "reading",
    "recovery",
    "reporting",
    "resyncs",
    "scenario",
    "traffic",
    "verdicts",
    "waiting",
    "watching",
    "writing",
)
# a failing assertion of the suite shows its values, as in any test file
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from datasync.testing.contract.harness import Store, Writer  # noqa: E402
from datasync.testing.contract.probe import Probe  # noqa: E402
from datasync.testing.contract.suite import ContractSuite  # noqa: E402
from datasync.testing.contract.waiting import eventually  # noqa: E402

__all__ = ["ContractSuite", "Probe", "Store", "Writer", "eventually"]
