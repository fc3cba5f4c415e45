//! Certificates: expired, not valid yet, of another authority or cluster, unusable. Told of both ends of each connection.
//!
//! It never sees a key.

use super::case::View;
use super::words::{date, span};
use super::{Cause, Finding};
use crate::facts::{CertificateFacts, Facts, Trouble};

/// A certificate's dates and a clock differ by more than this before anybody doubts the clock, in seconds: certificates are
/// backdated by an hour.
const CLOCK_DOUBT_S: i64 = 3_600;

/// What is wrong with a certificate, by the word of a refusal.
pub(super) fn cause_of(detail: &str) -> Option<Cause> {
    Some(match detail {
        "expired" | "cert_expired" => Cause::CertificateExpired,
        "not_yet_valid" => Cause::CertificateNotYetValid,
        "clocks_differ" => Cause::ClockOff,
        "other_authority" => Cause::OtherAuthority,
        "other_cluster" | "cluster_mismatch" => Cause::OtherCluster,
        "no_certificate" | "wrong_role" | "nameless" | "revoked" | "authority_dates" | "broken" => {
            Cause::CertificateUnusable
        }
        unfit if unfit.starts_with("unfit_") => Cause::CertificateUnusable,
        _ => return None,
    })
}

pub(super) fn look(view: &View<'_>, out: &mut Vec<Finding>) {
    let now = view.case.now_us / 1_000_000;
    for facts in view.all() {
        if let Some(certificate) = &facts.certificate {
            let at = facts.clock.wall_us / 1_000_000;
            dates(&facts.name, Some(facts.node), certificate, at, is_own(view, facts), out);
        }
    }
    if let Some(local) = view.case.local.as_ref() {
        let name = local.name.clone().unwrap_or_else(|| local.data.clone());
        if let Some(certificate) = &local.certificate {
            dates(&name, local.node, certificate, now, true, out);
        }
        if let Some(trouble) = &local.certificate_trouble {
            let cause = cause_of(&trouble.detail).unwrap_or(Cause::CertificateUnusable);
            let dir = local.certificate.as_ref().map(|certificate| certificate.dir.as_str()).unwrap_or_default();
            let finding = Finding::new(cause, name.clone(), format!("{}: {name}", cause.title()));
            out.push(remedies(finding.evidence(trouble.text.clone()).isolates(), cause, &name, dir));
        }
    }
    for facts in view.all() {
        connections(view, facts, out);
    }
    asked(view, out);
}

fn is_own(view: &View<'_>, facts: &Facts) -> bool {
    view.own.is_some_and(|own| std::ptr::eq(own, facts))
}

/// A certificate against the clock of its own machine.
fn dates(name: &str, node: Option<u64>, own: &CertificateFacts, now: i64, isolates: bool, out: &mut Vec<Finding>) {
    let until = |at: i64| span(now.abs_diff(at).saturating_mul(1_000));
    let (cause, said) = if now > own.not_after {
        (Cause::CertificateExpired, format!("expired at {}, {} ago", date(own.not_after), until(own.not_after)))
    } else if now < own.not_before {
        (
            Cause::CertificateNotYetValid,
            format!("is not valid before {}, in {}", date(own.not_before), until(own.not_before)),
        )
    } else {
        return;
    };
    let mut finding = Finding::new(cause, name, format!("the certificate of {name} {said}"))
        .evidence(format!("{} in {}", own.subject, own.dir))
        .evidence(format!("the clock of {name} shows {}", date(now)));
    if cause == Cause::CertificateNotYetValid && own.not_before.saturating_sub(now) > CLOCK_DOUBT_S {
        finding = finding.evidence("certificates are backdated by an hour: more likely that clock is wrong");
    }
    finding.explains.extend(node);
    finding.isolates = isolates;
    out.push(remedies(finding, cause, name, &own.dir));
}

/// What one agent met at both ends of its connections.
fn connections(view: &View<'_>, facts: &Facts, out: &mut Vec<Finding>) {
    for member in &facts.members {
        let Some(trouble) = &member.trouble else { continue };
        refused(view, facts, &member.name, Some(member.node), trouble, out);
    }
    for dial in &facts.dials {
        refused(view, facts, &dial.seed, None, &dial.trouble, out);
    }
    for knock in &facts.knocks {
        let Some(cause) = cause_of(&knock.trouble.detail).filter(|_| knock.trouble.word == "not_trusted") else {
            continue;
        };
        let known = |m: &&crate::facts::MemberFacts| {
            !m.connected && m.addr.rsplit_once(':').is_some_and(|(host, _)| host.trim_matches(['[', ']']) == knock.from)
        };
        // Of those who cannot be reached at that address, one is likely who knocks.
        let mut likely = facts.members.iter().filter(known);
        let who = likely.next().filter(|_| likely.next().is_none());
        let about = who.map_or_else(|| knock.from.clone(), |m| m.name.clone());
        // Clients with bad certificates knock too: it is no reason why agents do not serve.
        let severity = if who.is_some() { cause.severity() } else { super::Severity::Warning };
        let mut finding = Finding::new(cause, about.clone(), format!("{}: {about}", cause.title()))
            .severity(severity)
            .evidence(format!(
                "{} refused somebody at {} {} times, last {} ago: {}",
                view.whose(facts),
                knock.from,
                knock.count,
                span(knock.ago_ms),
                knock.trouble.text
            ));
        finding.explains.extend(who.map(|m| m.node));
        out.push(remedies(finding, cause, &about, ""));
    }
}

