//! The marks of what was accepted, and the lines that name keys. What they do to a host is shown in `tests/it/trust.rs`.

use nkeys::KeyPair;
use proptest::prelude::*;
use protocol::signed::SigningKey;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_seed(&KeyPair::new_operator().seed().unwrap()).unwrap()
}

/// A signature of which only the numbers matter here.
fn signature(revision: u64, fallback: Option<u64>) -> Signature {
    Signature { key: key().public(), revision, fallback, signature: String::new() }
}

fn admit(accepted: &mut Accepted, revision: u64, fallback: Option<u64>) -> bool {
    accepted.admit(("Check", "c"), &signature(revision, fallback)).is_ok()
}

#[test]
fn g3_only_the_signed_fallback_comes_back_and_not_below_what_was_in_force() {
    let run = |steps: &[(u64, Option<u64>, bool)]| {
        let mut accepted = Accepted::default();
        for (revision, fallback, expected) in steps {
            assert_eq!(admit(&mut accepted, *revision, *fallback), *expected, "{revision} in {steps:?}");
        }
    };
    // An older one is refused, the same again is not.
    run(&[(5, None, true), (5, None, true), (3, None, false), (6, None, true), (5, None, false)]);
    // A rollout that goes back, on again, and back.
    run(&[(3, None, true), (5, Some(3), true), (3, None, true), (5, Some(3), true), (3, None, true)]);
    // After it went back, the next one may fall back to the same.
    run(&[
        (3, None, true),
        (5, Some(3), true),
        (3, None, true),
        (7, Some(3), true),
        (3, None, true),
        (5, Some(3), false),
    ]);
    // A fallback that somebody talked the operator into: the host had more than that.
    run(&[(3, None, true), (5, Some(3), true), (7, Some(3), true), (3, None, false), (5, None, false)]);
    // A host that missed a version.
    run(&[(3, None, true), (7, Some(5), true), (5, None, true), (3, None, false)]);
    let mut accepted = Accepted::default();
    assert!(admit(&mut accepted, 9, None));
    assert!(accepted.admit(("Check", "other"), &signature(1, None)).is_ok());
    assert!(accepted.admit(("Variables", "c"), &signature(1, None)).is_ok());
}

proptest! {
    /// Whatever order a service sends signed versions in: what is in force is never older than what was in force before
    /// the newest one.
    #[test]
    fn g3_no_order_of_signed_versions_undoes_more_than_the_last(
        order in proptest::collection::vec((1_u64..12, proptest::option::of(0_u64..12)), 0..60),
    ) {
        let mut accepted = Accepted::default();
        let (mut newest, mut before_newest, mut current) = (0, 0, 0);
        for (revision, fallback) in order {
            if admit(&mut accepted, revision, fallback) {
                if revision > newest {
                    (newest, before_newest) = (revision, current);
                }
                current = revision;
            }
            prop_assert!(current >= before_newest && current <= newest);
        }
        let kept: Accepted = serde_json::from_slice(&serde_json::to_vec(&accepted).unwrap()).unwrap();
        prop_assert_eq!(kept, accepted);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _read = text.parse::<TrustedKey>();
        let _read = Trust::new(&[], &text, None);
    }
}

#[test]
fn keys_are_named_line_by_line_and_a_revoked_one_stays_so() {
    let (a, b) = (key().public(), key().public());
    let file = format!("# operators\n{a}   # anna\n\n{b} until 2027-01-31T00:00:00Z\r\n");
    let trust = Trust::new(&[], &file, None).unwrap();
    assert!(trust.is_on() && trust.required);
    let until = 1_801_353_600_000;
    assert!(trust.may_sign(&a, u64::MAX).is_ok() && trust.may_sign(&b, until - 1).is_ok());
    assert!(trust.may_sign(&b, until).unwrap_err().contains(&format!("the time of key {} is over", b.id())));
    let other = key().public();
    assert!(trust.may_sign(&other, 0).unwrap_err().contains(&format!("key {} is none of those", other.id())));
    // In whatever order, and wherever.
    for (flags, file) in
        [(vec![format!("revoked {a}")], a.to_string()), (vec![a.to_string()], format!("revoked {a}"))]
    {
        let flags: Vec<TrustedKey> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
        let trust = Trust::new(&flags, &file, None).unwrap();
        assert!(trust.may_sign(&a, 0).unwrap_err().contains("is revoked"));
        assert!(trust.is_on(), "a host whose keys are all revoked runs nothing");
    }
    assert!(!Trust::new(&[], "", None).unwrap().is_on());
    assert!(Trust::new(&[], "", Some(true)).unwrap().is_on(), "then nothing runs");
    for (line, expected) in [
        ("junk", "line 1: \"junk\": this is no public signing key"),
        (&format!("{a} until soon")[..], "\"soon\" is no time"),
        (&format!("{a} {b}")[..], "write KEY, KEY until TIME, or revoked KEY"),
    ] {
        let error = Trust::new(&[], line, None).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
