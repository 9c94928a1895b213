//! Relays over pipes: the tests play the peer and the backend.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::limit::{Pace, RateParams, Rates};
use crate::policy::Bans;
use crate::reason::Flow;
use crate::relay::Arrival;
use crate::run::registry::Phase;
use crate::run::tests::{Scripted, domain, federating, secured, tools};
use crate::stream::Secured;

const HEAD: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                    xmlns:db='jabber:server:dialback'";
const ROOM: usize = 4096;

struct Play {
    id: crate::run::registry::RelayId,
    tools: Arc<Tools>,
    near: DuplexStream,
    task: JoinHandle<()>,
}

/// A connection arrives.
fn arrive(tools: &Arc<Tools>, flow: Flow, secured: Option<Secured>) -> Play {
    let (ours, near) = duplex(ROOM);
    let peer: SocketAddr = "192.0.2.7:4000".parse().unwrap();
    let entry = tools.registry.enter();
    let id = entry.0.id();
    let meta = Meta { id: entry.0.id(), flow, peer: Some(peer), local: None };
    let arrival = Arrival { flow, address: peer.ip(), secured: secured.clone(), seed: [7; 32] };
    let relay = Relay::new(Arc::clone(&tools.relays), tools.registry.policy(), arrival, now());
    let pump = Pump::arrived(Arc::clone(tools), relay, entry, meta, Box::new(ours), secured);
    Play { id, tools: Arc::clone(tools), near, task: tokio::spawn(pump.run()) }
}

async fn say(pipe: &mut DuplexStream, words: &str) {
    pipe.write_all(words.as_bytes()).await.unwrap();
}

/// Reads until these words have come; everything up to them.
async fn hear(pipe: &mut DuplexStream, words: &str) -> String {
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        if text.contains(words) {
            return text;
        }
        let mut octets = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(3600), pipe.read(&mut octets)).await;
        match read {
            Ok(Ok(n)) if n > 0 => heard.extend_from_slice(&octets[..n]),
            other => panic!("waiting for {words:?}: {other:?} after {text:?}"),
        }
    }
}

/// Reads to the end.
async fn rest(pipe: &mut DuplexStream) -> String {
    let mut heard = Vec::new();
    let _end = pipe.read_to_end(&mut heard).await;
    String::from_utf8(heard).unwrap()
}

fn attribute(text: &str, name: &str) -> String {
    let at = text.rfind(&format!(" {name}='")).unwrap() + name.len() + 3;
    text[at..].split('\'').next().unwrap().to_owned()
}

/// The backend takes the pair that we claim there.
async fn backend_takes(pipe: &mut DuplexStream) {
    hear(pipe, "<stream:stream").await;
    say(pipe, &format!("{HEAD} id='L1'>")).await;
    hear(pipe, "</db:result>").await;
    say(pipe, "<db:result from='hall.example' to='friend.example' type='valid'/>").await;
}

/// `friend.example` has proven itself, and its pair stands at the backend.
async fn friend(backend_room: usize) -> (Play, DuplexStream) {
    let transport = Scripted::default();
    let backend = transport.lay(backend_room);
    friend_at(&tools(transport), backend).await
}

async fn friend_at(tools: &Arc<Tools>, backend: DuplexStream) -> (Play, DuplexStream) {
    friend_who_wants("", tools, backend).await
}

/// The same, and before he proves himself he says this.
async fn friend_who_wants(
    wanted: &str,
    tools: &Arc<Tools>,
    mut backend: DuplexStream,
) -> (Play, DuplexStream) {
    let mut play = arrive(tools, Flow::S2sIn, Some(secured("friend.example")));
    let header = format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>");
    say(&mut play.near, &header).await;
    hear(&mut play.near, "</stream:features>").await;
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
    say(&mut play.near, &format!("{wanted}{auth}")).await;
    backend_takes(&mut backend).await;
    hear(&mut play.near, "<success").await;
    say(&mut play.near, &header).await;
    hear(&mut play.near, "</stream:features>").await;
    (play, backend)
}

