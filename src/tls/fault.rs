//! Why a handshake did not come about: whose fault it is, and which of many causes it was.

use std::fmt;
use std::io;

use rustls::sign::SigningKey;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::offer::Offer;
use crate::reason::{Cause, Detail, Reason, escaped};

/// Why a handshake did not come about.
#[derive(Debug)]
pub struct HandshakeFault {
    /// What happened.
    pub kind: FaultKind,
    /// The server name that the other side had asked for, where it got so far and named one.
    pub asked: Option<Box<str>>,
    /// What of ours the client does not have, if that is why.
    lacks: Option<Detail>,
}

/// What happened.
#[derive(Debug)]
pub enum FaultKind {
    /// The peer's own alert.
    Alert(AlertDescription),
    /// The peer ended the connection, or the network did.
    Closed(io::Error),
    /// What the peer sent is not TLS (ACC-11).
    NotTls,
    /// The peer's certificate has an RSA key of so many bits, by which nothing is verified.
    OddKey(usize),
    /// The two sides have no protocol, version, algorithm or behaviour in common.
    Refused(Error),
    /// The client asked for a name that is not served here, or for none where there is no default.
    UnrecognizedName,
}

impl From<FaultKind> for HandshakeFault {
    fn from(kind: FaultKind) -> Self {
        Self { kind, asked: None, lacks: None }
    }
}

impl HandshakeFault {
    /// Sorts what tokio-rustls reports.
    pub(super) fn from_io(error: io::Error) -> Self {
        let kind = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => FaultKind::NotTls,
            Some(Error::AlertReceived(alert)) => FaultKind::Alert(*alert),
            Some(Error::InvalidCertificate(CertificateError::Other(other)))
                if other.0.downcast_ref::<OddKey>().is_some() =>
            {
                FaultKind::OddKey(other.0.downcast_ref::<OddKey>().map_or(0, |odd| odd.0))
            }
            Some(error) => FaultKind::Refused(error.clone()),
            None => FaultKind::Closed(error),
        };
        kind.into()
    }

    /// The same, of a client that had asked for this name.
    pub(super) fn asked(self, name: Option<&str>) -> Self {
        Self { asked: name.map(|name| escaped(name, NAME).into()), ..self }
    }

    /// The same, of a client of whom this was heard; `key` is that of what it is shown.
    pub(super) fn heard(self, octets: &[u8], key: Option<&dyn SigningKey>) -> Self {
        if !matches!(self.kind, FaultKind::NotTls | FaultKind::Refused(_)) {
            return self;
        }
        let Some(offer) = Offer::read(octets) else { return self };
        Self { lacks: offer.lacks(key), ..self }.asked(offer.name.as_deref())
    }

    /// The reason to count and to log.
    pub const fn reason(&self) -> Reason {
        match self.kind {
            FaultKind::NotTls => Reason::WrongTransport,
            FaultKind::Alert(_)
            | FaultKind::Closed(_)
            | FaultKind::OddKey(_)
            | FaultKind::Refused(_)
            | FaultKind::UnrecognizedName => Reason::TlsFailed,
        }
    }

    /// What it was in particular, with the server name asked for.
    pub fn detail(&self) -> Detail {
        let (cause, more) = match (&self.lacks, &self.kind) {
            (Some(lacks), _) => (lacks.cause, lacks.particulars.to_string()),
            (None, FaultKind::Alert(alert)) => alerted(*alert),
            (None, FaultKind::Closed(error)) => (Cause::Cut, error.kind().to_string()),
            (None, FaultKind::NotTls) => (Cause::NotTls, String::new()),
            (None, FaultKind::OddKey(bits)) => (Cause::WeakCertificate, OddKey(*bits).to_string()),
            (None, FaultKind::Refused(error)) => refused(error),
            (None, FaultKind::UnrecognizedName) if self.asked.is_none() => {
                (Cause::NoServerName, String::new())
            }
            (None, FaultKind::UnrecognizedName) => (Cause::NameNotServed, String::new()),
        };
        let name = self.asked.as_deref().map(|name| format!("server name {name}"));
        let more = Some(more).filter(|more| !more.is_empty());
        Detail::new(cause, more.into_iter().chain(name).collect::<Vec<_>>().join(", "))
    }
}

