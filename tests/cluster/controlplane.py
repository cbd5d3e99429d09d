"""A real Kubernetes control plane for tests: etcd and kube-apiserver, alone.

No controller-manager, scheduler or kubelet runs. So nobody makes the ``default`` service account of a
namespace, collects objects whose owner is gone, ends a namespace's deletion, starts a pod, or confirms the
deletion of one that is bound to a node (delete it with ``--force --grace-period=0``). Custom resources,
admission, RBAC, watches and tokens are the true ones.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

from tests.cluster import audit, binaries, processes
from tests.cluster.certificates import make_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.cluster.audit import AuditEntry

# Where a guest on QEMU's user network reaches the loopback of the machine that runs it.
GUEST_ADDRESS = "10.0.2.2"
# Of the service `kubernetes`: the first address of the service range.
SERVICE_ADDRESS = "10.0.0.1"
# Both are ready in seconds; a loaded CI machine gets all the time it may need.
_READY_SECONDS = 180.0
_POLL_SECONDS = 0.05
_ETCD_STOP_SECONDS = 10.0
# Enough for an idle server. A client that watches would hold an orderly end up for a minute; it is cut off
# at no loss: the objects are in etcd and the audit log is written without a buffer.
_APISERVER_STOP_SECONDS = 2.0
_KUBECTL_SECONDS = 120.0
_LOG_TAIL_LINES = 30


class ControlPlaneError(RuntimeError):
    """A program of the control plane ended or never became ready; the message has the end of its log."""


class KubectlError(ControlPlaneError):
    """kubectl failed; the message has its command line, standard output and standard error."""


class ControlPlane:
    """One etcd and one kube-apiserver on the loopback interface, from :meth:`start` to :meth:`stop`.

    All files are below ``folder``. Start and stop from the main thread (see ``processes.die_with_parent``).
    """

    def __init__(self, folder: Path, programs: Path, nodes: Sequence[str] = ()) -> None:
        """Make keys, certificates and configuration below ``folder`` (it may exist); nothing runs yet.

        ``nodes``: the names under which kubelets may join.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._programs = programs
        self._certificates = make_certificates(
            self.folder / "pki", addresses=("127.0.0.1", GUEST_ADDRESS, SERVICE_ADDRESS), names=("localhost",)
        )
        self._tls = ssl.create_default_context(cafile=str(self._certificates.ca))
        self._reservation = _reserve_port()
        self.port: int = self._reservation.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.guest_url = f"https://{GUEST_ADDRESS}:{self.port}"
        self.ca_file = self._certificates.ca
        self.audit_log = self.folder / "audit.log"
        self._admin_token = secrets.token_hex(32)
        self.admin_kubeconfig = self.kubeconfig("admin", self._admin_token)
        self._node_tokens = {node: secrets.token_hex(32) for node in nodes}
        self._write_apiserver_files()
        self._etcd: subprocess.Popen[bytes] | None = None
        self._apiserver: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path, programs: Path | None = None, nodes: Sequence[str] = ()) -> Self:
        """Start both programs with no objects, and return when /readyz is ok and ``default`` exists.

        ``programs`` is the folder of the binaries; without it they are found or built (``binaries.ensure``).
        Raises ControlPlaneError when one of them ends or is not ready in time; nothing is left running then.
        """
        plane = cls(folder, programs or binaries.ensure(), nodes)
        try:
            plane._start_etcd()
            plane.start_apiserver()
        except BaseException:
            plane.stop()
            raise
        return plane

    def __enter__(self) -> Self:
        """Return the control plane itself, already running."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop both programs."""
        self.stop()

    def start_apiserver(self) -> None:
        """Start kube-apiserver on the same port and data, unless it runs, and wait until it is ready.

        Raises ControlPlaneError when it ends or is not ready in time.
        """
        if self._apiserver is None or self._apiserver.poll() is not None:
            self._apiserver = self._spawn("kube-apiserver", self._apiserver_flags())
        self._wait_until("kube-apiserver", self._apiserver, self._ready)

    def stop_apiserver(self) -> None:
        """End kube-apiserver within about 2 s, open watches too; etcd keeps the objects.

        Connections to the port are refused from now on.
        """
        if self._apiserver is not None:
            processes.end(self._apiserver, _APISERVER_STOP_SECONDS)
            self._apiserver = None

    def stop(self) -> None:
        """End both programs and free the port; the files stay. A second call does nothing."""
        self.stop_apiserver()
        if self._etcd is not None:
            processes.end(self._etcd, _ETCD_STOP_SECONDS)
            self._etcd = None
        self._reservation.close()

    def kubectl(
        self, *args: str, stdin: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, as the administrator unless ``kubeconfig`` says otherwise; capture its output.

        Raises KubectlError when ``check`` is set and the exit status is not 0, and
        subprocess.TimeoutExpired after 120 s.
        """
        # The user's configuration is not read and the user's cache is not written.
        environment = {
            **os.environ,
            "HOME": str(self.folder),
            "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
            "KUBECONFIG": str(kubeconfig or self.admin_kubeconfig),
        }
        done = subprocess.run(
            [str(self._programs / "kubectl"), *args],
            env=environment,
            # Without input kubectl must not wait for the terminal's.
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=_KUBECTL_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            command = f"kubectl {' '.join(args)}"
            raise KubectlError(f"{command} failed with {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}")
        return done

    def read(self, path: str) -> dict[str, Any] | None:
        """GET an object as the administrator, for example "/api/v1/nodes/n1"; None if it does not exist.

        For polling: kubectl costs a tenth of a second of processor time each time, this costs none.
        Raises ControlPlaneError for any other status, and OSError while the server is away.
        """
        status, content = self._request(path)
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        if status != http.HTTPStatus.OK:
            raise ControlPlaneError(f"GET {path}: {status} {content.decode(errors='replace')[:500]}")
        body: dict[str, Any] = json.loads(content)
        return body

    def kubeconfig(self, name: str, token: str, server: str | None = None) -> Path:
        """Write ``<name>.kubeconfig`` for ``token`` (mode 0600, authority embedded) and return its path.

        ``server`` is the URL to use in place of ``url``: ``guest_url`` for a client in a QEMU guest.
        """
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        cluster = {"server": server or self.url, "certificate-authority-data": authority}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "test", "user": name}}],
            "current-context": name,
        }
        path = self.folder / f"{name}.kubeconfig"
        # JSON is YAML: every client reads it.
        _write_secret(path, json.dumps(content, indent=2))
        return path

    def node_kubeconfig(self, node: str, server: str | None = None) -> Path:
        """For the kubelet of a node that was named at the start; ``server`` as for kubeconfig."""
        return self.kubeconfig(f"node-{node}", self._node_tokens[node], server)

    def allow(self, namespace: str) -> None:
        """Let the namespace have assignments for all guests, from all pools (docs/security.md)."""
        self.kubectl("label", "--overwrite", "namespace", namespace, "hostdev.dev/assignments=allowed")
        everything = ("hostdev.dev/guests=*", "hostdev.dev/pools=*")
        self.kubectl("annotate", "--overwrite", "namespace", namespace, *everything)

    def ensure_service_account(self, namespace: str, service_account: str) -> None:
        """Create the namespace and the service account where missing: nobody does it here by themselves."""
        account = {"namespace": namespace, "name": service_account}
        self._ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        self._ensure({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})

    def service_account_token(self, namespace: str, service_account: str, duration: str = "24h") -> str:
        """Return a token of an existing service account; ``duration`` as kubectl writes it (at least 10m).

        Raises KubectlError when there is no such service account.
        """
        return self._token(namespace, service_account, f"--duration={duration}")

    def pod_bound_token(self, namespace: str, service_account: str, pod_name: str, node_name: str) -> str:
        """Return a token of an existing service account as a kubelet would give it to the pod.

        It carries the node's name (``authentication.kubernetes.io/node-name``), and holds for a day at most
        and not longer than the pod exists. Node and pod are created where missing and never run. Raises
        KubectlError when there is no such service account, ControlPlaneError when the pod exists with another
        node or service account.
        """
        labels = {"kubernetes.io/hostname": node_name}  # as a kubelet does
        self._ensure({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name, "labels": labels}})
        spec = {
            "serviceAccountName": service_account,
            "nodeName": node_name,
            "containers": [{"name": "main", "image": "never-run"}],
        }
        metadata = {"namespace": namespace, "name": pod_name}
        pod = self._ensure({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        found = (pod["spec"].get("nodeName"), pod["spec"]["serviceAccountName"])
        if found != (node_name, service_account):
            raise ControlPlaneError(f"pod {namespace}/{pod_name} exists with node and service account {found}")
        bound = f"--bound-object-kind=Pod --bound-object-name={pod_name} --duration=24h".split()
        return self._token(namespace, service_account, *bound, f"--bound-object-uid={pod['metadata']['uid']}")

    def writes(self, since: float | None = None, user: str | None = None) -> list[AuditEntry]:
        """Return the writing requests so far, refused ones too (see ``audit.read_writes`` for the arguments).

        kube-apiserver logs a request as it ends, which its client may see a moment earlier: poll for it.
        """
        return audit.read_writes(self.audit_log, since, user)

    def _ensure(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Return the object as it is, created from ``manifest`` if it was missing."""
        metadata = manifest["metadata"]
        scope = [f"--namespace={metadata['namespace']}"] if "namespace" in metadata else []
        target = [manifest["kind"], metadata["name"], *scope]
        shown = self.kubectl("get", *target, "--ignore-not-found", "--output=json")
        if not shown.stdout:
            shown = self.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(manifest))
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def _token(self, namespace: str, service_account: str, *options: str) -> str:
        made = self.kubectl("create", "token", service_account, f"--namespace={namespace}", *options)
        return made.stdout.strip()

    def _write_apiserver_files(self) -> None:
        admin = f'{self._admin_token},test-admin,test-admin,"system:masters"\n'
        kubelets = (f"{token},system:node:{node},{node},system:nodes\n" for node, token in self._node_tokens.items())
        _write_secret(self.folder / "tokens.csv", "".join((admin, *kubelets)))
        (self.folder / "audit-policy.json").write_text(json.dumps(audit.POLICY), encoding="utf-8")

    def _start_etcd(self) -> None:
        # Unix sockets, named relative to the working directory: no race for a port, no limit on the path's
        # length. The ":0" is part of their names, since etcd wants to see a port.
        flags = [
            "--name=test",
            "--data-dir=etcd",
            "--listen-client-urls=unix://etcd:0",
            "--advertise-client-urls=unix://etcd:0",
            "--listen-peer-urls=unix://etcd-peer:0",
            "--initial-advertise-peer-urls=unix://etcd-peer:0",
            "--initial-cluster=test=unix://etcd-peer:0",
            "--unsafe-no-fsync",
        ]
        self._etcd = self._spawn("etcd", flags)
        self._wait_until("etcd", self._etcd, (self.folder / "etcd:0").exists)

    def _apiserver_flags(self) -> list[str]:
        made = self._certificates
        return [
            "--etcd-servers=unix://etcd:0",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            # The port stays reserved by this process, also while kube-apiserver is down.
            "--permit-port-sharing",
            # Nobody reads the endpoints of the `kubernetes` service, and finding an address for them takes a
            # default route, which a machine need not have.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={made.server}",
            f"--tls-private-key-file={made.server_key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={made.service_account_key}",
            f"--service-account-key-file={made.service_account_public_key}",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=Node,RBAC",
            # As kubeadm: a kubelet writes of its own node, and no label that is an administrator's.
            "--enable-admission-plugins=NodeRestriction",
            # No pod of ours is privileged.
            "--allow-privileged=false",
            "--audit-policy-file=audit-policy.json",
            f"--audit-log-path={self.audit_log}",
            # Each line is written before the request's handler returns, not in batches.
            "--audit-log-mode=blocking",
        ]

    def _spawn(self, program: str, flags: Iterable[str]) -> subprocess.Popen[bytes]:
        command = [str(self._programs / program), *flags]
        with self._log(program).open("ab") as log:
            return processes.die_with_parent(command, cwd=self.folder, stdout=log)

    def _log(self, program: str) -> Path:
        return self.folder / f"{program}.log"

    def _wait_until(self, program: str, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not ready():
            status = process.poll()
            if status is None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            what = f"was not ready after {_READY_SECONDS:.0f} s" if status is None else f"ended with {status}"
            lines = self._log(program).read_text(encoding="utf-8", errors="replace").splitlines()
            tail = "\n".join(lines[-_LOG_TAIL_LINES:])
            raise ControlPlaneError(f"{program} {what}; the end of {self._log(program)}:\n{tail}")

    def _ready(self) -> bool:
        # readyz does not wait for the system namespaces, without which a first test could create nothing.
        paths = ("/readyz", "/api/v1/namespaces/default")
        return all(self._status(path) == http.HTTPStatus.OK for path in paths)

    def _status(self, path: str) -> int | None:
        """Return the HTTP status of a GET, or None without an answer."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._request(path)[0]
        return None

    def _request(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self._tls)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._admin_token}"})
            response = connection.getresponse()
            return response.status, response.read()


def _reserve_port() -> socket.socket:
    """Return a socket that is bound to a free loopback port and never listens.

    With SO_REUSEPORT (kube-apiserver's ``--permit-port-sharing``) a process of the same user can listen there
    while nobody else can take the port; without a listener the kernel refuses connections, as it should for a
    stopped server.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation


def _write_secret(path: Path, content: str) -> None:
    """Write a file that only its owner could ever read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
