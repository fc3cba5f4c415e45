//! `quorate autopilot`: what it goes by, what it sees, and why an agent is what it is.
//!
//! It explains nothing by itself: the leader says why.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui, time};
use crate::api::{AutopilotDecision, AutopilotMember, AutopilotState};
use crate::limits::{check_name, printable};
use clap::{Args, Subcommand};
use comfy_table::Table;
use serde::Serialize;
use std::collections::BTreeMap;

/// What about it.
#[derive(Debug, Subcommand)]
pub(crate) enum AutopilotCommand {
    /// Show its settings, after setting some
    Config(ConfigArgs),
    /// Show each agent as it sees it, the role that it should have, and its newest decisions
    State,
    /// Show why an agent has its role, or does not have another one
    Explain(ExplainArgs),
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Set this for the whole cluster, e.g. replace_after=5m; may be given again
    #[arg(long, env = "QUORATE_SET", hide_env = true, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The agent
    #[arg(value_name = "NAME")]
    name: String,
}

/// `key=value`; the value may be empty.
fn assignment(text: &str) -> Result<(String, String), String> {
    super::pair(text)
}

#[derive(Serialize)]
struct ConfigObject<'a> {
    v: u32,
    settings: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct StateObject<'a> {
    v: u32,
    leader: &'a str,
    term: u64,
    leads_ms: u64,
    feature_level: u32,
    supports: u32,
    voters_target: u32,
    step: Option<&'a str>,
    members: Vec<MemberObject<'a>>,
    decisions: Vec<DecisionObject<'a>>,
}

#[derive(Serialize)]
struct ExplainObject<'a> {
    v: u32,
    #[serde(flatten)]
    member: MemberObject<'a>,
    decisions: Vec<DecisionObject<'a>>,
}

#[derive(Serialize)]
struct MemberObject<'a> {
    name: &'a str,
    id: String,
    raft: &'a str,
    healthy: bool,
    stable_ms: u64,
    gone_ms: Option<u64>,
    flaps: u32,
    zone: Option<&'a str>,
    version: &'a str,
    supports: Option<u32>,
    should: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct DecisionObject<'a> {
    number: u64,
    time: String,
    rule: &'a str,
    what: &'a str,
    inputs: &'a str,
    outcome: &'a str,
}

impl<'a> From<&'a AutopilotMember> for MemberObject<'a> {
    fn from(m: &'a AutopilotMember) -> Self {
        Self {
            name: &m.name,
            id: format!("{:016x}", m.id),
            raft: &m.raft,
            healthy: m.healthy,
            stable_ms: m.stable_ms,
            gone_ms: m.gone_ms,
            flaps: m.flaps,
            zone: m.zone.as_deref(),
            version: &m.version,
            supports: m.supports,
            should: &m.should,
            why: &m.why,
        }
    }
}

impl<'a> From<&'a AutopilotDecision> for DecisionObject<'a> {
    fn from(d: &'a AutopilotDecision) -> Self {
        let AutopilotDecision { number, time_us, rule, what, inputs, outcome } = d;
        Self { number: *number, time: time(*time_us, 6), rule, what, inputs, outcome }
    }
}

/// Asks the leader, wherever it is.
pub(crate) async fn run(global: &Global, command: AutopilotCommand, ui: &Ui) -> Result<(), CliError> {
    match command {
        AutopilotCommand::Config(args) => config(global, args, ui).await,
        AutopilotCommand::State => state(global, ui).await,
        AutopilotCommand::Explain(args) => explain(global, &args.name, ui).await,
    }
}

async fn config(global: &Global, args: ConfigArgs, ui: &Ui) -> Result<(), CliError> {
    let writes = !args.set.is_empty();
    let client = find::client(global, Whom::Any)?;
    let settings = client
        .autopilot_config(args.set)
        .await
        .map_err(|e| if writes { find::error_of_wish(e) } else { find::error(e, false) })?;
    if ui.is_json() {
        let settings = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        ui.json(&ConfigObject { v: 1, settings })?;
    } else {
        let widest = settings.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        for (key, value) in &settings {
            ui.line(&format!("{key:widest$}  {}", printable(value)))?;
        }
    }
    client.close().await;
    Ok(())
}

