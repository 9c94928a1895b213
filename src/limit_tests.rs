use super::*;
use crate::jid::Domain;
use crate::policy::{
    Day, Federate, Federation, HostedSource, Identity, Permit, Place, Policy, Question, Sources, Tls, build,
};
use crate::reason::Direction;
use std::num::NonZeroU32;
use std::time::Duration;

fn policy(hosted: Vec<HostedSource>) -> Policy {
    let today = Day::parse("2027-01-01").unwrap();
    let (policy, findings) = build(&Sources { hosted, sources: Vec::new(), today, digest: "d".into() });
    policy.unwrap_or_else(|| panic!("{findings:?}"))
}

/// A rule's name can come from a policy only; this one is `default`.
fn rule() -> RuleName {
    policy(Vec::new()).rule_names().next().unwrap().clone()
}

/// The buckets of one stream with these rates.
fn stream(stanzas: Option<u32>, octets: Option<u32>, now: Instant) -> Valve {
    let pace = Pace { stanzas: stanzas.and_then(NonZeroU32::new), octets: octets.and_then(NonZeroU32::new) };
    Rates::new(RateParams { stream: pace, ..RateParams::default() }).stream(now)
}

fn charge(valve: &Valve, octets: usize, now: Instant) {
    let mut spent = Allowance::default();
    spent.add(octets);
    valve.charge(&spent, now);
}

/// Sends all of it as fast as the valve lets it go; how long that takes.
fn sent(valve: &Valve, stanzas: impl IntoIterator<Item = usize>, start: Instant) -> Duration {
    let mut now = start;
    for octets in stanzas {
        if let Some((at, _)) = valve.shut_until(now) {
            assert!(at > now, "a valve that is shut names a time to come");
            now = at;
            assert_eq!(valve.shut_until(now), None, "at the time it named it is open");
        }
        charge(valve, octets, now);
    }
    now - start
}

#[test]
fn a_valve_without_rates_never_shuts() {
    let now = Instant::now();
    let valve = stream(None, None, now);
    assert!(valve.is_open());
    assert_eq!(sent(&valve, [1_000_000; 10_000], now), Duration::ZERO);
}

// LIM-03: shaped by delaying, never dropped.
#[test]
fn fifty_stanzas_a_second_take_a_second_for_each_fifty() {
    let start = Instant::now();
    let valve = stream(Some(50), None, start);
    assert_eq!(sent(&valve, [100; 50], start), Duration::ZERO, "a second's worth at once");
    let took = sent(&valve, [100; 100], start);
    assert!(took > Duration::from_millis(1900) && took < Duration::from_millis(2100), "{took:?}");
    assert_eq!(valve.shut_until(start + took).map(|(_, rated)| rated), Some(Rated::Stanzas));
}

#[test]
fn a_stanza_larger_than_a_second_passes_and_the_next_one_waits() {
    let start = Instant::now();
    let valve = stream(None, Some(1000), start);
    assert_eq!(valve.shut_until(start), None);
    charge(&valve, 5000, start);
    let mut now = start;
    while let Some((at, rated)) = valve.shut_until(now) {
        assert_eq!(rated, Rated::Octets);
        now = at;
    }
    let took = now - start;
    assert!(took > Duration::from_millis(3900) && took < Duration::from_millis(4100), "{took:?}");
}

/// The permit of this remote domain to speak to hall.example, by a policy that lets everybody.
fn permit(remote: &str) -> Permit {
    let domain = |name| Domain::parse(name).unwrap();
    let hosted = HostedSource {
        domain: domain("hall.example"),
        federation: Federation::Any,
        sources: Vec::new(),
        place: Place::whole("test"),
    };
    let question = Federate {
        hosted: &domain("hall.example"),
        remote: &domain(remote),
        direction: Direction::Inbound,
        identity: Identity::Certificate,
        tls: Tls::V13,
        address: None,
        key: crate::policy::ShownKey::Unknown,
    };
    policy(vec![hosted]).judge(&Question::Federate(question), &mut ()).permit().unwrap().clone()
}

fn pace(stanzas: u32) -> Pace {
    Pace { stanzas: NonZeroU32::new(stanzas), octets: None }
}

// LIM-03: "per stream and per peer domain". A second stream of a pair is no second helping, and neither is a new one.
#[test]
fn the_streams_of_a_pair_and_of_a_domain_share_what_they_may_send() {
    for params in [
        RateParams { pair: pace(10), ..RateParams::default() },
        RateParams { domain: pace(10), ..RateParams::default() },
    ] {
        let start = Instant::now();
        let rates = Rates::new(params);
        let valve = || rates.valve(&permit("friend.example"), &rates.stream(start), start);
        let (first, second) = (valve(), valve());
        assert_eq!(sent(&first, [1; 6], start), Duration::ZERO);
        assert_eq!(sent(&second, [1; 4], start), Duration::ZERO);
        charge(&second, 1, start);
        assert!(second.shut_until(start).is_some() && first.shut_until(start).is_some());
        drop((first, second));
        assert!(valve().shut_until(start).is_some(), "a new stream owes what the old ones did");
        let other = rates.valve(&permit("cousin.example"), &rates.stream(start), start);
        assert_eq!(other.shut_until(start), None);
        assert_eq!(valve().shut_until(start + Duration::from_secs(2)), None);
    }
}