/// `friend.example` is banned: by its name, and by a network that it calls from.
fn bans() -> [Bans; 2] {
    let networks = vec!["192.0.2.0/24".parse().unwrap()];
    let by_name = Bans { networks: Vec::new(), domains: vec![domain("friend.example")] };
    [by_name, Bans { networks, domains: Vec::new() }]
}

/// That holds from now on.
async fn ban(tools: &Tools, banned: Bans) {
    tools.registry.publish(Arc::new(tools.registry.policy().with_bans(banned)));
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn message(n: usize) -> String {
    format!("<message from='a@friend.example' to='b@hall.example' id='m{n:06}'><body>hello</body></message>")
}

#[tokio::test(start_paused = true)]
async fn a_stanza_of_a_proven_peer_reaches_the_backend_octet_for_octet() {
    let (mut play, mut backend) = friend(ROOM).await;
    say(&mut play.near, &message(1)).await;
    assert!(hear(&mut backend, "</message>").await.ends_with(&message(1)));
    let text = play.tools.observe.metrics().text().unwrap();
    assert!(text.contains("gatehouse_streams{domain=\"hall.example\",flow=\"s2s-in\"} 1"), "{text}");
    assert!(
        text.contains("gatehouse_stanzas_total{domain=\"hall.example\",flow=\"s2s-in\",kind=\"message\"} 1"),
        "{text}"
    );
}

// LIM-05: memory per pair is bounded; nothing is lost when the backend reads on.
#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_read_holds_back_the_peer_and_loses_nothing() {
    let (play, mut backend) = friend(1024).await;
    let Play { mut near, tools, task, .. } = play;
    let (mut reading, mut writing) = tokio::io::split(near_end(&mut near));
    let mut taken = 0;
    for n in 0..100_000 {
        match tokio::time::timeout(Duration::from_secs(1), writing.write_all(message(n).as_bytes())).await {
            Ok(Ok(())) => taken = n,
            Ok(Err(error)) => panic!("{error}"),
            Err(_full) => break,
        }
    }
    let octets = taken * message(0).len();
    assert!(octets > 128 * 1024, "reads up to the high water, not {octets}");
    assert!(octets < 192 * 1024, "and not far above it, not {octets}");
    let drained = tokio::spawn(async move {
        let mut all = String::new();
        let last = format!("id='m{taken:06}'");
        while !all.contains(&last) {
            let mut buf = [0; 4096];
            let n = backend.read(&mut buf).await.unwrap();
            assert!(n > 0, "the backend's stream ended early");
            all.push_str(std::str::from_utf8(&buf[..n]).unwrap());
        }
        (all, backend)
    });
    let (all, _backend) = drained.await.unwrap();
    let mut at = 0;
    for n in 0..=taken {
        at += all[at..]
            .find(&format!("id='m{n:06}'"))
            .unwrap_or_else(|| panic!("stanza {n} is missing or out of order"));
    }
    // The peer has heard no error meanwhile.
    let mut octet = [0];
    assert!(tokio::time::timeout(Duration::from_secs(1), reading.read(&mut octet)).await.is_err());
    drop((tools, task));
}

fn near_end(near: &mut DuplexStream) -> DuplexStream {
    std::mem::replace(near, duplex(1).0)
}

// T-stanza.
#[tokio::test(start_paused = true)]
async fn an_element_that_is_never_finished_ends_the_stream() {
    let (mut play, mut backend) = friend(ROOM).await;
    let begun = now();
    say(&mut play.near, "<message from='a@friend.example' to='b@hall.example'><bo").await;
    // An octet now and then does not help.
    for _ in 0..11 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        say(&mut play.near, "o").await;
    }
    let heard = hear(&mut play.near, "</stream:stream>").await;
    assert_eq!((now() - begun).as_secs(), 120);
    assert!(heard.contains("<policy-violation"), "{heard}");
    say(&mut play.near, "</stream:stream>").await;
    drop(play.near);
    hear(&mut backend, "</stream:stream>").await;
    drop(backend);
    play.task.await.unwrap();
    assert_eq!(play.tools.registry.living(), 0);
}

