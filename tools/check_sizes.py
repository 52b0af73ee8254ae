"""Fails where a source file has more statements than one job needs.

Statements, not lines, and docstrings do not count: nobody is to set text solid, or to say less,
to stay below a limit.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

LIMIT = 400
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def main() -> int:
    """The exit code: 1 when a file has too much in it."""
    files = [
        path for path in sorted(Path("src").rglob("*.py")) if not path.name.endswith(GENERATED)
    ]
    sizes = {path: statements(path.read_text()) for path in files}
    large = {path: size for path, size in sizes.items() if size > LIMIT}
    for path, size in large.items():
        print(
            f"{path}: {size} statements; above {LIMIT} a file has more than one job: split it",
            file=sys.stderr,
        )
    return 1 if large or not sizes else 0


def statements(source: str) -> int:
    """How many statements it has, nested ones too, without docstrings."""
    return sum(
        isinstance(node, ast.stmt) and not _is_text(node) for node in ast.walk(ast.parse(source))
    )


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


if __name__ == "__main__":
    sys.exit(main())
