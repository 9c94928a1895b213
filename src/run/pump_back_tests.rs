//! Streams of peers that go both ways, and take less than they are sent.

use super::*;
use crate::policy::Bans;
use crate::run::courier;
use crate::run::tests::domain;

/// The same as [`friend_at`], and the peer takes stanzas on its stream.
pub(super) async fn both_ways(tools: &Arc<Tools>, backend: DuplexStream) -> (Play, DuplexStream) {
    friend_who_wants("<bidi xmlns='urn:xmpp:bidi'/>", tools, backend).await
}

/// The backend answers with so many stanzas.
pub(super) async fn answers(tools: &Arc<Tools>, many: usize) {
    let pair = Pair { sender: domain("hall.example"), target: domain("friend.example") };
    for n in 0..many {
        let stanza = format!(
            "<message from='b@hall.example' to='a@friend.example' id='r{n:06}'><body>{:400}</body></message>",
            "well"
        );
        assert!(courier::send(tools, &pair, stanza.into()).is_ok(), "{n}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

// RLY-05: neither direction waits for the other, and the end of a connection is heard by whoever cannot write.
#[tokio::test(start_paused = true)]
async fn what_a_peer_sends_is_read_while_it_reads_nothing() {
    let transport = Scripted::default();
    let backend = transport.lay(ROOM);
    let tools = tools(transport);
    let (mut play, mut backend) = both_ways(&tools, backend).await;
    answers(&tools, 400).await;
    say(&mut play.near, &message(1)).await;
    let heard = tokio::time::timeout(Duration::from_secs(5), hear(&mut backend, "id='m000001'")).await;
    assert!(heard.is_ok(), "the way in is shut by the way back");
    let began = now();
    play.near.shutdown().await.unwrap();
    hear(&mut backend, "</stream:stream>").await;
    say(&mut backend, "</stream:stream>").await;
    drop(backend);
    play.task.await.unwrap();
    assert!(now() - began < Duration::from_secs(11), "{:?}", now() - began);
}

// LIM-03, CLS-01, law `bounded`: a peer that takes nothing has no longer to go than any other, for whatever its stream ends.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_cut_when_its_stream_is_closed() {
    for banned in [true, false] {
        let transport = Scripted::default();
        let backend = transport.lay(ROOM);
        let tools = tools(transport);
        let (play, mut backend) = both_ways(&tools, backend).await;
        answers(&tools, 400).await;
        let began = now();
        if banned {
            let banned = Bans { networks: Vec::new(), domains: vec![domain("friend.example")] };
            tools.registry.publish(Arc::new(tools.registry.policy().with_bans(banned)));
        } else {
            assert!(tools.registry.close(play.id, Reason::ClosedByOperator));
        }
        hear(&mut backend, "</stream:stream>").await;
        drop(backend);
        play.task.await.unwrap();
        let close = tools.relays.timeouts.close;
        assert!(now() - began <= close * 2 + Duration::from_secs(1), "{banned}: {:?}", now() - began);
    }
}

// SM-01: also where the peer never said how much it took.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_and_acknowledges_nothing_is_taken_as_gone() {
    let transport = Scripted::default();
    let backend = transport.lay(ROOM);
    let tools = tools(transport);
    let (mut play, mut backend) = both_ways(&tools, backend).await;
    say(&mut play.near, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    hear(&mut play.near, "<enabled ").await;
    let began = now();
    answers(&tools, 400).await;
    hear(&mut backend, "</stream:stream>").await;
    let gone = now() - began;
    assert!(gone <= tools.relays.timeouts.acknowledgement + Duration::from_secs(5), "{gone:?}");
    drop(backend);
    play.task.await.unwrap();
}

// T-queue: what goes back over a stream that is not counted waits no longer than on a stream of ours.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_keeps_nothing_for_longer_than_it_may_wait() {
    let transport = Scripted::default();
    let backend = transport.lay(ROOM);
    let tools = tools(transport);
    let (_play, mut backend) = both_ways(&tools, backend).await;
    let began = now();
    answers(&tools, 400).await;
    hear(&mut backend, "</stream:stream>").await;
    let gone = now() - began;
    assert!(gone <= tools.relays.timeouts.queue + Duration::from_secs(5), "{gone:?}");
}

// POL-07: what waits for a slow backend when its pair is taken back goes no further, and comes back.
#[tokio::test(start_paused = true)]
async fn what_was_read_ahead_of_a_ban_goes_no_further() {
    for banned in [true, false] {
        let transport = Scripted::default();
        let backend = transport.lay(600);
        let tools = tools(transport);
        let (mut play, mut backend) = both_ways(&tools, backend).await;
        for n in 0..100 {
            say(&mut play.near, &message(n)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        if banned {
            let banned = Bans { networks: Vec::new(), domains: vec![domain("friend.example")] };
            tools.registry.publish(Arc::new(tools.registry.policy().with_bans(banned)));
        } else {
            assert!(tools.registry.close(play.id, Reason::ClosedByOperator));
        }
        hear(&mut play.near, "</stream:stream>").await;
        let heard = hear(&mut backend, "</stream:stream>").await;
        assert!(heard.matches("<message ").count() <= 600 / message(0).len() + 1, "{heard}");
        assert!(heard.matches("<message ").count() == heard.matches("</message>").count(), "{heard}");
        drop(backend);
        drop(play.near);
        play.task.await.unwrap();
        let text = tools.observe.metrics().text().unwrap();
        let reason = if banned { "banned" } else { "closed-by-operator" };
        let line = |line: &&str| {
            line.starts_with("gatehouse_stanzas_refused_total")
                && line.contains(reason)
                && line.contains("s2s-in")
        };
        let told: usize =
            text.lines().filter(line).filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
        assert_eq!(told + heard.matches("<message ").count(), 100, "{banned}: {text}");
    }
}
