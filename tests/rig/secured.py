"""A real Kafka broker that lets only known users in, over TLS, and lets each do only what it was granted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.rig.cache import Missing
from tests.rig.kafka import Kafka
from tests.rig.process import HOST, free_ports

SCRAM, PLAIN, OAUTH, TLS = "SCRAM", "PLAIN", "OAUTH", "TLS"
USER = "alice"
PASSWORD = "alices-loopback-password"
LOGIN = "org.apache.kafka.common.security"
SECONDS = 30


class SecuredKafka(Kafka):
    """One broker with a listener for each of SCRAM-SHA-512, PLAIN and OAUTHBEARER (unsigned tokens), over TLS, and one of TLS
    alone, where no user is named.

    `options` are for [kafka]. The user of all three may do nothing but what `grant` grants; who comes in by `bootstrap` or
    TLS alone may do everything.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = folder / "authority.pem"
        self.wrong_authority = folder / "wrong-authority.pem"
        _make_authority(self.wrong_authority)
        _make_authority(self.authority)
        ports = free_ports(4)
        self._ports = dict(zip((SCRAM, PLAIN, OAUTH, TLS), ports, strict=True))
        super().__init__(
            folder,
            settings=_settings(_make_certificate(self.authority, folder / "broker.pem")),
            listeners={name: (port, "SSL" if name == TLS else "SASL_SSL") for name, port in self._ports.items()},
            format_options=["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"],
        )

    def options(self, listener: str) -> dict[str, str]:
        """What librdkafka needs to come in by a listener, as the user."""
        common = {"bootstrap.servers": f"{HOST}:{self._ports[listener]}", "ssl.ca.location": str(self.authority)}
        if listener == TLS:
            return {**common, "security.protocol": "SSL"}
        if listener == OAUTH:
            return {
                **common,
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "OAUTHBEARER",
                "enable.sasl.oauthbearer.unsecure.jwt": "true",
                "sasl.oauthbearer.config": f"principal={USER}",
            }
        mechanism = "SCRAM-SHA-512" if listener == SCRAM else "PLAIN"
        return {
            **common,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": mechanism,
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }

    def grant(self, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """To the user, on all whose names begin with `name`."""
        binding = AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
        self._done(self.admin.create_acls([binding]))


def _settings(certificate: Path) -> dict[str, str]:
    scram, plain, oauth = (f"listener.name.{name.lower()}" for name in (SCRAM, PLAIN, OAUTH))
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate),
        f"{scram}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{scram}.scram-sha-512.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
        f"{plain}.sasl.enabled.mechanisms": "PLAIN",
        f"{plain}.plain.sasl.jaas.config": f'{LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        f"{oauth}.sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{oauth}.oauthbearer.sasl.jaas.config": f"{LOGIN}.oauthbearer.OAuthBearerLoginModule required;",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


def _make_authority(path: Path) -> None:
    """A certificate that signs others at `path`, and its key beside it."""
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lakeflow test authority",
             "-keyout", str(path.with_suffix(".key")), "-out", str(path))  # fmt: skip


def _make_certificate(authority: Path, path: Path) -> Path:
    """A key, a certificate of HOST and the authority's at `path`, one after the other, as Kafka reads them."""
    key, request, certificate = (path.with_suffix(suffix) for suffix in (".key", ".csr", ".crt"))
    extensions = path.with_suffix(".ext")
    extensions.write_text(f"subjectAltName=IP:{HOST},DNS:localhost\n")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={HOST}", "-keyout", str(key), "-out", str(request))
    _openssl("x509", "-req", "-in", str(request), "-days", "2", "-CA", str(authority), "-CAkey",
             str(authority.with_suffix(".key")), "-CAcreateserial",
             "-extfile", str(extensions), "-out", str(certificate))  # fmt: skip
    path.write_text("".join(part.read_text() for part in (key, certificate, authority)))
    path.chmod(0o600)
    return path


def _openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        raise Missing("openssl, which makes the broker's certificate, is not there")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=SECONDS)
