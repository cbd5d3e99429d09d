"""Rows of the failure catalogue for the preparation of a host."""

from __future__ import annotations

from .reasons import CATALOGUE, TOPICS, Reason, Retry

_TOPIC = "Preparing a host"
TOPICS.append(_TOPIC)


def _row(name: str, retry: Retry, meaning: str, remedy: str) -> Reason:
    row = CATALOGUE[name] = Reason(name, retry, meaning, remedy, topic=_TOPIC)
    return row


# fmt: off
NOT_PREPARED = _row("NotPrepared", Retry.ON_EVENT,
    "spec.preparation of the DeviceHost asks for something that the host has not.",
    "The message has the commands, and so has the condition that it names. With `mode: Apply` the host's own unit does"
    " what can be done from the running system; the firmware's settings are yours.")
PREPARATION_UNIT_MISSING = _row("PreparationUnitMissing", Retry.ON_EVENT,
    "spec.preparation says Apply, and the host has no unit hostdev-prepare that answers, or one of another version.",
    "Install `manifests/host/hostdev-prepare` on the node as docs/host.md says; if it is there: `systemctl status"
    " hostdev-prepare.path hostdev-prepare.service`. Or set `mode: Check`, and carry out what the message names.")
PREPARATION_FAILED = _row("PreparationFailed", Retry.ON_EVENT,
    "The host's unit could not do all that it was asked for; files that it could not change rightly are as they were.",
    "The message has what it said; `journalctl -u hostdev-prepare` has more. When its cause is mended: `systemctl"
    " restart hostdev-prepare`.")
REBOOT_REQUIRED = _row("RebootRequired", Retry.ON_EVENT,
    "What stands for the next boot is not in force yet.",
    "Shut the guests off, or move them, and reboot the node when that suits: `kubectl drain NODE --ignore-daemonsets`,"
    " `systemctl reboot`. Nobody does it for you. Since when: the condition's lastTransitionTime.")
# fmt: on
