//! Certificates: an authority of our own, and what it vouches for.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData as _, date_time_ymd,
};
use ring::digest;
use rustls::{
    ServerConfig,
    crypto::ring as provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// What a server shows, and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate and what vouches for it, PEM.
    pub chain: String,
    /// The key, PEM.
    pub key: String,
    /// SHA-256 of the public key, in hexadecimal: `3 1 1`.
    pub key_hash: String,
}

/// SHA-256 in hexadecimal.
pub fn sha256(octets: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, octets);
    hash.as_ref().iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// SHA-256 of its public key, in hexadecimal: `2 1 1`.
    pub fn key_hash(&self) -> String {
        sha256(&self.issuer.key().subject_public_key_info())
    }

    /// A server of these names.
    pub fn vouch(&self, names: &[&str]) -> Identity {
        self.vouch_until(names, 2099)
    }

    /// A server whose time was over long ago.
    pub fn vouch_expired(&self, names: &[&str]) -> Identity {
        self.vouch_until(names, 2021)
    }

    fn vouch_until(&self, names: &[&str], year: i32) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let chain = certificate.pem() + &self.pem();
        Identity { chain, key_hash: sha256(&key.subject_public_key_info()), key: key.serialize_pem() }
    }
}

impl Identity {
    /// Writes it down: the files of the chain and of the key.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&files.0, &self.chain).expect("written");
        fs::write(&files.1, &self.key).expect("written");
        files
    }

    /// For a server made of it.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain.expect("a chain"), key);
        Arc::new(config.expect("a server"))
    }
}
