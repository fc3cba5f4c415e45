#!/usr/bin/env python3
"""The zoo: certificates and keys of every kind, most of them sick, made with the `openssl` of this machine.

    make.py make DIR       makes every animal anew, and openssl's verdicts on them (DIR/verdicts)
    make.py judge DIR      prints openssl's verdicts on the animals that are there

An animal NAME is `NAME.cert.pem`, with `NAME.ca.pem` and `NAME.key.pem` where they differ from `good.ca.pem` and
`good.key.pem`. All dates are fixed: 2020 to 2120, and in 2019 or 2119 where they are to be wrong. Keys, serial numbers and
so all bytes are new each time; the verdicts are not. A verdict is three words: as a server, as a client, the key.
"""

import base64
import os
import subprocess
import sys
import tempfile

CLUSTER = "5a005a005a005a005a005a005a005a00"
ZONE = f"{CLUSTER}.quorate.internal"
OTHER = "0ff00ff00ff00ff00ff00ff00ff00ff0.quorate.internal"
AGENT = f"spiffe://{ZONE}/agent/a1"
DNS = f"agent.{ZONE}"
ALWAYS = ("20200101000000Z", "21200101000000Z")
LONG_AGO = ("20190101000000Z", "20190201000000Z")
ONE_DAY = ("21190101000000Z", "21190201000000Z")

CA = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash"]
LEAF = [
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid",
]
BOTH = ["extendedKeyUsage=serverAuth,clientAuth"]


def names(uris=(AGENT,), dns=(DNS,), other=()):
    """The lines of a subjectAltName and its section."""
    lines = [f"URI.{n} = {uri}" for n, uri in enumerate(uris)] + [f"DNS.{n} = {name}" for n, name in enumerate(dns)]
    lines += list(other)
    return (["subjectAltName=@names"], ["[names]", *lines]) if lines else ([], [])


def without(lines, *starts):
    return [line for line in lines if not line.startswith(starts)]


def openssl(*args, data=None, check=True):
    said = subprocess.run(["openssl", *args], input=data, capture_output=True)
    if check and said.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(args)}: {said.stderr.decode()}")
    return said


