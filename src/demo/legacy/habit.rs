//! Whose habits a legacy server has: what it writes, waits for and gives up on.

use std::time::Duration;

/// Whose habits the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// One stream for each pair, one connection for each question; version 1.0.
    Ejabberd,
    /// No version, no `to`, no `from`; one stream for every target.
    Jabberd2,
    /// Openfire 4.7.5: sessions outward are set up one after another, for the whole server.
    Openfire4,
    /// Openfire 5.2: an empty connection before each real one, features with dialback or nothing, a question about the version
    /// first; two foreign domains proven on one stream of ours cut it off from the second.
    Openfire5,
    /// Questions about keys on the stream that carries its own key; the key as text in a positive answer; `id=''`.
    Prosody,
    /// Tigase 8.4.0: no XML declaration; stanzas that wait are written onto the connection of a question that went well;
    /// narrow limits, no hexadecimal references.
    Tigase,
    /// Wildfire 3.2.4: headers that say nothing, five set up at a time; goes on to the parent of a domain that is refused.
    Wildfire,
}

impl Habit {
    /// All of them.
    pub const ALL: [Habit; 7] = [
        Self::Ejabberd,
        Self::Jabberd2,
        Self::Openfire4,
        Self::Openfire5,
        Self::Prosody,
        Self::Tigase,
        Self::Wildfire,
    ];

    /// Whether its headers name no version and no domain.
    pub(super) fn is_wordless(self) -> bool {
        matches!(self, Self::Jabberd2 | Self::Wildfire)
    }

    /// Whether it asks about each key on a connection of its own.
    pub(super) fn asks_apart(self) -> bool {
        !matches!(self, Self::Jabberd2 | Self::Prosody)
    }

    /// How many sessions outward it sets up at a time: from the dialling to the answer to its claim.
    pub(super) fn set_ups(self) -> usize {
        match self {
            Self::Openfire4 => 1,
            Self::Wildfire => 5,
            Self::Openfire5 => 100,
            Self::Ejabberd | Self::Jabberd2 | Self::Prosody | Self::Tigase => 10_000,
        }
    }

    /// How long it waits for the answer to its claim; without an end where the others' patience is the shorter one.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Openfire5 => Duration::from_secs(10),
            Self::Openfire4 | Self::Wildfire => Duration::from_secs(20),
            Self::Tigase => Duration::from_secs(30),
            Self::Ejabberd | Self::Jabberd2 | Self::Prosody => Duration::from_secs(600),
        }
    }

    /// How long it waits before each connection outward. Tigase's own 2 s, shortened to a tenth.
    pub(super) fn pause(self) -> Option<Duration> {
        (self == Self::Tigase).then_some(Duration::from_millis(200))
    }

    /// What a user reads where no answer or no connection came.
    pub(super) fn given_up(self) -> &'static str {
        match self {
            Self::Openfire4 | Self::Openfire5 | Self::Tigase | Self::Wildfire => "remote-server-not-found",
            Self::Ejabberd | Self::Jabberd2 | Self::Prosody => "remote-server-timeout",
        }
    }

    /// What it says to a stanza whose pair was not proven on the stream: nothing, or the end of the stream. As tried: one forged
    /// stanza costs Prosody, ejabberd and Openfire 5.2 the whole stream, jabberd2 drops it in silence.
    pub(super) fn on_forgery(self) -> Option<&'static str> {
        match self {
            Self::Ejabberd | Self::Openfire4 | Self::Openfire5 | Self::Tigase | Self::Wildfire => {
                Some("invalid-from")
            }
            Self::Prosody => Some("not-authorized"),
            Self::Jabberd2 => None,
        }
    }

    /// Whether it drops stanzas that come back on a stream that it opened. Prosody ends the stream.
    pub(super) fn drops_errors(self) -> bool {
        self != Self::Prosody
    }

    /// The features of a stream that it takes.
    pub(super) fn features(self) -> &'static str {
        match self {
            // As tried: ejabberd 23.01 offers an empty list of mechanisms beside dialback, Prosody 0.12 no `<errors/>`.
            Self::Ejabberd => {
                "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><dialback xmlns='urn:xmpp:features:dialback'/>"
            }
            // Offered even where nobody need take it.
            Self::Tigase => {
                "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><dialback xmlns='urn:xmpp:features:dialback'/>"
            }
            Self::Openfire4 | Self::Openfire5 => {
                "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
            }
            Self::Jabberd2 | Self::Prosody | Self::Wildfire => {
                "<dialback xmlns='urn:xmpp:features:dialback'/>"
            }
        }
    }
}
