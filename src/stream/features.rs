//! Stream features between servers: what we offer, and what a server that we called offers us.

use crate::xml::{Element, names};

/// What a receiving server offers, as far as we can use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offered {
    /// STARTTLS.
    pub starttls: bool,
    /// And that it is required (RFC 6120 5.4.1).
    pub starttls_required: bool,
    /// SASL EXTERNAL.
    pub external: bool,
    /// The dialback feature.
    pub dialback: bool,
    /// Stream management (XEP-0198).
    pub management: bool,
    /// Streams in both directions (XEP-0288).
    pub bidi: bool,
    /// XEP-0478: the largest element that it takes, in octets.
    pub max_octets: Option<usize>,
}

/// Reads `<stream:features/>`; what is unknown is passed over (RFC 6120 4.3.2).
pub fn read(features: &Element) -> Offered {
    let mut offered = Offered::default();
    for feature in features.elements() {
        match (feature.namespace.as_str(), feature.name.as_str()) {
            (names::TLS, "starttls") => {
                offered.starttls = true;
                offered.starttls_required = feature.child(names::TLS, "required").is_some();
            }
            (names::SASL, "mechanisms") => {
                offered.external = feature
                    .elements()
                    .any(|m| m.is(names::SASL, "mechanism") && m.text().trim_ascii() == "EXTERNAL");
            }
            (names::DIALBACK_FEATURE, "dialback") => offered.dialback = true,
            (names::STREAM_MANAGEMENT, "sm") => offered.management = true,
            // COMPAT(ejabberd 24.10 to 24.12): writes and reads the feature in the namespace of the request, until it is mended there.
            (names::BIDI_FEATURE | names::BIDI, "bidi") => offered.bidi = true,
            (names::LIMITS, "limits") => {
                offered.max_octets = feature
                    .child(names::LIMITS, "max-bytes")
                    .and_then(|max| max.text().trim_ascii().parse().ok());
            }
            _ => {}
        }
    }
    offered
}

/// The features before TLS: STARTTLS, required, and nothing that depends on TLS (STR-11).
pub fn before_tls() -> String {
    format!("<stream:features><starttls xmlns='{}'><required/></starttls></stream:features>", names::TLS)
}

/// What we offer on a stream that TLS protects, or on the inside listener (STR-12).
#[derive(Clone, Copy, Debug)]
pub struct Offering {
    /// SASL EXTERNAL.
    pub external: bool,
    /// Dialback, with whether multiplexed targets are welcome (DB-67).
    pub dialback: Option<bool>,
    /// Stream management (XEP-0198).
    pub management: bool,
    /// Streams in both directions (XEP-0288).
    pub bidi: bool,
    /// XEP-0478: the largest element that we take, in octets.
    pub max_octets: usize,
}

/// The features with which that is offered.
pub fn write(Offering { external, dialback, management, bidi, max_octets }: Offering) -> String {
    let mut text = String::from("<stream:features>");
    if external {
        text += &format!("<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms>", names::SASL);
    }
    if let Some(errors) = dialback {
        let errors = if errors { "<errors/>" } else { "" };
        text += &format!("<dialback xmlns='{}'>{errors}</dialback>", names::DIALBACK_FEATURE);
    }
    if management {
        text += &format!("<sm xmlns='{}'><optional/></sm>", names::STREAM_MANAGEMENT);
    }
    if bidi {
        // COMPAT(ejabberd): in both namespaces, as above; whoever knows one of them passes the other over.
        text += &format!("<bidi xmlns='{}'/><bidi xmlns='{}'/>", names::BIDI_FEATURE, names::BIDI);
    }
    text += &format!("<limits xmlns='{}'><max-bytes>{max_octets}</max-bytes></limits>", names::LIMITS);
    text += "</stream:features>";
    text
}