class Keeper:
    """Makes animals in a directory."""

    def __init__(self, out, work):
        self.out, self.work = out, work
        self.count = 0
        self.good_ca = None

    # Keys and certificates.

    def key(self, kind="P-256"):
        path = self.path("key")
        if kind.startswith("rsa"):
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind[3:]}", "-out", path)
        elif kind.startswith("P-"):
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{kind}", "-out", path)
        else:
            openssl("genpkey", "-algorithm", kind, "-out", path)
        return path

    def path(self, kind):
        self.count += 1
        return os.path.join(self.work, f"{self.count}.{kind}")

    def sign(self, key, subject, lines, issuer=None, dates=ALWAYS, md="sha256", serial=None, sections=()):
        """A certificate by `openssl ca`: issuer is (certificate, key), or None for one that signs itself."""
        conf, out, request = self.path("conf"), self.path("pem"), self.path("csr")
        serial = serial or os.urandom(15).hex()
        database, serial_file = self.path("db"), self.path("serial")
        open(database, "w").close()
        with open(serial_file, "w") as text:
            text.write(f"{'4' + serial if len(serial) % 2 else serial}\n")
        with open(conf, "w", encoding="utf-8") as text:
            text.write(
                "[ca]\ndefault_ca=d\n[d]\ncopy_extensions=none\nunique_subject=no\npreserve=yes\nemail_in_dn=no\n"
                f"database={database}\nserial={serial_file}\nnew_certs_dir={self.work}\npolicy=p\n"
                "[p]\ncommonName=optional\n[req]\ndistinguished_name=n\n[n]\n"
            )
            if lines:
                text.write("[e]\n" + "\n".join(lines) + "\n" + "\n".join(sections) + "\n")
        openssl("req", "-new", "-config", conf, "-key", key, "-subj", f"/CN={subject}", "-out", request)
        who = ["-selfsign", "-keyfile", key] if issuer is None else ["-cert", issuer[0], "-keyfile", issuer[1]]
        md = "null" if self.is_edwards(issuer[1] if issuer else key) else md
        extensions = ["-extensions", "e"] if lines else []
        openssl(
            "ca", "-batch", "-notext", "-config", conf, "-in", request, "-out", out, "-md", md, *who, *extensions,
            "-startdate", dates[0], "-enddate", dates[1],
        )  # fmt: skip
        with open(out) as text:
            return text.read()

    def is_edwards(self, key):
        return "ED" in openssl("pkey", "-in", key, "-noout", "-text").stdout.decode().split("\n")[0]

    def file(self, text):
        path = self.path("pem")
        with open(path, "w") as out:
            out.write(text)
        return path

    def authority(self, subject=f"Quorate CA {CLUSTER}", lines=None, key=None, **more):
        """A root: (its PEM, (certificate file, key file))."""
        key = key or self.key()
        pem = self.sign(key, subject, CA if lines is None else lines, **more)
        return pem, (self.file(pem), key)

    def leaf(self, lines=None, san=None, key=None, issuer=None, **more):
        extensions, sections = names() if san is None else san
        lines = (LEAF + BOTH if lines is None else lines) + extensions
        return self.sign(key or self.leaf_key, "a1", lines, issuer or self.good_ca, sections=sections, **more)

    def resigned(self, pem, change, key=None, md="sha256"):
        """The certificate with its signed part changed by `change(bytes)` and signed again."""
        der = openssl("x509", "-outform", "DER", data=pem.encode()).stdout
        _, body, _ = tlv(der)
        tbs, _, rest = tlv(body)
        algorithm, _, _ = tlv(rest)
        tbs = change(tbs)
        signature = openssl("dgst", f"-{md}", "-sign", key or self.good_ca[1], data=tbs).stdout
        whole = wrap(0x30, tbs + algorithm + wrap(0x03, b"\0" + signature))
        return openssl("x509", "-inform", "DER", data=whole).stdout.decode()

    # Animals.

    def add(self, name, cert, ca=None, key=None):
        for kind, content in (("cert", cert), ("ca", ca), ("key", key)):
            if content is not None:
                data = content if isinstance(content, bytes) else content.encode()
                with open(os.path.join(self.out, f"{name}.{kind}.pem"), "wb") as out:
                    out.write(data)


def tlv(der):
    """The first element whole, its content, and what follows."""
    length, head = der[1], 2
    if length & 0x80:
        head = 2 + (length & 0x7F)
        length = int.from_bytes(der[2:head], "big")
    return der[: head + length], der[head : head + length], der[head + length :]


def wrap(tag, content):
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def read(path):
    with open(path) as text:
        return text.read()


def make(out):
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="zoo-") as work:
        fill(Keeper(out, work))


def fill(k):
    k.leaf_key = k.key()
    root, k.good_ca = k.authority(lines=[*CA, f"nameConstraints=critical,permitted;DNS:{ZONE}"])
    k.add("good", k.leaf(), ca=root, key=read(k.leaf_key))
    client = names([f"spiffe://{ZONE}/client/append/app"], [])
    k.add("good-client", k.leaf(LEAF + ["extendedKeyUsage=clientAuth"], client))
    dates(k)
    purposes(k)
    people(k)
    shapes(k)
    keys(k)
    signatures(k)
    chains(k)
    roots(k)
    files(k, root)


def dates(k):
    k.add("expired", k.leaf(dates=LONG_AGO))
    k.add("not-yet-valid", k.leaf(dates=ONE_DAY))


