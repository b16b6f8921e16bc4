//! A cluster where the daemon asks in people's names: whom it may name, and nobody else.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::ResourceRule;

use super::super::api_server::Call;
use super::super::lease::Impersonated;
use super::report::{ClusterReport, Level};
use super::rights::{self, Verdict};
use super::{ANSWER_LIMIT, MintError, Questions, json, own_account, rules};
use crate::clock::monotonic;
use crate::config::{Cluster, Config, Impersonation};
use crate::issuer::SESSION;
use crate::policy::{People, people};
use crate::session::SessionId;

/// KEP-5284's mode for people, and the verb that was there before.
const CONSTRAINED: &str = "impersonate:user-info";
const LEGACY: &str = "impersonate";
/// In front of the verb of what is asked in somebody's name.
const ON: &str = "impersonate-on:user-info:";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// As many as are looked at one by one.
const MOST: usize = 50;
/// Nobody has this name.
const NOBODY: &str = "bastion-audit-check-no-such-name";
/// The session of a question that is no session's.
const NO_SESSION: &str = "00000000000000000000000000";

pub(super) async fn look(
    questions: &Questions,
    cluster: &Cluster,
    naming: &Impersonation,
    config: &Config,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    questions.version(report).await?;
    questions.who(report).await?;
    let people = people(config, &cluster.name);
    if people.users.is_empty() {
        report.add(
            Level::Warn,
            "",
            "no binding gives anyone a role here whose name could be listed: nobody can be named",
        );
    }
    rights::cluster_wide(questions, report).await?;
    let verb = if naming.legacy { LEGACY } else { CONSTRAINED };
    named(questions, &people, verb, report).await?;
    nobody_else(questions, &people, naming.legacy, report).await?;
    tried(questions, &people, naming.legacy, report).await?;
    let renewed = own_account(cluster, report);
    let needed = |rule: &ResourceRule, resource: &str, rule_verb: &str| {
        names(rule, resource, rule_verb, verb, &people)
            || (!naming.legacy && rule_verb.starts_with(ON))
            || rules::renews(rule, resource, rule_verb, renewed.as_deref())
    };
    rules::elsewhere(questions, |_| true, needed, report).await?;
    for group in &people.unlisted {
        report.not_checked.push(format!(
            "whom certificates put into {group}: they cannot be listed, and the daemon may name nobody who is not"
        ));
    }
    report.not_checked.push(
        "what RBAC gives these users and groups: the daemon may not see that. As an administrator: kubectl auth can-i --list --as USER --as-group GROUP".to_owned(),
    );
    Ok(())
}

/// Everybody whom it must be able to name.
async fn named(
    questions: &Questions,
    people: &People,
    verb: &str,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let mut fine = true;
    for (resource, all) in [("users", &people.users), ("groups", &people.groups)] {
        for name in all.iter().take(MOST) {
            let verdict = questions
                .may("", verb, group_of(verb), resource, Some(name))
                .await?;
            if verdict != Verdict::Yes {
                fine = false;
                report.add(
                    Level::Fail,
                    "",
                    format!(
                        "may not {verb} {resource} {name}: apply what `bastion-audit manifests` writes"
                    ),
                );
            }
        }
        let left_out = all.len().saturating_sub(MOST);
        if left_out > 0 {
            report
                .not_checked
                .push(format!("{left_out} more {resource}: {MOST} were looked at"));
        }
    }
    if fine && !people.users.is_empty() {
        report.add(
            Level::Ok,
            "",
            format!("may {verb} each user and group that bindings lead to"),
        );
    }
    Ok(())
}

