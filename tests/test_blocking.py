"""The face without asyncio: the same names, and what is its own: threads, signals, forks, the end of the program.

That it keeps the guarantees is shown by the contract suite, in contract/test_blocking.py.
"""

from __future__ import annotations

import contextlib
import http.client
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import datasync
from datasync import blocking
from datasync.blocking import (
    BadKey,
    DataSync,
    NotApplied,
    NotReady,
    Refused,
    UsageError,
    Verdict,
    WatchClosed,
    WrongLoop,
)
from tests.helpers.servers import PATIENCE, child

FACES: list[tuple[type, type]] = [
    (datasync.DataSync, DataSync),
    (datasync.Watch, blocking.Watch),
    (datasync.View, blocking.View),
    (datasync.Txn, blocking.Txn),
]
RENAMED = {"aclose": "close"}
LEFT_OUT = {"status_app"}  # an ASGI application, in the loop of others


def members() -> Iterator[Any]:
    for asyncio_face, blocking_face in FACES:
        for name in sorted(set(dir(asyncio_face)) - LEFT_OUT):
            if not name.startswith("_") or (name == "__init__" and asyncio_face is FACES[0][0]):
                yield pytest.param(
                    getattr(asyncio_face, name),
                    getattr(blocking_face, RENAMED.get(name, name), None),
                    id=f"{asyncio_face.__name__}.{name}",
                )


def shape(function: Any) -> tuple[list[inspect.Parameter], str]:
    signature = inspect.signature(function)
    returned = str(signature.return_annotation).replace("AsyncIterator", "Iterator")
    return list(signature.parameters.values()), returned


def test_the_names_are_those_of_datasync() -> None:
    assert sorted(blocking.__all__) == sorted(datasync.__all__)
    own = {
        name for name in blocking.__all__ if getattr(blocking, name) is not getattr(datasync, name)
    }
    assert own == {"DataSync", "Watch", "View", "Txn"}


@pytest.mark.parametrize(("theirs", "ours"), [*members()])
def test_each_member_is_there_with_its_parameters_and_docstring(theirs: Any, ours: Any) -> None:
    if isinstance(theirs, property):
        assert isinstance(ours, property)
        assert ours.__doc__ == theirs.__doc__
        return
    assert shape(ours) == shape(theirs)
    assert not inspect.iscoroutinefunction(ours)
    overloads = [shape(one) for one in typing.get_overloads(ours)]
    assert overloads == [shape(one) for one in typing.get_overloads(theirs)]
    if theirs.__name__ != "__init__":
        assert ours.__doc__
        assert "await" not in ours.__doc__
        assert "async" not in ours.__doc__
        assert (
            ours.__doc__.splitlines()[0].split()[:2] == theirs.__doc__.splitlines()[0].split()[:2]
        )


@pytest.mark.parametrize("face", [face for _, face in FACES])
def test_it_has_nothing_that_the_other_has_not(face: type) -> None:
    own = {name for name in vars(face) if not name.startswith("_")}
    other = next(theirs for theirs, ours in FACES if ours is face)
    assert own - set(dir(other)) <= {"close"}
    assert face.__doc__


def test_importing_datasync_does_not_import_it() -> None:
    code = "import sys, datasync; print('datasync.blocking' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"


# -- calls ---------------------------------------------------------------------------------------


def test_a_program_from_top_to_bottom(memory_url: str) -> None:
    sync, seen = DataSync(memory_url), []

    @sync.watcher("config/", type=int)
    def config(event: blocking.Event[int]) -> None:
        seen.append([(change.key, change.value) for change in event.changes])

    view = sync.view("config/", type=int)
    with pytest.raises(NotReady):
        len(view)
    with sync:
        sync.ready(60)
        assert sync.put("config/mtu", 1500, confirm=True) == 1
        assert sync.txn().put("config/a", 1).delete("config/mtu").commit(confirm=True) == 2
        assert (view["config/a"], dict(view.items()), len(view)) == (1, {"config/a": 1}, 1)
        found = sync.get("config/a", type=int)
        assert found is not None
        assert found.value == 1
        assert sync.delete("config/", prefix=True, confirm=True)
        view.at_least(3, timeout=60)
        assert view.get("config/a") is None
        assert list(sync.watches) == ["config"]
        assert sync.watches["config"].state.value == "following"
        with sync.of_agent("vpp1") as other:
            other.put("name", b"vpp1")
        assert [kv.key for kv in sync.list("", keys_only=True)] == ["/vnf-agent/vpp1/name"]
    assert seen == [
        [],
        [("config/mtu", 1500)],
        [("config/a", 1), ("config/mtu", None)],
        [("config/a", None)],
    ]
    assert sync.status().watches == []
    assert "datasync loop" not in [thread.name for thread in threading.enumerate()]


