//! Tests of who may arrive.

use std::time::Duration;

use super::*;

fn arrivals(per_network: u32, per_minute: u32, now: Instant) -> Arc<Arrivals> {
    let per_minute = NonZeroU32::new(per_minute).unwrap();
    let params = Params { total: 1_000_000, per_network, per_minute, waiting: 1_000 };
    Arrivals::new(params, Arc::default(), now)
}

// D10: "What is proven is limited by what it does, not by what it is"; "a connection attempt that ends in a proof gives
// its token of L-rate back". Each who is turned away tries again after some seconds.
#[test]
fn an_office_of_five_hundred_comes_back_within_a_minute_with_the_defaults() {
    let start = Instant::now();
    let arrivals = Arrivals::new(Params::default(), Arc::default(), start);
    let office: IpAddr = "192.0.2.1".parse().unwrap();
    let (mut inside, mut coming, mut last) = (Vec::new(), Vec::new(), start);
    // When each tries next: all at once at first, and every five seconds or so then.
    let mut tries: Vec<_> = (0..500).map(|n| start + Duration::from_millis(n % 7)).collect();
    for tick in 0..600 {
        let now = start + Duration::from_millis(100 * tick);
        // A login takes a second.
        while coming.first().is_some_and(|(since, _, _)| now - *since >= Duration::from_secs(1)) {
            let (_, ticket, mut threshold): (Instant, ArrivalTicket, Threshold) = coming.remove(0);
            threshold.prove();
            inside.push((ticket, threshold));
            last = now;
        }
        for at in &mut tries {
            if *at <= now {
                match arrivals.admit(office, now) {
                    Ok((ticket, threshold)) => {
                        coming.push((now, ticket, threshold));
                        *at = start + Duration::from_secs(1_000_000);
                    }
                    Err(_) => *at = now + Duration::from_millis(4_000 + 317 * (tick % 7)),
                }
            }
        }
    }
    assert_eq!(inside.len(), 500);
    assert!(last - start < Duration::from_secs(60), "{:?}", last - start);
    assert_eq!(arrivals.open(), 500);
}

#[test]
fn who_proves_nothing_is_counted_by_address_as_ever() {
    let start = Instant::now();
    let arrivals = arrivals(2, 30, start);
    let at = |now| arrivals.admit("192.0.2.1".parse().unwrap(), now);
    let (first, second) = (at(start).unwrap(), at(start).unwrap());
    assert_eq!(at(start).unwrap_err(), NoEntry::Full);
    drop((first, second));
    // Those who were turned away have cost nothing, those who came and proved nothing have.
    for _ in 0..28 {
        at(start).unwrap();
    }
    assert_eq!(at(start).unwrap_err(), NoEntry::Refused(Reason::TooManyAttempts));
}

/// What a line has come to.
fn granted(line: &mut Line) -> Option<Threshold> {
    line.granted.try_recv().ok()
}

