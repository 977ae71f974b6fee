//! Documents that an operator signed, so that an agent needs to believe nobody else (G3).
//!
//! What is signed is a statement: the document, the revision that it gets, and the revision of the version that it
//! replaces. Its bytes are JSON in a canonical form (keys in the order of their bytes, no spaces), made anew by whoever
//! checks it. So a document travels once, as it is, and may be stored and sent by programs that write their fields in
//! another order. Keys are NKeys of the type operator: ed25519, with a checksum that finds a mistyped one.

use std::{fmt, str::FromStr};

use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::document::{Document, Kind};

/// Says what the bytes are, so that no signature of one thing is taken for that of another.
const PURPOSE: &str = "dogwatch.document.v1";

/// An operator's signature of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub key: PublicKey,
    /// Revision that the document was signed for.
    pub revision: u64,
    /// Revision of the version that it replaced: the one older version that may come back without being signed anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<u64>,
    /// 64 bytes in hex.
    pub signature: String,
}

/// A document as it is stored and sent, with what proves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignedDocument {
    /// As JSON, since a reader may be older than the document: what it does not know is signed all the same.
    pub document: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// The public half of a signing key: `O` and 55 further letters and digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(String);

/// The private half. It never shows itself.
pub struct SigningKey(KeyPair);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("this is no public signing key: it has 56 letters and digits and begins with O")]
    NotAPublicKey,
    #[error("this is no signing key: a file of `dogwatch keygen` begins with SO")]
    NotASigningKey,
    #[error("the signature by key {key} does not fit the document: one of them was changed")]
    Wrong { key: String },
    #[error("the document cannot be signed")]
    Unsignable,
}

/// Whether documents of this kind execute something, or steer what runs where.
#[must_use]
pub fn is_signed(kind: Kind) -> bool {
    !matches!(kind, Kind::Rule | Kind::Receiver | Kind::Silence)
}

impl Signature {
    /// Whether it is this document's. Whose key it is, and whether that is to be believed, is another question.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`].
    pub fn verify(&self, document: &Value) -> Result<(), SignatureError> {
        let wrong = || SignatureError::Wrong { key: self.key.id().to_owned() };
        let key = KeyPair::from_public_key(self.key.as_str()).map_err(|_| wrong())?;
        let signature = crate::codec::unhex(&self.signature).ok_or_else(wrong)?;
        key.verify(&statement(document, self.revision, self.fallback), &signature).map_err(|_| wrong())
    }
}

impl SigningKey {
    /// # Errors
    /// [`SignatureError::NotASigningKey`].
    pub fn from_seed(seed: &str) -> Result<Self, SignatureError> {
        let pair = KeyPair::from_seed(seed.trim()).map_err(|_| SignatureError::NotASigningKey)?;
        if pair.key_pair_type() != KeyPairType::Operator {
            return Err(SignatureError::NotASigningKey);
        }
        Ok(Self(pair))
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key())
    }

    /// # Errors
    /// [`SignatureError::Unsignable`], which no document of this crate is.
    pub fn sign(
        &self,
        document: &Value,
        revision: u64,
        fallback: Option<u64>,
    ) -> Result<Signature, SignatureError> {
        let bytes = statement(document, revision, fallback);
        let signature = self.0.sign(&bytes).map_err(|_| SignatureError::Unsignable)?;
        Ok(Signature { key: self.public(), revision, fallback, signature: crate::hex(&signature) })
    }
}

/// A document as the JSON that is signed.
///
/// # Errors
/// [`SignatureError::Unsignable`], which no document of this crate is.
pub fn json(document: &Document) -> Result<Value, SignatureError> {
    serde_json::to_value(document).map_err(|_| SignatureError::Unsignable)
}

/// The bytes that are signed.
fn statement(document: &Value, revision: u64, fallback: Option<u64>) -> Vec<u8> {
    let mut bytes = b"{\"document\":".to_vec();
    canonical(document, &mut bytes);
    let fallback = fallback.map_or("null".to_owned(), |revision| revision.to_string());
    bytes.extend_from_slice(
        format!(",\"fallback\":{fallback},\"purpose\":\"{PURPOSE}\",\"revision\":{revision}}}").as_bytes(),
    );
    bytes
}

fn canonical(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            into.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    into.push(b',');
                }
                canonical(item, into);
            }
            into.push(b']');
        }
        Value::Object(fields) => {
            // The map has an order of its own in some builds.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            into.push(b'{');
            for (index, (name, item)) in fields.into_iter().enumerate() {
                if index > 0 {
                    into.push(b',');
                }
                into.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
                into.push(b':');
                canonical(item, into);
            }
            into.push(b'}');
        }
        scalar => into.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

