//! Where the server is and how it is spoken to.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::failure::{LoadError, Result};

/// An address of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsMode {
    /// Never.
    #[default]
    None,
    /// After STARTTLS (SMTP, LMTP, IMAP) or STLS (POP3).
    Starttls,
    /// With the connection.
    Implicit,
}

/// Everything needed to open connections to one server.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address.
    pub place: Place,
    /// When TLS begins.
    pub tls: TlsMode,
    /// How TLS is spoken.
    pub config: Arc<ClientConfig>,
    /// The name in its certificate.
    pub name: ServerName<'static>,
    /// How long the server may be silent while we wait for it.
    pub patience: Duration,
    /// Local addresses to connect from in turn; empty for the system's choice.
    pub sources: Vec<IpAddr>,
}

/// Which certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any: for servers with self-signed certificates.
    Anyone,
    /// Those issued by the certificates in this PEM file.
    Issuers(PathBuf),
    /// None: TLS is not used.
    Nobody,
}

impl Target {
    /// Reads `HOST:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// When the address does not resolve, or TLS is wanted and nobody is trusted.
    pub fn new(address: &str, tls: TlsMode, trust: &Trust, patience: Duration) -> Result<Self> {
        let (place, host) = match address.strip_prefix("unix:") {
            Some(path) => (Place::Unix(path.into()), "localhost"),
            None => resolve(address)?,
        };
        if tls != TlsMode::None && matches!(trust, Trust::Nobody) {
            let advice =
                "TLS needs --ca FILE with the issuer of the server's certificate, or --insecure to trust anyone";
            return Err(LoadError::Usage(advice.into()));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| LoadError::Usage(format!("{host:?} is not a host name")))?;
        Ok(Self { place, tls, config: Arc::new(client_config(trust)?), name, patience, sources: Vec::new() })
    }
}

fn resolve(address: &str) -> Result<(Place, &str)> {
    let wrong = || LoadError::Usage(format!("{address:?} is neither HOST:PORT nor unix:PATH"));
    let (host, _) = address.rsplit_once(':').ok_or_else(wrong)?;
    let mut found = address.to_socket_addrs().map_err(LoadError::io(address.to_owned()))?;
    let place = Place::Tcp(found.next().ok_or_else(wrong)?);
    Ok((place, host.trim_start_matches('[').trim_end_matches(']')))
}

fn client_config(trust: &Trust) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| LoadError::Usage(error.to_string()))?;
    let roots = match trust {
        Trust::Anyone => {
            let verifier = Arc::new(AnyCertificate(provider));
            return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
        }
        Trust::Issuers(path) => issuers(path)?,
        Trust::Nobody => RootCertStore::empty(),
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn issuers(path: &Path) -> Result<RootCertStore> {
    let wrong = |error: &dyn std::fmt::Display| LoadError::Usage(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"there is no certificate")) } else { Ok(roots) }
}

/// Believes every certificate, but still wants the peer to hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |address: &str, tls, trust| Target::new(address, tls, &trust, Duration::from_secs(1));
        let tcp = read("127.0.0.1:25", TlsMode::None, Trust::Nobody).expect("TCP");
        assert_eq!(tcp.place, Place::Tcp(([127, 0, 0, 1], 25).into()));
        let six = read("[::1]:25", TlsMode::Implicit, Trust::Anyone).expect("IPv6");
        assert_eq!(six.name.to_str(), "::1");
        let unix = read("unix:/run/lmtp", TlsMode::None, Trust::Nobody).expect("unix");
        assert_eq!(unix.place, Place::Unix("/run/lmtp".into()));
        for (address, tls) in [("127.0.0.1", TlsMode::None), ("127.0.0.1:25", TlsMode::Starttls), ("", TlsMode::None)] {
            assert!(read(address, tls, Trust::Nobody).is_err(), "{address}");
        }
    }
}