def test_before_the_start_and_behind_the_end_it_says_so(memory_url: str) -> None:
    sync = DataSync(memory_url)
    watch = sync.watch("stream", "a/")
    for use in (
        lambda: sync.get("a"),
        sync.ready,
        sync.txn,
        sync.resync,
        lambda: next(iter(watch)),
    ):
        with pytest.raises(UsageError, match="with sync:"):
            use()
    with sync, pytest.raises(UsageError, match="is started once"):
        sync.start()
    sync.close()
    for again in (
        lambda: sync.get("a"),
        sync.ready,
        sync.txn,
        sync.resync,
        lambda: sync.watch("a", "a/"),
    ):
        with pytest.raises(WatchClosed):
            again()
    assert (watch.name, watch.state.value) == ("stream", "closed")
    DataSync(memory_url).close()


def test_errors_keep_their_class_and_lead_to_the_caller(memory_url: str) -> None:
    with DataSync(memory_url) as sync:

        @sync.watcher("a/")
        def refuse(event: blocking.Event[bytes]) -> None:
            if event.changes:
                raise Refused("not here")

        sync.ready(60)
        with pytest.raises(NotApplied) as refused:
            sync.put("a/1", b"1", confirm=True)
        assert refused.value.verdict is Verdict.REFUSED
        assert refused.value.reasons == {"a/1": "not here"}
        with pytest.raises(BadKey) as bad:
            sync.put("", b"1")
    way = [frame.name for frame in traceback.extract_tb(bad.tb)]
    assert way[0] == "test_errors_keep_their_class_and_lead_to_the_caller"
    assert way[-1] == "check_key"


def test_a_handler_calls_it_too(memory_url: str) -> None:
    with DataSync(memory_url) as sync:
        applied: list[str] = []

        @sync.watcher("b/")
        def behind(event: blocking.Event[bytes]) -> None:
            applied.extend(change.key for change in event.changes)

        @sync.watcher("a/", ack_timeout=60)
        def before(event: blocking.Event[bytes]) -> None:
            for change in event.changes:
                sync.put(f"b/{change.key[2:]}", change.value, confirm=True)
                applied.append(change.key)

        sync.ready(60)
        sync.put("a/1", b"1", confirm=60)
        assert applied == ["b/1", "a/1"]


def test_an_async_handler_is_refused(memory_url: str) -> None:
    sync = DataSync(memory_url)

    async def handler(event: Any) -> None: ...

    with pytest.raises(UsageError, match="write `def`"):
        sync.watcher("a/")(handler)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is called before it decorates"):
        sync.watcher(lambda event: None)  # type: ignore[call-overload]
    assert not sync.watches
    sync.close()


def test_in_the_thread_of_its_loop_a_call_that_waits_is_an_error(memory_url: str) -> None:
    with DataSync(memory_url) as sync:
        thread = sync._home._thread
        assert thread is not None
        with pytest.raises(WrongLoop, match="another thread"):
            thread.call(sync.get, "a")
        assert thread.call(sync.status).sources


def test_a_status_page_is_served_from_before_the_start_until_the_end(memory_url: str) -> None:
    sync = DataSync(memory_url)
    served = sync.serve_status("127.0.0.1:0", health="127.0.0.1:0")

    def answer() -> int:
        with contextlib.closing(
            http.client.HTTPConnection(str(served.health).removeprefix("http://"))
        ) as probe:
            probe.request("GET", "/readyz")
            return probe.getresponse().status

    assert answer() == 503
    with pytest.raises(UsageError, match="is not started"):
        sync.get("a")
    with sync:
        sync.ready(60)
        assert answer() == 200
    with pytest.raises(ConnectionError):
        answer()


def test_many_threads_call_it_at_once(memory_url: str) -> None:
    with DataSync(memory_url) as sync:

        def write(number: int) -> None:
            for i in range(50):
                sync.put(f"{number}/{i}", b"1")

        threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(list(sync.list())) == 400


