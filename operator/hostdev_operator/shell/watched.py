"""The objects of one kind that are this node's: what the watch tells, and what is asked where that may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from ..core import conditions
from ..ports import Body, Cluster
from .objects import ObjectCache

T = TypeVar("T")


class Watched(Generic[T]):
    """Newest bodies by UID. ``is_mine`` says whether a body is this node's; ``parse`` gives it to the engine."""

    def __init__(
        self, kind: str, cluster: Cluster, is_mine: Callable[[Body], bool], parse: Callable[[Body], T]
    ) -> None:
        self.kind = kind
        self._cluster = cluster
        self._is_mine = is_mine
        self._cache = ObjectCache(parse)
        self._doubtful: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._cache)

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, str) and self._cache.get(uid) is not None

    def bodies(self) -> Iterator[Body]:
        """All of them."""
        return (body for uid in self._cache if (body := self._cache.get(uid)))

    def parsed(self, body: Body) -> T:
        """Parsed once for each body; ValueError if it makes no sense."""
        return self._cache.parsed(body)

    def seen(self, event: str | None, body: Body) -> bool:
        """Take the watch's news; whether there is something to do.

        DELETED also means that the object left the selector: it is asked for, not believed.
        """
        if event == "DELETED":
            self.doubt(body["metadata"]["uid"])
            return True
        return self._cache.put(body)

    def put(self, body: Body) -> None:
        """Take a newer body, such as that of our own write: its echo is no news."""
        self._cache.put(body)

    def doubt(self, uid: str) -> None:
        """What is known of the object may be wrong: it is read again before the next run."""
        self._doubtful.add(uid)

    async def current(self, uid: str) -> tuple[Body | None, bool]:
        """The newest body, and whether there was one: nothing is left of an object that is gone, or another node's."""
        body = self._cache.get(uid)
        if body is None:
            self._doubtful.discard(uid)
            return None, False
        if uid not in self._doubtful and self._is_mine(body):
            return body, True
        meta = body["metadata"]
        now = await self._cluster.get(self.kind, meta["name"], meta.get("namespace"))
        self._doubtful.discard(uid)
        if now is None or now["metadata"]["uid"] != uid:
            self._cache.remove(uid)
            return None, True
        self._cache.replace(now)
        if self._is_mine(now):
            return now, True
        self._cache.remove(uid)
        return None, True


def condition(body: Body, kind: str) -> str | None:
    """The status of one of the object's conditions."""
    rows = body.get("status", {}).get("conditions", [])
    return next((c["status"] for c in rows if c["type"] == kind), None)


def is_ready(body: Body) -> bool:
    """Whether its condition Ready is true."""
    return condition(body, conditions.READY) == "True"


def is_deleting(body: Body) -> bool:
    """Whether its deletion was asked for."""
    return "deletionTimestamp" in body["metadata"]
