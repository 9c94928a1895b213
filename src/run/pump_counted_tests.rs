//! Peers that have their stanzas counted (SM-01): what is told, when, and what a connection leaves to the next.

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
        let outside = Scripted::default();
        let (first, second) = (outside.lay(ROOM), outside.lay(ROOM));
        let tools = tools(outside);
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
    let outside = Scripted::default();
    let (first, second) = (outside.lay(ROOM), outside.lay(ROOM));
    let tools = tools(outside);
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
        let outside = Scripted::default();
        let (first, second) = (outside.lay(600), outside.lay(ROOM));
        let tools = tools(outside);
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
            // A server behind that never takes it does not shut the stream for ever.
            hear(&mut backend, "id='m000020'").await;
            assert!(now() - began < tools.home.timeouts.acknowledgement);
        }
    }
}
