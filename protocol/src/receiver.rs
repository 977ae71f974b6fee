//! Whom to tell of alerts, and how.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ReceiverName, operate::Rate};

/// Exactly one of `webhook` and `email` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receiver {
    pub name: ReceiverName,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Tells what names no receivers: the checks' own alerts, and hosts that are down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Who is told instead when this one gives up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<ReceiverName>,
    /// At most so many notifications; the others wait. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Rate>,
}

/// Where a secret stands. Its value is in no document: the alerter reads it from its own folder of secrets or its own
/// environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// Name of a file in the alerter's folder of secrets.
    File(String),
    /// Name of a variable that begins with [`Secret::VARIABLES`].
    Env(String),
}

impl Secret {
    /// Only variables that begin so are read: a document must not get at the rest of the environment.
    pub const VARIABLES: &str = "DOGWATCH_SECRET_";

    /// What is wrong with the name.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let plain = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.len() <= 128
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        match self {
            Self::File(name) if !plain(name) => {
                Some("the name of a file in the alerter's folder of secrets, without a path")
            }
            Self::Env(name) if !plain(name) || !name.starts_with(Self::VARIABLES) => {
                Some("the name of a variable that begins with DOGWATCH_SECRET_")
            }
            Self::File(_) | Self::Env(_) => None,
        }
    }
}

/// What the body of a webhook looks like, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The alert as it is on stream ALERTS.
    #[default]
    Dogwatch,
    /// Version 4 of Alertmanager's webhooks.
    Alertmanager,
    Slack,
    Discord,
    Teams,
    GoogleChat,
    Mattermost,
    PagerDuty,
    Ntfy,
    Telegram,
    Pushover,
    GitHub,
    GitLab,
    /// A body by template.
    Template,
}

/// What a format needs besides the alert.
#[derive(Debug, Clone, Copy)]
pub struct FormatInfo {
    pub format: Format,
    pub name: &'static str,
    /// Where it goes unless a receiver says otherwise. `None`: every receiver says where.
    pub url: Option<&'static str>,
    /// What `token` is. `None`: it has none.
    pub token: Option<&'static str>,
    /// Whether it goes without the token too.
    pub token_optional: bool,
    /// What `to` is. `None`: it has none.
    pub to: Option<&'static str>,
}

macro_rules! formats {
    ($($format:ident $name:literal $url:expr, $token:expr, $optional:literal, $to:expr;)*) => {
        /// Every format there is.
        pub const FORMATS: &[FormatInfo] = &[$(FormatInfo {
            format: Format::$format, name: $name, url: $url, token: $token, token_optional: $optional, to: $to,
        }),*];

        impl Format {
            #[must_use]
            pub const fn info(self) -> FormatInfo {
                match self {
                    $(Self::$format => FormatInfo {
                        format: self, name: $name, url: $url, token: $token, token_optional: $optional, to: $to,
                    }),*
                }
            }
        }
    };
}

formats! {
    Dogwatch "dogwatch" None, None, false, None;
    Alertmanager "alertmanager" None, None, false, None;
    Slack "slack" None, None, false, None;
    Discord "discord" None, None, false, None;
    Teams "teams" None, None, false, None;
    GoogleChat "googlechat" None, None, false, None;
    Mattermost "mattermost" None, None, false, None;
    PagerDuty "pagerduty" Some("https://events.pagerduty.com"), Some("the integration's routing key"), false, None;
    Ntfy "ntfy" Some("https://ntfy.sh"), Some("an access token"), true, Some("the topic");
    Telegram "telegram" Some("https://api.telegram.org"), Some("the bot's token"), false, Some("the chat's id");
    Pushover "pushover" Some("https://api.pushover.net"), Some("the application's token"), false, Some("the user's or group's key");
    GitHub "github" Some("https://api.github.com"), Some("an access token"), false, Some("owner/repository");
    GitLab "gitlab" Some("https://gitlab.com"), Some("an access token"), false, Some("group/project or the project's number");
    Template "template" None, None, false, None;
}

impl Format {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.info().name
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_default(format: &Format) -> bool {
    *format == Format::default()
}

/// How a request is made. The notification goes into its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Post,
    Put,
    Patch,
}

/// One HTTP request for each notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// `http://…` or `https://…`; empty where `url_from` is, or where the format has one of its own. May hold a secret,
    /// so it is never logged whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// A URL that is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<Secret>,
    /// 1 s to 1 min, for the whole of a request and its answer.
    #[serde(default = "default_timeout", with = "crate::duration::text")]
    pub timeout: Duration,
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: Format,
    /// What [`FormatInfo::to`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What [`FormatInfo::token`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// That of the format when absent, which is POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Secret>,
    /// Keys of Standard Webhooks: `whsec_…` (HMAC) or `whsk_…` (ed25519), at most two, so that one can follow the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sign: Vec<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// `http://…` or `https://…` of a proxy that every request goes through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// MiniJinja; set where the format is `template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Of `body`; JSON when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_from: None,
            timeout: default_timeout(),
            format: Format::default(),
            to: None,
            token: None,
            method: None,
            headers: BTreeMap::new(),
            basic: None,
            bearer: None,
            sign: Vec::new(),
            tls: None,
            proxy: None,
            body: None,
            content_type: None,
        }
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(15)
}

/// Value of a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderText {
    Text(String),
    From(Secret),
}

/// HTTP's basic authentication, or that of SMTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basic {
    pub username: String,
    pub password: Secret,
}

/// Certificates of a connection, as PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientTls {
    /// Authorities to trust instead of those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Secret>,
    /// Our own certificate; its key beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
}

/// One mail for each notification, by SMTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// Host name or address of the mail server.
    pub server: String,
    /// 465 with `tls: always`, else 587, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: MailTls,
    /// Authorities to trust instead of those of the system, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Basic>,
    pub from: String,
    pub to: Vec<String>,
    #[serde(default = "default_timeout", with = "crate::duration::text")]
    pub timeout: Duration,
}

/// When a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// After `STARTTLS`, without which nothing is sent.
    #[default]
    Starttls,
    /// From the first byte.
    Always,
    /// Never: for a server on the same machine.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_a_file_or_a_variable_and_reaches_nothing_else() {
        for good in [Secret::File("slack.url".into()), Secret::Env("DOGWATCH_SECRET_SLACK".into())] {
            assert_eq!(good.problem(), None, "{good:?}");
        }
        for bad in [
            Secret::File("../admin.key".into()),
            Secret::File("/etc/shadow".into()),
            Secret::File(".".into()),
            Secret::File(String::new()),
            Secret::Env("AWS_SECRET_ACCESS_KEY".into()),
            Secret::Env("DOGWATCH_NATS_NKEY".into()),
            Secret::Env("DOGWATCH_SECRET_A=B".into()),
        ] {
            assert!(bad.problem().is_some(), "{bad:?}");
        }
    }

    #[test]
    fn the_name_of_a_format_is_the_one_on_the_wire() {
        for info in FORMATS {
            assert_eq!(serde_json::to_value(info.format).unwrap(), info.name);
            assert_eq!(info.format.as_str(), info.name);
        }
    }
}
