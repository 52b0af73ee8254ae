"""All parts of the contract suite in one class."""

from __future__ import annotations

from datasync.testing.contract.changes import Changes
from datasync.testing.contract.closing import Closing
from datasync.testing.contract.feedback import Feedback
from datasync.testing.contract.handover import Handover
from datasync.testing.contract.isolation import Isolation
from datasync.testing.contract.reading import Reading
from datasync.testing.contract.recovery import Recovery
from datasync.testing.contract.registering import Registering
from datasync.testing.contract.reporting import Reporting
from datasync.testing.contract.resyncs import Resyncs
from datasync.testing.contract.verdicts import Verdicts
from datasync.testing.contract.watching import Watching
from datasync.testing.contract.writing import Writing

__all__ = ["ContractSuite"]


class ContractSuite(
    Resyncs,
    Handover,
    Registering,
    Changes,
    Feedback,
    Verdicts,
    Recovery,
    Isolation,
    Writing,
    Reading,
    Watching,
    Reporting,
    Closing,
):
    """Proves a transport against the guarantees G1 to G12. Subclass it and write `store`.

    Every test runs in an event loop of its own, on a store of its own, may take `deadline` seconds,
    and fails if it leaves a task, a thread or an unhandled error behind.
    """
