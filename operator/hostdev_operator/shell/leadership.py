"""One replica of the controller works, the others wait: a Lease, held as client-go's leader election holds one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime

from ..core.lease import LeadershipLostError, Sight, Timing, claim, look, released
from ..ports import Cluster, ClusterError, LeaseStore
from .fence import Fence

log = logging.getLogger(__name__)

#: Attempts to take a lease are spread by up to this part of their period: replicas that start together do not collide.
_JITTER = 1.2


class Leadership:
    """Of this very process. Once lost it never comes back: the process ends, and a new one waits for its turn.

    ``me`` is unlike that of any other process, also of this one's predecessor in the same pod. ``now`` tells seconds
    that only grow, also while the machine sleeps.
    """

    def __init__(self, leases: LeaseStore, me: str, now: Callable[[], float], timing: Timing) -> None:
        self._leases = leases
        self._me = me
        self._now = now
        self._timing = timing
        self._sight: Sight | None = None
        self._until: float | None = None
        self._read_first = True
        self._trouble: str | None = "the Lease was not read yet"
        self._over = False
        self._taken = asyncio.Event()
        self._fences: list[Fence] = []

    def fenced(self, cluster: Cluster) -> Cluster:
        """The same, but nothing is written while this replica does not lead."""
        fence = Fence(cluster, self.leads)
        self._fences.append(fence)
        return fence

    def leads(self) -> bool:
        """Whether this replica may write, now."""
        return not self._over and self._until is not None and self._now() < self._until

    def unready(self) -> str | None:
        """For the readiness probe: whoever waits for its turn and sees the Lease is as ready as can be."""
        return "the Lease is lost" if self._over else self._trouble

    @property
    def waits(self) -> bool:
        """Whether another replica has led ever since this process was started."""
        return not self._taken.is_set()

    async def taken(self) -> None:
        """Wait until this replica leads."""
        await self._taken.wait()

    async def run(self) -> None:
        """Wait for the Lease, then renew it until cancelled. LeadershipLostError if that cannot be done in time."""
        log.info("waiting for the Lease as %s", self._me)
        while not await self._try():  # noqa: ASYNC110 - the API server is asked, nobody here could tell
            await asyncio.sleep(self._timing.retry * (1 + random.random() * _JITTER))  # noqa: S311 - no secret
        log.info("leading as %s", self._me)
        self._taken.set()
        while True:
            await asyncio.sleep(self._timing.renew)
            while self.leads() and not await self._try():  # noqa: ASYNC110
                await asyncio.sleep(self._timing.retry)
            if not self.leads():
                self._over = True
                raise LeadershipLostError(f"the Lease is lost: {self._trouble or 'it was not renewed in time'}")

    async def release(self) -> None:
        """Give the Lease up, when all work has ended: the next replica need not wait for it to run out."""
        held = self._sight.lease if self._sight and self.leads() else None
        self._over = True
        retry, runs_out = self._timing.retry, self._timing.seconds
        if held is None or not all([await fence.settled(retry, runs_out) for fence in self._fences]):
            return
        try:
            async with asyncio.timeout(self._timing.retry):
                if self._read_first:  # a renewal was under way
                    held = await self._leases.read()
                if held is not None and held.holder == self._me:
                    await self._leases.write(released(held, _wall()))
                    log.info("the Lease is given up")
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not given up, it will run out: %s", error)

    async def _try(self) -> bool:
        """Take the Lease, or renew it; whether it is ours now. After a failure it is read first: others may have it."""
        asked = self._now()
        try:
            async with asyncio.timeout(self._timing.renew / 2):
                if self._read_first or self._sight is None:
                    self._sight = look(self._sight, await self._leases.read(), self._now())
                    self._read_first = False
                wanted = claim(self._sight, self._me, self._now(), _wall(), self._timing)
                if wanted is None:
                    return self._is_anothers(self._sight)
                self._read_first = True  # unless its answer comes
                written = await self._leases.write(wanted)
        except (ClusterError, TimeoutError) as error:
            self._read_first = True
            self._trouble = f"the Lease was not read or written: {error or 'no answer in time'}"
            log.warning("%s", self._trouble)
            return False
        self._sight, self._until = Sight(written, self._now()), asked + self._timing.deadline
        self._read_first, self._trouble = False, None
        return True

    def _is_anothers(self, sight: Sight) -> bool:
        """While waiting that is as it should be; who thought to lead stops at once."""
        self._read_first, self._trouble = True, None
        if self._until is not None:
            self._until, self._trouble = None, f"{sight.lease.holder if sight.lease else 'another one'} has it"
        return False


def _wall() -> str:
    """metav1.MicroTime, for people who read the Lease."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