#[test]
fn the_lowest_rate_is_the_one_that_counts() {
    let start = Instant::now();
    let params = RateParams { stream: pace(100), domain: pace(50), pair: pace(10) };
    let rates = Rates::new(params);
    let valve = rates.valve(&permit("friend.example"), &rates.stream(start), start);
    let took = sent(&valve, [1; 31], start);
    assert!(took > Duration::from_millis(1900) && took < Duration::from_millis(2100), "{took:?}");
}

// Architecture 4: rate buckets survive when their quota is unchanged.
#[test]
fn a_reload_with_the_same_rate_does_not_fill_the_bucket() {
    let now = Instant::now();
    let mut rates = Rates::new(RateParams { pair: pace(10), ..RateParams::default() });
    let valve = |rates: &Rates| rates.valve(&permit("friend.example"), &Valve::default(), now);
    let first = valve(&rates);
    for _ in 0..11 {
        charge(&first, 1, now);
    }
    assert!(first.shut_until(now).is_some());
    assert!(valve(&rates).shut_until(now).is_some());
    rates.params.pair = pace(20);
    assert_eq!(valve(&rates).shut_until(now), None);
}

// LIM-02: all memory is released.
#[test]
fn buckets_of_those_who_are_gone_do_not_pile_up() {
    let start = Instant::now();
    let rates = Rates::new(RateParams { domain: pace(10), ..RateParams::default() });
    for n in 0..5_000_u32 {
        let now = start + Duration::from_secs(n.into());
        let valve = rates.valve(&permit(&format!("d{n}.example")), &Valve::default(), now);
        charge(&valve, 1, now);
        assert_eq!(valve.shut_until(now), None);
    }
    assert!(rates.len() <= 2 * 1024, "{}", rates.len());
}

fn params(total: u32, per_network: u32, per_minute: u32) -> Params {
    Params { total, per_network, per_minute: NonZeroU32::new(per_minute).unwrap(), waiting: 10 }
}

// ACC-09, ACC-10: counted per IPv4 address and per IPv6 /64.
#[test]
fn connections_are_counted_per_network_and_given_back() {
    let now = Instant::now();
    let arrivals = Arrivals::new(params(100, 2, 1000), Arc::default(), now);
    let at = |s: &str| arrivals.admit(s.parse().unwrap(), now);
    let first = at("2001:db8:0:1::1").unwrap();
    let _second = at("2001:db8:0:1:ffff::2").unwrap();
    assert_eq!(at("2001:db8:0:1::3").unwrap_err(), NoEntry::Full);
    let _other = at("2001:db8:0:2::1").unwrap();
    drop(first);
    let _again = at("2001:db8:0:1::3").unwrap();
    assert_eq!(arrivals.open(), 3);
    // Who has proven something is not counted there any more, and is still one of all.
    let (_ticket, threshold) = _other;
    drop(threshold);
    assert_eq!(arrivals.open(), 3);
}

#[test]
fn a_mapped_address_counts_as_the_ipv4_address_it_is() {
    assert_eq!(Network::of("::ffff:192.0.2.1".parse().unwrap()), Network::of("192.0.2.1".parse().unwrap()));
    assert_ne!(
        Network::of("::ffff:192.0.2.1".parse().unwrap()),
        Network::of("::ffff:192.0.2.2".parse().unwrap())
    );
}

#[test]
fn attempts_are_counted_even_when_the_connection_ends_at_once() {
    let start = Instant::now();
    let arrivals = Arrivals::new(params(100, 20, 30), Arc::default(), start);
    let at = |now| arrivals.admit("192.0.2.1".parse().unwrap(), now).map(drop);
    for _ in 0..30 {
        at(start).unwrap();
    }
    assert_eq!(at(start).unwrap_err(), NoEntry::Refused(Reason::TooManyAttempts));
    assert_eq!(at(start + Duration::from_millis(2100)), Ok(()));
    assert_eq!(
        at(start + Duration::from_millis(2100)).unwrap_err(),
        NoEntry::Refused(Reason::TooManyAttempts)
    );
}

#[test]
fn the_total_is_a_ceiling_for_all_networks_together() {
    let now = Instant::now();
    let arrivals = Arrivals::new(params(1, 20, 30), Arc::default(), now);
    let _first = arrivals.admit("192.0.2.1".parse().unwrap(), now).unwrap();
    assert_eq!(
        arrivals.admit("192.0.2.2".parse().unwrap(), now).unwrap_err(),
        NoEntry::Refused(Reason::Overload)
    );
}

// LIM-02: all memory of finished connections is released.
#[test]
fn a_million_networks_leave_nothing_behind() {
    let start = Instant::now();
    let throttle = Throttle::new(Quota::per_minute(NonZeroU32::new(30).unwrap()), start);
    for n in 0..1_000_000_u64 {
        assert!(throttle.admits(&n, start + Duration::from_millis(n)));
    }
    assert!(throttle.len() < 10_000, "{}", throttle.len());
}

#[test]
fn a_rule_admits_as_many_streams_as_it_says() {
    let streams = Streams::new();
    let rule = rule();
    let two = Quotas { streams: Some(2), ..Quotas::default() };
    let first = streams.admit(&rule, &two).unwrap();
    let _second = streams.admit(&rule, &two).unwrap();
    assert_eq!(streams.admit(&rule, &two).unwrap_err(), Reason::TooManyStreams);
    drop(first);
    let _third = streams.admit(&rule, &two).unwrap();
    let _unlimited = streams.admit(&rule, &Quotas::default()).unwrap();
}
