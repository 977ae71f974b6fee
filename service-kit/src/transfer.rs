//! Handing out and taking in what is larger than a message: a file, piece by piece, over requests and replies.
//!
//! One transfer each way at a time and replica. One that begins ends the one before it; what is left of one that nobody
//! finished goes with the next, or with the next start.

use std::{
    fs::{File, OpenOptions},
    future::Future,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use async_nats::Client;
use protocol::{
    ErrorCode, ErrorReply, subject,
    transfer::{Bytes, PIECE, Piece, PiecePut, PieceQuery, PieceTaken, Transfer},
};
use rand::{TryRngCore, rngs::OsRng};

use crate::{Context, files, report, request, respond};

/// Largest file that is taken in, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024 * 1024;
/// How long whoever fetches waits before it asks again for what is still being made.
const MAKING: Duration = Duration::from_millis(200);
/// A piece is read from or written to a disk that may be busy.
const LIMITS: respond::Limits = respond::Limits { concurrency: 4, deadline: Duration::from_secs(20) };
const PIECE_TIMEOUT: Duration = Duration::from_secs(25);

/// Files of one replica for one direction, each with a name of its own.
struct Place {
    folder: PathBuf,
    prefix: &'static str,
    replica: String,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    transfer: Transfer,
    number: u64,
    file: PathBuf,
    /// Bytes of a file that is handed out, once it is whole; or why it will never be.
    made: Arc<OnceLock<Result<u64, String>>>,
}

impl Place {
    fn new(folder: &Path, prefix: &'static str) -> anyhow::Result<Self> {
        files::remove_leftovers(folder, |name| name.starts_with(prefix))?;
        let mut random = [0; 8];
        OsRng.try_fill_bytes(&mut random)?;
        let replica = protocol::hex(&random);
        Ok(Self { folder: folder.to_owned(), prefix, replica, current: Mutex::default() })
    }

    /// End the transfer before, and begin another.
    fn begin(&self) -> Result<Current, ErrorReply> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let number = current.as_ref().map_or(0, |before| before.number) + 1;
        if let Some(before) = current.take() {
            // Gone already where it was fetched whole.
            let _gone = std::fs::remove_file(&before.file);
        }
        let transfer = Transfer::new(&self.replica, number)
            .ok_or_else(|| ErrorReply::new(ErrorCode::Internal, "no name for a transfer"))?;
        let file = self.folder.join(format!("{}{number}", self.prefix));
        let begun = Current { transfer, number, file, made: Arc::default() };
        *current = Some(begun.clone());
        Ok(begun)
    }

    fn of(&self, transfer: &Transfer) -> Result<Current, ErrorReply> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        current.filter(|current| current.transfer == *transfer).ok_or_else(|| {
            let message = "the transfer is over: another began, or the service was started again; begin anew";
            ErrorReply::new(ErrorCode::NotFound, message).at("transfer")
        })
    }
}

/// A new file that only the owner reads.
///
/// # Errors
/// As the system has it.
pub fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn broken(what: &str, error: &io::Error) -> ErrorReply {
    ErrorReply::new(ErrorCode::Unavailable, format!("{what}: {error}; check the disk"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorReply> + Send + 'static,
) -> Result<T, ErrorReply> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ErrorReply::new(ErrorCode::Internal, error.to_string()))?
}

/// Hand out to whoever begins at `begin` what `make` writes into a file of `folder`, whose names begin with `prefix`.
///
/// # Errors
/// When a subscription cannot be made, or the folder cannot be used.
pub async fn hand_out<F, Fut>(
    ctx: &Context,
    begin: &'static str,
    (folder, prefix): (&Path, &'static str),
    make: F,
) -> anyhow::Result<()>
where
    F: Fn(PathBuf, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let place = Arc::new(Place::new(folder, prefix)?);
    let here = Arc::clone(&place);
    let pieces = subject::transfer(begin, &place.replica);
    respond::respond(ctx, &pieces, LIMITS, move |_, query: PieceQuery| {
        let here = Arc::clone(&here);
        async move {
            let Some(transfer) = &query.transfer else { return Err(ErrorReply::invalid("which transfer?")) };
            let current = here.of(transfer)?;
            blocking(move || piece(&current, query.offset)).await
        }
    })
    .await?;
    let token = ctx.tasks.token();
    respond::respond(ctx, begin, LIMITS, move |_, query: PieceQuery| {
        let begun = place.begin().map(|current| {
            let making = make(current.file.clone(), query.actor);
            let (made, file, token) = (Arc::clone(&current.made), current.file.clone(), token.clone());
            tokio::spawn(async move {
                let outcome = tokio::select! {
                    outcome = making => outcome,
                    () = token.cancelled() => return,
                };
                let size = || Ok(std::fs::metadata(&file)?.len());
                let outcome = outcome.and_then(|()| size()).map_err(|error| report(error.as_ref()));
                // Set once, here.
                let _first = made.set(outcome);
            });
            Piece { transfer: current.transfer, offset: 0, total: None, data: Bytes::default() }
        });
        std::future::ready(begun)
    })
    .await
}

fn piece(current: &Current, offset: u64) -> Result<Piece, ErrorReply> {
    let transfer = current.transfer.clone();
    let total = match current.made.get() {
        None => return Ok(Piece { transfer, offset: 0, total: None, data: Bytes::default() }),
        Some(Err(reason)) => return Err(ErrorReply::new(ErrorCode::Unavailable, reason.clone())),
        Some(Ok(total)) => *total,
    };
    if offset >= total {
        // Whoever asks so has all of it. Asked again, it is gone already.
        let _gone = std::fs::remove_file(&current.file);
        return Ok(Piece { transfer, offset, total: Some(total), data: Bytes::default() });
    }
    let mut data = Vec::new();
    let read = File::open(&current.file).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.take(PIECE as u64).read_to_end(&mut data)
    });
    read.map_err(|error| broken("a piece cannot be read", &error))?;
    Ok(Piece { transfer, offset, total: Some(total), data: Bytes(data) })
}

