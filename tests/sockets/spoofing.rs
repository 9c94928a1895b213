//! Who may speak, and as whom: every way to claim a domain, over real sockets, against scripted peers.
//!
//! The same verdict on every path, and every refusal of the filter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse::demo::dial;
use gatehouse::demo::peer::Manner;
use gatehouse::demo::pki::Leaf;
use gatehouse::demo::session::{Greeting, Login, Word};
use gatehouse::demo::wire::{Item, Wire};
use gatehouse::demo::world::{Plan, World};

use crate::sockets::*;

// ------------------------------------------------------------------------------------------ one verdict, every path

// EXT-01: "Offer EXTERNAL iff TLS is up, the client certificate is trusted, and it matches the post-TLS header's `from`;
// policy must also allow (from, to)." POL-04: "A denied pair causes no DNS query, connection or back-end contact."
#[tokio::test]
async fn a_domain_that_is_not_listed_is_not_offered_external() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let costs = Costs::of(&world, STRANGER).await;
    let mut stream = unlisted.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.external(STRANGER).await.unwrap(), Login::NotOffered);
    stream.close().await.unwrap();
    costs.nothing(&world);
}

// EXT-01, the other way round: what is not offered cannot be had by asking for it.
#[tokio::test]
async fn external_that_was_not_offered_is_not_accepted() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let mut stream = unlisted.call(HALL).unwrap().open().await.unwrap();
    stream
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
        .await
        .unwrap();
    let answer = stream.wire.element().await.unwrap();
    assert_ne!(answer.name, "success", "{}", answer.raw);
    assert_eq!(world.legacy.visits(), 0);
}

// POL-04: "`DE(policy-violation)`". DB-21: "denied by policy, never starts verification".
#[tokio::test]
async fn a_domain_that_is_not_listed_is_refused_by_dialback() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let costs = Costs::of(&world, STRANGER).await;
    let mut stream = unlisted.call_bare(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.dialback(STRANGER, HALL).await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "not-listed").await;
    // DB-07: "Dialback errors never close the stream".
    assert_eq!(stream.dialback(STRANGER, HALL).await.unwrap(), error("policy-violation"));
}

// "A pair is proven, judged and admitted one by one; a certificate vouches only for the names in it."
#[tokio::test]
async fn a_second_pair_on_an_allowed_stream_is_judged_like_the_first() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let _unlisted = peer(&world, 11, STRANGER).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let costs = Costs::of(&world, STRANGER).await;
    assert_eq!(stream.dialback(STRANGER, HALL).await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "not-listed").await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "still here").await;
}

// CRT-11: "The name check is repeated for every domain that a certificate is asked to vouch for". The second domain is
// listed, but its authoritative server knows nothing of the key.
#[tokio::test]
async fn a_second_pair_does_not_live_off_the_proof_of_the_first() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let _cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_certificate(&friend, HALL).await;
    // DB-27: "if the stream has no other authorised pair send `type='invalid'` and close; else send an error and keep
    // the stream".
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), error("forbidden"));
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "still here").await;
    let refused = refused(&world, "invalid-from").await;
    stream.message("c@cousin.example", "j@hall.example", "borrowed proof").await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("invalid-from"));
    one_more_refused(&world, "invalid-from", refused).await;
    assert!(world.legacy.inbox.all().iter().all(|n| n.body() != Some("borrowed proof")));
}

// STR-10: "no version means 0.9: send no version and no features". The verdict is the same as with one.
#[tokio::test]
async fn a_stream_without_version_gets_the_same_verdict() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let costs = Costs::of(&world, STRANGER).await;
    let old = |peer: &gatehouse::demo::peer::Peer| {
        let mut call = world.directly(peer.call_bare(HALL).unwrap(), None).unwrap();
        call.greeting.version = false;
        call
    };
    let mut stream = old(&unlisted).open().await.unwrap();
    assert_eq!((stream.header.attr("version"), stream.features.as_ref()), (None, None));
    assert_eq!(stream.dialback(STRANGER, HALL).await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "not-listed").await;
    let mut stream = old(&cousin).open().await.unwrap();
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), Word::Valid);
    still_passes(&world, &mut stream, "c@cousin.example", "j@hall.example", "old but honest").await;
}

// DB-05: "Where TLS is required, a dialback request in plaintext gets an error and starts no lookup."
#[tokio::test]
async fn a_key_in_clear_is_refused_for_everybody() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let queries = world.names.asked_about(COUSIN);
    for version in [true, false] {
        let mut call = cousin.call_bare(HALL).unwrap();
        call.greeting.version = version;
        let mut stream = call.open_clear().await.unwrap();
        assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), error("policy-violation"));
    }
    assert_eq!(world.names.asked_about(COUSIN), queries);
    assert_eq!(world.legacy.visits(), 0);
}

