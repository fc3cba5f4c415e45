"""Quorate's protocol a second time, written from its documentation alone: `quorate_transport` (lib, hello, frame) and
`quorate::{wire::rpc, record}` and `quorate_raft::wal`'s entry.

Never used by quorate itself: where this and the program differ, one of the two or the documentation is wrong.
"""

import ipaddress
import os
import struct

import msgpack
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PEER, BULK, RPC = "quorate-peer/1", "quorate-bulk/1", "quorate-rpc/1"
HELLO, WELCOME, READY, RPC_HELLO, RPC_WELCOME = 1, 2, 3, 4, 5
LABEL = b"EXPORTER-quorate-hello"
HELLO_BYTES_MAX = 4 * 1024
FRAME_BYTES_MAX = 8 * 1024 * 1024 + 64 * 1024

APPEND, ASK, TAIL = 1, 2, 3
APPENDED, ANSWER, FAILED, ENTRIES, END = 65, 66, 67, 68, 69

# Close codes (transport/src/close.rs).
ROLE_FORBIDDEN, IDENTITY_MISMATCH, CLUSTER_MISMATCH, VERSION = 0x12, 0x13, 0x14, 0x16
FRAME_TOO_LARGE, MALFORMED, DEADLINE, BUSY, NOT_ADMITTED = 0x20, 0x21, 0x22, 0x23, 0x24


def framed(body):
    """A frame: u32 length, big endian, and the bytes."""
    return struct.pack(">I", len(body)) + body


async def read_frame(stream, patience=15.0):
    (length,) = struct.unpack(">I", await stream.read(4, patience))
    return await stream.read(length, patience)


def socket_address(host, port):
    """How an address travels in a greeting: {"V4": [[a, b, c, d], port]}."""
    ip = ipaddress.ip_address(host)
    return {f"V{ip.version}": [list(ip.packed), port]}


class Node:
    """A node key and what it says about itself."""

    def __init__(self, cluster, name):
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.greeting = {
            "min": 1,
            "max": 1,
            "version": "outside/1",
            "features": 2 << 8,  # The feature level that a log of today has.
            "cluster": bytes.fromhex(cluster),
            "name": name,
            "key": self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
            "boot_epoch": 1,
            "boot_id": int.from_bytes(os.urandom(8), "big"),
            "log_id": None,
            "advertised": None,
            "port": 1,
            "observed": socket_address("127.0.0.1", 1),
        }

    def hello(self, client, kind=HELLO, **change):
        """The body of a Hello for this connection, signed over its exporter."""
        signed = bytes([kind]) + msgpack.packb(self.greeting | change)
        return signed + self.key.sign(client.quic.export(LABEL, signed, 64))


async def greet_as_peer(client, node):
    """Hello, Welcome, Ready. Gives the stream and the Welcome's map and bytes."""
    stream = client.open()
    stream.send(framed(node.hello(client)))
    try:
        welcome = await read_frame(stream)
    except EOFError as error:
        raise EOFError(f"no Welcome: {client.closed}") from error
    assert welcome[0] == WELCOME, welcome[0]
    said = msgpack.unpackb(welcome[1:-64])
    key = ed25519.Ed25519PublicKey.from_public_bytes(said["key"])
    key.verify(welcome[-64:], client.quic.export(LABEL, welcome[:-64], 64))
    stream.send(framed(bytes([READY])))
    return stream, said, welcome


def rpc_hello(**change):
    said = {"min": 1, "max": 1, "version": "outside/1", "features": 0} | change
    return framed(bytes([RPC_HELLO]) + msgpack.packb(said))


async def greet_as_client(client):
    """Hello on the first stream, which ends with it; the Welcome's map."""
    stream = client.open()
    stream.send(rpc_hello(), end=True)
    welcome = await read_frame(stream)
    assert welcome[0] == RPC_WELCOME, welcome[0]
    return msgpack.unpackb(welcome[1:])


# Requests and answers.


def request(kind, number, body=b""):
    return bytes([kind]) + struct.pack("<Q", number) + body


def ask(number, question):
    """A unit variant is its name, a struct variant {name: [fields]}."""
    return request(ASK, number, msgpack.packb(question))


def append(number, batch, timeout_ms=10_000, hops=0, on_behalf_of=b""):
    return request(APPEND, number, struct.pack("<IBB", timeout_ms, hops, len(on_behalf_of)) + on_behalf_of + batch)


def tail(number, start, until=None, follow=False, stream=None, key=None, read="Committed", hops=0):
    return request(TAIL, number, msgpack.packb([start, until, follow, stream, key, read, hops]))


def record(value, stream=b"default", key=b"", kind=b"", correlation=b"", causation=b"", headers=()):
    texts = stream + key + kind + correlation + causation
    for name, text in headers:
        texts += struct.pack("<HH", len(name), len(text)) + name + text
    lengths = (len(key), len(kind), len(correlation), len(causation), len(headers))
    rest = struct.pack("<QBB5H", 0, len(stream), 0, *lengths) + texts + value
    return struct.pack("<I", len(rest)) + rest


def batch(*records):
    return struct.pack("<BBHI", 1, 0, 0, len(records)) + b"".join(records)


class Answered:
    """A frame from the agent."""

    def __init__(self, frame):
        self.kind, self.number = struct.unpack("<BQ", frame[:9])
        self.body = frame[9:]

    @property
    def appended(self):
        first, last, term, time, lamport, deduped = struct.unpack("<QQQqQB", self.body)
        return {"first": first, "last": last, "term": term, "time": time, "lamport": lamport, "deduped": deduped}

    @property
    def answer(self):
        return msgpack.unpackb(self.body)

    @property
    def failure(self):
        """[code, effect, what, hint]"""
        return msgpack.unpackb(self.body)


def entries(frame):
    """The records of an ENTRIES frame: (offset, stream, key, value) each; every checksum is checked."""
    rest = frame.body[8:]
    while rest:
        magic, version, kind, length, count = struct.unpack("<2sBBII", rest[:12])
        (base,) = struct.unpack("<Q", rest[40:48])
        payload_crc, header_crc = struct.unpack("<II", rest[88:96])
        payload = rest[96 : 96 + length]
        assert magic == b"QE" and version == 1 and kind == 1
        assert crc32c(rest[:92]) == header_crc and crc32c(payload) == payload_crc
        assert struct.unpack("<I", payload[4:8])[0] == count
        at = 8
        for number in range(count):
            (size, _seq, stream, _r, key, *lengths) = struct.unpack("<IQBB5H", payload[at : at + 24])
            texts = at + 24 + stream + key
            value_at = texts + sum(lengths[:3])
            for _ in range(lengths[3]):
                name, text = struct.unpack("<HH", payload[value_at : value_at + 4])
                value_at += 4 + name + text
            end = at + 4 + size
            names = payload[at + 24 : at + 24 + stream], payload[at + 24 + stream : texts]
            yield base + number, names[0], names[1], payload[value_at:end]
            at = end
        rest = rest[96 + length :]


def _table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


_CRC32C = list(_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
