//! A certificate authority for tests.

#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::Arc;

use gatehouse::jid::Domain;
use gatehouse::tls::keys::{self, ChainAndKey};
use gatehouse::tls::verify::{Anchors, TrustStore};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub struct Authority {
    pub certificate: CertificateDer<'static>,
    pub params: CertificateParams,
    pub key: KeyPair,
}

pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { certificate, params, key }
    }

    /// One authority below this one.
    pub fn below(&self, params: CertificateParams) -> Authority {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Authority { certificate, params, key }
    }

    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A server's certificate for these names, serverAuth only, as public authorities issue them.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.sign(leaf_params(names))
    }

    pub fn sign(&self, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Leaf { chain: vec![certificate], key }
    }

    pub fn anchors(&self) -> Anchors {
        Anchors::from_certificates(std::slice::from_ref(&self.certificate)).unwrap()
    }

    pub fn trust(&self) -> Arc<TrustStore> {
        Arc::new(TrustStore { default: self.anchors(), ..TrustStore::default() })
    }
}

impl Leaf {
    pub fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    pub fn identity(&self) -> ChainAndKey {
        keys::from_der(self.chain.clone(), self.private()).unwrap()
    }
}

pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "cn.example");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(SerialNumber::from_slice(&[1, 2, 3]));
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

/// Subject alternative names as raw GeneralNames: (tag, contents).
pub fn raw_names(params: &mut CertificateParams, names: &[(u8, Vec<u8>)]) {
    let contents: Vec<u8> = names.iter().flat_map(|(tag, contents)| der(*tag, contents)).collect();
    params.subject_alt_names.clear();
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], der(0x30, &contents)));
}

pub fn dns(name: &[u8]) -> (u8, Vec<u8>) {
    (0x82, name.to_vec())
}

pub fn srv(name: &[u8]) -> (u8, Vec<u8>) {
    other(7, 0x16, name)
}

pub fn xmpp(name: &[u8]) -> (u8, Vec<u8>) {
    other(5, 0x0c, name)
}

/// otherName id-on 1.3.6.1.5.5.7.8.`arc` with one string.
pub fn other(arc: u8, tag: u8, value: &[u8]) -> (u8, Vec<u8>) {
    let oid = der(0x06, &[0x2b, 6, 1, 5, 5, 7, 8, arc]);
    (0xa0, [oid, der(0xa0, &der(tag, value))].concat())
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, contents.to_vec()].concat()
}

pub fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}
