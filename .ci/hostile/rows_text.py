"""Text that a terminal would obey, wherever text can travel. Rows 24 and 25 of the threat table."""

import asyncio
import json

import msgpack
from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration

import protocol
from lab import BULK, PEER, RPC, row
from protocol import framed
from quic import Client, configuration

MARK = "FORGED"
EVIL = f"\x1b]0;pwn\x07\x1b[2J\n{MARK} 2026-01-01T00:00:00Z  INFO all is well\r\n\u202e\u009b31m"


@row("25", "escapes in everything that can hold text")
async def escapes(lab):
    tried = 0
    for agent in lab.cluster.agents:
        for alpn, issued in ((PEER, lab.evil), (BULK, lab.evil), (RPC, lab.app)):
            for transport in (False, True):
                tried += await close_at_once(lab, agent, alpn, issued, transport)
                tried += await close_after_hello(lab, agent, alpn, issued, transport)
            tried += await close_within_handshake(lab, agent, alpn)
        tried += await evil_words(lab, agent)
    await asyncio.sleep(0.5)
    for agent in lab.cluster.agents:
        log = agent.log_bytes()
        forged = [line for line in log.split(b"\n") if line.startswith(MARK.encode())]
        raw = sum(log.count(one) for one in (b"\x1b", b"\x07", b"\r", b"\xc2\x9b", "\u202e".encode()))
        heard = log.count(MARK.encode())
        ok = raw == 0 and not forged and heard > 0
        if agent is lab.cluster.agents[1]:
            ok = ok and all(json.loads(line) for line in log.decode().splitlines())
        lab.say(
            f"{agent.name}: {tried // 3} closes, names and versions with escapes",
            f"its log shows {heard} of them, {raw} bytes raw, {len(forged)} forged lines",
            ok,
        )
    code, out, err = await lab.cluster.run_aside(
        "--addr", addr(lab.victim), "--certs", f"{lab.cluster.pki}/eye", "members"
    )
    both = out + err
    lab.say(
        "quorate members afterwards",
        f"exit {code}, {both.count(bytes([27]))} escapes",
        code == 0 and bytes([27]) not in both,
    )


def addr(agent):
    return f"{agent.host}:{agent.port}"


async def dial(lab, agent, alpn, issued, **more):
    return await Client.dial(agent.addr, lab.config(alpn, issued), **more)


async def close_at_once(lab, agent, alpn, issued, transport):
    client = await dial(lab, agent, alpn, issued)
    client.close(0x1B, EVIL, transport)
    await asyncio.sleep(0.01)
    client.vanish()
    return 1


async def close_after_hello(lab, agent, alpn, issued, transport):
    client = await dial(lab, agent, alpn, issued)
    stream = client.open()
    if alpn == RPC:
        stream.send(protocol.rpc_hello(version=EVIL[:60]), end=True)
        await protocol.read_frame(stream)
    else:
        stream.send(framed(lab.node.hello(client, version=EVIL[:40])))
        try:
            await protocol.read_frame(stream, 2)
        except EOFError:
            pass
    client.close(0x21, EVIL, transport)
    await asyncio.sleep(0.01)
    client.vanish()
    return 1


async def close_within_handshake(lab, agent, alpn):
    """Anybody can do this: the keys of first packets are public."""
    client = await dial(lab, agent, alpn, None, wait=False)
    client.close(0x10A, EVIL, transport=True)
    await asyncio.sleep(0.01)
    client.vanish()
    # The same, one flight later: TLS has been answered, the certificate not shown.
    client = await dial(lab, agent, alpn, None, wait=False)
    await client.until(lambda: client.received_bytes > 0, 2)
    client.close(0x150, EVIL, transport=True)
    await asyncio.sleep(0.01)
    client.vanish()
    return 2


async def evil_words(lab, agent):
    """Names that are looked up before anything is proven, and texts in requests."""
    for name in ("\x1b[31mred", "a\nb", "x" * 255, "\u202e.example", "..", "-"):
        try:
            config = configuration(RPC, name, **lab.app.credentials())
            client = await Client.dial(agent.addr, config)
        except (UnicodeError, ValueError):
            continue
        client.vanish()
    client = await dial(lab, agent, RPC, lab.app)
    await protocol.greet_as_client(client)
    requests = [
        protocol.request(protocol.ASK, 1, msgpack.packb(EVIL)),
        protocol.tail(1, {EVIL: 1}),
        protocol.append(1, protocol.batch(protocol.record(b"v", stream=EVIL.encode()[:100]))),
        protocol.append(1, protocol.batch(protocol.record(b"v", key=EVIL.encode())), on_behalf_of=EVIL.encode()[:200]),
    ]
    for request in requests:
        stream = client.open()
        stream.send(framed(request))
        await protocol.read_frame(stream)
        stream.send(b"", end=True)
    client.close()
    return 10


class Farewell(QuicConnectionProtocol):
    """A server with a good certificate that parts with bad words."""

    transport_close = False

    def quic_event_received(self, event):
        if isinstance(event, events.HandshakeCompleted):
            self._quic.close(error_code=0x21, frame_type=0 if self.transport_close else None, reason_phrase=EVIL)
            self.transmit()


@row("25", "escapes from a server, as a person would see them")
async def seen_by_people(lab):
    for transport in (False, True):
        config = QuicConfiguration(is_client=False, alpn_protocols=[RPC])
        config.certificate, config.private_key = lab.evil.certificate, lab.evil.key
        protocol_of = type("Farewell", (Farewell,), {"transport_close": transport})
        server = await serve("127.0.0.1", 0, configuration=config, create_protocol=protocol_of)
        port = server._transport.get_extra_info("sockname")[1]
        for format in ("text", "json"):
            code, out, err = await lab.cluster.run_aside(
                "--addr",
                f"127.0.0.1:{port}",
                "--certs",
                f"{lab.cluster.pki}/app",
                "--timeout",
                "1s",
                "--format",
                format,
                "status",
            )
            raw = (out + err).count(b"\x1b") + (out + err).count(b"\x07")
            lines = err.decode(errors="replace").strip().split("\n")
            ok = code != 0 and raw == 0 and len(lines) == 1 and not any(line.startswith(MARK) for line in lines)
            what = "transport" if transport else "application"
            lab.say(
                f"quorate status --format {format}, answered by a close ({what}) with escapes",
                f"exit {code}, {raw} bytes raw: {lines[0][:100]}",
                ok,
            )
        server.close()
