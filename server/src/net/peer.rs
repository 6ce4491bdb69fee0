//! Who the server at the other end is: by a certificate that authorities vouch for, or by DNS (DANE, RFC 7672).

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use ring::digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime, pem::PemObject as _},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::tls::{TlsTarget, roots};

/// What of a certificate a TLSA record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    /// 2, DANE-TA: an authority of the chain.
    Authority,
    /// 3, DANE-EE: the server's own.
    Server,
}

/// A TLSA record that mail has a use for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    usage: Usage,
    /// The public key, not the certificate.
    key: bool,
    /// The hash that is compared; `None`: the whole.
    hash: Option<&'static digest::Algorithm>,
    data: Vec<u8>,
}

impl Tlsa {
    /// `None` for a record that mail has no use for (RFC 7672 section 3.1, RFC 7671 section 4.3).
    pub fn new(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Option<Self> {
        let usage = match usage {
            2 => Usage::Authority,
            3 => Usage::Server,
            _ => return None,
        };
        let key = match selector {
            0 => false,
            1 => true,
            _ => return None,
        };
        let hash = match matching {
            0 => None,
            1 => Some(&digest::SHA256),
            2 => Some(&digest::SHA512),
            _ => return None,
        };
        let fits = hash.map_or(!data.is_empty(), |hash| data.len() == hash.output_len());
        fits.then(|| Self { usage, key, hash, data: data.to_vec() })
    }

    fn is_of(&self, certificate: &CertificateDer<'_>) -> bool {
        let key = || EndEntityCert::try_from(certificate).ok().map(|parsed| parsed.subject_public_key_info());
        let holds = |octets: &[u8]| match self.hash {
            Some(hash) => digest::digest(hash, octets).as_ref() == self.data,
            None => octets == self.data,
        };
        if self.key { key().is_some_and(|key| holds(&key)) } else { holds(certificate) }
    }
}

impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = if self.usage == Usage::Authority { 2 } else { 3 };
        let matching = self.hash.map_or(0, |hash| if hash.output_len() == digest::SHA256_OUTPUT_LEN { 1 } else { 2 });
        write!(f, "{usage} {} {matching} ", u8::from(self.key))?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02X}"))
    }
}

/// What `3 1 1` of the first certificate in a PEM file is: the SHA-256 hash of its public key. `None` when there is none that
/// can be read.
pub fn first_key_hash(pem: &[u8]) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let key = EndEntityCert::try_from(&certificate).ok()?.subject_public_key_info();
    Some(digest::digest(&digest::SHA256, &key).as_ref().to_vec())
}

/// How a server is to prove who it is.
#[derive(Clone, Debug)]
pub enum Identity {
    /// By authorities that we trust: it is the server of this name.
    Name,
    /// By DNS. An authority that DNS names must vouch for the name of the server, or for the second: the domain whose
    /// exchanger it is (RFC 7672 section 3.2.2).
    Dns(Arc<[Tlsa]>, String),
}

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It has expired, or is not valid yet.
    Expired,
    /// It is another server's.
    OtherName,
    /// Nobody whom we trust vouches for it.
    NotTrusted,
    /// None of the TLSA records is about it.
    NotInDns,
    /// It is broken in another way.
    Broken,
}

/// What a handshake has shown, once it has.
#[derive(Clone, Debug, Default)]
pub struct Shown(Arc<OnceLock<Result<(), Doubt>>>);

impl Shown {
    /// Whether the server has proved who it is; `None` before it has shown a certificate.
    pub fn get(&self) -> Option<Result<(), Doubt>> {
        self.0.get().copied()
    }
}