// STR-08: "Missing `from` on s2s MUST be tolerated but makes EXTERNAL unavailable".
#[tokio::test]
async fn a_header_without_from_gets_the_same_verdict() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let friend = peer(&world, 11, FRIEND).await;
    let costs = Costs::of(&world, STRANGER).await;
    let mut stream = as_domain(unlisted.call(HALL).unwrap(), None).open().await.unwrap();
    assert!(!stream.offers_external());
    assert_eq!(stream.dialback(STRANGER, HALL).await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "not-listed").await;
    let mut stream = as_domain(friend.call(HALL).unwrap(), None).open().await.unwrap();
    assert!(!stream.offers_external(), "a certificate without a name to compare it with proves nothing");
    assert_eq!(stream.dialback(FRIEND, HALL).await.unwrap(), Word::Valid);
}

// RLY-03: "(from-domain, to-domain) is an authorised pair on this stream; a hosted but not authorised target is refused
// like an unknown one."
#[tokio::test]
async fn a_stanza_to_a_second_hosted_domain_needs_a_pair_of_its_own() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for target in ["j@annex.example", "j@nosuch.example", "j@stranger.example"] {
        let before = refused(&world, "host-unknown").await;
        let mut stream = by_certificate(&friend, HALL).await;
        stream.message("a@friend.example", target, "astray").await.unwrap();
        assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("host-unknown"), "{target}");
        one_more_refused(&world, "host-unknown", before).await;
    }
    assert!(world.legacy.inbox.is_empty());
}

// The same for the pair itself: friend.example is listed for hall.example, and for annex.example it is not.
#[tokio::test]
async fn each_hosted_domain_is_judged_by_its_own_list() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let costs = Costs::of(&world, FRIEND).await;
    assert_eq!(stream.dialback(FRIEND, ANNEX).await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "not-listed").await;
    let mut stream = by_certificate(&cousin, HALL).await;
    assert_eq!(stream.dialback(COUSIN, ANNEX).await.unwrap(), Word::Valid);
    still_passes(&world, &mut stream, "c@cousin.example", "k@annex.example", "both").await;
    still_passes(&world, &mut stream, "c@cousin.example", "j@hall.example", "and the first").await;
}

// DB-62: "`to` a foreign domain allowed by outbound policy"; `DE(forbidden)`. POL-04: nothing is spent.
#[tokio::test]
async fn the_backend_cannot_reach_a_domain_that_is_not_listed() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let asked = world.names.asked_about(STRANGER);
    world.legacy.message("j@hall.example", "s@stranger.example", "hello?");
    let bounce = world.legacy.bounces.wait(|n| n.attr("from") == Some("s@stranger.example")).await.unwrap();
    assert_eq!(condition(&bounce), Some("forbidden"), "{}", bounce.raw);
    let labels = [("outcome", "deny"), ("reason", "not-listed")];
    world.counted("policy_verdicts_total", &labels, 1.0).await.unwrap();
    // The backend alone is spoken to: it hears why.
    assert_eq!((world.names.asked_about(STRANGER), unlisted.visits()), (asked, 0));
}

// Contract 3: "direction: inbound | outbound | both".
#[tokio::test]
async fn a_rule_for_one_direction_does_not_open_the_other() {
    let world = border().await;
    let reader = peer(&world, 10, "reader.example").await;
    world.legacy.message("j@hall.example", "r@reader.example", "news");
    reader.inbox.wait_body("news").await.unwrap();
    let costs = Costs::of(&world, "reader.example").await;
    let mut stream = reader.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.external("reader.example").await.unwrap(), Login::NotOffered);
    assert_eq!(stream.dialback("reader.example", HALL).await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "wrong-direction").await;
}

// POL-02: "Rules match canonical domains exactly, or a suffix written explicitly as "subdomains of""; the more specific
// rule wins, so a denied branch of an allowed tree stays denied.
#[tokio::test]
async fn subdomains_of_a_denied_domain_are_denied_with_it() {
    let world = border().await;
    for (host, domain) in [(10, "spam.friend.example"), (11, "more.spam.friend.example")] {
        let peer = peer(&world, host, domain).await;
        let costs = Costs::of(&world, domain).await;
        let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.external(domain).await.unwrap(), Login::NotOffered, "{domain}");
        assert_eq!(stream.dialback(domain, HALL).await.unwrap(), error("policy-violation"), "{domain}");
        costs.nothing_but(&world, "blocked").await;
    }
    let neighbour = peer(&world, 12, "post.friend.example").await;
    by_certificate(&neighbour, HALL).await;
}

