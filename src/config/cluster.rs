//! What the configuration says of the nodes that serve the same domains, and of the store that they share.

use super::scalars::ScalarReader;
use super::settings::{Cluster, Secrets};
use super::spec;

/// Reads `cluster:`.
pub(super) fn cluster(
    spec: &spec::FileSpec,
    secrets: &Secrets,
    reader: &mut ScalarReader,
) -> Option<Cluster> {
    let at = spec.cluster.as_ref()?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = reader.needed(at, &at.value.name, "name", "gate").and_then(|word| {
        let fits = (1..=64).contains(&word.value.len()) && word.value.chars().all(plain);
        if !fits {
            let message = format!("\"{}\" is no name of a cluster", word.value);
            reader.error(word, message, "write up to 64 of a to z, 0 to 9 and -, the same on every node");
        }
        fits.then(|| word.value.clone())
    });
    let store = reader.needed(at, &at.value.store, "store", "\"redis://10.0.0.9:6379\"").and_then(|word| {
        let address: Result<crate::store::Address, String> = word.value.parse();
        match address {
            Ok(address) => {
                if !address.tls && !address.hosts.iter().all(|(host, _)| is_near(host)) {
                    let message = "the store is spoken to in clear";
                    reader.warn(word, message, "write rediss:// in place of redis://, unless nobody else is on that network");
                }
                Some(address)
            }
            Err(why) => {
                // What is written there may hold a password.
                let message = format!("this is no store: {why}");
                let remedy = "write it like redis://10.0.0.9:6379, rediss://gate@store.example.com, \
                              redis+sentinel://10.0.0.1,10.0.0.2/gate or redis+cluster://10.0.0.1,10.0.0.2; the password is a file of its own, `password:`";
                reader.error(word, message, remedy);
                None
            }
        }
    });
    let password = at.value.password.as_ref().map(|word| reader.path(word));
    let roots = at.value.roots.as_ref().map(|word| reader.path(word));
    if let (Some(word), Some(false)) = (&at.value.roots, store.as_ref().map(|store| store.tls)) {
        reader.error(
            word,
            "trust anchors for a store that shows no certificate",
            "write rediss:// in `store`, or remove `roots`",
        );
    }
    if secrets.world.is_none() || secrets.inside.is_none() {
        let remedy = "name two files, the same on every node: `dialback: { secrets: { world: secrets/world, inside: secrets/inside } }`";
        reader.error(at, "a cluster whose nodes do not share the secrets of dialback", remedy);
    }
    Some(Cluster { name: name?, store: store?, password, roots })
}

/// Whether nobody is on the way to that host.
fn is_near(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
