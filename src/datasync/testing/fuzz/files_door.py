"""Files for `load`: what they hold is read and comes back the same, or one error
tells where they are wrong."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
from collections.abc import AsyncIterator
from typing import Any

from datasync.checks import check_key
from datasync.cli.formats import FORMATS, READ_FORMATS, File, Keys, writer
from datasync.documents import BadFile, KeyTemplate
from datasync.testing.fuzz.door import Door, Finding, mutated, typed

__all__ = ["door"]

_TOKENS = [
    b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\r\n", b"\t",
    b"null", b"NaN", b"-", b"1e999", b"9" * 5000, b'"key":', b'"value":',
    b'{"$base64":', b'{"header":{"cluster_id":1},"kvs":[', b'[{"key":"a","flags":0,"value":"',
    b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xed\xa0\x80", b"&a ", b"*a", b"<<: *a", b"!!binary ", b"!!python/object:os.system ",
    b"!!set ", b"!!int ", b"!!float ", b"? ", b"- ", b"---\n", b"...\n", b"|\n", b">\n",
    b"%YAML 9.9\n", b"%TAG ! x\n", b"#", b"'", b"\xc2\x85",
    b"[" * 3000, b"{a: " * 300, b"!!timestamp 9999-99-99", b"2001-01-01", b"0o17", b"1:60",
    b"!!omap ", b"!<x> ", b"!!merge ", b"- " * 200, b"+.5e-7", b"007", b"!!null ", b".inf",
    b"0x" + b"f" * 5000, b"[[a]]\n", b"[a.b]\n", b"=", b"'''", b"a.b.c=", b"1979-05-27 07:32:00Z",
    b"export ", b"[a." + b"a." * 300,
]  # fmt: skip
_WORDS = [
    "",
    "a",
    "b/c",
    "key",
    "value",
    "<<",
    "=",
    "yes",
    "~",
    "ä\u2028",
    "\U0001f600",
    "$base64",
    "x" * 300,
    "1",
]


_KEYS = [Keys(), Keys(flatten="/"), Keys(template=KeyTemplate("a/{key}"))]


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """Needs nothing."""

    async def case(rng: random.Random) -> str:
        kind = rng.choice(READ_FORMATS)
        data = _drawn(rng, kind)
        data = mutated(rng, data, _TOKENS) if rng.random() < 0.95 else data
        return _read(data, kind, rng.choice(_KEYS))

    async def works() -> None:
        for kind, data in (
            ("json", b'{"k": 1}'),
            ("yaml", b"k: 1\n"),
            ("jsonl", b'{"key": "k", "value": 1}\n'),
            ("toml", b"k = 1\n"),
            ("env", b"k=1\n"),
        ):
            if _entries(data, kind) != {"k": b"1"}:
                raise Finding(f"a good file is not read: {kind}")

    yield Door(case, works)


def _read(data: bytes, format: str, keys: Keys) -> str:
    with typed(BadFile) as outcome:
        entries = _entries(data, format, keys)
        for other in FORMATS:
            written = io.BytesIO()
            with writer(written, other) as write:
                for key, raw in entries.items():
                    write(key, raw)
            if _entries(written.getvalue(), other) != entries:
                raise Finding(f"as {other} it does not come back: {data!r}")
    return f"{format}: {outcome.name}"


def _entries(data: bytes, format: str, keys: Keys = Keys()) -> dict[str, bytes]:  # noqa: B008
    file = File("f", io.BytesIO(data), format, keys)
    file.check(lambda key: check_key(key, rooted=False))
    return {entry.key: entry.raw for entry in file}


def _drawn(rng: random.Random, format: str) -> bytes:
    items = {f"{rng.choice(_WORDS)}{number}": _value(rng, 3) for number in range(rng.randint(0, 4))}
    if format == "jsonl":
        return b"".join(
            json.dumps({"key": key, "value": value}).encode() + b"\n"
            for key, value in items.items()
        )
    if format in ("toml", "env"):
        sign = " = " if format == "toml" else "="
        return "".join(
            f"{json.dumps(key) if format == 'toml' else key}{sign}{json.dumps(value)}\n"
            for key, value in items.items()
        ).encode()
    text = json.dumps(items, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
    if format == "yaml" and rng.random() < 0.8:
        text = "".join(
            f"{json.dumps(key)}:\n  {json.dumps(value)}\n" for key, value in items.items()
        )
    return text.encode()


def _value(rng: random.Random, depth: int) -> Any:
    match rng.randrange(9 if depth else 6):
        case 0:
            return rng.choice([0, -1, 1 << 70, 0.1, 1e300, True, None])
        case 1:
            return {"$base64": base64.b64encode(rng.randbytes(4)).decode()}
        case 2 | 3 | 4 | 5:
            return rng.choice(_WORDS)
        case 6:
            return [_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
        case _:
            return {rng.choice(_WORDS): _value(rng, depth - 1) for _ in range(rng.randint(0, 3))}
