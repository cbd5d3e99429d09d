"""What the API server has, as far as the watch has told: the newest version of each object, by UID."""

from __future__ import annotations

from collections.abc import Iterator

from ..ports import Body


class ObjectCache:
    """Keeps the newest body of each object. Our own writes go in as well, so the watch's echo of them is no news."""

    def __init__(self) -> None:
        self._bodies: dict[str, Body] = {}

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

    def remove(self, uid: str) -> None:
        """Forget an object."""
        self._bodies.pop(uid, None)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._bodies))


def _version(body: Body) -> int:
    return int(body["metadata"]["resourceVersion"])
