//! Each kind of document, key by key.

use protocol::{
    CheckName, ReceiverName, RuleName,
    alert::Severity,
    document::{Document, Kind, Rule},
};

use crate::{
    ExpressionError, HostExpression, RuleExpression,
    damping::Damping,
    expression::{Position, Uses},
    fields::{self, Fields, Problems, compiled},
    operate, receiver, targeting, template,
    yaml::{Node, Place},
};

const KINDS: [&str; 7] = ["Check", "Rule", "Receiver", "Group", "Variables", "Silence", "Action"];

/// What could be read of a document.
pub(crate) struct Read {
    pub(crate) place: Place,
    /// Known as soon as kind and name are right, so that what refers to a wrong document is not reported as well.
    pub(crate) identity: Option<(Kind, String)>,
    /// Whole only if nothing is wrong with it.
    pub(crate) document: Option<Document>,
    pub(crate) references: Vec<Reference>,
    /// Variables that it asks for, each somewhere in the file.
    pub(crate) asked: Vec<(String, Place)>,
    /// Variables that it gives.
    pub(crate) defined: Vec<(String, Place)>,
    /// Schedules and thresholds in which variables stand.
    pub(crate) tuned: Vec<(&'static str, Place, String)>,
}

impl Read {
    /// The text of an expression that compiles, if the key is there; what it asks for is noted.
    pub(crate) fn expression<T: Asks>(
        &mut self,
        fields: &mut Fields,
        key: &'static str,
        compile: impl Fn(&str) -> Result<T, ExpressionError>,
        problems: &mut Problems<'_>,
    ) -> Option<String> {
        let node = fields.take(key)?;
        self.compiled(key, node, compile, problems)
    }

    pub(crate) fn required_expression<T: Asks>(
        &mut self,
        fields: &mut Fields,
        key: &'static str,
        compile: impl Fn(&str) -> Result<T, ExpressionError>,
        problems: &mut Problems<'_>,
    ) -> Option<String> {
        let node = fields.required(key, problems)?;
        self.compiled(key, node, compile, problems)
    }

    fn compiled<T: Asks>(
        &mut self,
        key: &'static str,
        node: Node,
        compile: impl Fn(&str) -> Result<T, ExpressionError>,
        problems: &mut Problems<'_>,
    ) -> Option<String> {
        let place = node.place;
        let mut found = None;
        let compile = |text: &str| compile(text).map(|expression| found = Some(expression));
        let source = compiled(key, node, compile, problems)?;
        if let Some(expression) = found {
            let uses = expression.asks();
            let at = |position: Position| problems.inside(place, &source, position).unwrap_or(place);
            for (name, position) in &uses.groups {
                let (place, kind, name) = (at(*position), Kind::Group, name.clone());
                self.references.push(Reference { place, kind, name });
            }
            self.asked.extend(uses.vars.iter().map(|(name, position)| (name.clone(), at(*position))));
        }
        Some(source)
    }

    /// Take in the texts in which variables may stand.
    pub(crate) fn texts(&mut self, texts: Texts, problems: &mut Problems<'_>) {
        for (place, text) in &texts.found {
            match template::names(text) {
                Ok(names) => self.asked.extend(names.into_iter().map(|name| (name.to_owned(), *place))),
                Err(error) => problems.add(*place, error),
            }
        }
        self.tuned.extend(texts.tuned);
    }
}

/// An expression that tells which groups and variables it asks for.
pub(crate) trait Asks {
    fn asks(&self) -> &Uses;
}

impl Asks for HostExpression {
    fn asks(&self) -> &Uses {
        self.uses()
    }
}

impl Asks for RuleExpression {
    fn asks(&self) -> &Uses {
        self.uses()
    }
}

/// Texts of a document in which variables stand.
#[derive(Default)]
pub(crate) struct Texts {
    pub(crate) found: Vec<(Place, String)>,
    tuned: Vec<(&'static str, Place, String)>,
}

impl Texts {
    pub(crate) fn add(&mut self, place: Place, text: &str) {
        if template::is_template(text) {
            self.found.push((place, text.to_owned()));
        }
    }

