//! What is told of streams and their pairs: once, with its true reason, and with who it was.

use super::*;
use crate::policy::{Bans, Day, Federation, HostedSource, Place, Policy, Sources, build};
use crate::run::audit::{self, Audit};
use crate::run::observe::Observe;
use crate::run::refusals::{RefusalQuery, RefusalRecord};
use crate::run::tests::domain;

fn all(tools: &Tools) -> Vec<RefusalRecord> {
    tools.observe.refusals().list(&RefusalQuery::default())
}

/// A policy that has never heard of `hall.example`.
fn of_others() -> Policy {
    let (domain, place) = (domain("annex.example"), Place::whole("test"));
    let hosted = vec![HostedSource { domain, federation: Federation::Any, sources: Vec::new(), place }];
    let today = Day::parse("2027-01-01").unwrap();
    build(&Sources { hosted, sources: Vec::new(), today, digest: "others".to_owned() }).0.unwrap()
}

// A ban or a reload that ends a living pair: what still comes is one refusal, whose repeats are counted in the list alone; each record of
// the pair says who it was and why; and nothing is told of the answers that the gateway itself writes.
#[tokio::test(start_paused = true)]
async fn what_comes_for_a_pair_that_was_taken_back_is_told_once() {
    let banned = Bans { networks: Vec::new(), domains: vec![domain("friend.example")] };
    let network = Bans { networks: vec!["192.0.2.0/24".parse().unwrap()], domains: Vec::new() };
    let before = crate::run::tests::policy();
    let table: [(Policy, &str); 4] = [
        (before.with_bans(banned), "banned"),
        (before.with_bans(network), "banned"),
        (federating(Federation::Listed).on(before.today()), "policy-changed"),
        (of_others(), "host-gone"),
    ];
    for (policy, reason) in table {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let transport = Scripted::default();
        let backend = transport.lay(ROOM);
        let mut tools = tools(transport);
        let metrics = Arc::clone(tools.observe.metrics());
        let params = audit::Params { file: path.clone(), refuse: false, rotate_at: None };
        let audit = Audit::open(params, Arc::clone(&metrics)).unwrap();
        Arc::get_mut(&mut tools).unwrap().observe = Arc::new(Observe::new(metrics, Some(audit), now()));
        let (mut play, mut backend) = friend_at(&tools, backend).await;
        say(&mut play.near, &message(0)).await;
        hear(&mut backend, "</message>").await;
        tools.registry.publish(Arc::new(policy));
        hear(&mut play.near, "</stream:stream>").await;
        for n in 1..=3 {
            say(&mut play.near, &message(n)).await;
        }
        say(&mut play.near, "</stream:stream>").await;
        play.task.await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let found = all(&tools);
        assert_eq!(found.len(), 1, "{reason}: {found:#?}");
        let (entry, peer) = (&found[0], Some("192.0.2.7:4000"));
        assert_eq!((entry.what.as_str(), entry.reason.as_str(), entry.times), ("stanza", reason, 3));
        assert_eq!((entry.from.as_deref(), entry.peer.as_deref()), (Some("friend.example"), peer));
        assert!(entry.rule.is_some(), "{entry:#?}");
        tools.observe.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        let records: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records: Vec<_> = records.iter().filter(|record| record["flow"].is_string()).collect();
        let told: Vec<_> = records.iter().map(|record| (&record["event"], &record["reason"])).collect();
        let expected = [("admitted", "allowed"), ("refused", reason), ("ended", reason)]
            .map(|(a, b)| (a.into(), b.into()));
        assert_eq!(told, expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>(), "{text}");
        for record in records {
            assert_eq!(record["pair"], "friend.example>hall.example", "{record}");
            assert_eq!(
                (&record["peer"], &record["tls"]),
                (&"192.0.2.7:4000".into(), &"1.3".into()),
                "{record}"
            );
            assert_eq!(record["proof"], "certificate", "{record}");
            assert_eq!(record["fingerprint"], "ab".repeat(32), "{record}");
        }
    }
}

