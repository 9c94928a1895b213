use super::*;

fn circuits() -> Arc<Circuits> {
    Circuits::new(Params::default(), Arc::new(Metrics::new([]).unwrap()))
}

fn friend() -> Domain {
    Domain::parse("friend.example").unwrap()
}

fn hall() -> Domain {
    Domain::parse("hall.example").unwrap()
}

async fn enter(circuits: &Arc<Circuits>, domain: &Domain) -> Result<Option<Attempt>, Reason> {
    circuits.enter(domain, &hall(), Behalf::Own).await
}

/// Fails once it may be tried again; the pause until it may be tried without a demand.
async fn fail(circuits: &Arc<Circuits>, domain: &Domain) -> Duration {
    tokio::time::advance(circuits.params.spacing).await;
    if let Ok(Some(attempt)) = enter(circuits, domain).await {
        attempt.end(Err(Reason::RemoteUnreachable));
    }
    circuits.failed(domain, None, Reason::RemoteUnreachable);
    circuits.state(domain, None).unwrap().until - now()
}

// CLS-07: "first retry after a random 0–60 s, then growing back-off".
#[tokio::test(start_paused = true)]
async fn the_first_pause_is_random_and_the_next_ones_grow_to_their_limit() {
    let mut first = Vec::new();
    for n in 0..20 {
        first.push(fail(&circuits(), &Domain::parse(&format!("d{n}.example")).unwrap()).await);
    }
    assert!(first.iter().all(|pause| *pause > Duration::ZERO && *pause <= Duration::from_secs(60)));
    first.sort();
    first.dedup();
    assert!(first.len() > 10, "{first:?}");
    let circuits = circuits();
    let mut pauses = Vec::new();
    for _ in 0..30 {
        pauses.push(fail(&circuits, &friend()).await);
    }
    for (n, least) in [(1, 60), (2, 120), (3, 240), (4, 300), (29, 300)] {
        let least = Duration::from_secs(least);
        assert!(pauses[n] >= least && pauses[n] <= least * 2, "{n}: {:?}", pauses[n]);
    }
}

// CLS-07: "the random 0–60 s is for retries that nothing but time suggests".
#[tokio::test(start_paused = true)]
async fn a_demand_waits_for_a_moment_and_what_has_none_for_the_whole_pause() {
    let circuits = circuits();
    for _ in 0..5 {
        fail(&circuits, &friend()).await;
    }
    let (to, from) = (friend(), hall());
    let carried = || circuits.enter(&to, &from, Behalf::Carried);
    assert_eq!(enter(&circuits, &friend()).await.err(), Some(Reason::RemoteUnreachable));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(carried().await.err(), Some(Reason::RemoteUnreachable));
    assert!(enter(&circuits, &friend()).await.unwrap().is_some());
    circuits.failed(&friend(), None, Reason::RemoteUnreachable);
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(carried().await.unwrap().is_some());
}

// "So that each queued stanza does not start its own attempt": however many want it, one attempt in a moment.
#[tokio::test(start_paused = true)]
async fn while_half_open_one_attempt_is_made_at_a_time_and_in_a_moment() {
    let circuits = circuits();
    for _ in 0..3 {
        fail(&circuits, &friend()).await;
    }
    let mut attempts = 0;
    for _ in 0..100 {
        tokio::time::advance(Duration::from_millis(100)).await;
        if let Ok(Some(attempt)) = enter(&circuits, &friend()).await {
            assert!(circuits.metrics.text().unwrap().contains("gatehouse_circuits{state=\"half-open\"} 1"));
            attempts += 1;
            circuits.failed(&friend(), None, Reason::DnsFailed);
            attempt.end(Err(Reason::DnsFailed));
        }
    }
    assert!((9..=11).contains(&attempts), "{attempts}");
    let seen = circuits.state(&friend(), None).unwrap();
    assert_eq!(
        (seen.failures, seen.untried, seen.reason),
        (3 + attempts, 100 - u64::from(attempts), Reason::DnsFailed)
    );
}

// CLS-07: "forgotten when the domain shows itself alive: a stream it proved .. is a reason to try at once, once".
#[tokio::test(start_paused = true)]
async fn a_sign_of_life_is_a_reason_to_try_at_once_and_once() {
    for behalf in [Behalf::Own, Behalf::Carried] {
        let circuits = circuits();
        circuits.failed(&friend(), Some(&hall()), Reason::TlsFailed);
        for _ in 0..9 {
            fail(&circuits, &friend()).await;
        }
        let (to, from) = (friend(), hall());
        let again = || circuits.enter(&to, &from, behalf);
        assert!(again().await.is_err());
        circuits.alive(&Domain::parse("cousin.example").unwrap());
        assert!(again().await.is_err(), "another's life says nothing");
        circuits.alive(&friend());
        let attempt = again().await.unwrap().unwrap();
        circuits.failed(&friend(), None, Reason::RemoteUnreachable);
        attempt.end(Err(Reason::RemoteUnreachable));
        assert_eq!(again().await.err(), Some(Reason::RemoteUnreachable), "once, {behalf:?}");
    }
}

