"""Who may speak at all: certificates, roles, protocols, versions. Rows 1 to 6, 10, 22 of the threat table."""

import asyncio
import datetime
import os

from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import MAX_EARLY_DATA
from aioquic.quic.packet import QuicProtocolVersion, pull_quic_header
from aioquic.tls import CipherSuite, Epoch, ExtensionType, SessionTicket

import pki
import protocol
from lab import BULK, PEER, RPC, row, together
from quic import Client

DAY = datetime.timedelta(days=1)


async def refused(lab, alpn, issued):
    """What an eager client gets who sends a Hello as soon as it believes itself connected."""
    client = await lab.dial(alpn, issued)
    if client.connected:
        client.open().send(protocol.rpc_hello())
    closed = await client.until_closed()
    client.vanish()
    return closed, client.application_bytes


async def expect_alert(lab, what, alpn, issued, alert):
    closed, got = await refused(lab, alpn, issued)
    ok = closed is not None and closed.alert == alert and got == 0
    lab.say(f"{alpn}: {what}", f"{closed}, {got} application bytes", ok)


@row("1", "no certificate")
async def no_certificate(lab):
    await together(*(expect_alert(lab, "no certificate", alpn, None, 116) for alpn in (PEER, BULK, RPC)))


@row("2", "a certificate of another authority")
async def other_authority(lab):
    ours = lab.authority.cluster
    stranger = lab.stranger.issue([lab.authority.agent_uri("n9")], [lab.authority.agent_dns()])
    namesake = pki.Authority.stranger(f"Quorate CA {ours}")
    twin = namesake.issue([lab.authority.agent_uri("n9")], [lab.authority.agent_dns()])
    for alpn in (PEER, BULK, RPC):
        await expect_alert(lab, "another authority", alpn, stranger, 48)
    # The verifier finds the namesake by name and then fails at the signature: decrypt_error, as TLS has it.
    await expect_alert(lab, "another authority under our authority's name", RPC, twin, 51)


@row("3", "our authority, another cluster's id")
async def other_cluster(lab):
    other = os.urandom(16).hex()
    client = lab.authority.issue([lab.authority.client_uri("admin", "x", other)], usages=pki.BOTH)
    for alpn in (PEER, RPC):
        await expect_alert(lab, "client of another cluster", alpn, client, 49)
    # Our authority may not vouch for another zone at all: its name constraint says so.
    agent = lab.authority.issue([lab.authority.agent_uri("x", other)], [lab.authority.agent_dns(other)])
    closed, got = await refused(lab, PEER, agent)
    lab.say(
        f"{PEER}: agent of another cluster", f"{closed}, {got} application bytes", closed.alert is not None and got == 0
    )


@row("4", "certificates that are not in order")
async def not_in_order(lab):
    a, now = lab.authority, pki.NOW
    uri, dns = a.agent_uri("x"), a.agent_dns()
    bad = [
        ("expired", a.agent("x", begin=now - 2 * DAY, end=now - DAY), 45),
        ("not yet valid", a.agent("x", begin=now + DAY, end=now + 2 * DAY), 45),
        ("two URIs", a.issue([uri, a.agent_uri("y")], [dns]), 46),
        ("no URI", a.issue([], [dns]), 46),
        ("a name with a slash too many", a.issue([uri + "/y"], [dns]), 46),
        ("agent without its DNS name", a.issue([uri]), 46),
        ("a name with an escape", a.issue([a.agent_uri("x\x1b[31m")], [dns]), 46),
        ("a name of 4,000 characters", a.issue([a.agent_uri("x" * 4_000)], [dns]), 46),
        ("300 names", a.issue([a.agent_uri(f"x{n}") for n in range(300)], [dns]), 46),
        ("one intermediate that our authority does not allow", a.deep("x", 1), None),
        ("ten intermediates", a.deep("x", 10), None),
        ("for servers only", a.issue([uri], [dns], usages=pki.BOTH[:1]), 43),
        ("an authority's", a.issue([uri], [dns], ca=True), None),
        ("10,000 bytes of an unknown extension", a.issue([uri], [dns], padding=10_000), "served"),
        ("60,000 bytes of an unknown extension", a.issue([uri], [dns], padding=60_000), "served"),
        ("70,000 bytes of an unknown extension", a.issue([uri], [dns], padding=70_000), None),
    ]
    node = protocol.Node(a.cluster, "x")
    for what, issued, alert in bad:
        if alert == "served":
            client = await lab.dial(PEER, issued)
            _, said, _ = await protocol.greet_as_peer(client, node)
            lab.say(f"{PEER}: {what}", f"Welcome of {said['name']}: it is only large", said["name"] == lab.victim.name)
            client.close()
        elif alert is None:
            closed, got = await refused(lab, PEER, issued)
            lab.say(f"{PEER}: {what}", f"{closed}, {got} application bytes", closed is not None and got == 0)
        else:
            await expect_alert(lab, what, PEER, issued, alert)