def purposes(k):
    k.add("no-eku", k.leaf(LEAF))
    k.add("eku-other", k.leaf([*LEAF, "extendedKeyUsage=codeSigning"]))
    k.add("eku-server-only", k.leaf([*LEAF, "extendedKeyUsage=serverAuth"]))
    k.add("eku-client-only", k.leaf([*LEAF, "extendedKeyUsage=clientAuth"]))
    k.add("eku-any", k.leaf([*LEAF, "extendedKeyUsage=anyExtendedKeyUsage"]))
    plain = without(LEAF, "keyUsage") + BOTH
    k.add("no-key-usage", k.leaf(plain))
    k.add("key-usage-encipherment", k.leaf([*plain, "keyUsage=critical,keyEncipherment"]))
    k.add("key-usage-crl-sign", k.leaf([*plain, "keyUsage=critical,cRLSign"]))


def people(k):
    """Names: openssl looks at DNS names only, so it lets most of these pass."""

    def uri(*uris, dns=(DNS,), other=()):
        return k.leaf(san=names(uris, dns, other))

    k.add("no-names", uri(dns=()))
    k.add("no-uri", uri())
    k.add("two-uris", uri(AGENT, AGENT))
    k.add("other-scheme", uri(f"https://{ZONE}/agent/a1"))
    k.add("other-cluster-uri", uri(f"spiffe://{OTHER}/agent/a1"))
    k.add("other-cluster", uri(f"spiffe://{OTHER}/agent/a1", dns=(f"agent.{OTHER}",)))
    k.add("wildcard-uri", uri("spiffe://*.quorate.internal/agent/a1"))
    k.add("name-characters", uri(f"spiffe://{ZONE}/agent/A_1"))
    k.add("name-too-long", uri(f"spiffe://{ZONE}/agent/" + "a" * 64))
    k.add("name-at-limit", uri(f"spiffe://{ZONE}/agent/" + "a" * 63))
    k.add("name-empty", uri(f"spiffe://{ZONE}/agent/"))
    k.add("name-dots", uri(f"spiffe://{ZONE}/agent/.."))
    k.add("name-escape", k.resigned(uri(f"spiffe://{ZONE}/agent/a~1"), lambda t: t.replace(b"a~1", b"a\x1b1")))
    k.add("name-nul", k.resigned(uri(f"spiffe://{ZONE}/agent/a~1"), lambda t: t.replace(b"a~1", b"a\x001")))
    k.add("name-homoglyph", uri(f"spiffe://{ZONE}/agent/\u04301"))
    k.add("name-broken-utf8", k.resigned(uri(f"spiffe://{ZONE}/agent/a~1"), lambda t: t.replace(b"a~1", b"a\xff1")))
    k.add("no-dns", uri(AGENT, dns=()))
    k.add("other-dns", uri(AGENT, dns=(f"other.{ZONE}",)))
    k.add("two-dns", uri(AGENT, dns=(DNS, f"other.{ZONE}")))
    k.add("wildcard-dns", uri(AGENT, dns=(f"*.{ZONE}",)))
    k.add("address-too", uri(AGENT, other=("IP.1 = 127.0.0.1",)))
    k.add("client-with-dns", uri(f"spiffe://{ZONE}/client/admin/a1"))
    k.add("client-of-no-role", k.leaf(san=names([f"spiffe://{ZONE}/client/owner/a1"], [])))


def shapes(k):
    k.add("leaf-is-ca", k.leaf([*without(LEAF, "basic"), "basicConstraints=critical,CA:TRUE", *BOTH]))
    k.add("no-basic-constraints", k.leaf(without(LEAF, "basic") + BOTH))
    k.add("critical-unknown", k.leaf([*LEAF, *BOTH, "1.3.6.1.4.1.99999.1=critical,ASN1:NULL"]))
    k.add("unknown", k.leaf([*LEAF, *BOTH, "1.3.6.1.4.1.99999.1=ASN1:NULL"]))
    k.add("serial-zero", k.leaf(serial="00"))
    k.add("serial-negative", k.resigned(k.leaf(serial="7f11223344556677"), negative))
    k.add("serial-20-bytes", k.leaf(serial="7f" * 20))
    k.add("serial-40-bytes", k.leaf(serial="7f" * 40))
    k.add("version-1", k.resigned(k.leaf(), version_1))
    k.add("version-1-with-extensions", k.resigned(k.leaf(), first_version))
    k.add("huge-san", k.leaf(san=names([AGENT, *(f"spiffe://{ZONE}/agent/a{n}" for n in range(100))])))
    k.add("huge-name", k.leaf(san=names([f"spiffe://{ZONE}/agent/" + "a" * 4_000])))


