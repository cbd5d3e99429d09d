"""Keys and certificates of one test run, made with the openssl program (the standard library makes none)."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Extensions as RFC 5280 wants them: Python 3.13 verifies with VERIFY_X509_STRICT, which refuses a certificate
# authority without key usage.
_OPENSSL_CONFIG = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class OpensslError(RuntimeError):
    """openssl is missing or refused; the message carries its output."""


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files; the keys are P-256, the certificates are valid for two days from now."""

    ca: Path
    server: Path
    server_key: Path
    service_account_key: Path
    service_account_public_key: Path


def make_certificates(folder: Path, addresses: tuple[str, ...], names: tuple[str, ...]) -> Certificates:
    """Make a certificate authority, a server certificate signed by it, and keys for service account tokens.

    ``addresses`` (IP) and ``names`` (DNS) become the server's subject alternative names. Raises OpensslError.
    """
    folder.mkdir(mode=0o700)
    alternatives = [*(f"IP:{address}" for address in addresses), *(f"DNS:{name}" for name in names)]
    config = folder / "openssl.cnf"
    config.write_text(_OPENSSL_CONFIG.format(names=", ".join(alternatives)), encoding="utf-8")
    made = Certificates(
        ca=folder / "ca.crt",
        server=folder / "server.crt",
        server_key=folder / "server.key",
        service_account_key=folder / "service-account.key",
        service_account_public_key=folder / "service-account.pub",
    )
    ca_key = folder / "ca.key"
    request = ["req", "-x509", "-config", str(config), "-days", "2", "-nodes", "-newkey", "ec"]
    request += ["-pkeyopt", "ec_paramgen_curve:P-256"]
    authority = ["-subj", "/CN=test-ca", "-extensions", "authority"]
    _openssl(*request, *authority, "-keyout", str(ca_key), "-out", str(made.ca))
    server = ["-subj", "/CN=kube-apiserver", "-extensions", "server"]
    signer = ["-CA", str(made.ca), "-CAkey", str(ca_key)]
    _openssl(*request, *server, *signer, "-keyout", str(made.server_key), "-out", str(made.server))
    pair = str(made.service_account_key)
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", pair)
    _openssl("pkey", "-in", pair, "-pubout", "-out", str(made.service_account_public_key))
    return made


def _openssl(*args: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        message = "no `openssl` on PATH, which makes the test control plane's certificates: apt-get install openssl"
        raise OpensslError(message)
    # `req -CA` came with OpenSSL 3.0 (Debian 12, Ubuntu 22.04).
    process = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    if process.returncode != 0:
        command = f"openssl {' '.join(args)}"
        message = f"{command} failed with {process.returncode} (3.0 or newer is needed):\n{process.stderr}"
        raise OpensslError(message)