// POL-02: "comparison is by label, never by substring". Contract 3: a wildcard stands "never for the bare domain, and only
// at a dot".
#[tokio::test]
async fn a_suffix_without_a_dot_is_another_domain() {
    let world = border().await;
    for (host, domain) in [
        (10, "notfriend.example"),
        (11, "evilagency.example"),
        (12, "agency.example"),
        (13, "friend.example.stranger.example"),
    ] {
        let peer = peer(&world, host, domain).await;
        let costs = Costs::of(&world, domain).await;
        let mut stream = peer.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.external(domain).await.unwrap(), Login::NotOffered, "{domain}");
        assert_eq!(stream.dialback(domain, HALL).await.unwrap(), error("policy-violation"), "{domain}");
        costs.nothing_but(&world, "not-listed").await;
    }
    let agency = peer(&world, 14, "first.agency.example").await;
    by_certificate(&agency, HALL).await;
}

// JID-03, JID-08: "the same function serves headers, dialback, certificates, policy and stanzas".
#[tokio::test]
async fn upper_case_changes_no_verdict() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let friend = peer(&world, 11, FRIEND).await;
    let costs = Costs::of(&world, STRANGER).await;
    let mut stream = as_domain(unlisted.call(HALL).unwrap(), Some("STRANGER.Example")).open().await.unwrap();
    assert!(!stream.offers_external());
    assert_eq!(stream.dialback("Stranger.EXAMPLE", "HALL.example").await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "not-listed").await;
    let mut stream = as_domain(friend.call(HALL).unwrap(), Some("FRIEND.Example")).open().await.unwrap();
    assert_eq!(stream.external("Friend.EXAMPLE").await.unwrap(), Login::Success);
    still_passes(&world, &mut stream, "a@Friend.Example", "j@HALL.EXAMPLE", "loud").await;
    let arrived = world.legacy.inbox.wait_body("loud").await.unwrap();
    // JID-07: "Forward the canonical domainpart; leave local and resource octets as received."
    assert_eq!(
        (arrived.attr("from"), arrived.attr("to")),
        (Some("a@friend.example"), Some("j@hall.example"))
    );
}

// JID-03: "one trailing dot stripped first".
#[tokio::test]
async fn a_trailing_dot_changes_no_verdict() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let friend = peer(&world, 11, FRIEND).await;
    let costs = Costs::of(&world, STRANGER).await;
    let mut stream = as_domain(unlisted.call(HALL).unwrap(), Some("stranger.example.")).open().await.unwrap();
    assert!(!stream.offers_external());
    assert_eq!(stream.dialback("stranger.example.", HALL).await.unwrap(), error("policy-violation"));
    costs.nothing_but(&world, "not-listed").await;
    let mut stream = as_domain(friend.call(HALL).unwrap(), Some("friend.example.")).open().await.unwrap();
    assert_eq!(stream.external("friend.example.").await.unwrap(), Login::Success);
    still_passes(&world, &mut stream, "a@friend.example.", "j@hall.example", "dotted").await;
}

// JID-03: "A-labels converted to U-labels".
#[tokio::test]
async fn both_spellings_of_a_name_get_the_same_verdict() {
    let world = border().await;
    let books = peer(&world, 10, "bücher.example").await;
    for spelling in ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example", "XN--BCHER-KVA.example"] {
        let mut stream = as_domain(books.call(HALL).unwrap(), Some(spelling)).open().await.unwrap();
        assert_eq!(stream.external(spelling).await.unwrap(), Login::Success, "{spelling}");
    }
    let other = peer(&world, 11, "büchsen.example").await;
    for spelling in ["büchsen.example", "xn--bchsen-3ya.example"] {
        let mut stream = as_domain(other.call(HALL).unwrap(), Some(spelling)).open().await.unwrap();
        assert_eq!(stream.external(spelling).await.unwrap(), Login::NotOffered, "{spelling}");
        assert_eq!(stream.dialback(spelling, HALL).await.unwrap(), error("policy-violation"), "{spelling}");
    }
}

// JID-09: "Look-alike domains are distinct domains: no fuzzy matching". Cyrillic letters here.
#[tokio::test]
async fn letters_that_look_alike_make_another_domain() {
    let world = border().await;
    let cyrillic = "friеnd.example";
    let lookalike = peer(&world, 10, cyrillic).await;
    let mut stream = lookalike.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(stream.external(cyrillic).await.unwrap(), Login::NotOffered);
    assert_eq!(stream.dialback(cyrillic, HALL).await.unwrap(), error("policy-violation"));
}

