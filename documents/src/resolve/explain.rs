//! Why a host runs a check as it does: each expression that was asked, and where each value is from.

use protocol::{
    admin::{Explanation, ValueOrigin, Verdict},
    config::CheckSpec,
    duration,
};

use super::{Outcome, Scope, check::CompiledCheck, scope::Targeting};
use crate::{HostExpression, HostView, tuning};

pub(super) fn explain(
    check: &CompiledCheck,
    host: &HostView<'_>,
    scope: &Scope,
    targeting: &Targeting,
) -> Explanation {
    let document = &check.document;
    let hosts = verdict(document.hosts.as_ref(), host);
    let selected = hosts.holds == Some(true);
    let mut decided = !selected;
    let variants = document.variants.iter().map(|variant| {
        if decided {
            return unasked(variant.when.clone());
        }
        let verdict = verdict(variant.when.as_ref(), host);
        decided = verdict.holds == Some(true);
        verdict
    });
    let variants = variants.collect();
    let ask = |text: &String| if selected { verdict(Some(text), host) } else { unasked(Some(text.clone())) };
    let overrides = document.overrides.iter().map(|one| ask(&one.hosts)).collect();
    let (runs, unfit) = match check.outcome(host, scope) {
        Some(Outcome::Runs(way)) => (Some(way.spec().clone()), None),
        Some(Outcome::Unfit(reason)) => (None, Some(reason)),
        None => (None, None),
    };
    let values = runs.as_ref().map(|spec| values(check, spec, host)).unwrap_or_default();
    Explanation {
        agent: host.agent.clone(),
        check: document.name.clone(),
        hosts,
        variants,
        overrides,
        groups: scope.groups().to_vec(),
        vars: targeting.origins(host.agent, scope, check.wants.vars.iter()),
        values,
        unfit,
        runs,
    }
}

fn unasked(expression: Option<String>) -> Verdict {
    Verdict { expression, holds: None, error: None }
}

fn verdict(expression: Option<&String>, host: &HostView<'_>) -> Verdict {
    let asked = expression.map(|text| {
        let compiled = HostExpression::compile(text).map_err(|error| error.to_string())?;
        compiled.matches(host).map_err(|error| error.to_string())
    });
    let (holds, error) = match asked {
        None => (Some(true), None),
        Some(Ok(holds)) => (Some(holds), None),
        Some(Err(reason)) => (None, Some(reason)),
    };
    Verdict { expression: expression.cloned(), holds, error }
}

/// Schedule and thresholds, and what gave each.
fn values(check: &CompiledCheck, spec: &CheckSpec, host: &HostView<'_>) -> Vec<ValueOrigin> {
    let held = check.held(host).unwrap_or_default();
    let overriding = check.overriding(&held);
    let time = |ms: u64| duration::format(std::time::Duration::from_millis(ms));
    let schedule = match &spec.cron {
        Some(cron) => ("cron", Some(cron.clone())),
        None => ("every", Some(time(spec.every_ms))),
    };
    let threshold = |threshold: &Option<protocol::Threshold>| threshold.as_ref().map(ToString::to_string);
    let all = [
        schedule,
        ("timezone", spec.timezone.clone()),
        ("timeout", Some(time(spec.timeout_ms))),
        ("warning", threshold(&spec.warning)),
        ("critical", threshold(&spec.critical)),
    ];
    let origin = |(field, value): (&str, Option<String>)| {
        let giver = tuning::giver(&overriding, field).and_then(|index| overriding.get(index));
        // A threshold that an override takes away is worth telling too.
        if value.is_none() && giver.is_none() {
            return None;
        }
        let tuning = giver.map_or(&check.document.templates, |(_, one)| &one.tuning);
        Some(ValueOrigin {
            field: field.to_owned(),
            value,
            by_override: giver.map(|(index, _)| index + 1),
            written: tuning::written(tuning, field).cloned(),
        })
    };
    all.into_iter().filter_map(origin).collect()
}
