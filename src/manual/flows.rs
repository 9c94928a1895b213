//! The flows, drawn as they run.
//!
//! `P` is a remote server, `L` the legacy server behind the gateway. An arrow is what travels; words without an arrow are what the
//! gateway does. The unit of trust is the *domain pair*, not the stream: whatever is drawn here once for a stream happens again for
//! each further pair on it.
//!
//! # s2s in: a remote server writes to a user of ours
//!
//! ```text
//! P                              gateway                                        L
//! |-- connect ------------------->| limit: total, per network, per minute        |
//! |-- <stream from to> ---------->| names alone: do we host `to`? is `from` ours?|
//! |<- <stream>, <starttls/> ------|                                              |
//! |-- <starttls/> --------------->| octets behind it end the connection          |
//! |<- <proceed/> == TLS ==========|                                              |
//! |-- <stream from to> ---------->| policy, by certificate and by dialback:      |
//! |                               | only what could be allowed is offered        |
//! |<- EXTERNAL and/or dialback ---|                                              |
//! |                               |                                              |
//! |-- <auth EXTERNAL> ----------->| the certificate of this session names `from` |
//! |   or <db:result>key --------->| policy first; then the server that the DNS   |
//! |                               | names for `from` is asked, on a connection   |
//! |                               | of its own: is this key yours?               |
//! |                               |-- connect, <stream>, <db:result>our key ---->|
//! |                               |<- inside listener: <db:verify>our key -------|
//! |                               |-- valid: a leg of ours waits with this key ->|
//! |                               |<- <db:result type='valid'> ------------------|
//! |                               | policy again, with the proof in hand         |
//! |<- <success/> or valid --------| the pair stands: guard, rates                |
//! |-- <message from to> --------->| strictly read; canonical form; from and      |
//! |                               | to against the guard; rules of the policy    |
//! |                               |-- the same octets -------------------------->|
//! ```
//!
//! The peer hears yes only when the legacy server has said yes: nothing is accepted that has nowhere to go. A key is an HMAC over
//! pair, stream id and facing, so a key made for the inside never verifies in public.
//!
//! # s2s out: a user of ours writes to a remote server
//!
//! ```text
//! L                              gateway                                        P
//! |-- DNS: who serves P? -------->| steering: the inside listener, for every     |
//! |<- the inside listener --------| foreign domain; only backends are answered   |
//! |-- connect ------------------->| inside listener: from the backends' network  |
//! |-- <stream>, <db:result>key -->| the key: by the address it came from, or     |
//! |                               | asked back at the configured address         |
//! |<- <db:result type='valid'> ---| at once; it hears no other answer            |
//! |-- <message> ----------------->| is the sender its own? the filter, as on the |
//! |                               | way in; policy: before any query, connection |
//! |                               | or word to anybody; then to the courier of   |
//! |                               | the pair                                     |
//! |                               | DNS: _xmpp-server, _xmpps-server, A, AAAA    |
//! |                               |-- connect, TLS with our certificate -------->|
//! |                               | the server's certificate names the domain,   |
//! |                               | or a file takes dialback in as many words    |
//! |                               |-- EXTERNAL, else <db:result>our key -------->|
//! |                               |<- (they ask our public listener about it) ---|
//! |                               |<- <success/> or valid -----------------------|
//! |                               | policy again, by what the channel shows      |
//! |                               |-- the same octets, in order ---------------->|
//! |                               | or, if it cannot go: a report                |
//! |<- <stream>, key, <message     |                                              |
//! |    type='error'> with the     |                                              |
//! |    reason in words -----------|                                              |
//! ```
//!
//! Old servers punish an answer to their key that is late or is no yes: jabberd2 closes its stream with every pair on it, ejabberd
//! writes nothing there for minutes, Openfire sets up nobody else meanwhile, and none tells its user why. So the answer is `valid`,
//! and what becomes of a stanza is told stanza by stanza.
//!
//! A *courier* is a relay of its own, one for each pair, whatever streams the pair's stanzas came on: one that is slow or failing
//! neither blocks nor closes the others, and their order is kept. A stanza for a domain that was never claimed opens its pair just so.
//! A *report* travels on the stream that the gateway has open to the backend for that pair, or on one that it opens for it: one
//! foreign domain on each, at most thirty-two at a time, and nothing on it that a peer has written.
//!
//! A domain of another backend of ours is reached the same way, without DNS and TLS: both domains' policies judge it.
//!
//! # One stream for both ways (XEP-0288)
//!
//! ```text
//! P                              gateway                                        L
//! |== TLS, <stream from to> ====>|                                              |
//! |<- features, <bidi/> ---------|                                              |
//! |-- <bidi/> ------------------>| agreed on; behind a proof it would be a fault|
//! |-- <auth> or <db:result> ---->| as ever; the pair P>L stands                 |
//! |                              | may L>P go back? policy, as for a stream of  |
//! |                              | ours, by what the channel shows of P         |
//! |                              |<- <message> -- inside listener: L answers ---|
//! |<- the same octets -----------| no courier sets out                          |
//! ```
//!
//! A stream of ours goes both ways where the peer offers it, the channel proves who that is, and the policy would let him in: what
//! he sends then is for the inverse of the courier's pair alone, and another courier carries it inside. Who is believed by a key
//! alone comes on a stream of his own, for a key is never asked about on the connection that brought it. Where a way back ends, what has not
//! gone out goes on over a stream of our own, before all that came later.
//!
//! # Streams that break (XEP-0198)
//!
//! ```text
//! remote server                 Gatehouse                                      remote server
//! |-- <enable resume> --------->|                                              |
//! |<- <enabled id max> ---------| after a proof       after a proof <enable> ->|
//! |-- <message>, <r/> --------->|                     <message>, <r/> -------->|
//! |                             | written to the backend's socket              |
//! |<- <a h='1'/> ---------------| it is kept until <------------- <a h='1'/> --|
//! ~~ the connection breaks ~~~~~| ~~ the connection breaks ~~~~~~~~~~~~~~~~~~~~|
//! |-- proof, <resume h='0'> --->| the count of all    proof, policy, <resume> >|
//! |<- <resumed h='2'/> ---------| that had come       what is missing <-- h ---|
//! ```
//!
//! Inwards a stanza counts as handled when it was refused, or when it is written to the socket of the server behind: what the peer may
//! forget does not die with the gateway's process. A question waits for that, ten seconds at most. When the connection breaks all counts
//! that came, for the gateway lives and delivers it, or sends it back. Of a broken stream one number is left, for the domain that had
//! proven itself there, for `timeouts: { resume }`, to be taken once; whoever goes on is read as soon as what came before is delivered. Outwards what was sent waits for its acknowledgement; a stream that
//! broke is opened anew, with the same proof and the policy of that moment, and exactly what was not taken goes out again. Where the peer
//! does not resume (Prosody), or has forgotten, what was not acknowledged comes back to its sender once and is never sent again. A stream
//! that is closed in good order ends with a last count either way, and behind ours nothing is taken. Nothing of this reaches the inside.
//!
//! # c2s: clients
//!
//! ```text
//! client                          Gatehouse                                      old server
//! |-- header ------------------->|                                              |
//! |<- features: starttls alone --|                                              |
//! |== TLS ======================>|                                              |
//! |-- header ------------------->| now, and not before: the first address of    |
//! |                              | `c2s:` that takes a connection               |
//! |                              |-- PROXY header, if asked for; header ------->|
//! |                              |<- features ----------------------------------|
//! |<- features, by the lists ----|                                              |
//! |-- <auth> ------------------->| may it try? at once, after a wait, or no     |
//! |                              |-- <auth>, as it came ----------------------->|
//! |<- challenge, success --------|<- challenge, success ------------------------|
//! |-- bind --------------------->|-- bind ------------------------------------->|
//! |<- the address ---------------|<- the address: now it is known who speaks ---|
//! |-- <message> ---------------->| `from` absent or its own; else invalid-from  |
//! |                              |-- canonical octets ------------------------->|
//! ```
//!
//! On a stream without management what may not pass is answered as between servers. Where stanzas are counted the counts must hold:
//! what a client sends and may not pass ends its stream, with the reason, and what its server sends is replaced, one for one
//! (SM-02). A client that is lost without a goodbye is lost to the server in the same way, and may come back to its session.
//!
//! # The life of all of them
//!
//! A new policy judges every standing pair again, at the next element; one that no longer stands is ended with
//! `policy-violation`. A drain stops listening, lets every relay flush, says `system-shutdown` and closes both streams; what is left
//! at the deadline is cut. Rates slow, sizes close: when a rate is used up the leg is not read, and TCP carries the pressure back.
