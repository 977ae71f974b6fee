//! Containers of Docker or Podman, by the socket of their engine.

use serde::Deserialize;

use super::{Host, Judged, Measured, Number, Options, Rates, float, pattern};

/// Where engines listen, those of the whole host.
const SOCKETS: [&str; 3] = ["/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock"];
/// Names that the text shows.
const SHOWN: usize = 5;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    state: String,
    /// `Up 3 hours (unhealthy)`, `Exited (1) 2 days ago`.
    #[serde(default)]
    status: Option<String>,
}

impl Container {
    fn name(&self) -> &str {
        self.names.first().map_or("?", |name| name.trim_start_matches('/'))
    }

    fn says(&self, text: &str) -> bool {
        self.status.as_deref().is_some_and(|status| status.contains(text))
    }

    fn is_ill(&self) -> bool {
        matches!(self.state.as_str(), "restarting" | "dead") || self.says("(unhealthy)")
    }
}

pub(super) fn containers(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let exclude = options.texts("exclude");
    let mut all = list(host, options.text("socket"))?;
    all.retain(|container| !pattern::any_fits(exclude, container.name()));
    let named = options.texts("names");
    let runs = |container: &Container| container.state == "running";
    let is_missing = |name: &&String| {
        let mut fitting = all.iter().filter(|container| pattern::fits(name, container.name()));
        !fitting.any(runs)
    };
    let missing: Vec<String> = named.iter().filter(is_missing).cloned().collect();
    let ill: Vec<String> = all
        .iter()
        .filter(|container| container.is_ill())
        .map(|container| container.name().to_owned())
        .collect();
    let count = |state: &str| float(all.iter().filter(|container| container.state == state).count() as u64);
    let failed = all.iter().filter(|container| container.state == "exited" && !container.says("Exited (0)"));
    let mut numbers = vec![
        Number::new("unhealthy", float(ill.len() as u64), "").judged(),
        Number::new("running", count("running"), ""),
        Number::new("exited", count("exited"), ""),
        Number::new("failed", float(failed.count() as u64), ""),
        Number::new("paused", count("paused"), ""),
    ];
    let mut text = format!("{} of {} containers run", count("running"), all.len());
    if !ill.is_empty() {
        text = format!("unhealthy: {}; {text}", some(&ill));
    }
    if !named.is_empty() {
        let judged = Judged::Above { warning: None, critical: Some(0.0) };
        numbers.push(Number { judged, ..Number::new("missing", float(missing.len() as u64), "") });
    }
    if !missing.is_empty() {
        text = format!("not running: {}; {text}", some(&missing));
    }
    Ok(Measured { numbers, text, ..Measured::default() })
}

fn some(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

fn list(host: &dyn Host, socket: Option<&str>) -> Result<Vec<Container>, String> {
    let found = SOCKETS.into_iter().find(|path| host.meta(path).is_some());
    let Some(socket) = socket.or(found) else {
        return Err(format!("no container engine listens here (at {})", SOCKETS.join(", ")));
    };
    // Without a version: engines refuse those that they find too old.
    let request = b"GET /containers/json?all=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = host.socket(socket, request, &|answer| body(answer).is_some())?;
    let (status, body) = body(&answer).ok_or_else(|| format!("{socket} does not answer in HTTP"))?;
    if status != 200 {
        let said: String =
            String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(format!("{socket} answers with {status}: {said}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{socket} gives no list of containers: {error}"))
}

/// Status and body of a whole HTTP/1.1 response.
fn body(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, rest) = (String::from_utf8_lossy(answer.get(..end)?), answer.get(end + 4..)?);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let header = |wanted: &str| {
        let pairs = head.split("\r\n").filter_map(|line| line.split_once(':'));
        pairs
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim().to_owned())
            .next()
    };
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Some((status, unchunked(rest)?));
    }
    let length: usize = header("content-length")?.parse().ok()?;
    Some((status, rest.get(..length)?.to_owned()))
}

/// `None` until the last chunk has come.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = end + 2;
        body.extend(rest.get(start..start.checked_add(size)?)?);
        rest = rest.get(start + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn responses_are_read_whole() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
        assert_eq!(body(plain), Some((200, b"[]".to_vec())));
        let chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(body(chunked), Some((404, b"abc0123456789".to_vec())));
        for end in 0..plain.len() {
            assert_eq!(body(&plain[..end]), None);
        }
        assert_eq!(body(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn no_response_panics(rest in "(\r\n|[0-9a-f]{1,17}|;|x|ä){0,30}", kind in "(Content-Length: [0-9]{1,20}|Transfer-Encoding: chunked)") {
            drop(body(format!("HTTP/1.1 200 OK\r\n{kind}\r\n\r\n{rest}").as_bytes()));
        }
    }
}
