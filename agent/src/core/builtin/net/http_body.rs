//! What comes over an HTTP connection: the head of an answer, and how its content is framed (RFC 9112).

/// The largest head, in bytes, those of interim answers included.
pub const HEAD: usize = 64 * 1024;
/// Most headers.
const HEADERS: usize = 100;
/// Most of the content that is read, in bytes.
pub const CONTENT: usize = 1024 * 1024;
/// The longest line that gives the size of a chunk, and the longest trailer, in bytes.
const LINE: usize = 1024;

/// What an answer begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub location: Option<String>,
    pub framing: Framing,
}

/// How the end of the content is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// The head of the final answer and where its content begins; `None` while more bytes are needed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8], method: &str) -> Result<Option<(Self, usize)>, String> {
        let mut start = 0;
        loop {
            let rest = bytes.get(start..).unwrap_or_default();
            let Some(length) = head_length(rest) else {
                if bytes.len() >= HEAD {
                    return Err(format!("the head of the answer is longer than {} KiB", HEAD / 1024));
                }
                // What is no HTTP at all need not be waited for.
                let known = rest.len().min(5);
                if rest.get(..known) != b"HTTP/".get(..known) {
                    return Err(format!("the answer is not HTTP: {:?}", super::tame(rest, 40)));
                }
                return Ok(None);
            };
            let head = Self::parse(rest.get(..length).unwrap_or_default(), method)?;
            start += length;
            // 100 and 103 come before the answer proper.
            if !(100..200).contains(&head.status) || head.status == 101 {
                return Ok(Some((head, start)));
            }
        }
    }

    fn parse(bytes: &[u8], method: &str) -> Result<Self, String> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes);
        let status = match (parsed, response.code) {
            (Ok(_), Some(status)) => status,
            (Ok(_), None) => return Err("the answer has no status".to_owned()),
            (Err(error), _) => {
                return Err(format!("the answer is not HTTP ({error}): {:?}", super::tame(bytes, 40)));
            }
        };
        let all = |name: &'static str| {
            response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
        };
        let text = |header: &httparse::Header<'_>| String::from_utf8_lossy(header.value).trim().to_owned();
        let location = all("location").next().map(text);
        let chunked = all("transfer-encoding").next_back().map(|header| text(header).to_ascii_lowercase());
        let framing = if method == "HEAD" || matches!(status, 101 | 204 | 304) {
            Framing::Length(0)
        } else if let Some(coding) = chunked {
            if !coding.ends_with("chunked") {
                return Err(format!(
                    "the answer is coded as {:?}, which was not asked for",
                    super::cut(&coding, 40)
                ));
            }
            Framing::Chunked
        } else {
            let mut lengths = all("content-length").map(|header| length(&text(header)));
            match lengths.next() {
                None => Framing::UntilClose,
                Some(Some(length)) if lengths.all(|other| other == Some(length)) => Framing::Length(length),
                Some(_) => return Err("the answer says no clear Content-Length".to_owned()),
            }
        };
        Ok(Self { status, location, framing })
    }
}

fn length(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The head ends with an empty line.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let crlf = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let lf = bytes.windows(2).position(|window| window == b"\n\n").map(|at| at + 2);
    crlf.into_iter().chain(lf).min()
}

/// The content of an answer as it arrives.
#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    /// There is more, which is not read.
    pub cut: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So many bytes are left.
    Plain(u64),
    UntilClose,
    ChunkSize(Vec<u8>),
    Chunk(u64),
    /// The line break behind a chunk.
    ChunkEnd,
    /// So many bytes of trailers were seen, and so many of the line.
    Trailer(usize, usize),
    Done,
}

impl Content {
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Plain(length),
            Framing::Chunked => State::ChunkSize(Vec::new()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { bytes: Vec::new(), cut: false, state }
    }

