//! No text and no time makes it panic.

use promql::{Query, Semantics, evaluate, json, parse};
use proptest::prelude::*;

use crate::data::{Memory, meter, series};

const WORDS: &[&str] = &[
    "a",
    "b",
    "sum",
    "topk",
    "rate",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "offset",
    "@",
    "and",
    "or",
    "unless",
    "(",
    ")",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "[5m]",
    "[5m:1m]",
    "1",
    "-1",
    "1e300",
    "NaN",
    "Inf",
    "0x",
    "5m",
    "100y",
    "1ms",
    "=",
    "==",
    "=~",
    "!~",
    "!=",
    ">",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "atan2",
    ",",
    ",",
    "\"x\"",
    "\"(\"",
    "\"(.*)\"",
    "'",
    "`",
    "#",
    ":",
    "label_replace",
    "quantile_over_time",
    "predict_linear",
    "clamp",
    "count_values",
    "start()",
    "end()",
    "time()",
    "vector(1)",
    "absent",
    "scalar",
    "é",
    "\u{0}",
    ".",
    "deriv(a[1h])",
];

fn source() -> Memory {
    let values =
        [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e308, -1e308, promql::STALE, 1e-320];
    let samples =
        |shift: usize| (0..50).map(move |n| (n as i64 * 30_000, values[(n + shift) % values.len()]));
    Memory(vec![
        series("a", &[("x", "1")], samples(0)),
        series("a", &[("x", "2")], samples(3)),
        series("b", &[("x", "1")], samples(5)),
    ])
}

fn ask(text: &str, query: &Query) {
    if let Ok(expression) = parse(text)
        && let Ok(answer) = evaluate(&expression, query, &source(), &meter())
    {
        let body = json::answer(&answer, &[]);
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{text}: {body}");
    }
}

fn query() -> impl Strategy<Value = Query> {
    let edge =
        prop_oneof![Just(0i64), Just(900_000), Just(i64::MAX), Just(i64::MIN), -10_000_000..10_000_000i64];
    let step = prop_oneof![Just(None), Just(Some(60_000)), any::<i64>().prop_map(Some)];
    let semantics = prop_oneof![Just(Semantics::Prometheus2), Just(Semantics::Prometheus3)];
    (edge.clone(), edge, step, semantics).prop_map(|(start_ms, end_ms, step_ms, semantics)| Query {
        start_ms,
        end_ms,
        step_ms,
        lookback_ms: 300_000,
        semantics,
    })
}

/// Expressions that are understood, built from parts.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("{x=~\".+\"}".to_owned()),
        Just("vector(1)".to_owned()),
        Just("a offset 100y".to_owned()),
        Just("a @ 0".to_owned()),
        Just("a @ -1e15".to_owned()),
        Just("a offset -5m @ end()".to_owned()),
    ];
    let function = prop::sample::select(vec![
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "deriv",
        "changes",
        "resets",
        "avg_over_time",
        "stddev_over_time",
        "sum_over_time",
        "min_over_time",
        "mad_over_time",
        "last_over_time",
        "absent_over_time",
        "present_over_time",
    ]);
    let one = prop::sample::select(vec![
        "abs",
        "ln",
        "sgn",
        "timestamp",
        "hour",
        "year",
        "sort",
        "absent",
        "-",
        "round",
    ]);
    let fold = prop::sample::select(vec![
        "sum",
        "avg",
        "stddev",
        "count",
        "topk(2,",
        "quantile(0.5,",
        "count_values(\"v\",",
    ]);
    let operator = prop::sample::select(vec![
        "+",
        "%",
        "^",
        "> bool",
        "==",
        "and",
        "or",
        "unless",
        "/ on(x) group_left",
    ]);
    leaf.prop_recursive(4, 24, 2, move |inner| {
        prop_oneof![
            (function.clone(), inner.clone()).prop_map(|(name, inner)| format!("{name}(({inner})[10m:45s])")),
            (one.clone(), inner.clone()).prop_map(|(name, inner)| format!("{name}({inner})")),
            (fold.clone(), inner.clone()).prop_map(|(name, inner)| match name.split_once('(') {
                Some((name, first)) => format!("{name} by (x) ({first} {inner})"),
                None => format!("{name} without (x) ({inner})"),
            }),
            (inner.clone(), operator.clone(), inner)
                .prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_words(words in prop::collection::vec(prop::sample::select(WORDS), 0..12), query in query()) {
        ask(&words.concat(), &query);
        ask(&words.join(" "), &query);
    }

    #[test]
    fn any_text(text in ".{0,60}", query in query()) {
        ask(&text, &query);
    }

    #[test]
    fn any_expression(text in expression(), query in query()) {
        prop_assume!(parse(&text).is_ok());
        ask(&text, &query);
    }
}
