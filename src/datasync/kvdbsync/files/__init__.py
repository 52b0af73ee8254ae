"""file:// - files of configuration, followed as any other source (Go, in later versions: filedb).

`file:///etc/agent/[?at=config/&flatten=/&settle=0.2&poll=1]`, or one file: `file:///etc/agent.yaml`;
docs/files.md has the whole of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from datasync.capabilities import Capabilities
from datasync.checks import check_prefix, read_only
from datasync.errors import BadPrefix, BadUrl, Disconnected, NotReady, WrongLoop
from datasync.kvdbsync.files.contents import Contents, Look
from datasync.kvdbsync.files.follower import Follower
from datasync.kvdbsync.files.place import Place
from datasync.kvdbsync.files.session import FilesSession
from datasync.shared import SharedSource
from datasync.source import Committed, Held, Item, Operation, Session, held
from datasync.texts import logger
from datasync.transports import Url, seconds

__all__ = ["FilesSource", "from_url"]

log = logger("datasync.files")

_SETTLE = 0.2


def from_url(url: Url) -> FilesSource:
    """The Source of a `file:` URL. Raises `BadUrl`."""
    if url.hosts not in ("", ".", "localhost") or url.user is not None:
        raise BadUrl(
            f"{url} has a host; write file:///etc/agent/ with three slashes, or file://./agent/ "
            "for a path from here"
        )
    path = f".{url.path}" if url.hosts == "." else url.path
    if path in ("", "/") or "\0" in path:
        raise BadUrl(f"{url} names nothing; write file:///etc/agent/ or file:///etc/agent.yaml")
    return FilesSource(
        path,
        at=url.option("at", _prefix, ""),
        flatten=url.option("flatten", _separator, None),
        settle=url.option("settle", seconds, _SETTLE),
        poll=url.option("poll", seconds, None),
        name=str(url),
    )


def _prefix(text: str) -> str:
    try:
        check_prefix(text)
    except BadPrefix as error:
        raise ValueError(f"takes a prefix: {error}") from None
    return text


def _separator(text: str) -> str:
    if not text:
        raise ValueError("takes what stands between two names, for example /")
    return text


class FilesSource(SharedSource):
    """A directory of documents, or one of them. It takes no writes: edit the files.

    path: where it is.
    at: what stands before all keys (default: nothing).
    flatten: what joins the names that lead to a leaf, which then is a key of its own; None (the
        default) for a key for each name at the top.
    settle: seconds for which a file has to look the same before it is read (default: 0.2).
    poll: seconds between two looks; None (the default) to have the system tell of changes.
    name: how messages and `status()` call it (default: a URL of the path).
    """

    capabilities = Capabilities(
        order="total",
        atomic=True,
        snapshot="exact",
        every_value=False,
        revisions=False,
        resume=False,
        ttl=False,
        cas=False,
        reply=False,
        durable=True,
        writable=False,
    )
    relative = True
    instead_of_writing = "edit the files"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        at: str = "",
        flatten: str | None = None,
        settle: float = _SETTLE,
        poll: float | None = None,
        name: str | None = None,
    ) -> None:
        check_prefix(at)
        self._place = Place(os.fspath(path))
        self.name = name or f"file://{self._place.path}"
        self._contents = Contents(self._place, at, flatten, settle)
        self._poll = poll
        self._follower: Follower | None = None
        self._sessions: list[FilesSession] = []
        self._state: Mapping[str, bytes] | None = None
        self._trouble: str | None = None
        self._gone: str | None = None

    @property
    def trouble(self) -> str | None:  # type: ignore[override]
        """What is wrong with some of the files; None if nothing is."""
        return self._trouble

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        await self._fresh()
        session = FilesSession(scopes, lambda: self._state, self._fresh, self._answered, self._left)
        self._sessions.append(session)
        return session

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        raise read_only(self)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        raw = (await self._known()).get(key)
        return None if raw is None else (raw, 0)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        if token is None:
            state = await self._known()
            token = held([(key, state[key], 0) for key in sorted(state) if key.startswith(prefix)])
        assert isinstance(token, Held)
        page, following = token.page(limit)
        return ([(key, b"", 0) for key, _, _ in page] if keys_only else page), following

    async def _known(self) -> Mapping[str, bytes]:
        """The newest state. Raises `Disconnected`, `NotReady`."""
        await self._fresh()
        if self._state is None:
            raise NotReady(f"{self.name}: {self._trouble or 'a file is being written'}")
        return self._state

    async def _fresh(self) -> None:
        """Take over what was written before this call. Raises `Disconnected` where it is gone."""
        follower = self._follower
        if follower is not None and follower.loop is not asyncio.get_running_loop():
            if follower.loop.is_running():
                raise WrongLoop(
                    f"{self.name} is in use in another event loop; open another one here"
                )
            follower = self._follower = None  # of a loop that has ended
        if follower is None:
            follower = self._follower = Follower(
                self.name, self._contents, self._poll, self._place.blind(), self._took, self._failed
            )
        await follower.fresh()
        if self._gone is not None:
            raise Disconnected(self._gone)

    async def _answered(self) -> None:
        if self._follower is not None:
            await self._follower.answered()

    def _took(self, look: Look) -> None:
        """Hand on what a look brought."""
        self._gone = look.gone
        if look.gone is not None:
            self._end_sessions(Disconnected(look.gone))
            return
        self._say(look.trouble)
        begins, self._state = self._state is None, look.state
        if look.state is None:
            return
        for session in list(self._sessions):
            if begins:
                session.begin()
            elif look.changes:
                session.commit(look.changes)

    def _say(self, trouble: str | None) -> None:
        if trouble == self._trouble:
            return
        if trouble is None:
            log.info("%s: all files are good again", self.name)
        else:
            log.warning("%s: %s", self.name, trouble)
        self._trouble = trouble

    def _failed(self, error: Exception) -> None:
        self._follower = None  # the next who asks tries again
        self._end_sessions(error)

    def _end_sessions(self, error: Exception) -> None:
        for session in list(self._sessions):
            session.fail(error)

    def _left(self, session: FilesSession) -> None:
        if session in self._sessions:
            self._sessions.remove(session)

    async def _close(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            await follower.aclose()
