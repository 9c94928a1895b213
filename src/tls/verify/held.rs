//! Signatures in certificates, each computed once: a server that comes again shows the octets that it showed before, and the certificate
//! of an authority is shown by all whom it has certified.
//!
//! Only the arithmetic is remembered, and only where it held: that this key made this signature of these octets is so for ever. What may
//! change (dates, anchors, usages, constraints, lists of what was revoked) the path validator looks at each time; and that the peer
//! holds the key it shows is another signature in each handshake, which is never looked for here.
//!
//! **What it buys.** With chains read less often, 1.10 of the set-ups by EXTERNAL for each CPU second (row `external` of
//! `cargo bench --bench load`; `src/manual/cost.md`).

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::tls::provider;

/// All algorithms by which certificates and lists are signed here.
pub(super) fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
        LazyLock::new(|| EACH.iter().map(|one| one as &dyn SignatureVerificationAlgorithm).collect());
    static EACH: LazyLock<Vec<Once>> = LazyLock::new(|| {
        let all = provider().signature_verification_algorithms.all.iter();
        all.enumerate().map(|(place, with)| Once { place, with: *with, held: &HELD }).collect()
    });
    &ALL
}

static HELD: Mutex<Held> = Mutex::new(Held { young: None, old: None });

/// One algorithm, by which nothing that held is computed again.
#[derive(Debug)]
struct Once {
    /// Which it is.
    place: usize,
    with: &'static dyn SignatureVerificationAlgorithm,
    held: &'static Mutex<Held>,
}

/// SHA-256 of all that a signature is computed from.
type Mark = [u8; 32];

/// What held: the last [`MANY`] at least, and twice as many at most.
#[derive(Debug)]
struct Held {
    young: Option<HashSet<Mark>>,
    old: Option<HashSet<Mark>>,
}

impl Held {
    fn knows(&mut self, mark: &Mark) -> bool {
        let has = |set: &Option<HashSet<Mark>>| set.as_ref().is_some_and(|set| set.contains(mark));
        if has(&self.young) {
            return true;
        }
        // What is asked for stays.
        let known = has(&self.old);
        if known {
            self.add(*mark);
        }
        known
    }

    fn add(&mut self, mark: Mark) {
        let young = self.young.get_or_insert_default();
        young.insert(mark);
        if young.len() >= MANY {
            self.old = self.young.take();
        }
    }
}

impl Once {
    /// Each part with its length: no two that differ are the same octets.
    fn mark(&self, parts: [&[u8]; 3]) -> Option<Mark> {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.place.to_be_bytes());
        for part in parts {
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finish().as_ref().try_into().ok()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignatureVerificationAlgorithm for Once {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let mark = self.mark([public_key, message, signature]);
        if mark.is_some_and(|mark| self.held().knows(&mark)) {
            return Ok(());
        }
        self.with.verify_signature(public_key, message, signature)?;
        if let Some(mark) = mark {
            self.held().add(mark);
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.with.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.with.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.with.fips()
    }
}

/// Signatures that are remembered: with all that is around them less than 100 KiB.
const MANY: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes what ends in its key, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, key: &[u8], message: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if message.ends_with(key) { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            rustls_pki_types::alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            rustls_pki_types::alg_id::ECDSA_SHA256
        }
    }

    fn counting() -> (&'static Counting, Once) {
        let with: &'static Counting = Box::leak(Box::new(Counting(AtomicUsize::new(0))));
        let held = Box::leak(Box::new(Mutex::new(Held { young: None, old: None })));
        (with, Once { place: 0, with, held })
    }

    // CRT-07: what held is not computed again, and nothing else is taken for it: another key, message, signature or algorithm.
    #[test]
    fn what_held_is_remembered_and_nothing_beside_it() {
        let (with, once) = counting();
        let asked = || with.0.load(Ordering::Relaxed);
        for _ in 0..3 {
            assert!(once.verify_signature(b"key", b"by key", b"sign").is_ok());
        }
        assert_eq!(asked(), 1);
        let near: [[&[u8]; 3]; 5] = [
            [b"ey", b"by key", b"sign"],
            [b"key", b"By key", b"sign"],
            [b"key", b"by key", b"sigh"],
            [b"key", b"by key", b""],
            [b"key", b"by keyby key", b"sign"],
        ];
        for (n, [key, message, signature]) in near.into_iter().enumerate() {
            assert!(once.verify_signature(key, message, signature).is_ok());
            assert_eq!(asked(), 2 + n, "{n}");
        }
        // The same octets, cut elsewhere.
        assert!(once.verify_signature(b"k", b"eyby key", b"sign").is_err());
        let other = Once { place: 1, with, held: once.held };
        assert!(other.verify_signature(b"key", b"by key", b"sign").is_ok());
        assert_eq!(asked(), 8);
    }

    #[test]
    fn what_did_not_hold_is_computed_each_time() {
        let (with, once) = counting();
        for n in 1..4 {
            assert!(once.verify_signature(b"key", b"by another", b"sign").is_err());
            assert_eq!(with.0.load(Ordering::Relaxed), n);
        }
    }

    // LIM-02: as many as anybody likes to show take no more room, and what is asked for stays.
    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (with, once) = counting();
        assert!(once.verify_signature(b"key", b"by key", b"kept").is_ok());
        for n in 0..5 * MANY {
            assert!(once.verify_signature(b"key", b"by key", &n.to_be_bytes()).is_ok());
            if n % 100 == 0 {
                assert!(once.verify_signature(b"key", b"by key", b"kept").is_ok());
            }
        }
        assert_eq!(with.0.load(Ordering::Relaxed), 5 * MANY + 1, "what is asked for again and again stayed");
        let held = once.held();
        let size = |set: &Option<HashSet<Mark>>| set.as_ref().map_or(0, HashSet::len);
        assert!(size(&held.young) < MANY && size(&held.old) <= MANY);
    }
}
