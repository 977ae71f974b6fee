//! Streams and consumers as `protocol` defines them: created where missing, compared where present.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{self, AckPolicy, DeliverPolicy, PullConsumer},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use protocol::stream::{Retention, StreamSpec};

use crate::report;

#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    #[error("cannot create or read the stream {stream}: {reason}")]
    Stream { stream: &'static str, reason: String },
    #[error(
        "the broker's stream {stream} has {what} {found} where {wanted} is needed: another program owns that name; \
         use a broker or account of dogwatch's own, or remove the stream"
    )]
    Differs { stream: &'static str, what: &'static str, found: String, wanted: String },
    #[error("cannot create or read the consumer {consumer} of the stream {stream}: {reason}")]
    Consumer { stream: &'static str, consumer: &'static str, reason: String },
}

/// The stream, created if it is missing. Its limits (age, bytes, replicas) belong to the operator once it exists; what
/// it holds and how it forgets must be as `spec` says.
///
/// # Errors
/// [`EnsureError`] when the broker refuses or the stream is another's.
pub async fn ensure_stream(
    jetstream: &jetstream::Context,
    spec: &StreamSpec,
) -> Result<jetstream::stream::Stream, EnsureError> {
    let retention = match spec.retention {
        Retention::Limits => RetentionPolicy::Limits,
        Retention::WorkQueue => RetentionPolicy::WorkQueue,
    };
    let wanted = Config {
        name: spec.name.to_owned(),
        subjects: spec.subjects.iter().map(|&subject| subject.to_owned()).collect(),
        retention,
        max_age: spec.max_age.unwrap_or_default(),
        max_bytes: spec.max_bytes.unwrap_or(-1),
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        duplicate_window: spec.duplicate_window,
        num_replicas: 1,
        ..Config::default()
    };
    let stream = jetstream
        .get_or_create_stream(wanted.clone())
        .await
        .map_err(|error| EnsureError::Stream { stream: spec.name, reason: report(&error) })?;
    let found = &stream.cached_info().config;
    let differs =
        |what, found: String, wanted: String| EnsureError::Differs { stream: spec.name, what, found, wanted };
    if found.retention != wanted.retention {
        let (found, wanted) = (format!("{:?}", found.retention), format!("{:?}", wanted.retention));
        return Err(differs("retention", found, wanted));
    }
    if found.subjects != wanted.subjects {
        return Err(differs("subjects", found.subjects.join(" "), wanted.subjects.join(" ")));
    }
    Ok(stream)
}

/// One durable pull consumer of one stream.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    pub stream: StreamSpec,
    /// Durable name, from `protocol::stream::consumer`.
    pub name: &'static str,
    /// How long a message may be worked on before the broker offers it again.
    pub ack_wait: Duration,
    /// Messages under way at most: bounds memory here and redelivery after a crash.
    pub max_ack_pending: i64,
    /// Acknowledging one message acknowledges all before it: only for consumers that settle in order.
    pub ack_all: bool,
}

/// The consumer and, where it is missing, its stream.
///
/// # Errors
/// [`EnsureError`].
pub async fn ensure_consumer(
    jetstream: &jetstream::Context,
    spec: &ConsumerSpec,
) -> Result<PullConsumer, EnsureError> {
    let stream = ensure_stream(jetstream, &spec.stream).await?;
    stream
        .get_or_create_consumer(spec.name, consumer_config(spec))
        .await
        .map_err(|error| failed(spec, &error))
}

/// Make the consumer anew from the first message that is not acknowledged.
///
/// After a crash the broker holds back what was under way until `ack_wait` is over and offers newer messages first. One
/// acknowledgement that covers "all before" would then cover messages that nobody has handled. A work queue would let
/// them wait.
///
/// # Errors
/// [`EnsureError`]. If it fails half-way the consumer is gone and starts with the whole stream: repeats, no loss.
pub async fn rewind_consumer(
    jetstream: &jetstream::Context,
    spec: &ConsumerSpec,
    consumer: &PullConsumer,
) -> Result<PullConsumer, EnsureError> {
    let stream = ensure_stream(jetstream, &spec.stream).await?;
    let deliver_policy = match spec.stream.retention {
        Retention::Limits => DeliverPolicy::ByStartSequence {
            start_sequence: consumer.cached_info().ack_floor.stream_sequence + 1,
        },
        // It holds nothing but what is not acknowledged.
        Retention::WorkQueue => DeliverPolicy::All,
    };
    stream.delete_consumer(spec.name).await.map_err(|error| failed(spec, &error))?;
    let config = consumer::pull::Config { deliver_policy, ..consumer_config(spec) };
    stream.create_consumer(config).await.map_err(|error| failed(spec, &error))
}

fn consumer_config(spec: &ConsumerSpec) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(spec.name.to_owned()),
        ack_policy: if spec.ack_all { AckPolicy::All } else { AckPolicy::Explicit },
        ack_wait: spec.ack_wait,
        max_ack_pending: spec.max_ack_pending,
        ..consumer::pull::Config::default()
    }
}

fn failed(spec: &ConsumerSpec, error: &(dyn std::error::Error + 'static)) -> EnsureError {
    EnsureError::Consumer { stream: spec.stream.name, consumer: spec.name, reason: report(error) }
}
