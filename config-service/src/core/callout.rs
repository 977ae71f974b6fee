//! The broker's question who signs in, and the answer: JWTs signed with NKeys (auth callout, nats-server 2.11 and newer).

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use protocol::{AgentId, subject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
const AUDIENCE: &str = "nats-authorization-request";
/// The account that agents and services share: the one that a server without accounts has.
const ACCOUNT: &str = "$G";
const DAY_S: u64 = 86_400;
/// Longest question, in bytes.
const LONGEST: usize = 64 * 1024;

/// Why a question is not answered, or a sign-in not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Distrust {
    #[error("it is no signed question of a broker: {0}")]
    NoQuestion(String),
    #[error("its signature is not that of the broker")]
    BrokerSignature,
}

/// Who signs in where, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    server: String,
    /// Key of this one connection, which the answer is about.
    connection: String,
    /// Address of the client.
    pub(crate) from: String,
    pub(crate) agent: Option<String>,
    pub(crate) token: Option<String>,
    nkey: Option<String>,
    signature: Option<String>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    nats: Asked,
}

#[derive(Deserialize)]
struct Asked {
    server_id: ServerId,
    user_nkey: String,
    client_info: ClientInfo,
    connect_opts: ConnectOptions,
}

#[derive(Deserialize)]
struct ServerId {
    id: String,
}

#[derive(Deserialize)]
struct ClientInfo {
    #[serde(default)]
    host: String,
    nonce: Option<String>,
}

#[derive(Deserialize)]
struct ConnectOptions {
    user: Option<String>,
    pass: Option<String>,
    nkey: Option<String>,
    sig: Option<String>,
}

/// Read a question and check that the server that it names signed it.
///
/// Its times are not looked at: clocks differ, and a connection's key is used once.
pub(crate) fn read(body: &[u8]) -> Result<Question, Distrust> {
    let no = |reason: &str| Distrust::NoQuestion(reason.to_owned());
    if body.len() > LONGEST {
        return Err(no("it is too long"));
    }
    let text = std::str::from_utf8(body).map_err(|_| no("not UTF-8"))?;
    let (signed, signature) = text.rsplit_once('.').ok_or_else(|| no("no JWT"))?;
    let (_, claims) = signed.split_once('.').ok_or_else(|| no("no JWT"))?;
    let claims: Claims = part(claims)?;
    if claims.aud != AUDIENCE || claims.iss != claims.nats.server_id.id || !claims.iss.starts_with('N') {
        return Err(no("it is of another kind"));
    }
    if !verified(&claims.iss, signed.as_bytes(), signature) {
        return Err(Distrust::BrokerSignature);
    }
    let Asked { server_id, user_nkey, client_info, connect_opts } = claims.nats;
    Ok(Question {
        server: server_id.id,
        connection: user_nkey,
        from: client_info.host,
        agent: connect_opts.user,
        token: connect_opts.pass,
        nkey: connect_opts.nkey,
        signature: connect_opts.sig,
        nonce: client_info.nonce,
    })
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, Distrust> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| Distrust::NoQuestion(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Distrust::NoQuestion(error.to_string()))
}

fn verified(key: &str, signed: &[u8], signature: &str) -> bool {
    // Clients write it in either alphabet.
    let signature = URL_SAFE_NO_PAD.decode(signature).or_else(|_| STANDARD.decode(signature));
    let (Ok(signature), Ok(key)) = (signature, KeyPair::from_public_key(key)) else { return false };
    key.verify(signed, &signature).is_ok()
}

impl Question {
    /// The NKey of the client, if it signed the broker's nonce with it.
    pub(crate) fn nkey(&self) -> Option<&str> {
        let (nkey, signature) = (self.nkey.as_deref()?, self.signature.as_deref()?);
        let nonce = self.nonce.as_deref().filter(|nonce| !nonce.is_empty())?;
        (nkey.starts_with('U') && verified(nkey, nonce.as_bytes(), signature)).then_some(nkey)
    }

    /// The answer: this connection is `agent`, or it is refused, with the reason for the broker's log.
    ///
    /// # Errors
    /// When `issuer` has no seed to sign with.
    pub(crate) fn answer(
        &self,
        issuer: &KeyPair,
        who: Result<&AgentId, &str>,
        now_ms: u64,
    ) -> Result<String, nkeys::error::Error> {
        let (now, issued_by) = (now_ms / 1_000, issuer.public_key());
        let outcome = match who {
            Ok(agent) => {
                // Whoever is revoked while nobody can cut the connection is out within a day. Spread by the
                // connection's key, so that agents that came together do not all come back together.
                let spread: u64 = self.connection.bytes().map(u64::from).sum::<u64>().wrapping_mul(7_919);
                let user = json!({
                    "jti": self.connection, "iat": now, "iss": issued_by, "sub": self.connection, "aud": ACCOUNT,
                    "name": agent, "exp": now + DAY_S / 2 + spread % (DAY_S / 2), "nats": permissions(agent),
                });
                json!({"type": "authorization_response", "version": 2, "jwt": signed(issuer, &user)?})
            }
            Err(reason) => json!({"type": "authorization_response", "version": 2, "error": reason}),
        };
        let answer = json!({
            "jti": self.connection, "iat": now, "iss": issued_by, "sub": self.connection, "aud": self.server,
            "nats": outcome,
        });
        signed(issuer, &answer)
    }
}

