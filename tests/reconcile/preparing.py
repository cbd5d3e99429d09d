"""A made-up host that is to be prepared: its reporter, its unit, and its conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hostdev_operator.api.common import Condition
from hostdev_operator.api.devicehost import DeviceHostSpec, DeviceHostStatus
from hostdev_operator.core.preparation import BootFacts
from hostdev_operator.core.settings import Settings
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.host import HostReporter
from hostdev_operator.reconcile.looker import Looker
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import FakeClock, ports
from tests.fakes.samples import small_host

UNPREPARED = BootFacts(vendor="GenuineIntel", table="DMAR", words=("BOOT_IMAGE=/vmlinuz", "quiet"))
BOOT = "boot-1"


def done(request: str | None, *lines: str, boot: str = BOOT) -> str:
    """The answer of a unit that has done all; ``lines`` are more of it."""
    words = [line.split() for line in (request or "").splitlines() if line and not line.startswith("#")]
    values = {w[0]: w[1] for w in words}
    head = ["version 1", f"request {values.get('request', 'none')}", f"boot {boot}", "loader grub"]
    if "boot-word" in values:
        head.append(f"next {values['boot-word']}")
    return "\n".join((*head, *lines)) + "\n"


class Preparing:
    """An IOMMU that is off, and what is said of the host then."""

    def __init__(self, host: FakeHost | None = None) -> None:
        self.host = host or small_host()
        self.host.boot_facts = UNPREPARED
        self.host.platform = replace(self.host.platform, iommu=False)
        self.clock = FakeClock()
        self.settings = Settings()
        made = ports(self.host, self.clock)
        self.reporter = HostReporter(made, Looker(made, Context(settings=lambda: self.settings)))
        self.status = DeviceHostStatus()

    def say(self, *, paused: bool = False, **preparation: Any) -> None:
        """spec.preparation; none of it without a word."""
        spec = {"paused": paused, **({"preparation": preparation} if preparation else {})}
        self.settings = Settings.of(DeviceHostSpec.model_validate(spec))

    def install(self, *lines: str) -> None:
        """The unit, which does all that it is asked for, and says so; ``lines`` as well."""
        self.host.unit = lambda request: done(request, *lines, boot=self.host.platform.boot_id)

    def conditions(self) -> dict[str, Condition]:
        """A report, as the agent makes it."""
        self.status = self.reporter.status(self.status, frozenset())
        return {c.type: c for c in self.status.conditions}

    def prepared(self) -> tuple[str, str]:
        found = self.conditions()["Prepared"]
        return found.status, found.reason

    def boot(self, *words: str) -> None:
        """Reboot: the kernel is told these words."""
        self.host.boots += 1
        self.host.platform = replace(self.host.platform, iommu=True, boot_id=f"boot-{self.host.boots}")
        self.host.boot_facts = replace(UNPREPARED, words=(*UNPREPARED.words, *words))


def reason(unit: Callable[[str | None], str | None] | None, mode: str = "Apply") -> str:
    """Of Prepared, where an IOMMU is asked for and this unit is there."""
    world = Preparing()
    world.host.unit = unit
    world.say(mode=mode, iommu="Required")
    world.conditions()
    return world.prepared()[1]


def failing() -> str:
    """Where the unit cannot do it."""
    return reason(lambda request: done(request, "failed boot-word no boot loader was found"))
