//! The host that this process runs on. All of it blocks, with bounds on time and size.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        net::UnixStream,
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::sweep::Sweeps;
use crate::core::builtin::{FileId, Host, Memory, Meta, NAMES, Part, Process, Ran, Usage};

/// The longest text that is read from the kernel, a program or a socket, in bytes.
const TEXT: u64 = 4 * 1024 * 1024;
/// The longest part of a file that is read at once.
const PART: u64 = 1024 * 1024;
/// Besides those of the agent's own PATH: a service may be started with a short one.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The host as one reading sees it.
#[derive(Debug)]
pub(super) struct ThisHost {
    pub(super) memory: Memory,
    /// When the reading has to be over.
    pub(super) until: Instant,
    pub(super) sweeps: Sweeps,
}

impl ThisHost {
    /// # Errors
    /// When there is none left.
    fn time_left(&self) -> Result<Duration, String> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err("there was no time left".to_owned()) } else { Ok(left) }
    }

    fn converse(
        &self,
        path: &str,
        request: &[u8],
        complete: &dyn Fn(&[u8]) -> bool,
    ) -> std::io::Result<Vec<u8>> {
        let other = |text: String| std::io::Error::other(text);
        // Connecting to a local socket waits only where its queue is full.
        let mut stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(self.time_left().map_err(other)?))?;
        stream.write_all(request)?;
        let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while !complete(&answer) {
            stream.set_read_timeout(Some(self.time_left().map_err(other)?))?;
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
            if answer.len() as u64 > TEXT {
                return Err(other(format!("it answers with more than {TEXT} bytes")));
            }
        }
        Ok(answer)
    }
}

