//! The dialback secrets of a running gateway: read again with overlap.
//!
//! A secret that replaces another makes the keys from then on; the one before it still verifies the keys that others
//! hold already, or that another node of a cluster still makes (DB-13). It is forgotten when the next one comes.

use std::path::PathBuf;

use crate::config::settings::Settings;
use crate::config::{Secret, read_secret};
use crate::policy::{Finding, Place};
use crate::reason::Reason;
use crate::run;
use crate::stream::{Keyring, Keyrings};

/// What the files of the two realms hold; none where no file is named.
#[derive(Debug, Default)]
pub struct FromFiles {
    world: Option<Secret>,
    inside: Option<Secret>,
}

impl FromFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Every secret that cannot be read, and two that are the same.
    pub fn read(settings: &Settings) -> Result<Self, Vec<Finding>> {
        let files = &settings.secrets;
        let read = |file: &Option<PathBuf>| file.as_deref().map(read_secret).transpose();
        let (world, inside) = match (read(&files.world), read(&files.inside)) {
            (Ok(world), Ok(inside)) => (world, inside),
            (world, inside) => return Err(world.err().into_iter().chain(inside.err()).collect()),
        };
        match (&world, &inside, &files.inside) {
            (Some(one), Some(other), Some(file)) if one == other => Err(vec![Finding::error(
                Place::whole(&file.display().to_string()),
                "both realms have the same secret",
                "make another one: a key made for the one must never verify in the other",
            )]),
            _ => Ok(Self { world, inside }),
        }
    }
}

/// The secrets of both realms.
#[derive(Clone, Debug)]
pub struct Secrets {
    world: Realm,
    inside: Realm,
}

/// The secret in force, and the one before it.
#[derive(Clone, Debug)]
struct Realm {
    secret: Secret,
    /// Drawn at random, since no file is named.
    drawn: bool,
    ring: Keyring,
}

impl Realm {
    fn begin(secret: Option<Secret>) -> Result<Self, Reason> {
        let drawn = secret.is_none();
        let secret = secret.map_or_else(|| run::seed().map(|seed| Secret::new(&seed)), Ok)?;
        Ok(Self { ring: Keyring::new(secret.octets()), secret, drawn })
    }

    fn renewed(&self, secret: Option<Secret>) -> Result<Self, Reason> {
        match secret {
            None if self.drawn => Ok(self.clone()),
            Some(secret) if secret == self.secret => Ok(Self { drawn: false, ..self.clone() }),
            secret => {
                let next = Self::begin(secret)?;
                let ring = next.ring.with_old(self.secret.octets());
                Ok(Self { ring, ..next })
            }
        }
    }
}

impl Secrets {
    /// Those of the files, and others drawn at random.
    ///
    /// # Errors
    /// When the system gives no random octets.
    pub fn begin(files: FromFiles) -> Result<Self, Reason> {
        Ok(Self { world: Realm::begin(files.world)?, inside: Realm::begin(files.inside)? })
    }

    /// The secrets that follow these.
    ///
    /// # Errors
    /// When the system gives no random octets.
    pub fn renewed(&self, files: FromFiles) -> Result<Self, Reason> {
        Ok(Self { world: self.world.renewed(files.world)?, inside: self.inside.renewed(files.inside)? })
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
