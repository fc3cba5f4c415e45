"""A QUIC dialler on aioquic: like a client where it should be, and unlike one where a row needs that.

Never decides what is right or wrong: it reports what was sent and what came back.
"""

import asyncio
import socket
import ssl

import aioquic.quic.connection
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilderStop
from aioquic.tls import Direction, Epoch, Group, hkdf_expand_label
from cryptography.hazmat.primitives import hashes

# Room for a certificate that is far too large, in bytes.
aioquic.quic.connection.CRYPTO_BUFFER_SIZE = 1 << 18

# How long anything is waited for that has no deadline of its own, in seconds: far above what any row needs.
PATIENCE = 15.0


class Connection(QuicConnection):
    """aioquic's connection, with a TLS exporter (RFC 8446 section 7.5) and a way to write any frame."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.exporter_secret = None
        self.raw_frames = []
        self.grants_window = True

    def _update_traffic_key(self, direction, epoch, cipher_suite, secret):
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)
        if direction == Direction.DECRYPT and epoch == Epoch.ONE_RTT:
            # The transcript ends with the server's Finished at this moment, as the exporter wants it.
            self.exporter_secret = self.tls.key_schedule.derive_secret(b"exp master")

    def export(self, label, context, length):
        """Keying material of this connection."""
        algorithm = self.tls.key_schedule.algorithm

        def digest(data):
            h = hashes.Hash(algorithm)
            h.update(data)
            return h.finalize()

        secret = hkdf_expand_label(algorithm, self.exporter_secret, label, digest(b""), algorithm.digest_size)
        return hkdf_expand_label(algorithm, secret, b"exporter", digest(context), length)

    def _write_application(self, builder, network_path, now):
        crypto = self._cryptos[Epoch.ONE_RTT]
        while self.raw_frames and crypto.send.is_valid():
            kind, body = self.raw_frames[0]
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            buf = builder.start_frame(kind, capacity=len(body) + 8)
            buf.push_bytes(body)
            self.raw_frames.pop(0)
        super()._write_application(builder, network_path, now)

    def _write_connection_limits(self, builder, space):
        if self.grants_window:
            super()._write_connection_limits(builder, space)

    def _write_stream_limits(self, builder, space, stream):
        if self.grants_window:
            super()._write_stream_limits(builder, space, stream)


class Closed:
    """How a connection ended."""

    def __init__(self, event):
        self.code = event.error_code
        self.application = event.frame_type is None
        self.reason = event.reason_phrase

    @property
    def alert(self):
        """The TLS alert, if it was one."""
        return self.code - 0x100 if not self.application and 0x100 <= self.code < 0x200 else None

    def __str__(self):
        if self.application:
            said = f"close 0x{self.code:02x}"
        elif self.alert is not None:
            said = f"alert {self.alert}"
        else:
            said = f"QUIC error 0x{self.code:x}"
        return f'{said} "{self.reason}"' if self.reason else said


class Stream:
    """What came on one stream."""

    def __init__(self, client, number):
        self.client, self.number = client, number
        self.data = bytearray()
        self.ended = False
        self.reset = None
        self.stopped = None

    def send(self, data, end=False):
        if self.stopped is None:
            self.client.quic.send_stream_data(self.number, data, end)
        self.client.transmit()

    async def read(self, count, patience=PATIENCE):
        """Exactly `count` bytes; fails if the stream ends before."""
        await self.client.until(lambda: len(self.data) >= count or self.over, patience)
        if len(self.data) < count:
            raise EOFError(f"stream ended after {len(self.data)} of {count} bytes")
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    @property
    def over(self):
        return self.ended or self.reset is not None or self.client.closed is not None

    async def until_over(self, patience=PATIENCE):
        await self.client.until(lambda: self.over or self.stopped is not None, patience)


class Client(asyncio.DatagramProtocol):
    """One connection on a socket of its own."""

    def __init__(self, config, addr, ticket_handler=None):
        self.quic = Connection(configuration=config, session_ticket_handler=ticket_handler)
        self.addr = addr
        self.connected = False
        self.handshake = None
        self.closed = None
        self.streams = {}
        self.application_bytes = 0
        self.sent_bytes = self.received_bytes = 0
        self.transport = None
        self.reads = True
        self._timer = None
        self._news = asyncio.Event()

    # What a row does with it.

    @classmethod
    async def dial(cls, addr, config, source="127.0.0.1", ticket_handler=None, wait=True):
        """Starts a handshake; with `wait` it is over, one way or the other, when this returns."""
        self = cls(config, addr, ticket_handler)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(source, 0))
        self.quic.connect(addr, now=loop.time())
        self.transmit()
        if wait:
            await self.until(lambda: self.connected or self.closed is not None)
        return self

    async def until(self, condition, patience=PATIENCE):
        """Waits for something to be true of this connection; False if it did not become so."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
            return True
        except TimeoutError:
            return False

    async def until_closed(self, patience=PATIENCE):
        """How it ended, or None if it did not."""
        await self.until(lambda: self.closed is not None, patience)
        return self.closed

    def open(self):
        number = self.quic.get_next_available_stream_id()
        self.quic.send_stream_data(number, b"")
        return self.stream(number)

    def stream(self, number):
        return self.streams.setdefault(number, Stream(self, number))

    async def ping(self, patience=PATIENCE):
        """Does the other side still answer on this connection?"""
        before = getattr(self, "pongs", 0)
        self.quic.send_ping(before + 1)
        self.transmit()
        await self.until(lambda: getattr(self, "pongs", 0) > before or self.closed is not None, patience)
        return self.closed is None and getattr(self, "pongs", 0) > before

    def frame(self, kind, body):
        """Writes any QUIC frame into a packet of the established connection."""
        self.quic.raw_frames.append((kind, body))

    def close(self, code=0, reason="", transport=False):
        self.quic.close(error_code=code, frame_type=0 if transport else None, reason_phrase=reason)
        self.transmit()

    def vanish(self):
        """Gone without a word."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self.transport:
            self.transport.close()
            self.transport = None

    # What asyncio does with it.

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)

    def datagram_received(self, data, addr):
        self.received_bytes += len(data)
        if not self.reads:
            return
        self.quic.receive_datagram(data, addr, now=asyncio.get_running_loop().time())
        self.pump()

    def error_received(self, exc):
        pass

    def pump(self):
        while (event := self.quic.next_event()) is not None:
            self.take(event)
        self.transmit()
        self._news.set()

    def take(self, event):
        if isinstance(event, events.HandshakeCompleted):
            self.connected, self.handshake = True, event
        elif isinstance(event, events.ConnectionTerminated):
            self.closed = Closed(event)
        elif isinstance(event, events.StreamDataReceived):
            self.application_bytes += len(event.data)
            stream = self.stream(event.stream_id)
            stream.data += event.data
            stream.ended |= event.end_stream
        elif isinstance(event, events.DatagramFrameReceived):
            self.application_bytes += len(event.data)
        elif isinstance(event, events.StreamReset):
            self.stream(event.stream_id).reset = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.stream(event.stream_id).stopped = event.error_code
        elif isinstance(event, events.PingAcknowledged):
            self.pongs = getattr(self, "pongs", 0) + 1

    def transmit(self):
        if self.transport is None:
            return
        loop = asyncio.get_running_loop()
        try:
            datagrams = self.quic.datagrams_to_send(now=loop.time())
        except QuicPacketBuilderStop:
            datagrams = []
        for data, addr in datagrams:
            self.sent_bytes += len(data)
            self.transport.sendto(data, addr)
        if self._timer:
            self._timer.cancel()
        at = self.quic.get_timer()
        self._timer = loop.call_at(at, self.tick) if at is not None else None

    def tick(self):
        self._timer = None
        self.quic.handle_timer(now=asyncio.get_running_loop().time())
        self.pump()


def configuration(alpn, server_name, authority=None, certificate=None, chain=(), key=None, **more):
    """A client's settings; without `authority` it trusts anybody, as an attacker would."""
    config = QuicConfiguration(
        is_client=True,
        alpn_protocols=[alpn] if isinstance(alpn, str) else alpn,
        server_name=server_name,
        max_datagram_frame_size=65536,
        **more,
    )
    if authority is None:
        config.verify_mode = ssl.CERT_NONE
    else:
        config.cadata = authority
    config.certificate, config.certificate_chain, config.private_key = certificate, list(chain), key
    return config


class Knock(Connection):
    """A connection of which a flood only wants the first datagram: one small key share, quickly made."""

    def _initialize(self, peer_cid):
        super()._initialize(peer_cid)
        self.tls._supported_groups = [Group.X25519]


def knock(addr, config):
    """A first datagram and the connection that made it."""
    quic = Knock(configuration=config)
    quic.connect(addr, now=0.0)
    return quic, [data for data, _ in quic.datagrams_to_send(now=0.0)]
