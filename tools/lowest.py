"""Prints the lower bound of each dependency that pyproject.toml declares, as constraints for pip.

What is declared without a bound, and what our dependencies need themselves, stays as new as it can
be.
"""

from __future__ import annotations

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

# name[extras]>=version,... ; other dependencies than these have no lower bound
_BOUND = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*>=\s*([\w.]+)")


def lowest(pyproject: str) -> list[str]:
    """The constraints, in the order of the names.

    Raises SystemExit where one package has two bounds.
    """
    declared = tomllib.loads(pyproject)
    project, groups = declared["project"], declared["dependency-groups"]
    extras = project["optional-dependencies"].values()
    bounds: dict[str, str] = {}

    for requirement in chain(project["dependencies"], *extras, *groups.values()):
        if bound := _BOUND.match(requirement):
            name, version = bound.groups()
            first = bounds.setdefault(name, version)
            if first != version:
                raise SystemExit(
                    f"pyproject.toml: {name} has the lower bounds {first} and {version}; "
                    "give it one"
                )

    return [f"{name}=={version}" for name, version in sorted(bounds.items())]


if __name__ == "__main__":
    print("\n".join(lowest(Path(sys.argv[1]).read_text())))
