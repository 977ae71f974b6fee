//! Signatures of Standard Webhooks: <https://www.standardwebhooks.com>.

use base64::{
    Engine as _, alphabet,
    engine::DecodePaddingMode,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
};
use ring::{hmac, signature::Ed25519KeyPair};

/// Secrets are written with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a key cannot sign. None of them says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it begins with whsec_ (HMAC) or whsk_ (ed25519), and base64 follows")]
    Form,
    #[error("behind whsec_ stand 24 to 64 bytes as base64")]
    Length,
    #[error("behind whsk_ stands an ed25519 key as base64: the seed, or seed and public half")]
    Ed25519,
}

/// The header `webhook-signature`: one signature by each key, with a space between.
///
/// # Errors
/// [`KeyError`].
pub fn signatures(keys: &[&str], id: &str, timestamp: &str, body: &str) -> Result<String, KeyError> {
    let signed = format!("{id}.{timestamp}.{body}");
    let all = keys.iter().map(|key| signature(key, signed.as_bytes()));
    Ok(all.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn signature(key: &str, signed: &[u8]) -> Result<String, KeyError> {
    // The request is only shown.
    if key == super::secrets::STARS {
        return Ok(key.to_owned());
    }
    if let Some(text) = key.strip_prefix("whsec_") {
        let key = LENIENT.decode(text).map_err(|_| KeyError::Form)?;
        if !(24..=64).contains(&key.len()) {
            return Err(KeyError::Length);
        }
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed);
        return Ok(format!("v1,{}", STANDARD.encode(tag)));
    }
    let text = key.strip_prefix("whsk_").ok_or(KeyError::Form)?;
    let key = LENIENT.decode(text).map_err(|_| KeyError::Form)?;
    let pair = match key.split_at_checked(32) {
        Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
        Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        None => return Err(KeyError::Ed25519),
    };
    let pair = pair.map_err(|_| KeyError::Ed25519)?;
    Ok(format!("v1a,{}", STANDARD.encode(pair.sign(signed))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

    /// The example of the specification's own libraries.
    #[test]
    fn the_known_example_comes_out() {
        let signature = signatures(
            &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "{\"test\": 2432232314}",
        );
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_ed25519_signature_holds_and_two_keys_sign_one_after_the_other() {
        let seed = [7_u8; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let whole = [&seed[..], pair.public_key().as_ref()].concat();
        let hmac = format!("whsec_{}", STANDARD.encode([1_u8; 32]));
        for key in [&seed[..], &whole] {
            let key = format!("whsk_{}", STANDARD.encode(key));
            let header = signatures(&[&key, &hmac], "id", "1", "{}").unwrap();
            let (first, second) = header.split_once(' ').unwrap();
            assert!(second.starts_with("v1,"), "{second}");
            let signature = STANDARD.decode(first.strip_prefix("v1a,").unwrap()).unwrap();
            let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
            public.verify(b"id.1.{}", &signature).unwrap();
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([1_u8; 8]));
        let mixed = format!("whsk_{}", STANDARD.encode([1_u8; 64]));
        for (key, expected) in [
            ("", KeyError::Form),
            ("s3cret", KeyError::Form),
            ("whsec_s3cret!", KeyError::Form),
            (short.as_str(), KeyError::Length),
            ("whsk_AAAA", KeyError::Ed25519),
            (mixed.as_str(), KeyError::Ed25519),
        ] {
            let error = signatures(&[key], "id", "1", "").unwrap_err();
            assert_eq!(error, expected, "{key}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
