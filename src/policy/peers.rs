//! How remote domains were proven before, and which changes of that a rule holds (`on-change`).
//!
//! What is remembered is part of the snapshot, as bans are: the verdict stays a function of the question and of it. Only who is
//! proven is compared: a claim is not, so that nobody who merely claims a domain can make anything of it seem changed. What is
//! held is the channel that shows the change, and never the domain: who comes as before passes as before.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pins::{KeyDigest, ShownKey};
use super::question::{Federate, Identity};
use crate::jid::Domain;
use crate::reason::{Direction, escaped};

/// `on-change:` of a rule: what becomes of a domain that is proven in another way than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnChange {
    /// It passes, and the change is told.
    #[default]
    Note,
    /// It waits for an operator, if the change is one that holds.
    Hold,
}

impl OnChange {
    /// The word in files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Hold => "hold",
        }
    }
}

/// How a domain was proven, as far as a change of it may be held.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Face {
    /// By what. Outbound, [`Identity::Dialback`] stands for a server whom only the DNS names.
    pub method: Identity,
    /// Who issued the certificate, as it says itself.
    pub issuer: Option<Arc<str>>,
    /// Where a certificate alone proves the domain: the root that its path ends at, one of those that are trusted here. None in
    /// records of a time when that was not remembered.
    pub root: Option<Authority>,
    /// The key of the certificate.
    pub key: Option<KeyDigest>,
}

/// An authority, by its root that is trusted here. Its name is that in our own store: nobody who is judged by it can choose it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WrittenRoot", into = "WrittenRoot")]
pub struct Authority {
    /// Its name.
    pub name: Arc<str>,
    /// Its key.
    pub key: KeyDigest,
}

impl Authority {
    /// Whether it is one of the same authority: the same key, or another root of the same organisation.
    fn is_like(&self, other: &Authority) -> bool {
        let own = sole_organisation(&self.name);
        self.key == other.key || own.is_some() && own == sole_organisation(&other.name)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" ({})", escaped(&self.name, ISSUER), self.key)
    }
}

#[derive(Serialize, Deserialize)]
struct WrittenRoot {
    name: String,
    key: String,
}

impl TryFrom<WrittenRoot> for Authority {
    type Error = String;

    fn try_from(written: WrittenRoot) -> Result<Self, String> {
        Ok(Self { name: written.name.into(), key: KeyDigest::parse(&written.key)? })
    }
}

impl From<Authority> for WrittenRoot {
    fn from(root: Authority) -> Self {
        Self { name: root.name.as_ref().to_owned(), key: root.key.to_string() }
    }
}

/// The same as it stands in files.
#[derive(Serialize, Deserialize)]
struct Written {
    method: String,
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<Authority>,
    key: Option<String>,
}

impl TryFrom<Written> for Face {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let known = METHODS.iter().find(|(word, _)| *word == written.method);
        let (_, method) = known.ok_or_else(|| format!("{:?} proves nobody", written.method))?;
        let key = written.key.as_deref().map(KeyDigest::parse).transpose()?;
        Ok(Self { method: *method, issuer: written.issuer.map(Arc::from), root: written.root, key })
    }
}

impl From<Face> for Written {
    fn from(face: Face) -> Self {
        Self {
            method: face.label().to_owned(),
            issuer: face.issuer.as_deref().map(str::to_owned),
            key: face.key.map(|key| key.to_string()),
            root: face.root,
        }
    }
}

impl Face {
    /// The word for the method.
    pub fn label(&self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self.method).map_or("none", |(word, _)| word)
    }

    /// Whether it is the same peer by all that counts: authorities issue from one intermediate today and from another tomorrow,
    /// so of the issuer only the organisation counts, and the root above it.
    pub fn is_like(&self, other: &Face) -> bool {
        self.method == other.method && self.key == other.key && self.same_authority(other)
    }

    /// Whether both come from one authority. What an issuer calls itself it has chosen itself, and another authority may let it: so
    /// the root counts besides.
    fn same_authority(&self, other: &Face) -> bool {
        let roots = self.root.as_ref().zip(other.root.as_ref());
        self.organisation() == other.organisation() && roots.is_none_or(|(own, other)| own.is_like(other))
    }

    fn organisation(&self) -> Option<&str> {
        self.issuer.as_deref().map(organisation)
    }
}

