//! Whom connections to servers behind stand in for (BE-05), where they are not the first of a stream that arrived.

use super::back::{answers, both_ways};
use super::*;
use crate::net::proxy::ProvenPeer;
use crate::run::courier;
use crate::run::tests::Callers;

/// Whom the last of so many stands in for.
fn last(callers: &Callers, many: usize) -> Arc<crate::run::Caller> {
    let callers = callers.lock().unwrap();
    assert_eq!(callers.len(), many, "{callers:?}");
    callers.last().unwrap().clone().unwrap()
}

fn facts(method: &str) -> Option<ProvenPeer> {
    let (domain, method) = ("friend.example".to_owned(), method.to_owned());
    Some(ProvenPeer { domain, method, rule: "default".to_owned() })
}

// What couriers bring is that server's, as on the stream of its own: while it stands, and when it is no more.
#[tokio::test(start_paused = true)]
async fn a_courier_stands_in_for_whoever_has_sent_what_it_brings() {
    for stands in [true, false] {
        let transport = Scripted::default();
        let callers = transport.callers();
        let (first, mut second) = (transport.lay(600), transport.lay(ROOM));
        let tools = tools(transport);
        let (mut play, first) = both_ways(&tools, first).await;
        let own = last(&callers, 1);
        // What goes back keeps the stream open when its pair loses its leg.
        answers(&tools, 1).await;
        hear(&mut play.near, "r000000").await;
        for n in 0..20 {
            say(&mut play.near, &message(n)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let id = play.id;
        if !stands {
            drop(play.near);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(first);
        backend_takes(&mut second).await;
        hear(&mut second, "id='m000019'").await;
        let carried = last(&callers, 2);
        assert_eq!((&carried.facts, carried.from), (&facts("certificate"), Some([192, 0, 2, 7].into())));
        assert_eq!(carried.facts, own.facts);
        assert_eq!((&carried.name, carried.ends), (&id.to_string(), own.ends));
        assert!(carried.secured.is_some() && carried.secured == own.secured, "{carried:?}");
    }
}

// XEP-0288: what comes back over a stream that we have opened is from the address that was called, over that channel.
#[tokio::test(start_paused = true)]
async fn what_comes_back_over_our_own_stream_is_that_servers() {
    let transport = Scripted::default();
    let callers = transport.callers();
    let (mut remote, mut backend) = (transport.lay(ROOM), transport.lay(ROOM));
    let tools = tools(transport);
    let pair = Pair { sender: domain("hall.example"), target: domain("friend.example") };
    assert!(courier::send(&tools, &pair, outgoing("friend.example", 1).into()).is_ok());
    remote_takes_with(&mut remote, "friend.example", "<bidi xmlns='urn:xmpp:features:bidi'/>").await;
    hear(&mut remote, "id='m000001'").await;
    say(&mut remote, &message(2)).await;
    backend_takes(&mut backend).await;
    hear(&mut backend, "id='m000002'").await;
    let brought = last(&callers, 1);
    assert_eq!((&brought.facts, brought.from), (&facts("certificate"), Some([10, 0, 0, 5].into())));
    let ends = ("10.0.0.5:5269".parse().unwrap(), "10.0.0.1:4000".parse().unwrap());
    assert_eq!(brought.ends, Some(ends));
    // AUTHORITY is the name that was meant here, and not the one that we have sent.
    let secured = brought.secured.as_ref().unwrap();
    assert_eq!(secured.sni.as_deref(), Some("hall.example"));
    assert!(secured.certificate.is_some());
}

// "What the gateway opens of its own accord has no facts": a report is nobody's.
#[tokio::test(start_paused = true)]
async fn a_report_stands_in_for_nobody() {
    let transport = Scripted::default();
    let callers = transport.callers();
    let mut backend = transport.lay(ROOM);
    let tools = tools(transport);
    let pair = Pair { sender: domain("friend.example"), target: domain("hall.example") };
    let report = "<message from='a@friend.example' to='b@hall.example' type='error'/>";
    courier::report(&tools, &pair, domain("hall.example"), report.into(), true);
    backend_takes(&mut backend).await;
    hear(&mut backend, "type='error'").await;
    assert!(matches!(callers.lock().unwrap().as_slice(), [None]));
}
