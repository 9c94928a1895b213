//! Clients and their server, as far as the gateway stands between them: two roles, and what each lets through.
//!
//! [`ClientReceiving`] is the server towards a client, [`ClientInitiating`] the client towards the server inside. That server decides every
//! login; the two see to it that a client hears and uses only what is on the lists, and that no stanza passes before the
//! server itself has said who speaks ([`Own`]). What crosses from one to the other is an [`Ask`] or a [`ServerAnswer`].

pub mod certified;
pub mod ended;
pub mod features;
pub mod initiating;
pub mod login;
pub mod mechanism;
pub mod own;
pub mod receiving;
pub mod signed;

pub use features::{ClientOffer, Rules};
pub use initiating::ClientInitiating;
pub use login::Profile;
pub use mechanism::Mechanism;
pub use own::Own;
pub use receiving::ClientReceiving;

use crate::jid::Domain;
use crate::xml::{Content, Header};

/// What a client asked of its server; only these are passed on before it is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// The end of the exchange.
    Abort,
    /// A login, and what shall go with it.
    Auth(Profile, Mechanism, Wants),
    /// A resource, with an iq of this id.
    Bind(String),
    /// Stream management or client state: nothing that an answer is due to here.
    Nonza,
    /// An account, with an iq of this id.
    Register(String),
    /// An answer to a challenge.
    Response,
    /// The session of an earlier stream.
    Resume,
    /// The session of RFC 3921, with an iq of this id.
    Session(String),
}

/// What a SASL2 login shall bring with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wants {
    /// Bind 2.
    pub bind: bool,
    /// Resumption.
    pub resume: bool,
}

/// What the server said to what the client asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAnswer {
    /// An answer after the login that binds nothing: a refusal, or that to a session of RFC 3921.
    Answered,
    /// The resource is bound.
    Bound(Own),
    /// More is needed for the login.
    Challenge,
    /// The login failed.
    Failure(Cause),
    /// Stream management, or features that came late; it changes nothing.
    Nonza,
    /// An answer about an account.
    Registered,
    /// The session goes on.
    Resumed,
    /// The login is granted.
    Success(Granted),
}

/// What a login failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The password, or whatever else it was: it counts as a guess.
    Guess,
    /// The server blames itself.
    Temporary,
    /// The way it was tried: mechanism, channel binding or form. No password caused it.
    Way,
}

/// How a stream goes on after a login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Granted {
    /// SASL2 with Bind 2 or a resumed session: stanzas may pass.
    Bound(Own),
    /// SASL2 alone: features follow.
    Open(Own),
    /// RFC 6120: a new stream.
    Restart,
}

/// A stream header between a client and its server.
pub fn opening(from: Option<&str>, to: Option<&str>, id: Option<&str>, lang: Option<&str>) -> Vec<u8> {
    let header = Header { from, to, id, version: Some((1, 0)), lang, ..Header::new(Content::Client) };
    header.write_open()
}

/// A header from `domain`, or from nobody, to nobody.
fn opening_of(domain: Option<&Domain>, to: Option<&str>, id: &str) -> Vec<u8> {
    opening(domain.map(Domain::as_str), to, Some(id), Some(super::LANGUAGE))
}