def negative(tbs):
    return tbs.replace(bytes.fromhex("7f11223344556677"), bytes.fromhex("ff11223344556677"), 1)


def version_1(tbs):
    """No version field and no extensions, as version 1 has it."""
    _, content, _ = tlv(tbs)
    parts = []
    while content:
        part, _, content = tlv(content)
        parts.append(part)
    return wrap(0x30, b"".join(part for part in parts if part[0] not in (0xA0, 0xA3)))


def first_version(tbs):
    """Extensions under a version that has none."""
    return tbs.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020100"), 1)


def keys(k):
    for name, kind in (
        ("key-rsa-1024", "rsa1024"),
        ("key-rsa-2048", "rsa2048"),
        ("key-rsa-4096", "rsa4096"),
        ("key-p384", "P-384"),
        ("key-p521", "P-521"),
        ("key-ed25519", "ED25519"),
        ("key-ed448", "ED448"),
    ):
        key = k.key(kind)
        k.add(name, k.leaf(key=key), key=read(key))
    good = k.leaf()
    k.add("key-wrong", good, key=read(k.key()))
    k.add("key-sec1", good, key=openssl("ec", "-in", k.leaf_key).stdout)
    with_parameters = openssl("ecparam", "-name", "prime256v1").stdout + openssl("ec", "-in", k.leaf_key).stdout
    k.add("key-sec1-parameters", good, key=with_parameters)
    rsa = k.key("rsa2048")
    k.add("key-pkcs1", k.leaf(key=rsa), key=openssl("rsa", "-in", rsa, "-traditional").stdout)
    encrypted = openssl("pkcs8", "-topk8", "-in", k.leaf_key, "-v2", "aes256", "-passout", "pass:zoo").stdout
    k.add("key-encrypted", good, key=encrypted)
    k.add("key-der", good, key=openssl("pkey", "-in", k.leaf_key, "-outform", "DER").stdout)
    k.add("key-empty", good, key=b"")
    k.add("key-is-certificate", good, key=good)
    k.add("key-truncated", good, key=read(k.leaf_key)[:120])
    k.add("key-crlf", good, key=read(k.leaf_key).replace("\n", "\r\n"))
    k.add("key-in-text", good, key=f"this is my key\n\n{read(k.leaf_key)}\nkeep it\n")


def signatures(k):
    good = k.leaf()
    der = bytearray(openssl("x509", "-outform", "DER", data=good.encode()).stdout)
    der[-1] ^= 1
    k.add("signature-damaged", openssl("x509", "-inform", "DER", data=bytes(der)).stdout)
    k.add("signature-other-key", k.resigned(good, lambda tbs: tbs, key=k.key()))
    k.add("signed-sha1", k.leaf(md="sha1"))
    k.add("signed-sha384", k.leaf(md="sha384"))
    k.add("signed-sha512", k.leaf(md="sha512"))
    for name, kind, md in (
        ("signed-md5", "rsa2048", "md5"),
        ("signed-rsa-sha1", "rsa2048", "sha1"),
        ("signed-rsa-1024", "rsa1024", "sha256"),
        ("signed-rsa", "rsa2048", "sha256"),
        ("signed-p384", "P-384", "sha384"),
        ("signed-p521", "P-521", "sha512"),
        ("signed-ed25519", "ED25519", "sha256"),
        ("signed-ed448", "ED448", "sha256"),
    ):
        pem, issuer = k.authority(key=k.key(kind))
        k.add(name, k.leaf(issuer=issuer, md=md), ca=pem)
    self_signed = k.sign(k.leaf_key, "a1", LEAF[:3] + BOTH + names()[0], sections=names()[1])
    k.add("self-signed", self_signed)
    k.add("self-signed-trusted", self_signed, ca=self_signed)


