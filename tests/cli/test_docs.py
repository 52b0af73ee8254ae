"""docs/cli.md shows what the commands really print."""

from __future__ import annotations

import pathlib
import re
import shlex

from tests.helpers.command_line import Command

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_examples(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.json").write_text('{"a": 1,\n "b": }')
    shown = 0
    for block in re.findall(r"```console\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, expected = example.partition("\n")
            program, command, *words = shlex.split(line)
            if program == "cat":
                (tmp_path / command).write_text(expected)
                continue
            assert program == "datasync"
            if command == "watch" or (command == "mirror" and "--once" not in words):
                continue  # these go on; test_read_write and test_mirror have their lines
            result = cli(command, *words)
            assert result.out + result.err == expected, line
            shown += 1
    assert shown > 12
