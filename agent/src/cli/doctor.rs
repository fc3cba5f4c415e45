//! `quorate doctor`: why is there no leader, why is this agent not a member, what else is wrong?
//!
//! It gathers facts and shows what [`crate::diagnosis`] makes of them. It changes nothing, here or anywhere.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui};
use crate::descriptor::{self, Descriptor};
use crate::diagnosis::{self, Case, Cause, Diagnosis, Finding, Severity};
use crate::facts::{Heard, Trouble};
use crate::limits::printable;
use crate::server::facts as asking;
use crate::server::look::{Look, look};
use clap::Args;
use quorate_certs::Identity;
use quorate_transport::Limits;
use quorate_transport::rpc::RpcClient;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Of the time that is allowed, so much is kept for a look at the directory of an agent that does not answer.
const KEPT: Duration = Duration::from_secs(3);
/// Former members that are asked at most when an agent does not answer.
const PROBES_MAX: usize = 16;
const LINE_EVIDENCE: &str = "  evidence  ";
const LINE_NEXT: &str = "  next      ";
const LINE_MORE: &str = "            ";

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A data directory, whether its agent runs or not; read, never changed
    #[arg(long, env = "QUORATE_DATA", hide_env = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also an address to ask when the agent does not answer; may be given again
    #[arg(long, env = "QUORATE_JOIN", hide_env = true, value_name = "HOST:PORT", value_delimiter = ',', value_parser = super::address)]
    join: Vec<String>,
    /// With --data: check every checksum of the log, however large it is
    #[arg(long, env = "QUORATE_VERIFY", hide_env = true, value_parser = super::switch())]
    verify: bool,
    /// With --data of an agent that is stopped: time 32 synced writes of 4 KiB in a file without a name
    #[arg(long, env = "QUORATE_MEASURE", hide_env = true, value_parser = super::switch())]
    measure: bool,
}

#[derive(Serialize)]
struct DoctorObject<'a> {
    v: u32,
    agent: Option<&'a str>,
    leader: Option<&'a str>,
    healthy: bool,
    state: &'a [String],
    findings: Vec<FindingObject<'a>>,
}

#[derive(Serialize)]
struct FindingObject<'a> {
    code: String,
    severity: Severity,
    title: &'a str,
    about: &'a str,
    evidence: String,
    next: &'a [String],
}

/// Gathers, judges and shows.
pub(crate) async fn run(global: &Global, args: &DoctorArgs, ui: &Ui) -> Result<(), CliError> {
    let case = match tokio::time::timeout(global.timeout, gather(global, args, ui)).await {
        Ok(case) => case?,
        Err(_) => {
            let what = format!("the facts were not gathered within {:?}", global.timeout);
            return Err(CliError::new(Exit::Unreachable, what, "give it more time with --timeout"));
        }
    };
    let diagnosis = diagnosis::diagnose(&case);
    if ui.is_json() {
        ui.json(&object(&diagnosis))?;
    } else {
        for line in screen(&diagnosis) {
            ui.line(&line)?;
        }
    }
    verdict(&diagnosis)
}

fn verdict(diagnosis: &Diagnosis) -> Result<(), CliError> {
    if diagnosis.is_healthy() {
        return Ok(());
    }
    let codes: Vec<String> = diagnosis.findings.iter().map(|finding| finding.cause.code()).collect();
    let exit = match () {
        () if diagnosis.has(Cause::DamageLost) => Exit::Corrupt,
        () if diagnosis.no_leader => Exit::NoQuorum,
        () => Exit::Unhealthy,
    };
    let what = match diagnosis.findings.as_slice() {
        [] => "there is no leader, and no cause was found".to_owned(),
        [first, ..] => {
            let none = if diagnosis.no_leader { "there is no leader: " } else { "" };
            format!("{none}{} ({})", first.title, codes.join(", "))
        }
    };
    let next = codes
        .first()
        .map_or_else(|| "ask again in some seconds".into(), |code| format!("`quorate explain {code}` says more"));
    Err(CliError::new(exit, printable(&what), next))
}

async fn gather(global: &Global, args: &DoctorArgs, ui: &Ui) -> Result<Case, CliError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros());
    let mut case = Case { now_us: i64::try_from(now).unwrap_or(i64::MAX), ..Case::default() };
    let how = Look { verify: args.verify, measure: args.measure };
    if let Some(data) = &args.data {
        if args.measure {
            ui.note("measuring: 32 writes of 4 KiB, each synced, in a file without a name in that directory");
        }
        let (facts, holder) = look(data, global.certs.as_deref(), how);
        case.local = Some(facts);
        if let Some(agent) = holder {
            ask_holder(global, &agent, &mut case).await;
        }
    } else {
        let local = local_agent(global);
        match ask(global).await {
            Ok(picture) => case.picture = Some(picture),
            Err(error) => {
                // Its own files may say why it does not answer, or why nobody believes this identity.
                let Some(agent) = local else { return Err(error) };
                let text = format!("{}{}", error.message, if error.hint.is_empty() { "" } else { " " });
                case.unreachable =
                    Some(Trouble { word: "failed".into(), detail: String::new(), text: text.trim_end().into() });
                case.local = Some(look(&agent.data, Some(&agent.certs), how).0);
            }
        }
    }
    if case.picture.is_none() {
        probe(global, args, &mut case).await;
    }
    Ok(case)
}

