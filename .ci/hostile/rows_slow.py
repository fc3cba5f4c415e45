"""Those who take their time, and those who take too much room. Rows 12 and 13 of the threat table."""

import asyncio
import struct
import time

from aioquic.buffer import encode_uint_var

import protocol
from lab import PEER, RPC, row, together
from protocol import FRAME_BYTES_MAX, framed
from quic import Client, knock

# Above a fair share of strangers an agent must still take in a friend within this time, in seconds.
FRIEND_SECONDS_MAX = 10.0
HALF_OPEN = 300
# Where the friends of the half-open strangers are; those are at 127.0.0.1.
OTHER_HOST = "127.0.0.77"


@row("12", "one byte a second")
async def slow_loris(lab):
    async def in_hello(alpn, issued):
        client = await lab.dial(alpn, issued)
        closed, took = await drip(client, client.open(), struct.pack(">I", 600) + bytes(600))
        ok = closed is not None and closed.application and closed.code == protocol.DEADLINE
        lab.say(f"{alpn}: a Hello of 600 bytes", f"{closed} after {took:.1f} s", ok)
        client.vanish()

    async def in_request():
        client = await lab.good()
        stream = client.open()
        _, took = await drip(client, stream, struct.pack(">I", 600) + bytes(600))
        ok = stream.stopped == protocol.DEADLINE and await lab.alive(client)
        lab.say(f"{RPC}: a request of 600 bytes", f"stopped with 0x22 after {took:.1f} s; the connection serves on", ok)
        client.close()

    async def as_peer():
        peer = await lab.dial(PEER, lab.evil)
        stream, _, _ = await protocol.greet_as_peer(peer, lab.node)
        closed, took = await drip(peer, stream, struct.pack(">I", 600) + bytes(600))
        ok = closed is not None and closed.application and closed.code == protocol.DEADLINE
        lab.say(f"{PEER}: a message of 600 bytes", f"{closed} after {took:.1f} s", ok)
        peer.vanish()

    await together(in_hello(PEER, lab.evil), in_hello(RPC, lab.app), in_request(), as_peer())


async def drip(client, stream, data):
    """Sends a byte a second until somebody has had enough."""
    began = time.monotonic()
    for at in range(len(data)):
        stream.send(data[at : at + 1])
        if await client.until(lambda: client.closed is not None or stream.stopped is not None, 1.0):
            break
        if at == 12:
            break
    return client.closed, time.monotonic() - began


@row("12", "half-open handshakes that are kept alive")
async def half_open(lab):
    """Each has a real address and answers a Retry, so none can be told from a slow friend but by its time."""
    strangers = []
    loop = asyncio.get_running_loop()
    began = time.monotonic()

    async def one():
        quic, datagrams = knock(lab.addr, lab.config(PEER))

        class Half(asyncio.DatagramProtocol):
            received = 0
            ended = None

            def datagram_received(self, data, addr):
                Half.received += len(data)
                # Only a Retry is heeded (type 3 of a long header); the rest of the handshake is never answered.
                if data[0] & 0xF0 == 0xF0:
                    quic.receive_datagram(data, addr, now=loop.time())
                    self.flush()

            def flush(self):
                for data, _ in quic.datagrams_to_send(now=loop.time()):
                    transport.sendto(data, lab.addr)

        transport, half = await loop.create_datagram_endpoint(Half, local_addr=("127.0.0.1", 0))
        for data in datagrams:
            transport.sendto(data, lab.addr)
        strangers.append((quic, half, transport))

    for _ in range(HALF_OPEN):
        await one()
        await asyncio.sleep(0.005)
    friends = []
    for _ in range(16):
        for quic, half, _ in strangers:
            quic._probe_pending = True
            half.flush()
        if len(friends) < 3:
            friends.append(await befriend(lab, OTHER_HOST))
        await asyncio.sleep(0.5)
        if time.monotonic() - began > 8:
            break
    for _, _, transport in strangers:
        transport.close()
    took = await befriend(lab)
    shown = ", ".join("refused" if f is None else f"{f:.2f} s" for f in friends)
    lab.say(
        f"{HALF_OPEN} handshakes begun at one address and pinged for 8 s",
        f"friends at another address meanwhile: {shown}; afterwards one at the same: {took and f'{took:.2f} s'}",
        took is not None and None not in friends,
    )


