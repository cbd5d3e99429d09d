from __future__ import annotations

from hostdev_operator.ports import Body
from hostdev_operator.shell.objects import ObjectCache
from hostdev_operator.shell.pool_objects import parse_node_pool, slim
from tests.shell.pool_world import by_hand


def body(version: int, uid: str = "u") -> Body:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def test_the_newest_version_stays_and_only_news_is_news() -> None:
    cache: ObjectCache[Body] = ObjectCache(dict)
    assert cache.put(body(9))
    assert not cache.put(body(9))
    assert not cache.put(body(8))
    assert cache.put(body(10))
    assert cache.get("u") == body(10)


def test_objects_are_known_by_uid_and_forgotten() -> None:
    cache: ObjectCache[Body] = ObjectCache(dict)
    cache.put(body(1, "a"))
    cache.put(body(1, "b"))
    for uid in cache:
        cache.remove(uid)
    cache.remove("nothing")
    assert list(cache) == []
    assert cache.get("a") is None


def test_a_node_pool_that_cannot_be_read_is_still_its_agents_until_that_gives_it_back() -> None:
    node_pool = by_hand("lan.n1", "lan")
    node_pool["metadata"] |= {"uid": "u", "generation": 1}
    assert not parse_node_pool(node_pool).held
    strange = {**node_pool, "status": {"nodeName": "n1", "counts": "many"}}
    assert parse_node_pool(slim(strange)).held
    assert parse_node_pool({**node_pool, "spec": {**node_pool["spec"], "numVFs": "many"}}).spec is None


def test_of_a_node_pool_only_what_the_controller_needs_is_kept() -> None:
    node_pool = by_hand("lan.n1", "lan")
    report = {"manager": "hostdev-agent", "subresource": "status", "time": "2026-01-01T00:00:00Z"}
    told = [report | {"fieldsV1": {}}, {"manager": "kubectl"}]
    node_pool["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": told}
    kept = slim({**node_pool, "status": {"nodeName": "n1", "vfs": [{}], "record": {}}})
    assert kept["metadata"] == {"name": "lan.n1", "uid": "u", "resourceVersion": "7", "managedFields": [report]}
    assert (kept["spec"], kept["status"]) == (node_pool["spec"], {"nodeName": "n1"})
