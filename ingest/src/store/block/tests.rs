use proptest::{collection::vec, option, prelude::*};
use protocol::{Metric, Origin, Scalar, Status, result::Usage};

use super::*;

fn names() -> (AgentId, CheckName) {
    (AgentId::new("web-01").unwrap(), CheckName::new("disk").unwrap())
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("JSON has no other", |value| value.is_finite()),
        (-5000i32..5000).prop_map(|n| f64::from(n) / 10.0),
        Just(-0.0),
        Just(1e308),
        Just(5e-324),
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        "[a-z]{0,9}".prop_map(Scalar::Text),
        any::<u64>().prop_map(|n| Scalar::Number(n.into())),
        any::<i64>().prop_map(|n| Scalar::Number(n.into())),
        (0u64..100).prop_map(|n| Scalar::Number(n.into())),
        ((1u64 << 53) - 2..(1 << 53) + 2).prop_map(|n| Scalar::Number(n.into())),
        finite().prop_map(|n| Scalar::Number(serde_json::Number::from_f64(n).unwrap())),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    let word = || option::of("[a-z%:0-9]{0,4}");
    ("[abc]", finite(), word(), word(), word(), option::of(finite()), option::of(finite())).prop_map(
        |(name, value, unit, warn, crit, min, max)| Metric { name, value, unit, warn, crit, min, max },
    )
}

fn result() -> impl Strategy<Value = CheckResult> {
    let status =
        prop_oneof![Just(Status::Ok), Just(Status::Unknown), Just(Status::Warning), Just(Status::Critical)];
    let origin = prop_oneof![Just(Origin::Agent), Just(Origin::Http), Just(Origin::Other)];
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let usage = option::of((any::<u64>(), any::<u64>()));
    let codes = (option::of(any::<i32>()), option::of(any::<i32>()), usage);
    let texts = (option::of("[a-z%]{0,3}"), "\\PC{0,20}", option::of("[a-z]{1,5}"));
    (numbers, codes, texts, status, origin, option::of(scalar()), vec(metric(), 0..4), any::<bool>())
        .prop_map(|(numbers, codes, (unit, output, id), status, origin, value, metrics, replayed)| {
            let (agent, check) = names();
            let (epoch, seq, at_ms, duration_ms, skipped, revision) = numbers;
            let (exit_code, signal, usage) = codes;
            let usage = usage.map(|(cpu_us, memory_bytes)| Usage { cpu_us, memory_bytes });
            CheckResult {
                v: 1,
                agent,
                check,
                epoch,
                seq,
                at_ms,
                status,
                value,
                unit,
                metrics,
                output,
                exit_code,
                signal,
                usage,
                duration_ms,
                skipped,
                revision,
                origin,
                replayed,
                id,
            }
        })
}

/// Equal to the bit: -0.0 is not 0.
fn text(results: &[CheckResult]) -> String {
    format!("{results:?}")
}

proptest! {
    #[test]
    fn everything_of_a_result_is_read_back(results in vec(result(), 0..60)) {
        let bytes = encode(&results).unwrap();
        let (agent, check) = names();
        let block = Block::open(&bytes).unwrap();
        let read = block.results(&agent, &check, |_| true).unwrap();
        prop_assert_eq!(text(&read), text(&results));
        let some = block.results(&agent, &check, |at_ms| at_ms % 3 == 0).unwrap();
        let expected: Vec<CheckResult> = results.iter().filter(|r| r.at_ms % 3 == 0).cloned().collect();
        prop_assert_eq!(text(&some), text(&expected));
    }

    #[test]
    fn samples_are_what_the_results_say(results in vec(result(), 0..60), from in any::<u64>(), until in any::<u64>()) {
        let bytes = encode(&results).unwrap();
        let block = Block::open(&bytes).unwrap();
        let inside = results.iter().filter(|r| (from..=until).contains(&r.at_ms));
        let bits = |samples: &[Sample]| -> Vec<_> {
            samples.iter().map(|s| (s.at_ms, s.value.to_bits(), s.status)).collect()
        };
        let mut own = Vec::new();
        block.samples(None, (from, until), &mut own).unwrap();
        let expected: Vec<Sample> = inside.clone().map(|r| Sample {
            at_ms: r.at_ms, value: r.value.as_ref().and_then(Scalar::as_f64).unwrap_or(f64::NAN), status: r.status,
        }).collect();
        prop_assert_eq!(bits(&own), bits(&expected));
        for name in ["a", "b", "c", "d"] {
            let mut of_metric = Vec::new();
            block.samples(Some(name), (from, until), &mut of_metric).unwrap();
            let expected: Vec<Sample> = inside.clone().flat_map(|r| {
                let own = r.metrics.iter().filter(|metric| metric.name == name);
                own.map(|metric| Sample { at_ms: r.at_ms, value: metric.value, status: r.status })
            }).collect();
            prop_assert_eq!(bits(&of_metric), bits(&expected));
        }
    }

    #[test]
    fn damage_is_found_and_no_bytes_panic(
        results in vec(result(), 1..20), at in any::<prop::sample::Index>(), bytes in vec(any::<u8>(), 0..300),
    ) {
        let mut bad = encode(&results).unwrap();
        let at = at.index(bad.len());
        bad[at] ^= 1;
        prop_assert_eq!(Block::open(&bad).err(), Some(BlockError::Checksum));
        prop_assert!(Block::open(&bad[..at]).is_err());
        // With a valid frame, so that the inside is reached.
        let mut framed = crc32fast::hash(&bytes).to_le_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        if let Ok(block) = Block::open(&framed) {
            let (agent, check) = names();
            let _results = block.results(&agent, &check, |_| true);
            let _samples = block.samples(None, (0, u64::MAX), &mut Vec::new());
        }
        let _points = rollup::decode(&framed, rollup::Parts::All, |_| true);
    }
}