def chains(k):
    pem, root = k.authority("Zoo root")

    def below(issuer, number, lines=None, **more):
        key = k.key()
        extensions = (CA if lines is None else lines) + ["authorityKeyIdentifier=keyid"]
        pem = k.sign(key, f"Zoo intermediate {number}", extensions, issuer, **more)
        return pem, (k.file(pem), key)

    def one(name, lines=None, ca=pem, issuer=root, **more):
        between, between_issuer = below(issuer, 1, lines, **more)
        k.add(name, k.leaf(issuer=between_issuer) + between, ca=ca)

    one("one-intermediate")
    one("intermediate-not-ca", ["basicConstraints=critical,CA:FALSE", *CA[1:]])
    one("intermediate-no-constraints", CA[2:])
    one("intermediate-no-cert-sign", [CA[0], "keyUsage=critical,digitalSignature", CA[2]])
    one("intermediate-expired", dates=LONG_AGO)
    one("intermediate-critical-unknown", [*CA, "1.3.6.1.4.1.99999.1=critical,ASN1:NULL"])
    strict, strict_root = k.authority("Zoo root", ["basicConstraints=critical,CA:TRUE,pathlen:0", *CA[1:]])
    one("pathlen-exceeded", ca=strict, issuer=strict_root)
    one("pathlen-kept", ["basicConstraints=critical,CA:TRUE,pathlen:0", *CA[1:]])
    between, issuer = below(root, 1)
    k.add("intermediate-missing", k.leaf(issuer=issuer), ca=pem)
    for name, many in (("three-intermediates", 3), ("ten-intermediates", 10)):
        chain, issuer = "", root
        for number in range(many):
            between, issuer = below(issuer, number)
            chain = between + chain
        k.add(name, k.leaf(issuer=issuer) + chain, ca=pem)
        if many == 3:
            shuffled = "".join(reversed([part + "-----END CERTIFICATE-----\n" for part in parts(chain)]))
            k.add("three-intermediates-shuffled", k.leaf(issuer=issuer) + shuffled, ca=pem)


def parts(chain):
    return [part.lstrip() for part in chain.split("-----END CERTIFICATE-----") if part.strip()]


def roots(k):
    def by(name, lines=None, subject=f"Quorate CA {CLUSTER}", **more):
        pem, issuer = k.authority(subject, lines, **more)
        k.add(name, k.leaf(issuer=issuer), ca=pem)

    by("root-expired", dates=LONG_AGO)
    by("root-not-yet-valid", dates=ONE_DAY)
    by("root-not-ca", ["basicConstraints=critical,CA:FALSE", *CA[1:]])
    by("root-no-constraints", CA[2:])
    by("root-no-cert-sign", [CA[0], "keyUsage=critical,digitalSignature", CA[2]])
    by("root-critical-unknown", [*CA, "1.3.6.1.4.1.99999.1=critical,ASN1:NULL"])
    by("root-names-dns", [*CA, f"nameConstraints=critical,permitted;DNS:{ZONE}"])
    by("root-names-other-dns", [*CA, f"nameConstraints=critical,permitted;DNS:{OTHER}"])
    by("root-names-not-this", [*CA, f"nameConstraints=critical,excluded;DNS:{ZONE}"])
    by("root-names-uri", [*CA, "nameConstraints=critical,permitted;URI:.quorate.internal"])
    by("root-names-other-uri", [*CA, "nameConstraints=critical,permitted;URI:.example.org"])
    twin, _ = k.authority()
    k.add("root-namesake", k.leaf(), ca=twin)
    stranger, _ = k.authority("Somebody else")
    k.add("root-stranger", k.leaf(), ca=stranger)
    good = read(k.good_ca[0])
    k.add("root-two", k.leaf(), ca=stranger + good)
    old, old_issuer = k.authority("Quorate CA of old", dates=LONG_AGO)
    k.add("root-two-one-expired", k.leaf(), ca=old + good)
    k.add("root-two-by-expired", k.leaf(issuer=old_issuer), ca=good + old)