async def befriend(lab, source="127.0.0.1"):
    """How long a client with a good certificate needs until it is served; retries like one."""
    began = time.monotonic()
    while time.monotonic() - began < FRIEND_SECONDS_MAX:
        client = await Client.dial(lab.addr, lab.config(RPC, lab.app), source, wait=False)
        await client.until(lambda: client.connected or client.closed is not None, 3)
        if client.connected and client.closed is None:
            try:
                await protocol.greet_as_client(client)
                client.close()
                return time.monotonic() - began
            except (EOFError, TimeoutError):
                pass
        client.vanish()
        await asyncio.sleep(0.1)
    return None


@row("12", "a thousand streams")
async def streams(lab):
    client = await lab.good()
    limit = client.quic._remote_max_streams_bidi
    for _ in range(1_000):
        client.open().send(struct.pack(">I", FRAME_BYTES_MAX)[:3])
    await client.until(lambda: False, 3.5)
    stopped = [s for s in client.streams.values() if s.stopped == protocol.DEADLINE]
    lab.say(
        "1,000 streams with three bytes each, as many as allowed at a time",
        f"{limit} allowed, {len(stopped)} stopped for their delay",
        limit <= 100 and len(stopped) >= limit - 1,
    )
    client.close()
    client = await lab.good()
    for number in range(1_000):
        client.frame(0x0A, encode_uint_var(4 * (number + 1)) + encode_uint_var(1) + b"\0")
    client.transmit()
    closed = await client.until_closed(5)
    ok = closed is not None and closed.code == 0x4 and not closed.application
    lab.say("1,000 streams without asking", f"{closed}", ok)
    client.vanish()
    client = await lab.good()
    client.frame(0x0A, encode_uint_var(2) + encode_uint_var(1) + b"\0")
    client.transmit()
    closed = await client.until_closed(5)
    lab.say("a stream of one direction", f"{closed}", closed is not None and closed.code == 0x4)
    client.vanish()
    early = await lab.dial(PEER, lab.evil)
    lab.say(
        "streams for strangers before the greeting",
        f"{early.quic._remote_max_streams_bidi} of both directions, {early.quic._remote_max_streams_uni} of one",
        early.quic._remote_max_streams_bidi <= 2 and early.quic._remote_max_streams_uni == 0,
    )
    early.close()


@row("13", "a flood of fragments out of order")
async def fragments(lab):
    before = lab.victim.look()[0]
    for what, client in (("before the greeting", await lab.dial(PEER, lab.evil)), ("as a client", await lab.good())):
        stream = client.open()
        # One byte of every two, the first one never: nothing can be read, everything must be kept.
        for number in range(6_000):
            offset = encode_uint_var(2 * number + 1)
            client.frame(0x0E, encode_uint_var(stream.number) + offset + encode_uint_var(1) + b"x")
        client.transmit()
        closed = await client.until_closed(10)
        lab.say(f"6,000 fragments with holes, {what}", f"{closed}", closed is not None)
        client.vanish()
    grown = lab.victim.look()[0] - before
    lab.say("memory for them", f"{grown} KiB more", grown < 8 * 1024)
    lab.say("a friend", "is served", await befriend(lab) is not None)


@row("12", "one who asks and never reads")
async def never_reads(lab):
    # Two mebibytes of records to ask for, again and again.
    client = await lab.good()
    stream = client.open()
    for number in range(8):
        stream.send(framed(protocol.append(number, protocol.batch(protocol.record(bytes(256 * 1024), stream=b"bulk")))))
    for _ in range(8):
        await protocol.read_frame(stream)
    client.close()
    before = lab.victim.look()[0]
    config = lab.config(RPC, lab.app, max_data=64 * 1024, max_stream_data=16 * 1024)
    deaf = []
    for _ in range(4):
        client = await Client.dial(lab.addr, config)
        client.quic.grants_window = False
        await protocol.greet_as_client(client)
        for _ in range(20):
            client.open().send(framed(protocol.tail(1, "First", follow=True)))
        asked = client.open()
        for number in range(3_000):
            client.quic.send_stream_data(asked.number, framed(protocol.ask(number, "Status")))
        client.transmit()
        deaf.append(client)
    await asyncio.sleep(4)
    got = sum(client.application_bytes for client in deaf)
    grown = lab.victim.look()[0] - before
    lab.say(
        "4 clients: 80 tails and 12,000 questions, no window granted",
        f"{got} bytes came, {grown} KiB more in the agent",
        grown < 96 * 1024,
    )
    lab.say("a friend meanwhile", "is served", await befriend(lab) is not None)
    for client in deaf:
        client.vanish()