// T-first-byte, CLS-03: RST before our header.
#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_let_go_without_a_word() {
    let begun = now();
    let mut play = arrive(&tools(Scripted::default()), Flow::S2sIn, None);
    assert_eq!(rest(&mut play.near).await, "");
    assert_eq!((now() - begun).as_secs(), 5);
    play.task.await.unwrap();
}

// ACC-11.
#[tokio::test(start_paused = true)]
async fn a_client_hello_on_a_starttls_listener_gets_no_xml() {
    let mut play = arrive(&tools(Scripted::default()), Flow::S2sIn, None);
    play.near.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    assert_eq!(rest(&mut play.near).await, "");
    play.task.await.unwrap();
}

// Law no_early_octets; TLS-05.
#[tokio::test(start_paused = true)]
async fn octets_after_starttls_end_the_connection() {
    let mut play = arrive(&tools(Scripted::default()), Flow::S2sIn, None);
    say(&mut play.near, &format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>")).await;
    hear(&mut play.near, "</stream:features>").await;
    let early = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><db:result from='friend.example' to='hall.example'>k</db:result>";
    say(&mut play.near, early).await;
    assert_eq!(rest(&mut play.near).await, "");
    play.task.await.unwrap();
    let text = play.tools.observe.metrics().text().unwrap();
    assert!(!text.contains("gatehouse_dialback_total{"), "the key was not looked at: {text}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_says_system_shutdown_and_closes_both_streams() {
    let (mut play, mut backend) = friend(ROOM).await;
    let lasting = now() + Duration::from_secs(20);
    play.tools.registry.enter_phase(Phase::Draining(lasting));
    let heard = hear(&mut play.near, "</stream:stream>").await;
    assert!(heard.contains("<system-shutdown"), "{heard}");
    hear(&mut backend, "</stream:stream>").await;
    say(&mut play.near, "</stream:stream>").await;
    say(&mut backend, "</stream:stream>").await;
    play.task.await.unwrap();
    assert_eq!(play.tools.registry.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_is_cut_at_once() {
    let (play, _backend) = friend(ROOM).await;
    let begun = now();
    play.tools.registry.enter_phase(Phase::Stopped);
    play.task.await.unwrap();
    assert_eq!(now(), begun);
}

// POL-07.
#[tokio::test(start_paused = true)]
async fn a_pair_that_a_new_policy_forbids_is_ended() {
    let (mut play, _backend) = friend(ROOM).await;
    play.tools.registry.publish(federating(crate::policy::Federation::None));
    let heard = hear(&mut play.near, "</stream:stream>").await;
    assert!(heard.contains("<policy-violation"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_end_a_relay() {
    let (mut play, _backend) = friend(ROOM).await;
    let id = play.tools.registry.ids().pop().unwrap();
    assert!(play.tools.registry.close(id, Reason::ClosedByOperator));
    let heard = hear(&mut play.near, "</stream:stream>").await;
    assert!(heard.contains("<reset"), "{heard}");
}

/// The backend claims that pair on an outbound stream; the remote end takes it by EXTERNAL.
async fn remote_takes(pipe: &mut DuplexStream, target: &str) {
    remote_takes_with(pipe, target, "").await;
}

/// The same, and it offers this besides.
async fn remote_takes_with(pipe: &mut DuplexStream, target: &str, more: &str) {
    let header = format!("{HEAD} from='{target}' to='hall.example' id='r1' version='1.0'>");
    hear(pipe, "version='1.0'").await;
    say(pipe, &header).await;
    let starttls = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
    say(pipe, starttls).await;
    hear(pipe, "<starttls").await;
    say(pipe, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    hear(pipe, "version='1.0'").await;
    say(pipe, &header).await;
    let external =
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>";
    say(pipe, &format!("<stream:features>{external}{more}</stream:features>")).await;
    hear(pipe, "</auth>").await;
    say(pipe, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    hear(pipe, "version='1.0'").await;
    say(pipe, &header).await;
    say(pipe, "<stream:features/>").await;
}

fn outgoing(target: &str, n: usize) -> String {
    format!(
        "<message from='b@hall.example' to='a@{target}' id='m{n:06}'><body>{}</body></message>",
        "x".repeat(1000)
    )
}

/// Tools by which so many octets may wait for one pair of a backend.
fn tools_with_queue(transport: Scripted, octets: usize) -> Arc<Tools> {
    let mut tools = tools(transport);
    let relays = &mut Arc::get_mut(&mut tools).unwrap().relays;
    Arc::make_mut(relays).limits.inside_queue = octets;
    tools
}

// DB-66: one slow peer neither blocks nor closes the others; what does not fit comes back (L-inside-queue).
#[tokio::test(start_paused = true)]
async fn a_slow_target_on_a_shared_stream_blocks_no_other() {
    let transport = Scripted::default();
    let mut slow = transport.lay(ROOM);
    let mut quick = transport.lay(ROOM);
    let mut bounces = transport.lay(1 << 20);
    let mut play = arrive(&tools_with_queue(transport, 100_000), Flow::S2sOut, None);
    say(&mut play.near, &format!("{HEAD}>")).await;
    hear(&mut play.near, "<stream:stream").await;
    for to in ["slow.example", "quick.example"] {
        say(&mut play.near, &format!("<db:result from='hall.example' to='{to}'>k1</db:result>")).await;
        hear(&mut play.near, &format!("from='{to}' to='hall.example' type='valid'")).await;
    }
    say(&mut play.near, &outgoing("slow.example", 0)).await;
    remote_takes(&mut slow, "slow.example").await;
    say(&mut play.near, &outgoing("quick.example", 0)).await;
    remote_takes(&mut quick, "quick.example").await;
    hear(&mut quick, "</message>").await;
    // What does not fit comes back to the backend on a stream of its own.
    let back = tokio::spawn(async move {
        hear(&mut bounces, "<stream:stream").await;
        say(&mut bounces, &format!("{HEAD} id='L9'>")).await;
        hear(&mut bounces, "</db:result>").await;
        say(&mut bounces, "<db:result from='hall.example' to='slow.example' type='valid'/>").await;
        let bounce = hear(&mut bounces, "</message>").await;
        (bounce, bounces)
    });
    for n in 1..300 {
        say(&mut play.near, &outgoing("slow.example", n)).await;
    }
    say(&mut play.near, &outgoing("quick.example", 1)).await;
    assert!(hear(&mut quick, "</message>").await.contains(&outgoing("quick.example", 1)));
    let text = play.tools.observe.metrics().text().unwrap();
    assert!(text.contains("gatehouse_limited_total{limit=\"queue\"}"), "{text}");
    let (bounce, _bounces) = back.await.unwrap();
    assert!(bounce.contains("type='error'") && bounce.contains("<resource-constraint"), "{bounce}");
    assert_eq!(
        attribute(&bounce[..bounce.find("</message>").unwrap()], "from").split('@').nth(1),
        Some("slow.example")
    );
}

// LIM-05: where a pair is alone on its stream, that is not read while its queue is full, and nothing comes back.
#[tokio::test(start_paused = true)]
async fn a_full_queue_of_a_lone_pair_stops_its_stream() {
    let transport = Scripted::default();
    let mut slow = transport.lay(ROOM);
    let mut play = arrive(&tools_with_queue(transport, 100_000), Flow::S2sOut, None);
    say(&mut play.near, &format!("{HEAD}>")).await;
    hear(&mut play.near, "<stream:stream").await;
    say(&mut play.near, &outgoing("slow.example", 0)).await;
    remote_takes(&mut slow, "slow.example").await;
    let (mut read, mut write) = tokio::io::split(play.near);
    let writing = tokio::spawn(async move {
        for n in 1..400 {
            write.write_all(outgoing("slow.example", n).as_bytes()).await.unwrap();
        }
        write
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!writing.is_finished(), "the pressure is back at the sender");
    let heard = hear(&mut slow, "id='m000399'").await;
    assert_eq!(heard.matches("</message>").count() + usize::from(!heard.ends_with("</message>")), 400);
    let _write = writing.await.unwrap();
    let mut octets = [0; 64];
    let answered = tokio::time::timeout(Duration::from_secs(1), read.read(&mut octets)).await;
    assert!(answered.is_err(), "{:?}", String::from_utf8_lossy(&octets));
}

// DB-66, D9: silent partners keep a backend from nobody, and it waits for none of them.
#[tokio::test(start_paused = true)]
async fn silent_targets_do_not_keep_others_out() {
    let transport = Scripted::default();
    let silent: Vec<_> = (0..20).map(|_| transport.lay(ROOM)).collect();
    let mut quick = transport.lay(ROOM);
    let mut play = arrive(&tools(transport), Flow::S2sOut, None);
    say(&mut play.near, &format!("{HEAD}>")).await;
    hear(&mut play.near, "<stream:stream").await;
    let begun = now();
    for n in 0..20 {
        say(&mut play.near, &format!("<db:result from='hall.example' to='silent{n}.example'>k</db:result>"))
            .await;
        hear(&mut play.near, &format!("from='silent{n}.example' to='hall.example' type='valid'")).await;
        say(&mut play.near, &outgoing(&format!("silent{n}.example"), n)).await;
        tokio::task::yield_now().await;
    }
    say(&mut play.near, &outgoing("quick.example", 0)).await;
    remote_takes(&mut quick, "quick.example").await;
    hear(&mut quick, "</message>").await;
    assert!(now() - begun < Duration::from_secs(1), "{:?}", now() - begun);
    drop(silent);
}

// CLS-05, T-keepalive: a space on a proven leg on which we said nothing, so that a dead connection is found. T-idle-s2s: after
// 30 minutes without traffic the stream is closed in good order.
#[tokio::test(start_paused = true)]
async fn a_quiet_pair_is_kept_alive_and_then_closed() {
    let (mut play, mut backend) = friend(ROOM).await;
    let begun = now();
    hear(&mut backend, " ").await;
    assert_eq!((now() - begun).as_secs(), 300);
    let said = hear(&mut play.near, "</stream:stream>").await;
    assert!(said.trim_start().starts_with("</stream:stream>"), "{said:?}");
    let idle = (now() - begun).as_secs();
    assert!((1795..=1805).contains(&idle), "{idle}");
    say(&mut play.near, "</stream:stream>").await;
    hear(&mut backend, "</stream:stream>").await;
    say(&mut backend, "</stream:stream>").await;
    play.task.await.unwrap();
}

// L-preauth-total: 64 KiB before a pair is proven, whatever they are made of.
#[tokio::test(start_paused = true)]
async fn so_many_octets_are_taken_before_proof_and_no_more() {
    let mut play = arrive(&tools(Scripted::default()), Flow::S2sIn, Some(secured("friend.example")));
    say(&mut play.near, &format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>")).await;
    hear(&mut play.near, "</stream:features>").await;
    let mut sent = 0;
    let spaces = " ".repeat(1024);
    while play.near.write_all(spaces.as_bytes()).await.is_ok() && sent < 200 {
        sent += 1;
        tokio::task::yield_now().await;
    }
    let said = rest(&mut play.near).await;
    assert!(said.contains("<policy-violation"), "{said:?}");
    assert!(sent >= 60, "{sent} KiB");
    play.task.await.unwrap();
}

#[path = "pump_back_tests.rs"]
mod back;
#[path = "pump_blank_tests.rs"]
mod blank;
#[path = "pump_client_tests.rs"]
mod clients;
#[path = "pump_counted_tests.rs"]
mod counted;
#[path = "pump_ends_tests.rs"]
mod ends;
#[path = "pump_fair_tests.rs"]
mod fair;

#[path = "pump_refused_tests.rs"]
mod refused;

#[path = "pump_introduced_tests.rs"]
mod introduced;

#[path = "pump_event_context_tests.rs"]
mod event_context;

thread_local! {
    /// How often a far leg was looked at in this thread, which is the runtime's only one.
    static LOOKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub(super) fn looked_at(side: Side) {
    LOOKED.set(LOOKED.get() + usize::from(side != Side::Near));
}