#[derive(Serialize)]
struct Allowed {
    allow: Vec<String>,
}

/// An agent's own subjects and nothing else (G4).
fn permissions(agent: &AgentId) -> serde_json::Value {
    let (most, expires) = subject::AGENT_RESPONSES;
    json!({
        "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
        "pub": Allowed { allow: subject::agent_publishes(agent) },
        "sub": Allowed { allow: subject::agent_subscribes(agent) },
        "resp": {"max": most, "ttl": u64::try_from(expires.as_nanos()).unwrap_or(u64::MAX)},
    })
}

fn signed(issuer: &KeyPair, claims: &serde_json::Value) -> Result<String, nkeys::error::Error> {
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    let text = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(HEADER));
    let signature = issuer.sign(text.as_bytes())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(server: &KeyPair, client: &KeyPair, nonce: &str, changed: &str) -> String {
        let signature = STANDARD.encode(client.sign(nonce.as_bytes()).unwrap());
        let claims = json!({
            "aud": AUDIENCE, "iss": server.public_key(), "sub": "A",
            "nats": {
                "server_id": {"id": server.public_key()}, "user_nkey": "UCONNECTION",
                "client_info": {"host": "192.0.2.1", "nonce": format!("{nonce}{changed}")},
                "connect_opts": {"user": "web-01", "pass": "t", "nkey": client.public_key(), "sig": signature},
            },
        });
        signed(server, &claims).unwrap()
    }

    #[test]
    fn an_nkey_counts_only_with_its_signature_of_the_nonce() {
        let (server, client) = (KeyPair::new_server(), KeyPair::new_user());
        let question = read(asked(&server, &client, "n1", "").as_bytes()).unwrap();
        assert_eq!(question.nkey(), Some(client.public_key().as_str()));
        assert_eq!((question.from.as_str(), question.agent.as_deref()), ("192.0.2.1", Some("web-01")));
        let other = read(asked(&server, &client, "n1", "x").as_bytes()).unwrap();
        assert_eq!(other.nkey(), None);
    }

    #[test]
    fn what_no_broker_signed_is_not_answered() {
        let (server, client) = (KeyPair::new_server(), KeyPair::new_user());
        let good = asked(&server, &client, "n", "");
        let (body, _) = good.rsplit_once('.').unwrap();
        let forged = format!("{body}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
        assert_eq!(read(forged.as_bytes()).unwrap_err(), Distrust::BrokerSignature);
        for junk in ["", "a.b.c", "..", "{}", &"x".repeat(LONGEST + 1)] {
            assert!(matches!(read(junk.as_bytes()), Err(Distrust::NoQuestion(_))));
        }
        // An operator's or account's key is no server's.
        assert!(read(asked(&KeyPair::new_account(), &client, "n", "").as_bytes()).is_err());
    }

    #[test]
    fn g4_the_answer_gives_an_agent_its_own_subjects_for_a_day_at_most() {
        let (server, client, issuer) = (KeyPair::new_server(), KeyPair::new_user(), KeyPair::new_account());
        let question = read(asked(&server, &client, "n", "").as_bytes()).unwrap();
        let agent = AgentId::new("web-01").unwrap();
        let answer = question.answer(&issuer, Ok(&agent), 1_000_000).unwrap();
        let claims = |jwt: &str| part::<serde_json::Value>(jwt.split('.').nth(1).unwrap()).unwrap();
        let outer = claims(&answer);
        assert_eq!((&outer["sub"], &outer["aud"]), (&json!("UCONNECTION"), &json!(server.public_key())));
        let user = claims(outer["nats"]["jwt"].as_str().unwrap());
        assert_eq!(user["nats"]["pub"]["allow"], json!(subject::agent_publishes(&agent)));
        assert_eq!(user["nats"]["sub"]["allow"], json!(subject::agent_subscribes(&agent)));
        let life = user["exp"].as_u64().unwrap() - 1_000;
        assert!((DAY_S / 2..DAY_S).contains(&life), "{life}");
        let refusal = claims(&question.answer(&issuer, Err("no"), 0).unwrap());
        assert_eq!((&refusal["nats"]["error"], refusal["nats"].get("jwt")), (&json!("no"), None));
    }
}
