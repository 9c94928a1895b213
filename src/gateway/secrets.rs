//! The dialback secrets of a running gateway: read again with overlap.
//!
//! A secret that replaces another makes the keys from then on; the one before it still verifies the keys that others
//! hold already, or that another node of a cluster still makes (DB-13). It is forgotten when the next one comes.

use std::path::Path;

use crate::config::settings::Settings;
use crate::config::{Secret, read_secret};
use crate::policy::{Finding, Place};
use crate::run;
use crate::stream::{Keyring, Keyrings};

/// The secrets of both realms.
#[derive(Clone, Debug)]
pub struct Secrets {
    world: Realm,
    inside: Realm,
}

/// The secret in force, and the one before it.
#[derive(Clone, Debug)]
struct Realm {
    /// None: drawn at random when the process started, and fixed for it.
    secret: Option<Secret>,
    ring: Keyring,
}

impl Secrets {
    /// Reads the files, or draws what has none.
    ///
    /// # Errors
    /// Every secret that cannot be read or drawn.
    pub fn read(settings: &Settings) -> Result<Self, Vec<Finding>> {
        let drawn = || {
            let seed = run::seed().map_err(|_| {
                let place = Place::whole(&settings.file);
                let message = "the system gives no random octets for a dialback secret";
                Finding::error(place, message, "name a secret file")
            })?;
            Ok(Realm { secret: None, ring: Keyring::new(&seed) })
        };
        let read = |file: Option<&Path>| match file {
            None => drawn(),
            Some(file) => {
                let secret = read_secret(file)?;
                Ok(Realm { ring: Keyring::new(secret.octets()), secret: Some(secret) })
            }
        };
        both(read(settings.secrets.world.as_deref()), read(settings.secrets.inside.as_deref()))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// Every secret that cannot be read, and two that are the same.
    pub fn renewed(&self, settings: &Settings) -> Result<Self, Vec<Finding>> {
        let read = |file: Option<&Path>, old: &Realm| match (file, &old.secret) {
            (Some(file), Some(old_secret)) => {
                let secret = read_secret(file)?;
                if secret == *old_secret {
                    return Ok(old.clone());
                }
                let ring = Keyring::new(secret.octets()).with_old(old_secret.octets());
                Ok(Realm { secret: Some(secret), ring })
            }
            _ => Ok(old.clone()),
        };
        let secrets = both(
            read(settings.secrets.world.as_deref(), &self.world),
            read(settings.secrets.inside.as_deref(), &self.inside),
        )?;
        match (&secrets.world.secret, &secrets.inside.secret, &settings.secrets.inside) {
            (Some(world), Some(inside), Some(file)) if world == inside => Err(vec![Finding::error(
                Place::whole(&file.display().to_string()),
                "both realms have the same secret",
                "make another one: a key made for the one must never verify in the other",
            )]),
            _ => Ok(secrets),
        }
    }

    /// What makes and verifies keys.
    pub fn keyrings(&self) -> Keyrings {
        Keyrings { world: self.world.ring.clone(), inside: self.inside.ring.clone() }
    }

    /// Whether the secrets are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.world.secret == other.world.secret && self.inside.secret == other.inside.secret
    }
}

fn both(world: Result<Realm, Finding>, inside: Result<Realm, Finding>) -> Result<Secrets, Vec<Finding>> {
    match (world, inside) {
        (Ok(world), Ok(inside)) => Ok(Secrets { world, inside }),
        (world, inside) => Err(world.err().into_iter().chain(inside.err()).collect()),
    }
}
