"""How the process ends: signals, a reader that goes away,
and errors in one line without secrets.
"""

from __future__ import annotations

import itertools
import logging
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile

import pytest

from datasync.terminal import output
from datasync.terminal.process import log_lines
from datasync.texts import ADVICE
from tests.helpers.command_line import SECONDS, Command, Shell, eventually

URL = "sqlite:///a.db"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watch_cleanly(
    shell: Shell, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    shell.run("put", URL, "k", "v")
    watch = shell.start("watch", URL)
    watch.wait_for("PUT k  v")
    assert (tmp_path / "a.db-wal").exists()
    assert watch.end(number) == 128 + number
    assert watch.err == b""
    assert not (tmp_path / "a.db-wal").exists()  # the store was closed


# what each of them does, it does with the process itself: it sends SIGINT
MOMENTS = {
    "while its parts are loaded": """
class Finder:
    def find_spec(self, name, *_):
        if name == "datasync.cli":
            interrupt()
sys.meta_path.insert(0, Finder())""",
    "while its last lines are written": """
from datasync.terminal.process import LogLines
LogLines.close = interrupt""",
    "while Python ends": "atexit.register(interrupt)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_no_traceback(shell: Shell, moment: str) -> None:
    code = f"""
import atexit, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
{MOMENTS[moment]}
from datasync.__main__ import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "capabilities"], env=shell.env, capture_output=True
    )
    assert done.returncode in {-signal.SIGINT, 128 + signal.SIGINT}  # to a shell they are the same
    assert done.stderr == b""


# how often it is asked to end, until it does
STUBBORN = """
import asyncio, signal, sys
from datasync.terminal.process import run

signal.signal(signal.SIGINT, signal.default_int_handler)

async def work():
    for _ in range(int(sys.argv[1])):
        try:
            print("on", flush=True)
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
    return 0

sys.exit(run(work()))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("asked", "ends_with"), [(1, 128), (2, 128), (3, None)])
def test_each_signal_waits_for_less(
    number: signal.Signals, asked: int, ends_with: int | None
) -> None:
    """The second one ends the cleaning up, and the third one the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(asked)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        for _ in range(asked):
            assert process.stdout.readline() == b"on\n"
            process.send_signal(number)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == (-number if ends_with is None else ends_with + number)
    assert err == b""


def test_a_signal_while_a_file_is_parsed(shell: Shell, tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "slow.jsonl")
    load = shell.start("load", URL, "slow.jsonl")
    with (tmp_path / "slow.jsonl").open("wb") as file:  # opens once the command reads
        file.write(b'{"key":"k","value":"v"}\n')
        file.flush()
        tries = itertools.count()

        def ended() -> bool:
            # Python may miss a signal until the next read; then one presses again
            if next(tries) % 100 == 0:
                load.process.send_signal(signal.SIGINT)
            return load.process.poll() is not None

        eventually(ended, "it ends")
        assert load.wait() == 130
    assert (load.out, load.err) == (b"", b"")
    assert not (tmp_path / "a.db").exists()


def test_output_that_nobody_reads_any_more(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"key":"k{number:05}","value":1}}\n' for number in range(20_000))
    )
    shell.run("load", URL, "a.jsonl")
    for words in (["ls", URL], ["dump", URL], ["watch", URL], ["ls", URL, "--json"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "datasync", *words],
            cwd=tmp_path,
            env=shell.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        shell.started.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(SECONDS) == 141
        assert process.stderr.read() == b""


def test_a_quiet_watch_notices_that_its_reader_has_gone(
    shell: Shell, tmp_path: pathlib.Path
) -> None:
    shell.run("put", URL, "k", "v")
    process = subprocess.Popen(
        [sys.executable, "-m", "datasync", "watch", URL],
        cwd=tmp_path,
        env=shell.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    shell.started.append(process)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b"RESYNC")
    assert process.stdout.readline() == b"@1 PUT k  v\n"
    process.stdout.close()  # no change comes any more
    assert process.wait(SECONDS) == 141
    assert process.stderr.read() == b""
    assert not (tmp_path / "a.db-wal").exists()


def test_an_unexpected_error_is_one_line(cli: Command, plugin: None) -> None:
    result = cli("get", "broken://user:secret@host/x?token=secret", "k")
    assert result.code == 1
    assert (
        result.error
        == "unexpected RuntimeError: cannot open broken://user@host/x; --debug shows where"
    )
    result = cli("get", "broken://user:secret@host/x?token=secret", "k", "--debug")
    assert result.code == 1
    assert result.err.startswith("Traceback (most recent call last)")
    assert result.err.rstrip().endswith(
        "datasync: unexpected RuntimeError: cannot open broken://user@host/x"
    )
    assert "secret" not in result.err


def test_a_source_that_is_away_is_one_line(
    cli: Command, tmp_path: pathlib.Path, plugin: None
) -> None:
    (tmp_path / "a.json").write_text('{"k": "v"}')
    cli("put", URL, "k", "v")
    away = "gone://"
    for code, *words in (
        (1, "get", away, "k"),
        (1, "ls", away),
        (1, "put", away, "k", "v"),
        (1, "del", away, "k"),
        (1, "load", away, "a.json"),
        (1, "dump", away),
        (2, "diff", URL, away),
        (1, "mirror", URL, away, "--once"),
        (1, "mirror", away, URL, "--once"),
    ):
        result = cli(*words)
        assert (result.code, result.out) == (code, ""), words
        assert result.error == "gone:// does not answer; see whether it runs", words


def test_passwords_are_never_shown(cli: Command) -> None:
    for words in (
        ["get", "nosuch://user:secret@host/x?token=secret", "k"],
        ["get", "sqlite://user:secret@host/x?token=secret", "k"],
        ["get", "sqlite:///a.db?token=secret", "k"],
        ["get", "memory://user:secret@x", "k"],
        ["get", "memory://", "k", "etcd://user:secret@host"],
        ["get", "memory://", "--etcd://user:se@cret@host"],
        ["etcd://user:secret@host"],
        ["watch", "memory://", "etcd://user:secret@host"],
        ["mirror", "etcd://user:secret@host", "x"],
        ["mirror", "memory://user:secret@a", "memory://user:secret@a"],
        ["capabilities", "nosuch://user:secret@host"],
        ["diff", "memory://a", "nosuch://user:secret@host"],
        ["load", "nosuch://user:secret@host", "x.json"],
        ["etcd:/user:secret@host"],
        ["etcd:/user:a secret@host"],
        ["get", "etcd:/user:secret@host", "k"],
        ["get", "etcd://user:se/cret@host", "k"],
        ["get", "etcd://user:12?secret@host", "k"],
        ["get", "redis://user:12#secret@host", "k"],
        ["get", "redis:/user:secret", "k"],
        ["get", "memory://", "k", "--etcd:/user:a secret@host"],
        ["get", "memory://", "k", "--prefix", "etcd:/user:a\nsecret@host"],
        ["watch", "memory://", "--count", "etcd:/user:a 'secret\"@host"],
        ["load", "memory://", "etcd:/user:secret@host.json"],
        ["serve", "memory://", "--http", "user:se/cret@host:1"],
    ):
        result = cli(*words)
        assert result.code in (1, 2), words
        assert result.error
        assert "secret" not in result.err + result.out, words
        assert "cret" not in result.err + result.out, words


def test_redacting() -> None:
    assert output.redact("etcd://me:pass@h:1,h:2/x lost") == "etcd://me:***@h:1,h:2/x lost"
    assert output.redact("etcd://me:p@ss/w@h:1") == "etcd://me:***@h:1"
    assert output.redact("redis://:p@h 'a://b?token=t'") == "redis://:***@h 'a://b?...'"
    assert (
        output.redact("etcd://127.0.0.1:2379 is lost; x@y") == "etcd://127.0.0.1:2379 is lost; x@y"
    )


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("redis+sentinel://me:p@h/m?sentinel_password=s3cret", "...@h/m?..."),
        ("http://h?token=abc@s3cret", "..."),
        ("http://h?token=one s3cret", "http://h?..."),
        ("http://h?token='\ns3cret", "http://h?..."),
        ("http:/h?token=s3cret", "http:/h?..."),
        ("http://h#token=s3cret", "http://h#..."),
        ("etcd://me:s3cret?s3cret@h", "..."),
        ("etcd://me:s3cret#s3cret@h?x=s3cret", "..."),
        ("me:s3cret@h", "...@h"),
        ("me@h:1?x", "me@h:1?..."),
        ("what?", "what?"),
    ],
)
def test_a_word_of_the_command_line_shows_no_secret(cli: Command, word: str, shown: str) -> None:
    done = cli("get", "memory://", "a", word)
    assert done.code == 2
    assert f"unexpected argument {shown!r};" in done.error.replace('"', "'")
    assert "s3cret" not in done.err


def test_bad_urls_and_stores(cli: Command, tmp_path: pathlib.Path) -> None:
    """What the issue lists under bad input, as the command line shows it."""
    (tmp_path / "text.db").write_text(
        "this is no database, but a text that is long enough to look at" * 20
    )
    (tmp_path / "empty.db").touch()
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t(x)")
    other.commit()
    other.close()
    cli("put", "sqlite:///newer.db", "k", "v")
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 999")
    newer.commit()
    newer.close()
    cli("put", URL, "k", "v")
    for code, says, *words in (
        (2, "unknown scheme 'nosuch'; this installation knows ", "get", "nosuch://x", "k"),
        (2, "unknown query key 'x'", "get", "sqlite:///a.db?x=1", "k"),
        (2, "given twice", "get", "sqlite:///a.db?keep=1&keep=2", "k"),
        (2, "takes a number", "get", "sqlite:///a.db?keep=no", "k"),
        (2, "is not a URL", "get", "a.db", "k"),
        (2, "etcd://: invalid IPv6 URL; write [ipv6]:port", "get", "etcd://[::1", "k"),
        (2, "write [ipv6]:port", "serve", URL, "--grpc", "[::1"),
        (2, "control character", "get", "sqlite:///a\n.db", "k"),
        (2, "write sqlite:///file.db", "get", "sqlite://a.db", "k"),
        (2, "names no file", "get", "sqlite://", "k"),
        (1, "there is no file", "get", "sqlite:///missing.db", "k"),
        (1, "there is no file", "ls", "sqlite:///missing.db"),
        (1, "there is no file", "del", "sqlite:///missing.db", "k"),
        (1, "there is no file", "dump", "sqlite:///missing.db"),
        (1, "there is no file", "watch", "sqlite:///missing.db"),
        (1, "there is no file", "mirror", "sqlite:///missing.db", URL),
        (1, "there is no file", "mirror", "sqlite:///missing.db", URL, "--once"),
        (2, "there is no file", "diff", "sqlite:///missing.db", URL),
        (1, "is empty, so it is not a store", "get", "sqlite:///empty.db", "k"),
        (1, "is empty, so it is not a store", "mirror", "sqlite:///empty.db", URL),
        (1, "is empty, so it is not a store", "mirror", "sqlite:///empty.db", URL, "--once"),
        (2, "memory:// is always empty here", "mirror", "memory://", URL),
        (2, "memory://name is always empty here", "mirror", "memory://name", URL, "--once"),
        (1, "there is no directory", "put", "sqlite:///missing/a.db", "k", "v"),
        (1, "is a directory", "put", "sqlite:////tmp", "k", "v"),
        (1, "text.db", "get", "sqlite:///text.db", "k"),
        (1, "of another program", "get", "sqlite:///other.db", "k"),
        (1, "has format 999", "get", "sqlite:///newer.db", "k"),
        (2, "takes no writes; leave out ?immutable=1", "put", "sqlite:///a.db?immutable=1", "k", "v"),
        (2, "a key is not empty", "get", URL, ""),
        (2, "a key is not empty", "put", URL, "", "v"),
        (2, "half a surrogate pair", "put", URL, "\udcff", "v"),
        (2, "starts with '/'", "put", URL, "/k", "v", "--prefix", "p/"),
        (2, "'p' would match its neighbours too; write 'p/'", "ls", URL, "p"),
        (2, "'p' would match its neighbours too; write 'p/'", "watch", URL, "p"),
        (2, "'p' would match its neighbours too; write 'p/'", "ls", URL, "--prefix", "p"),
        (2, "'p' would match its neighbours too; write 'p/'", "dump", URL, "p"),
        (2, "'p' would match its neighbours too; write 'p/'", "diff", URL, URL, "p"),
        (2, "'p' would match its neighbours too; write 'p/'", "mirror", URL, "sqlite:///b.db", "p"),
        (2, "'p' would match its neighbours too; write 'p/'", "mirror", URL, "sqlite:///b.db", "p", "--once"),
        (2, "'p' would delete its neighbours too; write 'p/'", "del", URL, "-r", "p"),
        (2, "the prefix '\\udcff/' holds half a surrogate pair", "ls", URL, "\udcff/"),
        (2, "the prefix '\\udcff/' holds half a surrogate pair", "watch", URL, "\udcff/"),
        (2, "the prefix '\\udcff/' holds half a surrogate pair", "get", URL, "k", "--prefix", "\udcff/"),
        (2, "the label '\\udcff' is not a name", "get", URL, "k", "--label", "\udcff"),
        (2, "the label 'a/b' is not a name", "ls", URL, "--label", "a/b"),
        (2, "a/", "watch", URL, "a/", "a/"),
        (2, "is both SRC and DST", "mirror", URL, URL),
        (2, "takes no writes", "mirror", URL, "sqlite:///b.db?immutable=1"),
        (1, "a.json", "load", URL, "a.json"),
        (1, "Is a directory; name a file that can be read", "put", URL, "k", "--file", "."),
        (1, "No such file or directory; name a file that can be read", "put", URL, "k", "--file", "missing"),
    ):  # fmt: skip
        result = cli(*words)
        assert says in result.error, words
        assert result.code == code, (words, result)
        assert result.out == "", words
    for created in ("missing.db", "b.db"):
        assert not (tmp_path / created).exists()
    assert cli("ls", URL).out == "k\n"


@pytest.mark.skipif(os.getuid() != 0, reason="changes the user to one who may not write")
def test_a_read_only_file() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # all is imported as root: the user to come may not even read the Python that runs
        start = (
            "import importlib.metadata, os, sys, datasync.cli, datasync.kvdbsync.sqlite; "
            "importlib.metadata.version('datasync'); os.chdir(sys.argv.pop(1)); "
        )
        drop = "os.setgid(65534); os.setuid(65534); "

        def run(*words: str, as_nobody: bool = True) -> subprocess.CompletedProcess[str]:
            code = start + (drop if as_nobody else "") + "sys.exit(datasync.cli.main())"
            command = [sys.executable, "-c", code, name, *words]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, check=False
            )

        assert run("put", URL, "k", "v", as_nobody=False).returncode == 0
        folder.chmod(0o777)
        (folder / "a.db").chmod(0o444)
        done = run("put", URL, "k", "v")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("datasync: ")
        assert "read-only" in done.stderr
        assert done.stderr.count("\n") == 1
        folder.chmod(0o755)
        done = run("put", "sqlite:///b.db", "k", "v")
        assert done.returncode == 1
        assert "read-only directory" in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_demo_is_run_where_there_is_one(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasync.demo", None)
    result = cli("demo")
    assert result.code == 1
    assert "no datasync.demo" in result.error
    demo = type(sys)("datasync.demo")
    given: list[str] = []

    def play(argv: list[str]) -> int:
        given.extend(argv)
        return 7

    demo.main = play  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasync.demo", demo)
    assert cli("demo", "--fast", "x", "--debug").code == 7
    assert given == ["--fast", "x"]


@pytest.mark.parametrize("debug", [False, True])
def test_what_the_log_says_of_a_watch_is_for_debugging(
    capsys: pytest.CaptureFixture[str], debug: bool
) -> None:
    """A command tells in its own words what it could not apply."""
    with log_lines(debug=debug):
        logging.getLogger("datasync.watch").warning("source: CHANGE failed")
        logging.getLogger("datasync.sqlite").warning("a warning")
    said = capsys.readouterr().err
    assert "a warning" in said
    assert ("CHANGE failed" in said) is debug


@pytest.mark.parametrize("follows", [False, True])
def test_advice_is_for_commands_that_go_on(
    capsys: pytest.CaptureFixture[str], follows: bool
) -> None:
    with log_lines(debug=False) as lines:
        lines.follows = follows
        logging.getLogger("datasync.sqlite").warning("has a defect", extra={ADVICE: True})
    assert ("has a defect" in capsys.readouterr().err) is follows
