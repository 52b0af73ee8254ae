"""The options: listed alike everywhere, checked once, and handed on whole."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import get_type_hints

import msgspec
import pytest

from datasync import Backoff, DataSync, UsageError
from datasync.options import Options, WatchOptions

_PLACES = {"sources", "label", "prefix", "write_to", "report_to", "agent"}
GIVEN = {
    "codec": "proto",
    "recovery": "resync",
    "ack_timeout": 3.0,
    "resync_timeout": 31.0,
    "backlog": 7,
    "retries": 8,
    "retry": Backoff(initial=0.5),
    "reconnect": Backoff(maximum=5.0),
    "connect_timeout": 11.0,
    "ping_interval": 4.0,
    "ping_timeout": 5.0,
    "close_timeout": 6.0,
}


def test_a_datasync_takes_each_option_with_its_default() -> None:
    parameters = inspect.signature(DataSync).parameters
    taken = {name: taken.default for name, taken in parameters.items() if name not in _PLACES}
    assert taken == msgspec.structs.asdict(Options())


def test_what_is_given_reaches_the_options_and_those_of_another_agent() -> None:
    assert GIVEN.keys() == set(Options.__struct_fields__)
    sync = DataSync("memory://", label="vpp1", **GIVEN)  # type: ignore[arg-type]
    assert msgspec.structs.asdict(sync._options) == GIVEN
    assert sync.of_agent("vpp2")._options == sync._options


@pytest.mark.parametrize("documented", [DataSync, DataSync.watch])
def test_each_parameter_is_documented(documented: Callable[..., object]) -> None:
    lines = re.findall(r"^(\w+(?:, \w+)*): ", inspect.getdoc(documented) or "", re.MULTILINE)
    names = [name for line in lines for name in line.split(", ")]
    assert names == [name for name in inspect.signature(documented).parameters if name != "self"]


@pytest.mark.parametrize("method", [DataSync.watch, DataSync.watcher])
def test_a_watch_takes_what_the_type_checker_is_told(method: object) -> None:
    assert get_type_hints(WatchOptions).keys() <= inspect.signature(method).parameters.keys()  # type: ignore[arg-type]


def test_a_watch_may_have_limits_of_its_own_and_nothing_else() -> None:
    options = Options(backlog=9, ack_timeout=3.0)
    assert options.of_watch({"backlog": None, "after": ["a"]}) == options
    assert options.of_watch({"backlog": 5, "resync_timeout": 1.0}) == Options(
        backlog=5, ack_timeout=3.0, resync_timeout=1.0
    )
    assert options.of_watch({"retries": 9, "retry": Backoff(initial=1.0)}) == Options(
        backlog=9, ack_timeout=3.0, retries=9, retry=Backoff(initial=1.0)
    )
    with pytest.raises(UsageError, match=r"^backlog must be an integer >= 1, got 0$"):
        options.of_watch({"backlog": 0})
    with pytest.raises(UsageError, match=r"^retries must be an integer >= 1, got 0$"):
        options.of_watch({"retries": 0})

    sync = DataSync("memory://")
    with pytest.raises(
        TypeError, match=r"^DataSync\.watch\(\) got an unexpected keyword argument 'codec'$"
    ):
        sync.watch("watch", "a/", codec="json")  # type: ignore[call-overload]
    with pytest.raises(
        TypeError, match=r"^DataSync\.watcher\(\) got an unexpected keyword argument 'codec'$"
    ):
        sync.watcher("a/", codec="json")  # type: ignore[call-overload]
