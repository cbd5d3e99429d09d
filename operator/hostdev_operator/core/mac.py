"""MAC addresses of guests' NICs: the one of a NIC that nobody has given one, and who has which in the cluster."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256

from ..api.deviceassignment import DeviceAssignmentSpec, DeviceAssignmentStatus
from .conditions import ACCEPTED, find

#: Of the first octet (IEEE 802): locally administered, no group; never 0xfe, which libvirt keeps for its tap devices.
_KEPT, _LOCAL = 0x7C, 0x02


def derived_mac(namespace: str, name: str, domain_uuid: str) -> str:
    """A unicast, locally administered address in lower case, always the same for an assignment and its guest.

    From the SHA-256 of all three, so no status is needed to keep it, and the guest can move to another node.
    """
    octets = bytearray(sha256(f"{namespace}/{name}/{domain_uuid}".encode()).digest()[:6])
    octets[0] = octets[0] & _KEPT | _LOCAL
    return octets.hex(":")


def with_accepted_mac(
    spec: DeviceAssignmentSpec, status: DeviceAssignmentStatus, generation: int
) -> DeviceAssignmentSpec:
    """The spec, with the MAC address that the guest's NIC has, as long as the controller has not accepted another one.

    Only the controller knows of other nodes. It says yes or no to each generation of a spec that asks for an address;
    until then, and after a no, the NIC stays as it is.
    """
    accepted = find(status.conditions, ACCEPTED)
    if accepted is None or spec.network is None or spec.network.mac is None or status.network is None:
        return spec
    if accepted.status == "True" and accepted.observed_generation == generation:
        return spec
    kept = spec.network.model_copy(update={"mac": status.network.mac.lower()})
    return spec.model_copy(update={"network": kept})


@dataclass(frozen=True)
class MacClaim:
    """The MAC addresses of one assignment, in lower case. ``has``: its NIC's; ``asked``: another one that it asks for.

    ``owner`` is namespace/name, ``created`` its creationTimestamp (RFC 3339).
    """

    uid: str
    owner: str
    created: str
    has: str | None = None
    asked: str | None = None

    @classmethod
    def of(
        cls, uid: str, owner: str, created: str, spec: DeviceAssignmentSpec, status: DeviceAssignmentStatus
    ) -> MacClaim:
        """What spec asks for and status tells. An assignment that was bound a moment ago has what it asked for."""
        asked = spec.network.mac if spec.network else None
        has = None
        if status.node_name is not None:
            has = status.network.mac.lower() if status.network else asked
        return cls(uid, owner, created, has, asked if asked != has else None)

    @property
    def macs(self) -> frozenset[str]:
        """All of them."""
        return frozenset(mac for mac in (self.has, self.asked) if mac is not None)

    def rank(self, mac: str) -> tuple[bool, str, str]:
        """Whoever has the address goes before whoever asks for it, then age; of the same second the UID decides."""
        return self.has != mac, self.created, self.uid


class MacIndex:
    """All claims of the cluster by address: each question looks at those of one address alone."""

    def __init__(self) -> None:
        self._claims: dict[str, MacClaim] = {}
        self._by_mac: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, claim: MacClaim) -> frozenset[str]:
        """Take an assignment's claim in place of its former one; the UIDs of those for whom this may be news."""
        former = self._claims.get(claim.uid)
        if former == claim:
            return frozenset()
        concerned = self.remove(claim.uid)
        if not claim.macs:
            return concerned
        self._claims[claim.uid] = claim
        for mac in claim.macs:
            self._by_mac[mac].add(claim.uid)
        return concerned | self._rivals(claim)

    def remove(self, uid: str) -> frozenset[str]:
        """Forget an assignment's claim; the UIDs of those who may get its address now."""
        former = self._claims.pop(uid, None)
        if former is None:
            return frozenset()
        concerned = self._rivals(former)
        for mac in former.macs:
            self._by_mac[mac].discard(uid)
            if not self._by_mac[mac]:
                del self._by_mac[mac]
        return concerned

    def rival(self, uid: str) -> tuple[str, MacClaim] | None:
        """An address of the assignment that is another one's, and that other one; None if nobody stands before it."""
        claim = self._claims.get(uid)
        if claim is None:
            return None
        for mac in (claim.asked, claim.has):
            if mac is not None:
                first = min((self._claims[other] for other in self._by_mac[mac]), key=lambda c: c.rank(mac))
                if first.uid != uid:
                    return mac, first
        return None

    def _rivals(self, claim: MacClaim) -> frozenset[str]:
        found = {uid for mac in claim.macs for uid in self._by_mac.get(mac, ())}
        return frozenset(found - {claim.uid})
