"""What libvirt's errors mean: the object is gone, or a reason of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import libvirt

from ..core import reasons
from ..core.reasons import Reason

T = TypeVar("T")

_GONE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_NODE_DEVICE,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
)
_AWAY = (libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN)
_BY_CODE = {
    libvirt.VIR_ERR_NO_NODE_DEVICE: reasons.DEVICE_NOT_FOUND,
    libvirt.VIR_ERR_NO_DOMAIN: reasons.GUEST_NOT_FOUND,
    libvirt.VIR_ERR_NO_NETWORK: reasons.POOL_NOT_FOUND,
}


def unless_gone(work: Callable[..., T], *arguments: object) -> T | None:
    """None if the object vanished between listing and reading."""
    try:
        return work(*arguments)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return None
        raise


def reason_of(error: libvirt.libvirtError) -> Reason:
    """By its code, else by its words."""
    code = error.get_error_code()
    if code in _AWAY:
        return reasons.LIBVIRT_UNAVAILABLE
    return _BY_CODE.get(code) or reasons.from_words(str(error))
