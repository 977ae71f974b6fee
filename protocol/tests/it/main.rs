//! Every message that was ever sent can still be read: one frozen sample of each, in `test-data/<message>/v<N>.json`.
//! A sample is never edited after a release; a new form gets a new file.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test reports by panicking

use std::{collections::BTreeSet, path::PathBuf};

use protocol::{
    Reply, admin, alert, archive, attend, audit, config, decommission, letter, log, query, result, rollout,
    run, series, sign_in, signed, stored, transfer,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("test-data")
}

/// Read a sample, write it again, and find nothing lost or changed; then read it with a field of a newer version.
fn reads<T: Serialize + DeserializeOwned>(text: &str) {
    let sample: Value = serde_json::from_str(text).unwrap();
    let message: T = protocol::decode(text.as_bytes(), protocol::limits::MESSAGE).unwrap();
    assert_eq!(serde_json::to_value(&message).unwrap(), sample);
    let mut newer = sample;
    newer["of_a_newer_version"] = Value::from(1);
    serde_json::from_value::<T>(newer).unwrap();
}

/// A reply has one key, and what it holds is checked by the sample of that message.
fn reads_reply(text: &str) {
    let sample: Value = serde_json::from_str(text).unwrap();
    let reply: Reply<config::ConfigChanged> = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&reply).unwrap(), sample);
}

type Reader = fn(&str);

const READERS: &[(&str, Reader)] = &[
    ("alert", reads::<alert::Alert>),
    ("alert_list", reads::<query::AlertList>),
    ("alert_query", reads::<query::AlertQuery>),
    ("applied", reads::<admin::Applied>),
    ("apply_request", reads::<admin::ApplyRequest>),
    ("check_result", reads::<result::CheckResult>),
    ("check_result_http", reads::<result::CheckResult>),
    ("config_changed", reads::<config::ConfigChanged>),
    ("config_log_document_deleted", reads::<log::LogRecord>),
    ("config_log_document_put", reads::<log::LogRecord>),
    ("config_log_key_created", reads::<log::LogRecord>),
    ("config_log_key_revoked", reads::<log::LogRecord>),
    ("config_reply_full", reads::<config::ConfigReply>),
    ("config_reply_refused", reads::<config::ConfigReply>),
    ("config_reply_unchanged", reads::<config::ConfigReply>),
    ("config_request", reads::<config::ConfigRequest>),
    ("config_status", reads::<config::ConfigStatus>),
    ("config_log_rollout_put", reads::<log::LogRecord>),
    ("diff_query", reads::<admin::DiffQuery>),
    ("difference", reads::<admin::Difference>),
    ("document_list", reads::<admin::DocumentList>),
    ("document_query", reads::<admin::DocumentQuery>),
    ("explain_query", reads::<admin::ExplainQuery>),
    ("explanation", reads::<admin::Explanation>),
    ("history_page", reads::<admin::HistoryPage>),
    ("history_query", reads::<admin::HistoryQuery>),
    ("host_list", reads::<admin::HostList>),
    ("host_query", reads::<admin::HostQuery>),
    ("key_create", reads::<admin::KeyCreate>),
    ("key_created", reads::<admin::KeyCreated>),
    ("key_list", reads::<admin::KeyList>),
    ("key_revoke", reads::<admin::KeyRevoke>),
    ("key_verify", reads::<admin::KeyVerify>),
    ("clock_list", reads::<query::ClockList>),
    ("clock_query", reads::<query::ClockQuery>),
    ("latest_query", reads::<query::LatestQuery>),
    ("loss_list", reads::<query::LossList>),
    ("loss_query", reads::<query::LossQuery>),
    ("notification", reads::<alert::Notification>),
    ("reply_error", reads_reply),
    ("reply_ok", reads_reply),
    ("result_page", reads::<query::ResultPage>),
    ("prometheus_query", reads::<query::PrometheusQuery>),
    ("query_cancel", reads::<query::QueryCancel>),
    ("timeline", reads::<series::Timeline>),
    ("timeline_query", reads::<series::TimelineQuery>),
    ("top_list", reads::<series::TopList>),
    ("top_query", reads::<series::TopQuery>),
    ("series_query", reads::<series::SeriesQuery>),
    ("series_history", reads::<series::SeriesHistory>),
    ("availability_query", reads::<series::AvailabilityQuery>),
    ("availability_list", reads::<series::AvailabilityList>),
    ("result_query", reads::<query::ResultQuery>),
    ("run_ended", reads::<run::RunReply>),
    ("run_output", reads::<run::RunReply>),
    ("run_refused", reads::<run::RunReply>),
    ("run_request", reads::<run::RunRequest>),
    ("run_started", reads::<run::RunReply>),
    ("rollback_request", reads::<admin::RollbackRequest>),
    ("rollout", reads::<rollout::Rollout>),
    ("rollout_change", reads::<rollout::RolloutChange>),
    ("rollout_list", reads::<rollout::RolloutList>),
    ("rollout_query", reads::<rollout::RolloutQuery>),
    ("signed_document", reads::<signed::SignedDocument>),
    ("stored", reads::<stored::Stored>),
    ("stored_request", reads::<stored::StoredRequest>),
    ("agent_revoke", reads::<sign_in::AgentRevoke>),
    ("agent_revoked", reads::<sign_in::AgentRevoked>),
    ("audit_event", reads::<audit::AuditEvent>),
    ("audit_page", reads::<audit::AuditPage>),
    ("audit_query", reads::<audit::AuditQuery>),
    ("config_log_agent_enrolled", reads::<log::LogRecord>),
    ("config_log_agent_revoked", reads::<log::LogRecord>),
    ("config_log_token_created", reads::<log::LogRecord>),
    ("config_log_token_revoked", reads::<log::LogRecord>),
    ("token_create", reads::<sign_in::TokenCreate>),
    ("token_created", reads::<sign_in::TokenCreated>),
    ("token_list", reads::<sign_in::TokenList>),
    ("token_revoke", reads::<sign_in::TokenRevoke>),
    ("acknowledge_request", reads::<attend::AcknowledgeRequest>),
    ("silence_expire", reads::<attend::SilenceExpire>),
    ("silence_info", reads::<attend::SilenceInfo>),
    ("silence_list", reads::<attend::SilenceList>),
    ("silence_put", reads::<attend::SilencePut>),
    ("silence_query", reads::<attend::SilenceQuery>),
    ("notification_query", reads::<letter::NotificationQuery>),
    ("notification_list", reads::<letter::NotificationList>),
    ("notification_change", reads::<letter::NotificationChange>),
    ("notifications_changed", reads::<letter::NotificationsChanged>),
    ("receiver_test", reads::<letter::ReceiverTest>),
    ("receiver_tested", reads::<letter::ReceiverTested>),
    ("why", reads::<attend::Why>),
    ("why_query", reads::<attend::WhyQuery>),
    ("archive_line", reads::<archive::Line>),
    ("archive_line_alerter", reads::<archive::Line>),
    ("archive_line_end", reads::<archive::Line>),
    ("piece_query", reads::<transfer::PieceQuery>),
    ("piece", reads::<transfer::Piece>),
    ("piece_put", reads::<transfer::PiecePut>),
    ("piece_taken", reads::<transfer::PieceTaken>),
    ("transfer_end", reads::<transfer::TransferEnd>),
    ("transfer_ended", reads::<transfer::TransferEnded>),
    ("restore_request", reads::<archive::RestoreRequest>),
    ("restore_state", reads::<archive::RestoreState>),
    ("host_decommission", reads::<decommission::HostDecommission>),
    ("decommissioned_list", reads::<decommission::DecommissionedList>),
    ("config_log_host_decommissioned", reads::<log::LogRecord>),
];

