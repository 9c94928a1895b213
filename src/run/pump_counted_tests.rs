//! Peers that have their stanzas counted (SM-01): what is told, when, and what a connection leaves to the next.

use super::back::{answers, both_ways};
use super::*;

const SM: &str = "xmlns='urn:xmpp:sm:3'";

/// The name under which the stream of the friend is counted from here on.
async fn enabled(play: &mut Play) -> String {
    say(&mut play.near, &format!("<enable {SM} resume='true'/>")).await;
    let said = hear(&mut play.near, "max='120'/>").await;
    said.rsplit(" id='").next().unwrap().split('\'').next().unwrap().to_owned()
}

// "counts of what the back-end has taken": not what waits for its socket.
#[tokio::test(start_paused = true)]
async fn a_count_waits_for_the_socket_of_the_backend() {
    let (mut play, mut backend) = friend(1024).await;
    enabled(&mut play).await;
    let all: String = (0..30).map(message).collect();
    say(&mut play.near, &format!("{all}<r {SM}/>")).await;
    let mut octet = [0];
    let early = tokio::time::timeout(Duration::from_secs(5), play.near.read(&mut octet)).await;
    assert!(early.is_err(), "nothing is told while the backend does not read");
    hear(&mut backend, "id='m000029'").await;
    assert!(hear(&mut play.near, "/>").await.ends_with(&format!("<a {SM} h='30'/>")));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_reads_lets_the_peer_hear_what_is_known() {
    let (mut play, _backend) = friend(1024).await;
    enabled(&mut play).await;
    let all: String = (0..30).map(message).collect();
    let asked = now();
    say(&mut play.near, &format!("{all}<r {SM}/>")).await;
    assert!(hear(&mut play.near, "/>").await.ends_with(&format!("<a {SM} h='0'/>")));
    assert!(now() - asked >= Duration::from_secs(10));
}

// A connection that broke, and one of which only the peer knows that it did.
#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_over_another_connection() {
    for breaks in [true, false] {
        let transport = Scripted::default();
        let (first, second) = (transport.lay(ROOM), transport.lay(ROOM));
        let tools = tools(transport);
        let (mut play, mut backend) = friend_at(&tools, first).await;
        let id = enabled(&mut play).await;
        say(&mut play.near, &message(1)).await;
        hear(&mut backend, "</message>").await;
        let old = breaks.then(|| drop(play.near));
        let (mut again, _backend) = friend_at(&tools, second).await;
        say(&mut again.near, &format!("<resume {SM} previd='{id}' h='0'/>")).await;
        assert!(hear(&mut again.near, "/>").await.ends_with(&format!("<resumed {SM} previd='{id}' h='1'/>")));
        assert_eq!(old.is_some(), breaks);
        // The name is that of the new stream now, and of nobody else's.
        say(&mut again.near, &format!("<r {SM}/>")).await;
        assert!(hear(&mut again.near, "/>").await.ends_with(&format!("<a {SM} h='1'/>")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_in_good_order_does_not_go_on() {
    let transport = Scripted::default();
    let (first, second) = (transport.lay(ROOM), transport.lay(ROOM));
    let tools = tools(transport);
    let (mut play, _first) = friend_at(&tools, first).await;
    let id = enabled(&mut play).await;
    say(&mut play.near, "</stream:stream>").await;
    assert!(hear(&mut play.near, "</stream:stream>").await.contains(&format!("<a {SM} h='0'/>")));
    drop(play);
    let (mut again, _second) = friend_at(&tools, second).await;
    say(&mut again.near, &format!("<resume {SM} previd='{id}' h='0'/>")).await;
    hear(&mut again.near, "<item-not-found ").await;
}

// RLY-05: what comes on the next stream does not overtake what the one before has left to deliver.
#[tokio::test(start_paused = true)]
async fn what_goes_on_waits_for_what_went_before() {
    for reads in [true, false] {
        let transport = Scripted::default();
        let (first, second) = (transport.lay(600), transport.lay(ROOM));
        let tools = tools(transport);
        let (mut play, mut slow) = friend_at(&tools, first).await;
        let id = enabled(&mut play).await;
        for n in 0..20 {
            say(&mut play.near, &message(n)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(play.near);
        let (mut again, mut backend) = friend_at(&tools, second).await;
        say(&mut again.near, &format!("<resume {SM} previd='{id}' h='0'/>")).await;
        assert!(
            hear(&mut again.near, "/>").await.ends_with(&format!("<resumed {SM} previd='{id}' h='20'/>"))
        );
        let began = now();
        say(&mut again.near, &message(20)).await;
        let mut octet = [0];
        let early = tokio::time::timeout(Duration::from_secs(20), backend.read(&mut octet)).await;
        assert!(early.is_err(), "it has overtaken");
        if reads {
            hear(&mut slow, "id='m000019'").await;
            hear(&mut backend, "id='m000020'").await;
            assert!(now() - began < Duration::from_secs(21));
        } else {
            // A server behind that never takes it does not shut the stream for ever: what it does not take comes back before.
            hear(&mut backend, "id='m000020'").await;
            assert!(now() - began < tools.relays.timeouts.acknowledgement);
            let taken = rest(&mut slow).await.matches("</message>").count();
            assert_eq!(
                returned(&tools, "backend-slow") + taken,
                20,
                "each goes in or comes back, and none does later"
            );
        }
    }
}

/// How many stanzas of remote servers have come back for that reason.
pub(super) fn returned(tools: &Tools, reason: &str) -> usize {
    let text = tools.observe.metrics().text().unwrap();
    let is = |line: &&str| {
        line.starts_with("gatehouse_stanzas_refused_total")
            && line.contains(&format!("reason=\"{reason}\""))
            && line.contains("s2s-in")
    };
    text.lines().filter(is).filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

// RLY-05: a connection that breaks while it waits leaves the same to the next as the one before.
#[tokio::test(start_paused = true)]
async fn a_third_connection_waits_for_the_first() {
    let transport = Scripted::default();
    let pipes: Vec<_> = [600, ROOM, ROOM].into_iter().map(|room| transport.lay(room)).collect();
    let [first, second, third] = <[DuplexStream; 3]>::try_from(pipes).unwrap();
    let tools = tools(transport);
    let (mut play, mut slow) = friend_at(&tools, first).await;
    let id = enabled(&mut play).await;
    for n in 0..20 {
        say(&mut play.near, &message(n)).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(play.near);
    let (mut again, _second) = friend_at(&tools, second).await;
    say(&mut again.near, &format!("<resume {SM} previd='{id}' h='0'/>")).await;
    hear(&mut again.near, "h='20'/>").await;
    // It breaks before anything of it was read.
    say(&mut again.near, &message(20)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(again.near);
    let (mut once_more, mut backend) = friend_at(&tools, third).await;
    say(&mut once_more.near, &format!("<resume {SM} previd='{id}' h='0'/>")).await;
    hear(&mut once_more.near, "h='20'/>").await;
    newer_waits(&mut once_more.near, &mut backend).await;
    hear(&mut slow, "id='m000019'").await;
    hear(&mut backend, "id='m000020'").await;
    assert_eq!(returned(&tools, "backend-slow"), 0);
}

// POL-07: a ban reaches what a stream that is no more has left, as it reaches what stands: by the domain, and by the address.
#[tokio::test(start_paused = true)]
async fn a_ban_reaches_what_a_broken_stream_has_left() {
    for banned in bans() {
        let transport = Scripted::default();
        let first = transport.lay(600);
        let tools = tools(transport);
        let (mut play, mut slow) = friend_at(&tools, first).await;
        for n in 0..20 {
            say(&mut play.near, &message(n)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(play.near);
        tokio::time::sleep(Duration::from_millis(10)).await;
        ban(&tools, banned).await;
        let heard = hear(&mut slow, "</stream:stream>").await;
        let taken = heard.matches("</message>").count();
        assert!(taken < 20 && taken == heard.matches("<message ").count(), "{heard}");
        assert_eq!(returned(&tools, "banned") + taken, 20);
    }
}

// The same of what couriers carry, because the stream to the server behind was no more: by the domain, and by the address it came from.
#[tokio::test(start_paused = true)]
async fn a_ban_reaches_what_couriers_carry() {
    for (at, banned) in bans().into_iter().enumerate() {
        for stands in [true, false] {
            let transport = Scripted::default();
            let (first, mut second) = (transport.lay(ROOM), transport.lay(600));
            let tools = tools(transport);
            let (mut play, first) = friend_at(&tools, first).await;
            drop(first);
            hear(&mut play.near, "</stream:stream>").await;
            for n in 0..15 {
                say(&mut play.near, &message(n)).await;
            }
            if stands {
                backend_takes(&mut second).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            ban(&tools, banned.clone()).await;
            let heard = rest(&mut second).await;
            let taken = heard.matches("</message>").count();
            assert!(taken < 15 && taken == heard.matches("<message ").count(), "{at} {stands}: {heard}");
            assert_eq!(returned(&tools, "banned") + taken, 15, "{at} {stands}");
        }
    }
}

// RLY-05: also where couriers carry what the broken stream has left.
#[tokio::test(start_paused = true)]
async fn what_couriers_carry_of_a_broken_stream_is_not_overtaken() {
    let transport = Scripted::default();
    let pipes: Vec<_> = [ROOM, 600, ROOM].into_iter().map(|room| transport.lay(room)).collect();
    let [first, mut slow, last] = <[DuplexStream; 3]>::try_from(pipes).unwrap();
    let tools = tools(transport);
    let (mut play, first) = both_ways(&tools, first).await;
    let id = enabled(&mut play).await;
    // What goes back keeps the stream open when its pair loses its leg.
    answers(&tools, 1).await;
    hear(&mut play.near, "<r ").await;
    say(&mut play.near, &format!("<a {SM} h='1'/>")).await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(10)).await;
    for n in 0..20 {
        say(&mut play.near, &message(n)).await;
    }
    backend_takes(&mut slow).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(play.near);
    let (mut again, mut backend) = friend_at(&tools, last).await;
    say(&mut again.near, &format!("<resume {SM} previd='{id}' h='1'/>")).await;
    hear(&mut again.near, "h='20'/>").await;
    newer_waits(&mut again.near, &mut backend).await;
    hear(&mut backend, "id='m000020'").await;
    let taken = rest(&mut slow).await.matches("</message>").count();
    assert_eq!(returned(&tools, "backend-slow") + taken, 20);
}

/// The newest stanza, sent here, goes by none of the older ones.
async fn newer_waits(near: &mut DuplexStream, backend: &mut DuplexStream) {
    say(near, &message(20)).await;
    let mut octet = [0];
    let early = tokio::time::timeout(Duration::from_secs(20), backend.read(&mut octet)).await;
    assert!(early.is_err(), "it has overtaken");
}
