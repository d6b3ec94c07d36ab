"""Who knows whom over TLS: the credentials of QEMU's TLS migration tests, and what must come of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2kemu.migration.certs import make_pki, make_psk
from tests.framework.pairs import options

CLIENT = "source.example.org"
IDENTITY = f"O=e2kemu,,CN={CLIENT}"


def make_keys(directory: Path) -> None:
    """``local`` and ``named`` with certificates of one CA, ``anonymous`` with the CA only, two with keys of alice."""
    make_pki(directory / "local", hosts=["127.0.0.1"], client_name=CLIENT)
    make_pki(directory / "named", hosts=["host.example.org"], client_name=CLIENT, ca_from=directory / "local")
    anonymous = directory / "anonymous"
    anonymous.mkdir()
    (anonymous / "ca-cert.pem").write_bytes((directory / "local/ca-cert.pem").read_bytes())
    for name in ("psk", "other-psk"):
        make_psk(directory / name, "alice")


@dataclass(frozen=True)
class Tls:
    """A row: credentials of both ends; ``source_says`` and ``destination_says`` of one that must fail."""

    kind: str
    client: str
    server: str
    transport: str = "tcp"
    hostname: str = ""
    verify_peer: bool = True
    authz: str = ""
    source_says: str = ""
    destination_says: str = ""

    def objects(self, keys: Path) -> tuple[list[str], list[str]]:
        client = f"tls-creds-{self.kind},id=tls0,dir={keys / self.client},endpoint=client"
        server = f"tls-creds-{self.kind},id=tls0,dir={keys / self.server},endpoint=server"
        if self.kind == "psk":
            return options(f"{client},username=alice"), options(server)
        server += f",verify-peer={'on' if self.verify_peer else 'off'}"
        authz = [f"authz-simple,id=authz0,identity={self.authz}"] if self.authz else []
        return options(client), options(server, *authz)


PSK = Tls("psk", "psk", "psk")
TLS_ROWS = {
    "tcp/tls/psk/match": PSK,
    "unix/tls/psk": Tls("psk", "psk", "psk", "unix"),
    "tcp/tls/psk/mismatch": Tls(
        "psk", "other-psk", "psk", source_says="may have another key", destination_says="key of PSK user"
    ),
    "unix/tls/x509/default-host": Tls(
        "x509", "local", "local", "unix", source_says="No hostname for certificate validation", destination_says="."
    ),
    "unix/tls/x509/override-host": Tls("x509", "named", "named", "unix", hostname="host.example.org"),
    "tcp/tls/x509/default-host": Tls("x509", "local", "local"),
    "tcp/tls/x509/override-host": Tls("x509", "named", "named", hostname="host.example.org"),
    "tcp/tls/x509/mismatch-host": Tls(
        "x509", "named", "named", source_says="does not match the hostname 127.0.0.1", destination_says="."
    ),
    "tcp/tls/x509/friendly-client": Tls("x509", "local", "local", authz=IDENTITY),
    "tcp/tls/x509/hostile-client": Tls(
        "x509", "local", "local", authz="CN=somebody.else",
        source_says="TLS", destination_says=f"TLS x509 authz check for .*{CLIENT} is denied",
    ),
    "tcp/tls/x509/allow-anon-client": Tls("x509", "anonymous", "local", verify_peer=False),
    "tcp/tls/x509/reject-anon-client": Tls(
        "x509", "anonymous", "local",
        source_says="TLS|failed", destination_says="No certificate was found",
    ),
}  # fmt: skip
"""By the rest of their names behind ``/migration/precopy/``."""