/// One refusal of a certificate, as the dialling side met it.
fn refused(view: &View<'_>, facts: &Facts, whom: &str, node: Option<u64>, trouble: &Trouble, out: &mut Vec<Finding>) {
    let Some(cause) = cause_of(&trouble.detail) else { return };
    let ours = match trouble.word.as_str() {
        "they_refused" => true,
        "not_trusted" => false,
        // An agent that was cut off when its certificate ran out.
        "closed" if trouble.detail == "cert_expired" => true,
        _ => return,
    };
    let me = &facts.name;
    let about = if ours { me.as_str() } else { whom };
    let between = matches!(cause, Cause::OtherAuthority | Cause::OtherCluster | Cause::ClockOff);
    let title = match cause {
        Cause::OtherAuthority => format!("{me} and {whom} have certificates of different authorities (CA)"),
        Cause::OtherCluster => format!("{me} and {whom} have certificates of different clusters"),
        Cause::ClockOff => format!("the clocks of {me} and {whom} differ by more than a certificate's dates allow"),
        cause => format!("{}: {about}", cause.title()),
    };
    // What lies between two is about the one that cannot be reached, so that the same is told once.
    let about = if between { whom } else { about };
    let mut finding =
        Finding::new(cause, about, title).evidence(format!("{} dials {whom}: {}", view.whose(facts), trouble.text));
    if cause == Cause::OtherCluster && !facts.cluster.is_empty() {
        finding = finding.evidence(format!("{me} is of cluster {}", facts.cluster));
    }
    finding.explains.extend(if ours && !between { Some(facts.node) } else { node });
    if between {
        finding.explains.extend(node);
    }
    let reaches_nobody = !facts.members.iter().any(|member| member.connected);
    finding.isolates = is_own(view, facts) && reaches_nobody && (ours || between || node.is_none());
    let dir = facts.certificate.as_ref().map(|own| own.dir.as_str()).unwrap_or_default();
    out.push(remedies(finding, cause, about, dir));
}

/// What probes of a directory without an agent met: the identity in use there is the one that agent would have.
fn asked(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(local) = view.case.local.as_ref() else { return };
    let me = local.name.clone().unwrap_or_else(|| local.data.clone());
    let dir = local.certificate.as_ref().map(|own| own.dir.as_str()).unwrap_or_default();
    for heard in &view.case.probes {
        let Some(trouble) = heard.trouble.as_ref().filter(|t| t.word == "not_trusted" || t.word == "they_refused")
        else {
            continue;
        };
        let Some(cause) = cause_of(&trouble.detail) else { continue };
        let ours = trouble.word == "they_refused" && !matches!(cause, Cause::OtherAuthority | Cause::OtherCluster);
        let about = if ours { me.clone() } else { heard.name.clone() };
        let mut finding =
            Finding::new(cause, about.clone(), format!("{}: between {me} and {}", cause.title(), heard.name))
                .evidence(format!("{} was asked with the identity of {me}: {}", heard.addr, trouble.text));
        finding.explains.extend(heard.node);
        out.push(remedies(finding, cause, &about, dir));
    }
}

fn remedies(finding: Finding, cause: Cause, name: &str, dir: &str) -> Finding {
    let dir = if dir.is_empty() { "DIR" } else { dir };
    let issue = format!("issue a new one where the authority is: `quorate certs issue agent {name} --out OUT`");
    let replace = format!("put its files into {dir} of {name} and tell the agent: `kill -HUP PID` (no restart needed)");
    match cause {
        Cause::CertificateExpired => {
            finding.next(format!("look at it: `quorate certs inspect {dir}`")).next(issue).next(replace)
        }
        Cause::CertificateNotYetValid => finding
            .next("compare the clocks of both machines: `date -u`, and set the wrong one right (NTP)")
            .next(issue)
            .next(replace),
        Cause::ClockOff => {
            finding.next("compare the clocks of both machines: `date -u`, and set the wrong one right (NTP)")
        }
        Cause::OtherAuthority => finding
            .next(format!("compare the authorities on both machines: `quorate certs inspect {dir}/ca.pem`"))
            .next(issue)
            .next(replace),
        Cause::OtherCluster => finding
            .next(format!("compare the cluster ids on both machines: `quorate certs inspect {dir}`"))
            .next("leave the address of the other cluster out of --join, or use a certificate of that cluster"),
        _ => finding.next(format!("look at it: `quorate certs verify {dir}`")).next(issue).next(replace),
    }
}