@row("5", "roles on protocols and operations that are not theirs")
async def wrong_role(lab):
    for alpn in (PEER, BULK):
        for role in ("read", "append", "admin"):
            closed, got = await refused(lab, alpn, lab.authority.client(role))
            ok = closed is not None and closed.application and closed.code == protocol.ROLE_FORBIDDEN and got == 0
            lab.say(f"{alpn}: certificate of a client, role {role}", f"{closed}, {got} application bytes", ok)
    forbidden = [
        ("read", "APPEND", protocol.append(5, protocol.batch(protocol.record(b"x")))),
        ("read", "ASK Leave", protocol.ask(5, {"Leave": [1000]})),
        ("append", "ASK Leave", protocol.ask(5, {"Leave": [1000]})),
        ("append", "ASK Transfer", protocol.ask(5, {"Transfer": [None, 1000]})),
        ("append", "ASK Forget", protocol.ask(5, {"Forget": ["n3", 1000]})),
    ]
    for role, what, request in forbidden:
        client = await lab.dial(RPC, lab.authority.client(role))
        await protocol.greet_as_client(client)
        stream = client.open()
        stream.send(protocol.framed(request))
        answered = protocol.Answered(await protocol.read_frame(stream))
        failure = answered.failure if answered.kind == protocol.FAILED else ["served"]
        ok = answered.number == 5 and failure[0] == "NotAuthorised"
        lab.say(f"{RPC}: role {role} asks for {what}", f"FAILED {failure[0]}", ok)
        client.close()


class Rogue(QuicConnectionProtocol):
    """A server that says nothing. Counts what it was told."""

    told = 0

    def quic_event_received(self, event):
        Rogue.told += len(getattr(event, "data", b""))


@row("6", "servers that are no agents: what a client of ours says")
async def rogue_servers(lab):
    a = lab.authority
    impostors = [
        ("another authority's agent", lab.stranger.issue([a.agent_uri("n1")], [a.agent_dns()])),
        ("a client's certificate", a.client("admin")),
        ("an expired agent", a.agent("n1", begin=pki.NOW - 2 * DAY, end=pki.NOW - DAY)),
    ]
    for number, (what, issued) in enumerate(impostors):
        config = QuicConfiguration(is_client=False, alpn_protocols=[RPC])
        config.certificate, config.private_key = issued.certificate, issued.key
        server = await serve("127.0.0.1", 0, configuration=config, create_protocol=Rogue)
        port = server._transport.get_extra_info("sockname")[1]
        code, _, err = await lab.cluster.run_aside(
            "--addr", f"127.0.0.1:{port}", "--certs", f"{lab.cluster.pki}/app", "--timeout", "5s", "append", "secret"
        )
        server.close()
        said = err.decode(errors="replace").strip()
        ok = code in (3, 4, 6) and Rogue.told == 0 and said.count("\n") == 0 and said.startswith("error: ")
        lab.say(f"quorate append to {what}", f"exit {code}, 0 bytes told: {said[:120]}", ok)


