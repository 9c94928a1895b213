//! What an answer must prove of that which it does not hold (RFC 4035 5.4), where the library's validation asks too little or too much.
//!
//! Too little: where all that a server says of authority is provably unsigned, the library looks no further. But whoever owns an
//! unsigned zone anywhere may put its name there, and so say "no such records" of a name that is signed, or have a wildcard speak
//! for a name that exists. Too much: of an answer from a wildcard it wants proof that the wildcard itself is not there.

use hickory_proto::dnssec::Proof;
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Whether a message that the library lets through says enough for this question: if nothing in it is signed, that is said of a zone
/// in which the name lies.
pub(super) fn is_enough(name: &Name, kind: RecordType, message: &Message) -> bool {
    let is_unsigned = |record: &Record| record.proof == Proof::Insecure;
    if message.authorities.is_empty() || !message.authorities.iter().all(is_unsigned) {
        return true;
    }
    if is_answer(name, kind, message) {
        return expanded(message).next().is_none();
    }
    let says_whose = |record: &Record| matches!(record.record_type(), RecordType::SOA | RecordType::NS);
    message.authorities.iter().any(|record| says_whose(record) && record.name.zone_of(name))
}

/// Whether a message that the library takes for bogus is proven by its NSEC records all the same: an answer whose wildcards hide no
/// closer name (RFC 4035 5.3.4), or a wildcard that has nothing of this type (RFC 4035 3.1.3.4). Whether the records of an answer
/// are signed is asked elsewhere.
pub(super) fn is_proven(name: &Name, kind: RecordType, message: &Message) -> bool {
    if message.response_code != ResponseCode::NoError || proven(message).any(is_hashed) {
        return false;
    }
    if is_answer(name, kind, message) {
        return expanded(message).all(|(owner, labels)| is_closest(owner, labels, message));
    }
    message.answers.is_empty() && denials(message).any(|denial| denial.lacks(name, kind, message))
}

/// Whether it answers the question, by a record or by an alias.
pub(super) fn is_answer(name: &Name, kind: RecordType, message: &Message) -> bool {
    let answers = |record: &Record| record.record_type() == kind || record.record_type() == RecordType::CNAME;
    message.answers.iter().any(|record| record.name == *name && answers(record))
}

fn proven(message: &Message) -> impl Iterator<Item = &Record> {
    message.authorities.iter().filter(|record| record.proof == Proof::Secure)
}

fn is_hashed(record: &Record) -> bool {
    matches!(record.data, RData::DNSSEC(DNSSECRData::NSEC3(_)))
}

/// Owners of what came from a wildcard, with the number of labels that the wildcard stands below.
fn expanded(message: &Message) -> impl Iterator<Item = (&Name, u8)> {
    message.answers.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => {
            let labels = signature.input().num_labels;
            (labels < record.name.num_labels()).then_some((&record.name, labels))
        }
        _ => None,
    })
}

/// Whether it is proven that neither this name nor one between it and the wildcard exists.
fn is_closest(owner: &Name, labels: u8, message: &Message) -> bool {
    let next_closer = owner.trim_to(usize::from(labels) + 1);
    denials(message).any(|denial| {
        denial.covers(owner)
            && !next_closer.zone_of(denial.owner)
            && !next_closer.zone_of(denial.nsec.next_domain_name())
    })
}

/// An NSEC record whose signature holds.
struct Denial<'a> {
    owner: &'a Name,
    nsec: &'a NSEC,
}

fn denials(message: &Message) -> impl Iterator<Item = Denial<'_>> {
    proven(message).filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Some(Denial { owner: &record.name, nsec }),
        _ => None,
    })
}

