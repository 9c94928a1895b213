"""slixmpp against a gateway: each command prints one line `RESULT {...}` and ends with 0, or fails.

    slix.py login  HOST PORT WAY ROOTS PASSWORD JID MECHANISM
    slix.py once   HOST PORT WAY ROOTS PASSWORD JID MECHANISM
    slix.py talk   HOST PORT WAY ROOTS PASSWORD JID OTHER
    slix.py resume HOST PORT WAY ROOTS PASSWORD JID OTHER

WAY is `starttls` or `direct`; certificates are checked against ROOTS in either. SLIX_CERTIFICATE and SLIX_KEY name files of a
certificate of one's own.
"""

import asyncio
import json
import logging
import os
import sys

import slixmpp

COMMAND, HOST, PORT, WAY, ROOTS, PASSWORD, *REST = sys.argv[1:]
PATIENCE = 30
ROUNDS = 4
BURST = 25


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid, mechanism=None):
        super().__init__(jid, PASSWORD, sasl_mech=mechanism)
        self.ca_certs = ROOTS
        self.certfile = os.environ.get("SLIX_CERTIFICATE")
        self.keyfile = os.environ.get("SLIX_KEY")
        self.enable_plaintext = False
        self.enable_direct_tls = WAY == "direct"
        self.enable_starttls = WAY == "starttls"
        self.end_session_on_disconnect = False
        self.offered = []
        self.bodies = []
        self.started = asyncio.Event()
        self.resumed = asyncio.Event()
        self.refused = None
        self.add_event_handler("session_start", lambda _: self.started.set())
        self.add_event_handler("session_resumed", lambda _: self.resumed.set())
        self.add_event_handler("failed_all_auth", self.gave_up)
        self.add_event_handler("stream_features_received", lambda _: None)
        self.add_event_handler("message", lambda m: self.bodies.append(m["body"]))
        self.register_plugin("xep_0198")

    def gave_up(self, failure):
        self.refused = str(failure)
        self.started.set()

    async def login(self):
        self.connect(HOST, int(PORT))
        await asyncio.wait_for(self.started.wait(), PATIENCE)
        if self.refused is not None:
            raise SystemExit(f"login refused: {self.refused}")
        self.offered = sorted(self["feature_mechanisms"].mech_list)
        await asyncio.wait_for(self.get_roster(), PATIENCE)
        self.send_presence()

    async def leave(self):
        await asyncio.wait_for(self.disconnect(), PATIENCE)

    async def heard(self, bodies):
        """Waits until all of these have come, then a moment more, in which doubles would come."""
        for _ in range(PATIENCE * 10):
            if set(bodies) <= set(self.bodies):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        if self.bodies != bodies:
            lost = [b for b in bodies if b not in self.bodies]
            twice = [b for b in bodies if self.bodies.count(b) > 1]
            raise SystemExit(f"{self.boundjid}: lost {lost}, doubled {twice}, heard {self.bodies}")


def say(sender, receiver, bodies):
    for body in bodies:
        sender.send_message(mto=receiver.boundjid.full, mbody=body, mtype="chat")


async def login(jid, mechanism):
    client = Client(jid, None if mechanism == "any" else mechanism)
    await client.login()
    bound = client.boundjid.full
    await client.leave()
    return {"bound": bound, "offered": client.offered}


async def once(jid, mechanism):
    """One attempt: whoever is sent away does not come back."""
    client = Client(jid, None if mechanism == "any" else mechanism)
    gone = asyncio.Event()
    client.add_event_handler("disconnected", lambda _: gone.set())
    client.connect(HOST, int(PORT))
    waits = [asyncio.ensure_future(event.wait()) for event in (client.started, gone)]
    await asyncio.wait(waits, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    client.abort()
    if gone.is_set() or client.refused is not None:
        raise SystemExit("sent away")
    return {"bound": client.boundjid.full}


async def talk(jid, other):
    one, two = Client(jid), Client(other)
    await one.login()
    await two.login()
    there = [f"there {n}" for n in range(BURST)]
    back = [f"back {n}" for n in range(BURST)]
    say(one, two, there)
    say(two, one, back)
    await two.heard(there)
    await one.heard(back)
    await one.leave()
    await two.leave()
    return {"messages": len(there) + len(back)}


async def resume(jid, other):
    one, two = Client(jid), Client(other)
    await one.login()
    await two.login()
    for _ in range(PATIENCE * 10):
        if one["xep_0198"].sm_id:
            break
        await asyncio.sleep(0.1)
    if not one["xep_0198"].sm_id:
        raise SystemExit("stream management is not there, or has no resumption")
    there, back = [], []
    for turn in range(ROUNDS):
        mine = [f"there {turn}.{n}" for n in range(BURST)]
        theirs = [f"back {turn}.{n}" for n in range(BURST)]
        there, back = there + mine, back + theirs
        one.resumed.clear()
        say(one, two, mine)
        say(two, one, theirs)
        # In the middle of both bursts: some are in the sockets, some are not yet written, some not yet acknowledged.
        await asyncio.sleep(0.01 * turn)
        gone = asyncio.ensure_future(one.wait_until("disconnected", PATIENCE))
        one.abort()
        await gone
        # At once: the gateway sees to it that the server has heard all of the old connection first (SM-05).
        one.connect(HOST, int(PORT))
        await asyncio.wait_for(one.resumed.wait(), PATIENCE)
    await two.heard(there)
    await one.heard(back)
    bound = one.boundjid.full
    await one.leave()
    await two.leave()
    return {"bound": bound, "rounds": ROUNDS, "messages": len(there) + len(back)}


async def main():
    result = await {"login": login, "once": once, "talk": talk, "resume": resume}[COMMAND](*REST)
    print("RESULT", json.dumps(result), flush=True)


logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
asyncio.run(main())
