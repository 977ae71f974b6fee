//! API keys: `dw_<id>_<secret>`, of which only the hash is kept.

use documents::HostExpression;
use protocol::{
    ErrorCode, ErrorReply,
    admin::{KeyCreate, KeyInfo, Role, key_hash},
    limits,
    log::KeyRecord,
};

use super::model::HOST_BYTES;

/// Shortest text that is accepted as a key made elsewhere: 128 random bits in hex.
const SHORTEST: usize = 32;

const SHORTEST_LIFE_MS: u64 = 60_000;

/// The part of a key that is not secret. A key that was made elsewhere gets one from its hash.
pub(super) fn id_of(key: &str) -> String {
    let id = key
        .strip_prefix("dw_")
        .or_else(|| key.strip_prefix("dwt_"))
        .and_then(|rest| rest.split_once('_'))
        .map(|(id, _)| id);
    match id {
        Some(id) if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => id.to_owned(),
        _ => key_hash(key).chars().take(16).collect(),
    }
}

/// The record of a new key.
///
/// # Errors
/// `invalid`, naming the field, when role and host do not go together or too much is given.
pub(crate) fn create(request: &KeyCreate, key: &str, now: u64) -> Result<KeyRecord, ErrorReply> {
    match (request.role, &request.agent) {
        (Role::Agent, None) => {
            return Err(ErrorReply::invalid("a key of role agent speaks for one host: say which").at("agent"));
        }
        (Role::Agent, Some(_)) => {}
        (role, Some(_)) => {
            return Err(ErrorReply::invalid(format!("a key of role {role} belongs to no host")).at("agent"));
        }
        (role, None) if !request.labels.is_empty() || !request.facts.is_empty() => {
            return Err(
                ErrorReply::invalid(format!("a key of role {role} has no labels or facts")).at("labels")
            );
        }
        (_, None) => {}
    }
    if let Some(hosts) = &request.hosts {
        if request.role != Role::Editor {
            let message =
                format!("a key of role {} is not limited to hosts: only an editor's is", request.role);
            return Err(ErrorReply::invalid(message).at("hosts"));
        }
        HostExpression::compile(hosts)
            .map_err(|error| ErrorReply::invalid(format!("hosts: {error}")).at("hosts"))?;
    }
    if request.expires_in_ms.is_some_and(|life| life < SHORTEST_LIFE_MS) {
        return Err(ErrorReply::invalid("a key is good for a minute at least").at("expires_in_ms"));
    }
    for (field, count) in [("labels", request.labels.len()), ("facts", request.facts.len())] {
        if count > limits::FACTS {
            let message = format!("{count} {field} are more than the {} allowed", limits::FACTS);
            return Err(ErrorReply::invalid(message).at(field));
        }
    }
    let size = protocol::encode(&(&request.facts, &request.labels)).map_or(usize::MAX, |json| json.len());
    if size > HOST_BYTES {
        let message = format!("facts and labels take {size} bytes, more than the {HOST_BYTES} allowed");
        return Err(ErrorReply::invalid(message).at("labels"));
    }
    Ok(KeyRecord {
        id: id_of(key),
        hash: key_hash(key),
        role: request.role,
        agent: request.agent.clone(),
        labels: request.labels.clone(),
        facts: request.facts.clone(),
        created_ms: now,
        revoked_ms: None,
        expires_ms: request.expires_in_ms.map(|life| now.saturating_add(life)),
        hosts: request.hosts.clone(),
    })
}

/// The record of an admin key that an operator brought along.
///
/// # Errors
/// `invalid` when it is too short to be secret.
pub(crate) fn bring(key: &str, now: u64) -> Result<KeyRecord, ErrorReply> {
    if key.len() < SHORTEST || key.contains(char::is_whitespace) {
        let message = format!(
            "it does not hold one key of at least {SHORTEST} characters; `openssl rand -hex 32` makes one"
        );
        return Err(ErrorReply::invalid(message));
    }
    let request = KeyCreate {
        role: Role::Admin,
        agent: None,
        labels: protocol::Labels::new(),
        facts: protocol::Facts::new(),
        expires_in_ms: None,
        hosts: None,
        actor: String::new(),
    };
    create(&request, key, now)
}

pub(crate) fn info(key: &KeyRecord, last_used_ms: u64) -> KeyInfo {
    KeyInfo {
        id: key.id.clone(),
        role: key.role,
        agent: key.agent.clone(),
        created_ms: key.created_ms,
        last_used_ms,
        revoked_ms: key.revoked_ms,
        expires_ms: key.expires_ms,
        hosts: key.hosts.clone(),
    }
}

/// Whether a key may be used now.
pub(crate) fn is_good(key: &KeyRecord, now: u64) -> bool {
    key.revoked_ms.is_none() && key.expires_ms.is_none_or(|end| now < end)
}

