"""How kopf logs in, in a pod and outside of one."""

from __future__ import annotations

import os

import kopf
import pytest

from hostdev_operator.shell.runner import login

IN_A_POD = kopf.ConnectionInfo(server="https://kubernetes.default.svc", ca_path="/ca.crt", token="secret")
IN_KUBECONFIG = kopf.ConnectionInfo(server="https://127.0.0.1:6443")


def logged_in(monkeypatch: pytest.MonkeyPatch, account: kopf.ConnectionInfo | None) -> kopf.ConnectionInfo:
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: account)
    monkeypatch.setattr(kopf, "login_with_kubeconfig", lambda **_: IN_KUBECONFIG)
    found = login()
    assert found
    return found


@pytest.mark.parametrize(
    ("host", "server"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_a_pod_needs_no_name_service(monkeypatch: pytest.MonkeyPatch, host: str, server: str) -> None:
    """The agent is in the host's network, where no cluster's names are known."""
    monkeypatch.setitem(os.environ, "KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setitem(os.environ, "KUBERNETES_SERVICE_PORT", "443")
    found = logged_in(monkeypatch, IN_A_POD)
    assert (found.server, found.ca_path, found.token) == (server, "/ca.crt", "secret")


def test_outside_of_a_pod_kubeconfig_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    assert logged_in(monkeypatch, None) is IN_KUBECONFIG
