//! Operators: documents, hosts and keys.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use documents::HostExpression;
use protocol::{
    ErrorCode, ErrorReply,
    admin::{
        Applied, ApplyRequest, DiffQuery, Difference, DocumentList, DocumentQuery, DocumentSignature,
        ExplainQuery, Explanation, HistoryPage, HistoryQuery, HostList, HostQuery, KeyCreate, KeyCreated,
        KeyInfo, KeyList, KeyQuery, KeyRevoke, KeyVerify, RollbackRequest,
    },
    limits,
    log::LogChange,
    rollout::Canary,
    subject,
};
use service_kit::{Context, now_ms, respond};

use crate::{
    changes::{Changes, Snapshot},
    core::{
        effects::Prospect, keys, limit::HostLimit, machines::Machines, model::Model, plan, rollout, signing,
    },
    history::History,
    inventory::Pending,
    random, rollouts,
};

const MINUTE_MS: u64 = 60_000;
/// Large sets take a while to check. Whoever asks sets the time that it waits.
const APPLY_DEADLINE: Duration = Duration::from_secs(60);

/// How old the account of machines may be: a list of hosts is asked for page by page.
const MACHINES_AGE: Duration = Duration::from_secs(10);
/// Hosts looked at without letting go of the model.
const HOSTS_AT_ONCE: usize = 256;

/// How a change of documents is to be made.
struct How {
    actor: String,
    message: String,
    dry_run: bool,
    base: Option<u64>,
    effects: bool,
    within: Option<String>,
    canary: Option<Canary>,
    /// In place of the open rollout.
    replace: bool,
    signatures: Vec<DocumentSignature>,
    /// The revision to go back to, of which a look without effects tells what is to be signed.
    back_to: Option<u64>,
}

type KeptMachines = Option<(Instant, Arc<Machines>)>;

#[derive(Clone)]
pub(crate) struct Operators {
    pub(crate) model: Arc<RwLock<Model>>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) used: Arc<Mutex<BTreeMap<String, u64>>>,
    /// Which hosts are one machine, and when that was looked at.
    pub(crate) machines: Arc<Mutex<KeptMachines>>,
}