/// The agent on this machine that a command without --addr would ask.
fn local_agent(global: &Global) -> Option<Descriptor> {
    let mut alive = descriptor::find().alive;
    if let Some(addr) = &global.addr {
        return alive.into_iter().find(|agent| agent.addr == *addr || agent.advertise.as_ref() == Some(addr));
    }
    alive.retain(|agent| global.agent.as_ref().is_none_or(|name| agent.name == *name));
    if alive.len() == 1 { alive.pop() } else { None }
}

async fn ask(global: &Global) -> Result<crate::facts::Picture, CliError> {
    let patience = global.timeout.saturating_sub(KEPT).max(global.timeout / 2);
    let global = Global { timeout: patience, ..global.clone() };
    let client =
        find::client(&global, if global.agent.is_some() || global.addr.is_some() { Whom::One } else { Whom::Any })?;
    let answer = client.facts(true).await.map_err(|e| find::error(e, false));
    client.close().await;
    answer
}

/// The agent that holds the directory which was named.
async fn ask_holder(global: &Global, agent: &Descriptor, case: &mut Case) {
    let asked = Global {
        addr: Some(agent.addr.clone()),
        certs: global.certs.clone().or_else(|| Some(agent.certs.clone())),
        agent: None,
        ..global.clone()
    };
    match ask(&asked).await {
        Ok(picture) => case.picture = Some(picture),
        Err(error) => {
            case.unreachable = Some(Trouble { text: error.message, word: "failed".into(), detail: String::new() })
        }
    }
}

/// Asks the last known members of a directory whose agent does not answer, as that agent.
async fn probe(global: &Global, args: &DoctorArgs, case: &mut Case) {
    let Some(local) = &case.local else { return };
    let dir = global.certs.clone().or_else(|| local.certificate.as_ref().map(|own| PathBuf::from(&own.dir)));
    let mut heard: Vec<Heard> = local
        .known
        .iter()
        .map(|(name, node, addr)| Heard {
            node: Some(*node),
            name: name.clone(),
            addr: addr.clone(),
            ..Heard::default()
        })
        .collect();
    let joins = args.join.iter().map(|addr| Heard { name: addr.clone(), addr: addr.clone(), ..Heard::default() });
    heard.extend(joins);
    heard.truncate(PROBES_MAX);
    let Some(rpc) = dir.as_deref().and_then(rpc_client).filter(|_| !heard.is_empty()) else { return };
    let answers = asking::ask_all(&rpc, heard.iter().map(|heard| heard.addr.clone()).collect()).await;
    for (heard, answer) in heard.iter_mut().zip(answers) {
        match answer {
            Ok(facts) => {
                heard.name.clone_from(&facts.name);
                heard.facts = Some(facts);
            }
            Err(trouble) => heard.trouble = Some(trouble),
        }
    }
    case.probes = heard;
}

fn rpc_client(dir: &Path) -> Option<RpcClient> {
    let identity = Arc::new(Identity::load(dir).ok()?);
    RpcClient::new(&identity, env!("CARGO_PKG_VERSION"), 0, Limits::default()).ok()
}

fn object(diagnosis: &Diagnosis) -> DoctorObject<'_> {
    DoctorObject {
        v: 1,
        agent: diagnosis.agent.as_deref(),
        leader: diagnosis.leader.as_deref(),
        healthy: diagnosis.is_healthy(),
        state: &diagnosis.headline,
        findings: diagnosis.findings.iter().map(finding).collect(),
    }
}

fn finding(finding: &Finding) -> FindingObject<'_> {
    FindingObject {
        code: finding.cause.code(),
        severity: finding.severity,
        title: &finding.title,
        about: &finding.about,
        evidence: finding.evidence.join("; "),
        next: &finding.next,
    }
}

/// A few lines for the state, and a block for each finding.
fn screen(diagnosis: &Diagnosis) -> Vec<String> {
    let mark = if diagnosis.is_healthy() { "✓" } else { "✗" };
    let mut lines = Vec::new();
    for (at, line) in diagnosis.headline.iter().enumerate() {
        lines.push(if at == 0 { format!("{mark} {}", printable(line)) } else { format!("  {}", printable(line)) });
    }
    if diagnosis.is_healthy() {
        lines.push("  nothing is wrong, as far as those who answered know".into());
    }
    for finding in &diagnosis.findings {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(format!("{}  {}   [{}]", finding.severity, printable(&finding.title), finding.cause.code()));
        let block = |lead: &str, text: &[String], numbered: bool, lines: &mut Vec<String>| {
            for (at, item) in text.iter().enumerate() {
                let lead = if at == 0 { lead } else { LINE_MORE };
                let number = if numbered { format!("{}) ", at + 1) } else { String::new() };
                lines.push(format!("{lead}{number}{}", printable(item)));
            }
        };
        block(LINE_EVIDENCE, &finding.evidence, false, &mut lines);
        block(LINE_NEXT, &finding.next, true, &mut lines);
    }
    lines
}
