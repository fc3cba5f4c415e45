//! `quorate members`: who is there, and waiting until somebody is (or is not).
//!
//! It never decides who is alive: gossip does, and the answering agent tells its view.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Exit, Ui};
use super::pair;
use crate::client::{Client, Member};
use crate::limits::{check_name, printable, shown};
use clap::Args;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How often the members are looked at while waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Characters of a tag's value in the table.
const VALUE_SHOWN_MAX: usize = 64;
/// The states that gossip tells apart.
const STATES: [&str; 5] = ["alive", "suspect", "leaving", "left", "failed"];
/// The roles in Raft.
const ROLES: [&str; 4] = ["leader", "voter", "learner", "none"];

/// An operator drains it, whatever its state and its role.
const DRAINING: &str = "draining";

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    /// Only this member; exits 8 if it is not known
    #[arg(value_name = "NAME", value_parser = super::name)]
    name: Option<String>,
    /// Only members in this state: alive, suspect, leaving, left or failed
    #[arg(long, env = "QUORATE_STATE", hide_env = true, value_name = "STATE", value_parser = STATES)]
    state: Option<String>,
    /// Only members with this tag; may be given again
    #[arg(long, env = "QUORATE_TAG", hide_env = true, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = pair)]
    tag: Vec<(String, String)>,
    /// Wait until this holds, e.g. alive=3, voters=3, NAME=failed, leader; exits 124 if --timeout passes first
    #[arg(long, env = "QUORATE_WAIT", hide_env = true, value_name = "COND", value_delimiter = ',', value_parser = Condition::parse)]
    wait: Vec<Condition>,
}

/// What `--wait` waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// This many members are in this state.
    InState(String, usize),
    /// This many vote, the leader included.
    Voters(usize),
    /// This many learn.
    Learners(usize),
    /// Somebody leads.
    Leader,
    /// This member is in this state or has this role.
    Is(String, String),
}

impl Condition {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "leader" {
            return Ok(Self::Leader);
        }
        let help = "write alive=3, voters=3, NAME=failed or leader";
        let (left, right) = text.split_once('=').ok_or(help)?;
        if let Ok(n) = right.parse() {
            return match left {
                "voters" => Ok(Self::Voters(n)),
                "learners" => Ok(Self::Learners(n)),
                state if STATES.contains(&state) => Ok(Self::InState(state.into(), n)),
                other => {
                    Err(format!("{} cannot be counted; count voters, learners or {}", shown(other), STATES.join(", ")))
                }
            };
        }
        check_name(left).map_err(|e| e.to_string())?;
        if STATES.contains(&right) || ROLES.contains(&right) || right == DRAINING {
            Ok(Self::Is(left.into(), right.into()))
        } else {
            Err(format!("{} is no state; the states are {}, {}", shown(right), STATES.join(", "), ROLES.join(", ")))
        }
    }

    fn holds(&self, members: &[Member]) -> bool {
        let count = |test: &dyn Fn(&Member) -> bool| members.iter().filter(|member| test(member)).count();
        match self {
            Self::InState(state, n) => count(&|m| m.state == *state) == *n,
            Self::Voters(n) => count(&|m| m.raft == "voter" || m.raft == "leader") == *n,
            Self::Learners(n) => count(&|m| m.raft == "learner") == *n,
            Self::Leader => count(&|m| m.raft == "leader") > 0,
            Self::Is(name, is) => {
                let has = |m: &Member| m.state == *is || m.raft == *is || (m.draining && is == DRAINING);
                count(&|m| m.name == *name && has(m)) > 0
            }
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InState(state, n) => write!(f, "{state}={n}"),
            Self::Voters(n) => write!(f, "voters={n}"),
            Self::Learners(n) => write!(f, "learners={n}"),
            Self::Leader => f.write_str("leader"),
            Self::Is(name, is) => write!(f, "{name}={is}"),
        }
    }
}

#[derive(Serialize)]
struct MembersObject<'a> {
    v: u32,
    members: Vec<MemberObject<'a>>,
}

#[derive(Serialize)]
struct MemberObject<'a> {
    name: &'a str,
    id: String,
    addr: &'a str,
    state: &'a str,
    raft: &'a str,
    lag: Option<u64>,
    rtt_ms: Option<f64>,
    version: &'a str,
    tags: &'a BTreeMap<String, String>,
    draining: bool,
    pinned: Option<&'a str>,
}

/// A tag may be a whole document, which is for `quorate tags` and for JSON.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(VALUE_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// Lists the members, after waiting if that was asked for.
pub(crate) async fn run(global: &Global, args: &MembersArgs, ui: &Ui) -> Result<(), CliError> {
    let deadline = Instant::now() + global.timeout;
    let mut members = if args.wait.is_empty() {
        let client = find::client(global, Whom::Any)?;
        let members = client.members().await.map_err(|e| find::error(e, false))?;
        client.close().await;
        members
    } else {
        wait(global, &args.wait, deadline).await?
    };
    members.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    members.retain(|member| {
        args.name.as_ref().is_none_or(|name| member.name == *name)
            && args.state.as_ref().is_none_or(|state| member.state == *state)
            && args.tag.iter().all(|(key, value)| member.tags.get(key) == Some(value))
    });
    if let Some(name) = args.name.as_ref().filter(|_| members.is_empty()) {
        let what = format!("no member {} is listed (this agent does not know it, or not so)", printable(name));
        return Err(CliError::new(Exit::NotFound, what, "list all with `quorate members`"));
    }
    if ui.is_json() {
        ui.json(&MembersObject { v: 1, members: members.iter().map(object).collect() })
    } else {
        ui.line(&table(&members))
    }
}