impl Operators {
    pub(crate) async fn serve(self, ctx: &Context) -> anyhow::Result<()> {
        let normal = respond::Limits::default();
        let apply = respond::Limits { concurrency: 4, deadline: APPLY_DEADLINE };
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_APPLY, apply, move |_, request| this.clone().apply(request))
            .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_ROLLBACK, apply, move |_, request| {
            this.clone().rollback(request)
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_HISTORY, apply, move |_, query| this.clone().history(query))
            .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_DIFF, apply, move |_, query| this.clone().diff(query)).await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_DOCUMENTS, normal, move |_, query| {
            std::future::ready(this.documents(&query))
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_EXPLAIN, normal, move |_, query| {
            std::future::ready(this.explain(&query))
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_HOSTS, normal, move |_, query| {
            std::future::ready(this.hosts(&query))
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_KEY_CREATE, normal, move |_, request| {
            this.clone().create_key(request)
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_KEY_LIST, normal, move |_, _: KeyQuery| {
            std::future::ready(this.list_keys())
        })
        .await?;
        let this = self.clone();
        respond::respond(ctx, subject::ADMIN_KEY_REVOKE, normal, move |_, request| {
            this.clone().revoke_key(request)
        })
        .await?;
        let many = respond::Limits { concurrency: 1024, ..normal };
        respond::respond(ctx, subject::ADMIN_KEY_VERIFY, many, move |_, request: KeyVerify| {
            std::future::ready(self.verify_key(&request))
        })
        .await
    }

    async fn apply(self, request: ApplyRequest) -> Result<Applied, ErrorReply> {
        let how = How {
            actor: request.actor.clone(),
            message: request.message.clone(),
            dry_run: request.dry_run,
            base: request.base,
            effects: request.effects,
            within: request.within.clone(),
            canary: request.canary.clone(),
            replace: request.replace,
            signatures: request.signatures.clone(),
            back_to: None,
        };
        self.change(how, move |snapshot| plan::apply(&request, &snapshot.documents)).await
    }

    async fn rollback(self, request: RollbackRequest) -> Result<Applied, ErrorReply> {
        let RollbackRequest { revision, actor, message, dry_run, base, effects, signatures, within } =
            request;
        let message = if message.is_empty() { format!("back to revision {revision}") } else { message };
        let back_to = Some(revision);
        let (canary, replace) = (None, false);
        let how =
            How { actor, message, dry_run, base, effects, within, canary, replace, signatures, back_to };
        let (actor, message) = (how.actor.clone(), how.message.clone());
        self.change(how, move |snapshot| {
            let target = snapshot.history.documents_at("revision", revision)?;
            plan::rollback((&actor, &message), &snapshot.documents, &target)
        })
        .await
    }

    async fn change(
        self,
        how: How,
        plan: impl Fn(&Snapshot) -> Result<plan::Planned, ErrorReply> + Send + Sync + 'static,
    ) -> Result<Applied, ErrorReply> {
        let How { actor, message, dry_run, base, effects, within, canary, replace, signatures, back_to } =
            how;
        canary.as_ref().map_or(Ok(()), rollout::check)?;
        if replace && within.is_some() {
            let message =
                "your key is limited to some hosts, and a rollout is replaced on all that it reached";
            return Err(ErrorReply::new(ErrorCode::Forbidden, message));
        }
        let (this, who) = (self.clone(), (actor.clone(), message.clone()));
        let (revision, (told, prospect, documents, rollout)) = self
            .changes
            .make(actor, message, move |snapshot| {
                base.map_or(Ok(()), |base| snapshot.history.unchanged_since(base))?;
                let words = (who.0.as_str(), who.1.as_str());
                let ended = if replace { rollouts::replaced(snapshot, words)? } else { None };
                let (ending, snapshot) = match &ended {
                    Some((ending, below)) => (ending.clone(), below),
                    None => (Vec::new(), snapshot),
                };
                let (mut changes, mut told) = plan(snapshot)?;
                within.as_ref().map_or(Ok(()), |hosts| this.concerns_only(hosts, &changes))?;
                signing::attach(&mut changes, &signatures, &snapshot.documents, snapshot.next())?;
                signing::tell(&mut told, &snapshot.signed);
                if dry_run {
                    let documents = match back_to.filter(|_| !effects) {
                        Some(then) => signing::to_sign(&changes, &snapshot.history.signed_at(then)?),
                        None => Vec::new(),
                    };
                    let all = || -> Vec<LogChange> { ending.into_iter().chain(changes).collect() };
                    return Ok((Vec::new(), (told, effects.then(all), documents, None)));
                }
                if !changes.is_empty() {
                    rollouts::none_open(snapshot)?;
                }
                let rollout = canary.clone().filter(|_| !changes.is_empty()).and_then(|canary| {
                    let concerned = match &ended {
                        // What the hosts run now is partly that of the other one.
                        Some((_, below)) => this.concerned_by(&below.documents, &changes),
                        None => this.prospect(&changes).concerned(),
                    };
                    rollouts::begin(canary, words, snapshot.next(), &concerned)
                });
                let began = rollout.clone().map(|rollout| LogChange::RolloutPut { rollout });
                Ok((
                    ending.into_iter().chain(began).chain(changes).collect(),
                    (told, None, Vec::new(), rollout),
                ))
            })
            .await?;
        let effects = match prospect {
            Some(changes) => Some(self.blocking(move |this| Ok(this.prospect(&changes).effects())).await?),
            None => None,
        };
        Ok(Applied { revision, changes: told, effects, documents, rollout })
    }

    /// Whether a change concerns no other hosts than these.
    fn concerns_only(&self, hosts: &str, changes: &[LogChange]) -> Result<(), ErrorReply> {
        let mut limit = HostLimit::new(hosts, changes)?;
        let model = || self.model.read().unwrap_or_else(PoisonError::into_inner);
        let prospect = Prospect::new(&model(), changes);
        let agents = model().agents();
        agents.chunks(HOSTS_AT_ONCE).for_each(|agents| limit.look_at(&prospect, &model(), agents));
        limit.verdict(&prospect)
    }

    fn concerned_by(&self, documents: &plan::Documents, changes: &[LogChange]) -> Vec<protocol::AgentId> {
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        model.concerned_by(documents, changes, &model.agents())
    }

    fn prospect(&self, changes: &[LogChange]) -> Prospect {
        let model = || self.model.read().unwrap_or_else(PoisonError::into_inner);
        let mut prospect = Prospect::new(&model(), changes);
        let agents = model().agents();
        // Between the portions agents get their answers.
        agents.chunks(HOSTS_AT_ONCE).for_each(|agents| prospect.look_at(&model(), agents));
        prospect
    }

    async fn history(self, query: HistoryQuery) -> Result<HistoryPage, ErrorReply> {
        self.blocking(move |this| this.past()?.page(&query)).await
    }

    async fn diff(self, query: DiffQuery) -> Result<Difference, ErrorReply> {
        self.blocking(move |this| this.past()?.difference(&query)).await
    }

    fn past(&self) -> Result<History, ErrorReply> {
        drop(self.known()?);
        Ok(self.changes.snapshot().history)
    }

    async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&Self) -> Result<T, ErrorReply> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let done = tokio::task::spawn_blocking(move || work(&self)).await;
        done.map_err(|error| ErrorReply::new(ErrorCode::Internal, format!("internal error: {error}")))?
    }

    fn documents(&self, query: &DocumentQuery) -> Result<DocumentList, ErrorReply> {
        let model = self.known()?;
        let wanted = model
            .documents
            .values()
            .filter(|document| query.kinds.is_empty() || query.kinds.contains(&document.kind()));
        Ok(DocumentList { revision: model.revision, documents: wanted.cloned().collect() })
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, ErrorReply> {
        let explanation = self.known()?.explain(&query.agent, &query.check);
        explanation.ok_or_else(|| {
            let ExplainQuery { agent, check } = query;
            let message = format!(
                "there is no host {agent}, or no check {check}: see `dogwatch hosts` and `dogwatch checks`"
            );
            ErrorReply::new(ErrorCode::NotFound, message)
        })
    }

    fn hosts(&self, query: &HostQuery) -> Result<HostList, ErrorReply> {
        let model = self.known()?;
        let mut list = model.hosts(query, now_ms());
        self.same_machines(&model, &mut list);
        if let Some(within) = &query.within {
            let within = HostExpression::compile(within)
                .map_err(|error| ErrorReply::invalid(format!("within: {error}")).at("within"))?;
            list.hosts.retain(|host| model.matches(&host.agent, &within));
        }
        match &query.agent {
            Some(agent) if list.hosts.is_empty() => {
                let message = format!("there is no host {agent}: `dogwatch hosts` shows all");
                Err(ErrorReply::new(ErrorCode::NotFound, message).at("agent"))
            }
            _ => Ok(list),
        }
    }

    /// Say which hosts are one machine. A page that becomes too large for a message by that gets shorter.
    fn same_machines(&self, model: &Model, list: &mut HostList) {
        let machines = {
            let mut kept = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some((at, machines)) if at.elapsed() < MACHINES_AGE => Arc::clone(machines),
                _ => {
                    let machines = Arc::new(Machines::of(model));
                    *kept = Some((Instant::now(), Arc::clone(&machines)));
                    machines
                }
            }
        };
        list.hosts.iter_mut().for_each(|host| machines.tell(host));
        while list.hosts.len() > 1
            && protocol::encode(&list).is_ok_and(|json| json.len() > limits::MESSAGE - 64)
        {
            list.hosts.truncate(list.hosts.len() / 4 * 3);
            list.next = list.hosts.last().map(|host| host.agent.clone());
        }
    }

    async fn create_key(self, request: KeyCreate) -> Result<KeyCreated, ErrorReply> {
        let key = random::new_key().map_err(|error| {
            ErrorReply::new(ErrorCode::Internal, format!("no random numbers for a key: {error}"))
        })?;
        let record = keys::create(&request, &key, now_ms())?;
        let info = keys::info(&record, 0);
        let message = format!("create the key {}", record.id);
        let plan = move |_: &_| Ok((vec![LogChange::KeyCreated { key: record.clone() }], ()));
        self.changes.make(request.actor, message, plan).await?;
        Ok(KeyCreated { key, info })
    }

    fn list_keys(&self) -> Result<KeyList, ErrorReply> {
        let model = self.known()?;
        let used = self.used();
        let info = |key| keys::info(key, used.get(&key.id).copied().unwrap_or_default());
        let mut keys: Vec<KeyInfo> = model.keys.values().map(info).collect();
        keys.sort_by_key(|key| key.created_ms);
        Ok(KeyList { keys })
    }

    async fn revoke_key(self, request: KeyRevoke) -> Result<KeyInfo, ErrorReply> {
        let (now, id) = (now_ms(), request.id);
        let message = format!("revoke the key {}", id.chars().take(32).collect::<String>());
        let plan = move |snapshot: &crate::changes::Snapshot| {
            let mut key = keys::revocable(snapshot.keys.values(), &id)?.clone();
            let first = key.revoked_ms.is_none();
            key.revoked_ms.get_or_insert(now);
            let revoke = LogChange::KeyRevoked { id: id.clone(), at_ms: now };
            Ok((if first { vec![revoke] } else { Vec::new() }, key))
        };
        let (_, key) = self.changes.make(request.actor, message, plan).await?;
        Ok(keys::info(&key, self.used().get(&key.id).copied().unwrap_or_default()))
    }

    fn verify_key(&self, request: &KeyVerify) -> Result<KeyInfo, ErrorReply> {
        let model = self.known()?;
        let now = now_ms();
        let key = model.key_by_hash(&request.hash).filter(|key| keys::is_good(key, now));
        let unknown = "the key is unknown, revoked or expired";
        let key = key.ok_or_else(|| ErrorReply::new(ErrorCode::Unauthorized, unknown))?;
        let minute = now / MINUTE_MS * MINUTE_MS;
        if self.used().insert(key.id.clone(), minute) != Some(minute) {
            self.pending.key(key.id.clone());
        }
        Ok(keys::info(key, minute))
    }

    /// The model, once it may be answered from.
    fn known(&self) -> Result<RwLockReadGuard<'_, Model>, ErrorReply> {
        if !self.changes.known() {
            let message = "stream CONFIG was not read yet: ask again in a moment";
            return Err(ErrorReply::new(ErrorCode::Unavailable, message));
        }
        Ok(self.model.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
