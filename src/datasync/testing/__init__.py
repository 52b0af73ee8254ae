"""Tools for tests of handlers, of transports and of the engine itself;
docs/testing.md has worked examples.

`FaultySource` fails on demand, `SimLoop` and `run_simulated` run on a virtual clock, `Recorder`
writes down a trace and `check` holds it against the guarantees; `simulate` makes one from a seed,
`simulate_reports` one of agents that report.
The contract suite for transports is in `datasync.testing.contract`, which needs pytest.
"""

from datasync.testing.faults.source import FaultySource
from datasync.testing.faults.store import EXACT
from datasync.testing.simulation.loop import Deadlock, RealIO, SimLoop, run_simulated
from datasync.testing.simulation.reporting import simulate_reports
from datasync.testing.simulation.schedule import PROFILES, simulate
from datasync.testing.trace.checker import VALIDATORS, Violation, check
from datasync.testing.trace.recorder import RecordedStream, Recorder
from datasync.testing.trace.records import dump, load

__all__ = [
    "EXACT",
    "PROFILES",
    "VALIDATORS",
    "Deadlock",
    "FaultySource",
    "RealIO",
    "RecordedStream",
    "Recorder",
    "SimLoop",
    "Violation",
    "check",
    "dump",
    "load",
    "run_simulated",
    "simulate",
    "simulate_reports",
]
