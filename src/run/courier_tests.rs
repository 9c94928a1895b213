use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::policy::Proxy;
use crate::relay::{AddressChoice, Destination};
use crate::run::tests::{Scripted, domain, tools};
use crate::run::{
    BoxIo, ConnectStep, Connection, Handshake, Progress, RemainingCandidates, Towards, Transport,
};
use crate::stream::{Certificate, evidence};

fn pair(sender: &str) -> Pair {
    Pair { sender: domain(sender), target: domain("hall.example") }
}

fn message(sender: &str, n: usize, body: &str) -> Bytes {
    format!("<message from='a@{sender}' to='b@hall.example' id='m{n:04}'><body>{body}</body></message>")
        .into()
}

/// Whether it was taken.
fn carry(tools: &Arc<Tools>, pair: Pair, stanza: Bytes) -> bool {
    hand_over(tools, &pair, stanza).is_ok()
}

async fn hear(pipe: &mut DuplexStream, words: &str) -> String {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(words) {
        let mut octets = [0; 4096];
        let n =
            tokio::time::timeout(Duration::from_secs(3600), pipe.read(&mut octets)).await.unwrap().unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&octets[..n]);
    }
    String::from_utf8(heard).unwrap()
}

async fn take(pipe: &mut DuplexStream, sender: &str) {
    hear(pipe, "<stream:stream").await;
    let header = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                  xmlns:db='jabber:server:dialback' id='L1'>";
    pipe.write_all(header.as_bytes()).await.unwrap();
    hear(pipe, "</db:result>").await;
    let valid = format!("<db:result from='hall.example' to='{sender}' type='valid'/>");
    pipe.write_all(valid.as_bytes()).await.unwrap();
}

fn counted(tools: &Tools, limit: &str) -> u32 {
    let text = tools.observe.metrics().text().unwrap();
    let line = format!("gatehouse_limited_total{{limit=\"{limit}\"}} ");
    text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |n| n.parse().unwrap())
}

// RLY-05: "Order is kept per pair"; also over the end of one courier and the beginning of the next.
#[tokio::test(start_paused = true)]
async fn stanzas_of_a_pair_arrive_once_and_in_order() {
    let transport = Scripted::default();
    let mut backend = transport.lay(1 << 20);
    let mut next = transport.lay(1 << 20);
    let tools = tools(transport);
    for n in 0..50 {
        carry(&tools, pair("friend.example"), message("friend.example", n, "hi"));
    }
    take(&mut backend, "friend.example").await;
    let first = hear(&mut backend, "m0049").await;
    hear(&mut backend, "</stream:stream>").await;
    backend.write_all(b"</stream:stream>").await.unwrap();
    for n in 50..60 {
        carry(&tools, pair("friend.example"), message("friend.example", n, "hi"));
    }
    take(&mut next, "friend.example").await;
    let second = hear(&mut next, "m0059").await;
    let mut at = 0;
    let both = first + &second;
    for n in 0..60 {
        let id = format!("id='m{n:04}'");
        assert_eq!(both.matches(&id).count(), 1, "{id}");
        at += both[at..].find(&id).unwrap();
    }
    assert_eq!(counted(&tools, "carried") + counted(&tools, "queue"), 0);
}

// SM-01, RLY-05: what reaches a courier too late goes with the next one, and whoever waits for it waits for that.
#[tokio::test(start_paused = true)]
async fn what_a_courier_leaves_is_not_delivered_before_the_next_one_has_done_so() {
    let transport = Scripted::default();
    let mut backend = transport.lay(1 << 20);
    let mut next = transport.lay(1 << 20);
    let tools = tools(transport);
    carry(&tools, pair("friend.example"), message("friend.example", 0, "hi"));
    take(&mut backend, "friend.example").await;
    hear(&mut backend, "</stream:stream>").await;
    // It has said its last word and waits for that of the other side.
    let mut cargo = None;
    for n in 1..4 {
        cargo = hand_over(&tools, &pair("friend.example"), message("friend.example", n, "hi")).ok();
    }
    let cargo = cargo.unwrap();
    let given = cargo.given();
    let mut settles = std::pin::pin!(std::future::poll_fn(|cx| cargo.poll_settled(given, cx)));
    backend.write_all(b"</stream:stream>").await.unwrap();
    hear(&mut next, "<stream:stream").await;
    assert!(given == 4 && !cargo.has_settled(given), "the first courier has ended");
    let early = tokio::time::timeout(Duration::from_secs(5), &mut settles).await;
    assert!(early.is_err(), "nobody has it yet");
    let header = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                  xmlns:db='jabber:server:dialback' id='L2'>";
    next.write_all(header.as_bytes()).await.unwrap();
    hear(&mut next, "</db:result>").await;
    next.write_all(b"<db:result from='hall.example' to='friend.example' type='valid'/>").await.unwrap();
    let came = hear(&mut next, "m0003").await;
    assert!(came.contains("m0001"), "{came}");
    settles.await;
}

