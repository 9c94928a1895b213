use super::*;
use crate::policy::Rate;

/// A rule's name can come from a policy only; this one is `default`.
fn rule() -> RuleName {
    crate::policy::build(&crate::policy::Input {
        hosted: Vec::new(),
        sources: Vec::new(),
        today: crate::policy::Day::parse("2027-01-01").unwrap(),
        digest: "d".into(),
    })
    .0
    .unwrap()
    .rule_names()
    .next()
    .unwrap()
    .clone()
}

fn quotas(stanzas: Option<u32>, octets: Option<u32>, streams: Option<u32>) -> Quotas {
    let rate = |n: u32| Rate { per_second: NonZeroU32::new(n).unwrap() };
    Quotas { stanzas: stanzas.map(rate), octets: octets.map(rate), streams }
}

#[test]
fn a_valve_without_rates_never_shuts() {
    let now = Instant::now();
    let mut valve = Valve::new(&quotas(None, None, None), now);
    assert!(valve.is_open());
    for _ in 0..10_000 {
        valve.charge(1_000_000);
        assert_eq!(valve.shut_until(now), None);
    }
}

// LIM-03: shaped by delaying, never dropped.
#[test]
fn fifty_stanzas_a_second_take_a_second_for_each_fifty() {
    let start = Instant::now();
    let mut now = start;
    let mut valve = Valve::new(&quotas(Some(50), None, None), start);
    for _ in 0..151 {
        if let Some((at, rated)) = valve.shut_until(now) {
            assert_eq!(rated, Rated::Stanzas);
            assert!(at > now, "a valve that is shut names a time to come");
            now = at;
            assert_eq!(valve.shut_until(now), None, "at the time it named it is open");
        }
        valve.charge(100);
    }
    let took = now - start;
    assert!(took > Duration::from_millis(1900) && took < Duration::from_millis(2100), "{took:?}");
}

#[test]
fn a_stanza_larger_than_a_second_passes_and_the_next_one_waits() {
    let start = Instant::now();
    let mut valve = Valve::new(&quotas(None, Some(1000), None), start);
    assert_eq!(valve.shut_until(start), None);
    valve.charge(5000);
    let mut now = start;
    while let Some((at, rated)) = valve.shut_until(now) {
        assert_eq!(rated, Rated::Octets);
        now = at;
    }
    let took = now - start;
    assert!(took > Duration::from_millis(3900) && took < Duration::from_millis(4100), "{took:?}");
}

// Architecture 4: rate buckets survive when their quota is unchanged.
#[test]
fn a_reload_with_the_same_rate_does_not_fill_the_bucket() {
    let now = Instant::now();
    let mut valve = Valve::new(&quotas(Some(10), None, None), now);
    for _ in 0..11 {
        valve.charge(1);
    }
    assert!(valve.shut_until(now).is_some());
    valve.adjust(&quotas(Some(10), Some(1 << 20), None), now);
    assert!(valve.shut_until(now).is_some());
    valve.adjust(&quotas(Some(20), None, None), now);
    assert_eq!(valve.shut_until(now), None);
}

fn params(total: u32, per_network: u32, per_minute: u32) -> Params {
    Params { total, per_network, per_minute: NonZeroU32::new(per_minute).unwrap() }
}

// ACC-09, ACC-10: counted per IPv4 address and per IPv6 /64.
#[test]
fn connections_are_counted_per_network_and_given_back() {
    let now = Instant::now();
    let arrivals = Arrivals::new(params(100, 2, 1000), now);
    let at = |s: &str| arrivals.admit(s.parse().unwrap(), now);
    let first = at("2001:db8:0:1::1").unwrap();
    let _second = at("2001:db8:0:1:ffff::2").unwrap();
    assert_eq!(at("2001:db8:0:1::3").unwrap_err(), Reason::TooManyConnections);
    let _other = at("2001:db8:0:2::1").unwrap();
    drop(first);
    let _again = at("2001:db8:0:1::3").unwrap();
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
    let arrivals = Arrivals::new(params(100, 20, 30), start);
    let at = |now| arrivals.admit("192.0.2.1".parse().unwrap(), now).map(drop);
    for _ in 0..30 {
        at(start).unwrap();
    }
    assert_eq!(at(start).unwrap_err(), Reason::TooManyAttempts);
    assert_eq!(at(start + Duration::from_millis(2100)), Ok(()));
    assert_eq!(at(start + Duration::from_millis(2100)).unwrap_err(), Reason::TooManyAttempts);
}

#[test]
fn the_total_is_a_ceiling_for_all_networks_together() {
    let now = Instant::now();
    let arrivals = Arrivals::new(params(1, 20, 30), now);
    let _first = arrivals.admit("192.0.2.1".parse().unwrap(), now).unwrap();
    assert_eq!(arrivals.admit("192.0.2.2".parse().unwrap(), now).unwrap_err(), Reason::Overload);
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
    let two = quotas(None, None, Some(2));
    let first = streams.admit(&rule, &two).unwrap();
    let _second = streams.admit(&rule, &two).unwrap();
    assert_eq!(streams.admit(&rule, &two).unwrap_err(), Reason::TooManyStreams);
    drop(first);
    let _third = streams.admit(&rule, &two).unwrap();
    let _unlimited = streams.admit(&rule, &quotas(None, None, None)).unwrap();
}
