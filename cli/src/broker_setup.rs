//! The secrets and the settings of a NATS server: made once, kept ever after.
//!
//! The services sign in with one NKey that may do everything. About everybody that the broker does not know it asks the
//! config-service (auth callout), which lets enrolled agents in. An agent named here has an NKey that the broker itself
//! knows. Each agent may use its own subjects and nothing else (G4). `dogwatch up` and `dogwatch init-broker` both come here.

use std::{
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use nkeys::{KeyPair, KeyPairType};
use protocol::{AgentId, limits, stream, subject};
use service_kit::files::write_private;

use crate::args::InitBrokerArgs;

/// What a NATS server for dogwatch is to be.
pub(crate) struct BrokerSetup<'a> {
    /// Where `nats.conf` and the NKey seed of the services go.
    pub(crate) folder: &'a Path,
    /// Where the seeds that only the config-service reads go.
    pub(crate) config_folder: &'a Path,
    /// Where the seeds of the agents go: a host's own seed is all that it is to see.
    pub(crate) agent_folder: &'a Path,
    /// Where the operators' first key goes.
    pub(crate) admin_key: &'a Path,
    pub(crate) listen: SocketAddr,
    /// Where it serves `/healthz` and statistics, to anyone.
    pub(crate) monitor: Option<SocketAddr>,
    /// Folder of its streams.
    pub(crate) store: &'a Path,
    /// Its log; `None`: stderr.
    pub(crate) log: Option<&'a Path>,
    pub(crate) agents: &'a [AgentId],
}

/// Where everything is.
pub(crate) struct BrokerFiles {
    pub(crate) config: PathBuf,
    pub(crate) services_seed: PathBuf,
    /// Of the account with which the config-service signs what it answers to the broker's auth callout.
    pub(crate) issuer_seed: PathBuf,
    /// Of a user in the broker's system account, which cuts connections.
    pub(crate) system_seed: PathBuf,
    /// One for each of the agents, in order.
    pub(crate) agent_seeds: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("cannot write {path}: check that the folder can be written and the disk has room")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}: check its permissions")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} holds no NKey seed of its kind: restore it, or delete it to get a new one")]
    Seed { path: PathBuf },
    #[error("the system gave no random key: {reason}")]
    Random { reason: String },
    #[error("the path {path:?} cannot stand in nats.conf: use one that is UTF-8")]
    Path { path: PathBuf },
}

impl BrokerSetup<'_> {
    /// Write what is missing, and `nats.conf` in any case.
    ///
    /// # Errors
    /// [`SetupError`]. Every file is either whole or as it was.
    pub(crate) fn prepare(&self) -> Result<BrokerFiles, SetupError> {
        for folder in [self.folder, self.config_folder, self.agent_folder] {
            fs::create_dir_all(folder)
                .map_err(|source| SetupError::Write { path: folder.to_owned(), source })?;
        }
        let services_seed = self.folder.join("services.nk");
        let services = public_key(&services_seed, KeyPairType::User)?;
        let issuer_seed = self.config_folder.join("issuer.nk");
        let system_seed = self.config_folder.join("system.nk");
        let keys = Keys {
            services,
            issuer: public_key(&issuer_seed, KeyPairType::Account)?,
            system: public_key(&system_seed, KeyPairType::User)?,
        };
        let mut agents = Vec::new();
        let mut agent_seeds = Vec::new();
        for agent in self.agents {
            let path = self.agent_folder.join(format!("agent-{agent}.nk"));
            agents.push((agent, public_key(&path, KeyPairType::User)?));
            agent_seeds.push(path);
        }
        if read(self.admin_key)?.is_none_or(|key| key.trim().is_empty()) {
            let key = config_service::new_key().map_err(|error| random(&error))?;
            write(self.admin_key, &format!("{key}\n"))?;
        }
        let config = self.folder.join("nats.conf");
        write(&config, &self.config(&keys, &agents)?)?;
        Ok(BrokerFiles { config, services_seed, issuer_seed, system_seed, agent_seeds })
    }

    fn config(&self, keys: &Keys, agents: &[(&AgentId, String)]) -> Result<String, SetupError> {
        let mut text = format!(
            "# Written by dogwatch at every start: changes are lost.\n\
             listen: \"{listen}\"\n\
             server_name: \"dogwatch\"\n\
             max_payload: {payload}\n\
             jetstream {{ store_dir: {store}, max_file_store: {max} }}\n",
            listen = self.listen,
            payload = limits::MESSAGE,
            store = quoted(self.store)?,
            max = max_file_store(),
        );
        if let Some(monitor) = self.monitor {
            text += &format!("http: \"{monitor}\"\n");
        }
        if let Some(log) = self.log {
            let log = quoted(log)?;
            // Bounded: the server turns over to a new file and keeps the last ones.
            text += &format!("log_file: {log}\nlogfile_size_limit: 10MB\nlogfile_max_num: 3\n");
        }
        let Keys { services, issuer, system } = keys;
        text += &format!("system_account: SYS\naccounts {{ SYS {{ users: [ {{ nkey: {system} }} ] }} }}\n");
        // Time enough for the config-service to answer thousands that come at once.
        text += &format!("authorization {{\n  timeout: 10\n  users: [\n    {{ nkey: {services} }}\n");
        for (agent, key) in agents {
            let list = |subjects: Vec<String>| {
                subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
            };
            let (publish, subscribe) =
                (list(subject::agent_publishes(agent)), list(subject::agent_subscribes(agent)));
            let (most, expires) = subject::AGENT_RESPONSES;
            // Writing to a String does not fail.
            let _written = writeln!(
                text,
                "    {{ nkey: {key}, permissions: {{ publish: [{publish}], subscribe: [{subscribe}], \
                 allow_responses: {{ max: {most}, expires: \"{}s\" }} }} }}",
                expires.as_secs()
            );
        }
        text += "  ]\n";
        // Whoever is not among these is asked about. They do not depend on the answer.
        let mut known = vec![services.as_str(), system.as_str()];
        known.extend(agents.iter().map(|(_, key)| key.as_str()));
        text += &format!("  auth_callout {{ issuer: {issuer}, auth_users: [ {} ] }}\n}}\n", known.join(", "));
        Ok(text)
    }
}