// JID-05: names that IDNA 2003 and 2008 read differently are refused: `DE(not-acceptable)`; foreign dots always.
#[tokio::test]
async fn names_that_two_systems_read_differently_are_refused() {
    let world = World::build(&Plan::open(HALL)).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for sender in ["straße.example", "friend。example", "friend．example", "127.0.0.1", "[::1]", "localhost"]
    {
        assert_eq!(stream.dialback(sender, HALL).await.unwrap(), error("not-acceptable"), "{sender}");
    }
    for sender in ["a@straße.example", "a@friend。example", "a@127.0.0.1"] {
        let mut stream = by_certificate(&friend, HALL).await;
        stream.message(sender, "j@hall.example", "which?").await.unwrap();
        assert_eq!(
            stream.ending().await.unwrap().condition.as_deref(),
            Some("improper-addressing"),
            "{sender}"
        );
    }
}

// POL-05: ""Not allow-listed", "blocked" and "federation off" look the same to the peer."
#[tokio::test]
async fn three_kinds_of_no_sound_the_same() {
    let plan = plan().and("closed.example", "none", None);
    let world = World::build(&plan).await.unwrap();
    let (unlisted, spam) = (peer(&world, 10, STRANGER).await, peer(&world, 11, "spam.friend.example").await);
    let friend = peer(&world, 12, FRIEND).await;
    let mut told = Vec::new();
    for (peer, sender, hosted) in [
        (&unlisted, STRANGER, HALL),
        (&spam, "spam.friend.example", HALL),
        (&friend, FRIEND, "closed.example"),
    ] {
        let mut stream = peer.call(hosted).unwrap().open().await.unwrap();
        stream.claim(sender, hosted).await.unwrap();
        let answer = stream.wire.element().await.unwrap();
        told.push(answer.raw.replace(sender, "PEER").replace(hosted, "HOME"));
    }
    assert!(told[0] == told[1] && told[1] == told[2], "{told:#?}");
    assert!(told[0].contains("policy-violation"));
}

// ------------------------------------------------------------------------------------------------ home is home

// STR-09: "World s2s `from` equal to any local domain (after JID-05) MUST be refused"; `SE(invalid-from)`.
#[tokio::test]
async fn a_hosted_domain_cannot_be_claimed_in_a_header() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for name in [ANNEX, HALL, "ANNEX.example", "annex.example."] {
        let call = as_domain(friend.call(HALL).unwrap(), Some(name));
        let mut wire = call.connect().await.unwrap();
        wire.send(call.greeting.octets()).await.unwrap();
        assert_eq!(wire.ending().await.unwrap().condition.as_deref(), Some("invalid-from"), "{name}");
    }
}

// DB-21: "`from` equal to a local domain ... never starts verification"; "local: `DE(not-acceptable)`".
#[tokio::test]
async fn a_hosted_domain_cannot_be_claimed_by_dialback() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut stream = by_dialback(&cousin, HALL).await;
    for name in [ANNEX, HALL, "Annex.Example", "annex.example."] {
        assert_eq!(stream.dialback(name, HALL).await.unwrap(), error("not-acceptable"), "{name}");
    }
    still_passes(&world, &mut stream, "c@cousin.example", "j@hall.example", "unharmed").await;
}