// LIM-06: "nothing that an unproven peer causes .. is remembered against a domain for our own users"; the questions of unproven peers
// wait for one another, and none is refused for the failure of another.
#[tokio::test(start_paused = true)]
async fn what_unproven_peers_try_in_vain_is_held_against_nobody_and_a_question_waits() {
    let circuits = circuits();
    for _ in 0..100 {
        circuits.failed_claim(&friend());
    }
    assert_eq!(circuits.state(&friend(), None), None);
    assert!(enter(&circuits, &friend()).await.unwrap().is_some());
    let begun = now();
    assert!(circuits.enter(&friend(), &hall(), Behalf::Claim).await.unwrap().is_some());
    assert_eq!(now() - begun, Duration::from_secs(1));
    for _ in 0..9 {
        fail(&circuits, &friend()).await;
    }
    let begun = now();
    assert!(
        circuits.enter(&friend(), &hall(), Behalf::Claim).await.is_ok(),
        "nor is ours held against a question"
    );
    assert_eq!(now() - begun, Duration::ZERO);
}

// "An operator can see and clear it."
#[tokio::test(start_paused = true)]
async fn an_operator_sees_what_is_held_against_whom_and_clears_it() {
    let circuits = circuits();
    let cousin = Domain::parse("cousin.example").unwrap();
    circuits.failed(&friend(), Some(&hall()), Reason::TlsFailed);
    let begun = now();
    for _ in 0..3 {
        fail(&circuits, &cousin).await;
    }
    let all = circuits.snapshot();
    let seen: Vec<_> = all
        .iter()
        .map(|c| {
            (
                c.domain.as_str(),
                c.hosted.as_ref().map(Domain::as_str),
                c.failed.failures,
                c.failed.reason,
                c.failed.open,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("cousin.example", None, 3, Reason::RemoteUnreachable, true),
            ("friend.example", Some("hall.example"), 1, Reason::TlsFailed, false)
        ]
    );
    assert_eq!(all[0].failed.since, begun + Duration::from_secs(1));
    let shown = || circuits.metrics.text().unwrap();
    assert!(shown().contains("gatehouse_circuits{state=\"failing\"} 1"), "{}", shown());
    assert!(shown().contains("gatehouse_circuits{state=\"open\"} 1"), "{}", shown());
    assert!(circuits.clear(&cousin));
    assert!(!circuits.clear(&cousin));
    assert!(enter(&circuits, &cousin).await.unwrap().is_some());
    assert!(circuits.clear(&friend()) && circuits.snapshot().is_empty());
    for state in CircuitState::ALL {
        assert!(shown().contains(&format!("gatehouse_circuits{{state=\"{}\"}} 0", state.label())));
    }
}

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_at_its_number_and_closes_with_the_first_answer() {
    let circuits = circuits();
    for n in 1..=4 {
        fail(&circuits, &friend()).await;
        assert_eq!(circuits.state(&friend(), None).unwrap().open, n >= 3, "{n}");
    }
    let shown = || circuits.metrics.text().unwrap();
    assert!(shown().contains("gatehouse_circuits_open 1"));
    assert_eq!(enter(&circuits, &friend()).await.err(), Some(Reason::RemoteUnreachable));
    assert!(shown().contains("gatehouse_limited_total{limit=\"circuit\"} 1"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(enter(&circuits, &friend()).await.is_ok());
    circuits.answered(&friend(), None);
    assert!(shown().contains("gatehouse_circuits_open 0"));
    assert_eq!(circuits.state(&friend(), None), None, "the next failure is the first");
}

// "So that each queued stanza does not start its own attempt": what began together is one failure, not as many as waited.
#[tokio::test(start_paused = true)]
async fn attempts_under_way_at_one_time_fail_once() {
    let circuits = circuits();
    for _ in 0..10 {
        circuits.failed(&friend(), Some(&hall()), Reason::TlsFailed);
    }
    let failed = circuits.state(&friend(), Some(&hall())).unwrap();
    assert_eq!((failed.failures, failed.reason, failed.open), (1, Reason::TlsFailed, false));
}

// What our own certificate may have caused does not keep another hosted domain from the server, nor keep the server
// from being asked about a key.
#[tokio::test(start_paused = true)]
async fn what_one_pair_meets_is_held_against_that_pair_alone() {
    let (circuits, annex) = (circuits(), Domain::parse("annex.example").unwrap());
    circuits.failed(&friend(), Some(&hall()), Reason::TlsFailed);
    let own = circuits.enter(&friend(), &hall(), Behalf::Own).await;
    assert_eq!(own.err(), Some(Reason::TlsFailed));
    assert_eq!(circuits.enter(&friend(), &hall(), Behalf::Carried).await.err(), Some(Reason::TlsFailed));
    assert!(circuits.enter(&friend(), &annex, Behalf::Own).await.is_ok());
    assert!(circuits.enter(&friend(), &hall(), Behalf::Claim).await.is_ok());
    // That nobody takes a connection is told to all.
    circuits.failed(&friend(), None, Reason::RemoteUnreachable);
    assert_eq!(circuits.enter(&friend(), &annex, Behalf::Own).await.err(), Some(Reason::RemoteUnreachable));
    circuits.answered(&friend(), None);
    assert!(circuits.enter(&friend(), &annex, Behalf::Own).await.is_ok());
    let own = circuits.state(&friend(), Some(&hall()));
    assert_eq!(own.map(|failed| failed.reason), Some(Reason::TlsFailed), "a connection is no stream");
    circuits.answered(&friend(), Some(&hall()));
    assert!(circuits.enter(&friend(), &hall(), Behalf::Own).await.is_ok());
    assert!(held(&circuits.failed).is_empty());
}

#[tokio::test(start_paused = true)]
async fn new_certificates_are_tried_at_once_and_no_dead_server_is() {
    let circuits = circuits();
    circuits.failed(&friend(), Some(&hall()), Reason::CertificateUntrusted);
    let cousin = Domain::parse("cousin.example").unwrap();
    circuits.failed(&cousin, None, Reason::RemoteUnreachable);
    circuits.renewed();
    assert!(enter(&circuits, &friend()).await.is_ok());
    assert!(enter(&circuits, &cousin).await.is_err());
}

// What unproven peers ask for may wait for long; who has something to say does not wait behind it.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_attempt_of_another_kind() {
    let circuits = circuits();
    let claim = circuits.enter(&friend(), &hall(), Behalf::Claim).await.unwrap();
    assert!(claim.is_some());
    assert!(circuits.enter(&friend(), &hall(), Behalf::Own).await.unwrap().is_some());
}

// "So that each queued stanza does not start its own attempt."
#[tokio::test(start_paused = true)]
async fn one_attempt_is_made_for_all_who_wait() {
    for (outcome, others) in [(Ok(()), 9), (Err(Reason::RemoteUnreachable), 0)] {
        let circuits = circuits();
        let attempt = enter(&circuits, &friend()).await.unwrap().unwrap();
        let waiting: Vec<_> = (0..9)
            .map(|_| {
                let circuits = Arc::clone(&circuits);
                tokio::spawn(async move { enter(&circuits, &friend()).await.map(|own| own.is_none()) })
            })
            .collect();
        let other = enter(&circuits, &Domain::parse("cousin.example").unwrap()).await;
        assert!(other.unwrap().is_some(), "another domain waits for nobody");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(waiting.iter().all(|task| !task.is_finished()));
        attempt.end(outcome);
        let mut gone_on = 0;
        for task in waiting {
            gone_on += usize::from(task.await.unwrap() == Ok(true));
        }
        assert_eq!(gone_on, others);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_given_up_is_the_next_ones() {
    let circuits = circuits();
    let attempt = enter(&circuits, &friend()).await.unwrap().unwrap();
    let next = tokio::spawn({
        let circuits = Arc::clone(&circuits);
        async move { enter(&circuits, &friend()).await.map(|own| own.is_some()) }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(attempt);
    assert_eq!(next.await.unwrap(), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn the_memory_does_not_grow() {
    let circuits = circuits();
    for n in 0..REMEMBERED + 100 {
        let domain = Domain::parse(&format!("d{n}.example")).unwrap();
        circuits.failed(&domain, None, Reason::RemoteUnreachable);
    }
    assert_eq!(held(&circuits.failed).len(), REMEMBERED);
}

// A reload with other times puts new circuits in their place.
#[tokio::test(start_paused = true)]
async fn what_circuits_have_counted_goes_with_them() {
    let circuits = circuits();
    let metrics = Arc::clone(&circuits.metrics);
    for _ in 0..3 {
        fail(&circuits, &friend()).await;
    }
    assert!(metrics.text().unwrap().contains("gatehouse_circuits_open 1"));
    drop(circuits);
    assert!(metrics.text().unwrap().contains("gatehouse_circuits_open 0"));
}
