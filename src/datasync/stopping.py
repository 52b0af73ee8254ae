"""Which signals ask a program to stop."""

from __future__ import annotations

import signal
import sys
import threading

__all__ = ["stop_signals"]


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGINT and SIGTERM, without those that this program was started to ignore; none outside the
    main thread, which Python calls for all of them.

    A shell does that with SIGINT for what a script runs in the background (`command
    &`): Ctrl-C is meant for the script and what it waits for, and ends neither a watch
    nor an agent that runs beside it.
    """
    # the loops of Windows handle none: there Ctrl-C cancels the main task, which ends it as well
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        return ()
    signals = (signal.SIGINT, signal.SIGTERM)
    return tuple(number for number in signals if signal.getsignal(number) is not signal.SIG_IGN)