impl PublicKey {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough of it to tell keys apart in a message.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl FromStr for PublicKey {
    type Err = SignatureError;
    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let pair = KeyPair::from_public_key(text).map_err(|_| SignatureError::NotAPublicKey)?;
        if pair.key_pair_type() == KeyPairType::Operator && pair.public_key() == text {
            Ok(Self(text.to_owned()))
        } else {
            Err(SignatureError::NotAPublicKey)
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey(KeyPair::new_from_raw(KeyPairType::Operator, [byte; 32]).unwrap())
    }

    #[test]
    fn g3_a_signature_holds_for_one_document_one_revision_and_one_fallback() {
        let document =
            json!({"kind": "Check", "name": "disk", "command": "df", "with": {"b": 0.1, "a": [1, null]}});
        let signature = key(1).sign(&document, 7, Some(3)).unwrap();
        assert_eq!(signature.verify(&document), Ok(()));
        let changed = |field: &str, value: Value| {
            let mut other = document.clone();
            other[field] = value;
            signature.verify(&other)
        };
        assert!(changed("command", "rm".into()).is_err());
        assert!(changed("name", "disk2".into()).is_err());
        assert!(changed("hosts", "true".into()).is_err());
        for other in [
            Signature { revision: 8, ..signature.clone() },
            Signature { fallback: Some(2), ..signature.clone() },
            Signature { fallback: None, ..signature.clone() },
            Signature { key: key(2).public(), ..signature.clone() },
            Signature { signature: signature.signature.replace(['0', '1'], "2"), ..signature.clone() },
            Signature { signature: "00".repeat(64), ..signature.clone() },
            Signature { signature: "zz".to_owned(), ..signature.clone() },
            Signature { signature: "ä".repeat(64), ..signature.clone() },
            Signature { signature: String::new(), ..signature.clone() },
        ] {
            let error = other.verify(&document).unwrap_err().to_string();
            assert!(error.starts_with("the signature by key O") && error.len() < 100, "{error}");
        }
    }

    #[test]
    fn keys_are_read_and_never_shown() {
        let key = key(1);
        let seed = key.0.seed().unwrap();
        assert_eq!(SigningKey::from_seed(&format!("{seed}\n")).unwrap().public(), key.public());
        assert!(!format!("{key:?}").contains(&seed));
        let user = KeyPair::new_from_raw(KeyPairType::User, [1; 32]).unwrap();
        for bad in ["", "SO", &user.seed().unwrap(), key.public().as_str()] {
            assert_eq!(SigningKey::from_seed(bad).err(), Some(SignatureError::NotASigningKey));
        }
        let public = key.public().to_string();
        assert_eq!(public.parse::<PublicKey>().unwrap().id(), &public[..12]);
        let mistyped = public.replacen(&public[20..21], if &public[20..21] == "A" { "B" } else { "A" }, 1);
        for bad in ["", "O", &seed, &user.public_key(), &mistyped, &public.to_lowercase(), "Oäöü"] {
            assert_eq!(bad.parse::<PublicKey>(), Err(SignatureError::NotAPublicKey), "{bad}");
        }
    }

    #[test]
    fn the_canonical_form_is_fixed() {
        let document = json!({"b": [1, -2.5, true, null, "ä\"\n"], "a": {"z": {}, "Z": []}});
        assert_eq!(
            String::from_utf8(statement(&document, 5, None)).unwrap(),
            "{\"document\":{\"a\":{\"Z\":[],\"z\":{}},\"b\":[1,-2.5,true,null,\"ä\\\"\\n\"]},\
             \"fallback\":null,\"purpose\":\"dogwatch.document.v1\",\"revision\":5}"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("\\PC*", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// However often a document is stored and sent on its way: numbers with fractions are the hard part.
        #[test]
        fn g3_a_signature_survives_writing_and_reading(document in values(), revision: u64, fallback: Option<u64>) {
            let signature = key(3).sign(&document, revision, fallback).unwrap();
            let sent = serde_json::to_string(&SignedDocument { document, signature: Some(signature) }).unwrap();
            let once: SignedDocument = serde_json::from_str(&sent).unwrap();
            let twice: SignedDocument = serde_json::from_str(&serde_json::to_string(&once).unwrap()).unwrap();
            prop_assert_eq!(twice.signature.unwrap().verify(&twice.document), Ok(()));
        }
    }
}
