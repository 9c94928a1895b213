//! What becomes of bounces to an address that has had as many as may go out at once.

use super::*;
use crate::run::tests::{Scripted, domain, tools};

fn bounce(n: usize) -> (Pair, Bytes) {
    let pair = Pair { sender: domain("hall.example"), target: domain("friend.example") };
    let stanza = format!("<message from='b@hall.example' to='a@friend.example/{n}' type='error'/>");
    (pair, stanza.into())
}

fn counted(tools: &Tools, line: &str) -> f64 {
    let text = tools.observe.metrics().text().unwrap();
    text.lines()
        .filter(|l| l.starts_with(line))
        .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

// LIM-09, DB-70: each is answered in its turn, for so long as that is worth it; who waits for that brings no more meanwhile. What
// is over that, because several streams bring as much for one address, is counted.
#[tokio::test(start_paused = true)]
async fn bounces_above_the_rate_go_out_in_their_turn() {
    let transport = Scripted::default();
    let _silent = transport.lay(1 << 20);
    let tools = tools(transport);
    let (pair, stanza) = bounce(0);
    while tools.peering.couriers.admits_bounce(&pair, &stanza).is_ok() {}
    let begun = now();
    let mut streams = [Bounces::default(), Bounces::default()];
    for n in 0..110 {
        let (pair, stanza) = bounce(n);
        assert_eq!(streams[n % 2].carry(&tools, pair, stanza), Ok(()));
    }
    assert!(streams.iter().all(|stream| stream.are_waiting() && stream.are_slowed()));
    let mut sent = Vec::new();
    std::future::poll_fn(|cx| {
        for stream in &mut streams {
            while let Poll::Ready(outcome) = stream.poll(&tools, cx) {
                assert_eq!(outcome, Ok(()));
                sent.push(now() - begun);
            }
        }
        if streams.iter().any(Bounces::are_waiting) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let took = now() - begun;
    assert!(took > Duration::from_millis(9_500) && took <= PATIENCE + Duration::from_secs(1), "{took:?}");
    assert!(sent.len() >= 95, "one after the other: {sent:?}");
    let dropped = counted(&tools, "gatehouse_stanzas_refused_total");
    assert!((8.0..=15.0).contains(&dropped), "ten a second for ten seconds, of 110: {dropped} had no answer");
    assert!(counted(&tools, "gatehouse_limited_total{limit=\"carried\"}") >= dropped);
    assert!(counted(&tools, "gatehouse_limited_seconds_total{limit=\"carried\"}") > 100.0);
}