/// The broker reserves what the streams may grow to; without room for it, it refuses to create them. The rest is for
/// streams without a limit of their own.
fn max_file_store() -> i64 {
    const REST: i64 = 8 * 1024 * 1024 * 1024;
    [stream::RESULTS, stream::ALERTS, stream::NOTIFY, stream::CONFIG, stream::AUDIT, stream::REJECTED]
        .iter()
        .filter_map(|stream| stream.max_bytes)
        .sum::<i64>()
        .saturating_add(REST)
}

/// Public keys that stand in the configuration.
struct Keys {
    services: String,
    issuer: String,
    system: String,
}

/// Public key of the seed in the file; a new one where there is none.
fn public_key(path: &Path, kind: KeyPairType) -> Result<String, SetupError> {
    if let Some(seed) = read(path)? {
        let pair = KeyPair::from_seed(seed.trim()).ok();
        return pair
            .filter(|pair| pair.key_pair_type() == kind)
            .map(|pair| pair.public_key())
            .ok_or_else(|| SetupError::Seed { path: path.to_owned() });
    }
    let pair = KeyPair::new(kind);
    let seed = pair.seed().map_err(|error| random(&error))?;
    write(path, &format!("{seed}\n"))?;
    Ok(pair.public_key())
}

fn random(error: &dyn std::fmt::Display) -> SetupError {
    SetupError::Random { reason: error.to_string() }
}

fn read(path: &Path) -> Result<Option<String>, SetupError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SetupError::Read { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), SetupError> {
    write_private(path, text.as_bytes()).map_err(|source| SetupError::Write { path: path.to_owned(), source })
}

fn quoted(path: &Path) -> Result<String, SetupError> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| SetupError::Path { path: path.to_owned() })?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// `dogwatch init-broker`
pub(crate) fn init(args: &InitBrokerArgs) -> anyhow::Result<()> {
    let admin_key = args.data.join("admin.key");
    let setup = BrokerSetup {
        folder: &args.data,
        config_folder: args.config_service_seeds.as_deref().unwrap_or(&args.data),
        agent_folder: args.agent_seeds.as_deref().unwrap_or(&args.data),
        admin_key: &admin_key,
        listen: args.listen,
        monitor: args.monitor,
        store: &args.store,
        log: None,
        agents: &args.agents,
    };
    let files = setup.prepare()?;
    crate::output::note(&format!("{} and the keys beside it are ready", files.config.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_run_keeps_every_key() {
        let folder = tempfile::tempdir().unwrap();
        let agents = [AgentId::new("web-01").unwrap()];
        let setup = BrokerSetup {
            folder: folder.path(),
            config_folder: folder.path(),
            agent_folder: folder.path(),
            admin_key: &folder.path().join("admin.key"),
            listen: "127.0.0.1:4222".parse().unwrap(),
            monitor: None,
            store: Path::new("/da\"ta"),
            log: None,
            agents: &agents,
        };
        let contents = || {
            let mut files: Vec<_> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| (fs::read_to_string(&path).unwrap(), path))
                .collect();
            files.sort();
            files
        };
        setup.prepare().unwrap();
        let first = contents();
        assert_eq!(first.len(), 6);
        for (text, path) in &first {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!text.is_empty());
        }
        setup.prepare().unwrap();
        assert_eq!(contents(), first);
        fs::write(folder.path().join("services.nk"), "junk").unwrap();
        let error = setup.prepare().err().unwrap().to_string();
        assert!(error.contains("services.nk holds no NKey seed"), "{error}");
    }
}