def files(k, root):
    good = k.leaf()
    k.add("file-crlf", good.replace("\n", "\r\n"))
    k.add("file-in-text", f"subject: a1\n\n{good}\nthe end\n")
    k.add("file-two-certificates", good + k.leaf())
    k.add("file-two-certificates-other-first", k.leaf(key=k.key()) + good)
    k.add("file-truncated", good[: len(good) // 2])
    k.add("file-der", openssl("x509", "-outform", "DER", data=good.encode()).stdout)
    k.add("file-empty", b"")
    k.add("file-is-key", read(k.leaf_key))
    k.add("file-not-base64", good.replace("\n", "\n!", 3))
    k.add("file-trailing-der", trailing(good))
    k.add("file-nul", b"\0" * 512)
    k.add("ca-empty", good, ca=b"")
    k.add("ca-truncated", good, ca=root[:200])
    k.add("ca-is-key", good, ca=read(k.leaf_key))
    k.add("ca-crlf", good, ca=root.replace("\n", "\r\n"))


def trailing(pem):
    """A byte after the certificate, inside the PEM."""
    der = openssl("x509", "-outform", "DER", data=pem.encode()).stdout + b"\0"
    return "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der).decode() + "-----END CERTIFICATE-----\n"


# openssl's verdicts.


def judge(out):
    animals = sorted(name[: -len(".cert.pem")] for name in os.listdir(out) if name.endswith(".cert.pem"))
    return {name: verdict(out, name) for name in animals}


def verdict(out, name):
    def path(kind):
        own = os.path.join(out, f"{name}.{kind}.pem")
        return own if os.path.exists(own) else os.path.join(out, f"good.{kind}.pem")

    cert, ca, key = path("cert"), path("ca"), path("key")
    # Level 2 is what TLS on Debian asks for; -x509_strict is RFC 5280 without the indulgence for old authorities.
    common = ["-x509_strict", "-auth_level", "2", "-no-CApath", "-no-CAstore", "-CAfile", ca]
    with open(cert, "rb") as pem:
        if b"-----BEGIN" in pem.read():
            common += ["-untrusted", cert]
    server = verified(*common, "-purpose", "sslserver", "-verify_hostname", DNS, cert)
    client = verified(*common, "-purpose", "sslclient", cert)
    return server, client, key_verdict(cert, key)


def verified(*args):
    said = openssl("verify", *args, check=False)
    if said.returncode == 0:
        return "ok"
    for line in said.stderr.decode(errors="replace").splitlines():
        if line.startswith("error ") and " at " in line:
            return line.split()[1]
    return "unreadable"


def key_verdict(cert, key):
    public = openssl("pkey", "-in", key, "-passin", "pass:", "-pubout", check=False)
    wanted = openssl("x509", "-in", cert, "-noout", "-pubkey", check=False)
    if public.returncode != 0 or wanted.returncode != 0:
        return "unreadable"
    return "ok" if public.stdout == wanted.stdout else "mismatch"


def show(verdicts):
    return "".join(f"{name}\t{server}\t{client}\t{key}\n" for name, (server, client, key) in verdicts.items())


def main():
    what, out = sys.argv[1:3]
    if what == "make":
        make(out)
        with open(os.path.join(out, "verdicts"), "w") as text:
            text.write(show(judge(out)))
    else:
        print(show(judge(out)), end="")


if __name__ == "__main__":
    main()