/// By no verb.
async fn nobody_else(
    questions: &Questions,
    people: &People,
    legacy: bool,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let mut others = vec![
        (LEGACY, "users", NOBODY),
        (LEGACY, "groups", NOBODY),
        (LEGACY, "groups", "system:masters"),
        (CONSTRAINED, "users", NOBODY),
        (CONSTRAINED, "groups", NOBODY),
        (CONSTRAINED, "groups", "system:masters"),
        (LEGACY, "uids", NOBODY),
        (CONSTRAINED, "uids", NOBODY),
        (LEGACY, "userextras/scopes", NOBODY),
        (CONSTRAINED, "userextras/scopes", NOBODY),
    ];
    if !legacy {
        // What is bounded by KEP-5284 must not be had without its bounds.
        others.extend(people.users.first().map(|user| (LEGACY, "users", &**user)));
        others.extend(
            people
                .groups
                .first()
                .map(|group| (LEGACY, "groups", &**group)),
        );
    }
    let mut fine = true;
    for (verb, resource, name) in others {
        let group = match resource {
            "users" | "groups" => group_of(verb),
            _ => AUTHENTICATION,
        };
        match questions.may("", verb, group, resource, Some(name)).await? {
            Verdict::No => continue,
            Verdict::Yes => report.add(
                Level::Fail,
                "",
                format!(
                    "may {verb} {resource} {name} and must not: its rule must name who is meant"
                ),
            ),
            Verdict::Unknown(why) => report.add(
                Level::Incomplete,
                "",
                format!("whether it may {verb} {resource} {name} cannot be known: {why}"),
            ),
        }
        fine = false;
    }
    if fine {
        report.add(Level::Ok, "", "may name nobody else");
    }
    Ok(())
}

/// Asks who it is, in the name of one of them. That changes nothing, and tells whether the API server has what RBAC speaks of.
async fn tried(
    questions: &Questions,
    people: &People,
    legacy: bool,
    report: &mut ClusterReport,
) -> Result<(), MintError> {
    let (Some(user), Some(group), Ok(session)) = (
        people.users.first(),
        people.groups.first(),
        SessionId::parse(NO_SESSION),
    ) else {
        return Ok(());
    };
    let Some(who) = Impersonated::new(user.clone(), vec![group.clone()], session) else {
        return Ok(());
    };
    let doing = "asking who somebody is";
    let call = Call {
        doing,
        method: http::Method::POST,
        path: "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        body: json(&SelfSubjectReview::default()),
        session: None,
        acting: Some(&who),
    };
    let deadline = monotonic() + ANSWER_LIMIT;
    let (answer, _) = questions.api.ask_again(&call, deadline).await?;
    if answer.status == http::StatusCode::FORBIDDEN {
        let why = questions.api.refusal(doing, &answer);
        let advice = match legacy {
            true => "",
            false => {
                ": is it older than 1.36, or its feature gate ConstrainedImpersonation off? Then write impersonation: {legacy: true}"
            }
        };
        report.add(
            Level::Fail,
            "",
            format!("nobody can be impersonated: {why}{advice}"),
        );
        return Ok(());
    }
    let review: SelfSubjectReview = questions.api.parse(doing, &answer)?;
    let found = review.status.and_then(|status| status.user_info);
    let found = found.unwrap_or_default();
    let extra = found.extra.unwrap_or_default();
    let in_session = extra
        .get(SESSION)
        .is_some_and(|sessions| sessions.as_slice() == [NO_SESSION]);
    if found.username.as_deref() == Some(user) && in_session {
        let how = if legacy { "legacy" } else { "constrained" };
        report.add(
            Level::Ok,
            "",
            format!("asks in the name of {user}, with the session ({how} impersonation)"),
        );
    } else {
        report.add(
            Level::Fail,
            "",
            format!("was not {user} in its session when it asked so: what stands between changes headers"),
        );
    }
    Ok(())
}

/// Where users and groups are, for a verb.
fn group_of(verb: &str) -> &'static str {
    if verb == LEGACY { "" } else { AUTHENTICATION }
}

/// Whether a rule lets somebody be named who may have to be.
fn names(
    rule: &ResourceRule,
    resource: &str,
    rule_verb: &str,
    verb: &str,
    people: &People,
) -> bool {
    let listed = rule.resource_names.as_deref().unwrap_or_default();
    let groups = rule.api_groups.as_deref().unwrap_or_default();
    let within = |all: &std::collections::BTreeSet<String>, group: &str| {
        groups == [group] && !listed.is_empty() && listed.iter().all(|name| all.contains(name))
    };
    rule_verb == verb
        && match resource.split_once('/') {
            None if resource == "users" => within(&people.users, group_of(verb)),
            None if resource == "groups" => within(&people.groups, group_of(verb)),
            Some(("userextras", SESSION)) => groups == [AUTHENTICATION],
            _ => false,
        }
}
