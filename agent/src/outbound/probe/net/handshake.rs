//! TLS to servers that are looked at, not trusted: any certificate is let through the handshake, and held against the
//! authorities afterwards, so that a wrong one can be described.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Run, connect::Stream, now, said};
use crate::core::builtin::net::{Fault, Peer, Trust, certificate::Certificate};

/// How long the authorities of the system are kept.
const FRESH: Duration = Duration::from_secs(3600);

/// Those that the system trusts, read when they are first needed.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorities(Arc<Mutex<Option<Kept>>>);

#[derive(Debug)]
struct Kept {
    read_at: Instant,
    roots: Arc<Roots>,
}

#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    /// Certificates of a `ca_file`, among which may be that of the server itself.
    given: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn of(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
        let mut store = RootCertStore::empty();
        let _some_are_odd = store.add_parsable_certificates(certificates);
        store.roots.shrink_to_fit();
        store
    }

    async fn load(run: &Run<'_>, trust: &Trust) -> Result<Arc<Self>, Fault> {
        if let Some(path) = &trust.ca_file {
            let pem = run.file(path).await?;
            let given: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
            if given.is_empty() {
                return Err(Fault::Ours(format!("{path} holds no certificate in PEM form")));
            }
            return Ok(Arc::new(Self { store: Self::of(given.clone()), given }));
        }
        let kept = || run.network.authorities.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh =
            kept().as_ref().filter(|kept| kept.read_at.elapsed() < FRESH).map(|kept| Arc::clone(&kept.roots));
        if let Some(roots) = fresh {
            return Ok(roots);
        }
        let store = run.blocking(|| Self::of(rustls_native_certs::load_native_certs().certs)).await?;
        let roots = Arc::new(Self { store, given: Vec::new() });
        *kept() = Some(Kept { read_at: Instant::now(), roots: Arc::clone(&roots) });
        Ok(roots)
    }

    /// Why `chain` does not prove that its owner is `name`.
    fn trouble(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        provider: &CryptoProvider,
    ) -> Option<String> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Some("it showed no certificate".to_owned());
        };
        let parsed = match ParsedCertificate::try_from(leaf) {
            Ok(parsed) => parsed,
            Err(error) => return Some(format!("its certificate is malformed: {error}")),
        };
        let signed = if self.given.contains(leaf) {
            self::valid_now(leaf)
        } else {
            let algorithms = provider.signature_verification_algorithms.all;
            let now = UnixTime::now();
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.store, intermediates, now, algorithms)
        };
        let troubles: Vec<_> = [signed, verify_server_name(&parsed, name)]
            .into_iter()
            .filter_map(|verified| Some(describe(&verified.err()?, name)))
            .collect();
        (!troubles.is_empty()).then(|| troubles.join(", and "))
    }
}

/// One that is trusted by itself has dates all the same.
fn valid_now(leaf: &CertificateDer<'_>) -> Result<(), Error> {
    let now = now();
    match Certificate::read(leaf) {
        Some(leaf) if leaf.not_after < now => Err(CertificateError::Expired.into()),
        Some(leaf) if leaf.not_before > now => Err(CertificateError::NotValidYet.into()),
        Some(_) => Ok(()),
        None => Err(CertificateError::BadEncoding.into()),
    }
}

fn describe(error: &Error, name: &ServerName<'_>) -> String {
    use CertificateError as Wrong;
    match error {
        Error::InvalidCertificate(wrong) => match wrong {
            Wrong::Expired | Wrong::ExpiredContext { .. } => {
                "its certificate, or one that it rests on, has expired".to_owned()
            }
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            // A signature is bad where another authority bears the name of one that is trusted.
            Wrong::UnknownIssuer | Wrong::BadSignature => {
                "its certificate is from an authority that is not trusted".to_owned()
            }
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
                format!("its certificate is not for {}", name.to_str())
            }
            other => format!("its certificate is not accepted: {other}"),
        },
        other => format!("its certificate is not accepted: {other}"),
    }
}

/// Go on in TLS. `name` is asked for, and what the certificate must be for.
pub(super) async fn handshake<S: Stream>(
    run: &Run<'_>,
    stream: S,
    name: &str,
    trust: &Trust,
    protocols: &[&[u8]],
) -> Result<(TlsStream<S>, Peer, Duration), Fault> {
    let server_name = ServerName::try_from(name.to_owned())
        .map_err(|_| Fault::Ours(format!("{name:?} cannot be the name of a TLS server")))?;
    let roots = Roots::load(run, trust).await?;
    if roots.store.is_empty() && trust.verify && roots.given.is_empty() {
        return Err(Fault::Ours(
            "this host has no certificate authorities: install ca-certificates, or give ca_file".to_owned(),
        ));
    }
    let provider = Arc::new(ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Fault::Ours(format!("TLS cannot be set up: {error}")))?;
    let let_through = Arc::new(LetThrough(Arc::clone(&provider)));
    let mut config = config.dangerous().with_custom_certificate_verifier(let_through).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    run.doing(format!("shaking hands with {name} in TLS"));
    let started = Instant::now();
    let shaken = TlsConnector::from(Arc::new(config)).connect(server_name.clone(), stream).await;
    let took = started.elapsed();
    let stream = shaken.map_err(|error| Fault::Theirs(format!("no TLS with {name}: {}", said(&error))))?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    let peer = Peer {
        leaf: chain.first().and_then(|leaf| Certificate::read(leaf)),
        trouble: roots.trouble(chain, &server_name, &provider),
        version: version.to_owned(),
    };
    Ok((stream, peer, took))
}

/// Accepts any certificate, but only from its owner.
#[derive(Debug)]
struct LetThrough(Arc<CryptoProvider>);

impl ServerCertVerifier for LetThrough {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
