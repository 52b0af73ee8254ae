"""One benchmark in a process of its own: its rows as JSON lines on stdout.

Each run begins with a fresh process, so that none is measured on what another left in memory, and
so that the library may be that of another checkout (`PYTHONPATH`).
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import traceback

import msgspec

from bench.instructions import counted

__all__ = ["main"]


def main() -> int:
    """The exit code: 1 when the benchmark failed, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bench.child")
    parser.add_argument("module")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--instructions", action="store_true")
    args = parser.parse_args()
    # whatever it inherited: who started it ends it that way, and it ends its servers then
    signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        benchmark = importlib.import_module(args.module)
        for row in counted(benchmark) if args.instructions else benchmark.run(args.quick):
            print(msgspec.json.encode(row).decode(), flush=True)
    except KeyboardInterrupt:
        return 130
    except FileNotFoundError as error:  # a server that is not installed says how to install it
        print(f"{args.module}: {error}", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
