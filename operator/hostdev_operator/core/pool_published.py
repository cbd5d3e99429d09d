"""A pool's record in a status, and back: the published copy of the journal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..api.vfpool import PoolRecordStatus, VfBefore
from .pci import PciAddress
from .pool import PoolRecord
from .published import identity_from_status, identity_status
from .sriov import VfConfig

_SETTINGS = ("trust", "spoof_check", "link_state", "min_tx_rate", "max_tx_rate")


def pool_record_status(record: PoolRecord) -> PoolRecordStatus:
    """The record's published copy. Pools change neither MAC nor VLAN of a VF, so the copy has none."""
    return PoolRecordStatus(
        sequence=record.sequence,
        pf=str(record.pf),
        identity=identity_status(record.identity),
        pf_mac=record.pf_mac,
        num_vfs_before=record.num_vfs_before,
        autoprobe_before=record.autoprobe_before,
        up_before=record.up_before,
        num_vfs=record.num_vfs,
        autoprobe=record.autoprobe,
        link_up=record.link_up,
        network_name=record.network_name,
        network_uuid=record.network_uuid,
        adopted=record.adopted,
        vfs_before=tuple(
            VfBefore(index=index, **_settings(config)) for index, config in sorted(record.vfs_before.items())
        ),
    )


def _settings(config: VfConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name in _SETTINGS}


def pool_record_from_status(copy: PoolRecordStatus, uid: str, name: str) -> PoolRecord:
    """The record from its published copy, for a node that lost its state directory; ValueError if it is malformed."""
    return PoolRecord(
        uid=uid,
        name=name,
        pf=PciAddress.parse(copy.pf),
        identity=identity_from_status(copy.identity),
        pf_mac=copy.pf_mac,
        num_vfs_before=copy.num_vfs_before,
        up_before=copy.up_before,
        network_name=copy.network_name,
        autoprobe_before=copy.autoprobe_before,
        num_vfs=copy.num_vfs,
        autoprobe=copy.autoprobe,
        link_up=copy.link_up,
        network_uuid=copy.network_uuid,
        adopted=copy.adopted,
        vfs_before={
            before.index: VfConfig(**{field: getattr(before, field) for field in _SETTINGS})
            for before in copy.vfs_before
        },
        sequence=copy.sequence,
    )
