"""What every row has at hand: the cluster, good and bad certificates, a victim, and where verdicts go.

Never judges: the rows do.
"""

import asyncio

import pki
import protocol
from protocol import BULK, PEER, RPC
from quic import Client, configuration

ROWS = []


def row(number, title):
    """Registers a row: its number in the threat table, and what an outsider tries."""

    def register(function):
        ROWS.append((number, title, function))
        return function

    return register


class Lab:
    def __init__(self, cluster):
        self.cluster = cluster
        self.authority = pki.Authority.load(cluster.pki)
        self.stranger = pki.Authority.stranger("Some other CA")
        self.victim = cluster.leader()
        self.evil = self.authority.agent("evil")
        self.app = self.authority.client("append")
        # One node for one name: another key under it would rightly be refused while this one is remembered.
        self.node = protocol.Node(self.authority.cluster, "evil")
        self.verdicts = []
        self.row = ""

    def say(self, sent, happened, ok):
        """One line: what was sent, what happened, verdict."""
        self.verdicts.append((self.row, sent, ok))
        print(f"  {'ok   ' if ok else 'WRONG'}  {sent}  ->  {happened}", flush=True)

    def say_if_dead(self, appender):
        """The row in which the appender gave up is the one to look at."""
        if appender.process.returncode is not None and not appender.over:
            appender.over = True
            self.say("appends meanwhile", f"the appender ended with exit {appender.process.returncode}", False)

    @property
    def addr(self):
        return self.victim.addr

    def config(self, alpn, issued=None, name=None, **more):
        credentials = issued.credentials() if issued else {}
        return configuration(alpn, name or self.authority.agent_dns(), **credentials, **more)

    async def dial(self, alpn, issued=None, **more):
        """A connection to the victim with this certificate."""
        return await Client.dial(self.addr, self.config(alpn, issued), **more)

    async def good(self):
        """A client that behaves; its connection with the greeting done."""
        client = await Client.dial(self.addr, self.config(RPC, self.app, authority=self.authority.pem))
        await protocol.greet_as_client(client)
        return client

    async def alive(self, client):
        """Does this client's connection still answer a question?"""
        stream = client.open()
        stream.send(protocol.framed(protocol.ask(7, "Status")))
        try:
            answered = protocol.Answered(await protocol.read_frame(stream))
        except EOFError:
            return False
        stream.send(b"", end=True)
        return answered.kind == protocol.ANSWER and answered.number == 7


# Side by side at one time: below what an agent lets in of strangers, or the rows would refuse each other.
TOGETHER_MAX = 16


async def together(*jobs):
    """Rows that only wait wait side by side."""
    room = asyncio.Semaphore(TOGETHER_MAX)

    async def one(job):
        async with room:
            return await job

    return await asyncio.gather(*(one(job) for job in jobs))


__all__ = ["BULK", "PEER", "ROWS", "RPC", "Lab", "row", "together"]