    /// Nothing more is to be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.cut || matches!(self.state, State::Done)
    }

    /// Take what arrived.
    ///
    /// # Errors
    /// What is wrong with the framing.
    pub fn add(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() && !self.is_complete() {
            match &mut self.state {
                State::Plain(left) | State::Chunk(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (part, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
                    *left -= u64::try_from(part.len()).unwrap_or(*left).min(*left);
                    if *left == 0 {
                        let chunk = matches!(self.state, State::Chunk(_));
                        self.state = if chunk { State::ChunkEnd } else { State::Done };
                    }
                    self.keep(part);
                    bytes = rest;
                }
                State::UntilClose => {
                    self.keep(bytes);
                    bytes = &[];
                }
                State::ChunkSize(_) | State::ChunkEnd | State::Trailer(..) => {
                    let Some((&byte, rest)) = bytes.split_first() else { break };
                    self.control(byte)?;
                    bytes = rest;
                }
                State::Done => break,
            }
        }
        Ok(())
    }

    /// One byte between the chunks.
    fn control(&mut self, byte: u8) -> Result<(), String> {
        let wrong = || "the chunks of the answer are malformed".to_owned();
        match &mut self.state {
            State::ChunkSize(line) if byte == b'\n' => {
                let text = String::from_utf8_lossy(line);
                // Extensions stand behind a semicolon.
                let digits = text.split(';').next().unwrap_or_default().trim();
                let hexadecimal = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let size = if hexadecimal { u64::from_str_radix(digits, 16).ok() } else { None };
                self.state = match size.ok_or_else(wrong)? {
                    0 => State::Trailer(0, 0),
                    size => State::Chunk(size),
                };
            }
            State::ChunkSize(line) if line.len() < LINE => line.push(byte),
            State::ChunkEnd if byte == b'\r' => {}
            State::ChunkEnd if byte == b'\n' => self.state = State::ChunkSize(Vec::new()),
            // Trailers are not looked at; an empty line ends them.
            State::Trailer(_, 0) if byte == b'\n' => self.state = State::Done,
            State::Trailer(_, line) if byte == b'\n' => *line = 0,
            State::Trailer(_, _) if byte == b'\r' => {}
            State::Trailer(all, line) if *all < LINE => (*all, *line) = (*all + 1, *line + 1),
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) {
        let room = CONTENT.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
        self.cut |= part.len() > room || (room == part.len() && !matches!(self.state, State::Done));
    }

    /// The connection was closed.
    ///
    /// # Errors
    /// When more should have come.
    pub fn close(&mut self) -> Result<(), String> {
        if self.is_complete() || matches!(self.state, State::UntilClose) {
            self.state = State::Done;
            return Ok(());
        }
        Err(format!(
            "the connection was closed in the midst of the content, after {} bytes",
            self.bytes.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Option<(Head, usize)>, String> {
        Head::read(text.as_bytes(), "GET")
    }

    #[test]
    fn heads_say_how_their_content_ends() {
        for (text, status, framing) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, Framing::Length(5)),
            ("HTTP/1.0 200 OK\n\nhello", 200, Framing::UntilClose),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 5\r\n\r\n",
                200,
                Framing::Chunked,
            ),
            ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", 204, Framing::Length(0)),
            (
                "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 404\r\ncontent-length: 7\r\ncontent-length: 7\r\n\r\n",
                404,
                Framing::Length(7),
            ),
        ] {
            let (head, _) = head(text).unwrap().unwrap();
            assert_eq!((head.status, head.framing), (status, framing), "{text}");
        }
        for text in ["", "HT", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\n"]
        {
            assert_eq!(head(text), Ok(None), "{text}");
        }
        for (text, said) in [
            ("SSH-2.0-OpenSSH\r\n", "not HTTP: \"SSH-2.0-OpenSSH\""),
            ("HTTP/1.1 2x0 OK\r\n\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "Content-Length"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "\"gzip\""),
        ] {
            let error = head(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD));
        assert!(head(&endless).unwrap_err().contains("longer than 64 KiB"));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert!(head(&many).unwrap_err().contains("too many headers"));
    }

    #[test]
    fn content_is_read_in_any_pieces() {
        let chunks = &b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\nnext"[..];
        for size in 1..chunks.len() {
            let mut content = Content::new(Framing::Chunked);
            chunks.chunks(size).for_each(|piece| content.add(piece).unwrap());
            assert!(content.is_complete() && !content.cut);
            assert_eq!(content.bytes, b"hello world");
        }
        let mut content = Content::new(Framing::Length(11));
        content.add(b"hello").unwrap();
        assert!(!content.is_complete() && content.close().unwrap_err().contains("after 5 bytes"));
        let mut content = Content::new(Framing::UntilClose);
        content.add(b"hello").unwrap();
        assert!(content.close().is_ok() && content.is_complete());
    }

    #[test]
    fn g10_no_content_is_read_without_end() {
        for (framing, piece) in [
            (Framing::UntilClose, vec![b'x'; 60_000]),
            (Framing::Length(u64::MAX), vec![b'x'; 60_000]),
            (Framing::Chunked, [b"ea60\r\n".to_vec(), vec![b'x'; 60_000], b"\r\n".to_vec()].concat()),
        ] {
            let mut content = Content::new(framing);
            for _ in 0..20 {
                content.add(&piece).unwrap();
            }
            assert!(content.cut && content.is_complete() && content.bytes.len() == CONTENT, "{framing:?}");
        }
        for (bytes, times) in [
            (&b"zz\r\n"[..], 1),
            (b"1;xxxxxxxxxxxxxxxx", 100),
            (b"0\r\nA: bbbbbbbbb\r\n", 1),
            (b"1\r\nxyz", 1),
            (b"-1\r\n", 1),
            (b"\r\n", 1),
            (b"11111111111111111\r\n", 1),
        ] {
            let mut content = Content::new(Framing::Chunked);
            let mut added = Ok(());
            for _ in 0..times {
                added = added.and_then(|()| content.add(bytes));
            }
            if bytes.starts_with(b"0") {
                for _ in 0..100 {
                    added = added.and_then(|()| content.add(b"A: bbbbbbbbbbbbbb\r\n"));
                }
            }
            assert!(added.unwrap_err().contains("malformed"), "{bytes:?}");
        }
        // Exactly as much as fits is not cut.
        let mut content = Content::new(Framing::Length(u64::try_from(CONTENT).unwrap()));
        content.add(&vec![b'x'; CONTENT]).unwrap();
        assert!(content.is_complete() && !content.cut);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "HTTP/1.1 [0-9]{3} \\PC{0,60}\r\n\r\n") {
            let _either = Head::read(&bytes, "GET");
            let _either = Head::read(text.as_bytes(), "HEAD");
            for framing in [Framing::Chunked, Framing::Length(100), Framing::UntilClose] {
                let mut content = Content::new(framing);
                let _either = content.add(&bytes).and_then(|()| content.close());
            }
        }
    }
}