/// The key to revoke. The last admin key stays: without it nobody could make another.
///
/// # Errors
/// `not_found`, or `conflict` for the last admin key.
pub(crate) fn revocable<'a>(
    keys: impl Iterator<Item = &'a KeyRecord> + Clone,
    id: &str,
) -> Result<&'a KeyRecord, ErrorReply> {
    let key = keys.clone().find(|key| key.id == id).ok_or_else(|| {
        ErrorReply::new(ErrorCode::NotFound, "there is no key with this id: `dogwatch key list` shows all")
            .at("id")
    })?;
    // One that expires does not count: the day comes on which it is gone.
    let mut admins =
        keys.filter(|k| k.role == Role::Admin && k.revoked_ms.is_none() && k.expires_ms.is_none());
    if key.role == Role::Admin && key.revoked_ms.is_none() && admins.all(|admin| admin.id == id) {
        let message = "this is the last admin key: create another one first";
        return Err(ErrorReply::new(ErrorCode::Conflict, message).at("id"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use protocol::AgentId;

    use super::*;
    use crate::random::new_key;

    fn request(role: Role, agent: Option<&str>) -> KeyCreate {
        let agent = agent.map(|agent| AgentId::new(agent).unwrap());
        let (labels, facts) = (protocol::Labels::new(), protocol::Facts::new());
        let (expires_in_ms, hosts) = (None, None);
        KeyCreate { role, agent, labels, facts, expires_in_ms, hosts, actor: String::new() }
    }

    #[test]
    fn keys_are_random_and_only_their_hash_is_kept() {
        let (one, other) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 3 + 16 + 1 + 64);
        let record = create(&request(Role::Admin, None), &one, 5).unwrap();
        assert!(one.starts_with(&format!("dw_{}_", record.id)));
        let secret = one.rsplit('_').next().unwrap();
        assert!(!serde_json::to_string(&record).unwrap().contains(secret));
    }

    #[test]
    fn role_and_host_go_together() {
        assert!(create(&request(Role::Agent, Some("a")), "k", 0).is_ok());
        assert!(create(&request(Role::Viewer, None), "k", 0).is_ok());
        let field = |role, agent| create(&request(role, agent), "k", 0).unwrap_err().field;
        assert_eq!(field(Role::Agent, None).as_deref(), Some("agent"));
        assert_eq!(field(Role::Admin, Some("a")).as_deref(), Some("agent"));
    }

    #[test]
    fn a_key_gives_its_host_no_more_than_a_host_may_have() {
        let mut long = request(Role::Agent, Some("a"));
        long.labels.insert("role".to_owned(), "x".repeat(HOST_BYTES));
        let error = create(&long, "k", 0).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::Invalid, Some("labels")));
        long.labels.insert("role".to_owned(), "x".repeat(HOST_BYTES / 2));
        assert!(create(&long, "k", 0).is_ok());
    }

    #[test]
    fn a_key_ends_with_its_time_and_only_an_editor_is_limited_to_hosts() {
        let with = |role, expires_in_ms, hosts: Option<&str>| {
            let hosts = hosts.map(str::to_owned);
            create(&KeyCreate { expires_in_ms, hosts, ..request(role, None) }, "k", 1_000)
        };
        let key = with(Role::Admin, Some(60_000), None).unwrap();
        assert!(is_good(&key, 60_999) && !is_good(&key, 61_000));
        assert!(!is_good(&KeyRecord { revoked_ms: Some(1), ..key }, 2_000));
        assert!(is_good(&with(Role::Editor, None, Some("labels.team == 'db'")).unwrap(), u64::MAX));
        let field = |made: Result<KeyRecord, ErrorReply>| made.unwrap_err().field.unwrap();
        assert_eq!(field(with(Role::Admin, Some(59_999), None)), "expires_in_ms");
        assert_eq!(field(with(Role::Viewer, None, Some("true"))), "hosts");
        assert_eq!(field(with(Role::Editor, None, Some("labels.team ="))), "hosts");
    }

    #[test]
    fn the_last_admin_key_stays() {
        let mut one = create(&request(Role::Admin, None), &new_key().unwrap(), 0).unwrap();
        let other = create(&request(Role::Admin, None), &new_key().unwrap(), 0).unwrap();
        let code = |keys: &[&KeyRecord], id: &str| {
            revocable(keys.iter().copied(), id).map(|_| ()).map_err(|error| error.code)
        };
        assert_eq!(code(&[&one], &one.id), Err(ErrorCode::Conflict));
        assert_eq!(code(&[&one, &other], &one.id), Ok(()));
        assert_eq!(code(&[&one], "x"), Err(ErrorCode::NotFound));
        one.revoked_ms = Some(1);
        assert_eq!(code(&[&one, &other], &other.id), Err(ErrorCode::Conflict));
    }
}
