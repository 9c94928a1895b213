//! Limits and timeouts: names and defaults of section 0.2 of the requirements, in kebab-case, each with its range.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::scalars::{Machine, ScalarReader};
use super::units::{Floor, count, octets_per_second, per_minute, per_second, size_shown, time_shown};
pub use super::units::{PerMinute, PerSecond, duration};
use crate::policy::{Placed, Scalar};

macro_rules! table {
    (
        $(#[$spec_doc:meta])* spec $spec:ident;
        $(#[$doc:meta])* settings $settings:ident;
        $( $(#[$field_doc:meta])* $name:ident ($key:literal): $kind:ident = $default:literal, $least:literal ..= $most:literal; )*
    ) => {
        $(#[$spec_doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct $spec {
            $( #[cfg_attr(feature = "schema", schemars(extend("x-row" = [stringify!($kind), $default, $least, $most])))]
               $(#[$field_doc])* #[doc = concat!(" Default: `", $default, "`, from `", $least, "` to `", $most, "`. Example: `", $key, ": ", $default, "`")] pub $name: Option<Scalar>, )*
        }

        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $settings {
            $( $(#[$field_doc])* pub $name: table!(@type $kind), )*
        }

        impl Default for $settings {
            fn default() -> $settings {
                let machine = Machine { environment: &|_| None, look_up: &|_, _| Vec::new() };
                let mut reader = ScalarReader::new("", &machine);
                $settings::read(None, &mut reader)
            }
        }

        impl $settings {
            /// Each key with its default and its range, as the file would have them.
            #[cfg(test)]
            pub const KEYS: &'static [(&'static str, &'static str, &'static str, &'static str)] =
                &[ $( ($key, $default, $least, $most), )* ];

            /// Each key with its value as the file would have it, and whether that is what those have.
            pub(super) fn lines(&self, defaults: &$settings) -> Vec<(&'static str, String, bool)> {
                vec![ $( ($key, table!(@show $kind)(&self.$name), self.$name == defaults.$name), )* ]
            }

            pub(super) fn read(spec: Option<&Placed<$spec>>, reader: &mut ScalarReader) -> $settings {
                $settings {
                    $( $name: {
                        let read: fn(&str) -> Result<table!(@type $kind), String> = table!(@read $kind);
                        let range = Range { key: $key, default: $default, least: $least, most: $most };
                        range.value(reader, spec.and_then(|spec| spec.value.$name.as_ref()), read)
                    }, )*
                }
            }
        }
    };
    (@type count) => { u32 };
    (@type size) => { u64 };
    (@type time) => { Duration };
    (@type rate) => { PerMinute };
    (@type pace) => { PerSecond };
    (@type flow) => { PerSecond };
    (@read count) => { count };
    (@read size) => { crate::policy::octets };
    (@read time) => { duration };
    (@read rate) => { per_minute };
    (@read pace) => { per_second };
    (@read flow) => { octets_per_second };
    (@show count) => { u32::to_string };
    (@show size) => { size_shown };
    (@show time) => { time_shown };
    (@show rate) => { |rate: &PerMinute| format!("{}/min", rate.0) };
    (@show pace) => { |rate: &PerSecond| format!("{}/s", rate.0) };
    (@show flow) => { |rate: &PerSecond| format!("{}/s", size_shown(&u64::from(rate.0))) };
}

table! {
    /// `limits:`
    spec LimitsSpec;
    /// Limits, complete and in range.
    settings Limits;
    /// A stream header, in octets (L-header).
    header ("header"): size = "4096B", "512B" ..= "64KiB";
    /// One element before a pair is proven (L-preauth-element).
    preauth_element ("preauth-element"): size = "16KiB", "4KiB" ..= "256KiB";
    /// Everything a connection may send before a pair is proven (L-preauth-total).
    preauth_total ("preauth-total"): size = "64KiB", "8KiB" ..= "4MiB";
    /// One stanza of a proven pair (L-stanza); RFC 6120 13.12 asks for 10,000 octets at least.
    stanza ("stanza"): size = "256KiB", "10000B" ..= "16MiB";
    /// Depth of elements (L-depth).
    depth ("depth"): count = "64", "8" ..= "1024";
    /// Attributes of one element (L-attrs).
    attrs ("attrs"): count = "64", "16" ..= "1024";
    /// Namespace declarations of one element (L-nsdecl).
    nsdecl ("nsdecl"): count = "32", "8" ..= "256";
    /// A name, in octets (L-name).
    name ("name"): size = "256B", "64B" ..= "4KiB";
    /// An attribute value, in octets (L-attr-value).
    attr_value ("attr-value"): size = "8192B", "3072B" ..= "256KiB";
    /// Elements of one stanza (L-nodes).
    nodes ("nodes"): count = "8192", "256" ..= "1000000";
    /// Namespace declarations in scope, those of the stream header not counted (L-bindings).
    bindings ("bindings"): count = "128", "16" ..= "1024";
    /// A stanza as it may be written by a server that stores and wraps it, where prefixes become declarations and quotes
    /// references (L-grown, XML-18).
    grown ("grown"): size = "1MiB", "64KiB" ..= "64MiB";
    /// Octets of a refused stanza that are read on to its end, so that its stream can go on (L-skip, XML-17).
    skip ("skip"): size = "16MiB", "64KiB" ..= "64MiB";
    /// One stanza of the server behind, to its clients and to the world (L-inside-stanza); four times `stanza` at least, and
    /// 64 KiB more than `grown` (XML-19).
    inside_stanza ("inside-stanza"): size = "10MiB", "64KiB" ..= "64MiB";
    /// The same for depth (L-inside-depth); eight more than `depth` at least.
    inside_depth ("inside-depth"): count = "256", "16" ..= "4096";
    /// The same for elements (L-inside-nodes); 32 more than `nodes` at least.
    inside_nodes ("inside-nodes"): count = "200000", "256" ..= "10000000";
    /// The same for an attribute value, in octets (L-inside-attr-value); no less than `attr-value`.
    inside_attr_value ("inside-attr-value"): size = "1MiB", "3072B" ..= "16MiB";
    /// The same for attributes of one element (L-inside-attrs); twice `attrs` at least.
    inside_attrs ("inside-attrs"): count = "256", "32" ..= "4096";
    /// The same for namespace declarations of one element (L-inside-nsdecl); eight more than `nsdecl` at least.
    inside_nsdecl ("inside-nsdecl"): count = "128", "16" ..= "1024";
    /// The same for namespace declarations in scope (L-inside-bindings); eight more than `bindings` at least.
    inside_bindings ("inside-bindings"): count = "512", "24" ..= "4096";
    /// Pairs on one stream (L-pairs).
    pairs ("pairs"): count = "50", "1" ..= "10000";
    /// Pending dialback operations of one stream (L-pending).
    pending_per_stream ("pending-per-stream"): count = "10", "1" ..= "1000";
    /// Dialback keys of one source address that are verified at one time; what is more waits (L-pending).
    pending_per_source ("pending-per-source"): count = "20", "1" ..= "1000";
    /// Dialback keys of one sender domain that one network (/24, /48) has verified at one time; what is more waits, and other networks have places of their own (L-pending).
    pending_per_domain ("pending-per-domain"): count = "4", "1" ..= "1000";
    /// Dialback keys of unproven peers that are verified, and look-ups of what unproven peers publish about their certificates (TLSA, POSH), at one time; who finds no place waits, and the places go in turns to the networks (/24, /48) that claim: a quarter of them at most to one network, a half to questions about one domain (LIM-06).
    verifications ("verifications"): count = "192", "4" ..= "10000";
    /// Dialback keys that wait for such a place; where more would wait, the network with most of them loses its last.
    verifications_waiting ("verifications-waiting"): count = "10000", "10" ..= "1000000";
    /// Domains looked up in the DNS at one time for our own users; who finds no place waits.
    lookups ("lookups"): count = "256", "1" ..= "10000";
    /// Domains looked up in the DNS at one time for what the gateway carries on its own, such as errors.
    lookups_carried ("lookups-carried"): count = "64", "1" ..= "10000";
    /// Stanzas that wait for one pair (L-queue).
    queue_stanzas ("queue-stanzas"): count = "100", "1" ..= "100000";
    /// Octets that wait for one pair (L-queue).
    queue_octets ("queue-octets"): size = "1MiB", "16KiB" ..= "1GiB";
    /// Stanzas that were sent to a remote server which counts what it takes (XEP-0198) and that it has not acknowledged; more wait.
    /// `0`: no server is asked to count, which helps where one says that it does and then acknowledges nothing (L-unacked, SM-01).
    unacked_stanzas ("unacked-stanzas"): count = "1000", "0" ..= "100000";
    /// Octets of those stanzas (L-unacked).
    unacked_octets ("unacked-octets"): size = "1MiB", "16KiB" ..= "1GiB";
    /// Streams of remote servers that broke and are remembered for `timeouts: { resume }`, so that they may go on over another connection
    /// (SM-01); one registrable domain has a hundredth of them. `0`: none goes on.
    sessions ("sessions"): count = "10000", "0" ..= "1000000";
    /// Octets that wait for one pair of a backend, and of reports to it (L-inside-queue): so much waits while the world is
    /// dialled or takes its time.
    inside_queue ("inside-queue"): size = "8MiB", "64KiB" ..= "1GiB";
    /// Octets that wait for the pairs of all backends together (L-inside-queue).
    inside_queue_total ("inside-queue-total"): size = "256MiB", "1MiB" ..= "64GiB";
    /// Pairs on one stream of a backend that are kept at hand (L-inside-pairs); beyond them each opens anew at its next stanza, and
    /// nothing is lost or closed.
    inside_pairs ("inside-pairs"): count = "10000", "10" ..= "1000000";
    /// Keys of a backend that are being asked about at one time, on one stream (L-inside-pending); what is more waits.
    inside_pending ("inside-pending"): count = "1000", "1" ..= "100000";
    /// Connections of remote servers from one source, IPv6 counted per /64, that have proven nothing yet (L-conn).
    conn_s2s ("conn-s2s"): count = "20", "1" ..= "100000";
    /// Connections of clients from one source, IPv6 counted per /64, that have not logged in yet (L-conn).
    conn_c2s ("conn-c2s"): count = "20", "1" ..= "100000";
    /// Connections above `conn-s2s` (and as many above `conn-c2s`) that wait, unread, until others of their source have proven who
    /// they are; where more would wait, the source with most of them loses its last. `0`: they are closed at once.
    conn_waiting ("conn-waiting"): count = "2000", "0" ..= "100000";
    /// Connections of proven servers of one registrable domain (public suffix list); a rule may name another number (L-conn).
    conn_domain ("conn-domain"): count = "50", "1" ..= "100000";
    /// Pairs of one registrable domain, over all connections of its servers; a rule may name another number (L-conn).
    pairs_domain ("pairs-domain"): count = "500", "1" ..= "1000000";
    /// Connections of proven servers from one IPv4 /24 or IPv6 /48 (L-conn).
    conn_servers ("conn-servers"): count = "2000", "1" ..= "1000000";
    /// Clients that have logged in, from one source, IPv6 counted per /64 (L-conn).
    conn_clients ("conn-clients"): count = "5000", "1" ..= "1000000";
    /// Connections in all (LIM-02).
    conn_total ("conn-total"): count = "20000", "10" ..= "1000000";
    /// Connections that have not proven yet who they are, clients and servers together (LIM-02). At most a quarter of them
    /// come from one IPv6 /48 or IPv4 /24, or as many as one source may have. Where all are taken, the network with most of them
    /// loses its longest-waiting one for a newcomer from elsewhere (LIM-06); servers that we have called, and networks from which
    /// somebody proven is or lately was here, have places kept.
    conn_unproven ("conn-unproven"): count = "5000", "2" ..= "1000000";
    /// Memory that all of those hold together; at the ceiling the network with most of it loses its longest-waiting one (LIM-06), as
    /// where all places are taken, and proven streams go on (LIM-02).
    memory_unproven ("memory-unproven"): size = "256MiB", "1MiB" ..= "64GiB";
    /// New connections from one source that do not come to a proof or a login (L-rate).
    rate ("rate"): rate = "30/min", "1/min" ..= "60000/min";
    /// TLS handshakes begun in a second, of all who connect; further ones wait unread, and are refused when that would take
    /// more than half of `tls`, or more than a quarter for a network that has asked for much of the rate lately.
    tls_handshakes ("tls-handshakes"): pace = "500/s", "1/s" ..= "100000/s";
    /// Stanzas that one stream may send in a second; who sends more is read more slowly (LIM-03).
    stream_stanzas ("stream-stanzas"): pace = "5000/s", "1/s" ..= "1000000/s";
    /// Octets of stanzas that one stream may send in a second.
    stream_octets ("stream-octets"): flow = "16MiB/s", "1KiB/s" ..= "1GiB/s";
    /// Stanzas in a second from, and as many to, one remote domain over all its streams.
    domain_stanzas ("domain-stanzas"): pace = "10000/s", "1/s" ..= "1000000/s";
    /// Octets of stanzas in a second from, and as many to, one remote domain over all its streams.
    domain_octets ("domain-octets"): flow = "32MiB/s", "1KiB/s" ..= "1GiB/s";
    /// Stanzas in a second of one domain pair over all its streams, where its rule sets no `limits: { stanzas }`.
    pair_stanzas ("pair-stanzas"): pace = "5000/s", "1/s" ..= "1000000/s";
    /// Octets of stanzas in a second of one domain pair over all its streams, where its rule sets no `limits: { octets }`.
    pair_octets ("pair-octets"): flow = "16MiB/s", "1KiB/s" ..= "1GiB/s";
    /// Stanzas of one remote address in a minute, and a sixth more, for which its stream is slowed; messages and requests above come
    /// back, presence is dropped (LIM-04). Presence and what is said in rooms counts for the full address; all full addresses of a
    /// bare one may send 20 times as much together, and a domain 50 times.
    sender_stanzas ("sender-stanzas"): rate = "6000/min", "1/min" ..= "600000/min";
    /// Different accounts here that one remote domain writes to in a minute; what goes to others comes back (LIM-04).
    recipients ("recipients"): rate = "10000/min", "1/min" ..= "1000000/min";
    /// Requests for subscriptions to presence from one remote domain in a minute; further ones are dropped (LIM-08).
    subscriptions ("subscriptions"): rate = "120/min", "1/min" ..= "60000/min";
    /// Refusals that are kept at hand for `gatehouse refusals` and the status page, the newest.
    refusals ("refusals"): count = "1000", "0" ..= "100000";
    /// Failures in a row to reach a remote domain, after which its circuit counts as open (CLS-07).
    circuit_failures ("circuit-failures"): count = "3", "1" ..= "1000";
    /// Failed SASL attempts on one stream (L-sasl-attempts).
    sasl_attempts ("sasl-attempts"): count = "3", "2" ..= "5";
    /// Requests for a new account (in-band registration) that one network, IPv6 counted per /64, may make in an hour.
    registrations ("registrations"): count = "10", "1" ..= "100000";
    /// Failed logins for one account from one network, after which the network may not try that account for a while.
    login_failures_account ("login-failures-account"): count = "10", "3" ..= "1000";
    /// Failed logins from one network, IPv6 counted per /64, after which it may not log in for a while (C2S-11).
    login_failures_network ("login-failures-network"): count = "50", "3" ..= "100000";
}

table! {
    /// `timeouts:`
    spec TimeoutsSpec;
    /// Timeouts, complete and in range.
    settings Timeouts;
    /// To the first octet (T-first-byte).
    first_byte ("first-byte"): time = "5s", "1s" ..= "1m";
    /// To the end of a stream header or PROXY header (T-header, ACC-04).
    header ("header"): time = "10s", "3s" ..= "2m";
    /// For the TLS handshake (T-tls).
    tls ("tls"): time = "10s", "1s" ..= "2m";
    /// From accept to the first proven pair or bound address (T-unauth).
    unauth ("unauth"): time = "60s", "5s" ..= "10m";
    /// For one dialback operation (T-dialback).
    dialback ("dialback"): time = "30s", "1s" ..= "5m";
    /// How long a verification keeps its place for certain while others wait for one (LIM-06).
    verify_turn ("verify-turn"): time = "1s", "100ms" ..= "30s";
    /// In an outbound queue (T-queue).
    queue ("queue"): time = "60s", "1s" ..= "1h";
    /// For the other side's closing tag (T-close).
    close ("close"): time = "5s", "100ms" ..= "1m";
    /// Without an acknowledgement of what was sent to a remote server that counts what it takes: the connection is taken as broken
    /// (T-ack, SM-01).
    acknowledgement ("acknowledgement"): time = "60s", "5s" ..= "1h";
    /// For a broken stream between servers to go on over another connection (T-resume, SM-01); what was not acknowledged comes back
    /// then. `0s`: none goes on.
    resume ("resume"): time = "2m", "0s" ..= "1h";
    /// After the last answer on a stream that only verifies (T-verify-idle).
    verify_idle ("verify-idle"): time = "5s", "100ms" ..= "10m";
    /// Without traffic on a stream between servers (T-idle-s2s).
    idle_s2s ("idle-s2s"): time = "30m", "1m" ..= "24h";
    /// Between white-space keepalives (T-keepalive).
    keepalive ("keepalive"): time = "5m", "5m" ..= "24h";
    /// For one DNS query (T-dns).
    dns ("dns"): time = "5s", "100ms" ..= "1m";
    /// For all DNS queries of one lookup (T-dns).
    dns_total ("dns-total"): time = "15s", "1s" ..= "5m";
    /// To connect to one address (T-connect).
    connect ("connect"): time = "5s", "100ms" ..= "2m";
    /// To connect to any address of a server (T-connect).
    connect_total ("connect-total"): time = "20s", "1s" ..= "10m";
    /// The least time between two attempts to reach a remote domain that did not answer, while somebody has something for it; what comes in between comes back at once (CLS-07).
    retry_demand ("retry-demand"): time = "1s", "100ms" ..= "10m";
    /// The longest time until the first attempt that nothing but time suggests, such as an error that waits for the domain; it is random, and grows with each further failure (CLS-07).
    retry_first ("retry-first"): time = "60s", "1s" ..= "10m";
    /// The longest time between two attempts that nothing but time suggests.
    retry_most ("retry-most"): time = "10m", "1s" ..= "24h";
    /// From `<` to the end tag of one first-level element (T-stanza).
    stanza ("stanza"): time = "120s", "5s" ..= "1h";
    /// How long the second failed login in a row makes the third wait; each further one doubles it.
    login_delay ("login-delay"): time = "500ms", "10ms" ..= "10s";
    /// The longest such wait.
    login_delay_most ("login-delay-most"): time = "10s", "10ms" ..= "30s";
    /// How long a network that failed too often may not log in.
    login_ban ("login-ban"): time = "15m", "1s" ..= "24h";
    /// How long a failed login is remembered.
    login_memory ("login-memory"): time = "1h", "1s" ..= "24h";
    /// From the order to drain to the cut.
    drain ("drain"): time = "30s", "0s" ..= "1h";
}

/// XML-19: no stanza that is let in may become undeliverable, as the server behind wraps it and writes it anew.
pub(super) fn deliverable(spec: Option<&Placed<LimitsSpec>>, limits: &Limits, reader: &mut ScalarReader) {
    let Some(at) = spec else { return };
    let (s, n) = (&at.value, |count: u32| u64::from(count));
    let relations = [
        (
            ("inside-stanza", &s.inside_stanza),
            limits.inside_stanza,
            ("stanza", &s.stanza),
            limits.stanza,
            (4, 0),
        ),
        (
            ("inside-stanza", &s.inside_stanza),
            limits.inside_stanza,
            ("grown", &s.grown),
            limits.grown,
            (1, 64 << 10),
        ),
        (
            ("inside-depth", &s.inside_depth),
            n(limits.inside_depth),
            ("depth", &s.depth),
            n(limits.depth),
            (1, 8),
        ),
        (
            ("inside-nodes", &s.inside_nodes),
            n(limits.inside_nodes),
            ("nodes", &s.nodes),
            n(limits.nodes),
            (1, 32),
        ),
        (
            ("inside-attr-value", &s.inside_attr_value),
            limits.inside_attr_value,
            ("attr-value", &s.attr_value),
            limits.attr_value,
            (1, 0),
        ),
        (
            ("inside-attrs", &s.inside_attrs),
            n(limits.inside_attrs),
            ("attrs", &s.attrs),
            n(limits.attrs),
            (2, 0),
        ),
        (
            ("inside-nsdecl", &s.inside_nsdecl),
            n(limits.inside_nsdecl),
            ("nsdecl", &s.nsdecl),
            n(limits.nsdecl),
            (1, 8),
        ),
        (
            ("inside-bindings", &s.inside_bindings),
            n(limits.inside_bindings),
            ("bindings", &s.bindings),
            n(limits.bindings),
            (1, 8),
        ),
        (("skip", &s.skip), limits.skip, ("inside-stanza", &s.inside_stanza), limits.inside_stanza, (1, 0)),
    ];
    for ((key, word), value, (other, other_word), least, (times, more)) in relations {
        let due = least.saturating_mul(times).saturating_add(more);
        // Both defaults are in order: one of the two is written.
        let Some(word) = word.as_ref().or(other_word.as_ref()).filter(|_| value < due) else { continue };
        reader.error(
            word,
            format!("`{key}` ({value}) is too small for `{other}` ({least}): what is let in could not be delivered"),
            format!("write `{key}: {}` or more, or a smaller `{other}`", written(key, due)),
        );
    }
}

/// A number as the key has it.
fn written(key: &str, number: u64) -> String {
    let octets = matches!(key, "inside-stanza" | "inside-attr-value" | "skip");
    match octets {
        true if number.is_multiple_of(1 << 20) => format!("{}MiB", number >> 20),
        true if number.is_multiple_of(1 << 10) => format!("{}KiB", number >> 10),
        true => format!("{number}B"),
        false => number.to_string(),
    }
}

struct Range {
    key: &'static str,
    default: &'static str,
    least: &'static str,
    most: &'static str,
}

impl Range {
    /// The value in the file if it is in range, the default otherwise; the table's own words are checked by a test.
    fn value<T: Copy + PartialOrd + Floor>(
        &self,
        reader: &mut ScalarReader,
        word: Option<&Scalar>,
        read: fn(&str) -> Result<T, String>,
    ) -> T {
        let default = read(self.default).unwrap_or(T::FLOOR);
        let Some(word) = word else { return default };
        let range = read(self.least).unwrap_or(T::FLOOR)..=read(self.most).unwrap_or(T::FLOOR);
        match read(&word.value) {
            Ok(value) if within(&range, value) => value,
            Ok(_) => {
                reader.error(
                    word,
                    format!("`{}: {}` is out of range", self.key, word.value),
                    format!(
                        "write a value from {} to {}; the default is {}",
                        self.least, self.most, self.default
                    ),
                );
                default
            }
            Err(message) => {
                reader.error(word, message, format!("write it like `{}: {}`", self.key, self.default));
                default
            }
        }
    }
}

fn within<T: PartialOrd>(range: &RangeInclusive<T>, value: T) -> bool {
    range.contains(&value)
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
