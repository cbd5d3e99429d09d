"""What the kind cluster is made of, built once into the user's cache folder, keyed by its inputs.

``python -m tests.e2e.kind.parts`` builds it all, unless KIND=plain says that it is not needed. Nothing of it comes from
an image registry: kind is built from the Go module that ``go/go.mod`` pins, and the image of its nodes is made of
Debian packages and of the programs of tests/cluster/binaries.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from image.cache import BuildError, Progress, digest_of, files_of, forget, run, stage
from tests.cluster import binaries
from tests.e2e.kind.cluster import plain

HERE = Path(__file__).resolve().parent
NODE = HERE / "node"
GO = HERE / "go"
#: Nodes in the cache, of 800 MB each.
_KEPT = 2
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GO_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def machine_packages() -> None:
    """Install what runs a docker of our own. Raises BuildError."""
    run([HERE / "machine-packages.sh"], "machine packages", {})


def kind(progress: Progress = print) -> Path:
    """Return the folder with the programs kind and pause."""

    def make(out: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise BuildError("no `go` on PATH: kind is built with it")
        for package in ("sigs.k8s.io/kind", "./pause"):
            words: list[str | Path] = [go, "-C", GO, "build", *_GO_FLAGS, "-o", out / Path(package).name, package]
            run(words, f"building {package}", {"CGO_ENABLED": "0", "GOWORK": "off"})

    return stage("kind", digest_of(files_of(GO)), make, progress)


def node_archive(progress: Progress = print) -> Path:
    """Return the archive of a node's root file system, for `docker import`. Needs root for a build.

    It holds the images of the control plane's pods, as kind's own node images do.
    """
    machine_packages()
    control_plane, nodes = binaries.ensure_all(progress)
    tools = kind(progress)

    def make(out: Path) -> None:
        root = out / "root"
        images = _images_wanted(nodes)
        run([NODE / "rootfs.sh", root, images["pause"]], "node's root file system", {})
        for program in (nodes / "kubelet", nodes / "kubeadm", control_plane / "kubectl"):
            shutil.copy(program, root / "usr/bin")
        (root / "kind/version").write_text(_version(nodes))
        _write_images(out / "images.tar", images, {"control-plane": control_plane, "nodes": nodes, "kind": tools}, root)
        run([NODE / "import-images.sh", root, out / "images.tar"], "images of the node", {})
        words: list[str | Path] = [
            "tar",
            "-C",
            root,
            "--numeric-owner",
            "--xattrs",
            "--exclude=./dev/*",
            "-cf",
            out / "node.tar",
            ".",
        ]
        run(words, "archive of the node", {})
        (out / "images.tar").unlink()
        shutil.rmtree(root)

    files = [Path(__file__), *files_of(NODE)]
    key = digest_of(files, control_plane.name, nodes.name, tools.name, platform.machine())
    folder = stage("kind-node", key, make, progress)
    forget(folder, _KEPT)
    return folder / "node.tar"


def _version(nodes: Path) -> str:
    done = subprocess.run([nodes / "kubeadm", "version", "-o", "short"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _images_wanted(nodes: Path) -> dict[str, str]:
    """The names that kubeadm gives to the images of a cluster, by what they hold."""
    words = [str(nodes / "kubeadm"), "config", "images", "list", "--kubernetes-version", _version(nodes)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return {name.rpartition("/")[2].partition(":")[0]: name for name in done.stdout.split()}


def _write_images(target: Path, names: Mapping[str, str], folders: Mapping[str, Path], root: Path) -> None:
    """An archive as `docker save` makes it, of images with one program each. CoreDNS is left out: nothing asks it."""
    manifest = []
    with tarfile.open(target, "w") as archive:
        for program, folder in _PROGRAMS.items():
            layer = target.with_suffix(f".{program}")
            with tarfile.open(layer, "w") as packed:
                packed.add(folders[folder] / program, f"usr/local/bin/{program}", filter=_roots)
                if program == "kube-proxy":
                    _add_iptables(packed, root)
            with layer.open("rb") as stream:
                diff = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
            archive.add(layer, f"{program}.tar", filter=_roots)
            layer.unlink()
            config = {
                "architecture": _ARCHITECTURES[platform.machine()],
                "os": "linux",
                "config": {"Env": [_PATH], "Entrypoint": [f"/usr/local/bin/{program}"]},
                "rootfs": {"type": "layers", "diff_ids": [diff]},
            }
            _add_text(archive, f"{program}.json", json.dumps(config))
            entry = {"Config": f"{program}.json", "RepoTags": [names[program]], "Layers": [f"{program}.tar"]}
            manifest.append(entry)
        _add_text(archive, "manifest.json", json.dumps(manifest))


#: Program -> the folder that has it. What kubeadm calls an image is the name of its program.
_PROGRAMS = {
    "pause": "kind",
    "etcd": "control-plane",
    "kube-apiserver": "control-plane",
    "kube-controller-manager": "nodes",
    "kube-scheduler": "nodes",
    "kube-proxy": "nodes",
}
_IPTABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def _add_iptables(packed: tarfile.TarFile, root: Path) -> None:
    """iptables, as the node has it, and the libraries that it loads: kube-proxy calls it."""
    program = Path("usr/sbin/xtables-nft-multi")
    extensions = sorted(path.relative_to(root) for path in root.glob("usr/lib/*-linux-gnu/xtables/*.so"))
    for path in (program, *extensions):
        packed.add(root / path, str(path), filter=_roots)
    words = ["chroot", str(root), "ldd", *(f"/{path}" for path in (program, *extensions))]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    # "NAME => /PATH (ADDRESS)", and the loader alone as "/PATH (ADDRESS)"
    found = {word for line in listed.splitlines() if line.endswith(")") for word in line.split() if word[0] == "/"}
    for library in sorted(found):
        words = ["chroot", str(root), "realpath", library]
        real = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        packed.add(root / real[1:], library[1:], filter=_roots)
    for name in _IPTABLES:
        link = tarfile.TarInfo(f"usr/sbin/{name}")
        link.type, link.linkname, link.mode = tarfile.SYMTYPE, program.name, 0o777
        packed.addfile(link)
    for name in ("run", "tmp"):
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        packed.addfile(folder)


def _roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same file, but everybody's who builds it."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    archive.addfile(member, io.BytesIO(text.encode()))


def _main() -> None:
    if plain():
        return
    try:
        node_archive(lambda line: print(line, file=sys.stderr, flush=True))
    except (BuildError, binaries.BinariesError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