impl Host for ThisHost {
    fn text(&self, path: &str) -> Result<String, String> {
        let bytes = read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(NAMES);
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn processes(&self) -> Arc<[Process]> {
        self.sweeps.processes()
    }

    fn usage(&self, folder: &str) -> Option<Usage> {
        // A single file may be bind-mounted into a container.
        if !Path::new(folder).is_dir() {
            return None;
        }
        let stat = rustix::fs::statvfs(folder).ok().filter(|stat| stat.f_blocks > 0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Usage {
            used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            available: bytes(stat.f_bavail),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }

    fn meta(&self, path: &str) -> Option<Meta> {
        let meta = fs::metadata(path).ok()?;
        Some(Meta {
            id: id(&meta),
            bytes: meta.len(),
            modified: u64::try_from(meta.mtime()).unwrap_or(0),
            is_file: meta.is_file(),
        })
    }

    fn part(&self, path: &str, from: u64, most: u64) -> Result<Part, String> {
        let failed = |error: std::io::Error| format!("cannot read {path}: {error}");
        let mut file = open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(format!("{path} is no regular file"));
        }
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(most.min(PART)).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Part { id: id(&meta), bytes })
    }

    fn now(&self) -> u64 {
        service_kit::now_ms() / 1_000
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<Ran, String> {
        let limit = self.time_left()?;
        let found = find(program).ok_or_else(|| format!("there is no program {program}"))?;
        let failed = |error: std::io::Error| format!("{program} could not be run: {error}");
        let mut command = Command::new(found);
        command.args(args).current_dir("/").env("LC_ALL", "C");
        for (variable, _) in std::env::vars_os() {
            // The agent's own settings are no business of a program.
            if variable.as_encoded_bytes().starts_with(b"DOGWATCH_") {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let kill = move || {
            if let Some(group) = group {
                // It may be gone already.
                let _gone = kill_process_group(group, Signal::KILL);
            }
        };
        let (ended, watched) = channel::<()>();
        let watch = thread::spawn(move || {
            let late = watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                kill();
            }
            late
        });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let said = thread::spawn(move || drain(stderr));
        let stdout = drain(stdout);
        let stderr = said.join().unwrap_or_default();
        let status = child.wait();
        drop(ended);
        let late = watch.join().unwrap_or(false);
        if late {
            return Err(format!("{program} took too long"));
        }
        Ok(Ran { stdout, stderr, code: status.map_err(failed)?.code() })
    }

    fn socket(
        &self,
        path: &str,
        request: &[u8],
        complete: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, String> {
        self.converse(path, request, complete).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => format!("cannot ask {path}: it did not answer in time"),
            _ => format!("cannot ask {path}: {error}"),
        })
    }

    fn recall(&self) -> Memory {
        self.memory.clone()
    }
}

/// For reading. A named pipe without a writer must not stop us.
fn open(path: &str) -> std::io::Result<File> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(nonblock).open(path)
}

/// At most [`TEXT`] bytes, and a little more.
fn read(path: &str) -> std::io::Result<Vec<u8>> {
    let mut file = open(path)?;
    // Most texts of the kernel come with one read into this.
    let mut buffer = [0; 4 * 1024];
    let length = file.read(&mut buffer)?;
    let mut bytes = buffer.get(..length).unwrap_or_default().to_vec();
    if length > 0 {
        file.take(TEXT).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn id(meta: &fs::Metadata) -> FileId {
    FileId { device: meta.dev(), inode: meta.ino() }
}

fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(Into::into));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Reads to the end, and keeps the beginning.
fn drain(pipe: Option<impl Read>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    let Some(mut pipe) = pipe else { return String::new() };
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        if (kept.len() as u64) < TEXT {
            kept.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn host(limit: Duration) -> ThisHost {
        ThisHost { memory: Memory::None, until: Instant::now() + limit, sweeps: Sweeps::default() }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn programs_are_run_to_their_end_or_killed_with_what_they_started() {
        let ran = host(LONG).run("sh", &["-c", "echo out; echo err >&2; exit 7"]).unwrap();
        assert_eq!(ran, Ran { stdout: "out\n".into(), stderr: "err\n".into(), code: Some(7) });
        assert_eq!(host(LONG).run("sh", &["-c", "kill -9 $$"]).unwrap().code, None);
        assert!(host(LONG).run("no-such-program", &[]).unwrap_err().contains("no program no-such-program"));
        assert!(host(Duration::ZERO).run("true", &[]).is_err());
        // Both hold the pipe: only when both are gone does this return.
        let started = Instant::now();
        let late = host(Duration::from_millis(300)).run("sh", &["-c", "sleep 600 & sleep 600"]);
        assert_eq!(late, Err("sh took too long".to_owned()));
        assert!(started.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn a_program_that_prints_without_end_is_read_and_cut() {
        let ran = host(LONG).run("sh", &["-c", "head -c 9000000 /dev/zero; echo done >&2"]).unwrap();
        assert!(ran.stdout.len() < 5_000_000 && ran.stderr == "done\n", "{}", ran.stdout.len());
    }

    #[test]
    fn sockets_are_asked_with_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let path = path.to_str().unwrap();
        let server = thread::spawn(move || {
            for answer in [&b"hello"[..], b"", &[b'x'; 5 * 1024 * 1024]] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 3];
                stream.read_exact(&mut asked).unwrap();
                // The last one is hung up on.
                let _hung_up = stream.write_all(answer);
            }
            // Nobody answers the fourth.
            listener
        });
        assert_eq!(host(LONG).socket(path, b"ask", &|_| false).unwrap(), b"hello");
        assert_eq!(host(LONG).socket(path, b"ask", &|_| false).unwrap(), b"");
        assert!(host(LONG).socket(path, b"ask", &|_| false).unwrap_err().contains("more than"));
        let listener = server.join().unwrap();
        let late = host(Duration::from_millis(200)).socket(path, b"ask", &|_| false).unwrap_err();
        assert!(late.contains("in time") || late.contains("no time left"), "{late}");
        drop(listener);
        assert!(host(LONG).socket(path, b"ask", &|_| false).unwrap_err().contains("refused"));
    }

    #[test]
    fn pipes_and_folders_are_no_files_and_stop_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.to_str().unwrap(), folder.path().to_str().unwrap(), "/dev/zero"] {
            assert!(host(LONG).part(path, 0, 10).is_err(), "{path}");
            assert!(!host(LONG).meta(path).unwrap().is_file);
        }
        let file = folder.path().join("file");
        fs::write(&file, "0123456789").unwrap();
        let part = host(LONG).part(file.to_str().unwrap(), 4, 3).unwrap();
        let meta = host(LONG).meta(file.to_str().unwrap()).unwrap();
        assert_eq!((part.bytes.as_slice(), part.id, meta.bytes), (&b"456"[..], meta.id, 10));
        assert!(host(LONG).meta("/no/such/file").is_none());
    }
}