@row("10", "session tickets and early data")
async def early(lab):
    tickets = []
    client = await lab.dial(RPC, lab.app, ticket_handler=tickets.append)
    await protocol.greet_as_client(client)
    await asyncio.sleep(0.3)
    lab.say("a whole conversation that would keep a ticket", f"{len(tickets)} tickets", not tickets)
    # What a server may grant early is read from the ticket; our own parameters serve.
    parameters = client.quic._serialize_transport_parameters()
    client.close()
    now = datetime.datetime.now(datetime.timezone.utc)
    forged = SessionTicket(
        age_add=1,
        cipher_suite=CipherSuite.AES_128_GCM_SHA256,
        not_valid_after=now + DAY,
        not_valid_before=now - DAY,
        resumption_secret=os.urandom(32),
        server_name=lab.authority.agent_dns(),
        ticket=os.urandom(64),
        max_early_data_size=MAX_EARLY_DATA,
        other_extensions=[(ExtensionType.QUIC_TRANSPORT_PARAMETERS, parameters)],
    )
    config = lab.config(RPC, lab.app, session_ticket=forged)
    client = Client(config, lab.addr)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: client, local_addr=("127.0.0.1", 0))
    client.quic.connect(lab.addr, now=loop.time())
    client.quic.send_stream_data(0, protocol.rpc_hello(), end_stream=True)
    client.transmit()
    sent = client.sent_bytes
    early_ready = client.quic._cryptos[Epoch.ZERO_RTT].send.is_valid()
    await client.until(lambda: client.connected or client.closed is not None)
    done = client.handshake
    ok = early_ready and done is not None and not done.early_data_accepted and not done.session_resumed
    happened = f"full handshake, early data {'accepted' if done and done.early_data_accepted else 'refused'}"
    lab.say(f"an invented ticket and a Hello as early data ({sent} bytes at once)", happened, ok)
    client.close()


@row("22", "protocols and versions that we do not speak")
async def versions(lab):
    for alpn in ("quorate-peer/0", "h3", "quorate-rpc/2", "\x1b]0;pwn\x07"):
        closed, got = await refused(lab, alpn, lab.evil)
        ok = closed is not None and closed.alert == 120 and got == 0
        lab.say(f"protocol {alpn!r}", f"{closed}, {got} application bytes", ok)
    closed, got = await refused(lab, None, lab.evil)
    lab.say(
        "no protocol named",
        f"{closed}, {got} application bytes",
        closed is not None and closed.alert == 120 and got == 0,
    )
    v2 = QuicProtocolVersion.VERSION_2
    config = lab.config(RPC, lab.app, supported_versions=[v2, QuicProtocolVersion.VERSION_1], original_version=v2)
    client = await Client.dial(lab.addr, config)
    ok = client.connected and client.quic._version == QuicProtocolVersion.VERSION_1
    lab.say("QUIC version 2 preferred, 1 possible", "negotiated down to version 1", ok)
    client.close()
    for version in (0xFF00001D, 0xFF000022, 0x6B3343CF, 0x0A0A0A0A):
        for size in (1200, 100):
            packet = long_header(version, size)
            said = await answer_to(lab, packet)
            if size < 1200:
                lab.say(f"QUIC version 0x{version:08x}, {size} bytes", f"{len(said)} bytes in answer", not said)
                continue
            header = pull_quic_header(Buffer(data=said), host_cid_length=8) if said else None
            offered = header.supported_versions if header else []
            known = [v for v in offered if v & 0x0F0F0F0F != 0x0A0A0A0A]
            ok = known == [1] and len(said) <= size
            lab.say(
                f"QUIC version 0x{version:08x}, {size} bytes",
                f"version negotiation offers {known}, {len(said)} bytes",
                ok,
            )


def long_header(version, size):
    head = bytes([0xC3]) + version.to_bytes(4, "big") + b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
    return head + os.urandom(size - len(head))


async def answer_to(lab, packet, patience=0.3):
    """The first datagram that comes back, or nothing."""
    loop = asyncio.get_running_loop()
    heard = loop.create_future()

    class Ear(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            if not heard.done():
                heard.set_result(data)

    ear, _ = await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", 0))
    ear.sendto(packet, lab.addr)
    try:
        return await asyncio.wait_for(heard, patience)
    except TimeoutError:
        return b""
    finally:
        ear.close()