def test_a_list_is_read_page_by_page_and_can_be_left(memory_url: str) -> None:
    with DataSync(memory_url) as sync:
        txn = sync.txn()
        for number in range(2_500):
            txn.put(f"a/{number:05}", b"1")
        txn.commit()
        found = sync.list("a/")
        assert isinstance(found, Iterator)
        assert next(found).key == "a/00000"
        found.close()  # type: ignore[attr-defined]
        assert [kv.key for kv in sync.list("a/")] == [f"a/{number:05}" for number in range(2_500)]
        with pytest.raises(blocking.BadPrefix):
            next(sync.list("a"))


# -- streams -------------------------------------------------------------------------------------


def test_asking_for_the_next_event_accepts_the_one_before(memory_url: str) -> None:
    with DataSync(memory_url) as sync:
        watch = sync.watch("stream", "a/")
        events = iter(watch)
        assert next(events).attempt == 1
        with pytest.raises(NotApplied) as overdue:
            sync.put("a/1", b"1", confirm=0.2)  # the RESYNC has not been accepted
        assert overdue.value.verdict is Verdict.OVERDUE
        assert [change.key for change in next(events).changes] == ["a/1"]
        # a new loop: what the last one left open was not accepted
        again = next(iter(watch))
        assert ([change.key for change in again.changes], again.attempt) == (["a/1"], 2)
        again.done()
        with pytest.raises(WatchClosed):
            next(events)
        watch.close()
        with pytest.raises(WatchClosed):
            next(iter(watch))


def test_closing_ends_a_loop_in_another_thread(memory_url: str) -> None:
    ended = threading.Event()
    with DataSync(memory_url) as sync:
        watch, waiting = sync.watch("stream", "a/"), threading.Event()

        def read() -> None:
            with contextlib.suppress(WatchClosed):
                for _event in watch:
                    waiting.set()
            ended.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert waiting.wait(60)
    assert ended.wait(60)
    thread.join(60)


# -- signals, forks, the end of the program ------------------------------------------------------


def run_until(text: str, then: Callable[[subprocess.Popen[str]], None], code: str) -> str:
    """What the program prints. `then` is done once it has printed `text`."""
    command = [sys.executable, "-u", "-c", textwrap.dedent(code)]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as program:
        assert program.stdout is not None
        said = ""
        while text not in said:
            line = program.stdout.readline()
            assert line, said
            said += line
        then(program)
        said += program.stdout.read()
        assert program.wait(PATIENCE) == 0, said
    return said


def send(number: int) -> Callable[[subprocess.Popen[str]], None]:
    return lambda program: program.send_signal(number)


def test_ctrl_c_ends_a_call_that_waits_and_nothing_is_lost() -> None:
    said = run_until(
        "waiting",
        send(signal.SIGINT),
        """
        import asyncio, os, signal, threading
        from datasync.blocking import DataSync

        with DataSync("memory://") as sync:
            events = iter(sync.watch("stream", "a/"))
            next(events)
            loop = sync._home._thread._loop
            # it comes as the wait for it is interrupted, and before that is known
            take = events._take
            async def first():
                print("waiting")
                await take()
            async def both():
                await take()
                print("taken")
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            for wait in (first, both):
                events._take = wait
                if wait is both:
                    print("with the event")
                    sync.put("a/1", b"1")
                try:
                    next(events)
                except KeyboardInterrupt:
                    print("interrupted")
                    print([task.get_name() for task in asyncio.all_tasks(loop) if "call" in task.get_name()])
            events._take = take
            print(next(events).changes)
            sync.put("a/2", b"2")
            print(next(events).changes)
        print("closed", [thread.name for thread in threading.enumerate()])
        """,
    )
    assert said.splitlines() == [
        "waiting",
        "interrupted",
        "[]",
        "with the event",
        "taken",
        "interrupted",
        "[]",
        "[Change(PUT 'a/1', revision=1)]",
        "[Change(PUT 'a/2', revision=2)]",
        "closed ['MainThread']",
    ]


