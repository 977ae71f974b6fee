//! From a configuration as it came, or as it was saved, to what of it this host believes.

use protocol::{AgentId, Labels};

use crate::{
    core::{
        check::Plan,
        resolve::Question,
        trust::{Accepted, Trust},
    },
    outbound::resolver::Resolver,
    store::config::Saved,
};

pub struct Judge<'a> {
    pub trust: &'a Trust,
    pub resolver: &'a Resolver,
    pub agent: &'a AgentId,
}

impl Judge<'_> {
    /// What it accepts by that is noted in `accepted`.
    ///
    /// # Errors
    /// Why nothing of it can be run.
    pub async fn plan(
        &self,
        saved: &Saved,
        labels: Labels,
        accepted: &mut Accepted,
        now_ms: u64,
    ) -> Result<Plan, String> {
        let mut believed = self.trust.believed(&saved.wire, accepted, now_ms);
        let question = Question {
            agent: self.agent.clone(),
            facts: saved.facts.clone(),
            labels,
            documents: std::mem::take(&mut believed.documents),
        };
        let own = self.resolver.resolve(&question).await?;
        believed.documents = question.documents;
        self.trust.plan(&saved.wire, believed, &own)
    }
}
