"""Documents in another encoding than UTF-8."""

from __future__ import annotations

import pytest

from datasync.documents import FORMATS, BadFile, entries


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_what_a_windows_shell_writes_is_named(format: str, encoding: str) -> None:
    data = "\ufeffa: ä\r\n".encode(encoding)
    with pytest.raises(BadFile, match=r"column 1: the file is UTF-16; save it as UTF-8$"):
        list(entries(format, "f", data))