// LIM-09: "the gateway is no reflector": so many pairs at a time, and so much for each.
#[tokio::test(start_paused = true)]
async fn so_many_pairs_are_carried_for_and_no_more() {
    let transport = Scripted::default();
    let silent: Vec<_> = (0..2).map(|_| transport.lay(1 << 20)).collect();
    let mut tools = Arc::into_inner(tools(transport)).unwrap();
    tools.params.couriers = 2;
    let tools = Arc::new(tools);
    for n in 0..3 {
        let sender = format!("d{n}.example");
        carry(&tools, pair(&sender), message(&sender, n, "hi"));
    }
    assert_eq!(counted(&tools, "carried"), 1);
    assert_eq!(super::held(&tools.peering.couriers.living).len(), 2);
    // T-queue: nobody answered, and the places are free again.
    tokio::time::sleep(Duration::from_secs(61)).await;
    drop(silent);
    tools.registry.emptied().await;
    assert!(super::held(&tools.peering.couriers.living).is_empty());
}

// LIM-05: "memory per pair is bounded by L-queue", and who brings more waits until there is room again.
#[tokio::test(start_paused = true)]
async fn so_much_waits_for_one_pair_and_no_more() {
    let transport = Scripted::default();
    let mut backend = transport.lay(1 << 22);
    let tools = tools(transport);
    let body = "x".repeat(100_000);
    let bring = |n| hand_over(&tools, &pair("friend.example"), message("friend.example", n, &body));
    // Ten of 100 KB are a megabyte, wherever the courier has them: in its inbox, its queue or its outbox.
    for n in 0..10 {
        assert!(bring(n).is_ok(), "{n}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Err(Turned::Full(stanza, room, mut wait)) = bring(10) else { panic!("an eleventh was taken") };
    assert!(tokio::time::timeout(Duration::from_secs(5), &mut wait).await.is_err());
    take(&mut backend, "friend.example").await;
    let reading = tokio::spawn(async move {
        hear(&mut backend, "m0010").await;
        backend
    });
    wait.await;
    assert!(!room.has_given_up());
    assert!(hand_over(&tools, &pair("friend.example"), stanza).is_ok());
    let _backend = reading.await.unwrap();
    assert_eq!((counted(&tools, "queue"), counted(&tools, "carried")), (1, 0));
}

// What a courier could not deliver is gone; whoever waits to bring more of the same hears of it.
#[tokio::test(start_paused = true)]
async fn a_courier_that_gives_up_says_so() {
    let transport = Scripted::default();
    let _silent = transport.lay(1 << 20);
    let tools = tools(transport);
    for n in 0..100 {
        assert!(carry(&tools, pair("friend.example"), message("friend.example", n, "hi")), "{n}");
    }
    let more = hand_over(&tools, &pair("friend.example"), message("friend.example", 100, "hi"));
    let Err(Turned::Full(_, room, wait)) = more else { panic!("a hundred and first was taken") };
    let begun = now();
    wait.await;
    assert!(room.has_given_up());
    assert!(now() - begun <= Duration::from_secs(61), "T-queue");
}

// LIM-09: "so that the gateway is no reflector"; who has bounces without end gets no more, and his neighbour's are not dropped
// for it, whatever either calls himself or his stanzas.
#[tokio::test(start_paused = true)]
async fn bounces_are_counted_for_the_address_that_they_go_to() {
    let tools = tools(Scripted::default());
    let bounce = |kind: &str, to: &str, id: &str| {
        let stanza = format!(
            "<{kind} from='{to}' to='b@hall.example' id='{id}' type='set'><ping xmlns='urn:xmpp:ping'/></{kind}>"
        );
        let mut framer = crate::xml::Framer::new(crate::xml::Limits::default(), crate::xml::Content::Server);
        framer.feed(&crate::stream::opening(None, None, None, true));
        framer.feed(stanza.as_bytes());
        let element = std::iter::from_fn(|| framer.next()).find_map(|token| match token {
            crate::xml::Token::Element(frame) => Some(frame),
            _ => None,
        });
        let head = element.unwrap();
        let condition = crate::reason::StanzaCondition::PolicyViolation;
        let (id, from, to) = (head.head().id(), head.head().to(), head.head().from());
        let answer = crate::filter::ErrorReply {
            id: id.as_deref(),
            from: from.as_deref(),
            to: to.as_deref(),
            text: None,
        };
        answer.write(head.head().kind(), Reason::SenderTooFast, condition).unwrap()
    };
    let back = pair("friend.example").reversed();
    let flood = (0..3_000).filter(|n| {
        let id = format!("&apos; to=&apos;calm{n}@friend.example");
        let kind = if n % 2 == 0 { "iq" } else { "message" };
        tools
            .peering
            .couriers
            .admits_bounce(&back, &bounce(kind, &format!("flood@friend.example/{n}"), &id))
            .is_ok()
    });
    assert_eq!(flood.count(), 1024);
    for n in 0..1_000 {
        let calm = bounce("iq", &format!("calm{n}@friend.example/x"), "i");
        assert_eq!(addressee(&calm), format!("calm{n}@friend.example").as_bytes());
        assert_eq!(tools.peering.couriers.admits_bounce(&back, &calm), Ok(()));
    }
    assert_eq!(addressee(&bounce("iq", "friend.example", "i")), b"friend.example");
    let again = tools.peering.couriers.admits_bounce(&back, &bounce("iq", "flood@friend.example", "i"));
    assert_eq!(again, Err(Duration::from_millis(100)), "ten a second");
}

// A stop cuts couriers too: what they were given is told as lost, and none begins anew.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_couriers_and_tells_what_they_held() {
    let transport = Scripted::default();
    let _silent = transport.lay(1 << 20);
    let tools = tools(transport);
    for n in 0..5 {
        carry(&tools, pair("friend.example"), message("friend.example", n, "hi"));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    tools.registry.enter_phase(Phase::Stopped);
    tools.registry.emptied().await;
    let text = tools.observe.metrics().text().unwrap();
    let lost =
        "gatehouse_stanzas_refused_total{domain=\"hall.example\",flow=\"s2s-in\",reason=\"shutdown\"} ";
    let lost: u32 =
        text.lines().find_map(|l| l.strip_prefix(lost)).unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    assert!(lost >= 5, "{text}");
}

/// A transport in which no connection comes further than that, and each that is begun is counted.
#[derive(Clone)]
struct Stuck(ConnectStep, Arc<AtomicUsize>);

impl Transport for Stuck {
    fn secure_near(&self, io: BoxIo, flow: Flow, named: Option<Domain>, peer: Option<IpAddr>) -> Handshake {
        Scripted::default().secure_near(io, flow, named, peer)
    }

    fn secure_far(&self, io: BoxIo, towards: Towards) -> Handshake {
        Scripted::default().secure_far(io, towards)
    }

    fn inquire(
        &self,
        pair: Pair,
        shown: Certificate,
        sought: evidence::Sought,
        via: Option<Arc<Proxy>>,
    ) -> Later<evidence::Evidence> {
        Scripted::default().inquire(pair, shown, sought, via)
    }

    fn route(&self, _: &Destination, _: Option<Arc<Caller>>) -> Box<dyn RemainingCandidates> {
        Box::new(self.clone())
    }

    fn look_anew(&self, _: &Domain) {}
}

impl RemainingCandidates for Stuck {
    fn connect(self: Box<Self>, _: AddressChoice) -> Connection {
        self.1.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }

    fn progress(&self) -> Option<Progress> {
        let progress = Progress::default();
        progress.at(self.0.clone());
        Some(progress)
    }
}

// CLS-07: a call that hangs is made anew when the domain has shown itself; whoever has not called yet keeps his place in the line. Who is
// called is found whoever else lives.
#[tokio::test(start_paused = true)]
async fn who_waits_for_his_turn_keeps_it_when_the_domain_shows_itself() {
    let hoster = "192.0.2.7:5269".parse().unwrap();
    for (step, calls) in [
        (ConnectStep::Waiting, 1),
        (ConnectStep::LookingUp, 1),
        (ConnectStep::InTurn(hoster), 1),
        (ConnectStep::Calling(hoster, 0), 2),
        (ConnectStep::Securing(hoster), 2),
    ] {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut tools = Arc::into_inner(tools(Scripted::default())).unwrap();
        tools.transport = Arc::new(Stuck(step.clone(), Arc::clone(&begun)));
        let tools = Arc::new(tools);
        let pair = |target: &str| Pair { sender: domain("hall.example"), target: domain(target) };
        let stanza = "<message from='a@hall.example' to='b@friend.example' id='1'/>";
        assert!(send(&tools, &pair("friend.example"), stanza.into()).is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
        tools.peering.couriers.alive(&tools.relays, &domain("other.example"));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(begun.load(Ordering::Relaxed), 1, "{step:?}");
        tools.peering.couriers.alive(&tools.relays, &domain("friend.example"));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(begun.load(Ordering::Relaxed), calls, "{step:?}");
        tokio::time::sleep(Duration::from_secs(120)).await;
        tools.registry.emptied().await;
        assert!(super::held(&tools.peering.couriers.living).is_empty(), "{step:?}");
    }
}
