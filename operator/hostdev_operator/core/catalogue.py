"""Renders docs/conditions.md and docs/troubleshooting.md from the failure catalogue."""

from __future__ import annotations

from pathlib import Path

from . import guest_reasons, preparation_reasons, saved_reasons, start_reasons, topology_reasons  # noqa: F401 - their rows
from .reasons import CATALOGUE, TOPICS, Reason

_CONDITIONS = """# Conditions and reasons

Generated from operator/hostdev_operator/core by `make crds`; do not edit. What to do about a reason:
[troubleshooting.md](troubleshooting.md).

A DeviceAssignment has these conditions:

| condition | True means |
|---|---|
| Accepted | the controller bound it to a node and pinned the guest's UUID |
| Planned | every check passed, and the plan may begin (AwaitingApproval: it must be approved first); reason \
CriticalOverride: except for a need of the host that an administrator lifted \
(DeviceHost `spec.criticalOverrides`), which the message names; reason ConventionalPCI: a warning, the device is no \
PCI Express one and shares its bus |
| GroupReady | the whole IOMMU group is claimed: its mates are held on vfio-pci, or go to the same guest; \
NotNeeded: a NIC of a pool claims none; Adopted: it is left as it was found |
| Configured | the device is in the guest's persistent XML |
| Attached | the running guest has the device |
| Ready | host and persistent XML stand as asked (Assigned; Adopted: they did before); \
with `attach: Live` a running guest has the device as well |

A reservation (no `spec.domain`) has no Configured and no Attached. Attached is False for one of these reasons; Ready
needs Attached only with `attach: Live`, and only while the guest runs:

| reason | why the guest does not have the device | what gives it the device |
|---|---|---|
| GuestShutOff | it is off; no fault | its next start |
| PendingGuestRestart | it has run since before the device was in its persistent XML; no fault | shut it off, start it |
| [GuestSaved](troubleshooting.md#guestsaved) | it is saved, and will be resumed without it | being plugged in \
then, or its next boot |
| [NoGuestPCISlot](troubleshooting.md#noguestpcislot) | hot plug finds no slot for it | shut it off, start it |
| [MultifunctionNeedsBoot](troubleshooting.md#multifunctionneedsboot) | it shares its slot | shut it off, start it |
| another one of the catalogue | the guest is gone, or plugging failed (`attach` Auto or Live) | see there |

A NodeVFPool has these conditions:

| condition | True means |
|---|---|
| Planned | every check passed; reason VFsLeftOut: VFs that others have are left out of the network, and the message \
names both |
| VFsReady | the PF has as many VFs as are asked for, those of the pool among them |
| NetworkReady | the libvirt network is the pool's, defined as asked, started as it is defined, and started at boot |
| Ready | all of it, and the PF is up |

A Guest has these conditions:

| condition | True means |
|---|---|
| Defined | libvirt has it as asked, in its persistent XML |
| Running | it runs; reason PendingGuestRestart: as it was defined before its last change |
| Ready | it is defined, and runs or is off, as asked |

A DeviceHost has these conditions:

| condition | True means |
|---|---|
| IOMMUReady | the IOMMU is on, and devices have groups |
| InterruptRemappingReady | no guest can inject interrupts; False with UnsafeInterruptsAllowed: the risk was accepted; \
Unknown with CannotTell: this machine does not tell |
| VFIOReady | the vfio-pci driver is loaded |
| LibvirtReady | libvirt answers |
| JournalReady | all records of the journal can be read; without that nothing is changed |
| Paused | `spec.paused` is set: the agent looks and reports, and changes nothing; absent otherwise |
| CriticalOverrides | `spec.criticalOverrides` is set: these devices may be taken from the host; absent otherwise |
| UnsafeInterrupts | `spec.preparation.unsafeInterrupts` is set: the risk is accepted, for the reason that the message \
names; absent otherwise |
| Prepared | with `spec.preparation`: all that it asks for is there; Unknown with PreparationPending: the host's unit \
has been asked; absent otherwise |
| RebootRequired | what stands for the next boot is not in force yet; its lastTransitionTime says since when. The \
agent never reboots a host. Absent without `spec.preparation`, once nothing of a former one is left |
| LimitsReady | with `spec.preparation`: libvirt's daemon can give guests locked memory and open files; Unknown with \
CannotTell: it was not found; absent otherwise |

A VFPool is Ready (AllNodesReady) when the NodeVFPools of all its nodes are. Else: NoNodes (its nodeSelector fits no
node with an agent), Pending (an agent has not reported yet), or the reason of the first node that is not ready.

Other reasons that are no faults: NotTried, NotClaimed and NotConfigured (what a refusal left undone; the refusal stands
in Planned). Every other reason of a condition that is not True is a row of the catalogue. The message names the device,
its holder and the next step. "Tried again" is when it heals by itself, once its cause is gone.

## Catalogue

| reason | meaning | tried again |
|---|---|---|
"""

