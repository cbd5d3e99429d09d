"""What all resources share: the base of the models, conditions, and types limited in size for the CRD."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

#: A PCI address as lspci and sysfs print it: ``0000:01:00.0`` (domain:bus:slot.function, hexadecimal).
AddressText = Annotated[str, Field(max_length=16)]
#: The name of a kernel driver as it stands in /sys/bus/pci/drivers.
DriverName = Annotated[str, Field(max_length=64)]
#: A guest's name in libvirt.
GuestName = Annotated[str, Field(min_length=1, max_length=255)]
#: A UUID in lower case with hyphens, as libvirt prints it.
Uuid = Annotated[str, Field(max_length=36, pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
#: The name of a Kubernetes node.
NodeName = Annotated[str, Field(min_length=1, max_length=253)]
#: The name of a VFPool: a DNS label (RFC 1123), since it is the first part of a NodeVFPool's name.
PoolName = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
#: What deleting an object does: give back what was taken, or leave all as it is.
ReleasePolicy = Literal["Return", "Keep"]
#: A PCI vendor or product: 0x and four hexadecimal digits.
PciId = Annotated[str, Field(max_length=6, pattern="^0x[0-9a-fA-F]{4}$")]
#: An integer, or hexadecimal text with 0x: decimal text is ambiguous, so it is not taken.
IntOrHex = Annotated[
    int | str,
    WithJsonSchema({"x-kubernetes-int-or-string": True}),
]


class Model(BaseModel):
    """Base of all API types: camelCase on the wire, frozen, unknown fields dropped as the API server does."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, without fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for a model's ``json_schema_extra``; each pair is (rule, message)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


_ADDRESS_RULE = (
    r"self.matches('^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F][.][0-7]$')"
    r" || self.matches('^pci_[0-9a-fA-F]{4,8}_[0-9a-fA-F]{2}_[01][0-9a-fA-F]_[0-7]$')"
)
#: A PCI address as a user writes it; ``core.pci`` reads both forms.
AddressInput = Annotated[
    str,
    Field(
        max_length=24,
        json_schema_extra=rules(
            (_ADDRESS_RULE, "address must be in lspci's form (0000:01:00.0) or libvirt's (pci_0000_01_00_0)")
        ),
    ),
]


class Condition(Model):
    """One condition in the form of metav1.Condition."""

    type: Annotated[str, Field(max_length=64)] = Field(description="Name of the condition in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(max_length=128)] = Field(
        description="Why, in one CamelCase word: the name of the check that failed, or of the state reached."
    )
    message: Annotated[str, Field(max_length=4096)] = Field(
        default="",
        description="Why, in a sentence: names the object, the device, its holder and the next step.",
    )
    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that the condition was computed from."
    )
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = Field(
        default="", description="When status last changed (RFC 3339, UTC)."
    )


#: Conditions as a map by type, so that two writers with server-side apply each keep their own.
Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