/// Makes handshakes with servers whose certificates are looked at.
pub struct PeerDialer {
    provider: Arc<CryptoProvider>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl PeerDialer {
    /// Trusts the authorities that this system trusts and, beside them, those in `more_pem`.
    ///
    /// # Errors
    /// When there is nobody to trust, or `more_pem` does not hold certificates.
    pub fn new(more_pem: Option<&[u8]>) -> io::Result<Self> {
        let provider = Arc::new(provider::default_provider());
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(more_pem)?), Arc::clone(&provider)).build();
        Ok(Self { provider, authorities: authorities.map_err(io::Error::other)? })
    }

    /// A handshake with the server of this name, and what it will have shown. `insist`: it fails where the server does
    /// not prove who it is; otherwise that is only noted, and whoever answers is talked to (RFC 7435).
    ///
    /// # Errors
    /// When it is no name that a certificate could have, and that matters.
    pub fn target(&self, server_name: &str, identity: Identity, insist: bool) -> io::Result<(TlsTarget, Shown)> {
        let name = ServerName::try_from(server_name.to_owned());
        let name = match name {
            Err(_) if !insist => ServerName::try_from("mail.invalid").map_err(io::Error::other)?,
            name => name.map_err(io::Error::other)?,
        };
        let shown = Shown::default();
        let verifier = Verifier {
            provider: Arc::clone(&self.provider),
            authorities: Arc::clone(&self.authorities),
            identity,
            insist,
            shown: shown.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        // A resumed session would show no certificate.
        config.resumption = Resumption::disabled();
        Ok((TlsTarget::new(Arc::new(config), name), shown))
    }
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Arc<WebPkiServerVerifier>,
    identity: Identity,
    insist: bool,
    shown: Shown,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = match &self.identity {
            Identity::Name => self.authorities.verify_server_cert(own, chain, name, ocsp, now).map(|_| ()),
            Identity::Dns(records, domain) => self.by_dns(records, domain, own, chain, name, now),
        };
        let doubt = verdict.as_ref().err().map(doubt);
        self.shown.0.get_or_init(|| doubt.map_or(Ok(()), Err));
        match verdict {
            Err(error) if self.insist => Err(error),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Verifier {
    fn by_dns(
        &self,
        records: &[Tlsa],
        domain: &str,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        // RFC 7672 section 3.1.1: neither its names nor its time count. DNS itself says whose key it is, and for how long.
        if records.iter().any(|record| record.usage == Usage::Server && record.is_of(own)) {
            return Ok(());
        }
        let mut failed = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        for record in records.iter().filter(|record| record.usage == Usage::Authority) {
            // The authority is in the chain that the server sends (RFC 7672 section 3.1.2), or whole in DNS.
            let whole = (!record.key && record.hash.is_none()).then(|| CertificateDer::from(record.data.as_slice()));
            let Some(authority) = chain.iter().find(|link| record.is_of(link)).or(whole.as_ref()) else { continue };
            match self.by_authority(authority, own, chain, now) {
                Ok(parsed) => match is_named(&parsed, name, domain) {
                    Ok(()) => return Ok(()),
                    Err(error) => failed = error,
                },
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn by_authority<'a>(
        &self,
        authority: &CertificateDer<'_>,
        own: &'a CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<EndEntityCert<'a>, rustls::Error> {
        let anchors: [TrustAnchor<'_>; 1] = [anchor_from_trusted_cert(authority).map_err(from_webpki)?];
        let parsed = EndEntityCert::try_from(own).map_err(from_webpki)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = KeyUsage::server_auth();
        parsed.verify_for_usage(algorithms, &anchors, chain, now, usage, None, None).map_err(from_webpki)?;
        Ok(parsed)
    }
}

fn is_named(own: &EndEntityCert<'_>, name: &ServerName<'_>, domain: &str) -> Result<(), rustls::Error> {
    if own.verify_is_valid_for_subject_name(name).is_ok() {
        return Ok(());
    }
    let other = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
    let domain = ServerName::try_from(domain).map_err(|_| other.clone())?;
    own.verify_is_valid_for_subject_name(&domain).map_err(|_| other)
}

fn from_webpki(error: webpki::Error) -> rustls::Error {
    rustls::Error::InvalidCertificate(match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    })
}

fn doubt(error: &rustls::Error) -> Doubt {
    use CertificateError as E;
    let rustls::Error::InvalidCertificate(why) = error else { return Doubt::Broken };
    match why {
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => Doubt::Expired,
        E::NotValidForName | E::NotValidForNameContext { .. } => Doubt::OtherName,
        E::ApplicationVerificationFailure => Doubt::NotInDns,
        // The others: a certificate that is its own authority, which rustls calls an authority in the place of a server.
        E::UnknownIssuer | E::Other(_) => Doubt::NotTrusted,
        _ => Doubt::Broken,
    }
}
