"""The positive control: who follows the documentation is served. Without it the refusals below would prove nothing."""

import protocol
from lab import PEER, RPC, row
from protocol import Answered, read_frame
from quic import Client


@row("0", "a correct client and a correct agent of another make are welcome")
async def control(lab):
    client = await Client.dial(lab.addr, lab.config(RPC, lab.app, authority=lab.authority.pem))
    said = await protocol.greet_as_client(client)
    ok = said["cluster"].hex() == lab.authority.cluster and said["name"] == lab.victim.name
    lab.say(
        "rpc Hello with a certificate of role append",
        f"Welcome of {said['name']}, protocol {said['min']}..{said['max']}",
        ok,
    )

    stream = client.open()
    value = b"written by another hand"
    one = protocol.record(
        value, stream=b"outside", key=b"k", kind=b"t", correlation=b"c", causation=b"d", headers=[(b"h", b"v")]
    )
    stream.send(
        protocol.framed(protocol.append(41, protocol.batch(one, protocol.record(b"second", stream=b"outside"))))
    )
    answered = Answered(await read_frame(stream))
    acked = answered.appended if answered.kind == protocol.APPENDED else answered.failure
    ok = answered.kind == protocol.APPENDED and answered.number == 41 and acked["last"] == acked["first"] + 1
    lab.say("APPEND of two records", f"APPENDED {acked}", ok)
    stream.send(protocol.framed(protocol.ask(42, "Barrier")))
    barrier = Answered(await read_frame(stream))
    ok = barrier.kind == protocol.ANSWER and barrier.answer["Readable"][0] > acked["last"]
    lab.say("ASK Barrier on the same stream", f"ANSWER {barrier.answer}", ok)

    tail = client.open()
    start = {"Offset": acked["first"]}
    tail.send(
        protocol.framed(protocol.tail(43, start, until=acked["last"] + 1, stream="outside", read="Linear")), end=True
    )
    got = []
    while (frame := Answered(await read_frame(tail))).kind == protocol.ENTRIES:
        got += [entry for entry in protocol.entries(frame) if entry[1] == b"outside"]
    wanted = [(acked["first"], b"outside", b"k", value), (acked["last"], b"outside", b"", b"second")]
    ok = got == wanted and frame.kind == protocol.END and frame.number == 43
    lab.say("TAIL of these offsets, linear", f"{len(got)} records with good checksums, equal to those written; END", ok)
    members = (await ask(client, "Members")).answer["Members"]
    lab.say("ASK Members", f"{len(members)} members", len(members) == 3)
    client.close()

    peer = await Client.dial(lab.addr, lab.config(PEER, lab.evil, authority=lab.authority.pem))
    _, said, _ = await protocol.greet_as_peer(peer, lab.node)
    ok = said["name"] == lab.victim.name and await peer.ping()
    lab.say(
        "peer Hello with a signed exporter, Ready",
        f"Welcome of {said['name']} with a good signature; the connection lives",
        ok,
    )
    peer.close()


async def ask(client, question, number=1):
    stream = client.open()
    stream.send(protocol.framed(protocol.ask(number, question)), end=True)
    return Answered(await read_frame(stream))