/// What is taken in.
#[derive(Clone)]
pub struct Incoming(Arc<Place>);

impl Incoming {
    /// The replica's name in its transfers.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.0.replica
    }

    /// The file that was brought by this transfer.
    ///
    /// # Errors
    /// `not_found` when it is over.
    pub fn file(&self, transfer: &Transfer) -> Result<PathBuf, ErrorReply> {
        self.0.of(transfer).map(|current| current.file)
    }
}

/// Take in what is brought, from `begin` on, into files of `folder` whose names begin with `prefix`.
///
/// # Errors
/// As [`hand_out`].
pub async fn take_in(
    ctx: &Context,
    begin: &'static str,
    (folder, prefix): (&Path, &'static str),
) -> anyhow::Result<Incoming> {
    let place = Arc::new(Place::new(folder, prefix)?);
    let here = Arc::clone(&place);
    let pieces = subject::transfer(begin, &place.replica);
    respond::respond(ctx, &pieces, LIMITS, move |_, put: PiecePut| {
        let here = Arc::clone(&here);
        async move {
            let Some(transfer) = &put.transfer else { return Err(ErrorReply::invalid("which transfer?")) };
            let current = here.of(transfer)?;
            blocking(move || keep(&current, &put)).await
        }
    })
    .await?;
    let here = Arc::clone(&place);
    respond::respond(ctx, begin, LIMITS, move |_, put: PiecePut| {
        let here = Arc::clone(&here);
        blocking(move || {
            let current = here.begin()?;
            private_file(&current.file).map_err(|error| broken("a file cannot be made", &error))?;
            keep(&current, &put)
        })
    })
    .await?;
    Ok(Incoming(place))
}

fn keep(current: &Current, put: &PiecePut) -> Result<PieceTaken, ErrorReply> {
    let broken = |error: io::Error| broken("a piece cannot be kept", &error);
    let mut file = OpenOptions::new().write(true).open(&current.file).map_err(broken)?;
    let there = file.metadata().map_err(broken)?.len();
    let total = put.offset.saturating_add(put.data.0.len() as u64);
    if put.offset > there {
        let message = format!("{there} bytes are there, and this piece belongs at {}", put.offset);
        return Err(ErrorReply::new(ErrorCode::Conflict, message).at("offset"));
    }
    if total > LARGEST {
        return Err(ErrorReply::new(ErrorCode::TooLarge, format!("more than {LARGEST} bytes")));
    }
    // Once more what was brought, after an answer that did not come.
    file.set_len(put.offset).map_err(broken)?;
    file.seek(SeekFrom::Start(put.offset)).map_err(broken)?;
    file.write_all(&put.data.0).map_err(broken)?;
    Ok(PieceTaken { transfer: current.transfer.clone(), total })
}

/// Fetch what is handed out at `begin`.
///
/// # Errors
/// What the other side says, or why `into` cannot be written.
pub async fn fetch(client: &Client, begin: &str, into: &mut impl Write) -> anyhow::Result<()> {
    let mut query = PieceQuery::default();
    let mut subject = begin.to_owned();
    loop {
        let piece: Piece = request::request(client, &subject, &query, PIECE_TIMEOUT).await?;
        into.write_all(&piece.data.0)?;
        query.offset += piece.data.0.len() as u64;
        match piece.total {
            Some(total) if query.offset >= total && piece.data.0.is_empty() => return Ok(()),
            Some(_) => {}
            None => tokio::time::sleep(MAKING).await,
        }
        subject = subject::transfer(begin, piece.transfer.replica());
        query.transfer = Some(piece.transfer);
    }
}

/// Bring all that `from` holds to whoever takes in at `begin`.
///
/// # Errors
/// What the other side says, or why `from` cannot be read.
pub async fn bring(client: &Client, begin: &str, from: &mut impl Read) -> anyhow::Result<Transfer> {
    let mut put = PiecePut { transfer: None, offset: 0, data: Bytes::default() };
    let mut subject = begin.to_owned();
    loop {
        let mut data = Vec::new();
        from.by_ref().take(PIECE as u64).read_to_end(&mut data)?;
        if let (Some(transfer), true) = (&put.transfer, data.is_empty()) {
            return Ok(transfer.clone());
        }
        put.data = Bytes(data);
        let taken: PieceTaken = request::request(client, &subject, &put, PIECE_TIMEOUT).await?;
        subject = subject::transfer(begin, taken.transfer.replica());
        (put.offset, put.transfer) = (taken.total, Some(taken.transfer));
    }
}
