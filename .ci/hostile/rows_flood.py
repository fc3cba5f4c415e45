"""Many packets from everywhere: handshakes, junk, forged sources. Rows 14, 15 and 17 of the threat table."""

import asyncio
import os
import random
import socket
import struct

from lab import PEER, row
from quic import knock
from rows_slow import befriend

# RFC 9000 section 8.1: an address that has proven nothing gets at most this many times what it sent.
AMPLIFICATION_MAX = 3
# quinn finishes the datagram with which the limit is reached (quinn#1082): one at most, in bytes.
OVERDRAFT = 1_200
KNOCKS = 1_500
SOURCES = 50


class Source(asyncio.DatagramProtocol):
    """An address of which nobody ever answers. Counts what it is sent."""

    def __init__(self):
        self.sent = self.received = 0
        self.first = None
        self.transport = None

    @classmethod
    async def at(cls, host):
        loop = asyncio.get_running_loop()
        _, self = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        return self

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.received += len(data)
        self.first = self.first or data

    def throw(self, data, addr):
        self.sent += len(data)
        self.transport.sendto(data, addr)


def amplification(sources):
    """The worst factor of all, and the factor of all together."""
    worst = max((s.received / s.sent for s in sources if s.sent), default=0)
    return worst, sum(s.received for s in sources) / max(1, sum(s.sent for s in sources))


@row("14", "a flood of handshakes from addresses that never answer")
async def handshakes(lab):
    sources = [await Source.at(f"127.0.0.{2 + n}") for n in range(SOURCES)]
    config = lab.config(PEER)
    friends = []
    for number in range(KNOCKS):
        _, datagrams = knock(lab.addr, config)
        for data in datagrams:
            sources[number % SOURCES].throw(data, lab.addr)
        if number % 10 == 0:
            await asyncio.sleep(0.005)
        if number in (500, 1_000):
            friends.append(await befriend(lab))
    # The last of them are given up after the handshake deadline; what is repeated to them counts too.
    await asyncio.sleep(5.5)
    worst, all_together = amplification(sources)
    shown = ", ".join("refused" if f is None else f"{f:.2f} s" for f in friends)
    retried = sum(1 for s in sources if s.first and s.first[0] & 0xF0 == 0xF0)
    lab.say(
        f"{KNOCKS} first packets of {SOURCES} addresses 127.0.0.x",
        f"{all_together:.2f} bytes in answer for one, at worst {worst:.2f}; {retried} addresses began with a Retry",
        worst <= AMPLIFICATION_MAX,
    )
    lab.say("friends in the midst of it", f"served after {shown}", all(f is not None for f in friends))
    # One at a time, so that no Retry hides what a whole first flight costs.
    lonely = []
    for n in range(8):
        source = await Source.at(f"127.0.0.{100 + n}")
        _, datagrams = knock(lab.addr, config)
        for data in datagrams:
            source.throw(data, lab.addr)
        lonely.append(source)
        await asyncio.sleep(0.05)
    await asyncio.sleep(5.5)
    worst, _ = amplification(lonely)
    ok = all(source.received <= AMPLIFICATION_MAX * source.sent + OVERDRAFT for source in lonely)
    happened = f"at worst {worst:.2f} bytes in answer for one (3 and the rest of a datagram, as quinn counts)"
    lab.say("8 first packets without haste, never answered", happened, ok)
    for source in sources + lonely:
        source.transport.close()


def junk(count):
    """Bytes that are no packet of anybody, of every size and first byte."""
    chance = random.Random(7)
    for number in range(count):
        size = chance.choice((1, 2, 7, 20, 21, 40, 43, 100, 600, 1199, 1200, 1472, 4000))
        body = bytearray(chance.randbytes(size))
        if number % 3 == 0:
            body[0] = 0x40 | body[0] & 0x3F
        elif number % 3 == 1 and size > 6:
            body[0] |= 0xC0
            body[1:5] = b"\0\0\0\1"
            body[5] = chance.choice((0, 8, 20, 255))
        yield bytes(body)


@row("17", "junk that is no QUIC")
async def noise(lab):
    quiet = [len(agent.log_bytes()) for agent in lab.cluster.agents]
    sources = []
    for batch in range(20):
        source = await Source.at("127.0.0.1")
        sources.append(source)
        for data in junk(250):
            source.throw(data, lab.addr)
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    _, all_together = amplification(sources)
    lab.say("5,000 packets of junk", f"{all_together:.3f} bytes in answer for one", all_together <= 1)
    source = await Source.at("127.0.0.1")
    worst = 0
    for size in (21, 22, 40, 43, 100, 1200):
        for _ in range(3):
            before = source.received
            source.throw(bytes([0x40]) + os.urandom(size - 1), lab.addr)
            await asyncio.sleep(0.05)
            worst = max(worst, (source.received - before) / size)
    lab.say("packets of connections that never were", f"a reset of at most {worst:.2f} of their size", worst <= 1)
    for one in (*sources, source):
        one.transport.close()
    third = lab.cluster.agents[2]
    for data in junk(2_000):
        source = await Source.at("127.0.0.1") if source.transport.is_closing() else source
        source.throw(data, third.addr)
    await asyncio.sleep(0.5)
    lines = third.log_bytes()[quiet[2] :].count(b"\n")
    lab.say("2,000 packets of junk to an agent that logs as usual", f"{lines} lines in its log", lines <= 30)
    source.transport.close()


@row("15", "packets in the name of a peer")
async def forged(lab):
    peer = next(agent for agent in lab.cluster.agents if agent is not lab.victim)
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        lab.say("not tried", "forging a source needs the right to (CAP_NET_RAW)", True)
        return
    config = lab.config(PEER)
    raw.setblocking(False)
    for number in range(600):
        for data in knock(lab.addr, config)[1]:
            forge(raw, peer.addr, lab.addr, data)
        for data in junk(3):
            forge(raw, peer.addr, lab.addr, data)
        if number % 10 == 0:
            await asyncio.sleep(0.005)
    raw.close()
    members = await lab.cluster.run_aside(
        "--addr",
        f"{lab.victim.host}:{lab.victim.port}",
        "--certs",
        f"{lab.cluster.pki}/eye",
        "members",
        "--wait",
        "alive=3",
        "--timeout",
        "5s",
    )
    status = lab.cluster.status(lab.victim)
    ok = members[0] == 0 and not status["problems"]
    lab.say(
        f"600 handshakes and 1,800 packets of junk from the address of {peer.name}",
        f"{peer.name} is not locked out: 3 members alive, problems {status['problems']}",
        ok,
    )
    lab.say("a friend", "is served", await befriend(lab) is not None)


def forge(raw, source, target, data):
    """An IPv4 packet with whatever source (RFC 791, RFC 768; a UDP checksum of zero is none)."""
    udp = struct.pack(">HHHH", source[1], target[1], 8 + len(data), 0)
    ip = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        28 + len(data),
        0,
        0,
        64,
        socket.IPPROTO_UDP,
        0,
        socket.inet_aton(source[0]),
        socket.inet_aton(target[0]),
    )
    try:
        raw.sendto(ip + udp + data, (target[0], 0))
    except BlockingIOError:
        pass
