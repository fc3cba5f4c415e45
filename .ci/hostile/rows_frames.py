"""Frames and MessagePack after a good greeting. Rows 11 and 16 of the threat table."""

import struct

import msgpack

import protocol
from lab import PEER, RPC, row
from protocol import FAILED, FRAME_BYTES_MAX, Answered, framed

# More resident memory than this for a frame that was never sent would be an allocation by promise, in KiB.
PROMISE_KIB_MAX = 2 * 1024


@row("11", "frames that are too long, too short or cut off")
async def lengths(lab):
    before = lab.victim.look()[0]
    for what, data, end, code in (
        ("a length of 4 GiB", b"\xff" * 4, False, protocol.FRAME_TOO_LARGE),
        ("one byte above the limit", struct.pack(">I", FRAME_BYTES_MAX + 1), False, protocol.FRAME_TOO_LARGE),
        ("a length of zero", bytes(4), False, protocol.MALFORMED),
        ("cut off by the end", b"\0\0\1\0abc", True, protocol.MALFORMED),
    ):
        peer = await lab.dial(PEER, lab.evil)
        stream, _, _ = await protocol.greet_as_peer(peer, lab.node)
        stream.send(data, end)
        closed = await peer.until_closed()
        ok = closed is not None and closed.application and closed.code == code
        lab.say(f"{PEER}: {what}", str(closed), ok)
        peer.vanish()
        client = await lab.good()
        stream = client.open()
        stream.send(data, end)
        await stream.until_over()
        # A stream that ended already cannot be stopped: then its end is all there is to hear.
        told = stream.stopped == code or (end and stream.ended)
        ok = told and await lab.alive(client)
        lab.say(f"{RPC}: {what}", f"stream stopped with {show(stream.stopped)}; the connection serves on", ok)
        client.close()
    grown = lab.victim.look()[0] - before
    lab.say("memory for frames that were promised", f"{grown} KiB more", grown < PROMISE_KIB_MAX)


@row("11", "a frame of exactly the limit, and what trails a good one")
async def limit(lab):
    client = await lab.good()
    stream = client.open()
    stream.send(framed(protocol.append(3, bytes(FRAME_BYTES_MAX - 15))))
    answered = Answered(await protocol.read_frame(stream, 60))
    ok = answered.kind == FAILED and answered.number == 3 and answered.failure[:2] == ["Invalid", "NotApplied"]
    lab.say(f"APPEND in a frame of {FRAME_BYTES_MAX} bytes that holds no batch", f"FAILED {answered.failure[:3]}", ok)
    stream.send(framed(protocol.ask(4, "Barrier")) + framed(protocol.ask(5, "Barrier")) + b"\0\0\0")
    both = [Answered(await protocol.read_frame(stream)) for _ in range(2)]
    await stream.until_over()
    ok = [a.number for a in both] == [4, 5] and stream.stopped == protocol.DEADLINE
    lab.say(
        "two good frames and three bytes of a length", f"both answered, then stopped with {show(stream.stopped)}", ok
    )
    lab.say("the connection", "serves on", await lab.alive(client))
    client.close()


def show(code):
    return "nothing" if code is None else f"0x{code:02x}"


def bombs(good):
    """What is no MessagePack of ours: (what, bytes)."""
    yield "nothing", b""
    yield "cut off", good[:-1] if len(good) > 1 else b"\xa9Mem"
    yield "one byte too many", good + b"\0"
    yield "depth 2,000 of lists", b"\x91" * 2_000 + b"\xc0"
    yield "depth 2,000 of maps", b"\x81\xa1a" * 2_000 + b"\xc0"
    yield "100,000 lists", b"\x91" * 100_000
    yield "a list of 2^32-1", b"\xdd\xff\xff\xff\xff"
    yield "a map of 2^32-1", b"\xdf\xff\xff\xff\xff"
    yield "a string of 2^32-1 bytes", b"\xdb\xff\xff\xff\xff"
    yield "bytes of 2^32-1", b"\xc6\xff\xff\xff\xff"
    yield "an extension of 2^32-1 bytes", b"\xc9\xff\xff\xff\xff\x01"
    yield "the byte that is never used", b"\xc1"
    yield "nil", b"\xc0"
    yield "a number", b"\x2a"
    yield "NaN", b"\xcb\x7f\xf8\0\0\0\0\0\0"
    yield "a string that is not UTF-8", b"\xa4\xff\xfe\x80\xc0"
    yield "an unknown variant", msgpack.packb("Obey")
    yield "a variant with too much", msgpack.packb({"Members": [1, 2, 3]})
    yield "two variants", msgpack.packb({"Members": None, "Status": None})
    yield "a variant's number out of range", b"\xcd\xff\xff"


