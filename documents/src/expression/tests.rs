use proptest::prelude::*;
use protocol::{CheckName, Metric, Status, predict::Limit};
use serde_json::json;

use super::*;

struct World {
    agent: AgentId,
    facts: Facts,
    labels: Labels,
    result: CheckResult,
}

impl World {
    fn new() -> Self {
        let facts = [
            ("os", json!("linux")),
            ("cpus", json!(4)),
            ("load", json!(1.5)),
            ("disks", json!(["sda", "sdb"])),
        ];
        Self {
            agent: AgentId::new("web-01").unwrap(),
            facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
            labels: [("role".to_owned(), "web".to_owned())].into(),
            result: CheckResult {
                seq: 1,
                value: Scalar::number(90.5),
                metrics: vec![Metric {
                    name: "/var".to_owned(),
                    value: 83.5,
                    unit: None,
                    warn: None,
                    crit: None,
                    min: None,
                    max: None,
                }],
                output: "DISK WARNING".to_owned(),
                exit_code: Some(1),
                duration_ms: 1,
                revision: 1,
                ..CheckResult::new(
                    AgentId::new("web-01").unwrap(),
                    CheckName::new("disk").unwrap(),
                    1,
                    Status::Warning,
                )
            },
        }
    }

    fn host(&self) -> HostView<'_> {
        HostView::new(&self.agent, &self.facts, &self.labels)
    }

    fn matches(&self, text: &str) -> Result<bool, EvalError> {
        HostExpression::compile(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&self.host())
    }

    fn holds(&self, text: &str) -> Result<bool, EvalError> {
        self.judge(text, &NoHistory).map(|holds| holds.expect("an answer"))
    }

    fn judge(&self, text: &str, history: &dyn History) -> Result<Option<bool>, EvalError> {
        let view = RuleView { result: &self.result, host: self.host() };
        RuleExpression::compile(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&view, history)
    }
}