    pub(crate) fn tuned(&mut self, key: &'static str, place: Place, text: &str) {
        self.add(place, text);
        self.tuned.push((key, place, text.to_owned()));
    }
}

/// A name that another document must have.
pub(crate) struct Reference {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

pub(crate) fn read(node: Node, problems: &mut Problems<'_>) -> Option<Read> {
    let before = problems.found.len();
    let mut fields = Fields::of(node, "a document", problems)?;
    let (place, kind) = fields::text("kind", fields.required("kind", problems)?, problems)?;
    let mut read = Read {
        place: fields.place(),
        identity: None,
        document: None,
        references: Vec::new(),
        asked: Vec::new(),
        defined: Vec::new(),
        tuned: Vec::new(),
    };
    let document = match kind.as_str() {
        "Check" => {
            crate::check::read(fields, &mut read, problems).map(|check| Document::Check(Box::new(check)))
        }
        "Rule" => rule(fields, &mut read, problems).map(Document::Rule),
        "Receiver" => receiver::receiver(fields, &mut read, problems)
            .map(|receiver| Document::Receiver(Box::new(receiver))),
        "Group" => targeting::group(fields, &mut read, problems).map(Document::Group),
        "Variables" => targeting::variables(fields, &mut read, problems).map(Document::Variables),
        "Silence" => operate::silence(fields, &mut read, problems).map(Document::Silence),
        "Action" => {
            operate::action(fields, &mut read, problems).map(|action| Document::Action(Box::new(action)))
        }
        other => {
            let hint = crate::nearest::hint(other, &KINDS);
            let other: String = other.chars().take(64).collect();
            problems
                .add(place, format!("there is no kind {other:?}{hint}; the kinds are {}", KINDS.join(", ")));
            None
        }
    };
    read.document = document.filter(|_| problems.found.len() == before);
    Some(read)
}

fn rule(mut fields: Fields, read: &mut Read, problems: &mut Problems<'_>) -> Option<Rule> {
    fields.rename("a Rule");
    let name: Option<RuleName> = fields.required_parsed("name", problems);
    read.identity = name.as_ref().map(|name| (Kind::Rule, name.to_string()));
    let description = fields.text("description", problems).map(|(_, text)| text).unwrap_or_default();
    let check = fields.required("check", problems).and_then(|node| {
        let place = node.place;
        let name: CheckName = fields::parse("check", node, problems)?;
        read.references.push(Reference { place, kind: Kind::Check, name: name.to_string() });
        Some(name)
    });
    let hosts = read.expression(&mut fields, "hosts", HostExpression::compile, problems);
    let when = read.required_expression(&mut fields, "when", RuleExpression::compile, problems);
    let hold = fields.duration("for", problems).map(|(_, duration)| duration).unwrap_or_default();
    let keep_firing_for =
        fields.duration("keep_firing_for", problems).map(|(_, duration)| duration).unwrap_or_default();
    let Damping { attempts, clear_when, flapping, depends_on } =
        crate::damping::read(&mut fields, read, problems);
    let severity = severity(&mut fields, problems);
    let notify = notify(&mut fields, read, problems);
    fields.later(&["action"], problems);
    fields.finish(problems);
    Some(Rule {
        name: name?,
        description,
        check: check?,
        hosts,
        when: when?,
        hold,
        keep_firing_for,
        attempts,
        clear_when,
        flapping,
        depends_on,
        severity,
        notify,
    })
}

/// The receivers that a document names, each once.
pub(crate) fn notify(fields: &mut Fields, read: &mut Read, problems: &mut Problems<'_>) -> Vec<ReceiverName> {
    let mut notify = Vec::new();
    for item in fields.list("notify", problems) {
        let place = item.place;
        let Some(receiver) = fields::parse::<ReceiverName>("notify", item, problems) else { continue };
        if notify.contains(&receiver) {
            problems.add(place, format!("notify: {receiver} stands here twice"));
        }
        read.references.push(Reference { place, kind: Kind::Receiver, name: receiver.to_string() });
        notify.push(receiver);
    }
    notify
}

fn severity(fields: &mut Fields, problems: &mut Problems<'_>) -> Severity {
    let Some((place, text)) = fields.text("severity", problems) else { return Severity::default() };
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter().find(|severity| severity.as_str() == text).unwrap_or_else(|| {
        problems.add(place, "severity: it is one of info, warning and critical");
        Severity::default()
    })
}