/// The organisation in the name of an issuer; all of it, where it names none or more than one.
fn organisation(name: &str) -> &str {
    sole_organisation(name).unwrap_or(name)
}

/// The one organisation that a name names.
fn sole_organisation(name: &str) -> Option<&str> {
    let begins = |at: &usize| *at == 0 || name.get(..*at).is_some_and(|before| before.ends_with(", "));
    let mut places = name.match_indices("O=").map(|(at, _)| at).filter(begins);
    let (Some(at), None) = (places.next(), places.next()) else { return None };
    let rest = name.get(at..).unwrap_or(name);
    // An organisation may have a comma in its name: what ends it is the next attribute.
    let ends = rest.match_indices(", ").map(|(end, _)| end).find(|end| {
        let behind = rest.get(end + 2..).unwrap_or_default();
        let kind = behind.split('=').next().unwrap_or_default();
        kind.len() < behind.len()
            && !kind.is_empty()
            && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'.')
    });
    Some(ends.and_then(|end| rest.get(..end)).unwrap_or(rest))
}

/// What of the proof of a domain is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// The organisation that issued the certificate, or the root above it.
    Issuer,
    /// The key.
    Key,
    /// What proves the domain.
    Method,
    /// The network that it comes from, or is reached in.
    Network,
    /// The version of TLS.
    Tls,
}

impl Drift {
    /// Every one.
    pub const ALL: &'static [Drift] = &[Self::Issuer, Self::Key, Self::Method, Self::Network, Self::Tls];

    /// The word in logs, records and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Key => "key",
            Self::Method => "method",
            Self::Network => "network",
            Self::Tls => "tls",
        }
    }
}

/// What comes of comparing a face with those known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// What is another.
    pub drifts: Vec<Drift>,
    /// Whether it waits for an operator, where the rule says `hold`.
    pub holds: bool,
}

/// Compares a face with all that are known of the pair. Where none is known, nothing has changed.
///
/// What holds is what weakens the proof: a weaker method; another authority, for the same name is easily had from another; and
/// under dialback, where nothing but the key tells one server from the next, another key or none. A new key under the same
/// authority is a renewal, and a new key under DANE, POSH or pins has been named by the domain or by the operator: these are
/// told, and pass.
pub fn compare(known: &[Face], shown: &Face) -> Compared {
    if known.is_empty() || known.iter().any(|face| face.is_like(shown)) {
        return Compared::default();
    }
    let strongest = known.iter().map(|face| face.method).max().unwrap_or(shown.method);
    let alike: Vec<&Face> = known.iter().filter(|face| face.method == shown.method).collect();
    let mut compared = Compared { holds: shown.method < strongest, ..Compared::default() };
    if alike.is_empty() {
        compared.drifts.push(Drift::Method);
        // The certificate beside it is another, too, or the same as before.
        let same_key = known.iter().any(|face| face.key == shown.key);
        let same_issuer = known.iter().any(|face| face.organisation() == shown.organisation());
        compared.drifts.extend((!same_issuer).then_some(Drift::Issuer));
        compared.drifts.extend((!same_key).then_some(Drift::Key));
    } else {
        if !alike.iter().any(|face| face.same_authority(shown)) {
            compared.drifts.push(Drift::Issuer);
            compared.holds |= shown.method == Identity::Certificate;
        }
        if alike.iter().all(|face| face.key != shown.key) {
            compared.drifts.push(Drift::Key);
            compared.holds |=
                shown.method == Identity::Dialback && alike.iter().all(|face| face.key.is_some());
        }
        if compared.drifts.is_empty() {
            // Each part was seen before, and the whole was not: the key of one face under the issuer of another.
            compared.drifts.push(Drift::Key);
            compared.holds |= shown.method == Identity::Dialback;
        }
    }
    compared.drifts.sort();
    compared
}

/// A pair as it is remembered: the hosted domain, the remote one, and which way its stanzas travel.
pub type Recollection = (Domain, Domain, Direction, Faces);

