//! Just enough of D-Bus for one call: sign in, say hello, call, and read the answer.
//!
//! All is sent at once: the bus takes it in order. Signing in is by the socket itself (EXTERNAL), which every bus of a
//! system accepts.

use super::Host;

/// Serial numbers of the two messages.
const HELLO: u32 = 1;
const CALL: u32 = 2;
/// Largest message of the specification, in bytes; what a socket may say at all is bounded by the host.
const MESSAGE: usize = 128 * 1024 * 1024;

/// One method without arguments, or with texts alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) args: &'a [&'a str],
}

/// Ask at the first of `sockets` that answers: the body of the reply, and its signature.
///
/// # Errors
/// When none answers, or with an error.
pub(super) fn ask(host: &dyn Host, sockets: &[&str], call: &Call<'_>) -> Result<Reply, String> {
    let request = request(call);
    let mut why = Vec::new();
    for socket in sockets {
        match host.socket(socket, &request, &|answer| find(answer).is_some()) {
            Ok(answer) => match find(&answer) {
                Some(Ok(reply)) => return Ok(reply),
                Some(Err(reason)) => why.push(format!("{socket}: {reason}")),
                None => why.push(format!("{socket} closed without an answer")),
            },
            Err(reason) => why.push(reason),
        }
    }
    Err(why.join("; "))
}

fn request(call: &Call<'_>) -> Vec<u8> {
    let mut request = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_vec();
    let bus = "org.freedesktop.DBus";
    let hello =
        Call { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "Hello", args: &[] };
    request.extend(message(HELLO, &hello));
    request.extend(message(CALL, call));
    request
}

fn message(serial: u32, call: &Call<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    for arg in call.args {
        put_text(&mut body, arg);
    }
    let mut fields = Vec::new();
    for (code, kind, text) in
        [(1, b'o', call.path), (2, b's', call.interface), (3, b's', call.member), (6, b's', call.destination)]
    {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        put_text(&mut fields, text);
    }
    if !call.args.is_empty() {
        pad(&mut fields, 8);
        let signature = "s".repeat(call.args.len());
        fields.extend([8, 1, b'g', 0, length(&signature).to_le_bytes()[0]]);
        fields.extend(signature.as_bytes());
        fields.push(0);
    }
    // Little endian, a call, no flags, version 1.
    let mut message = vec![b'l', 1, 0, 1];
    for number in [body.len(), serial as usize, fields.len()] {
        message.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    pad(to, 4);
    to.extend(length(text).to_le_bytes());
    to.extend(text.as_bytes());
    to.push(0);
}

fn pad(to: &mut Vec<u8>, align: usize) {
    to.resize(to.len().next_multiple_of(align), 0);
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) signature: String,
    body: Vec<u8>,
    big: bool,
}

impl Reply {
    pub(super) fn body(&self) -> Cursor<'_> {
        Cursor { bytes: &self.body, at: 0, big: self.big }
    }
}

/// The answer to the call in what came so far; `None` when it has not come whole.
fn find(answer: &[u8]) -> Option<Result<Reply, String>> {
    let mut rest = answer;
    // DATA, and OK with the name of the bus.
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(rest.get(..end)?).into_owned();
        rest = rest.get(end + 2..)?;
        if line.starts_with("OK") {
            break;
        }
        if !line.starts_with("DATA") {
            return Some(Err(format!("the bus does not let us in: {line}")));
        }
    }
    loop {
        let (reply, after) = match next(rest)? {
            Ok(both) => both,
            Err(reason) => return Some(Err(reason)),
        };
        if let Some(reply) = reply {
            return Some(reply);
        }
        rest = after;
    }
}

type Answer = Option<Result<Reply, String>>;

/// The next message: the answer to the call, if it is that, and what stands behind it.
fn next(bytes: &[u8]) -> Option<Result<(Answer, &[u8]), String>> {
    let (order, kind) = (*bytes.first()?, *bytes.get(1)?);
    if !matches!(order, b'l' | b'B') {
        return Some(Err("this is no D-Bus message".to_owned()));
    }
    let big = order == b'B';
    let mut header = Cursor { bytes, at: 4, big };
    let (body, _serial, fields) = (header.u32()? as usize, header.u32()?, header.u32()? as usize);
    if body > MESSAGE || fields > MESSAGE {
        return Some(Err("a D-Bus message is too large".to_owned()));
    }
    let start = (16 + fields).next_multiple_of(8);
    let after = bytes.get(start + body..)?;
    let read = fields_of(Cursor { bytes: bytes.get(..16 + fields)?, at: 16, big });
    let Some((signature, answers)) = read else {
        return Some(Err("a D-Bus message cannot be understood".to_owned()));
    };
    if answers != Some(CALL) {
        return Some(Ok((None, after)));
    }
    let reply = Reply { signature, body: bytes.get(start..start + body)?.to_owned(), big };
    let answer = match kind {
        2 => Ok(reply),
        _ => Err(reply.body().text().unwrap_or_else(|| "an error without a reason".to_owned())),
    };
    Some(Ok((Some(answer), after)))
}

