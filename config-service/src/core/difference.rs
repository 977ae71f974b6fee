//! How documents differ, for people: which of them, and which fields of each.

use protocol::{
    admin::{Change, DocumentChange, FieldChange},
    document::Document,
    limits,
};
use serde_json::Value;

use super::plan::Documents;

/// Fields shown of one document, and bytes of all of them together: an answer fits into one message.
const FIELDS: usize = 100;
const BYTES: usize = limits::MESSAGE / 4;
/// Longest value that is shown whole, as JSON.
const VALUE: usize = 2_048;
/// Fields that may hold a secret.
const SECRET: [&str; 2] = ["webhook.url", "webhook.proxy"];

/// Collects what is told of a change.
#[derive(Default)]
pub(crate) struct Told {
    changes: Vec<DocumentChange>,
    bytes: usize,
}

impl Told {
    pub(crate) fn put(&mut self, before: Option<&Document>, after: &Document) {
        match before {
            None => self.add(after, Change::Created, Vec::new()),
            Some(before) if before == after => self.add(after, Change::Unchanged, Vec::new()),
            Some(before) => self.add(after, Change::Changed, fields(before, after)),
        }
    }

    pub(crate) fn deleted(&mut self, document: &Document) {
        self.add(document, Change::Deleted, Vec::new());
    }

    fn add(&mut self, document: &Document, change: Change, mut fields: Vec<FieldChange>) {
        self.bytes +=
            fields.iter().map(|field| protocol::encode(field).map_or(0, |json| json.len())).sum::<usize>();
        if self.bytes > BYTES {
            fields.clear();
        }
        let (kind, name) = (document.kind(), document.name().to_owned());
        self.changes.push(DocumentChange { kind, name, change, revision: None, fields });
    }

    pub(crate) fn changes(self) -> Vec<DocumentChange> {
        self.changes
    }
}

/// What differs between two states; nothing is said of documents that are the same in both.
pub(crate) fn between(before: &Documents, after: &Documents) -> Vec<DocumentChange> {
    let mut told = Told::default();
    for (key, document) in after {
        match before.get(key) {
            Some(same) if same == document => {}
            before => told.put(before, document),
        }
    }
    before
        .iter()
        .filter(|(key, _)| !after.contains_key(*key))
        .for_each(|(_, document)| told.deleted(document));
    told.changes()
}

fn fields(before: &Document, after: &Document) -> Vec<FieldChange> {
    let mut found = Vec::new();
    // Documents always encode; were one not to, its fields would not be shown.
    let value = |document: &Document| serde_json::to_value(document).unwrap_or_default();
    compare("", Some(&value(before)), Some(&value(after)), &mut found);
    found
}

fn compare(field: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldChange>) {
    if before == after || found.len() >= FIELDS {
        return;
    }
    let inner = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                compare(&inner(key), before.get(key), after.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&inner(&index.to_string()), Some(before), Some(after), found);
            }
        }
        _ => found.push(FieldChange {
            field: field.to_owned(),
            before: before.map(|value| shown(field, value)),
            after: after.map(|value| shown(field, value)),
        }),
    }
}

fn shown(field: &str, value: &Value) -> Value {
    if SECRET.contains(&field) {
        return "…".into();
    }
    let text = value.to_string();
    if text.len() <= VALUE {
        return value.clone();
    }
    format!("{}…", text.chars().take(VALUE / 4).collect::<String>()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Documents {
        let files = [protocol::admin::SourceFile { path: "a.yaml".into(), text: text.into() }];
        let read = documents::read(&files, |_, _| true).unwrap();
        read.into_iter().map(|document| ((document.kind(), document.name().to_owned()), document)).collect()
    }

    fn told(before: &str, after: &str) -> Vec<String> {
        let text = |value: Option<Value>| value.map_or("-".to_owned(), |value| value.to_string());
        let mut lines = Vec::new();
        for change in between(&documents(before), &documents(after)) {
            lines.push(format!("{} {} {}", change.change.as_str(), change.kind, change.name));
            lines.extend(
                change
                    .fields
                    .into_iter()
                    .map(|f| format!("  {}: {} -> {}", f.field, text(f.before), text(f.after))),
            );
        }
        lines
    }

    #[test]
    fn differences_are_told_field_by_field() {
        let before = "kind: Check\nname: a\nevery: 1m\nvariants:\n- {when: facts.os == \"linux\", command: x}\n- {command: y}\n---\nkind: Check\nname: b\nevery: 1m\nbuiltin: cpu\n---\nkind: Check\nname: same\nevery: 1m\nbuiltin: cpu\n";
        let after = "kind: Check\nname: a\nevery: 5m\nunit: files\nvariants:\n- {when: facts.os == \"linux\", command: z}\n- {command: y}\n---\nkind: Check\nname: c\nevery: 1m\nbuiltin: cpu\n---\nkind: Check\nname: same\nevery: 1m\nbuiltin: cpu\n";
        assert_eq!(
            told(before, after),
            [
                "changed Check a",
                "  every: \"1m\" -> \"5m\"",
                "  variants.0.command: \"x\" -> \"z\"",
                "  unit: - -> \"files\"",
                "created Check c",
                "deleted Check b",
            ]
        );
    }

    #[test]
    fn a_secret_is_not_shown() {
        let receiver = |path: &str, timeout: &str| {
            format!(
                "kind: Receiver\nname: ops\nwebhook: {{url: 'https://example.com/{path}', timeout: {timeout}}}\n"
            )
        };
        let lines = told(&receiver("TOKEN-1", "5s"), &receiver("TOKEN-2", "6s"));
        assert_eq!(lines.len(), 3);
        assert!(
            lines.iter().any(|line| line == "  webhook.url: \"…\" -> \"…\"")
                && !lines.concat().contains("TOKEN"),
            "{lines:?}"
        );
    }

    #[test]
    fn g10_an_answer_stays_small() {
        let check = |n: usize, c: char| {
            format!("kind: Check\nname: c{n}\nevery: 1m\ncommand: {}\n---\n", c.to_string().repeat(1_900))
        };
        let many = |c: char| documents(&(0..1_500).map(|n| check(n, c)).collect::<String>());
        let told = between(&many('a'), &many('b'));
        let size = protocol::encode(&told).unwrap().len();
        assert!(told.len() == 1_500 && size < limits::MESSAGE / 2, "{size}");
    }
}
