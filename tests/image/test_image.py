"""The image as `make image` builds it, and its pods, started as manifests/ says, on the real API server."""

from __future__ import annotations

import copy
import http.client
import json
import socket
import time
from pathlib import Path

import pytest

from image import build
from image.cache import REPOSITORY
from tests.cluster.controlplane import ControlPlane
from tests.image.pod import Body, Pod, Rootfs, Running
from tests.manifests.test_pods import MANIFESTS, agent, controller, render

#: The goal is 5 s on a normal host (docs/install.md); a busy machine gets more.
_READY_SECONDS = 30.0
_LIMIT_BYTES = 200e6


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> build.Image:
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    return build.ensure(reporter.write_line if reporter else print)


@pytest.fixture(scope="session")
def rootfs(image: build.Image, tmp_path_factory: pytest.TempPathFactory) -> Rootfs:
    return Rootfs(image.archive, tmp_path_factory.mktemp("image") / "rootfs")


@pytest.fixture
def account(plane: ControlPlane, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A pod's service account, as a kubelet would mount it."""
    folder = tmp_path / "account"
    folder.mkdir()
    token = plane.pod_bound_token("hostdev-system", f"hostdev-{request.param}", f"image-{request.param}", "image-node")
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(plane.ca_file.read_bytes())
    (folder / "namespace").write_text("hostdev-system")
    return folder


def values(plane: ControlPlane) -> dict[str, str]:
    server = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
    pod = {"NODE_NAME": "image-node", "POD_IP": "127.0.0.1", "POD_NAMESPACE": "hostdev-system"}
    return {**pod, **server}


@pytest.fixture
def port() -> int:
    """A free one: the machine's network is everybody's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def with_port(spec: Body, port: int) -> Body:
    made = copy.deepcopy(spec)
    made["containers"][0]["args"].append(f"--probe-port={port}")
    return made


def answer(port: int, path: str) -> tuple[int, str]:
    """Of a probe; (0, "") while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode().strip()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def wait_for_kopf(running: Running) -> None:
    """Which begins when all has been read, and heeds SIGTERM from then on; that it watches is told by readiness."""
    running.wait_for("kopf", lambda: "Initial authentication has finished" in running.out())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def _writable(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path


def test_small_labelled_and_nobodys(image: build.Image, rootfs: Rootfs) -> None:
    assert image.bytes < _LIMIT_BYTES
    assert rootfs.config["User"] == "65532:65532"
    labels = rootfs.config["Labels"]
    assert {name.rpartition(".")[2] for name in labels if name.startswith("org.opencontainers.image.")} >= {
        "title",
        "description",
        "licenses",
        "version",
        "revision",
    }
    assert f"hostdev-operator:{labels['org.opencontainers.image.version']}" == image.name


def test_no_tools_to_build_with_and_no_bytecode_that_is_stale(rootfs: Rootfs) -> None:
    programs = {path.name for place in ("usr/bin", "usr/sbin") for path in (rootfs.path / place).iterdir()}
    assert not programs & {"pip", "pip3", "gcc", "cc", "ld", "make", "git", "curl", "wget"}
    site = next((rootfs.path / "opt/hostdev-operator/lib").glob("python3*/site-packages"))
    assert not {path.name for path in site.iterdir()} & {"pip", "setuptools"}
    assert not list(site.glob("__editable__*"))
    compiled = [*(rootfs.path / "usr/lib").glob("python3*/**/*.pyc"), *site.rglob("*.pyc")]
    assert len(compiled) > 1000
    # PEP 552: flags 1 are of bytecode that is never compared with its source
    assert [path for path in compiled if path.read_bytes()[4:8] != b"\1\0\0\0"] == []


def test_the_sbom_has_both_kinds_of_packages(image: build.Image) -> None:
    sbom = json.loads(image.sbom.read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    versions = {component["name"]: component["version"] for component in sbom["components"] if "version" in component}
    lock = (REPOSITORY / "requirements.lock").read_text()
    for name in ("kopf", "libvirt-python", "lxml", "pydantic"):
        assert f"{name}=={versions[name]} " in lock
    assert {"libvirt0", "libc6", "python3"} <= versions.keys()


@pytest.mark.parametrize("account", ["agent"], indirect=True)
def test_a_simulating_agent_becomes_ready_and_reports(
    plane: ControlPlane, rootfs: Rootfs, account: Path, folder: Path, port: int
) -> None:
    overlay = MANIFESTS / "overlays/development"
    spec = with_port(agent(render(plane, overlay)), port)
    places = {name: _writable(folder.parent / name) for name in ("state", "tmp")}
    began = time.monotonic()
    with Pod(rootfs, spec, values(plane), account, {**places, "recording": overlay}).start(folder) as running:
        running.wait_for("ready", lambda: answer(port, "/readyz") == (200, "ok"))
        seconds = time.monotonic() - began
        print(f"cold start to ready: {seconds:.1f} s")
        assert seconds < _READY_SECONDS
        assert plane.read("/apis/hostdev.dev/v1alpha1/devicehosts/image-node") is not None
        running.ends_when_told()
    plane.kubectl("delete", "devicehost", "image-node")


@pytest.mark.parametrize("account", ["controller"], indirect=True)
def test_the_controller_becomes_ready(
    plane: ControlPlane, rootfs: Rootfs, account: Path, folder: Path, port: int
) -> None:
    spec = with_port(controller(render(plane, MANIFESTS / "overlays/default")), port)
    with Pod(rootfs, spec, values(plane), account, {}).start(folder) as running:
        running.wait_for("ready", lambda: answer(port, "/readyz") == (200, "ok"))
        running.ends_when_told()


def _agent(plane: ControlPlane, rootfs: Rootfs, account: Path | None, folder: Path, port: int) -> Pod:
    """The DaemonSet's own, on this machine, where no libvirt listens: it looks, and changes nothing."""
    spec: Body = with_port(agent(render(plane, MANIFESTS / "overlays/default")), port)
    places = {name: _writable(folder.parent / name) for name in ("libvirt", "state")}
    return Pod(rootfs, spec, values(plane), account, places)


@pytest.mark.parametrize("account", ["agent"], indirect=True)
def test_the_daemonsets_agent_lives_and_says_what_it_misses(
    plane: ControlPlane, rootfs: Rootfs, account: Path, folder: Path, port: int
) -> None:
    with _agent(plane, rootfs, account, folder, port).start(folder) as running:
        running.wait_for("alive", lambda: answer(port, "/healthz") == (200, "ok"))
        running.wait_for("unready", lambda: answer(port, "/readyz") == (503, "libvirt does not answer"))
        wait_for_kopf(running)
        assert "changes of the host are not told" not in running.out()  # uevents, rtnetlink, mountinfo, swaps
        assert (folder.parent / "state/agent.lock").exists()
        running.ends_when_told()
    plane.kubectl("delete", "devicehost", "image-node", "--ignore-not-found")


_LOOK = """
import errno, glob, json, os, socket
def opened(path, flags):
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"
def status(name):
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name))
def first(pattern):
    return next(path for path in glob.iglob(pattern, recursive=True) if os.stat(path).st_mode & 0o200)
import libvirt
print(json.dumps({
    "libvirt": libvirt.getVersion() > 0,
    "effective": status("CapEff:"), "bounding": status("CapBnd:"), "seccomp": status("Seccomp:"),
    "own root": opened("/opt/new", os.O_WRONLY | os.O_CREAT),
    "tmp": opened("/tmp/new", os.O_WRONLY | os.O_CREAT),
    "state": opened("/var/lib/hostdev-operator/new", os.O_WRONLY | os.O_CREAT),
    "libvirt's folder": opened("/run/libvirt/new", os.O_WRONLY | os.O_CREAT),
    "PID 1": "/" in open("/host/proc/1/mountinfo").read() and bool(open("/host/proc/1/net/route").read()),
    "sysctl": opened("/host/proc/sys/kernel/panic", os.O_WRONLY),
    "a module's parameter": opened(first("/host/sys/module/*/parameters/*"), os.O_WRONLY),
    "cgroups": opened(first("/host/sys/fs/cgroup/**/cgroup.procs"), os.O_WRONLY),
    "a device": opened("/host/sys/class/net/lo/ifalias", os.O_WRONLY),
}))
"""


def test_what_the_daemonsets_agent_can_write(plane: ControlPlane, rootfs: Rootfs, folder: Path, port: int) -> None:
    """Files are opened, nothing is written."""
    python = rootfs.config["Entrypoint"][:2]
    with _agent(plane, rootfs, None, folder, port).start(folder, [*python, "-c", _LOOK]) as running:
        assert running.process.wait(60) == 0, running.out()
        out = running.out()
    assert json.loads(out) == {
        "libvirt": True,
        "effective": "0000000000001000",
        "bounding": "0000000000001000",
        "seccomp": "2",
        "own root": "EROFS",
        "tmp": "EROFS",
        "state": "ok",
        "libvirt's folder": "EROFS",
        "PID 1": True,
        "sysctl": "EROFS",
        "a module's parameter": "EROFS",
        "cgroups": "EROFS",
        "a device": "ok",
    }


@pytest.mark.long
def test_the_same_inputs_make_the_same_image(image: build.Image, tmp_path: Path) -> None:
    """With nothing from before. Debian's packages must not have changed meanwhile."""
    out = tmp_path / "out"
    out.mkdir()
    again = build.build_anew(out, tmp_path / "store")
    assert (again.id, again.archive.read_bytes() == image.archive.read_bytes()) == (image.id, True)
    assert again.sbom.read_bytes() == image.sbom.read_bytes()