impl Denial<'_> {
    /// Whether it says that there is no such name.
    fn covers(&self, name: &Name) -> bool {
        let next = self.nsec.next_domain_name();
        // RFC 6840 4.1: what stands above a delegation, or an alias for all below, says nothing of what is below.
        let is_above = self.owner.zone_of(name) && self.nsec.is_ancestor_delegation();
        // The last one of a zone leads back to its apex.
        let is_between = match next <= self.owner {
            true => self.owner < name && next.zone_of(name),
            false => self.owner < name && name < next,
        };
        // Of a name with others below it there are none of any type, but it is there.
        is_between && !is_above && !name.zone_of(next)
    }

    /// Whether it says that there is no such name, and another one that the wildcard in its place has no records of that type.
    fn lacks(&self, name: &Name, kind: RecordType, message: &Message) -> bool {
        if !self.covers(name) {
            return false;
        }
        let above = [self.owner, self.nsec.next_domain_name()].map(|other| common(name, other));
        let Some(closest) = above.into_iter().max_by_key(Name::num_labels) else { return false };
        let Ok(wildcard) = closest.prepend_label("*") else { return false };
        denials(message).any(|denial| {
            let types = denial.nsec.type_set();
            *denial.owner == wildcard
                && !types.contains(kind)
                && !types.contains(RecordType::CNAME)
                && !denial.nsec.is_ancestor_delegation()
        })
    }
}

/// The longest name in which both lie.
fn common(name: &Name, other: &Name) -> Name {
    let mut above = other.clone();
    while !above.zone_of(name) {
        above = above.base_name();
    }
    above
}

