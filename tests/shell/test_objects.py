from __future__ import annotations

from hostdev_operator.ports import Body
from hostdev_operator.shell.objects import ObjectCache


def body(version: int, uid: str = "u") -> Body:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def test_the_newest_version_stays_and_only_news_is_news() -> None:
    cache = ObjectCache()
    assert cache.put(body(9))
    assert not cache.put(body(9))
    assert not cache.put(body(8))
    assert cache.put(body(10))
    assert cache.get("u") == body(10)


def test_objects_are_known_by_uid_and_forgotten() -> None:
    cache = ObjectCache()
    cache.put(body(1, "a"))
    cache.put(body(1, "b"))
    for uid in cache:
        cache.remove(uid)
    cache.remove("nothing")
    assert list(cache) == []
    assert cache.get("a") is None