/// Waits until so many stanzas of the backend were refused for this reason.
async fn refused_in_all(world: &World, reason: &str, count: f64) {
    let labels = [("flow", "s2s-out"), ("reason", reason)];
    for _ in 0..200 {
        if world.metrics().await.unwrap().sum("stanzas_refused_total", &labels) >= count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("not refused for {reason}");
}

// POL-08: "a stanza from a back-end never goes to the same back-end"; the claim hears what every claim hears (D9).
#[tokio::test]
async fn the_backend_does_not_reach_its_own_domains_through_us() {
    let world = border().await;
    let mut wire = inside(&world, Greeting::of(HALL, ANNEX)).await;
    wire.send("<db:result from='hall.example' to='annex.example'>k</db:result>").await.unwrap();
    assert_eq!(wire.element().await.unwrap().attr("type"), Some("valid"));
    wire.send("<message from='j@hall.example' to='k@annex.example' id='1'><body>home</body></message>")
        .await
        .unwrap();
    refused_in_all(&world, "same-backend", 1.0).await;
    assert!(world.legacy.inbox.all().iter().all(|n| n.attr("type") == Some("error")));
    wire.send("<db:result from='hall.example' to='cousin.example'>k</db:result>").await.unwrap();
    assert_eq!(wire.element().await.unwrap().attr("type"), Some("valid"), "the stream goes on");
}

// DB-62: a name that is not configured is believed like any other, and nothing of it passes; the stream and its other pairs go on.
#[tokio::test]
async fn the_backend_speaks_for_its_own_domains_alone() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let mut wire = inside(&world, Greeting::default()).await;
    for from in ["friend.example", "hall.example"] {
        wire.send(format!("<db:result from='{from}' to='cousin.example'>k</db:result>")).await.unwrap();
        assert_eq!(wire.element().await.unwrap().attr("type"), Some("valid"));
        let message =
            format!("<message from='j@{from}' to='c@cousin.example'><body>from {from}</body></message>");
        wire.send(message).await.unwrap();
    }
    cousin.inbox.wait_body("from hall.example").await.unwrap();
    refused_in_all(&world, "not-configured", 1.0).await;
    assert_eq!(cousin.inbox.all().len(), 1, "{:?}", cousin.inbox.all());
}

// RLY-19: a domain for which nothing was claimed on that stream opens its pair as a claim would.
#[tokio::test]
async fn the_backends_stanzas_open_their_pairs() {
    let world = border().await;
    let cousin = peer(&world, 10, COUSIN).await;
    let friend = peer(&world, 11, FRIEND).await;
    let mut wire = inside(&world, Greeting::of(HALL, COUSIN)).await;
    wire.send("<db:result from='hall.example' to='cousin.example'>k</db:result>").await.unwrap();
    assert_eq!(wire.element().await.unwrap().attr("type"), Some("valid"));
    for (from, to, body) in [
        ("k@annex.example", "c@cousin.example", "another of its domains"),
        ("j@hall.example", "r@friend.example", "another target"),
        ("j@hall.example", "x@chat.stranger.example", "denied"),
        ("j@hall.example", "c@cousin.example", "the claimed one"),
    ] {
        wire.send(format!("<message from='{from}' to='{to}' id='1'><body>{body}</body></message>"))
            .await
            .unwrap();
    }
    cousin.inbox.wait_body("another of its domains").await.unwrap();
    friend.inbox.wait_body("another target").await.unwrap();
    cousin.inbox.wait_body("the claimed one").await.unwrap();
    let back =
        world.legacy.bounces.wait(|n| n.attr("from") == Some("x@chat.stranger.example")).await.unwrap();
    assert_eq!(condition(&back), Some("forbidden"), "{}", back.raw);
    assert!(
        back.raw.contains("chat.stranger.example: no rule allows this domain (not-listed)"),
        "{}",
        back.raw
    );
}

// ACC-02: "The inside listener MUST accept only configured source addresses"; `RST`.
#[tokio::test]
async fn nobody_else_may_call_on_the_inside() {
    let world = border().await;
    let unlisted = peer(&world, 10, STRANGER).await;
    let call = unlisted.call_bare(HALL).unwrap();
    let mut wire = Wire::new(dial(call.source, world.at.inside).await.unwrap());
    // The connection may be gone before the octets are.
    let _ = wire.send(Greeting::of(HALL, COUSIN).octets()).await;
    assert_eq!(wire.next().await.unwrap(), Item::End);
}

async fn inside(world: &World, greeting: Greeting) -> Wire {
    let source = world.legacy.s2s.ip();
    let mut wire = Wire::new(dial(source, world.at.inside).await.unwrap());
    let modern = greeting.version;
    wire.send(greeting.octets()).await.unwrap();
    let header = wire.header().await.unwrap();
    // DB-65: "Cope with a legacy peer that sends no version, features, `to`, `from`".
    assert_eq!(header.attr("version").is_some(), modern);
    if modern {
        assert_eq!(wire.element().await.unwrap().name, "features");
    }
    wire
}

