"""The greeting: everything that can be wrong with a Hello. Rows 7, 12 and 22 of the threat table."""

import msgpack

import protocol
from lab import BULK, PEER, RPC, row, together
from protocol import HELLO, HELLO_BYTES_MAX, WELCOME, Node, framed
from quic import Client


async def expect(lab, what, alpn, issued, write, code, words=(), kind="Hello"):
    """Greets with what `write(client)` makes (nothing if that is None) and wants this close code."""
    client = await lab.dial(alpn, issued)
    made = write(client)
    if made is not None:
        data, end = made if isinstance(made, tuple) else (made, False)
        client.open().send(data, end)
    closed = await client.until_closed()
    ok = closed is not None and closed.application and closed.code == code
    ok = ok and all(word in closed.reason for word in words) and client.application_bytes == 0
    lab.say(f"{alpn}: {what}", f"{closed}", ok)
    client.vanish()


@row("22", "greetings that are missing, malformed or of another version")
async def malformed(lab):
    node = lab.node

    def hello(client, **change):
        return framed(node.hello(client, **change))

    jobs = []
    for alpn, issued in ((PEER, lab.evil), (BULK, lab.evil), (RPC, lab.app)):
        jobs += [
            expect(lab, "no Hello at all", alpn, issued, lambda _: None, protocol.DEADLINE),
            expect(lab, "half a length and then nothing", alpn, issued, lambda _: b"\0\0", protocol.DEADLINE),
            expect(lab, "a length and then nothing", alpn, issued, lambda _: b"\0\0\1\0", protocol.DEADLINE),
            expect(lab, "a Hello of 4 GiB", alpn, issued, lambda _: b"\xff" * 4, protocol.FRAME_TOO_LARGE),
            expect(
                lab,
                "a Hello one byte too long",
                alpn,
                issued,
                lambda _: framed(bytes(HELLO_BYTES_MAX + 1)),
                protocol.FRAME_TOO_LARGE,
            ),
            expect(
                lab,
                "a Hello of exactly the limit, all zero",
                alpn,
                issued,
                lambda _: framed(bytes(HELLO_BYTES_MAX)),
                protocol.MALFORMED,
            ),
            expect(lab, "a Hello of no bytes", alpn, issued, lambda _: framed(b""), protocol.MALFORMED),
            expect(lab, "half a Hello and the end", alpn, issued, lambda _: (b"\0\0\1\0abc", True), protocol.MALFORMED),
            expect(lab, "the end at once", alpn, issued, lambda _: (b"", True), protocol.MALFORMED),
            expect(lab, "junk", alpn, issued, lambda _: framed(b"\xc1" * 200), protocol.MALFORMED),
        ]
    for alpn in (PEER, BULK):
        jobs += [
            expect(
                lab,
                "versions 5..6",
                alpn,
                lab.evil,
                lambda c: hello(c, min=5, max=6),
                protocol.VERSION,
                ("1..1", "5..6"),
            ),
            expect(
                lab,
                "versions 0..0",
                alpn,
                lab.evil,
                lambda c: hello(c, min=0, max=0),
                protocol.VERSION,
                ("1..1", "0..0"),
            ),
            expect(lab, "versions 3..1", alpn, lab.evil, lambda c: hello(c, min=3, max=1), protocol.VERSION),
            expect(
                lab,
                "a key too many in the map",
                alpn,
                lab.evil,
                lambda c: framed(b"\1\x81\xa1x\1" + bytes(64)),
                protocol.MALFORMED,
            ),
            expect(
                lab,
                "depth 200",
                alpn,
                lab.evil,
                lambda c: framed(b"\1" + b"\x91" * 200 + bytes(65)),
                protocol.MALFORMED,
            ),
            expect(
                lab,
                "a version of 4,000 characters",
                alpn,
                lab.evil,
                lambda c: hello(c, version="v" * 3_500),
                protocol.MALFORMED,
            ),
            expect(
                lab,
                "a list instead of a map",
                alpn,
                lab.evil,
                lambda c: framed(b"\1\x92\1\1" + bytes(64)),
                protocol.MALFORMED,
            ),
        ]
    jobs += [
        expect(
            lab,
            "versions 5..6",
            RPC,
            lab.app,
            lambda _: protocol.rpc_hello(min=5, max=6),
            protocol.VERSION,
            ("1..1", "5..6"),
        ),
        expect(lab, "trailing bytes in the Hello", RPC, lab.app, lambda _: trailing(), protocol.MALFORMED),
        expect(lab, "a peer's Hello", RPC, lab.app, lambda c: hello(c), protocol.MALFORMED),
        expect(lab, "a client's Hello", PEER, lab.evil, lambda _: protocol.rpc_hello(), protocol.MALFORMED),
    ]
    await together(*jobs)


