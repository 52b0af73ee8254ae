"""The command `datasync`, also as `python -m datasync`: the command line as a process."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command that the arguments of this process name; its exit code.

    G12: Ctrl-C ends it without a traceback, also while its parts are loaded, and once it is done.
    """
    try:
        from datasync.cli import main as command

        return command()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        # what is left is Python's own end, which prints an interrupt, and goes on
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
