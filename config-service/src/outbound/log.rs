//! Stream CONFIG: read by place, appended only to the end that one knows.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    context::PublishErrorKind,
    message::PublishMessage,
    stream::{LastRawMessageErrorKind, Stream},
};
use futures_util::{StreamExt, stream};
use protocol::{limits, log::LogRecord, stream::CONFIG, subject};
use service_kit::{report, streams};

/// How long one step may take: a change is refused rather than kept waiting.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Records asked for at once.
const READ_AHEAD: usize = 64;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("the broker's JetStream does not answer within {TIMEOUT:?}: changes wait until it is back")]
    TimedOut,
    #[error("stream CONFIG cannot be used: {0}")]
    Unusable(String),
}

pub(crate) enum Appended {
    At(u64),
    /// Somebody else was first.
    Conflict,
}

pub(crate) struct Log {
    jetstream: jetstream::Context,
    stream: Stream,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// A message of the stream.
pub(crate) enum Entry {
    Record(LogRecord),
    /// Nobody can understand it; it is no change.
    Foreign(String),
    Missing,
}

impl Log {
    pub(crate) async fn open(jetstream: jetstream::Context) -> Result<Self, LogError> {
        let stream = within(streams::ensure_stream(&jetstream, &CONFIG)).await?;
        let stream = stream.map_err(|error| LogError::Unusable(report(&error)))?;
        let state = stream.cached_info().state.clone();
        Ok(Self { jetstream, stream, first: state.first_sequence.max(1), last: state.last_sequence })
    }

    pub(crate) async fn get(&self, sequence: u64) -> Result<Entry, LogError> {
        match within(self.stream.get_raw_message(sequence)).await? {
            Ok(message) => Ok(match protocol::decode::<LogRecord>(&message.payload, limits::MESSAGE) {
                Ok(record) => Entry::Record(record),
                Err(error) => Entry::Foreign(error.to_string()),
            }),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(Entry::Missing)
            }
            Err(error) => Err(LogError::Unusable(report(&error))),
        }
    }

    /// Messages from `sequence` to the end, in order.
    pub(crate) fn from(
        &self,
        sequence: u64,
    ) -> impl stream::Stream<Item = (u64, Result<Entry, LogError>)> + '_ {
        stream::iter(sequence..=self.last)
            .map(move |sequence| async move { (sequence, self.get(sequence).await) })
            .buffered(READ_AHEAD)
    }

    /// Remove every message. The place of the last one that there was.
    pub(crate) async fn purge(&self) -> Result<u64, LogError> {
        let unusable = |reason: String| LogError::Unusable(reason);
        within(self.stream.purge().into_future()).await?.map_err(|error| unusable(report(&error)))?;
        let info = within(self.stream.get_info()).await?.map_err(|error| unusable(report(&error)))?;
        Ok(info.state.last_sequence)
    }

    /// Append if `last` is still the end of the stream.
    pub(crate) async fn append(&self, record: &LogRecord, last: u64) -> Result<Appended, LogError> {
        let unusable = |reason: String| LogError::Unusable(reason);
        let body = protocol::encode(record).map_err(|error| unusable(error.to_string()))?;
        if body.len() > limits::MESSAGE {
            return Err(unusable(format!("a change of {} bytes does not fit into one message", body.len())));
        }
        let message = PublishMessage::build()
            .payload(body.into())
            // With the place: a record that the broker lost may be given back within the duplicate window.
            .message_id(format!("{}:{last}", record.id))
            .expected_stream(CONFIG.name)
            .expected_last_sequence(last);
        let sent =
            async { self.jetstream.send_publish(subject::CONFIG_LOG.to_owned(), message).await?.await };
        match within(sent).await? {
            // A repeat of what is there already.
            Ok(ack) if ack.duplicate => Ok(Appended::Conflict),
            Ok(ack) => Ok(Appended::At(ack.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Appended::Conflict),
            Err(error) if error.kind() == PublishErrorKind::TimedOut => Err(LogError::TimedOut),
            Err(error) => Err(unusable(report(&error))),
        }
    }
}

async fn within<T>(step: impl Future<Output = T>) -> Result<T, LogError> {
    tokio::time::timeout(TIMEOUT, step).await.map_err(|_| LogError::TimedOut)
}
