"""A directory of documents: which files count, and how their keys begin."""

from __future__ import annotations

import pathlib

from datasync.documents.directory import documents_in


def test_what_an_ending_names_counts_and_nothing_hidden(tmp_path: pathlib.Path) -> None:
    names = [
        ".env", "app.env", "net.yaml", "sub/b.c.toml", "x.JSON",
        ".net.yaml.swp", ".hidden.yaml", "net.yaml~", "README", "4913", ".git/config.toml",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dangling.yaml").symlink_to("nothing")
    (tmp_path / "sub/back").symlink_to(tmp_path)

    found, directories = documents_in(str(tmp_path))
    assert [(one.name, one.format, one.prefix) for one in found] == [
        (".env", "env", ""),
        ("app.env", "env", "app/"),
        ("dangling.yaml", "yaml", "dangling/"),
        ("net.yaml", "yaml", "net/"),
        ("sub/b.c.toml", "toml", "sub/b.c/"),
        ("x.JSON", "json", "x/"),
    ]
    assert directories == [str(tmp_path), str(tmp_path / "sub")]
