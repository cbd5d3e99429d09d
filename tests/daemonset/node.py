"""Makes the lab host a node: containerd, the images it needs, a pod network, and a kubelet that joins the cluster.

There is no kube-proxy: one rule leads from the address of the service `kubernetes` to the API server. The lab host has
no default route and reaches the loopback of this machine alone, so no packet leaves it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.cluster.controlplane import GUEST_ADDRESS, SERVICE_ADDRESS, ControlPlane
from tests.lab.host import LabHost
from tests.lab.process import Process

#: Where LabHost.boot shows the kubelet and the image of the operator, from this machine's cache.
PROGRAMS, IMAGES = "/nodes", "/images"

_PAUSE = "lab.test/pause:1"
_KUBECONFIG, _KUBELET_CONFIG = "/etc/kubernetes/kubelet.kubeconfig", "/etc/kubernetes/kubelet.yaml"
_POD_NETWORK = "10.244.0.0/24"
_ADDRESS = "10.0.2.15"  # tests/lab/image/root/lab/management

_CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
_CNI = {
    "cniVersion": "0.4.0",
    "name": "lab",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": _POD_NETWORK}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}
#: The kubelet answers nobody, and there is no memory to spare for what it would keep free.
_KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "cgroupDriver": "cgroupfs",
    "failSwapOn": False,
    "enableServer": False,
    "healthzPort": 0,
    "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "evictionHard": {"memory.available": "50Mi"},
}


@dataclass
class Node:
    """The lab host as a node of the cluster. Its log of containerd and kubelet is with the lab's."""

    lab: LabHost
    plane: ControlPlane
    name: str
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self) -> None:
        """Containerd, network and kubelet, on a host that was just started; images are there from before, if any."""
        self.lab.write("/etc/containerd/config.toml", _CONTAINERD)
        self.lab.write("/etc/cni/net.d/10-lab.conflist", json.dumps(_CNI))
        self.lab.write("/etc/resolv.conf", "")
        self.lab.write(_KUBELET_CONFIG, json.dumps(_KUBELET))
        self.lab.put(self.plane.node_kubeconfig(self.name, self.plane.guest_url), _KUBECONFIG)
        self.processes["containerd"] = self.lab.spawn("exec containerd", "containerd")
        self._network()
        self.lab.run(f"test -e /usr/local/bin/kubelet || cp {PROGRAMS}/kubelet /usr/local/bin/kubelet")
        self.lab.run("until ctr version > /dev/null 2>&1; do sleep 0.2; done", timeout=300)
        self.processes["kubelet"] = self.lab.spawn(
            f"exec kubelet --config={_KUBELET_CONFIG} --kubeconfig={_KUBECONFIG}"
            # cAdvisor's figures, which nobody reads, cost an emulated processor a lot
            f" --hostname-override={self.name} --node-ip={_ADDRESS} --housekeeping-interval=1m",
            "kubelet",
        )
        self._import_images()  # while it joins

    def _network(self) -> None:
        """What kube-proxy would make of the service `kubernetes`: for pods, and for the host's own programs."""
        rule = f"-d {SERVICE_ADDRESS} -p tcp --dport 443 -j DNAT --to {GUEST_ADDRESS}:{self.plane.port}"
        self.lab.run(
            f"device=$(ip -o address show to {_ADDRESS} | cut -d' ' -f2);"
            f" ip route replace {SERVICE_ADDRESS} dev $device;"
            f" for chain in PREROUTING OUTPUT; do iptables -t nat -A $chain {rule}; done"
        )

    def _import_images(self) -> None:
        if _PAUSE in self.images():
            return
        pause = self.lab.machine.share / "pause.tar"
        busybox = self.lab.machine.image.rootfs / "usr/bin/busybox"
        make_image(pause, _PAUSE, {"busybox": busybox.read_bytes()}, ["/busybox", "sleep", "2147483647"])
        for archive in (f"/share/{pause.name}", f"{IMAGES}/image.tar"):
            self.lab.run(["ctr", "-n", "k8s.io", "images", "import", archive], timeout=600)

    def images(self) -> list[str]:
        """The names of the images that are here."""
        return self.lab.run("ctr -n k8s.io images ls -q").stdout.split()

    def tag(self, old: str, new: str) -> None:
        """Another name for an image."""
        self.lab.run(["ctr", "-n", "k8s.io", "images", "tag", f"docker.io/library/{old}", f"docker.io/library/{new}"])


def make_image(archive: Path, name: str, files: Mapping[str, bytes], command: list[str]) -> None:
    """Write an image of one layer, of programs, as `docker save` would."""
    with io.BytesIO() as layer:
        with tarfile.open(fileobj=layer, mode="w") as packed:
            for path, content in files.items():
                _add(packed, path, content, 0o755)
        content = layer.getvalue()
    history = {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(content).hexdigest()}"]}}
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": command}, **history}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as packed:
        _add(packed, "layer.tar", content)
        _add(packed, "config.json", json.dumps(config).encode())
        _add(packed, "manifest.json", json.dumps(manifest).encode())


def _add(packed: tarfile.TarFile, path: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(content), mode
    packed.addfile(member, io.BytesIO(content))