// Whose name was asked for, and who asked: by the header, which is all that there is of such a stream, and by a claim.
#[tokio::test(start_paused = true)]
async fn a_stream_that_never_comes_to_a_pair_is_told_with_the_names_that_it_bore() {
    let (friend, nobody, hall) = (Some("friend.example"), Some("nobody.example"), Some("hall.example"));
    let table = [
        (Flow::S2sIn, "from='friend.example' to='nobody.example'", "host-unknown", (friend, nobody)),
        (Flow::S2sIn, "from='Friend.Example' to='NOBODY.example'", "host-unknown", (friend, nobody)),
        (Flow::S2sIn, "to='nobody.example'", "host-unknown", (None, nobody)),
        (Flow::S2sIn, "from='friend.example' to='no body'", "host-unknown", (friend, None)),
        (Flow::S2sIn, "from='friend.example'", "host-unknown", (friend, None)),
        (Flow::S2sIn, "from='hall.example' to='hall.example'", "home-claimed", (hall, hall)),
        (Flow::C2s, "to='nobody.example'", "host-unknown", (None, nobody)),
    ];
    for (flow, names, reason, (from, to)) in table {
        let tools = tools(Scripted::default());
        let mut play = arrive(&tools, flow, Some(secured("friend.example")));
        let head = if flow == Flow::C2s {
            HEAD.replace("jabber:server'", "jabber:client'")
        } else {
            HEAD.to_owned()
        };
        say(&mut play.near, &format!("{head} {names} version='1.0'>")).await;
        hear(&mut play.near, "</stream:stream>").await;
        for domain in [from, to].into_iter().flatten() {
            let domain = Some(domain.to_owned());
            let found = tools.observe.refusals().list(&RefusalQuery { domain, ..RefusalQuery::default() });
            assert_eq!(found.len(), 1, "{names}: {:#?}", all(&tools));
        }
        let entry = &all(&tools)[0];
        assert_eq!((entry.what.as_str(), entry.reason.as_str()), ("stream", reason), "{names}");
        assert_eq!((entry.from.as_deref(), entry.to.as_deref()), (from, to), "{names}");
    }
}

/// `friend.example`, whom no rule names, is on its way to `hall.example`.
async fn an_unlisted_peer() -> Play {
    let tools = tools(Scripted::default());
    tools.registry.publish(federating(Federation::Listed));
    let mut play = arrive(&tools, Flow::S2sIn, Some(secured("friend.example")));
    say(&mut play.near, &format!("{HEAD} from='friend.example' to='hall.example' version='1.0'>")).await;
    hear(&mut play.near, "</stream:features>").await;
    play
}

async fn claims(play: &mut Play) {
    say(&mut play.near, "<db:result from='friend.example' to='hall.example'>key</db:result>").await;
    hear(&mut play.near, "</db:result>").await;
}

fn denied(tools: &Tools) -> u64 {
    let text = tools.observe.metrics().text().unwrap();
    let lines = text.lines().filter(|line| {
        line.starts_with("gatehouse_policy_verdicts_total{") && line.contains("outcome=\"deny\"")
    });
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

// A pair that is offered nothing is refused, whether it ever asks or not; that it asks then is no second refusal.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_refused_is_counted_once() {
    let mut play = an_unlisted_peer().await;
    for times in [1, 1, 2, 3] {
        let found = all(&play.tools);
        assert_eq!(found.iter().map(|entry| entry.times).collect::<Vec<_>>(), [times], "{found:#?}");
        assert_eq!(denied(&play.tools), times);
        claims(&mut play).await;
    }
}

// What ends a stream is told, whatever was refused on it before, unless it follows from that.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_is_held_back_only_where_it_follows_from_a_refusal() {
    let error = "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for (last, told) in [
        ("<nonsense/>", Some("unsupported-stanza-type")),
        ("<a></b>", Some("not-well-formed")),
        (error, None),
        // Nothing more comes, and its time runs out.
        ("", None),
    ] {
        let mut play = an_unlisted_peer().await;
        claims(&mut play).await;
        say(&mut play.near, last).await;
        hear(&mut play.near, "</stream:stream>").await;
        let found = all(&play.tools);
        let ends: Vec<_> = found.iter().filter(|e| e.what == "stream").map(|e| e.reason.as_str()).collect();
        assert_eq!(ends, told.into_iter().collect::<Vec<_>>(), "{last}: {found:#?}");
    }
    // The stream of a server behind, which carries all its users: a stanza of one of them was refused long ago.
    let tools = tools(Scripted::default());
    tools.registry.publish(federating(Federation::Listed));
    let mut play = arrive(&tools, Flow::S2sOut, None);
    say(&mut play.near, &format!("{HEAD} from='hall.example' to='friend.example' version='1.0'>")).await;
    say(&mut play.near, "<message from='j@hall.example' to='a@friend.example'/>").await;
    hear(&mut play.near, "</stream:features>").await;
    say(&mut play.near, "<a></b>").await;
    hear(&mut play.near, "</stream:stream>").await;
    let reasons: Vec<String> = all(&tools).into_iter().map(|entry| entry.reason).collect();
    assert_eq!(reasons, ["not-listed", "not-well-formed"]);
}
