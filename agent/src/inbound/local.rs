//! What this host itself says: its labels, its policy, the keys that it trusts, where its own facts are. SIGHUP makes the agent read it again.

use std::{path::PathBuf, sync::Arc};

use protocol::Labels;
use service_kit::settings::WrongSettings;

use crate::{
    core::{policy::Policy, trust::Trust},
    settings::Settings,
    store,
};

#[derive(Debug, Clone)]
pub struct Local {
    pub labels: Labels,
    pub policy: Arc<Policy>,
    pub trust: Arc<Trust>,
    pub facts_dir: PathBuf,
    /// Why the last reload changed nothing.
    pub problem: Option<String>,
}

impl Local {
    /// Blocks on a read of the policy file, and of that of the trusted keys.
    ///
    /// # Errors
    /// [`WrongSettings`]: an agent with a policy or with keys that it cannot read must not run.
    pub fn load(settings: &Settings) -> Result<Self, WrongSettings> {
        let policy = store::policy::load(settings.guard.policy.as_deref()).map_err(WrongSettings)?;
        let trust = &settings.trust;
        let file = trust.trusted_keys_file.as_deref();
        let trust = store::trust::load_keys(&trust.trusted_keys, file, trust.require_signed);
        let mut labels = settings.labels();
        // As the service has it, those of the enrolment win.
        labels.extend(store::labels::kept(&settings.state).map_err(WrongSettings)?);
        Ok(Self {
            labels,
            policy: Arc::new(policy),
            trust: Arc::new(trust.map_err(WrongSettings)?),
            facts_dir: settings.facts_dir.clone(),
            problem: None,
        })
    }

    /// As `settings`, read anew, have it; what there was and the reason when something is wrong with them.
    #[must_use]
    pub fn reloaded(&self, settings: Result<Settings, String>) -> Self {
        match settings.and_then(|settings| Self::load(&settings).map_err(|error| error.to_string())) {
            Ok(local) => local,
            Err(reason) => {
                let problem = format!("reload: {reason}; what was read before stays");
                Self { problem: Some(problem), ..self.clone() }
            }
        }
    }
}
