//! Stream management between servers (XEP-0198), as dialogues of the pure relay: what is counted, what goes out again, what
//! comes back, and what a peer that lies gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use crate::stage::*;
use gatehouse::reason::Reason;
use gatehouse::relay::{Effect, Event, FarId, Input, Left, Load, ManagementOutcome, RelayParams, Side};

const SM: &str = "urn:xmpp:sm:3";
const TARGET: &str = "friend.example";

fn stanza(id: &str) -> String {
    format!("<message id='{id}' from='b@hall.example' to='a@friend.example'><body>x</body></message>")
}

/// A courier of the backend on its way, whose next leg is this.
fn sent_out(relays: RelayParams) -> (Stage, FarId) {
    let stage = courier(relays, any(), "hall.example", TARGET, Load::Own);
    let far = stage.connects()[0].0;
    (stage, far)
}

/// The leg comes to its proof; the server offers stream management where asked.
fn proven(stage: &mut Stage, far: FarId, offers: bool) {
    stage.connected(far, Some(secured("", &[TARGET])));
    stage.hears(Side::Far(far), &answer("one", true));
    let sm = if offers { format!("<sm xmlns='{SM}'/>") } else { String::new() };
    let features =
        format!("<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>{sm}</stream:features>");
    stage.hears(Side::Far(far), &features);
    stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='valid'/>");
}

/// A courier whose peer counts, and lets sessions go on.
fn counted() -> (Stage, FarId) {
    let (mut stage, far) = sent_out(relays());
    proven(&mut stage, far, true);
    assert!(stage.said(Side::Far(far)).ends_with(&format!("<enable xmlns='{SM}' resume='true'/>")));
    stage.hears(Side::Far(far), &format!("<enabled xmlns='{SM}' id='s1' resume='true' max='60'/>"));
    (stage, far)
}

fn queue(stage: &mut Stage, id: &str) {
    stage.step(NEAR, Input::Queue(Load::Own, stanza(id).into()));
}

fn passed(stage: &mut Stage) -> Vec<String> {
    stage.passed().into_iter().map(|(_, text)| attribute(&text, "id")).collect()
}

/// The ids of what came back to the backend, in order.
fn returned(stage: &mut Stage) -> Vec<String> {
    let all = stage.reported().into_iter();
    all.map(|(_, text)| text.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned()).collect()
}

fn a(h: u32) -> String {
    format!("<a xmlns='{SM}' h='{h}'/>")
}

fn breaks(stage: &mut Stage, far: FarId, unsent: &[&str]) {
    let unsent = unsent.iter().map(|id| stanza(id).into()).collect();
    stage.step(Side::Far(far), Input::Gone { reason: Reason::ConnectionLost, unsent });
}

/// The leg that was asked for last.
fn last(stage: &Stage) -> FarId {
    stage.connects().last().unwrap().0
}

// SM-01: after a proof; stanzas wait until the count has begun, and each burst is asked about once.
#[test]
fn what_goes_out_is_counted_from_the_answer_on_and_asked_about() {
    let (mut stage, far) = sent_out(relays());
    queue(&mut stage, "1");
    proven(&mut stage, far, true);
    assert!(passed(&mut stage).is_empty(), "nothing goes before it is known how it counts");
    stage.hears(Side::Far(far), &format!("<enabled xmlns='{SM}' id='s1' resume='true'/>"));
    assert_eq!(passed(&mut stage), ["1"]);
    let ask = format!("<r xmlns='{SM}'/>");
    assert!(stage.said(Side::Far(far)).ends_with(&ask));
    queue(&mut stage, "2");
    queue(&mut stage, "3");
    assert_eq!(stage.said(Side::Far(far)), "", "one question is open");
    stage.hears(Side::Far(far), &a(1));
    assert_eq!(stage.said(Side::Far(far)), ask, "two were sent since");
    stage.hears(Side::Far(far), &a(3));
    assert_eq!(stage.said(Side::Far(far)), "");
    let kept = stage.relay.snapshot(None).pairs[0].managed.unwrap();
    assert!(kept.resumes && kept.unacknowledged == 0);
}

