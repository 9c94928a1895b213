//! The table of families: one row for each, with its kind, its name, what it counts, and its labels.

use prometheus::{CounterVec, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::files::InForce;
use super::maker::Maker;

macro_rules! families {
    ($( $field:ident: $kind:ident($($argument:tt),*); )*) => {
        /// Every family of the registry.
        #[derive(Debug)]
        pub(super) struct Families { $( pub(super) $field: kind!($kind), )* }

        impl Families {
            /// # Errors
            /// When a family is described wrongly: a fault of this file, seen by its first test.
            pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
                Ok(Self { $( $field: make.$kind($( argument!($argument) ),*)?, )* })
            }
        }
    };
}

macro_rules! kind {
    (counter) => {
        IntCounter
    };
    (counters) => {
        IntCounterVec
    };
    (floats) => {
        GaugeVec
    };
    (gauge) => {
        IntGauge
    };
    (gauges) => {
        IntGaugeVec
    };
    (histograms) => {
        HistogramVec
    };
    (info) => {
        InForce
    };
    (sums) => {
        CounterVec
    };
}

macro_rules! argument {
    ([ $($item:expr),* ]) => { &[ $($item),* ] };
    ($word:literal) => { $word };
}

families! {
    connections_total: counters(
        "connections_total",
        "Connections that arrived, by how the door answered.",
        ["listener", "outcome"]
    );
    connections_refused: counters(
        "connections_refused_total",
        "Connections that were ended before a stream began, by reason.",
        ["listener", "reason"]
    );
    connections: gauges("connections", "Connections that are open now.", ["listener"]);
    streams: gauges("streams", "Admitted domain pairs that are open now.", ["flow", "domain"]);
    tls_handshakes: counters(
        "tls_handshakes_total",
        "TLS handshakes that ended, as server and as client.",
        ["listener", "version", "outcome"]
    );
    authentications: counters(
        "authentications_total",
        "Proofs of identity that came out.",
        ["flow", "domain", "method", "outcome"]
    );
    verdicts: counters("policy_verdicts_total", "Verdicts of the policy.", ["flow", "domain", "rule", "outcome", "reason"]);
    stanzas: counters("stanzas_total", "Stanzas that passed.", ["flow", "domain", "kind"]);
    bidi_stanzas: counters(
        "bidi_stanzas_total",
        "Stanzas among those that passed that took the way back on a stream between servers (XEP-0288).",
        ["flow"]
    );
    stanzas_refused: counters(
        "stanzas_refused_total",
        "Stanzas that were bounced, dropped, or ended their stream.",
        ["flow", "domain", "reason"]
    );
    stanzas_withheld: counters(
        "stanzas_withheld_total",
        "Stanzas of which a rule's `egress` kept something inside, by what became of them.",
        ["domain", "rule", "outcome"]
    );
    stream_management: counters(
        "stream_management_total",
        "What stream management (XEP-0198) between servers came to: sessions, and stanzas that were resent or returned.",
        ["flow", "outcome"]
    );
    patch_hits: counters(
        "patch_hits_total",
        "Stanzas that met a patch, by what it did, or would do in shadow mode.",
        ["flow", "patch", "outcome"]
    );
    octets: counters("octets_total", "Octets of the stanzas that passed.", ["flow", "domain"]);
    stream_errors: counters(
        "stream_errors_total",
        "Stream errors, sent and received.",
        ["flow", "facing", "direction", "condition"]
    );
    dialback: counters("dialback_total", "Dialback operations that ended.", ["role", "facing", "outcome"]);
    dialback_seconds: histograms(
        "dialback_seconds",
        "How long dialback operations took.",
        ["role"],
        [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0]
    );
    limited: counters("limited_total", "Times a limit was met.", ["limit"]);
    limited_seconds: sums("limited_seconds_total", "Time spent waiting because a limit was met.", ["limit"]);
    negotiation_seconds: histograms(
        "negotiation_seconds",
        "From the claim of a pair to its admission or rejection.",
        ["flow", "outcome"],
        [0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
    );
    backend_up: gauges(
        "backend_up",
        "Whether the backend answers a stream, by active checks; without checks, whether it took the last connection.",
        ["domain", "flow"]
    );
    backend_streams: gauges(
        "backend_streams",
        "Streams of ours to a server behind, by its first domain: open or being opened, and waiting to be.",
        ["domain", "state"]
    );
    certificate_not_after: floats(
        "certificate_not_after_seconds",
        "As certificate_not_after_timestamp_seconds, which replaces it; gone in the next version.",
        ["domain"]
    );
    reloads: counters("reloads_total", "Reloads of policies and certificates.", ["outcome"]);
    renewals: counters(
        "renewals_total",
        "Certificates, keys, trust anchors and revocation lists that changed on the disk, and were taken over or not.",
        ["outcome"]
    );
    policy_info: info("policy_info", "The policy in force; always 1.", ["digest"]);
    config_info: info("config_info", "The configuration in force; always 1.", ["digest"]);
    config_stale: gauge("config_stale", "Whether files on the disk differ from what is in force.");
    bans: gauge("bans", "Bans of operators, networks that may not log in, and accounts that single networks may not try.");
    circuits: gauges(
        "circuits",
        "Remote domains that did not answer lately: failing, open (after repeated failures), half-open (open, and tried again just now).",
        ["state"]
    );
    circuits_open: gauge(
        "circuits_open",
        "Remote domains that at least one hosted domain leaves alone for a while after repeated failures."
    );
    readers_disagree: counter(
        "readers_disagree_total",
        "Stanzas in which the two readers found different things; their streams were ended. A fault of the gateway."
    );
    audit_records: counter("audit_records_total", "Audit records written.");
    audit_lost: counter("audit_records_lost_total", "Audit records that could not be written.");
    audit_failing: gauge("audit_failing", "Whether audit records wait because the disk takes none.");
    log_left_out: counter("log_lines_left_out_total", "Log lines that were left out because one network caused too many.");
    certificate_ends: floats(
        "certificate_not_after_timestamp_seconds",
        "When our certificate for the domain ends, as Unix time.",
        ["domain"]
    );
    rule_expires: floats(
        "rule_expires_timestamp_seconds",
        "The end of the last day on which the rule holds (UTC), as Unix time.",
        ["rule"]
    );
    vouched_for_others: counters(
        "dialback_vouched_for_others_total",
        "Dialback keys of other nodes that share the secret, vouched for here.",
        ["facing"]
    );
    keys_astray: counters(
        "dialback_keys_astray_total",
        "Dialback keys of nodes that share the secret and whose clock is not ours, told invalid; one in ten seconds is looked at.",
        ["facing"]
    );
    shadow_info: info("shadow_info", "The policy in the shadow; always 1, and absent without one.", ["digest"]);
    shadow_verdicts: counters(
        "shadow_verdicts_total",
        "What the policy in the shadow says to the questions of policy_verdicts_total; `change` tells whether that is otherwise.",
        ["flow", "domain", "rule", "outcome", "reason", "change"]
    );
    shadow_stanzas: counters(
        "shadow_stanzas_total",
        "Stanzas that passed and the policy in the shadow would refuse, or that were refused and it would let pass.",
        ["flow", "domain", "change"]
    );
    rules_expiring: gauges(
        "rules_expiring",
        "Rules and patches whose last day is today or comes within so many days.",
        ["days"]
    );
    quarantine: gauges(
        "quarantine_domains",
        "Registrable domains that wait in quarantine, and those that were approved or refused.",
        ["state"]
    );
    peers_changed: counters(
        "peers_changed_total",
        "Changes of how a remote domain is proven, by what is another than before.",
        ["what"]
    );
    peers_waiting: gauge("peers_waiting", "Pairs with a change of the proof that is held until an operator says what it is.");
    peers_left_out: gauge(
        "peers_left_out",
        "Pairs whose changes a rule would hold and of which nothing is remembered, because there is no room."
    );
    cluster_nodes: gauges("cluster_nodes", "Nodes that share the store, as this one sees them, itself included.", []);
    cluster_store_up: gauges("cluster_store_up", "Whether the store that nodes share does what it is asked.", []);
    cluster_mismatch: gauges(
        "cluster_mismatch",
        "Whether another node differs from this one in what should be the same.",
        ["what"]
    );
}
