//! What is written reads back as the same document.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test reports by panicking

use proptest::prelude::*;
use protocol::{admin::SourceFile, document::Document};

fn read(text: &str) -> Vec<Document> {
    let files = [SourceFile { path: "a.yaml".into(), text: text.into() }];
    documents::read(&files, |_, _| true).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

fn again(document: &Document) -> Document {
    let text = documents::write(document).unwrap();
    let mut read = read(&text);
    assert_eq!(read.len(), 1, "{text}");
    read.remove(0)
}

const DOCUMENTS: &str = r#"
kind: Check
name: all
description: |
  Two lines: the second
  has a "quote" and a # mark
hosts: 'facts.os == "linux" && labels.role in ["web", "db"]'
every: 1h 30m
timeout: 2m
exec: [/usr/bin/app, "--flag", "", "a b", "007", "yes", "null", "1e3"]
run:
  user: nagios
  nice: -5
  directory: /var/lib/app
  environment: {LANG: C, EMPTY: "", NUMBER: "7"}
  pass_environment: [PATH]
  stdin: "line\n\ttab"
  limits: {memory: 256MiB, cpu: 10s, open_files: 64, processes: 32, file_size: 3MB, output: 10KiB}
output: json
pointer: /queue/~1a
metric: depth
unit: "%"
warning: "> 5"
critical: "10:20"
---
kind: Check
name: variants
every: 1m
variants:
- {when: 'facts.package_manager == "apt"', command: "apt-get -s dist-upgrade | grep -c '^Inst'"}
- builtin: log
  with: {path: [/var/log/a, /var/log/b], most: 5, ratio: 0.5, deep: true, text: "true", number: "12"}
---
kind: Check
name: text
every: 5s
command: "printf 'a: b\\n- c'"
output: text
pattern: 'version (\S+)'
---
kind: Check
name: cron
cron: "*/5 8-18 * * mon-fri"
timezone: Europe/Berlin
builtin: cpu
---
kind: Rule
name: r
description: "null"
check: all
hosts: labels.role == "web"
when: value > 95.0
for: 5m
keep_firing_for: 10m
severity: critical
notify: [ops]
---
kind: Receiver
name: ops
webhook: {url: "https://example.com/hook?a=b#c", timeout: 5s}
---
kind: Receiver
name: chat
description: chat
webhook:
  format: telegram
  token: {file: telegram_bot}
  to: "-100123"
  timeout: 5s
fallback: ops
limit: {count: 20, window: 1m}
---
kind: Receiver
name: all
webhook:
  url_from: {env: DOGWATCH_SECRET_URL}
  format: template
  method: PUT
  headers: {X-Team: ops, X-Key: {file: key}}
  basic: {username: me, password: {file: pw}}
  sign: [{file: new}, {file: old}]
  tls: {ca: {file: ca.pem}, certificate: {file: me.pem}, key: {file: me.key}}
  proxy: http://proxy:3128
  body: '{"text": {{ alert.summary|tojson }}}'
  content_type: application/json
---
kind: Receiver
name: mail
email:
  server: mail.example.com
  port: 2525
  tls: always
  login: {username: me, password: {env: DOGWATCH_SECRET_MAIL}}
  from: dogwatch@example.com
  to: [ops@example.com, "ops+night@example.com"]
---
kind: Check
name: varied
every: ${vars.every}
timeout: ${vars.timeout}
command: 'echo "${vars.text}"'
warning: "> ${vars.max}"
critical: "> 5"
overrides:
- {hosts: '"web" in groups', cron: '@daily', timezone: UTC, warning: none}
---
kind: Group
name: web
description: web servers
hosts: labels.role == "web"
members: [odd-01, a]
---
kind: Variables
name: web
group: web
priority: -5
vars: {every: 5m, timeout: 10s, max: 5.5, text: "it's 1", list: [a, 1, true], yes: "true", empty: "", n: "007"}
---
kind: Silence
name: once
hosts: '"web" in groups'
checks: [all]
rules: [r]
starts: 2026-11-21T22:00:00Z
ends: 2026-11-21T23:00:00+00:30
comment: move
author: me
---
kind: Silence
name: weekly
hosts: "true"
cron: "0 3 * * sun"
duration: 2h
timezone: Europe/Berlin
---
kind: Action
name: restart
hosts: facts.os == "linux"
exec: [systemctl, restart, app]
run: {user: root, limits: {memory: 64MiB}}
timeout: 90s
guard:
  cooldown: 1h
  max_per_host: {count: 1, window: 1d}
  max_per_fleet: {count: 5, window: 1h}
  max_percent: {percent: 25, group: web}
  verify: {when: value < 90, within: 5m}
  approval: true
  dry_run: true
---
kind: Action
name: call
webhook: {url: "https://example.com/"}
"#;

#[test]
fn every_kind_reads_back() {
    let documents = read(DOCUMENTS);
    assert_eq!(documents.len(), 16);
    for document in &documents {
        assert_eq!(again(document), *document);
    }
    let all = documents.iter().map(|document| documents::write(document).unwrap()).collect::<Vec<_>>();
    assert_eq!(read(&all.join("---\n")), documents);
}

proptest! {
    #[test]
    fn any_text_reads_back(description in "\\PC{0,40}", command in "[ -~\\n\\t\u{e4}\u{1f600}]{1,60}", unit in "[ -~]{0,8}", word in "\\PC{0,12}") {
        let Document::Check(mut check) = read("kind: Check\nname: a\nevery: 1m\ncommand: x\n").remove(0) else { panic!() };
        prop_assume!(!command.trim().is_empty());
        check.description = description;
        check.work.command = Some(command);
        check.unit = Some(unit);
        check.run.stdin = Some(word.clone());
        check.run.environment.insert("A".into(), word);
        let document = Document::Check(check);
        prop_assert_eq!(again(&document), document);
    }
}
