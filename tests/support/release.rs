//! The two Debian releases whose servers the tests run, on a system of either.
//!
//! The servers of the release that this system is are those it has installed; those of the other lie unpacked under
//! `target/servers/` (`tests/support/generation`, which `tests/run` calls) and are started in that folder as their root,
//! with the libraries of their own release and the files, resolver and network of the test's host.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A release of Debian.
#[allow(dead_code)] // not each test crate wants both
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 12: Prosody 0.12.3, ejabberd 23.01, jabberd2 2.7.0-4.
    Bookworm,
    /// Debian 13: Prosody 13.0.1, ejabberd 24.12, jabberd2 2.7.0-8, Valkey 8.1.1.
    Trixie,
}

impl Release {
    fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// Where its file system begins: `/` on a system of this release.
    pub fn root(self) -> PathBuf {
        static OWN: OnceLock<String> = OnceLock::new();
        let own = OWN.get_or_init(|| fs::read_to_string("/etc/os-release").unwrap_or_default());
        if own.lines().any(|line| line == format!("VERSION_CODENAME={}", self.codename())) {
            return PathBuf::from("/");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(self.codename());
        assert!(
            root.join(".complete").exists(),
            "{} is missing: tests/run makes it, by tests/support/generation {}",
            root.display(),
            self.codename()
        );
        root
    }

    /// The program and arguments that run this program with these arguments in the release, by way of a shell that becomes
    /// it; to be started in a mount namespace of its own, as `ip netns exec` makes one.
    pub fn command(self, program: &str, arguments: &[&str]) -> Vec<String> {
        let root = self.root();
        let mut words: Vec<String> = Vec::new();
        if root != Path::new("/") {
            let scratch = std::env::temp_dir();
            let place = root.join(scratch.strip_prefix("/").expect("an absolute path"));
            fs::create_dir_all(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
            let [root, scratch] = [&root, &scratch].map(|path| path.to_string_lossy().into_owned());
            words.extend(["sh", "-c", ENTER, &root, &scratch].map(str::to_owned));
        }
        words.push(program.to_owned());
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        words
    }
}

/// `$0` is the root, `$1` the folder where the tests keep their files, the rest is the command. What `ip netns exec` has
/// bound over `/etc` for the host goes along.
const ENTER: &str = r#"set -e
for folder in /dev /proc /sys "$1"; do mount --rbind "$folder" "$0$folder"; done
for file in hosts nsswitch.conf resolv.conf; do mount --bind "/etc/$file" "$0/etc/$file"; done
shift
here=$PWD
exec chroot "$0" /usr/bin/env -C "$here" "$@""#;
