//! What validating the signatures of one look-up may cost (DNS-09).
//!
//! Whose zone it is decides how many questions follow from an answer and how many signatures are in it: a chain of denials, or a zone
//! that denies its own keys, never comes to an end by itself. So there is one purse for all names of a look-up; when it is empty,
//! nothing more is asked or checked, and whoever asked is told that, and not that something was forged. Nothing is kept from one
//! look-up to the next: what has not been found out for one domain is held against no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hickory_proto::op::{DnsRequest, DnsResponse};
use hickory_proto::rr::{Record, RecordType};
use hickory_resolver::net::xfer::{DnsHandle, DnsResponseStream, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};

/// What is left for one look-up.
#[derive(Clone, Debug)]
pub(super) struct Purse(Arc<Left>);

#[derive(Debug)]
struct Left {
    questions: AtomicUsize,
    checks: AtomicUsize,
    empty: AtomicBool,
}

impl Purse {
    /// A full one.
    pub(super) fn full() -> Self {
        Self(Arc::new(Left {
            questions: AtomicUsize::new(QUESTIONS),
            checks: AtomicUsize::new(CHECKS),
            empty: AtomicBool::new(false),
        }))
    }

    /// Whether something was not done because nothing was left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.empty.load(Ordering::Relaxed)
    }

    /// Pays, if there is enough left.
    fn pays(&self, from: &AtomicUsize, cost: usize) -> bool {
        let paid =
            from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost)).is_ok();
        if !paid {
            self.0.empty.store(true, Ordering::Relaxed);
        }
        paid
    }
}

/// Asks through another, as long as there is something left.
#[derive(Clone)]
pub(super) struct Paid<H> {
    by: H,
    purse: Purse,
}

impl<H> Paid<H> {
    pub(super) fn new(by: H, purse: Purse) -> Self {
        Self { by, purse }
    }
}

impl<H: DnsHandle> DnsHandle for Paid<H> {
    type Response = DnsResponseStream;
    type Runtime = H::Runtime;

    fn is_using_edns(&self) -> bool {
        self.by.is_using_edns()
    }

    fn send(&self, request: DnsRequest) -> Self::Response {
        if !self.purse.pays(&self.purse.0.questions, 1) {
            return NetError::from(EMPTY).into();
        }
        let (answers, purse) = (self.by.send(request), self.purse.clone());
        Box::pin(async move {
            let answer = answers.first_answer().await;
            match purse.pays(&purse.0.checks, checks(&answer)) {
                true => answer,
                false => Err(NetError::from(EMPTY)),
            }
        })
        .into()
    }
}

/// How many signatures are looked at for this answer at most. Each of those over keys may be tried with every key that is there.
fn checks(answer: &Result<DnsResponse, NetError>) -> usize {
    match answer {
        Ok(response) => {
            cost(response.answers.iter().chain(&response.authorities).chain(&response.additionals))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            cost(none.authorities.iter().flat_map(|all| all.iter()))
        }
        Err(_) => 0,
    }
}

fn cost<'a>(records: impl Iterator<Item = &'a Record>) -> usize {
    let (mut signatures, mut keys) = (0usize, 0usize);
    for record in records {
        match record.record_type() {
            RecordType::RRSIG => signatures += 1,
            RecordType::DNSKEY => keys += 1,
            _ => {}
        }
    }
    signatures.saturating_mul(keys.max(1))
}

/// Questions of one look-up: both services, ten servers with their addresses, aliases and TLSA records, and for each of these answers the
/// keys of the zone and of those above it. Ten servers in ten zones take some 270.
const QUESTIONS: usize = 500;

/// Signatures that are checked for one look-up.
const CHECKS: usize = 2500;

const EMPTY: &str = "validating this takes more than one look-up may cost";

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{DnsRequestOptions, Message, Query};
    use hickory_proto::rr::Name;
    use hickory_resolver::net::runtime::TokioRuntimeProvider;

    #[test]
    fn a_purse_is_empty_for_all_who_share_it() {
        let purse = Purse::full();
        let shared = purse.clone();
        for _ in 0..QUESTIONS {
            assert!(shared.pays(&shared.0.questions, 1) && !purse.is_empty());
        }
        assert!(!shared.pays(&shared.0.questions, 1) && purse.is_empty());
        assert!(!Purse::full().is_empty(), "the next has its own");
    }

    // Many keys with one tag, and many signatures by it: each may be tried with each.
    #[test]
    fn signatures_over_keys_cost_as_much_as_there_are_keys() {
        let records = |kinds: &[(RecordType, usize)]| {
            let of = |(kind, many): &(RecordType, usize)| {
                std::iter::repeat_n(Record::update0(Name::root(), 60, *kind), *many)
            };
            kinds.iter().flat_map(of).collect::<Vec<_>>()
        };
        for (kinds, expected) in [
            (&[(RecordType::A, 9)][..], 0),
            (&[(RecordType::A, 9), (RecordType::RRSIG, 2)], 2),
            (&[(RecordType::DNSKEY, 3), (RecordType::RRSIG, 2)], 6),
            (&[(RecordType::DNSKEY, 100), (RecordType::RRSIG, 100)], 10_000),
        ] {
            assert_eq!(cost(records(kinds).iter()), expected, "{kinds:?}");
        }
    }

    /// Answers everything with a hundred keys of one zone and a hundred signatures over them.
    #[derive(Clone)]
    struct ManyKeys;

    impl DnsHandle for ManyKeys {
        type Response = DnsResponseStream;
        type Runtime = TokioRuntimeProvider;

        fn send(&self, request: DnsRequest) -> Self::Response {
            let mut message = Message::response(request.metadata.id, request.metadata.op_code);
            message.queries.clone_from(&request.queries);
            for kind in [RecordType::DNSKEY, RecordType::RRSIG] {
                message.answers.extend(vec![Record::update0(Name::root(), 60, kind); 100]);
            }
            Box::pin(std::future::ready(DnsResponse::from_message(message).map_err(NetError::from))).into()
        }
    }

    #[tokio::test]
    async fn an_answer_with_more_to_check_than_is_left_is_not_looked_at() {
        let purse = Purse::full();
        let paid = Paid::new(ManyKeys, purse.clone());
        let asked = Query::query(Name::root(), RecordType::DNSKEY);
        let answer = paid.lookup(asked.clone(), DnsRequestOptions::default()).first_answer().await;
        assert!(matches!(answer, Err(NetError::Message(EMPTY))) && purse.is_empty());
        // Who asks nobody of it has it for nothing.
        assert!(ManyKeys.lookup(asked, DnsRequestOptions::default()).first_answer().await.is_ok());
    }
}
