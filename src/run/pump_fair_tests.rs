//! No relay holds its thread for long, whatever waits for it: counted in polls, not in time.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::limit::{SenderParams, Senders};
use crate::run::pump::arms::TOKEN;

/// A relay that counts its polls, and what the backend may have got in one of them.
struct Counted {
    running: Running,
    polls: Arc<AtomicUsize>,
}

impl Future for Counted {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.running).poll(cx)
    }
}

/// friend.example, proven, with so much room on both pipes that nothing ever waits.
async fn saturating() -> (DuplexStream, DuplexStream, Arc<AtomicUsize>) {
    let transport = Scripted::default();
    let backend = transport.lay(1 << 24);
    let polls = Arc::default();
    let (near, backend) = saturating_at(&tools_that_slow_nobody(transport), backend, &polls).await;
    (near, backend, polls)
}

/// Nobody is slowed: who is has nothing to do for a while.
fn tools_that_slow_nobody(transport: Scripted) -> Arc<Tools> {
    let stanzas = NonZeroU32::MAX;
    let senders = Arc::new(Senders::new(SenderParams { stanzas, ..SenderParams::default() }, now()));
    let mut tools = tools(transport);
    Arc::get_mut(&mut tools).unwrap().bounds.senders = senders;
    tools
}

/// A server that has arrived with a certificate for this name, and room for whatever it says.
fn spacious(tools: &Arc<Tools>, name: &str) -> (DuplexStream, Pump) {
    let (ours, near) = duplex(1 << 24);
    let peer: SocketAddr = "192.0.2.7:4000".parse().unwrap();
    let entry = tools.registry.enter();
    let meta = Meta { id: entry.0.id(), flow: Flow::S2sIn, peer: Some(peer), local: None };
    let channel = Some(secured(name));
    let arrival = Arrival { flow: Flow::S2sIn, address: peer.ip(), secured: channel.clone(), seed: [7; 32] };
    let relay = Relay::new(Arc::clone(&tools.relays), tools.registry.policy(), arrival, now());
    (near, Pump::arrived(Arc::clone(tools), relay, entry, meta, Box::new(ours), channel))
}

/// It speaks for d0.friend.example, d1.friend.example and so on, each over one of these backends.
async fn stand(near: &mut DuplexStream, backends: &mut [DuplexStream]) {
    say(near, &format!("{HEAD} from='d0.friend.example' to='hall.example' version='1.0'>")).await;
    hear(near, "</stream:features>").await;
    for (n, backend) in backends.iter_mut().enumerate() {
        let name = format!("d{n}.friend.example");
        say(near, &format!("<db:result from='{name}' to='hall.example'>6b</db:result>")).await;
        hear(backend, "<stream:stream").await;
        say(backend, &format!("{HEAD} id='L1'>")).await;
        hear(backend, "</db:result>").await;
        say(backend, &format!("<db:result from='hall.example' to='{name}' type='valid'/>")).await;
        hear(near, "type='valid'").await;
    }
}