// A peer that offers nothing, says no, or says nothing at all: the pair stands as it always did.
#[test]
fn without_a_count_everything_is_as_before() {
    for word in [None, Some(format!("<failed xmlns='{SM}'/>")), Some(String::new())] {
        let (mut stage, far) = sent_out(relays());
        queue(&mut stage, "1");
        proven(&mut stage, far, word.is_some());
        if let Some(word) = &word {
            stage.hears(Side::Far(far), word);
            stage.wait(Duration::from_secs(11));
        }
        assert_eq!(passed(&mut stage), ["1"], "{word:?}");
        assert!(!stage.said(Side::Far(far)).contains("<r "));
        // An answer that comes too late changes nothing.
        if word.as_deref() == Some("") {
            stage.hears(Side::Far(far), &format!("<enabled xmlns='{SM}'/>"));
            assert_eq!(stage.said(Side::Far(far)), "");
        }
        breaks(&mut stage, far, &[]);
        assert!(stage.reported().is_empty());
    }
}

#[test]
fn no_peer_is_asked_where_the_operator_keeps_nothing() {
    let mut relays = relays();
    relays.limits.unacked_stanzas = 0;
    let (mut stage, far) = sent_out(relays);
    proven(&mut stage, far, true);
    assert!(!stage.said(Side::Far(far)).contains(SM));
}

// "resumes a broken stream within its time where the peer can, and then sends exactly once what was not acknowledged"
#[test]
fn a_broken_stream_goes_on_and_exactly_what_was_not_taken_goes_out_again() {
    for taken in 0..=4 {
        for unsent in [&[][..], &["4"], &["3", "4"]] {
            let (mut stage, far) = counted();
            ["1", "2", "3", "4"].iter().for_each(|id| queue(&mut stage, id));
            assert_eq!(passed(&mut stage), ["1", "2", "3", "4"]);
            stage.hears(Side::Far(far), &a(1));
            breaks(&mut stage, far, unsent);
            assert!(
                stage.has(|e| matches!(
                    e,
                    Effect::Note(Event::Managed { what: ManagementOutcome::Broken, .. })
                ))
            );
            let next = last(&stage);
            assert_ne!(next, far);
            queue(&mut stage, "5");
            proven(&mut stage, next, true);
            let resume = format!("<resume xmlns='{SM}' previd='s1' h='0'/>");
            assert!(stage.said(Side::Far(next)).ends_with(&resume));
            assert!(passed(&mut stage).is_empty());
            stage.hears(Side::Far(next), &format!("<resumed xmlns='{SM}' previd='s1' h='{taken}'/>"));
            if taken == 0 {
                // Less than it had acknowledged before.
                assert!(stage.reasons().contains(&Reason::Miscounted));
                continue;
            }
            let again: Vec<_> = (taken + 1..=5).map(|n: u32| n.to_string()).collect();
            assert_eq!(passed(&mut stage), again, "{taken} {unsent:?}");
            stage.hears(Side::Far(next), &a(5));
            breaks(&mut stage, next, &[]);
            assert!(stage.reported().is_empty() && stage.relay.is_done(), "{taken} {unsent:?}");
        }
    }
}

// "what cannot be resumed is bounced once and never sent again": the peer has not kept it.
#[test]
fn what_a_forgotten_session_held_comes_back_once_and_is_never_sent_again() {
    for told in [None, Some(2)] {
        let (mut stage, far) = counted();
        ["1", "2", "3"].iter().for_each(|id| queue(&mut stage, id));
        assert_eq!(passed(&mut stage).len(), 3);
        breaks(&mut stage, far, &["3"]);
        let next = last(&stage);
        proven(&mut stage, next, true);
        queue(&mut stage, "4");
        let h = told.map(|h: u32| format!(" h='{h}'")).unwrap_or_default();
        stage.hears(Side::Far(next), &format!("<failed xmlns='{SM}'{h}><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"));
        assert!(stage.said(Side::Far(next)).ends_with(&format!("<enable xmlns='{SM}' resume='true'/>")));
        stage.hears(Side::Far(next), &format!("<enabled xmlns='{SM}' id='s2' resume='true'/>"));
        let back: &[&str] = if told.is_some() { &["3"] } else { &["1", "2", "3"] };
        assert_eq!(returned(&mut stage), back);
        assert_eq!(passed(&mut stage), ["4"]);
        // And the new session goes its own way.
        stage.hears(Side::Far(next), &a(1));
        breaks(&mut stage, next, &[]);
        assert!(stage.reported().is_empty() && stage.relay.is_done());
    }
}

