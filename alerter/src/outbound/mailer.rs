//! One attempt to deliver one notification by SMTP.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::header::{ContentType, HeaderName, HeaderValue},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use protocol::{
    alert::Notification,
    receiver::{Email, MailTls},
};
use service_kit::report;

use super::http::{Came, TIMEOUT, resolve};
use crate::core::{
    attempt::Answer,
    guard::Policy,
    notify::{Secrets, mail},
};

/// Most addresses of a server that are tried.
const ADDRESSES: usize = 4;

pub(super) async fn send(
    policy: &Policy,
    email: &Email,
    notification: &Notification,
    secrets: &Secrets,
) -> Came {
    let timeout = email.timeout.clamp(TIMEOUT.0, TIMEOUT.1);
    match tokio::time::timeout(timeout, deliver(policy, email, notification, secrets, timeout)).await {
        Ok(Ok(())) => Came { answer: Answer::Status { code: 250, retry_after: None }, text: String::new() },
        Ok(Err(answer)) => Came { answer, text: String::new() },
        Err(_) => Came::nothing(format!("the mail server {} takes longer than {timeout:?}", email.server)),
    }
}

async fn deliver(
    policy: &Policy,
    email: &Email,
    notification: &Notification,
    secrets: &Secrets,
    timeout: Duration,
) -> Result<(), Answer> {
    let server = &email.server;
    let nothing = |reason: &str| Answer::Nothing { reason: format!("the mail server {server}: {reason}") };
    let port = email.port.unwrap_or(if email.tls == MailTls::Always { 465 } else { 587 });
    let found = resolve(policy, server, port).await.map_err(|error| nothing(&report(&error)))?;
    let tls = match email.tls {
        MailTls::Never => Tls::None,
        MailTls::Starttls => Tls::Required(parameters(email, secrets).map_err(|reason| nothing(&reason))?),
        MailTls::Always => Tls::Wrapper(parameters(email, secrets).map_err(|reason| nothing(&reason))?),
    };
    let message = message(email, notification).map_err(|reason| Answer::Refused { reason })?;
    let mut unreachable = nothing("it has no address");
    // It connects to addresses that were checked, one after the other; the certificate is held against the name.
    for address in found.iter().take(ADDRESSES) {
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
            .port(port)
            .tls(tls.clone())
            .timeout(Some(timeout));
        if let Some(login) = &email.login {
            let password = secrets.get(&login.password).map_err(|error| nothing(&error.to_string()))?;
            transport = transport.credentials(Credentials::new(login.username.clone(), password.to_owned()));
        }
        let Err(error) = transport.build().send(message.clone()).await else { return Ok(()) };
        let reason = secrets.hide(&report(&error));
        if error.is_permanent() {
            return Err(Answer::Refused { reason: format!("the mail server {server} refuses it: {reason}") });
        }
        unreachable = nothing(&reason);
        // It was reached: another of its addresses would say the same, and may have taken the mail.
        if error.is_transient()
            || error.is_response()
            || error.is_client()
            || error.is_tls()
            || error.is_timeout()
        {
            break;
        }
    }
    Err(unreachable)
}

fn parameters(email: &Email, secrets: &Secrets) -> Result<TlsParameters, String> {
    let mut parameters = TlsParameters::builder(email.server.clone());
    if let Some(ca) = &email.ca {
        let pem = secrets.get(ca).map_err(|error| error.to_string())?;
        let certificate = Certificate::from_pem(pem.as_bytes()).map_err(|_| "its ca is no PEM".to_owned())?;
        parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    parameters.build().map_err(|error| format!("TLS cannot be set up: {}", report(&error)))
}

fn message(email: &Email, notification: &Notification) -> Result<Message, String> {
    let letter = mail::letter(notification);
    let address = |text: &str| text.parse().map_err(|_| format!("{text:?} is no address"));
    let mut message = Message::builder()
        .from(address(&email.from)?)
        .subject(letter.subject)
        .message_id(Some(letter.message_id))
        // So that nobody's holiday answers.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(ContentType::TEXT_PLAIN);
    for to in &email.to {
        message = message.to(address(to)?);
    }
    if let Some(first) = letter.reply_to {
        message = message.in_reply_to(first.clone()).references(first);
    }
    message.body(letter.text).map_err(|error| format!("the mail cannot be written: {error}"))
}