// RLY-01, RLY-19: an address of the old server's that names nobody is that stanza's affair, and not everybody's: "the stream and
// its other pairs go on".
#[tokio::test]
async fn an_address_that_is_none_costs_the_old_server_no_stream() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut wire = inside(&world, Greeting::of(HALL, FRIEND)).await;
    let many: String = (0..300).map(|i| format!(" a{i}='1'")).collect();
    let addresses = [
        "to='r@friend.example'",
        "from='j@hall.example'",
        "",
        "from='' to=''",
        "from='' to='r@friend.example'",
        "from='j@hall.example' to=''",
        "from='j@hall.example' to='r@'",
        "from='j@hall.example' to='r@@friend.example'",
        "from='j@hall.example' to='r@-friend.example'",
        "from='j@hall.example' to='r@friend..example'",
        "from='j@hall.example' to='r@friend .example/x'",
        "from='j@-hall.example' to='r@friend.example'",
    ];
    // Without an address, and with one that names no domain or nobody in it.
    let all = async || {
        let mut sum = 0.0;
        for reason in ["improper-addressing", "no-domain", "jid-malformed"] {
            sum += refused(&world, reason).await;
        }
        sum
    };
    let before = all().await;
    let mut bad = 0.0;
    for (n, address) in addresses.iter().enumerate() {
        for stanza in [
            format!("<message {address} id='m'><body>lost</body></message>"),
            format!("<presence {address}/>"),
            format!("<iq {address} type='get' id='i'><ping xmlns='urn:xmpp:ping'/></iq>"),
            // And where it is refused for something else as well (XML-17).
            format!("<message {address}{many}/>"),
        ] {
            wire.send(stanza).await.unwrap();
            bad += 1.0;
        }
        let good =
            format!("<message from='j@hall.example' to='r@friend.example'><body>good {n}</body></message>");
        wire.send(good).await.unwrap();
        friend.inbox.wait_body(&format!("good {n}")).await.unwrap();
    }
    assert_eq!(all().await, before + bad);
    assert!(friend.inbox.all().iter().all(|n| n.body() != Some("lost")));
    assert_eq!(world.metrics().await.unwrap().sum("stream_errors_total", &[]), 0.0);
}

// ---------------------------------------------------------------------------------------------- forged stanzas

// RLY-02: "The canonical domain of `from` is a sender domain authorised on this stream; a parent, child or look-alike
// domain is not."
#[tokio::test]
async fn a_forged_sender_ends_the_stream() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for from in [
        "c@cousin.example",
        "a@example",
        "a@post.friend.example",
        "a@notfriend.example",
        "j@hall.example",
        "friend.example@cousin.example",
        "cousin.example/friend.example",
        "a@friend.example.stranger.example",
    ] {
        let before = refused(&world, "invalid-from").await;
        let mut stream = by_certificate(&friend, HALL).await;
        stream.message(from, "j@hall.example", "forged").await.unwrap();
        // A single label is no address at all (JID-03); everything else is an address of somebody else.
        let expected = if from == "a@example" { "improper-addressing" } else { "invalid-from" };
        let ending = stream.ending().await.unwrap();
        assert_eq!(ending.condition.as_deref(), Some(expected), "{from}");
        assert!(ending.closed, "the stream error is followed by the closing tag");
        if expected == "invalid-from" {
            one_more_refused(&world, "invalid-from", before).await;
        }
    }
    assert!(world.legacy.inbox.is_empty(), "{:?}", world.legacy.inbox.all());
}

// RLY-01: "Every s2s stanza has non-empty `from` and `to` that are valid JIDs"; "missing, or a bad domain part:
// `SE(improper-addressing)`". A bad local part or resource is the stanza's own affair: see tests/sockets/refused.rs.
#[tokio::test]
async fn a_stanza_without_a_proper_address_ends_the_stream() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for stanza in [
        "<message to='j@hall.example'><body>x</body></message>",
        "<message from='a@friend.example'><body>x</body></message>",
        "<message from='' to='j@hall.example'><body>x</body></message>",
        "<message from='a@friend.example' to=''><body>x</body></message>",
        "<message from='a@-friend.example' to='j@hall.example'><body>x</body></message>",
        "<presence from='a@friend.example' to='j@'/>",
        "<iq from='a@friend.example' to='j@@hall.example' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
    ] {
        let mut stream = by_certificate(&friend, HALL).await;
        stream.send(stanza).await.unwrap();
        let ending = stream.ending().await.unwrap();
        assert_eq!(ending.condition.as_deref(), Some("improper-addressing"), "{stanza}");
    }
    assert!(world.legacy.inbox.is_empty());
}

// STR-16: "A stanza before its pair is authorised (s2s) ... MUST NOT be processed"; `SE(not-authorized)`.
#[tokio::test]
async fn no_stanza_passes_before_proof() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let stanza = "<message from='a@friend.example' to='j@hall.example'><body>early</body></message>";
    let mut clear = friend.call(HALL).unwrap().open_clear().await.unwrap();
    clear.send(stanza).await.unwrap();
    assert_eq!(clear.ending().await.unwrap().condition.as_deref(), Some("not-authorized"));
    let mut secured = friend.call(HALL).unwrap().open().await.unwrap();
    secured.send(stanza).await.unwrap();
    assert_eq!(secured.ending().await.unwrap().condition.as_deref(), Some("not-authorized"));
    assert_eq!(world.legacy.visits(), 0);
}