/// The signature, and which message this one answers.
fn fields_of(mut fields: Cursor<'_>) -> Option<(String, Option<u32>)> {
    let (mut signature, mut answers) = (String::new(), None);
    while fields.at < fields.bytes.len() {
        fields.align(8);
        let code = fields.byte()?;
        match fields.signature()?.as_str() {
            "g" if code == 8 => signature = fields.signature()?,
            "u" if code == 5 => answers = Some(fields.u32()?),
            "g" => drop(fields.signature()?),
            "u" => drop(fields.u32()?),
            "s" | "o" => drop(fields.text()?),
            _ => return None,
        }
    }
    Some((signature, answers))
}

/// Reads values one after the other. Each is `None` where the bytes end or make no sense.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Cursor<'_> {
    pub(super) fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.align(8);
        let bytes = self.take(8)?.try_into().ok()?;
        Some(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    pub(super) fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    /// Each item of an array, read by `item`; items begin at multiples of `align`.
    pub(super) fn array<T>(&mut self, align: usize, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.u32()? as usize;
        self.align(align);
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            self.align(align);
            items.push(item(self)?);
            if self.at <= before {
                return None;
            }
        }
        Some(items)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a bus says to a call: greetings, the name that Hello gives, a signal, and the answer.
    pub(crate) fn conversation(kind: u8, signature: &str, body: &[u8]) -> Vec<u8> {
        let mut said = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n".to_vec();
        let mut name = Vec::new();
        put_text(&mut name, ":1.42");
        said.extend(answer(2, Some(HELLO), "s", &name));
        said.extend(answer(4, None, "s", &name));
        said.extend(answer(kind, Some(CALL), signature, body));
        said
    }

    fn answer(kind: u8, to: Option<u32>, signature: &str, body: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        if let Some(to) = to {
            fields.extend([5, 1, b'u', 0]);
            fields.extend(to.to_le_bytes());
        }
        pad(&mut fields, 8);
        fields.extend([8, 1, b'g', 0, u8::try_from(signature.len()).unwrap()]);
        fields.extend(signature.as_bytes());
        fields.push(0);
        let mut message = vec![b'l', kind, 1, 1];
        for number in [body.len(), 7, fields.len()] {
            message.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        message.extend(fields);
        pad(&mut message, 8);
        message.extend(body);
        message
    }

    /// Texts of an answer, one after the other.
    pub(crate) fn texts(to: &mut Vec<u8>, texts: &[&str]) {
        texts.iter().for_each(|text| put_text(to, text));
    }

    pub(crate) fn align(to: &mut Vec<u8>, align: usize) {
        pad(to, align);
    }

    #[test]
    fn the_answer_is_found_among_others_and_only_whole() {
        let mut body = Vec::new();
        put_text(&mut body, "fine");
        let said = conversation(2, "s", &body);
        let reply = find(&said).unwrap().unwrap();
        assert_eq!((reply.signature.as_str(), reply.body().text().as_deref()), ("s", Some("fine")));
        for end in 0..said.len() {
            assert_eq!(find(&said[..end]), None, "{end}");
        }
        assert_eq!(find(&conversation(3, "s", &body)), Some(Err("fine".to_owned())));
        assert!(find(b"REJECTED EXTERNAL\r\n").unwrap().unwrap_err().contains("REJECTED"));
        assert!(find(b"OK 1\r\nHTTP/1.1 400 Bad Request\r\n\r\n").unwrap().is_err());
    }

    #[test]
    fn a_call_is_written_as_the_specification_says() {
        let call = Call { destination: "a.b", path: "/a", interface: "a.b", member: "M", args: &["xy", "z"] };
        let written = message(CALL, &call);
        let mut header = Cursor { bytes: &written, at: 4, big: false };
        let (body, serial, fields) =
            (header.u32().unwrap(), header.u32().unwrap(), header.u32().unwrap() as usize);
        assert_eq!((serial, body), (2, 14));
        let (signature, answers) =
            fields_of(Cursor { bytes: &written[..16 + fields], at: 16, big: false }).unwrap();
        assert_eq!((signature.as_str(), answers), ("ss", None));
        let mut body = Cursor { bytes: &written, at: written.len() - 14, big: false };
        assert_eq!((body.at % 8, body.text().as_deref(), body.text().as_deref()), (0, Some("xy"), Some("z")));
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), end in 0_usize..200) {
            let mut said = b"OK\r\n".to_vec();
            said.extend(&bytes);
            drop(find(&said));
            // A whole answer that is damaged.
            let mut said = conversation(2, "a(s)", &bytes);
            if let (Some(byte), Some(other)) = (said.get_mut(end), bytes.first()) {
                *byte = *other;
            }
            if let Some(Ok(reply)) = find(&said) {
                drop(reply.body().array(8, |item| item.text()));
            }
        }
    }
}
