//! One connection that asks and waits: the least that a client can cost.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    headers: String,
    body: Vec<u8>,
}

impl Http {
    /// `headers` stand in every request, each ended by `\r\n`.
    pub(crate) fn connect(to: SocketAddr, headers: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let headers = format!("Host: {to}\r\n{headers}");
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, stream), headers, body: Vec::new() })
    }

    /// Status and body.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<(u16, &[u8])> {
        let head = format!("GET {path} HTTP/1.1\r\n{}\r\n", self.headers);
        self.exchange(head.into_bytes())
    }

    /// Status and body.
    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        let head = format!(
            "POST {path} HTTP/1.1\r\n{}{headers}Content-Length: {}\r\n\r\n",
            self.headers,
            body.len()
        );
        self.exchange([head.as_bytes(), body].concat())
    }

    fn exchange(&mut self, request: Vec<u8>) -> anyhow::Result<(u16, &[u8])> {
        self.stream.get_mut().write_all(&request)?;
        self.body.clear();
        let status = self.line()?;
        let status = status.split_whitespace().nth(1).context("an answer without a status")?.parse()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
                Some(_) => {}
            }
        }
        if chunked {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16)?;
                self.read(size)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.read(length)?;
        }
        Ok((status, &self.body))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn read(&mut self, size: usize) -> anyhow::Result<()> {
        let read = (&mut self.stream).take(size as u64).read_to_end(&mut self.body)?;
        anyhow::ensure!(read == size, "the answer ends early");
        Ok(())
    }
}