def of_this_kind():
    """Good and bad bodies of every kind of request: (kind, what, body)."""
    questions = {
        "Members": "Members",
        "Status": "Status",
        "Leave": {"Leave": [1_000]},
        "Barrier": "Barrier",
        "Await": {"Await": [0]},
        "Transfer": {"Transfer": [None, 1_000]},
        "Forget": {"Forget": ["n9", 1_000]},
    }
    for name, good in questions.items():
        for what, body in bombs(msgpack.packb(good)):
            yield protocol.ASK, f"ASK {name}", what, body
    for name, value in (
        ("Await", -1),
        ("Await", 1.5),
        ("Await", float("nan")),
        ("Await", "0"),
        ("Await", None),
        ("Leave", 1 << 40),
    ):
        yield protocol.ASK, f"ASK {name}", f"of {value!r}", msgpack.packb({name: [value]})
    good = ["First", None, False, None, None, "Committed", 0]
    for what, body in bombs(msgpack.packb(good)):
        yield protocol.TAIL, "TAIL", what, body
    for at in range(len(good)):
        wrong = good[:at] + [{"x": 1.5}] + good[at + 1 :]
        yield protocol.TAIL, "TAIL", f"field {at} of another type", msgpack.packb(wrong)
        yield protocol.TAIL, "TAIL", f"only {at} fields", msgpack.packb(good[:at])
    good = protocol.append(9, b"")[9:]
    for length in range(len(good)):
        yield protocol.APPEND, "APPEND", f"cut after {length} bytes", good[:length]
    yield protocol.APPEND, "APPEND", "a client's name longer than the frame", struct.pack("<IBB", 1_000, 0, 255)
    yield protocol.APPEND, "APPEND", "a client's name that is not UTF-8", struct.pack("<IBB", 1_000, 0, 2) + b"\xff\xff"
    for kind in (0, 4, 64, 65, 66, 67, 68, 69, 255):
        yield kind, f"kind {kind}", "empty", b""
        yield kind, f"kind {kind}", "with a body", b"\xc0" * 64


def batches():
    """Batches that are none."""
    record = protocol.record(b"value", stream=b"orders", key=b"k", headers=[(b"a", b"b")])
    good = protocol.batch(record)
    yield "no batch", b""
    yield "version 9", b"\x09" + good[1:]
    yield "no records", protocol.batch()
    yield "2^32-1 records", good[:4] + b"\xff" * 4 + good[8:]
    yield "one record too few", good[:4] + struct.pack("<I", 2) + good[8:]
    yield "cut off", good[:-1]
    yield "one byte too many", good + b"\0"
    yield "a record of 4 GiB", good[:8] + b"\xff" * 4 + good[12:]
    yield "a record of 3 bytes", good[:8] + struct.pack("<I", 3) + good[12:]
    yield "a key longer than the record", good[:22] + b"\xff\xff" + good[24:]
    yield "65,535 headers", good[:30] + b"\xff\xff" + good[32:]
    yield "a stream that is not UTF-8", protocol.batch(protocol.record(b"v", stream=b"\xff\xfe"))
    yield "no stream", protocol.batch(protocol.record(b"v", stream=b""))
    yield "a stream with an escape", protocol.batch(protocol.record(b"v", stream=b"\x1b[31m"))
    yield "a value above the limit", protocol.batch(protocol.record(bytes((1 << 20) + 1)))


@row("16", "MessagePack and batches that are none, from a client with a good certificate")
async def malformed(lab):
    client = await lab.good()
    tried, wrong = 0, []
    kinds = {}
    for kind, name, what, body in of_this_kind():
        stream = client.open()
        stream.send(framed(protocol.request(kind, 77, body)))
        try:
            answered = Answered(await protocol.read_frame(stream))
            ok = answered.kind == FAILED and answered.failure[0] == "Invalid"
        except (EOFError, TimeoutError):
            ok = False
        # The stream is over for who speaks like that; the connection is not.
        await stream.until_over()
        ok = ok and stream.ended and client.closed is None
        stream.send(b"", end=True)
        tried += 1
        kinds[name] = kinds.get(name, 0) + 1
        if not ok:
            wrong.append(f"{name}: {what}")
        if client.closed is not None:
            client = await lab.good()
    for name, count in kinds.items():
        bad = [w for w in wrong if w.startswith(f"{name}:")]
        lab.say(
            f"{name}: {count} malformed bodies",
            "; ".join(bad) if bad else "FAILED Invalid each, stream ended, connection kept",
            not bad,
        )
    for what, batch in batches():
        stream = client.open()
        stream.send(framed(protocol.append(78, batch)))
        answered = Answered(await protocol.read_frame(stream))
        ok = answered.kind == FAILED and answered.number == 78 and answered.failure[:2] == ["Invalid", "NotApplied"]
        lab.say(
            f"APPEND: {what}",
            f"FAILED {answered.failure[0]}: {answered.failure[2][:80]}" if answered.kind == FAILED else "served",
            ok,
        )
        stream.send(b"", end=True)
    lab.say(f"the same connection after {tried} of them", "answers a good question", await lab.alive(client))
    client.close()
    peer = await lab.dial(PEER, lab.evil)
    stream, _, _ = await protocol.greet_as_peer(peer, lab.node)
    for kind in range(12):
        for body in (b"", b"\xc1", b"\x91" * 3_000, b"\xdd\xff\xff\xff\xff", bytes(64)):
            stream.send(framed(bytes([kind]) + body))
    # A peer that talks nonsense is either cut off or ignored; what counts is that nobody else notices.
    await peer.ping()
    happened = f"cut off: {peer.closed}" if peer.closed else "each ignored, with a line in the log"
    lab.say(f"{PEER}: 60 malformed messages of every kind", happened, peer.closed is None or peer.closed.application)
    peer.close()
