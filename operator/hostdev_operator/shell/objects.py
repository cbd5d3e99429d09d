"""What the API server has, as far as the watch has told: the newest version of each object, by UID."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from ..api.deviceassignment import DeviceAssignmentSpec, DeviceAssignmentStatus
from ..ports import Body
from ..reconcile.bound import Assignment

T = TypeVar("T")


class ObjectCache(Generic[T]):
    """Keeps the newest body of each object. Our own writes go in as well, so the watch's echo of them is no news.

    ``parse`` reads a body; ValueError if it does not fit the model.
    """

    def __init__(self, parse: Callable[[Body], T]) -> None:
        self._parse = parse
        self._bodies: dict[str, Body] = {}
        self._parsed: dict[str, tuple[Body, T]] = {}

    def put(self, body: Body) -> bool:
        """Take a body unless a newer one is known; whether it was news. Resource versions grow (KEP-5504)."""
        uid = body["metadata"]["uid"]
        known = self._bodies.get(uid)
        if known and _version(known) >= _version(body):
            return False
        self._bodies[uid] = body
        return True

    def replace(self, body: Body) -> None:
        """Take a body that was just read: it is true even if its version is older (an etcd that was restored)."""
        self._bodies[body["metadata"]["uid"]] = body

    def get(self, uid: str) -> Body | None:
        """The newest body."""
        return self._bodies.get(uid)

    def parsed(self, body: Body) -> T:
        """A body of this cache, parsed once: each look at the host asks for all of them. ValueError as parse."""
        uid = body["metadata"]["uid"]
        known = self._parsed.get(uid)
        if known is None or known[0] is not body:
            known = self._parsed[uid] = (body, self._parse(body))
        return known[1]

    def remove(self, uid: str) -> None:
        """Forget an object."""
        self._bodies.pop(uid, None)
        self._parsed.pop(uid, None)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._bodies))


def parse(body: Body) -> Assignment:
    """The object as the engine takes it; ValueError if it does not fit the model."""
    meta = body["metadata"]
    return Assignment(
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        created=meta["creationTimestamp"],
        generation=meta["generation"],
        deleting="deletionTimestamp" in meta,
        spec=DeviceAssignmentSpec.model_validate(body["spec"]),
        status=DeviceAssignmentStatus.model_validate(body.get("status") or {}),
    )


def _version(body: Body) -> int:
    return int(body["metadata"]["resourceVersion"])