#[cfg(test)]
mod tests {
    use hickory_proto::dnssec::Algorithm;
    use hickory_proto::dnssec::rdata::{RRSIG, SigInput};
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::SerialNumber;
    use hickory_proto::rr::rdata::{A, CNAME, NS};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(format!("{text}.")).unwrap()
    }

    fn message(answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.answers = answers;
        message.authorities = authorities;
        message
    }

    fn with(proof: Proof, owner: &str, data: RData) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    fn nsec(owner: &str, next: &str, types: &[RecordType]) -> Record {
        let data = NSEC::new(name(next), types.iter().copied());
        with(Proof::Secure, owner, RData::DNSSEC(DNSSECRData::NSEC(data)))
    }

    /// An address at that name, from a wildcard that stands below so many labels.
    fn address(owner: &str, labels: u8) -> Vec<Record> {
        let input = SigInput {
            type_covered: RecordType::A,
            algorithm: Algorithm::ECDSAP256SHA256,
            num_labels: labels,
            original_ttl: 60,
            sig_expiration: SerialNumber::new(2),
            sig_inception: SerialNumber::new(1),
            key_tag: 1,
            signer_name: name("z.example"),
        };
        let signature = RRSIG::from_sig(input, vec![1]);
        let data = RData::DNSSEC(DNSSECRData::RRSIG(signature));
        let a = RData::A(A::new(192, 0, 2, 1));
        vec![with(Proof::Secure, owner, a), with(Proof::Secure, owner, data)]
    }

    fn ns(proof: Proof, owner: &str) -> Record {
        with(proof, owner, RData::NS(NS(name("ns.example"))))
    }

    // DNS-09, DNS-12: nobody says "no such records" of a zone with the name of another one that nobody signs.
    #[test]
    fn an_unsigned_zone_says_nothing_of_names_outside_it() {
        let asked = name("_5269._tcp.xmpp.z.example");
        for (owner, enough) in [
            ("unsigned.example", false),
            ("a.xmpp.z.example", false),
            ("z.example", true),
            ("xmpp.z.example", true),
        ] {
            let said = message(vec![], vec![ns(Proof::Insecure, owner)]);
            assert_eq!(is_enough(&asked, RecordType::TLSA, &said), enough, "{owner}");
        }
        // One that is signed is judged by the library, and so is none at all.
        let mixed = vec![ns(Proof::Insecure, "unsigned.example"), nsec("z.example", "a.z.example", &[])];
        assert!(is_enough(&asked, RecordType::TLSA, &message(vec![], mixed)));
        assert!(is_enough(&asked, RecordType::TLSA, &message(vec![], vec![])));
    }

    // RFC 4035 5.3.4: an answer from a wildcard proves nothing by itself, whatever unsigned zone stands beside it.
    #[test]
    fn beside_an_unsigned_zone_a_wildcard_speaks_for_nobody() {
        let asked = name("xmpp.z.example");
        for (labels, enough) in [(3, true), (2, false)] {
            let said =
                message(address("xmpp.z.example", labels), vec![ns(Proof::Insecure, "unsigned.example")]);
            assert_eq!(is_enough(&asked, RecordType::A, &said), enough, "{labels}");
        }
    }

    #[test]
    fn an_answer_from_a_wildcard_is_proven_where_nothing_is_closer() {
        let asked = name("a.b.z.example");
        let rows: &[(&str, &str, &[RecordType], bool)] = &[
            // The interval in which the name lies, and no name between.
            ("*.z.example", "x.z.example", &[RecordType::A], true),
            ("a.z.example", "c.z.example", &[], true),
            // The last of the zone, which leads back to its apex.
            ("a.z.example", "z.example", &[], true),
            // Not there.
            ("c.z.example", "x.z.example", &[], false),
            ("c.z.example", "z.example", &[], false),
            ("a.other.example", "other.example", &[], false),
            // A closer name is there, or one below it.
            ("b.z.example", "c.z.example", &[], false),
            ("*.z.example", "c.b.z.example", &[], false),
            ("x.a.b.z.example", "c.z.example", &[], false),
            ("*.z.example", "x.a.b.z.example", &[], false),
            // What is said above a delegation.
            ("b.z.example", "c.z.example", &[RecordType::NS], false),
        ];
        for (owner, next, types, proven) in rows {
            let said = message(address("a.b.z.example", 2), vec![nsec(owner, next, types)]);
            assert_eq!(is_proven(&asked, RecordType::A, &said), *proven, "{owner} {next}");
            // The same words without a signature that holds.
            let mut unsigned = said.clone();
            unsigned.authorities[0].proof = Proof::Bogus;
            assert!(!is_proven(&asked, RecordType::A, &unsigned), "{owner} {next}");
        }
        // An answer of its own needs no proof that something is missing.
        let own = message(address("a.b.z.example", 4), vec![nsec("c.z.example", "x.z.example", &[])]);
        assert!(is_proven(&asked, RecordType::A, &own));
    }

    #[test]
    fn a_wildcard_without_such_records_is_proven_by_two_denials() {
        let asked = name("_tcp.chat.z.example");
        let star = |types: &[RecordType]| nsec("*.z.example", "d.z.example", types);
        let proven = |records: Vec<Record>| is_proven(&asked, RecordType::SRV, &message(vec![], records));
        assert!(proven(vec![star(&[RecordType::A])]));
        assert!(!proven(vec![star(&[RecordType::SRV])]), "it has such a record");
        assert!(!proven(vec![star(&[RecordType::CNAME])]), "it stands for another name");
        assert!(!proven(vec![nsec("a.z.example", "d.z.example", &[])]), "nothing is said of the wildcard");
        // A closer name is there: the wildcard above it does not count.
        let closer = nsec("chat.z.example", "d.z.example", &[]);
        assert!(!proven(vec![nsec("*.z.example", "chat.z.example", &[]), closer]));
        // An alias elsewhere in the answer, or no such name at all, is the library's to judge.
        let alias = with(Proof::Secure, "b.example", RData::CNAME(CNAME(name("c.example"))));
        assert!(!is_proven(&asked, RecordType::SRV, &message(vec![alias], vec![star(&[])])));
        let mut gone = message(vec![], vec![star(&[])]);
        gone.metadata.response_code = ResponseCode::NXDomain;
        assert!(!is_proven(&asked, RecordType::SRV, &gone));
    }
}