def test_a_signal_that_does_not_wake_the_main_thread_is_heard_all_the_same() -> None:
    """As one does that comes just before it begins to wait."""
    said = run_until(
        "ready",
        lambda program: None,
        """
        import signal, threading, time
        from datasync.blocking import DataSync

        sync = DataSync("memory://")

        @sync.watcher("a/")
        def handler(event):
            print("ready")
            while not sync._inner._life._stopped._waiters:  # the main thread is about to wait
                time.sleep(0.01)
            time.sleep(0.2)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

        sync.run()
        print("closed")
        """,
    )
    assert said.splitlines() == ["ready", "closed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_cleanly_at_a_signal(number: signal.Signals) -> None:
    said = run_until(
        "ready",
        send(number),
        """
        import signal, threading
        from datasync.blocking import DataSync

        sync = DataSync("memory://")

        @sync.watcher("a/")
        def handler(event):
            print("ready")

        sync.run()
        print("closed", sync.watches, "datasync loop" in map(str, threading.enumerate()))
        print(signal.getsignal(signal.SIGTERM))
        """,
    )
    assert said.splitlines()[1:] == ["closed {} False", str(signal.SIG_DFL)]


@pytest.mark.parametrize("end", ["stop", "close"])
def test_run_ends_in_any_thread_when_asked_to(end: str, memory_url: str) -> None:
    sync, ready = DataSync(memory_url), threading.Event()

    @sync.watcher("a/")
    def handler(event: blocking.Event[bytes]) -> None:
        ready.set()

    thread = threading.Thread(target=sync.run)
    thread.start()
    assert ready.wait(60)
    getattr(sync, end)()
    thread.join(60)
    assert not thread.is_alive()
    with pytest.raises(WatchClosed):
        sync.get("a")


def test_a_program_that_does_not_close_ends_all_the_same(tmp_path: Any) -> None:
    """At its end it is closed; a handler and a reader that hang keep nothing alive."""
    said = run_until(
        "ready",
        lambda program: None,
        f"""
        import atexit, threading
        from datasync.blocking import DataSync

        sync = DataSync("sqlite:///{tmp_path}/store.db", close_timeout=0.5)
        atexit.register(lambda: print("at the end", list(sync.watches), threading.active_count()))
        started = threading.Event()

        @sync.watcher("a/")
        def hangs(event):
            started.set()
            threading.Event().wait()

        @sync.watcher("b/")
        def well(event):
            pass

        def read():
            for event in sync.watch("stream", "a/"):
                pass

        sync.start()
        threading.Thread(target=read, daemon=True).start()
        sync.put("a/1", b"1")
        started.wait()
        print("ready")
        """,
    )
    assert "at the end []" in said
    with DataSync(f"sqlite:///{tmp_path}/store.db") as sync:
        assert sync.get("a/1") is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_started_before_a_fork_it_is_forked_there(tmp_path: Any) -> None:
    code = f"""
        import os, signal, sys, warnings
        from datasync.blocking import DataSync, Forked

        warnings.simplefilter("ignore", DeprecationWarning)  # it warns of threads: that is the point
        early, url = DataSync("memory://"), "sqlite:///{tmp_path}/store.db"
        sync = DataSync("memory://")
        sync.start()
        view, watch = sync.view("a/"), sync.watch("stream", "a/")
        sync.ready()
        pid = os.fork()
        if pid:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        signal.alarm({int(PATIENCE)})
        uses = [
            lambda: sync.get("a/1"), lambda: sync.put("a/1", b"1"), sync.ready, sync.txn, sync.status,
            sync.resync, lambda: len(view), lambda: view["a/1"], view.items().__iter__,
            lambda: list(sync.list()), lambda: next(iter(watch)), lambda: sync.watch("more", "b/"),
            sync.start, sync.close, watch.close,
        ]
        for use in uses:
            try:
                use()
            except Forked as error:
                print(error)
        # those that are started here work, also one that was made before
        with early, DataSync(url) as own:
            own.put("a", b"1"), early.put("a", b"1")
            print(len(list(own.list())), len(list(early.list())))
        sys.exit()  # as a worker of gunicorn ends: what was registered for the end is run
    """
    done = subprocess.run(
        [sys.executable, "-u", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
    )
    lines = done.stdout.splitlines()
    forked = (
        "this DataSync was started before the fork, in the parent process; make a new one here, "
    )
    assert done.stderr == ""
    assert lines == [f"{forked}or start it only after the fork"] * 15 + ["1 1"]
    assert done.returncode == 0
