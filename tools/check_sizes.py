"""Fails where a source file has more lines than one job needs."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 500
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def main() -> int:
    """The exit code: 1 when a file is too long."""
    files = [path for path in sorted(Path("src").rglob("*.py*")) if path.suffix in {".py", ".pyi"}]
    sizes = {path: len(path.read_text().splitlines()) for path in files if not path.name.endswith(GENERATED)}
    long = {path: size for path, size in sizes.items() if size > LIMIT}
    for path, size in long.items():
        print(f"{path}: {size} lines; above {LIMIT} a file has more than one job: split it", file=sys.stderr)
    return 1 if long or not sizes else 0


if __name__ == "__main__":
    sys.exit(main())