#[test]
fn every_frozen_sample_is_read() {
    for (message, read) in READERS {
        let files =
            std::fs::read_dir(folder().join(message)).unwrap_or_else(|_| panic!("no sample of {message}"));
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            read(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_folder_of_samples_has_a_reader() {
    let folders: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let readers: BTreeSet<String> = READERS.iter().map(|(message, _)| (*message).to_owned()).collect();
    assert_eq!(folders, readers);
}

/// A document that was signed once is believed by every later version, however it writes its fields.
#[test]
fn g3_a_signature_of_a_former_version_holds() {
    let sample = std::fs::read_to_string(folder().join("signed_document/v1.json")).unwrap();
    let signed: signed::SignedDocument = serde_json::from_str(&sample).unwrap();
    let document: protocol::document::Document = serde_json::from_value(signed.document.clone()).unwrap();
    let rewritten = signed::json(&document).unwrap();
    assert_eq!(rewritten, signed.document, "a field that appears by itself makes every signature wrong");
    signed.signature.unwrap().verify(&rewritten).unwrap();
}

#[test]
fn message_ids_are_stable() {
    let sample = |name: &str| std::fs::read_to_string(folder().join(name).join("v1.json")).unwrap();
    let result: result::CheckResult = serde_json::from_str(&sample("check_result")).unwrap();
    assert_eq!(result.message_id(), "web-01:1795100000000:1841");
    let submitted: result::CheckResult = serde_json::from_str(&sample("check_result_http")).unwrap();
    assert_eq!(submitted.message_id(), "old-01:01KAH3W8T0000000000000000A");
    let notification: alert::Notification = serde_json::from_str(&sample("notification")).unwrap();
    assert_eq!(notification.message_id(), "01KAH3W8T0000000000000000A:resolved:ops");
}