#[test]
fn hosts_are_selected_by_facts_and_labels() {
    let world = World::new();
    for (text, expected) in [
        (r#"facts.os == "linux""#, true),
        (r#"facts.os == "linux" && labels.role in ["web", "db"]"#, true),
        ("facts.cpus >= 4 && facts.cpus * 2 > 7.5 && facts.cpus == 4", true),
        ("facts.load / 3 < 1 && -1 < facts.load", true),
        ("int(facts.cpus) % 2 == 0", true),
        (r#"facts.disks[0] == "sda" && size(facts.disks) + 1 == 3"#, true),
        (r#"facts.disks.exists(d, d.startsWith("sd")) && facts.disks.exists_one(d, d == "sda")"#, true),
        (r#"agent.matches("^web-[0-9]+$")"#, true),
        (r#"has(facts.gpu) && facts.gpu == "x""#, false),
        (r#"labels.rack == "r1""#, false),
        (r#"labels["rack"] == "r1""#, false),
        (r#"!has(labels.rack) || labels.rack == "r1""#, true),
    ] {
        assert_eq!(world.matches(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_missing_fact_and_a_wrong_type_are_errors_with_a_reason() {
    let mut world = World::new();
    let error = |outcome: Result<bool, EvalError>| outcome.unwrap_err().to_string();
    assert_eq!(
        error(world.matches(r#"facts.gpu == "x""#)),
        r#"there is no "gpu" here; has(…) asks whether there is, as in has(facts.gpu)"#
    );
    assert!(error(world.matches("facts.os > 3")).starts_with("the expression fails: "));
    assert_eq!(
        error(world.matches("facts.cpus")),
        "the expression gives a number where true or false is needed: compare it with something"
    );
    // A host that reported no facts (a script speaks for it) is not selected by any, and that is no fault.
    world.facts.clear();
    assert_eq!(world.matches(r#"facts.os == "linux""#), Ok(false));
}

#[test]
fn rules_judge_values_whole_or_not() {
    let mut world = World::new();
    for (value, expected) in [(90.5, true), (91.0, true), (90.0, false)] {
        world.result.value = Scalar::number(value);
        for text in ["value > 90", "value > 90.0", "value * 2 > 180", "value - 90 > 0 && value != 0"] {
            assert_eq!(world.holds(text), Ok(expected), "{text} at {value}");
        }
    }
    assert_eq!(world.holds("value == 90"), Ok(true));
    for text in [
        r#"metrics["/var"] > 80 && status == "warning""#,
        r#"check == "disk" && output.contains("WARN") && agent == "web-01" && labels.role == "web""#,
        "metrics.exists(name, metrics[name] > 80)",
        r#"value > 90 ? false : true"#,
    ] {
        assert_eq!(world.holds(text), Ok(true), "{text}");
    }
    assert!(matches!(world.holds(r#"metrics["/"] > 80"#), Err(EvalError::Missing { name }) if name == "/"));
}

#[test]
fn a_value_that_is_no_number_is_nothing_to_judge() {
    let mut world = World::new();
    for value in [None, Some(Scalar::Text("n/a".to_owned())), Some(Scalar::Bool(true))] {
        world.result.value = value;
        assert_eq!(world.judge("value > 90", &NoHistory), Ok(None));
        assert_eq!(world.judge("value * 2 > 90", &NoHistory), Ok(None));
        assert_eq!(world.holds(r#"value > 90 || status == "warning""#), Ok(true));
    }
    world.result.value = Some(Scalar::Text("down".to_owned()));
    assert_eq!(world.holds(r#"value == "down""#), Ok(true));
}

#[test]
fn mistakes_are_found_when_it_is_compiled() {
    for (text, line, column, message) in [
        ("value >", 1, 8, "this is not an expression"),
        (
            "vlaue > 90",
            1,
            1,
            "there is no variable \"vlaue\" here (did you mean \"value\"?); there are value, ",
        ),
        ("value > 1 &&\n  statsu == \"ok\"", 2, 3, "there is no variable \"statsu\""),
        ("forecast(\"soon\") > 95", 1, 9, "forecast(): \"soon\" is not a duration"),
        ("output.conains(\"x\")", 1, 15, "there is no function conains() (did you mean \"contains\"?)"),
        ("", 1, 1, "this is not an expression"),
        ("Foo{a: 1} == 1", 1, 4, "there are no message types"),
        ("metrics.all(a, metrics.all(b, a == b))", 1, 27, "one all, exists"),
    ] {
        let error = RuleExpression::compile(text).unwrap_err();
        assert!(error.message.starts_with(message), "{text}: {error}");
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
    }
    assert!(
        HostExpression::compile("value > 1").unwrap_err().message.contains("there are agent, facts, labels")
    );
}

#[test]
fn deep_and_large_expressions_are_refused_and_the_deepest_allowed_evaluate() {
    let world = World::new();
    let nested = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    let not = |n: usize| format!("{}true", "!".repeat(n));
    let plus = |n: usize| format!("{}0 == 0", "0 + ".repeat(n));
    let index = |n: usize| format!("{}facts{}", "[".repeat(n), "]".repeat(n));
    let select = |n: usize| format!("facts{} == 1", ".a".repeat(n));
    let choose = |n: usize| format!("{}true", "true ? true : ".repeat(n));
    for n in [10, 30, 38, 60, 100, 200, 500, 1000] {
        for text in [nested(n), not(n), plus(n), index(n), select(n), choose(n)] {
            // Test threads have stacks of 2 MiB, as the workers of the services.
            if let Ok(expression) = HostExpression::compile(&text) {
                let _either = expression.matches(&world.host());
            }
        }
    }
    assert_eq!(world.matches(&not(38)), Ok(true));
    assert!(HostExpression::compile(&plus(100)).unwrap_err().message.contains("nested more than"));
    let long = format!("agent == \"{}\"", "x".repeat(3000));
    assert!(HostExpression::compile(&long).unwrap_err().message.contains("more than the 2048 allowed"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let world = World::new();
        if let Ok(expression) = RuleExpression::compile(&text) {
            let _either = expression.holds(&RuleView { result: &world.result, host: world.host() }, &NoHistory);
        }
    }

    #[test]
    fn no_expression_panics(
        text in "(value|metrics|facts|labels\\.a|output|\"x\"|-?[0-9]{1,20}|1\\.5)( (\\+|-|\\*|/|%|<|==|&&|in) (value|facts\\.os|[0-9]{1,19}u?|\"\"|\\[1\\]|\\{\"a\": 1\\}|size\\(output\\)|int\\(value\\))){0,6}"
    ) {
        let world = World::new();
        if let Ok(expression) = RuleExpression::compile(&text) {
            let _either = expression.holds(&RuleView { result: &world.result, host: world.host() }, &NoHistory);
        }
    }
}

/// Every window has 7, the value changed, and nothing came for a minute.
struct Sevens;

impl History for Sevens {
    fn number(&self, call: &Call) -> Option<f64> {
        Some(if let Function::Percentile(rank) = call.function { rank } else { 7.0 })
    }

    fn absent(&self, over: std::time::Duration) -> bool {
        over.as_secs() <= 60
    }

    fn changed(&self) -> bool {
        true
    }
}

#[test]
fn windows_are_asked_of_the_history() {
    let world = World::new();
    for name in ["avg", "min", "max", "sum", "rate", "delta", "count", "stddev"] {
        let text = format!("value > 90 && {name}(\"5m\") == 7");
        assert_eq!(world.judge(&text, &Sevens), Ok(Some(true)), "{text}");
    }
    for (text, expected) in [
        (r#"percentile("5m", 95) == 95"#, true),
        (r#"percentile("1h", 99.5) == 99.5"#, true),
        (r#"avg("5m") > 2 * min("1h")"#, false),
        (r#"absent("1m")"#, true),
        (r#"absent("10m") || changed()"#, true),
        (r#"!changed()"#, false),
        (r#"value > 90 && consecutive(3)"#, true),
        (r#"metrics.exists(name, metrics[name] > max("5m"))"#, true),
    ] {
        assert_eq!(world.judge(text, &Sevens), Ok(Some(expected)), "{text}");
    }
    // Nothing in the window: nothing to judge, unless the rest decides alone.
    assert_eq!(world.judge(r#"avg("5m") > 1"#, &NoHistory), Ok(None));
    assert_eq!(world.judge(r#"avg("5m") > 1 && value > 99"#, &NoHistory), Ok(Some(false)));
    assert_eq!(world.judge(r#"count("5m") == 0"#, &NoHistory), Ok(Some(true)));
    let expression = RuleExpression::compile(r#"value > 1 && consecutive(3) && absent("5m")"#).unwrap();
    assert_eq!((expression.in_a_row(), expression.windows().count()), (3, 1));
    assert!(expression.judges_silence());
    assert_eq!(RuleExpression::compile("value > 1").unwrap().in_a_row(), 1);
}

#[test]
fn wrong_windows_are_found_when_they_are_compiled() {
    for (text, message) in [
        ("avg() > 1", "avg(): write it like avg(\"5m\")"),
        ("avg(5) > 1", "avg(): write it like avg(\"5m\")"),
        (r#"avg("soon") > 1"#, "avg(): \"soon\" is not a duration"),
        (r#"avg("2days") > 1"#, "avg(): a window is 1s to 1day"),
        (r#"percentile("5m") > 1"#, "percentile(): write it like percentile(\"5m\", 95)"),
        (r#"percentile("5m", 101) > 1"#, "percentile(): it is between 0 and 100"),
        ("changed(1)", "changed(): write it like changed()"),
        ("consecutive(0)", "consecutive(): it is 1 to 1000"),
        ("value > 1 || consecutive(3)", "consecutive() stands beside the whole condition"),
        ("!consecutive(3)", "consecutive() stands beside the whole condition"),
        ("anomaly(5m) > 0.5", "this is not an expression"),
        ("anomaly(5) > 0.5", "anomaly(): write it like anomaly() or anomaly(\"/var\")"),
        ("forecast() > 95", "forecast(): write it like forecast(\"4h\")"),
        (r#"forecast("30s") > 95"#, "forecast(): a forecast is for 1m to 14days ahead"),
        (r#"forecast_low("15days") > 95"#, "forecast_low(): a forecast is for 1m to 14days ahead"),
        (r#"time_to("95") < 24"#, "time_to(): \"95\" is not a limit: write it like"),
        (r#"time_to("> 95") < "24h""#, "a number and a text cannot be compared"),
        (r#"outlier("a b") > 0.5"#, "outlier(): \"a b\" is not a valid group"),
        (r#"outlier(groups) > 0.5"#, "outlier(): write it like outlier(\"web\")"),
        (r#"percentil("5m") > 1"#, "there is no function percentil() (did you mean \"percentile\"?)"),
        (r#"avg("5m")"#, "this is a number where true or false is needed"),
        (r#"avg("5m") > "high""#, "a number and a text cannot be compared"),
        ("changed() > 3", "true or false and a number cannot be compared"),
        ("status", "this is a text where"),
    ] {
        let error = RuleExpression::compile(text).expect_err(text);
        assert!(error.message.starts_with(message), "{text}: {error}");
    }
    let many = vec![r#"avg("5m") > 1"#; 17].join(" && ");
    assert!(RuleExpression::compile(&many).is_err());
    assert!(HostExpression::compile(r#"avg("5m") > 1"#).unwrap_err().message.contains("no function avg()"));
}

/// Predictions have one answer each; nothing is known of other metrics.
struct Oracle;

impl History for Oracle {
    fn number(&self, call: &Call) -> Option<f64> {
        let Function::Prediction(prediction) = &call.function else { return None };
        match prediction {
            Prediction::Anomaly { metric } if metric.is_empty() => Some(0.93),
            Prediction::Forecast { edge: Edge::Expected, .. } => Some(96.0),
            Prediction::Forecast { edge: Edge::Low, .. } => Some(90.0),
            Prediction::TimeTo { limit: Limit::Above(_), .. } => Some(f64::INFINITY),
            Prediction::TimeTo { .. } => Some(5.0),
            Prediction::Outlier { .. } => Some(0.7),
            Prediction::Anomaly { .. } | Prediction::Forecast { .. } => None,
        }
    }

    fn absent(&self, _: std::time::Duration) -> bool {
        false
    }

    fn changed(&self) -> bool {
        false
    }
}

#[test]
fn predictions_are_asked_of_the_history() {
    let world = World::new();
    for (text, expected) in [
        ("anomaly() > 0.9", Some(true)),
        ("anomaly(\"/var\") > 0.9", None),
        ("anomaly(\"/var\") > 0.9 || value > 90", Some(true)),
        ("forecast(\"4h\") > 95 && forecast_low(\"4h\") < 95", Some(true)),
        ("forecast_high(\"4h\") > 95", None),
        // Not within the horizon is farther than every number.
        ("time_to(\"> 95\") < 1000000", Some(false)),
        ("time_to(\"> 95\") > 24", Some(true)),
        ("time_to(\"< 5\", \"free\") < 24", Some(true)),
        ("outlier(\"web\") > 0.5", Some(true)),
    ] {
        assert_eq!(world.judge(text, &Oracle), Ok(expected), "{text}");
        // Without predictions nothing holds.
        if !text.contains("value") {
            assert_eq!(world.judge(text, &NoHistory), Ok(None), "{text}");
        }
        let expression = RuleExpression::compile(text).unwrap();
        for call in expression.windows() {
            let Function::Prediction(prediction) = &call.function else { panic!("{call:?}") };
            assert!(text.contains(&prediction.to_string()), "{prediction} in {text}");
        }
    }
}
