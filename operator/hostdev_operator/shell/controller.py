"""The controller: binds assignments to nodes, and owns the one finalizer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from ..api.common import Condition
from ..api.deviceassignment import FINALIZER, DeviceAssignmentStatus
from ..api.devicehost import DeviceHostStatus
from ..core import conditions, reasons
from ..core.authority import Grant, not_allowed
from ..core.binding import Binding, bind
from ..core.checks import Refusal
from ..core.conditions import ACCEPTED, READY, condition
from ..core.mac import MacClaim, MacIndex
from ..core.reasons import Retry
from ..ports import Body, Clock, Cluster, ClusterError
from ..reconcile.bound import Assignment
from . import runner
from .gone_nodes import GoneNodes
from .guest_controller import GuestController
from .objects import ObjectCache, parse
from .pool_controller import FIELD_MANAGER, PoolController
from .queue import KeyedQueue

log = logging.getLogger(__name__)

_CONFLICT = 409
#: Of an assignment's status, what is of its node alone. Its fingerprint stays: a card may move with its guest.
_NODES_OWN = ("nodeName", "record", "guest", "device", "iommuGroup", "plan", "settled", "conditions")


@dataclass(frozen=True)
class _Guests:
    """The part of a DeviceHost that binding depends on: other changes of it wake nobody."""

    guests: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, status: DeviceHostStatus) -> _Guests:
        return cls(frozenset((g.name, g.uuid) for g in status.guests))


class Controller:
    """One for the cluster. Runs in the event loop; decides from memory, writes by the API.

    ``pools`` does the same for VFPools, ``guests`` for Guests. ``grace``: seconds after which a deletion waits no
    longer for a node that has no Node object; None: for ever (core/gone.py).
    """

    def __init__(self, cluster: Cluster, clock: Clock, grace: float | None = None) -> None:
        self._cluster = cluster
        self._clock = clock
        self._objects = ObjectCache(parse)
        self._macs = MacIndex()
        self._hosts: dict[str, DeviceHostStatus] = {}
        self._grants: dict[str, Grant] = {}
        self._listed = False
        self._told = False  # by the watch: anything at all
        self.queue = KeyedQueue(self._work)
        self._fates = GoneNodes(cluster, clock, grace, self._fate_changed)
        self.pools = PoolController(cluster, clock, self._wake_unbound, self._fates)
        self.guests = GuestController(cluster, self._fates)

    # -- what comes in ------------------------------------------------------------------------------------------

    def assignment_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on assignments."""
        uid = body["metadata"]["uid"]
        if event == "DELETED":
            self._forget(uid)
        elif self._take(body):
            self.queue.add(uid)

    def host_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on DeviceHosts: unbound assignments may find their guest now."""
        name = body["metadata"]["name"]
        before = _Guests.of(self._hosts[name]) if name in self._hosts else None
        if event == "DELETED":
            self._hosts.pop(name, None)
            after = None
        else:
            self._hosts[name] = _status(body)
            after = _Guests.of(self._hosts[name])
        if before != after:
            self._wake_unbound()
        self.pools.host_seen(event, body)

    def namespace_seen(self, event: str | None, body: Body) -> None:
        """An event of the watch on namespaces, of which there always are some."""
        self._told = True
        self._take_grant(event, body)

    def _take_grant(self, event: str | None, body: Body) -> None:
        """What an administrator allows a namespace may have changed."""
        name = body["metadata"]["name"]
        before = self._grants.pop(name, None)
        if event != "DELETED":
            self._grants[name] = Grant.of(body["metadata"])
        if before != self._grants.get(name):
            self._wake_unbound(name)

    async def list_all(self) -> None:
        """Once, before anything is done: an incomplete list would refuse wrongly, or bind one MAC address twice."""
        for body in await runner.listed(self._cluster, "Namespace"):
            self._take_grant(None, body)
        for body in await runner.listed(self._cluster, "DeviceHost"):
            if body["metadata"]["name"] not in self._hosts:
                self.host_seen(None, body)
        await self.pools.list_all()
        await self.guests.list_all()
        for body in await runner.listed(self._cluster, "DeviceAssignment"):
            self._take(body)
        self._listed = True
        self._wake(self._objects)

    def assignments(self) -> list[Body]:
        """All that are known."""
        return [body for uid in self._objects if (body := self._objects.get(uid))]

    def unready(self) -> str | None:
        """For the readiness probe."""
        if not self._listed:
            return "what the API server has was not listed yet"
        return None if self._told else "the API server's watch has told nothing yet"

    def _take(self, body: Body) -> bool:
        """Whether a body is news. Our own writes are taken as well: their echo is none then."""
        news = self._objects.put(body)
        if news:
            with contextlib.suppress(ValueError):  # told when it is worked on
                obj = self._objects.parsed(body)
                goes = obj.deleting and obj.status.node_name is None
                claim = MacClaim.of(obj.uid, f"{obj.namespace}/{obj.name}", obj.created, obj.spec, obj.status)
                self._wake(self._macs.remove(obj.uid) if goes else self._macs.put(claim))
        return news

    def _forget(self, uid: str) -> None:
        self._objects.remove(uid)
        self._wake(self._macs.remove(uid))

    def _wake(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self.queue.add(uid)

    def _wake_unbound(self, namespace: str | None = None) -> None:
        """Those of a namespace, or all."""
        for uid in self._objects:
            body = self._objects.get(uid)
            unbound = body and not body.get("status", {}).get("nodeName")
            if body and unbound and namespace in (None, body["metadata"]["namespace"]):
                self.queue.add(uid)

    def _fate_changed(self, node: str) -> None:
        """Of a node that came, went, or is said to be gone: of its assignments, and of what may come to its guests."""
        for uid in self._objects:
            body = self._objects.get(uid)
            if body and body.get("status", {}).get("nodeName") in (None, node):
                self.queue.add(uid)
        self.pools.wake_all()
        self.guests.wake_all()

    # -- one assignment -----------------------------------------------------------------------------------------

    async def _work(self, uid: str) -> Retry:
        body = self._objects.get(uid)
        if body is None or not self._listed:
            return Retry.ON_EVENT
        try:
            return await self._reconcile(body)
        except ClusterError as error:
            if error.code == _CONFLICT:  # an older version: the watch brings the newer one
                return Retry.SOON
            log.warning("%s: %s", body["metadata"]["name"], error)
            return Retry.BACKOFF

    async def _reconcile(self, body: Body) -> Retry:
        obj = self._objects.parsed(body)
        finalizers: list[str] = body["metadata"].get("finalizers", [])
        ours = FINALIZER in finalizers
        bound = obj.status.node_name is not None
        if bound and await self._is_left_over(body, obj):
            await self._leave_behind(body, obj)
            return Retry.ON_EVENT
        if obj.deleting:
            if ours and not bound:
                await self._cluster.set_finalizers(body, [f for f in finalizers if f != FINALIZER])
            elif ours and (_says_gone(obj) or self._waits_for_node(body, obj)):
                await self._judge(body, obj, None)
            return Retry.ON_EVENT
        taken = await self._mac_taken(obj)
        pinned = obj.status.domain_uuid
        answer = None
        if not bound:
            barred = None if pinned else await self._not_allowed(obj)  # what was bound once is kept: its guest moves
            gone = self._fates.gone()
            hosts = {n: h for n, h in self._hosts.items() if n not in gone} if gone else self._hosts
            answer = barred or taken or bind(obj.spec, hosts, self.pools.homes, pinned)
        if isinstance(answer, Refusal):
            await self._refuse(body, obj, answer)
        else:
            held = body if ours else await self._add_finalizer(body, finalizers)
            if answer and held:
                await self._bind(held, obj, answer)
            elif held:
                await self._judge(held, obj, taken)
        return Retry.BACKOFF if taken else Retry.ON_EVENT

    async def _not_allowed(self, obj: Assignment) -> Refusal | None:
        """Whether its namespace may not have it. That is asked anew first: the watch may be behind the policies."""
        name = obj.namespace
        if not_allowed(name, self._grants.get(name, Grant()), obj.spec) is None:
            return None
        now = await self._cluster.get("Namespace", name)
        self._grants[name] = Grant.of(now["metadata"]) if now else Grant()
        return not_allowed(name, self._grants[name], obj.spec)

    async def _is_left_over(self, body: Body, obj: Assignment) -> bool:
        """Whether its node is gone for good. Without an administrator's word that is never enough to bind it elsewhere,
        nor for a deletion that the node's agent has seen: it was there then.
        """  # noqa: D205
        unanswered = obj.deleting and obj.status.observed_generation != obj.generation
        return await self._fates.is_left(str(obj.status.node_name), body, unanswered=unanswered)

    async def _leave_behind(self, body: Body, obj: Assignment) -> None:
        """What the node had is not given back. The guest, by its UUID, gets its device wherever it is defined anew."""
        if obj.deleting:
            others = [f for f in body["metadata"].get("finalizers", []) if f != FINALIZER]
            await self._cluster.set_finalizers(body, others)
        else:
            await self._cluster.clear_status(body, _NODES_OWN)
        what = f"device {obj.status.device.address}" if obj.status.device else "what it had there"
        guest = f" for guest {obj.status.guest.name}" if obj.status.guest else ""
        text = f"node {obj.status.node_name} is gone for good: {what}{guest} was not given back"
        await self._cluster.event(body, warning=True, reason=reasons.NODE_GONE.name, message=text)

    def _waits_for_node(self, body: Body, obj: Assignment) -> Refusal | None:
        """Whether its node has no Node object, which an administrator must hear of."""
        node = str(obj.status.node_name)
        return self._fates.complaint(node, body, told=_says_gone(obj), deleting=obj.deleting)

    async def _mac_taken(self, obj: Assignment) -> Refusal | None:
        """Whether another assignment has its MAC address. That one is asked for: a watch can miss an end."""
        while rival := self._macs.rival(obj.uid):
            mac, first = rival
            namespace, name = first.owner.split("/")
            now = await self._cluster.get("DeviceAssignment", name, namespace)
            if now is not None and now["metadata"]["uid"] == first.uid:
                return Refusal(
                    reasons.MAC_IN_USE,
                    f"MAC address {mac} is that of assignment {first.owner}, which"
                    f" {'has' if first.has == mac else 'asks for'} it already: give spec.network another mac, or delete"
                    " that assignment",
                )
            self._forget(first.uid)
        return None

    async def _add_finalizer(self, body: Body, finalizers: list[str]) -> Body | None:
        """Before the binding; and again if somebody took it away from a bound object. None: the object is gone."""
        updated = await self._cluster.set_finalizers(body, [*finalizers, FINALIZER])
        if updated is not None:
            self._take(updated)
        return updated

    async def _bind(self, body: Body, obj: Assignment, binding: Binding) -> None:
        text = _bound(binding.node_name, binding.domain_name, binding.domain_uuid)
        accepted = condition(ACCEPTED, True, "Bound", text)
        await self._accept(body, obj, accepted, binding.node_name, binding.domain_uuid)
        await self._tell(body, accepted)

    async def _judge(self, body: Body, obj: Assignment, taken: Refusal | None) -> None:
        """A bound assignment whose spec.network was changed: whether it may have the MAC address that it asks for.

        Until then the guest's NIC keeps the one that it has (core/mac.py: with_accepted_mac).
        """
        status = obj.status
        old = conditions.find(status.conditions, ACCEPTED)
        refusal = self._waits_for_node(body, obj) or taken
        if refusal:
            new = condition(ACCEPTED, False, refusal.reason, refusal.message)
        elif _stands(old, obj):
            return
        else:
            name = obj.spec.domain.name if obj.spec.domain else None
            new = condition(ACCEPTED, True, "Bound", _bound(str(status.node_name), name, status.domain_uuid))
        if await self._accept(body, obj, new, status.node_name, status.domain_uuid):
            await self._tell(body, new)

    async def _accept(
        self, body: Body, obj: Assignment, accepted: Condition, node: str | None, domain_uuid: str | None
    ) -> bool:
        """Write the binding and its condition; whether the condition says something else than before."""
        old = obj.status.conditions
        stamped = conditions.stamp((accepted,), old, self._clock.now(), obj.generation)
        if node == obj.status.node_name and all(c in old for c in stamped):
            return False
        status = DeviceAssignmentStatus(node_name=node, domain_uuid=domain_uuid, conditions=stamped)
        self._take(await self._cluster.apply_status(body, status.wire(), FIELD_MANAGER))
        return bool(conditions.changed(stamped, old))

    async def _refuse(self, body: Body, obj: Assignment, refusal: Refusal) -> None:
        new = tuple(condition(kind, False, refusal.reason, refusal.message) for kind in (ACCEPTED, READY))
        old = obj.status.conditions
        stamped = conditions.stamp(new, old, self._clock.now(), obj.generation)
        if all(c in old for c in stamped):
            return
        status = DeviceAssignmentStatus(domain_uuid=obj.status.domain_uuid, conditions=stamped)
        self._take(await self._cluster.apply_status(body, status.wire(), FIELD_MANAGER))
        if conditions.changed(stamped, old):
            await self._tell(body, new[0])

    async def _tell(self, body: Body, accepted: Condition) -> None:
        warning = accepted.status != "True"
        await self._cluster.event(body, warning=warning, reason=accepted.reason, message=accepted.message)


def _status(body: Body) -> DeviceHostStatus:
    try:
        return DeviceHostStatus.model_validate(body.get("status") or {})
    except ValueError:  # of another version: its agent writes it anew
        return DeviceHostStatus()


def _says_gone(obj: Assignment) -> bool:
    accepted = conditions.find(obj.status.conditions, ACCEPTED)
    return accepted is not None and accepted.reason == reasons.NODE_GONE.name


def _stands(accepted: Condition | None, obj: Assignment) -> bool:
    """Whether nothing is to be said anew: a MAC address that is asked for is accepted for each generation of spec."""
    asks = obj.spec.network is not None and obj.spec.network.mac is not None
    if accepted is None:
        return not asks
    return accepted.status == "True" and (not asks or accepted.observed_generation == obj.generation)


def _bound(node: str, domain_name: str | None, domain_uuid: str | None) -> str:
    guest = f"guest {domain_name} ({domain_uuid})" if domain_name else f"guest {domain_uuid}"
    return f"bound to node {node} for {guest if domain_uuid else 'nobody: a reservation'}"
