//! `notifications list|retry|drop`.

use protocol::letter::{
    NotificationChange, NotificationInfo, NotificationList, NotificationOrder, NotificationsChanged,
};

use super::http::Client;
use crate::{
    args::{LettersArgs, NotificationsArgs, NotificationsCommand},
    output::{self, Column, age},
};

const LETTERS: [Column<NotificationInfo>; 7] = [
    Column { title: "AGE", cell: |info, now| age(info.at_ms, now) },
    Column { title: "RECEIVER", cell: |info, _| info.receiver.to_string() },
    Column { title: "STATE", cell: |info, _| info.state.clone() },
    Column { title: "HOST", cell: |info, _| info.agent.to_string() },
    Column { title: "RULE", cell: |info, _| info.rule.to_string() },
    Column { title: "TELLS", cell: |info, _| info.alert_state.to_string() },
    Column {
        title: "NOTIFICATION",
        cell: |info, _| match &info.reason {
            Some(reason) => format!("{}: {reason}", info.id),
            None => info.id.clone(),
        },
    },
];

pub(crate) async fn run(command: &NotificationsCommand) -> anyhow::Result<()> {
    match command {
        NotificationsCommand::List(args) => list(args).await,
        NotificationsCommand::Retry(args) => change(args, NotificationOrder::Retry).await,
        NotificationsCommand::Drop(args) => change(args, NotificationOrder::Drop).await,
    }
}

async fn list(args: &NotificationsArgs) -> anyhow::Result<()> {
    let mut query = Vec::new();
    if let Some(receiver) = &args.receiver {
        query.push(("receiver", receiver.to_string()));
    }
    if let Some(state) = &args.state {
        query.push(("state", state.clone()));
    }
    let found: NotificationList =
        Client::open(&args.common)?.get(&["api", "v1", "notifications"], &query).await?;
    output::print(&found.notifications, &LETTERS, args.common.output)
}

async fn change(args: &LettersArgs, order: NotificationOrder) -> anyhow::Result<()> {
    let request = NotificationChange {
        order,
        ids: args.ids.clone(),
        receiver: args.receiver.clone(),
        all: args.all,
        actor: String::new(),
    };
    let changed: NotificationsChanged =
        Client::open(&args.common)?.post(&["api", "v1", "notifications"], &request).await?;
    let done = match order {
        NotificationOrder::Retry => "sent again",
        NotificationOrder::Drop => "dropped",
    };
    output::note(&format!("{} {done}", changed.changed));
    for (id, why) in &changed.unchanged {
        output::note(&format!("{id}: {why}"));
    }
    anyhow::ensure!(changed.unchanged.is_empty(), "{} not {done}", changed.unchanged.len());
    Ok(())
}
