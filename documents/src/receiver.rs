//! Receivers: whom to tell, by which webhook or mail.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    ReceiverName,
    document::Kind,
    operate::Rate,
    receiver::{
        Basic, ClientTls, Email, FORMATS, Format, HeaderText, MailTls, Method, Receiver, Secret, Webhook,
    },
};

use crate::{
    body::BodyTemplate,
    fields::{self, Fields, Problems},
    kinds::{Read, Reference},
    yaml::{Node, Place, Value},
};

const SECOND: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Most headers of a webhook, addresses of a mail, and bytes of a text among them.
const MANY: usize = 32;
const TEXT: usize = 2_048;
/// Headers that say how the body is sent: they are ours.
const OURS: [&str; 8] = [
    "content-length",
    "connection",
    "host",
    "transfer-encoding",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

pub(crate) fn receiver(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Receiver> {
    fields.rename("a Receiver");
    let place = fields.place();
    let name: Option<ReceiverName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Receiver, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let default = crate::damping::truth(&mut fields, "default", problems);
    let (webhook_node, email_node) = (fields.take("webhook"), fields.take("email"));
    if webhook_node.is_some() == email_node.is_some() {
        problems.add(place, "a Receiver has exactly one of \"webhook\" and \"email\"");
    }
    let webhook = webhook_node.map(|node| webhook(node, problems));
    let email = email_node.map(|node| email(node, problems));
    let fallback = fields.take("fallback").and_then(|node| {
        let place = node.place;
        let fallback: ReceiverName = fields::parse("fallback", node, problems)?;
        if name.as_ref() == Some(&fallback) {
            problems.add(place, "fallback: it is another receiver than this one");
        }
        read.references.push(Reference { place, kind: Kind::Receiver, name: fallback.to_string() });
        Some(fallback)
    });
    let limit = limit(&mut fields, problems);
    fields.finish(problems);
    // `None` inside: something is wrong with it, which was said.
    let (webhook, email) =
        (webhook.map_or(Some(None), |w| w.map(Some))?, email.map_or(Some(None), |e| e.map(Some))?);
    Some(Receiver { name: name?, description, default, webhook, email, fallback, limit })
}

fn limit(fields: &mut Fields, problems: &mut Problems<'_>) -> Option<Rate> {
    let mut fields = fields.map("limit", "limit", problems)?;
    let place = fields.place();
    let count = fields.text("count", problems).and_then(|(place, text)| {
        let count = text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
        if count.is_none() {
            problems.add(place, "count: it is a whole number from 1 to 1000000");
        }
        count
    });
    let window = fields.duration("window", problems);
    fields.finish(problems);
    let (Some(count), Some((at, window))) = (count, window) else {
        problems.add(place, "limit needs \"count\" and \"window\", as in {count: 30, window: 1m}");
        return None;
    };
    if !(SECOND..=HOUR * 24).contains(&window) {
        problems.add(at, "window: it is 1s to 1d");
    }
    Some(Rate { count, window })
}

fn timeout(fields: &mut Fields, what: &str, problems: &mut Problems<'_>) -> Duration {
    match fields.duration("timeout", problems) {
        None => SECOND * 15,
        Some((_, timeout)) if (SECOND..=LONGEST).contains(&timeout) => timeout,
        Some((place, timeout)) => {
            problems.add(place, format!("timeout: {what} gets 1s to 1m"));
            timeout
        }
    }
}

pub(crate) fn webhook(node: Node, problems: &mut Problems<'_>) -> Option<Webhook> {
    let mut fields = Fields::of(node, "a webhook", problems)?;
    let place = fields.place();
    let format = format(&mut fields, problems);
    let url = fields.take("url").and_then(|node| fields::text("url", node, problems));
    let url_from = secret(&mut fields, "url_from", problems);
    let timeout = timeout(&mut fields, "a webhook", problems);
    let to = short(&mut fields, "to", problems);
    let token = secret(&mut fields, "token", problems);
    let method = method(&mut fields, problems);
    let headers = headers(&mut fields, problems);
    let basic = basic(&mut fields, "basic", problems);
    let bearer = secret(&mut fields, "bearer", problems);
    let sign = sign(&mut fields, problems);
    let tls = tls(&mut fields, problems);
    let proxy = short(&mut fields, "proxy", problems).map(|(place, proxy)| {
        if !is_http(&proxy) {
            problems.add(place, "proxy: write it like http://host:port");
        }
        proxy
    });
    let body = fields.take("body").and_then(|node| fields::text("body", node, problems));
    let content_type = short(&mut fields, "content_type", problems).map(|(_, text)| text);
    fields.finish(problems);

    if let Some((place, url)) = &url
        && !is_http(url)
    {
        // The text itself may hold a secret.
        problems.add(*place, "url: write it like https://host/path, with http or https and a host");
    }
    if basic.is_some() && bearer.is_some() {
        problems.add(place, "a webhook has one of \"basic\" and \"bearer\"");
    }
    let webhook = Webhook {
        url: url.map(|(_, url)| url).unwrap_or_default(),
        url_from,
        timeout,
        format: format?,
        to: to.map(|(_, to)| to),
        token,
        method,
        headers,
        basic,
        bearer,
        sign,
        tls,
        proxy,
        body: body.as_ref().map(|(_, body)| body.clone()),
        content_type,
    };
    fits_its_format(&webhook, place, body, problems);
    Some(webhook)
}

/// What each format needs, and what it has no use for.
fn fits_its_format(
    webhook: &Webhook,
    place: Place,
    body: Option<(Place, String)>,
    problems: &mut Problems<'_>,
) {
    let info = webhook.format.info();
    let name = info.name;
    match (webhook.url.is_empty(), &webhook.url_from) {
        (false, Some(_)) => problems.add(place, "a webhook has one of \"url\" and \"url_from\""),
        (true, None) if info.url.is_none() => problems.add(
            place,
            "a webhook needs the key \"url\", or \"url_from\": {file: …} where the address is a secret",
        ),
        _ => {}
    }
    match (info.token, &webhook.token) {
        (Some(what), None) if !info.token_optional => {
            problems.add(place, format!("format {name} needs \"token\": {{file: …}}, {what}"));
        }
        (None, Some(_)) => problems.add(place, format!("token: format {name} has none")),
        _ => {}
    }
    match (info.to, &webhook.to) {
        (Some(what), None) => problems.add(place, format!("format {name} needs \"to\": {what}")),
        (None, Some(_)) => problems.add(place, format!("to: format {name} has none")),
        _ => {}
    }
    match (webhook.format, body) {
        (Format::Template, None) => {
            problems.add(place, "format template needs \"body\": a MiniJinja template")
        }
        (Format::Template, Some((place, text))) => {
            if let Err(error) = BodyTemplate::compile(&text) {
                problems.add(place, format!("body: {error}"));
            }
        }
        (_, Some((place, _))) => problems.add(place, "body: it goes with \"format: template\""),
        (_, None) => {}
    }
    if webhook.content_type.is_some() && webhook.format != Format::Template {
        problems.add(place, "content_type: it goes with \"format: template\"");
    }
}

fn format(fields: &mut Fields, problems: &mut Problems<'_>) -> Option<Format> {
    let Some((place, text)) = fields.text("format", problems) else { return Some(Format::default()) };
    let found = FORMATS.iter().find(|info| info.name == text);
    if found.is_none() {
        let names: Vec<&str> = FORMATS.iter().map(|info| info.name).collect();
        let hint = crate::nearest::hint(&text, &names);
        problems
            .add(place, format!("format: there is none of that name{hint}; they are {}", names.join(", ")));
    }
    found.map(|info| info.format)
}

fn method(fields: &mut Fields, problems: &mut Problems<'_>) -> Option<Method> {
    let (place, text) = fields.text("method", problems)?;
    match text.as_str() {
        "POST" => Some(Method::Post),
        "PUT" => Some(Method::Put),
        "PATCH" => Some(Method::Patch),
        _ => {
            problems.add(place, "method: it is POST, PUT or PATCH");
            None
        }
    }
}

fn headers(fields: &mut Fields, problems: &mut Problems<'_>) -> BTreeMap<String, HeaderText> {
    let Some(mut inner) = fields.map("headers", "headers", problems) else { return BTreeMap::new() };
    let mut headers = BTreeMap::new();
    for entry in inner.rest() {
        let place = entry.place;
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if entry.key.is_empty() || entry.key.len() > 128 || !entry.key.chars().all(token) {
            problems.add(place, "headers: a name is letters, digits and -");
            continue;
        }
        if OURS.contains(&entry.key.to_ascii_lowercase().as_str()) {
            problems.add(place, format!("headers: {} is set by dogwatch", entry.key));
        }
        let text = match entry.value {
            node @ Node { value: Value::Map(_), .. } => {
                secret_of("headers", node, problems).map(HeaderText::From)
            }
            node => fields::text("headers", node, problems).map(|(place, text)| {
                if text.len() > TEXT || text.chars().any(|c| c.is_control() || !c.is_ascii()) {
                    problems.add(place, "headers: a value is plain ASCII on one line");
                }
                HeaderText::Text(text)
            }),
        };
        headers.extend(text.map(|text| (entry.key, text)));
    }
    if headers.len() > MANY {
        problems.add(inner.place(), format!("headers: at most {MANY}"));
    }
    headers
}

fn basic(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> Option<Basic> {
    let mut fields = fields.map(key, key, problems)?;
    let place = fields.place();
    let username = short(&mut fields, "username", problems).map(|(_, text)| text);
    let password = secret(&mut fields, "password", problems);
    fields.finish(problems);
    if username.is_none() || password.is_none() {
        problems.add(place, format!("{key} needs \"username\" and \"password\": {{file: …}}"));
    }
    Some(Basic { username: username?, password: password? })
}

fn sign(fields: &mut Fields, problems: &mut Problems<'_>) -> Vec<Secret> {
    let place = fields.place();
    let nodes = match fields.take("sign") {
        Some(Node { value: Value::List(items), .. }) => items,
        Some(node) => vec![node],
        None => Vec::new(),
    };
    if nodes.len() > 2 {
        problems.add(place, "sign: at most two keys, of which one follows the other");
    }
    nodes.into_iter().filter_map(|node| secret_of("sign", node, problems)).collect()
}

fn tls(fields: &mut Fields, problems: &mut Problems<'_>) -> Option<ClientTls> {
    let mut fields = fields.map("tls", "tls", problems)?;
    let place = fields.place();
    let ca = secret(&mut fields, "ca", problems);
    let certificate = secret(&mut fields, "certificate", problems);
    let key = secret(&mut fields, "key", problems);
    fields.finish(problems);
    if certificate.is_some() != key.is_some() {
        problems.add(place, "tls: \"certificate\" and \"key\" go together");
    }
    Some(ClientTls { ca, certificate, key })
}

fn email(node: Node, problems: &mut Problems<'_>) -> Option<Email> {
    let mut fields = Fields::of(node, "email", problems)?;
    let place = fields.place();
    let server = short(&mut fields, "server", problems);
    if server.is_none() {
        problems.add(place, "email needs \"server\": the host name of a mail server");
    }
    let port = fields.text("port", problems).and_then(|(place, text)| {
        let port = text.parse().ok().filter(|port| *port > 0);
        if port.is_none() {
            problems.add(place, "port: it is a number from 1 to 65535");
        }
        port
    });
    let tls = match fields.text("tls", problems) {
        None => MailTls::default(),
        Some((place, text)) => match text.as_str() {
            "starttls" => MailTls::Starttls,
            "always" => MailTls::Always,
            "never" => MailTls::Never,
            _ => {
                problems.add(place, "tls: it is one of starttls, always and never");
                MailTls::default()
            }
        },
    };
    let ca = secret(&mut fields, "ca", problems);
    let login = basic(&mut fields, "login", problems);
    let from = short(&mut fields, "from", problems);
    let to = fields.texts("to", problems);
    let timeout = timeout(&mut fields, "a mail", problems);
    fields.finish(problems);
    if let Some((place, from)) = &from
        && !is_address(from)
    {
        problems.add(*place, "from: write it like dogwatch@example.com");
    }
    match &to {
        Some((place, to)) if to.is_empty() || to.len() > MANY || !to.iter().all(|to| is_address(to)) => {
            problems.add(*place, format!("to: 1 to {MANY} addresses such as ops@example.com"));
        }
        Some(_) => {}
        None => problems.add(place, "email needs \"to\": a list of addresses"),
    }
    if from.is_none() {
        problems.add(place, "email needs \"from\": an address");
    }
    Some(Email { server: server?.1, port, tls, ca, login, from: from?.1, to: to?.1, timeout })
}

/// Enough to be one; the mail server knows better.
fn is_address(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
        && text.len() <= 254
        && text.is_ascii()
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;\"()".contains(c))
}

/// A text of one line.
fn short(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> Option<(Place, String)> {
    let (place, text) = fields.text(key, problems)?;
    if text.is_empty() || text.len() > TEXT || text.chars().any(char::is_control) {
        problems.add(place, format!("{key}: a text of one line, at most {TEXT} bytes"));
    }
    Some((place, text))
}

fn secret(fields: &mut Fields, key: &'static str, problems: &mut Problems<'_>) -> Option<Secret> {
    secret_of(key, fields.take(key)?, problems)
}

/// Where a secret stands. The secret itself is refused without being repeated.
fn secret_of(key: &'static str, node: Node, problems: &mut Problems<'_>) -> Option<Secret> {
    let place = node.place;
    let Value::Map(_) = node.value else {
        problems.add(
            place,
            format!(
                "{key}: a secret stands in no document: write {{file: NAME}} or {{env: DOGWATCH_SECRET_NAME}}"
            ),
        );
        return None;
    };
    let mut fields = Fields::of(node, key, problems)?;
    let file = fields.text("file", problems).map(|(_, name)| Secret::File(name));
    let variable = fields.text("env", problems).map(|(_, name)| Secret::Env(name));
    fields.finish(problems);
    let ((Some(secret), None) | (None, Some(secret))) = (file, variable) else {
        problems.add(place, format!("{key}: it has one of \"file\" and \"env\""));
        return None;
    };
    if let Some(problem) = secret.problem() {
        problems.add(place, format!("{key}: it is {problem}"));
    }
    Some(secret)
}

fn is_http(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let host = host.map(|host| host.rsplit('@').next().unwrap_or(host));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(':'))
        && url.len() <= 2048
        && !url.chars().any(|c| c.is_whitespace() || c.is_control())
}