/// The same beside others, with its polls counted here.
async fn saturating_at(
    tools: &Arc<Tools>,
    mut backend: DuplexStream,
    polls: &Arc<AtomicUsize>,
) -> (DuplexStream, DuplexStream) {
    let (mut near, pump) = spacious(tools, "friend.example");
    tokio::spawn(Counted { running: pump.run(), polls: Arc::clone(polls) });
    let header = format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>");
    say(&mut near, &header).await;
    hear(&mut near, "</stream:features>").await;
    say(&mut near, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
    backend_takes(&mut backend).await;
    hear(&mut near, "<success").await;
    say(&mut near, &header).await;
    hear(&mut near, "</stream:features>").await;
    (near, backend)
}

// "No connection holds the loop for more than 1 MiB or 1 ms, whichever comes first": between two looks at the kernel LOOK polls
// pass, each of BUDGET octets, or of as many small stanzas as that many octets are worth.
#[tokio::test(start_paused = true)]
async fn a_stream_that_always_has_more_is_put_back_after_its_share() {
    assert!(2 * BUDGET * usize::try_from(LOOK).unwrap() <= 1 << 20);
    for body in [1, 200, 20_000] {
        let (mut near, mut backend, polls) = saturating().await;
        let stanza = |n: usize| {
            let body = "x".repeat(body);
            format!(
                "<message from='a@friend.example' to='b@hall.example' id='m{n:06}'><body>{body}</body></message>"
            )
        };
        let many = (2 << 20) / (stanza(0).len() + TOKEN);
        let before = polls.load(Ordering::Relaxed);
        let all: String = (0..many).map(stanza).collect();
        say(&mut near, &all).await;
        let last = format!("id='m{:06}'", many - 1);
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(heard.get(heard.len().saturating_sub(1 << 16)..).unwrap())
            .contains(&last)
        {
            let mut octets = vec![0; 1 << 20];
            let n = backend.read(&mut octets).await.unwrap();
            heard.extend_from_slice(&octets[..n]);
        }
        let polls = polls.load(Ordering::Relaxed) - before;
        let shares = (2 << 20) / BUDGET;
        assert!(polls >= shares - 2, "{many} stanzas of {} octets in {polls} polls", stanza(0).len());
        assert!(
            polls <= 4 * shares,
            "and {many} stanzas of {} octets not after far less: {polls}",
            stanza(0).len()
        );
    }
}

// Who says something now and then waits for one share of one busy stream, however many there are; and they all go on.
#[tokio::test(start_paused = true)]
async fn a_calm_stream_waits_for_one_share_of_one_busy_stream() {
    const BUSY: usize = 8;
    const MANY: usize = 10_000;
    let transport = Scripted::default();
    let backends: Vec<_> = (0..=BUSY).map(|_| transport.lay(1 << 24)).collect();
    let tools = tools_that_slow_nobody(transport);
    let (polls, own) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let mut busy = Vec::new();
    for backend in backends {
        let counted = if busy.len() < BUSY { &polls } else { &own };
        busy.push(saturating_at(&tools, backend, counted).await);
    }
    let (mut calm, mut behind) = busy.pop().unwrap();
    let all: String = (0..MANY).map(message).collect();
    for (near, _) in &mut busy {
        say(near, &all).await;
    }
    // Each of them has had a first share, and stands in line.
    let begun = polls.load(Ordering::Relaxed);
    while polls.load(Ordering::Relaxed) < begun + 2 * BUSY {
        tokio::task::yield_now().await;
    }
    let mut waited = Vec::new();
    for n in 0..20 {
        let before = polls.load(Ordering::Relaxed);
        say(&mut calm, &message(n)).await;
        hear(&mut behind, &format!("id='m{n:06}'")).await;
        waited.push(polls.load(Ordering::Relaxed) - before);
    }
    assert!(waited.iter().all(|polls| *polls <= 2), "{waited:?}");
    let last = format!("id='m{:06}'", MANY - 1);
    for (_, backend) in &mut busy {
        assert!(hear(backend, &last).await.len() >= MANY * message(0).len());
    }
    assert!(polls.load(Ordering::Relaxed) > begun + 20 * BUSY, "they were busy all the time");
}

// What was left in the framer when the share was used up goes on by itself, though nothing more comes.
#[tokio::test(start_paused = true)]
async fn what_one_share_leaves_goes_on_in_the_next() {
    let (mut near, mut backend, _polls) = saturating().await;
    let all: String = (0..2_000).map(message).collect();
    say(&mut near, &all).await;
    let mut passed = String::new();
    while !passed.contains("id='m001999'") {
        let mut octets = vec![0; 1 << 20];
        let n = backend.read(&mut octets).await.unwrap();
        passed += std::str::from_utf8(&octets[..n]).unwrap();
    }
    assert!(passed.ends_with(&all), "all of it, in order");
}

// What goes several ways is bounced where it does not fit, so a leg has its turn before more is brought than its queue holds.
#[tokio::test(start_paused = true)]
async fn a_burst_for_one_of_two_pairs_has_room() {
    let transport = Scripted::default();
    let mut backends = [transport.lay(1 << 24), transport.lay(1 << 24)];
    let tools = tools(transport);
    let (mut near, pump) = spacious(&tools, "*.friend.example");
    tokio::spawn(pump.run());
    stand(&mut near, &mut backends).await;
    let [first, _second] = &mut backends;
    assert!(400 > 2 * tools.relays.limits.queue_stanzas);
    for (turn, body) in [700, 1].into_iter().enumerate() {
        let message = |n: usize| {
            let body = "x".repeat(body);
            let id = turn * 400 + n;
            format!(
                "<message from='a@d0.friend.example' to='b@hall.example' id='m{id:06}'><body>{body}</body></message>"
            )
        };
        let all: String = (0..400).map(message).collect();
        say(&mut near, &all).await;
        let last = format!("id='m{:06}'", turn * 400 + 399);
        let heard = tokio::time::timeout(Duration::from_secs(60), hear(first, &last)).await.unwrap();
        assert_eq!(heard.matches("<message").count(), 400, "none of {body} octets has come back");
    }
}

// "A pair's cost grows with the pairs on its stream": only legs that woke are looked at, whatever wakes them.
#[tokio::test(start_paused = true)]
async fn legs_to_which_nothing_happens_are_not_looked_at() {
    const PAIRS: usize = 40;
    let transport = Scripted::default();
    let mut backends: Vec<_> = (0..PAIRS).map(|_| transport.lay(ROOM)).collect();
    let tools = tools(transport);
    let mut play = arrive(&tools, Flow::S2sIn, Some(secured("*.friend.example")));
    stand(&mut play.near, &mut backends).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = LOOKED.get();
    for n in 0..20 {
        let name = format!("d{}.friend.example", n % PAIRS);
        let message =
            format!("<message from='a@{name}' to='b@hall.example' id='{n}'><body>hello</body></message>");
        say(&mut play.near, &message).await;
        assert!(hear(&mut backends[n % PAIRS], "</message>").await.ends_with(&message));
    }
    let looked = LOOKED.get() - before;
    assert!(looked <= 20 * 8, "{looked} looks at far legs for 20 messages");
    // One that is closed by its backend is seen at once, and the others go on; so do those that have to say something after a while.
    drop(backends.pop());
    tokio::time::sleep(tools.params.keepalive * 2).await;
    for backend in &mut backends {
        hear(backend, " ").await;
    }
    say(&mut play.near, "<message from='a@d9.friend.example' to='b@hall.example' id='last'/>").await;
    hear(&mut backends[9], "id='last'/>").await;
    drop(play);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    tools.registry.emptied().await;
}

// A notice that was rung in passing is used up: who does not ask again hears of nothing any more, a drain included.
#[tokio::test(start_paused = true)]
async fn whoever_rings_without_cause_is_asked_again() {
    let tools = tools(Scripted::default());
    let (ours, _near) = duplex(ROOM);
    let peer: SocketAddr = "192.0.2.7:4000".parse().unwrap();
    let entry = tools.registry.enter();
    let meta = Meta { id: entry.0.id(), flow: Flow::S2sIn, peer: Some(peer), local: None };
    let arrival = Arrival { flow: Flow::S2sIn, address: peer.ip(), secured: None, seed: [7; 32] };
    let relay = Relay::new(Arc::clone(&tools.relays), tools.registry.policy(), arrival, now());
    let mut pump = Pump::arrived(Arc::clone(&tools), relay, entry, meta, Box::new(ours), None);
    let asked: Arc<Mutex<Vec<std::task::Waker>>> = Arc::default();
    let promise = Arc::clone(&asked);
    pump.mail.news = Box::pin(std::future::poll_fn(move |cx| {
        promise.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }));
    let (woken, mut wakes) = tokio::sync::mpsc::unbounded_channel();
    let task = std::task::Waker::from(Arc::new(Woken(woken)));
    let mut cx = Context::from_waker(&task);
    assert!(pump.poll(&mut cx).is_pending());
    let promises = asked.lock().unwrap().clone();
    assert!(pump.poll(&mut cx).is_pending());
    assert_eq!(asked.lock().unwrap().len(), promises.len(), "it has promised to ring");
    promises.last().unwrap().wake_by_ref();
    assert_eq!(wakes.try_recv(), Ok(()));
    assert!(pump.poll(&mut cx).is_pending());
    assert!(asked.lock().unwrap().len() > promises.len());
}

struct Woken(tokio::sync::mpsc::UnboundedSender<()>);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _heard = self.0.send(());
    }
}