// STR-17: "a look-alike stanza in another namespace is such an element"; `SE(unsupported-stanza-type)`.
#[tokio::test]
async fn an_element_that_only_looks_like_a_stanza_ends_the_stream() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for octets in [
        "<message xmlns='jabber:client' from='a@friend.example' to='j@hall.example'><body>x</body></message>",
        "<letter from='a@friend.example' to='j@hall.example'><body>x</body></letter>",
    ] {
        let mut stream = by_certificate(&friend, HALL).await;
        stream.send(octets).await.unwrap();
        let ending = stream.ending().await.unwrap();
        assert_eq!(ending.condition.as_deref(), Some("unsupported-stanza-type"), "{octets}");
    }
    assert!(world.legacy.inbox.is_empty());
}

// RLY-04: "On a stream we opened (no bidi) the peer sends no stanzas"; `SE(not-authorized)`.
#[tokio::test]
async fn a_stanza_on_a_stream_that_we_opened_ends_it() {
    let world = border().await;
    let stanza = "<message from='a@friend.example' to='j@hall.example'><body>backwards</body></message>";
    let unasked = Manner { unasked: Some(stanza.to_owned()), ..Manner::default() };
    let friend = world.peer(10, &[FRIEND], unasked).await.unwrap();
    world.legacy.message("j@hall.example", "a@friend.example", "hello");
    world.legacy.bounces.wait(|n| n.attr("from") == Some("a@friend.example")).await.unwrap();
    // The report is all that comes.
    let came = world.legacy.inbox.all();
    assert!(came.iter().all(|n| n.attr("type") == Some("error")), "{came:?}");
    assert!(friend.inbox.is_empty());
    let labels = [("facing", "public"), ("direction", "sent"), ("condition", "not-authorized")];
    world.counted("stream_errors_total", &labels, 1.0).await.unwrap();
}

// JID-06: "If the local or resource forms differ between the two systems, refuse the stanza"; `ST(not-acceptable,modify)`,
// since rooms throw out whom `jid-malformed` is about (XML-17).
#[tokio::test]
async fn an_address_that_reads_in_two_ways_is_refused() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream
        .send(
            "<message from='a@friend.example' to='stra\u{df}e@hall.example' id='7'><body>x</body></message>",
        )
        .await
        .unwrap();
    let error = friend.inbox.wait(|n| n.attr("id") == Some("7")).await.unwrap();
    assert_eq!(condition(&error), Some("not-acceptable"));
    assert_eq!(error.child("error").unwrap().attr("type"), Some("modify"));
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "unharmed").await;
}

// ------------------------------------------------------------------------------------------------- certificates

// CRT-02: "Never the Common Name." CRT-04, CRT-05, CRT-06, CRT-07: what speaks for no domain leaves dialback, and no more.
#[tokio::test]
async fn a_certificate_speaks_for_the_names_in_it_and_no_others() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let foreign = gatehouse::demo::pki::Authority::new("Foreign Root").unwrap();
    let good = Leaf::of(&[FRIEND]);
    let wrong = [
        ("another name", Leaf::of(&[COUSIN])),
        ("a parent's name", Leaf::of(&["example"])),
        ("a wildcard in the middle", Leaf::of(&["fr*.example"])),
        ("a wildcard above", Leaf::of(&["*.friend.example"])),
        ("the common name alone", Leaf { common_name: Some(FRIEND.into()), dns: Vec::new(), ..good.clone() }),
        ("NUL in the name", Leaf::of(&["friend.example\0.stranger.example"])),
        ("a user's address", Leaf { xmpp: vec!["a@friend.example".into()], dns: Vec::new(), ..good.clone() }),
        ("expired", Leaf { expired: true, ..good.clone() }),
        ("not yet valid", Leaf { early: true, ..good.clone() }),
        ("an authority's own", Leaf { authority: true, ..good.clone() }),
    ];
    for (what, leaf) in wrong {
        friend.show(world.authority.issue(&leaf).unwrap());
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(stream.external(FRIEND).await.unwrap(), Login::NotOffered, "{what}");
    }
    for (what, identity) in [
        ("a foreign root", foreign.issue(&good).unwrap()),
        ("self-signed", gatehouse::demo::pki::Identity::self_signed(&good).unwrap()),
    ] {
        friend.show(identity);
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(stream.external(FRIEND).await.unwrap(), Login::NotOffered, "{what}");
        // TLS-19: "Where policy allows dialback, an absent, self-signed or mismatched peer certificate MUST NOT fail the
        // handshake".
        assert!(stream.offers_dialback(), "{what}");
    }
    let xmpp = Leaf { xmpp: vec![FRIEND.into()], dns: Vec::new(), ..good.clone() };
    for (what, leaf) in [("dNSName", good), ("xmppAddr", xmpp)] {
        friend.show(world.authority.issue(&leaf).unwrap());
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success, "{what}");
    }
}

