"""load and diff of TOML, `.env` and directories of files."""

from __future__ import annotations

import pathlib

from tests.helpers.command_line import Command


def test_a_directory_is_loaded_with_the_names_of_its_files(
    cli: Command, tmp_path: pathlib.Path
) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "net.yaml").write_text("mtu: 1500\n")
    (directory / "dns.toml").write_text("[server]\nport = 53\n")
    (directory / "app.env").write_text("LEVEL=debug\n")

    result = cli("load", "sqlite:///a.db", "etc")
    assert result.out == "loaded 3 keys in 1 transaction, revision 1\n"
    assert "1 key without a slash holds a mapping" in result.err
    assert cli("diff", "sqlite:///a.db", "etc").code == 0
    result = cli("diff", "sqlite:///a.db", "etc", "--flatten", "/")
    assert result.code == 1
    assert result.out.splitlines() == [
        '- dns/server  {"port":53}',
        "+ dns/server/port  53",
    ]


def test_what_is_wrong_in_a_directory_names_its_file(cli: Command, tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    result = cli("load", "sqlite:///a.db", "etc")
    assert result.code == 2
    assert "etc holds no file of a format that is known" in result.err

    (directory / "net.yaml").write_text("a: 1\nmtu: 1500\n")
    (directory / "net.toml").write_text("mtu = 1500\n")
    result = cli("load", "sqlite:///a.db", "etc")
    assert result.error == (
        "etc/net.yaml, line 2, column 1: the key 'net/mtu' is given by etc/net.toml too; nothing "
        "was written"
    )
    assert not (tmp_path / "a.db").exists()
    result = cli("load", "sqlite:///a.db", "etc", "--format", "yaml")
    assert "leave out --format" in result.err


def test_dump_writes_no_format_that_load_alone_reads(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", "sqlite:///a.db", "a", "1")
    result = cli("dump", "sqlite:///a.db", "-o", "a.toml")
    assert result.code == 2
    assert "toml files are read, not written; add --format jsonl|json|yaml" in result.err
    result = cli("dump", "sqlite:///a.db", "-o", "a.txt")
    assert result.code == 2
    assert result.error == (
        "the name 'a.txt' does not tell the format; add --format jsonl|json|yaml"
    )