def trailing():
    body = bytes([protocol.RPC_HELLO]) + msgpack.packb({"min": 1, "max": 1, "version": "", "features": 0})
    return framed(body + b"\0")


@row("7", "greetings that claim what they cannot prove")
async def impostors(lab):
    cluster = lab.authority.cluster
    node, thief = lab.node, Node(cluster, "evil")
    said = {}

    # An honest greeting first, of which the thieves keep Hello and Welcome.
    honest = await lab.dial(PEER, lab.evil)
    kept = framed(node.hello(honest))
    stream = honest.open()
    stream.send(kept)
    welcome = await protocol.read_frame(stream)
    said.update(msgpack.unpackb(welcome[1:-64]))
    honest.close()

    def hello(client, **change):
        return framed(node.hello(client, **change))

    def other_exporter(_):
        return framed(node.hello(_Other()))

    def stolen_key(client):
        return framed(thief.hello(client, key=said["key"]))

    def as_welcome(client):
        return framed(node.hello(client, kind=WELCOME))

    def changed(client):
        whole = bytearray(node.hello(client))
        whole[-1] ^= 1
        return framed(bytes(whole))

    jobs = []
    for alpn in (PEER, BULK):
        cases = [
            ("another cluster's id", lambda c: hello(c, cluster=bytes(16)), protocol.CLUSTER_MISMATCH),
            ("a name that is not the certificate's", lambda c: hello(c, name="n2"), protocol.IDENTITY_MISMATCH),
            ("a signature over another exporter", other_exporter, protocol.IDENTITY_MISMATCH),
            ("the Hello of another connection, replayed", lambda _: kept, protocol.IDENTITY_MISMATCH),
            ("the agent's own Welcome, returned", lambda _: framed(welcome), protocol.MALFORMED),
            (
                "the agent's own Welcome, returned as a Hello",
                lambda _: framed(bytes([HELLO]) + welcome[1:]),
                protocol.IDENTITY_MISMATCH,
            ),
            ("the agent's own public key", stolen_key, protocol.IDENTITY_MISMATCH),
            ("a Welcome instead of a Hello", as_welcome, protocol.MALFORMED),
            ("one bit of the signature changed", changed, protocol.IDENTITY_MISMATCH),
        ]
        jobs += [expect(lab, what, alpn, lab.evil, write, code) for what, write, code in cases]
    twin = lab.authority.agent("n2")
    held = Node(cluster, "n2")
    jobs.append(
        expect(
            lab,
            "the name of a living member, from another disk",
            PEER,
            twin,
            lambda c: framed(held.hello(c)),
            protocol.NOT_ADMITTED,
        )
    )
    await together(*jobs)
    await together(
        half_way(lab, "a good Hello and no Ready", None, protocol.DEADLINE),
        half_way(lab, "a good Hello and then junk", framed(b"\xc1\xc1"), protocol.MALFORMED),
    )


class _Other:
    """Somebody else's connection."""

    class quic:
        @staticmethod
        def export(_label, _context, length):
            return bytes(length)


async def half_way(lab, what, then, code):
    client = await Client.dial(lab.addr, lab.config(PEER, lab.evil))
    stream = client.open()
    stream.send(framed(lab.node.hello(client)))
    await protocol.read_frame(stream)
    if then:
        stream.send(then)
    closed = await client.until_closed()
    ok = closed is not None and closed.application and closed.code == code
    lab.say(f"{PEER}: {what}", f"{closed}", ok)
    client.vanish()