// A hoster's servers do not come again by themselves: what finds no place waits in line, and nobody is turned away.
#[test]
fn a_hoster_of_a_thousand_domains_is_in_within_a_minute_though_all_come_at_once() {
    let start = Instant::now();
    let arrivals = Arrivals::new(Params::default(), Arc::default(), start);
    let hoster: IpAddr = "192.0.2.1".parse().unwrap();
    let (mut coming, mut waiting, mut inside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..1_000 {
        match arrivals.admit(hoster, start) {
            Ok((ticket, threshold)) => coming.push((start, ticket, threshold)),
            Err(reason) => {
                assert_eq!(reason, NoEntry::Full);
                waiting.push(arrivals.line_up(hoster, start).unwrap());
            }
        }
    }
    assert_eq!((coming.len(), waiting.len()), (20, 980));
    let mut now = start;
    while inside.len() < 1_000 {
        now += Duration::from_millis(100);
        assert!(now - start < Duration::from_secs(60), "{} are in", inside.len());
        // To prove a domain takes a second.
        let done = coming.iter().take_while(|(since, ..)| now - *since >= Duration::from_secs(1)).count();
        for (_, ticket, mut threshold) in coming.drain(..done) {
            threshold.prove();
            inside.push((ticket, threshold));
        }
        let mut still = Vec::new();
        for (ticket, mut line) in waiting.drain(..) {
            assert!(line.patience(start, now) > now, "given up, with {} in", inside.len());
            line.look(now);
            match granted(&mut line) {
                Some(threshold) => coming.push((now, ticket, threshold)),
                None => still.push((ticket, line)),
            }
        }
        waiting = still;
    }
    drop(inside);
    assert_eq!(arrivals.open(), 0);
}

// ACC-09: "above L-conn for the source the new connection MUST NOT proceed": whoever proves nothing gets no more by waiting.
#[test]
fn a_place_in_line_is_worth_nothing_where_nobody_proves_anything() {
    let start = Instant::now();
    let arrivals = arrivals(2, 30, start);
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let at = |now| arrivals.admit(address, now);
    let (first, _second) = (at(start).unwrap(), at(start).unwrap());
    let (_ticket, mut line) = arrivals.line_up(address, start).unwrap();
    assert!(granted(&mut line).is_none());
    assert_eq!(line.patience(start, start), start + LEAST, "less than a silent connection lasts");
    // Nobody overtakes it.
    let (_other, mut second) = arrivals.line_up(address, start).unwrap();
    let (ticket, mut threshold) = first;
    threshold.prove();
    let places = [granted(&mut line), granted(&mut second)];
    assert!(places.iter().all(Option::is_some), "one place each");
    assert_eq!(at(start).unwrap_err(), NoEntry::Full);
    assert_eq!(line.patience(start, start), start + HOPE, "others of the network come to proofs");
    assert_eq!(line.patience(start - MOST, start), start, "and not without end");
    drop((ticket, threshold));
}

// Our own mail to sixty domains at one address needs sixty answers from there.
#[test]
fn who_is_called_may_call_back() {
    let start = Instant::now();
    let callbacks = Arc::new(Callbacks::default());
    let params = Params { per_network: 1, ..Params::default() };
    let arrivals = Arrivals::new(params, Arc::clone(&callbacks), start);
    let (called, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let waited = [0, 1].map(|_| callbacks.expect(called));
    let came: Vec<_> = (0..5).filter_map(|_| arrivals.admit(called, start).ok()).collect();
    assert_eq!(came.len(), 3);
    let _one = arrivals.admit(other, start).unwrap();
    assert_eq!(arrivals.admit(other, start).unwrap_err(), NoEntry::Full);
    drop((waited, came));
    let _one = arrivals.admit(called, start).unwrap();
    assert_eq!(arrivals.admit(called, start).unwrap_err(), NoEntry::Full);
    assert!(held(&callbacks.from).is_empty());
}

#[test]
fn a_line_that_is_left_holds_up_nobody() {
    let start = Instant::now();
    let arrivals = arrivals(1, 30, start);
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let (_ticket, threshold) = arrivals.admit(address, start).unwrap();
    let [gone, (_second, mut line)] = [0, 1].map(|_| arrivals.line_up(address, start).unwrap());
    drop(gone);
    drop(threshold);
    let place = granted(&mut line).unwrap();
    assert_eq!(arrivals.admit(address, start).unwrap_err(), NoEntry::Full);
    // A place that was given to one who has gone is given back.
    let (_third, third) = arrivals.line_up(address, start).unwrap();
    drop(place);
    drop(third);
    let _free = arrivals.admit(address, start).unwrap();
}

#[test]
fn a_token_is_given_back_once() {
    let start = Instant::now();
    let arrivals = arrivals(100, 1, start);
    let at = || arrivals.admit("192.0.2.1".parse().unwrap(), start);
    let (_one, mut threshold) = at().unwrap();
    threshold.give_back();
    threshold.give_back();
    let (_two, _still) = at().unwrap();
    assert_eq!(at().unwrap_err(), NoEntry::Refused(Reason::TooManyAttempts));
}

// LIM-02: "all memory of a finished unauthenticated connection is released".
#[test]
fn a_hundred_thousand_networks_leave_nothing_behind() {
    let start = Instant::now();
    let arrivals = arrivals(20, 30, start);
    for n in 0..100_000_u32 {
        let now = start + Duration::from_millis(n.into());
        arrivals.admit(IpAddr::from(n.to_be_bytes()), now).unwrap();
    }
    let networks = held(&arrivals.networks);
    assert!(networks.known.len() < 8 * SWEEP, "{}", networks.known.len());
}
