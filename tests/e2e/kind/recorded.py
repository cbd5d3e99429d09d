"""The hosts that the nodes simulate, and the overlay that gives each node its own one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from lxml import etree

from hostdev_operator.adapters.archive import pack, unpack
from hostdev_operator.core.recording import Link

REPOSITORY = Path(__file__).resolve().parents[3]
MANIFESTS = REPOSITORY / "manifests"
#: The laboratory host, whose devices the examples name.
_LAB = MANIFESTS / "overlays/development/host.tar.zst"
_CARD = "sys/devices/pci0000:00/0000:00:12.0/0000:03:00.0/0000:04:01.0/"
_MATE = "sys/devices/pci0000:00/0000:00:12.0/0000:03:00.0/0000:04:02.0/"


def recording(guests: Mapping[str, str]) -> bytes:
    """The recorded laboratory host, where nothing is assigned, with these guests (name -> UUID), which are off."""
    tree = unpack(_LAB.read_bytes())
    for path in [path for path in tree if path.startswith(("libvirt/guests/", "state/"))]:
        del tree[path]
    # the card's mate is held on vfio-pci there: here it has its driver, and an interface like the card's
    tree[f"{_MATE}driver"] = tree[f"{_CARD}driver"]
    for path in [path for path in tree if path.startswith(f"{_CARD}net")]:
        tree[path.replace(_CARD, _MATE).replace("ens1", "ens2")] = tree[path]
    tree[f"{_MATE}net/ens2/ifindex"] = b"99\n"
    tree[f"{_MATE}net/ens2/address"] = b"52:54:00:10:00:04\n"
    link = tree["sys/class/net/ens1"]
    assert isinstance(link, Link)
    tree["sys/class/net/ens2"] = Link(link.target.replace("04:01.0/net/ens1", "04:02.0/net/ens2"))
    answers = tree["libvirt.json"]
    assert isinstance(answers, bytes)
    listed = {uuid: {"name": name} for name, uuid in guests.items()}
    tree["libvirt.json"] = json.dumps({**json.loads(answers), "guests": listed}).encode()
    for name, uuid in guests.items():
        tree[f"libvirt/guests/{uuid}.config.xml"] = guest(name, uuid).encode()
    return pack(tree)


def guest(name: str, uuid: str) -> str:
    """The XML of a guest like the recorded one, without its devices of the host."""
    recorded = unpack(_LAB.read_bytes())
    template = next(entry for path, entry in recorded.items() if path.startswith("libvirt/guests/"))
    assert isinstance(template, bytes)
    tree = etree.fromstring(template)
    for tag, text in (("name", name), ("uuid", uuid)):
        element = tree.find(tag)
        assert element is not None
        element.text = text
    devices = tree.find("devices")
    assert devices is not None
    for hostdev in devices.findall("hostdev"):
        devices.remove(hostdev)
    return etree.tostring(tree, encoding="unicode")


def write_overlay(
    folder: Path, nodes: Mapping[str, Mapping[str, str]], base: Path = MANIFESTS / "overlays/development"
) -> None:
    """An overlay over the development one: node -> the guests of the host that it simulates."""
    folder.mkdir()
    for node, guests in nodes.items():
        (folder / f"{node}.tar.zst").write_bytes(recording(guests))
    words = "/spec/template/spec/containers/0/args/2"
    patch = [
        {"op": "test", "path": words, "value": "--simulate=/recording/host.tar.zst"},
        {"op": "replace", "path": words, "value": "--simulate=/recording/$(NODE_NAME).tar.zst"},
    ]
    made = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(base, folder)],
        "configMapGenerator": [
            {
                "name": "recording",
                "namespace": "hostdev-system",
                "behavior": "replace",
                "files": [f"{node}.tar.zst" for node in nodes],
            }
        ],
        "generatorOptions": {"disableNameSuffixHash": True},
        "patches": [{"target": {"kind": "DaemonSet"}, "patch": json.dumps(patch)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