/// How the remote domain of one pair was proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faces {
    /// So it passes.
    pub known: Vec<Face>,
    /// So it waits, whatever the table says, until an operator has said something else.
    pub shunned: Vec<Face>,
}

impl Faces {
    fn keep_out(&self, face: &Face) -> bool {
        compare(&self.known, face).holds || self.shunned.iter().any(|shunned| shunned.is_like(face))
    }
}

/// The same of one remote domain: the hosted one, which way, and how it was proven.
type ForHosted = (Domain, Direction, Faces);

/// All pairs that are remembered, as the policy looks at them, by the remote domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(HashMap<Domain, Vec<ForHosted>>);

impl Known {
    /// Of these.
    pub fn new(all: impl IntoIterator<Item = Recollection>) -> Self {
        let mut known: HashMap<Domain, Vec<ForHosted>> = HashMap::new();
        for (hosted, remote, direction, faces) in all {
            known.entry(remote).or_default().push((hosted, direction, faces));
        }
        Self(known)
    }

    /// How the remote domain of this pair was proven before.
    pub fn faces(&self, hosted: &Domain, remote: &Domain, direction: Direction) -> &[Face] {
        self.of(hosted, remote, direction).map(|faces| &*faces.known).unwrap_or_default()
    }

    /// Whether this face of it waits where a rule holds changes.
    pub fn keep_out(&self, hosted: &Domain, remote: &Domain, direction: Direction, face: &Face) -> bool {
        self.of(hosted, remote, direction).is_some_and(|faces| faces.keep_out(face))
    }

    fn of(&self, hosted: &Domain, remote: &Domain, direction: Direction) -> Option<&Faces> {
        let mut of = self.0.get(remote).into_iter().flatten();
        of.find(|(domain, way, _)| domain == hosted && *way == direction).map(|(.., faces)| faces)
    }

    /// The face to suppose where a question does not say all of it: what it leaves out is as before. None where nothing is
    /// remembered, or nothing is proven.
    pub(super) fn supposed(&self, asked: &Federate<'_>) -> Option<Arc<Face>> {
        METHODS.iter().find(|(_, method)| *method == asked.identity)?;
        let faces = self.faces(asked.hosted, asked.remote, asked.direction);
        let known = faces.iter().rev().find(|face| face.method == asked.identity).or(faces.last())?;
        let key = match asked.key {
            ShownKey::Digest(key) => Some(key),
            ShownKey::Unknown | ShownKey::Pinned | ShownKey::Revoked => known.key,
        };
        let (issuer, root) = (known.issuer.clone(), known.root.clone());
        Some(Arc::new(Face { method: asked.identity, issuer, root, key }))
    }

    /// What a rule that says this makes of a change, and how the domain was proven before, in words; none where nothing is
    /// remembered and nothing would be held.
    pub(super) fn told(&self, asked: &Federate<'_>, on_change: OnChange) -> Option<String> {
        let known = match self.faces(asked.hosted, asked.remote, asked.direction).last() {
            None if on_change == OnChange::Note => return None,
            None => "nothing is remembered of this pair here".to_owned(),
            Some(face) => {
                let quoted = |issuer| format!(", issued by \"{}\"", escaped(issuer, ISSUER));
                let issuer = face.issuer.as_deref().map(quoted);
                let root = face.root.as_ref().map(|root| format!(", under the root {root}"));
                let key = face.key.map(|key| format!(", key {key}"));
                let (issuer, root) = (issuer.unwrap_or_default(), root.unwrap_or_default());
                format!("proven before by {}{}{root}{issuer}", face.label(), key.unwrap_or_default())
            }
        };
        Some(format!("on-change: {}; {known}", on_change.label()))
    }
}

/// Characters of an issuer that are shown.
const ISSUER: usize = 200;