// LIM-03 on the route without a leg: the backend's stream has ended, couriers carry the pair, and its rate still slows
// whoever sends, by not reading.
#[tokio::test(start_paused = true)]
async fn a_pair_that_couriers_carry_keeps_its_rate() {
    let transport = Scripted::default();
    let (backend, mut second) = (transport.lay(ROOM), transport.lay(1 << 16));
    let mut tools = tools(transport);
    let pair = Pace { stanzas: NonZeroU32::new(5), octets: None };
    Arc::get_mut(&mut tools).unwrap().bounds.rates =
        Arc::new(Rates::new(RateParams { pair, ..RateParams::default() }));
    let (mut play, backend) = friend_at(&tools, backend).await;
    drop(backend);
    // The near stream is told, and what the peer has on its way is taken until it closes too.
    hear(&mut play.near, "</stream:stream>").await;
    let begun = now();
    let sending = tokio::spawn(async move {
        for n in 0..15 {
            say(&mut play.near, &message(n)).await;
        }
        play
    });
    backend_takes(&mut second).await;
    let carried = hear(&mut second, "m000014").await;
    let took = now() - begun;
    let ids: Vec<_> = carried.match_indices("id='m0").map(|(at, _)| &carried[at + 4..at + 11]).collect();
    assert_eq!(ids, (0..15).map(|n| format!("m{n:06}")).collect::<Vec<_>>(), "in order, and none lost");
    assert!(took >= Duration::from_millis(1700) && took < Duration::from_secs(4), "{took:?}");
    let play = sending.await.unwrap();
    let text = play.tools.observe.metrics().text().unwrap();
    assert!(text.contains("gatehouse_limited_total{limit=\"stanzas\"} 1"), "{text}");
}