/// What a read or a write on a channel that stood has come to, if TLS knows: an alert that came late.
pub fn late(error: &io::Error) -> Option<Detail> {
    let (cause, more) = match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(alert) => alerted(*alert),
        error => refused(error),
    };
    Some(Detail::new(cause, more))
}

/// What the other side says with an alert.
fn alerted(alert: AlertDescription) -> (Cause, String) {
    use AlertDescription as A;
    let cause = match alert {
        A::HandshakeFailure | A::InsufficientSecurity => Cause::NothingInCommon,
        A::NoApplicationProtocol => Cause::NoCommonProtocol,
        A::ProtocolVersion => Cause::NoCommonVersion,
        A::UnrecognisedName => Cause::NameNotThere,
        _ => Cause::PeerAlert,
    };
    let words = format!("{alert:?}");
    (cause, if cause == Cause::PeerAlert { words } else { format!("its alert is {words}") })
}

fn refused(error: &Error) -> (Cause, String) {
    use PeerIncompatible as P;
    let cause = match error {
        Error::NoApplicationProtocol => Cause::NoCommonProtocol,
        Error::PeerIncompatible(
            P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig
            | P::SupportedVersionsExtensionRequired
            | P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
            | P::Tls13RequiredForQuic,
        )
        | Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => Cause::NoCommonVersion,
        Error::PeerIncompatible(P::NoCipherSuitesInCommon) => Cause::NoCommonSuite,
        Error::PeerIncompatible(
            P::EcPointsExtensionRequired
            | P::KeyShareExtensionRequired
            | P::NamedGroupsExtensionRequired
            | P::NoEcPointFormatsInCommon
            | P::NoKxGroupsInCommon,
        ) => Cause::NoCommonGroup,
        Error::PeerIncompatible(
            P::NoCertificateRequestSignatureSchemesInCommon
            | P::NoSignatureSchemesInCommon
            | P::SignatureAlgorithmsExtensionRequired,
        ) => Cause::NoCommonScheme,
        Error::PeerIncompatible(P::ExtendedMasterSecretExtensionRequired) => Cause::NoMasterSecret,
        _ => Cause::BadHandshake,
    };
    // The library's own words, in which nothing of the peer's stands.
    let more = match cause {
        Cause::BadHandshake | Cause::NoCommonScheme => error.to_string(),
        _ => String::new(),
    };
    (cause, more)
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::Closed(error) => write!(f, "the connection ended during the handshake: {error}"),
            FaultKind::NotTls => f.write_str("the peer does not speak TLS here"),
            FaultKind::OddKey(bits) => write!(f, "the peer's certificate has {}", OddKey(*bits)),
            FaultKind::Refused(Error::PeerIncompatible(
                PeerIncompatible::ExtendedMasterSecretExtensionRequired,
            )) => f.write_str(
                "handshake refused on purpose: TLS 1.2 without the extended master secret (RFC 7627), which RFC 9325 3.5 asks for; \
                 the peer's TLS library is older than 2016, or has it switched off",
            ),
            FaultKind::Refused(error) => match &self.lacks {
                Some(lacks) => write!(f, "handshake refused: {lacks}"),
                None => write!(f, "handshake refused: {error}"),
            },
            FaultKind::UnrecognizedName => f.write_str("the client asked for a name that is not served here"),
            FaultKind::Alert(alert) => write!(f, "the peer sent the alert {alert:?}"),
        }
    }
}

impl std::error::Error for HandshakeFault {}

/// An RSA key of so many bits, which is too short, or longer than anybody verifies by.
#[derive(Debug)]
pub(super) struct OddKey(pub(super) usize);

impl fmt::Display for OddKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an RSA key of {} bits, where 2048 to 8192 are taken", self.0)
    }
}

impl std::error::Error for OddKey {}

/// Characters of a server name that are shown.
const NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9325 3.5: who is refused for it must be able to read why in the operator's log.
    #[test]
    fn a_missing_extended_master_secret_is_told_as_refused_on_purpose() {
        let error = Error::from(PeerIncompatible::ExtendedMasterSecretExtensionRequired);
        let fault = HandshakeFault::from(FaultKind::Refused(error));
        let text = fault.to_string();
        assert!(text.contains("on purpose") && text.contains("RFC 7627"), "{text}");
        assert_eq!(fault.detail().cause, Cause::NoMasterSecret);
        assert!(fault.detail().to_string().contains("on purpose"), "{}", fault.detail());
    }
}