/// What proves a remote domain, with its word; the weakest first.
const METHODS: [(&str, Identity); 5] = [
    ("dialback", Identity::Dialback),
    ("posh", Identity::Posh),
    ("certificate", Identity::Certificate),
    ("dane", Identity::Dane),
    ("pin", Identity::Pin),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn face(method: Identity, issuer: Option<&str>, key: Option<u8>) -> Face {
        Face { method, issuer: issuer.map(Arc::from), root: None, key: key.map(|n| KeyDigest::new([n; 32])) }
    }

    /// By certificate, from an issuer that calls itself so, under the root of this name and key.
    fn under(root: (&str, u8), issuer: &str, key: u8) -> Face {
        let root = Some(Authority { name: root.0.into(), key: KeyDigest::new([root.1; 32]) });
        Face { root, ..face(Identity::Certificate, Some(issuer), Some(key)) }
    }

    const ENCRYPT: &str = "C=US, O=Let's Encrypt, CN=R10";
    const ENCRYPT_TOO: &str = "C=US, O=Let's Encrypt, CN=E7";
    const OTHER: &str = "C=AT, O=ZeroSSL, CN=ZeroSSL RSA";

    // Each kind of change, whether it is told and whether it holds.
    #[test]
    fn each_change_is_told_and_those_that_weaken_the_proof_hold() {
        use Drift::{Issuer, Key, Method};
        use Identity::{Certificate, Dane, Dialback, Pin, Posh};
        let by_certificate = face(Certificate, Some(ENCRYPT), Some(1));
        let by_dialback = face(Dialback, Some("CN=self"), Some(1));
        let bare = face(Dialback, None, None);
        let by_dane = face(Dane, Some("CN=self"), Some(1));
        let table: &[(&Face, Face, &[Drift], bool)] = &[
            (&by_certificate, by_certificate.clone(), &[], false),
            (&by_certificate, face(Certificate, Some(ENCRYPT_TOO), Some(1)), &[], false),
            // A renewal: another key from the same authority.
            (&by_certificate, face(Certificate, Some(ENCRYPT_TOO), Some(2)), &[Key], false),
            (&by_certificate, face(Certificate, Some(OTHER), Some(2)), &[Issuer, Key], true),
            (&by_certificate, face(Certificate, Some(OTHER), Some(1)), &[Issuer], true),
            (&by_certificate, face(Dialback, Some(ENCRYPT), Some(1)), &[Method], true),
            (&by_certificate, bare.clone(), &[Issuer, Key, Method], true),
            (&by_certificate, face(Posh, Some(ENCRYPT), Some(1)), &[Method], true),
            (&by_certificate, face(Dane, Some("CN=self"), Some(2)), &[Issuer, Key, Method], false),
            (&by_dialback, face(Dialback, Some("CN=self"), Some(2)), &[Key], true),
            (&by_dialback, bare.clone(), &[Issuer, Key], true),
            (&by_dialback, face(Certificate, Some(ENCRYPT), Some(2)), &[Issuer, Key, Method], false),
            // Who showed no certificate and shows one now is no weaker for it.
            (&bare, by_dialback.clone(), &[Issuer, Key], false),
            (&by_dane, face(Dane, Some("CN=other"), Some(2)), &[Issuer, Key], false),
            (&by_dane, by_certificate.clone(), &[Issuer, Method], true),
            (&by_dane, face(Pin, Some("CN=self"), Some(1)), &[Method], false),
        ];
        for (known, shown, drifts, holds) in table {
            let compared = compare(std::slice::from_ref(*known), shown);
            assert_eq!(
                (compared.drifts.as_slice(), compared.holds),
                (*drifts, *holds),
                "{known:?} to {shown:?}"
            );
            assert_eq!(compare(&[], shown), Compared::default(), "the first is no change");
            let both = [Face::clone(known), shown.clone()];
            assert_eq!(compare(&both, known), Compared::default(), "who comes as before passes");
        }
    }

    // An issuer calls itself as it likes: whoever has another authority sign an intermediate of that name has not renewed anything.
    #[test]
    fn an_authority_is_known_by_its_root_and_not_by_what_its_issuers_call_themselves() {
        use Drift::{Issuer, Key};
        const X1: (&str, u8) = ("C=US, O=Internet Security Research Group, CN=ISRG Root X1", 1);
        const X2: (&str, u8) = ("C=US, O=Internet Security Research Group, CN=ISRG Root X2", 2);
        const EVIL: (&str, u8) = ("C=ZZ, O=Somebody, CN=Root", 3);
        let known = under(X1, ENCRYPT, 1);
        let bare = (("CN=Our own", 7), ("CN=Our own", 8));
        let table: &[(Face, Face, &[Drift], bool)] = &[
            // Renewals: another intermediate under the same root, or under another root of the same organisation.
            (known.clone(), under(X1, ENCRYPT_TOO, 2), &[Key], false),
            (known.clone(), under(X2, ENCRYPT_TOO, 2), &[Key], false),
            // Intermediates of the same name under another root, with another key, or around the partner's own.
            (known.clone(), under(EVIL, ENCRYPT, 2), &[Issuer, Key], true),
            (known.clone(), under(EVIL, ENCRYPT, 1), &[Issuer], true),
            // A root whose name says the same, and no organisation: the key decides.
            (under(bare.0, "CN=x", 1), under(bare.1, "CN=x", 2), &[Issuer, Key], true),
            (under(bare.0, "CN=x", 1), under(bare.0, "CN=x", 2), &[Key], false),
            (under(("", 7), "CN=x", 1), under(("", 8), "CN=x", 2), &[Issuer, Key], true),
            // Under one root the issuers of another organisation are another authority still.
            (known.clone(), under(X1, OTHER, 2), &[Issuer, Key], true),
            // What was remembered without a root is compared by what there is, and has one from then on.
            (face(Identity::Certificate, Some(ENCRYPT), Some(1)), known, &[], false),
        ];
        for (known, shown, drifts, holds) in table {
            let compared = compare(std::slice::from_ref(known), shown);
            assert_eq!((&*compared.drifts, compared.holds), (*drifts, *holds), "{known:?} to {shown:?}");
        }
    }

    // Two servers of one domain by dialback: the key of one behind the issuer of the other was never seen.
    #[test]
    fn parts_of_two_faces_make_no_known_one() {
        let known = [
            face(Identity::Dialback, Some("CN=a"), Some(1)),
            face(Identity::Dialback, Some("CN=b"), Some(2)),
        ];
        let mixed = compare(&known, &face(Identity::Dialback, Some("CN=b"), Some(1)));
        assert_eq!((mixed.drifts, mixed.holds), (vec![Drift::Key], true));
    }

    #[test]
    fn of_an_issuer_the_organisation_counts() {
        for (name, organisation_of) in [
            ("C=US, O=DigiCert, Inc., OU=x, CN=y", "O=DigiCert, Inc."),
            ("O=Alone", "O=Alone"),
            ("CN=R3, O=Let's Encrypt", "O=Let's Encrypt"),
            ("CN=no organisation", "CN=no organisation"),
            ("CN=FOO=bar", "CN=FOO=bar"),
            ("O=one, O=two", "O=one, O=two"),
            ("", ""),
        ] {
            assert_eq!(organisation(name), organisation_of, "{name}");
        }
    }

    #[test]
    fn a_face_is_read_as_it_is_written() {
        for face in [
            face(Identity::Dane, Some(OTHER), Some(7)),
            face(Identity::Dialback, None, None),
            face(Identity::Pin, None, Some(3)),
            under(("O=A root", 4), OTHER, 7),
        ] {
            let text = serde_json::to_string(&face).unwrap();
            assert_eq!(serde_json::from_str::<Face>(&text).unwrap(), face);
            // A later version may say more of it.
            let more = text.replace('{', r#"{"more":1,"#);
            assert_eq!(serde_json::from_str::<Face>(&more).unwrap(), face);
        }
        for wrong in [
            r#"{"method":"unproven","issuer":null,"key":null}"#,
            r#"{"method":"dane","issuer":null,"key":"sha256:0"}"#,
            r#"{"method":"certificate","issuer":null,"key":null,"root":{"name":"x","key":"sha256:0"}}"#,
            r#"{"method":"later","issuer":null,"key":null}"#,
        ] {
            assert!(serde_json::from_str::<Face>(wrong).is_err(), "{wrong}");
        }
    }
}
