"""Messages of rtnetlink, some to the kernel of this machine. Real VFs are in tests/lab/test_sriov.py."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hostdev_operator.adapters import netlink
from hostdev_operator.adapters.netlink import Netlink, parse_vfs
from hostdev_operator.core.sriov import VfConfig

REPOSITORY = Path(__file__).resolve().parents[2]
LOOPBACK, NOBODY = 1, 0x7FFFFFF0
_HEADER, _LINK = 16, 16

IN_A_NAMESPACE_OF_ITS_OWN = """
from pathlib import Path
from hostdev_operator.adapters.netlink import Netlink
from hostdev_operator.core.sriov import VfConfig
import socket, fcntl, struct
def up():
    with socket.socket() as s:
        return struct.unpack("16sH", fcntl.ioctl(s, 0x8913, struct.pack("16sH14x", b"lo", 0))[:18])[1] & 1
print(up())
for wanted in (True, True, False):
    Netlink().set_up(1, up=wanted)
    print(up())
"""


def test_a_link_goes_up_and_down() -> None:
    command = ["unshare", "--net", sys.executable, "-c", IN_A_NAMESPACE_OF_ITS_OWN]
    environment = {"PYTHONPATH": str(REPOSITORY / "operator")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["0", "1", "1", "0"], "")


def test_an_interface_without_vfs_has_none() -> None:
    assert Netlink().vfs(LOOPBACK) == {}


@pytest.mark.parametrize("config", [VfConfig(trust=True), VfConfig(mac="52:54:00:aa:bb:01", vlan=3, max_tx_rate=1)])
def test_the_kernel_understands_what_it_refuses(config: VfConfig) -> None:
    """EINVAL would be said of a message that it cannot read."""
    with pytest.raises(OSError, match="not supported") as caught:
        Netlink().configure(LOOPBACK, 0, config)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_an_interface_that_is_not_there_is_told() -> None:
    for call in (
        lambda: Netlink().vfs(NOBODY),
        lambda: Netlink().set_up(NOBODY, up=True),
        lambda: Netlink().configure(NOBODY, 0, VfConfig(trust=True)),
    ):
        with pytest.raises(OSError, match="No such device") as caught:
            call()
        assert caught.value.errno == errno.ENODEV


def test_the_words_of_the_kernel_are_told_with_the_number() -> None:
    words = b"VF 0 still in reset. Try again.\0"
    more = struct.pack("=HH", 4 + len(words), 1) + words
    body = struct.pack("=i", -errno.EAGAIN) + bytes(_HEADER) + more
    with pytest.raises(OSError, match=r"temporarily unavailable \(VF 0 still in reset") as caught:
        netlink._raise_error(body, 0x200 | 0x100)
    assert caught.value.errno == errno.EAGAIN
    netlink._raise_error(struct.pack("=i", 0) + bytes(_HEADER), 0)


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def test_what_is_written_is_what_is_read() -> None:
    """The same structs serve both ways (ifla_vf_mac and so on)."""
    config = VfConfig("52:54:00:aa:bb:01", 4094, trust=True, spoof_check=False, link_state="disable", max_tx_rate=100)
    vfs = attribute(1, b"".join(netlink._settings(200, config)))
    assert parse_vfs(attribute(22, vfs)) == {
        200: VfConfig("52:54:00:aa:bb:01", 4094, True, False, "disable", 0, 100),
    }


def test_what_a_driver_does_not_tell_is_unknown() -> None:
    mac = attribute(1, struct.pack("=I32s", 3, bytes.fromhex("525400aabb01")))
    untold = attribute(4, struct.pack("=II", 3, 0xFFFFFFFF)) + attribute(9, struct.pack("=II", 3, 0xFFFFFFFF))
    strange = attribute(5, struct.pack("=II", 3, 9)) + attribute(99, b"new")
    vfs = attribute(1, mac + untold + strange)
    assert parse_vfs(attribute(3, b"eth3\0") + attribute(22, vfs)) == {3: VfConfig("52:54:00:aa:bb:01")}


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 20, 39])
def test_a_reply_that_is_cut_short_is_no_loop_and_no_made_up_vf(cut: int) -> None:
    whole = attribute(22, attribute(1, attribute(1, struct.pack("=I32s", 3, b"\1" * 6))))
    assert len(parse_vfs(whole)) == 1
    assert parse_vfs(bytes(4) + whole) == {}
    assert len(parse_vfs(whole[:cut])) == 0
