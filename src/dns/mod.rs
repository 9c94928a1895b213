//! Names: where a remote domain's server is, and where a backend is to believe it is.
//!
//! [`Resolver`] finds and orders targets and refuses addresses that must not be dialled; [`steer`] is the small server
//! whose answers lead a backend's federation to the gateway. The two never meet: a resolver that would ask the steering
//! server cannot be built.

mod addresses;
mod denial;
mod gates;
pub mod guard;
pub mod order;
mod own_addresses;
#[doc(hidden)] // open for the fuzz targets: what an answer comes to, without a socket
pub mod query;
pub mod resolver;
mod routes;
#[doc(hidden)] // the same
pub mod srv;
pub mod steer;
mod steer_tcp;
mod tlsa;
mod work;

pub use gates::{Places, Share};
pub use guard::DialGuard;
pub use query::Dnssec;
pub use resolver::{
    Caa, DnsFault, Led, LookedUp, Params, Resolver, Route, Server, SetupFault, Target, check_anchors, is_near,
};
pub use routes::{ByDomain, Whom};

/// How TLS begins at a target (XEP-0368).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsMode {
    /// With the first octet: `_xmpps-server`.
    Direct,
    /// With STARTTLS: `_xmpp-server`.
    Starttls,
}
