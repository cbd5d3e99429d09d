"""A plan as status shows it, and who lets it begin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import Model

#: How many actions status shows; the hash is over all of them.
MOST_ACTIONS = 256

#: Who lets a plan begin.
Approval = Literal["Automatic", "Manual"]
#: The hash of a plan: hexadecimal digits.
PlanHash = Annotated[str, Field(max_length=32, pattern="^[0-9a-f]{32}$")]
#: What an action interrupts.
Disruption = Literal["None", "HostDevice", "HotPlug", "GuestRestart", "LinkDown", "GuestMemory"]
_Text = Annotated[str, Field(max_length=1024)]


class PlanAction(Model):
    """One action of a plan."""

    action: Annotated[str, Field(max_length=32)] = Field(description="Its kind, such as DetachDriver.")
    summary: _Text = Field(description="What is done, in a few words.")
    device: Annotated[str, Field(max_length=16)] | None = Field(
        default=None, description="PCI address of what is changed; absent if it is no device of the host."
    )
    before: _Text = Field(default="", description="What is there now.")
    after: _Text = Field(default="", description="What is there afterwards.")
    reason: _Text = Field(default="", description="Why it is done.")
    disruption: Disruption = Field(
        default="None",
        description="What it interrupts. None: nothing. HostDevice: the host loses a device that it has a driver for."
        " HotPlug: a running guest gets or loses a device. GuestRestart: a running guest has it after its next"
        " shutdown and start, which nobody does for you. LinkDown: a network link is interrupted."
        " GuestMemory: what a saved guest had in memory is lost.",
    )


class ApprovedPlan(Model):
    """A plan that was approved and is not the one of the node any more."""

    hash: PlanHash = Field(description="Its hash.")
    actions: Annotated[tuple[_Text, ...], Field(max_length=MOST_ACTIONS)] = Field(
        default=(), description="Its actions, each in one line."
    )


class PlanStatus(Model):
    """The plan that waits for approval; else the last one that had anything to do."""

    hash: PlanHash = Field(
        description="Names the plan: the same as long as actions, devices and node are the same and it was not carried"
        " out under spec.approval Manual."
    )
    actions: Annotated[tuple[PlanAction, ...], Field(max_length=MOST_ACTIONS)] = Field(
        default=(), description="What is done, in this order; the first 256 if there are more."
    )
    approved: ApprovedPlan | None = Field(
        default=None,
        description="The plan that was approved, if the host has changed since and this one waits: compare both.",
    )
