//! Ends of streams: what was under way is delivered, goes back, or is counted.

use super::*;
use crate::policy::Quotas;

// A side that takes no octets for T-stanza is gone; nothing that was accepted is lost in silence (BE-11).
#[tokio::test(start_paused = true)]
async fn what_a_stuck_backend_never_took_is_delivered_on_a_new_stream() {
    let transport = Scripted::default();
    let mut stuck = transport.lay(600);
    let mut fresh = transport.lay(1 << 20);
    let mut play = arrive(&tools(transport), Flow::S2sIn, Some(secured("friend.example")));
    let header = format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>");
    say(&mut play.near, &header).await;
    hear(&mut play.near, "</stream:features>").await;
    say(&mut play.near, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
    backend_takes(&mut stuck).await;
    hear(&mut play.near, "<success").await;
    say(&mut play.near, &header).await;
    for n in 0..20 {
        say(&mut play.near, &message(n)).await;
    }
    backend_takes(&mut fresh).await;
    let heard = hear(&mut fresh, "id='m000019'").await;
    // What fitted into the pipe of the first stream went out there; everything after it comes here, in order.
    let first = (0..20).find(|n| heard.contains(&format!("id='m{n:06}'"))).unwrap();
    assert!(first <= 600 / message(0).len(), "{heard}");
    let mut at = 0;
    for n in first..20 {
        at += heard[at..].find(&format!("id='m{n:06}'")).unwrap();
    }
}

/// Twenty stanzas for a backend that takes no more than 600 octets: how many went out to it, and the way back.
async fn stuck_in_a_drain(end: Phase) -> (Arc<Tools>, usize, DuplexStream) {
    let transport = Scripted::default();
    let mut stuck = transport.lay(600);
    let back = transport.lay(ROOM);
    let mut play = arrive(&tools(transport), Flow::S2sIn, Some(secured("friend.example")));
    let header = format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>");
    say(&mut play.near, &header).await;
    hear(&mut play.near, "</stream:features>").await;
    say(&mut play.near, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
    backend_takes(&mut stuck).await;
    hear(&mut play.near, "<success").await;
    say(&mut play.near, &header).await;
    hear(&mut play.near, "<stream:features").await;
    for n in 0..20 {
        say(&mut play.near, &message(n)).await;
    }
    let registry = Arc::clone(&play.tools.registry);
    assert!(registry.begin_drain(now() + Duration::from_secs(60)));
    assert!(!registry.begin_drain(now() + Duration::from_secs(90)), "it drains already");
    let heard = hear(&mut play.near, "</stream:stream>").await;
    assert!(heard.contains("<system-shutdown"), "{heard}");
    say(&mut play.near, "</stream:stream>").await;
    // Time for what was said to be read, and none for a timer to end.
    tokio::time::sleep(Duration::from_millis(10)).await;
    registry.enter_phase(end);
    play.task.await.unwrap();
    let taken = rest(&mut stuck).await;
    (play.tools, taken.matches("</message>").count(), back)
}

fn refused(tools: &Tools) -> usize {
    let text = tools.observe.metrics().text().unwrap();
    let lines = text.lines().filter(|line| {
        line.starts_with("gatehouse_stanzas_refused_total{") && line.contains("flow=\"s2s-in\"")
    });
    let shutdown = lines.filter(|line| line.contains("reason=\"shutdown\""));
    shutdown.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum()
}

// CLS-08, RLY-09: what a drain cannot deliver goes back to its sender, once, and is counted.
#[tokio::test(start_paused = true)]
async fn what_a_drain_cannot_deliver_goes_back() {
    let (tools, taken, mut back) = stuck_in_a_drain(Phase::Closing(now() + Duration::from_secs(20))).await;
    assert!(taken > 0 && taken < 20, "{taken}");
    assert_eq!(taken + refused(&tools), 20);
    // The way back is a stream of its own: somebody has gone to bring them.
    assert_eq!(tools.registry.living(), 1);
    let heard = hear(&mut back, "<stream:stream").await;
    assert!(heard.contains("to='friend.example'"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_is_told_stanza_by_stanza() {
    let (tools, taken, _back) = stuck_in_a_drain(Phase::Stopped).await;
    assert!(taken > 0 && taken < 20, "{taken}");
    assert_eq!(taken + refused(&tools), 20);
    assert_eq!(tools.registry.living(), 0, "nobody is sent out any more");
}

// Law `bounded`: every wait has a deadline, also that for somebody who reads an octet now and then.
#[tokio::test(start_paused = true)]
async fn a_trickling_reader_does_not_keep_a_closed_stream() {
    let mut play = arrive(&tools(Scripted::default()), Flow::S2sIn, Some(secured("friend.example")));
    let header = format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>");
    say(&mut play.near, &header).await;
    hear(&mut play.near, "</stream:features>").await;
    for _ in 0..300 {
        say(&mut play.near, "<db:result from='friend.example' to='nobody.example'>k</db:result>").await;
    }
    play.tools.registry.enter_phase(Phase::Draining(now() + Duration::from_secs(3600)));
    let begun = now();
    let mut octets = [0; 10];
    while !play.task.is_finished() && now() - begun < Duration::from_secs(3600) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let _read = tokio::time::timeout(Duration::from_secs(1), play.near.read(&mut octets)).await;
    }
    assert!(now() - begun < Duration::from_secs(200), "{:?}", now() - begun);
}

// CLS-02: when time is up, what was accepted and did not go out is counted and told.
#[tokio::test(start_paused = true)]
async fn what_is_cut_at_the_end_is_counted() {
    let (mut play, _backend) = friend(600).await;
    for n in 0..30 {
        say(&mut play.near, &message(n)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    play.tools.registry.enter_phase(Phase::Stopped);
    play.task.await.unwrap();
    let text = play.tools.observe.metrics().text().unwrap();
    let lost =
        text.lines().find(|l| l.starts_with("gatehouse_stanzas_refused_total") && l.contains("shutdown"));
    let lost: u32 = lost.unwrap_or_else(|| panic!("{text}")).rsplit(' ').next().unwrap().parse().unwrap();
    assert!((20..30).contains(&lost), "{lost}");
}

// D10: fifty streams that an honest server has closed are none of its connections any more, whatever the server behind makes of their
// ends. What they hold stays counted by their pairs.
#[tokio::test(start_paused = true)]
async fn a_stream_that_its_peer_has_closed_takes_none_of_the_domains_connections() {
    let transport = Scripted::default();
    let backend = transport.lay(ROOM);
    let tools = tools(transport);
    let (mut play, mut backend) = friend_at(&tools, backend).await;
    let friend = crate::run::tests::domain("friend.example");
    let one = Quotas { connections: Some(1), pairs: Some(1), ..Quotas::default() };
    let connection = || tools.bounds.proven.server(&friend, None, &one).map(drop);
    let pair = || tools.bounds.proven.pair(&friend, &one).map(drop);
    assert_eq!(connection(), Err(Reason::TooManyOfDomain));
    say(&mut play.near, "</stream:stream>").await;
    rest(&mut play.near).await;
    hear(&mut backend, "</stream:stream>").await;
    assert_eq!(connection(), Err(Reason::TooManyOfDomain), "its connection stands");
    play.near.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!play.task.is_finished(), "the server behind has not closed its stream");
    assert_eq!((connection(), pair()), (Ok(()), Err(Reason::TooManyPairsOfDomain)));
    say(&mut backend, "</stream:stream>").await;
    play.task.await.unwrap();
    assert_eq!(pair(), Ok(()));
}