// A peer that counts and resumes nothing (Prosody): what never went out whole goes over another stream, the rest comes back.
#[test]
fn without_resumption_what_may_have_arrived_comes_back_and_the_rest_goes_on() {
    let (mut stage, far) = sent_out(relays());
    proven(&mut stage, far, true);
    // As Prosody writes it.
    stage.hears(Side::Far(far), &format!("<enabled xmlns='{SM}' resume='true'/>"));
    ["1", "2", "3"].iter().for_each(|id| queue(&mut stage, id));
    passed(&mut stage);
    stage.hears(Side::Far(far), &a(1));
    breaks(&mut stage, far, &["3"]);
    let reports = stage.reported();
    assert!(reports.len() == 1 && reports[0].1.contains(" id='2'"), "{reports:?}");
    assert!(reports[0].1.contains("nobody knows whether the other server got this"), "{reports:?}");
    let next = last(&stage);
    proven(&mut stage, next, true);
    stage.hears(Side::Far(next), &format!("<enabled xmlns='{SM}'/>"));
    assert_eq!(passed(&mut stage), ["3"]);
}

// The peer closes in good order, with or without a last word: what it had not taken then it will not take.
#[test]
fn a_closed_stream_is_not_gone_on_with() {
    for (last_word, back) in [(String::new(), &["1", "2"][..]), (a(1), &["2"]), (a(2), &[])] {
        for error in [
            "",
            "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        ] {
            let (mut stage, far) = counted();
            ["1", "2"].iter().for_each(|id| queue(&mut stage, id));
            passed(&mut stage);
            stage.hears(Side::Far(far), &format!("{last_word}{error}</stream:stream>"));
            assert!(stage.has(|e| matches!(e, Effect::Recall(..))));
            assert_eq!(returned(&mut stage), back, "{last_word} {error}");
            assert!(stage.relay.is_done());
            // What had stuck in the outbox is not told twice.
            stage.step(Side::Far(far), Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
            assert!(stage.reported().is_empty());
        }
    }
}

// We close: all is asked about before, and the answer counts until theirs is in.
#[test]
fn a_stream_that_we_close_is_asked_to_its_end() {
    for drain in [false, true] {
        let (mut stage, far) = counted();
        queue(&mut stage, "1");
        stage.hears(Side::Far(far), "");
        stage.said(Side::Far(far));
        queue(&mut stage, "2");
        if drain {
            stage.step(NEAR, Input::Drain);
            stage.wait(Duration::from_secs(2));
        } else {
            stage.step(NEAR, Input::Close(Reason::ClosedByOperator));
        }
        assert_eq!(stage.said(Side::Far(far)), format!("<r xmlns='{SM}'/></stream:stream>"));
        stage.hears(Side::Far(far), &a(1));
        assert!(!stage.relay.is_done() && stage.reported().is_empty());
        stage.hears(Side::Far(far), "</stream:stream>");
        assert_eq!(returned(&mut stage), ["2"]);
        assert!(stage.relay.is_done());
    }
}

// Time: nobody waits for ever, neither for an acknowledgement nor for a peer that does not come back.
#[test]
fn a_peer_that_acknowledges_nothing_is_taken_as_gone() {
    let (mut stage, far) = counted();
    queue(&mut stage, "1");
    passed(&mut stage);
    stage.wait(Duration::from_secs(61));
    let recalled = stage
        .effects
        .iter()
        .position(|e| matches!(e, Effect::Recall(side, _) if *side == Side::Far(far)))
        .unwrap();
    let cut =
        stage.effects.iter().position(|e| matches!(e, Effect::Cut(side) if *side == Side::Far(far))).unwrap();
    assert!(recalled < cut, "what the connection still holds is not given back besides");
    let next = last(&stage);
    proven(&mut stage, next, true);
    stage.hears(Side::Far(next), &format!("<resumed xmlns='{SM}' previd='s1' h='0'/>"));
    assert_eq!(passed(&mut stage), ["1"]);
}

#[test]
fn a_peer_that_does_not_come_back_in_time_has_what_it_held_returned() {
    let (mut stage, far) = counted();
    ["1", "2"].iter().for_each(|id| queue(&mut stage, id));
    passed(&mut stage);
    breaks(&mut stage, far, &["2"]);
    queue(&mut stage, "3");
    let (mut tried, mut waited) = (0, Duration::ZERO);
    while !stage.relay.is_done() && tried < 100 {
        assert!(stage.reported().is_empty());
        let next = last(&stage);
        stage.step(Side::Far(next), Input::Unreachable(Reason::RemoteUnreachable.into()));
        tried += 1;
        if !stage.relay.is_done() {
            stage.wait(Duration::from_secs(10));
            waited += Duration::from_secs(10);
        }
    }
    assert!(waited <= Duration::from_secs(60), "{waited:?}");
    // Sixty seconds were promised.
    assert!((4..12).contains(&tried), "{tried}");
    assert_eq!(returned(&mut stage), ["1", "2", "3"]);
}

// "the same proof and policy, judged anew"
#[test]
fn a_session_goes_on_only_with_a_peer_that_the_policy_still_takes() {
    let (mut stage, far) = counted();
    queue(&mut stage, "1");
    passed(&mut stage);
    breaks(&mut stage, far, &[]);
    let next = last(&stage);
    let none = policy(gatehouse::policy::Federation::None, "version: v1\nrules: []\n");
    stage.step(NEAR, Input::Policy(none));
    proven(&mut stage, next, true);
    assert!(passed(&mut stage).is_empty());
    assert_eq!(returned(&mut stage), ["1"]);
}

// Where the operator lets no session go on, what never went out whole takes another stream, as with a peer that cannot resume.
#[test]
fn where_no_time_is_given_no_session_goes_on() {
    let mut relays = relays();
    relays.timeouts.resume = Duration::ZERO;
    let (mut stage, far) = sent_out(relays);
    proven(&mut stage, far, true);
    stage.hears(Side::Far(far), &format!("<enabled xmlns='{SM}' id='s1' resume='true'/>"));
    ["1", "2"].iter().for_each(|id| queue(&mut stage, id));
    passed(&mut stage);
    breaks(&mut stage, far, &["2"]);
    assert_eq!(returned(&mut stage), ["1"]);
    let next = last(&stage);
    proven(&mut stage, next, true);
    assert!(!stage.said(Side::Far(next)).contains("<resume "));
}

// A drain gives a broken session no more time.
#[test]
fn a_drain_returns_what_a_broken_session_holds() {
    let (mut stage, far) = counted();
    queue(&mut stage, "1");
    passed(&mut stage);
    breaks(&mut stage, far, &[]);
    stage.step(NEAR, Input::Drain);
    assert_eq!(returned(&mut stage), ["1"]);
}

// Law `bounded`: what is not acknowledged has a ceiling, and what comes beyond it waits.
#[test]
fn what_is_not_acknowledged_has_a_ceiling() {
    let mut relays = relays();
    relays.limits.unacked_stanzas = 2;
    let (mut stage, far) = sent_out(relays);
    proven(&mut stage, far, true);
    stage.hears(Side::Far(far), &format!("<enabled xmlns='{SM}' id='s1' resume='true'/>"));
    ["1", "2", "3", "4"].iter().for_each(|id| queue(&mut stage, id));
    assert_eq!(passed(&mut stage), ["1", "2"]);
    assert_eq!(stage.relay.queued().1, 2);
    stage.hears(Side::Far(far), &a(1));
    assert_eq!(passed(&mut stage), ["3"]);
    stage.hears(Side::Far(far), &a(3));
    assert_eq!(passed(&mut stage), ["4"]);
    assert_eq!(stage.relay.queued().1, 0);
}

// A peer that lies: it acknowledges what was never sent, or less than before, answers with another session, or says things out of
// their place.
#[test]
fn a_peer_that_counts_wrongly_ends_its_stream() {
    for word in [
        a(2),
        a(u32::MAX),
        format!("<a xmlns='{SM}'/>"),
        format!("<enabled xmlns='{SM}'/>"),
        format!("<resume xmlns='{SM}' previd='x' h='0'/>"),
    ] {
        let (mut stage, far) = counted();
        queue(&mut stage, "1");
        passed(&mut stage);
        stage.said(Side::Far(far));
        stage.hears(Side::Far(far), &word);
        let said = stage.said(Side::Far(far));
        assert!(said.contains("<stream:error>") && said.ends_with("</stream:stream>"), "{word}: {said}");
        assert_eq!(returned(&mut stage), ["1"], "{word}");
    }
    let (mut stage, far) = counted();
    queue(&mut stage, "1");
    passed(&mut stage);
    breaks(&mut stage, far, &[]);
    let next = last(&stage);
    proven(&mut stage, next, true);
    stage.hears(Side::Far(next), &format!("<resumed xmlns='{SM}' previd='another' h='1'/>"));
    assert!(passed(&mut stage).is_empty());
}

// -- peers that call us

/// A stream of the friend on which its pair stands, and the leg to the backend.
fn called() -> (Stage, FarId) {
    let mut stage = inbound(relays(), any(), TARGET, &[]);
    let features = stage.said(NEAR);
    assert!(features.contains(&format!("<sm xmlns='{SM}'><optional/></sm>")), "{features}");
    let far = admit(&mut stage, TARGET, "hall.example");
    stage.said(NEAR);
    (stage, far)
}

/// The same, and it is counted under this name.
fn enlisted() -> (Stage, FarId, String) {
    let (mut stage, far) = called();
    stage.hears(NEAR, &format!("<enable xmlns='{SM}' resume='true'/>"));
    let said = stage.said(NEAR);
    assert!(said.starts_with("<enabled ") && said.ends_with(" resume='true' max='120'/>"), "{said}");
    let id = attribute(&said, "id");
    let named =
        |e: &Effect| matches!(e, Effect::Enlist(Some((of, owner))) if *of == id && owner.as_str() == TARGET);
    assert!(id.len() >= 22 && stage.has(named));
    (stage, far, id)
}

fn message(id: &str) -> String {
    format!("<message id='{id}' from='a@friend.example' to='b@hall.example'><body>x</body></message>")
}

/// What is asked to be settled, in order.
fn settles(stage: &mut Stage) -> Vec<u32> {
    let mut all = Vec::new();
    stage.effects.retain(|effect| match effect {
        Effect::Settle(count) => {
            all.push(*count);
            false
        }
        _ => true,
    });
    all
}

/// How the stream was left, if it was.
fn left(stage: &Stage) -> Option<Option<u32>> {
    stage.effects.iter().find_map(|effect| match effect {
        Effect::Leave(left) => Some(left.map(|left| left.taken)),
        _ => None,
    })
}

// SM-01: "answer `<r/>` with counts of what the back-end has taken", "a refused stanza counts as handled".
#[test]
fn a_count_is_told_when_what_came_is_taken_behind() {
    let (mut stage, _, _) = enlisted();
    let ask = format!("<r xmlns='{SM}'/>");
    stage.hears(NEAR, &ask);
    assert_eq!(stage.said(NEAR), a(0), "nothing came");
    // One that passes, one for a domain that nobody has here, one that the framer refuses.
    stage.hears(NEAR, &message("1"));
    stage.hears(NEAR, "<message from='a@friend.example' to='not an address@hall.example'/>");
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'><\u{e9}/></message>");
    stage.hears(NEAR, &ask);
    assert_eq!((stage.said(NEAR).as_str(), settles(&mut stage)), ("", vec![3]));
    stage.hears(NEAR, &message("2"));
    stage.step(NEAR, Input::Settled(3));
    assert_eq!(stage.said(NEAR), a(3));
    stage.hears(NEAR, &ask);
    assert_eq!(settles(&mut stage), [4]);
    // A server behind that takes nothing: the peer hears what is known.
    stage.wait(Duration::from_secs(11));
    assert_eq!(stage.said(NEAR), a(3));
    assert_eq!(stage.relay.snapshot(None).pairs[0].managed.unwrap().unacknowledged, 1);
}

// "enable before proof", "enable twice": refused, and the stream goes on.
#[test]
fn counting_is_for_those_who_are_proven_and_is_asked_for_once() {
    let mut stage = inbound(relays(), any(), TARGET, &[]);
    stage.said(NEAR);
    let refused = format!(
        "<failed xmlns='{SM}'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    for word in ["<enable xmlns='urn:xmpp:sm:3'/>", "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"] {
        stage.hears(NEAR, word);
        assert_eq!(stage.said(NEAR), refused, "{word}");
        assert!(!stage.has(|e| matches!(e, Effect::Enlist(_) | Effect::Resume(..))));
    }
    admit(&mut stage, TARGET, "hall.example");
    stage.said(NEAR);
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(
        stage.said(NEAR),
        format!("<enabled xmlns='{SM}'/>"),
        "without a wish to go on there is no name"
    );
    for word in
        ["<enable xmlns='urn:xmpp:sm:3' resume='1'/>", "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"]
    {
        stage.hears(NEAR, word);
        assert_eq!(stage.said(NEAR), refused, "{word}");
    }
    stage.hears(NEAR, &message("1"));
    assert_eq!(stage.passed().len(), 1);
}

// Table 0.3: words out of their place, and counts of what was never sent.
#[test]
fn a_peer_that_talks_of_counts_out_of_place_ends_its_stream() {
    for counts in [false, true] {
        for (word, error) in [
            ("<r xmlns='urn:xmpp:sm:3'/>", (!counts).then_some("unsupported-stanza-type")),
            ("<a xmlns='urn:xmpp:sm:3' h='0'/>", (!counts).then_some("unsupported-stanza-type")),
            ("<a xmlns='urn:xmpp:sm:3' h='1'/>", Some("undefined-condition")),
            ("<enabled xmlns='urn:xmpp:sm:3'/>", Some("unsupported-stanza-type")),
            ("<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>", Some("unsupported-stanza-type")),
            ("<failed xmlns='urn:xmpp:sm:3'/>", Some("unsupported-stanza-type")),
            ("<a xmlns='urn:xmpp:sm:3' h='x'/>", Some("unsupported-stanza-type")),
        ] {
            let mut stage = if counts { enlisted().0 } else { called().0 };
            stage.hears(NEAR, word);
            let said = stage.said(NEAR);
            assert_eq!(said.contains("<stream:error>"), error.is_some(), "{counts} {word}: {said}");
            assert!(error.is_none_or(|error| said.contains(error)), "{counts} {word}: {said}");
        }
    }
}

// "a broken connection keeps its session for its time": all that came counts then, for it is delivered or sent back.
#[test]
fn a_broken_stream_leaves_its_count_and_a_closed_one_nothing() {
    let (mut stage, _, _) = enlisted();
    stage.hears(NEAR, &message("1"));
    stage.step(NEAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert_eq!(left(&stage), Some(Some(1)));
    for word in [
        "</stream:stream>",
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
    ] {
        let (mut stage, _, _) = enlisted();
        stage.hears(NEAR, &message("1"));
        stage.hears(NEAR, word);
        let said = stage.said(NEAR);
        assert!(said.starts_with(&a(1)) && said.ends_with("</stream:stream>"), "{said}");
        assert_eq!(left(&stage), Some(None));
    }
    // Nobody who asks for no session has one.
    let (mut stage, _) = called();
    stage.hears(NEAR, &format!("<enable xmlns='{SM}'/>"));
    stage.step(NEAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert_eq!(left(&stage), Some(None));
}

// We close: the last count goes before, and what comes behind it is not taken, for the peer has it returned.
#[test]
fn behind_the_last_count_nothing_is_taken() {
    for drain in [true, false] {
        let (mut stage, _, _) = enlisted();
        stage.hears(NEAR, &message("1"));
        assert_eq!(stage.passed().len(), 1);
        stage.step(NEAR, if drain { Input::Drain } else { Input::Close(Reason::ClosedByOperator) });
        let said = stage.said(NEAR);
        assert!(said.starts_with(&a(1)) && said.ends_with("</stream:stream>"), "{said}");
        stage.hears(NEAR, &message("2"));
        assert!(stage.passed().is_empty() && stage.carried().is_empty());
        assert!(stage.reasons().contains(&Reason::Unacknowledged));
    }
}

// "`resume` from the same proven domain only": whose it is is asked for those who stand, and nothing is read meanwhile.
#[test]
fn a_session_goes_on_where_its_own_domain_stands() {
    let resume = format!("<resume xmlns='{SM}' previd='s1' h='0'/>");
    let asks = |stage: &Stage| {
        stage.has(|e| matches!(e, Effect::Resume(id, 0, askers) if id == "s1" && *askers == [domain(TARGET)]))
    };
    let (mut stage, _) = called();
    stage.hears(NEAR, &(resume.clone() + &message("8")));
    assert!(asks(&stage) && !stage.relay.wants_read(NEAR) && stage.passed().is_empty());
    stage.step(NEAR, Input::Resumed(Some((Left::taken(7), domain(TARGET)))));
    assert_eq!(stage.said(NEAR), format!("<resumed xmlns='{SM}' previd='s1' h='7'/>"));
    assert!(stage.has(|e| matches!(e, Effect::Enlist(Some((id, _))) if id == "s1")));
    stage.hears(NEAR, &format!("<r xmlns='{SM}'/>"));
    assert_eq!(stage.passed().len(), 1);
    assert_eq!(settles(&mut stage), [8]);

    let gone = format!(
        "<failed xmlns='{SM}'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    for late in [false, true] {
        let (mut stage, _) = called();
        stage.hears(NEAR, &resume);
        match late {
            true => stage.wait(Duration::from_secs(11)),
            false => stage.step(NEAR, Input::Resumed(None)),
        }
        assert_eq!(stage.said(NEAR), gone);
        stage.hears(NEAR, &format!("<enable xmlns='{SM}'/>"));
        assert_eq!(stage.said(NEAR), format!("<enabled xmlns='{SM}'/>"));
        // An answer that comes too late names nobody.
        stage.step(NEAR, Input::Resumed(Some((Left::taken(7), domain(TARGET)))));
        assert_eq!(stage.said(NEAR), "");
    }
    // Of what went back it cannot have taken more than went, nor less than it has told.
    for (h, left, good) in [
        (1, Left::taken(7), false),
        (6, Left { taken: 7, sent: 5, open: 2 }, false),
        (2, Left { taken: 7, sent: 5, open: 2 }, false),
        (3, Left { taken: 7, sent: 5, open: 2 }, true),
        (5, Left { taken: 7, sent: 5, open: 2 }, true),
        (u32::MAX, Left { taken: 7, sent: 0, open: 1 }, true),
    ] {
        let (mut stage, _) = called();
        stage.hears(NEAR, &format!("<resume xmlns='{SM}' previd='s1' h='{h}'/>"));
        stage.step(NEAR, Input::Resumed(Some((left, domain(TARGET)))));
        let said = stage.said(NEAR);
        let expected = if good { "<resumed " } else { "<undefined-condition " };
        assert!(said.contains(expected), "{h} {left:?}: {said}");
    }
}

// The count ends with the stream that it was of, and the count across the end of its numbers is no other.
#[test]
fn a_stream_that_begins_anew_is_counted_anew() {
    let (mut stage, _) = called();
    stage.hears(NEAR, &format!("<resume xmlns='{SM}' previd='s1' h='0'/>"));
    stage.step(NEAR, Input::Resumed(Some((Left::taken(u32::MAX), domain(TARGET)))));
    stage.said(NEAR);
    stage.hears(NEAR, &(message("1") + &format!("<r xmlns='{SM}'/>")));
    assert_eq!(settles(&mut stage), [0]);
    stage.step(NEAR, Input::Settled(0));
    assert_eq!(stage.said(NEAR), a(0));
}

#[test]
fn where_no_session_is_kept_none_is_promised() {
    for times in [true, false] {
        let mut relays = relays();
        match times {
            true => relays.timeouts.resume = Duration::ZERO,
            false => relays.limits.sessions = 0,
        }
        let mut stage = inbound(relays, any(), TARGET, &[]);
        admit(&mut stage, TARGET, "hall.example");
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<enable xmlns='{SM}' resume='true'/>"));
        assert_eq!(stage.said(NEAR), format!("<enabled xmlns='{SM}'/>"));
    }
}