async fn state(global: &Global, ui: &Ui) -> Result<(), CliError> {
    let client = find::client(global, Whom::Any)?;
    let state = client.autopilot_state().await.map_err(|e| find::error(e, false))?;
    if ui.is_json() {
        ui.json(&StateObject {
            v: 1,
            leader: &state.leader,
            term: state.term,
            leads_ms: state.leads_ms,
            feature_level: state.level,
            supports: state.supports,
            voters_target: state.voters_target,
            step: state.step.as_deref(),
            members: state.members.iter().map(MemberObject::from).collect(),
            decisions: state.decisions.iter().map(DecisionObject::from).collect(),
        })?;
    } else {
        screen(&state).iter().try_for_each(|line| ui.line(line))?;
    }
    client.close().await;
    Ok(())
}

async fn explain(global: &Global, name: &str, ui: &Ui) -> Result<(), CliError> {
    check_name(name).map_err(|e| CliError::new(Exit::Usage, e.to_string(), "list names with `quorate members`"))?;
    let client = find::client(global, Whom::Any)?;
    let explained = client.autopilot_explain(name).await.map_err(|e| find::error(e, false))?;
    let member = &explained.member;
    if ui.is_json() {
        let decisions = explained.decisions.iter().map(DecisionObject::from).collect();
        ui.json(&ExplainObject { v: 1, member: member.into(), decisions })?;
    } else {
        let MemberObject { name, raft, should, why, .. } = member.into();
        let wish = if raft == "leader" && should == "voter" || raft == should {
            String::new()
        } else {
            format!(", should be {}", printable(should))
        };
        ui.line(&format!("{} is {}{wish}: {}", printable(name), printable(raft), printable(why)))?;
        ui.line(&format!(
            "healthy {}, stable {}, flaps {}, zone {}, version {}",
            if member.healthy { "yes" } else { "no" },
            seconds(member.stable_ms),
            member.flaps,
            member.zone.as_deref().map_or_else(|| "-".into(), printable),
            printable(&member.version),
        ))?;
        decisions(&explained.decisions).iter().try_for_each(|line| ui.line(line))?;
    }
    client.close().await;
    Ok(())
}

fn seconds(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{:.1}s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}

fn screen(state: &AutopilotState) -> Vec<String> {
    let mut lines = vec![format!(
        "{} leads in term {} for {}; feature level {} ({} supported); up to {} voters",
        printable(&state.leader),
        state.term,
        seconds(state.leads_ms),
        state.level,
        state.supports,
        state.voters_target,
    )];
    lines.extend(state.step.as_ref().map(|step| format!("under way: {}", printable(step))));
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["NAME", "RAFT", "SHOULD", "HEALTHY", "STABLE", "FLAPS", "ZONE", "VERSION", "WHY"]);
    for m in &state.members {
        table.add_row([
            printable(&m.name),
            printable(&m.raft),
            printable(&m.should),
            if m.healthy { "yes".into() } else { "no".into() },
            seconds(m.stable_ms),
            m.flaps.to_string(),
            m.zone.as_deref().map_or_else(|| "-".into(), printable),
            printable(&m.version),
            printable(&m.why),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    lines.extend(table.trim_fmt().lines().map(str::to_owned));
    lines.extend(decisions(&state.decisions));
    lines
}

/// Decisions in two lines each, the newest first.
fn decisions(decisions: &[AutopilotDecision]) -> Vec<String> {
    let lines = decisions.iter().flat_map(|d| {
        let (rule, what, outcome) = (printable(&d.rule), printable(&d.what), printable(&d.outcome));
        [format!("{}  {rule}: {what}: {outcome}", time(d.time_us, 3)), format!("    {}", printable(&d.inputs))]
    });
    lines.collect()
}
