"""A node of libvirt's test driver, made from text: no hypervisor, but libvirt's own parsing and formatting."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.samples import DB, NIC, WEB

HOSTDEV = """<hostdev mode='subsystem' type='pci' managed='yes'>
  <source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source><alias name='ua-mine'/></hostdev>"""


def _domain(uuid: str, name: str, state: int, devices: str) -> str:
    return f"""<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
      <name>{name}</name><uuid>{uuid}</uuid><memory>1024</memory><os><type>hvm</type></os>
      <devices>{devices}</devices>
      <test:runstate>{state}</test:runstate></domain>"""


_RUNNING, _OFF = 1, 5
_NODE = f"""<node>
  {_domain(WEB, "web", _OFF, HOSTDEV + "<disk type='block'><source dev='/dev/sdb'/><target dev='vda'/></disk>")}
  {_domain(DB, "db", _RUNNING, "<interface type='bridge'><source bridge='br0'/></interface>")}
  <network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>
  <device><name>computer</name><capability type='system'><hardware><uuid>{WEB}</uuid></hardware></capability></device>
  <device><name>{NIC.libvirt_name}</name><parent>computer</parent><capability type='pci'>
    <domain>0</domain><bus>1</bus><slot>0</slot><function>0</function>
    <product id='0x10d3'>82574L</product><vendor id='0x8086'>Intel Corporation</vendor></capability></device>
</node>"""


def uri(folder: Path) -> str:
    """The URI of the node, which is described in this folder."""
    path = folder / "node.xml"
    path.write_text(_NODE)
    return f"test://{path}"