// CRT-08: "MUST accept extended key usage serverAuth without clientAuth ... Any other EKU set without either is refused."
#[tokio::test]
async fn the_usage_of_servers_is_enough_and_that_of_others_is_not() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, EmailProtection, ServerAuth};
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for (usages, login) in [
        (vec![ServerAuth], Login::Success),
        (vec![ClientAuth], Login::Success),
        (vec![ServerAuth, ClientAuth], Login::Success),
        (vec![], Login::Success),
        (vec![EmailProtection], Login::NotOffered),
    ] {
        let leaf = Leaf { usages: usages.clone(), ..Leaf::of(&[FRIEND]) };
        friend.show(world.authority.issue(&leaf).unwrap());
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.external(FRIEND).await.unwrap(), login, "{usages:?}");
    }
}

// EXT-06: "Success authorises exactly (header `from`, header `to`)". EXT-03: an authzid must be the header's `from`.
#[tokio::test]
async fn external_cannot_be_had_for_another_name() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for name in [COUSIN, "a@friend.example", "friend.example/x", "example"] {
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.external(name).await.unwrap(), Login::Failure("invalid-authzid".into()), "{name}");
    }
    let mut stream = as_domain(friend.call(HALL).unwrap(), Some(COUSIN)).open().await.unwrap();
    assert_eq!(stream.external(COUSIN).await.unwrap(), Login::NotOffered);
}

// DB-29, TLS-19: a domain whose rule asks for a certificate has no other way in.
#[tokio::test]
async fn where_a_certificate_is_required_dialback_is_no_way_in() {
    let world = border().await;
    let pinned = peer(&world, 10, "pinned.example").await;
    let mut call = pinned.call_bare(HALL).unwrap();
    // TLS-19: "Where policy is certificate-required the stream ends": `SE(policy-violation)` after TLS.
    let mut stream = call.clone().open().await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    // Without a name in the header nothing is known yet; the claim itself is refused: `DE(not-authorized)`.
    call.greeting.from = None;
    let mut stream = call.open().await.unwrap();
    assert_eq!(stream.dialback("pinned.example", HALL).await.unwrap(), error("not-authorized"));
    by_certificate(&pinned, HALL).await;
}

// STR-15: "after authentication `to` and `from` MUST stay what was authenticated"; "post-auth `SE(not-authorized)`".
#[tokio::test]
async fn after_proof_the_header_keeps_its_names() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    stream
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
        .await
        .unwrap();
    assert_eq!(stream.wire.element().await.unwrap().name, "success");
    stream.wire.restart();
    stream.send(Greeting::of(COUSIN, HALL).octets()).await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("not-authorized"));
}

// TLS-07: "Everything learned from the peer before TLS ... MUST be discarded on success."
#[tokio::test]
async fn what_was_said_in_clear_counts_for_nothing_inside_tls() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = as_domain(friend.call(HALL).unwrap(), Some(FRIEND)).open_clear().await.unwrap();
    stream.say(Greeting::of(STRANGER, HALL));
    stream.starttls().await.unwrap();
    assert_eq!(stream.external(FRIEND).await.unwrap(), Login::NotOffered);
    assert_eq!(stream.dialback(STRANGER, HALL).await.unwrap(), error("policy-violation"));
}

// TLS-05: "any byte already buffered after the `>` of `<starttls/>` when we send `<proceed/>` MUST kill the connection".
#[tokio::test]
async fn octets_sent_together_with_starttls_end_the_connection() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for extra in ["<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>", " "] {
        let mut stream = friend.call(HALL).unwrap().open_clear().await.unwrap();
        stream.send(format!("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{extra}")).await.unwrap();
        loop {
            match stream.wire.next().await.unwrap() {
                Item::Element(node) => assert_eq!(node.name, "proceed", "{extra:?}"),
                Item::End => break,
                other => panic!("{extra:?}: {other:?}"),
            }
        }
    }
}
