"""Certificates that an honest authority would never issue, signed with the key of the honest one.

Never touches a file of the cluster but to read its authority.
"""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


class Issued:
    """A certificate with its key and what follows it in the chain."""

    def __init__(self, certificate, key, chain=()):
        self.certificate, self.key, self.chain = certificate, key, list(chain)

    def credentials(self):
        return {"certificate": self.certificate, "chain": self.chain, "key": self.key}

    def save(self, stem):
        """Two files for a server of ours; the stem names them."""
        with open(f"{stem}.pem", "wb") as out:
            out.write(self.certificate.public_bytes(serialization.Encoding.PEM))
        with open(f"{stem}.key", "wb") as out:
            out.write(
                self.key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return f"{stem}.pem", f"{stem}.key"


class Authority:
    """The cluster's, read from `pki/`, or a stranger's, made here."""

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        self.cluster = common.rsplit(" ", 1)[-1]

    @classmethod
    def load(cls, directory):
        with open(f"{directory}/ca.pem", "rb") as pem, open(f"{directory}/ca.key", "rb") as key:
            return cls(
                x509.load_pem_x509_certificate(pem.read()),
                serialization.load_pem_private_key(key.read(), None),
            )

    @classmethod
    def stranger(cls, common_name):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + 365 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    def issue(self, uris, dns=(), usages=BOTH, begin=NOW - DAY, end=NOW + DAY, ca=False, padding=0):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outsider")])
        names = [x509.UniformResourceIdentifier(uri) for uri in uris] + [x509.DNSName(one) for one in dns]
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.certificate.subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(begin).not_valid_after(end)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if padding:
            private = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
            builder = builder.add_extension(x509.UnrecognizedExtension(private, bytes(padding)), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)

    def below(self, number):
        """An intermediate authority that this one should not have made."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Between {number} {self.cluster}")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.certificate.subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        return Authority(builder.sign(self.key, hashes.SHA256()), key)

    def deep(self, name, many):
        """An agent's certificate below so many intermediates, all of them shown."""
        authority, chain = self, []
        for number in range(many):
            authority = authority.below(number)
            chain.insert(0, authority.certificate)
        issued = authority.agent(name)
        return Issued(issued.certificate, issued.key, chain)

    # The names of certs/src/subject.rs.

    def zone(self, cluster=None):
        return f"{cluster or self.cluster}.quorate.internal"

    def agent_dns(self, cluster=None):
        return f"agent.{self.zone(cluster)}"

    def agent_uri(self, name, cluster=None):
        return f"spiffe://{self.zone(cluster)}/agent/{name}"

    def client_uri(self, role, name, cluster=None):
        return f"spiffe://{self.zone(cluster)}/client/{role}/{name}"

    def agent(self, name, **more):
        return self.issue([self.agent_uri(name)], [self.agent_dns()], **more)

    def client(self, role, name="outsider", **more):
        return self.issue([self.client_uri(role, name)], usages=(ExtendedKeyUsageOID.CLIENT_AUTH,), **more)