/// Looks until every condition holds. That nobody answers yet is a reason to wait, not an error.
async fn wait(global: &Global, conditions: &[Condition], deadline: Instant) -> Result<Vec<Member>, CliError> {
    let mut client: Option<Client> = None;
    let mut last = "no agent has answered".to_owned();
    loop {
        let look = async {
            let current = match &client {
                Some(client) => client,
                None => client.insert(find::client(global, Whom::Any)?),
            };
            current.members().await.map_err(|e| find::error(e, false))
        };
        match timeout_at(deadline, look).await {
            Ok(Ok(members)) => match conditions.iter().find(|condition| !condition.holds(&members)) {
                None => return Ok(members),
                Some(missing) => last = format!("{missing} does not hold yet"),
            },
            Ok(Err(error)) if matches!(error.exit, Exit::Unreachable | Exit::NoQuorum) => last = error.message,
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        if Instant::now() + LOOK_AGAIN >= deadline {
            let what = format!("the wait timed out ({last})");
            return Err(CliError::new(
                Exit::WaitTimeout,
                what,
                "wait longer with --timeout, or look at `quorate status`",
            ));
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn object(member: &Member) -> MemberObject<'_> {
    MemberObject {
        name: &member.name,
        id: format!("{:016x}", member.id),
        addr: &member.addr,
        state: &member.state,
        raft: &member.raft,
        lag: member.lag,
        rtt_ms: member.rtt_ms.map(|ms| (ms * 1_000.0).round() / 1_000.0),
        version: &member.version,
        tags: &member.tags,
        draining: member.draining,
        pinned: member.pinned.as_deref(),
    }
}

fn table(members: &[Member]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["NAME", "ADDRESS", "STATE", "RAFT", "LAG", "RTT", "VERSION", "TAGS"]);
    let dash = || "-".to_owned();
    for member in members {
        let tags: Vec<_> = member.tags.iter().map(|(key, value)| format!("{key}={}", shortened(value))).collect();
        table.add_row([
            printable(&member.name),
            printable(&member.addr),
            printable(&member.state),
            printable(&seat(member)),
            member.lag.map_or_else(dash, |lag| lag.to_string()),
            member.rtt_ms.map_or_else(dash, |ms| format!("{ms:.2}ms")),
            printable(&member.version),
            if tags.is_empty() { dash() } else { printable(&tags.join(",")) },
        ]);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if i == 4 || i == 5 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// What it is in Raft, in one word for a column: `voter`, or `voter,draining`.
fn seat(member: &Member) -> String {
    if member.draining { format!("{},draining", member.raft) } else { member.raft.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, state: &str, raft: &str) -> Member {
        Member {
            name: name.into(),
            id: 0xab,
            addr: "127.0.0.1:7373".into(),
            state: state.into(),
            raft: raft.into(),
            lag: (raft == "voter").then_some(3),
            rtt_ms: Some(0.123_456),
            version: "0.1.0".into(),
            tags: [("rack".to_owned(), "r1".to_owned())].into(),
            draining: false,
            pinned: None,
        }
    }

    #[test]
    fn conditions_read_and_hold_as_written() {
        let members = [member("a", "alive", "leader"), member("b", "alive", "voter"), member("c", "failed", "voter")];
        for (text, holds) in [
            ("leader", true),
            ("alive=2", true),
            ("alive=3", false),
            ("failed=1", true),
            ("left=0", true),
            ("voters=3", true),
            ("learners=1", false),
            ("c=failed", true),
            ("c=alive", false),
            ("a=leader", true),
            ("nobody=alive", false),
        ] {
            let condition = Condition::parse(text).unwrap();
            assert_eq!(condition.to_string(), text);
            assert_eq!(condition.holds(&members), holds, "{text}");
        }
        for bad in ["", "alive", "alive=", "cats=3", "c=dead", "C=failed", "=3", "alive=-1"] {
            assert!(Condition::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_and_the_object_are_the_contract() {
        let members = [member("a", "alive", "leader"), member("b\u{1b}", "suspect", "voter")];
        let said = table(&members);
        let lines: Vec<_> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "NAME ADDRESS STATE RAFT LAG RTT VERSION TAGS",
                "a 127.0.0.1:7373 alive leader - 0.12ms 0.1.0 rack=r1",
                "b\\u{1b} 127.0.0.1:7373 suspect voter 3 0.12ms 0.1.0 rack=r1",
            ]
        );
        let json = serde_json::to_string(&object(&members[1])).unwrap();
        assert_eq!(
            json,
            r#"{"name":"b\u001b","id":"00000000000000ab","addr":"127.0.0.1:7373","state":"suspect","raft":"voter","lag":3,"rtt_ms":0.123,"version":"0.1.0","tags":{"rack":"r1"},"draining":false,"pinned":null}"#
        );
    }
}