_TROUBLESHOOTING = """# Troubleshooting

Generated from operator/hostdev_operator/core by `make crds`; do not edit.

## How to read what is wrong

1. `kubectl get deviceassignment -A` shows Ready and its reason. `kubectl describe deviceassignment NAME -n NAMESPACE`
   shows all conditions and, below them, the events: Bound, Released, DeviceMoved (the card has another address now, and
   is followed), and one for each change of Ready. Read the first condition that is not True, in the order Accepted,
   Planned, GroupReady, Configured, Attached, Ready: the others follow from it. Its message names the device, its
   holder and the next step; its reason is a heading of this page.
   For pools it is `kubectl get vfpool`, then `kubectl get nodevfpool`: the NodeVFPool of a node has the conditions
   Planned, VFsReady, NetworkReady and Ready, each VF with its holder, and the libvirt network.
2. `kubectl get devicehost NODE -o yaml` shows what the agent of that node sees: whether IOMMU, VFIO and libvirt work
   (`status.conditions`), each device with its driver, its holder and the host's use of it (`status.devices`), the
   groups, the guests, and claims whose assignment is gone (`status.orphans`).
3. If a condition's `observedGeneration` is less than `metadata.generation`, nobody has looked at the change yet: see
   the logs of the controller and of the node's agent.

When you have mended a cause, it is tried again as the reason's entry says. Of an assignment that is bound to a node
only `attach`, `detach`, `network`, `adopt`, `requireAtStart`, `releasePolicy`, `approval` and `approvedPlan` of spec
can be changed: for anything else delete it and make a new one.

In the commands below ADDRESS is a PCI address (0000:01:00.0), NODE a node, NAME a guest or an assignment. `virsh`,
`lspci`, `dmesg`, `modprobe` and the like are for a root shell on the node.

## Ways out

- **A deletion waits.** `kubectl describe` says for what: most often for the guest to be shut off
  ([GuestRunning](#guestrunning)), or for its answer ([UnplugPending](#unplugpending)); a pool's for those who use it
  ([PoolInUse](#poolinuse), [VFsInUse](#vfsinuse)).
- **Stop all changes on a node:** `kubectl patch devicehost NODE --type merge -p '{"spec":{"paused":true}}'`. Guests
  keep what they have.
- **An orphan** (DeviceHost, `status.orphans`): its object is gone from the API without a release, as after an etcd
  restore. A claimed group stays claimed, a NIC of a pool stays in its guest, VFs and network of a pool stay as they
  are. If the object shall not come back, release the orphan:
  `kubectl patch devicehost NODE --type merge -p '{"spec":{"releaseOrphans":["<uid>"]}}'`
  The list replaces the one before. The orphan's `message` says what the release waits for; when it is done, the
  orphan is no longer listed. By hand, if the agent cannot do it: stop the agent; remove each hostdev and interface
  whose alias begins with `ua-hostdev-<uid>` from the guest's XML; `virsh nodedev-reattach` each member that the record
  `assignments/<uid>.json` in the state directory, if there is one, lists with a driver; delete that file; start the
  agent.
- **The node is gone for good** ([NodeGone](#nodegone)). Nobody is left to release. When its Node object is deleted,
  and only if its host is off for good: `kubectl annotate --overwrite devicehost NODE
  hostdev.dev/node-gone=$(date -u +%FT%TZ)`. [controller.md](controller.md) says what that does.
"""


def conditions() -> str:
    """docs/conditions.md."""
    rows = (
        f"| [{r.name}](troubleshooting.md#{r.name.lower()}) | {r.meaning} | {r.retry} |\n"
        for topic in TOPICS
        for r in CATALOGUE.values()
        if r.topic == topic
    )
    return _CONDITIONS + "".join(rows)


def troubleshooting() -> str:
    """docs/troubleshooting.md."""
    parts = [_TROUBLESHOOTING]
    for topic in TOPICS:
        parts.append(f"\n## {topic}\n")
        parts += [_entry(reason) for reason in CATALOGUE.values() if reason.topic == topic]
    return "".join(parts)


def render() -> dict[str, str]:
    """File name -> text of everything in docs/ that is generated."""
    return {"conditions.md": conditions(), "troubleshooting.md": troubleshooting()}


def write(folder: Path) -> None:
    """Write the generated files of docs/ anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text)


def _entry(reason: Reason) -> str:
    """One entry: heading (the anchor), meaning, what to do, when it heals, the words that lead here."""
    words = ", ".join(f"`{word}`" for word in reason.words)
    said = f"- Said by libvirt, QEMU or the kernel: {words}\n" if words else ""
    return (
        f"\n### {reason.name}\n\n{reason.meaning}\n\n"
        f"- What to do: {reason.remedy}\n- Tried again: {reason.retry}.\n{said}"
    )
