//! What `drain`, `remove`, `promote` and `demote` share: a request, progress at stderr while it is under way, the end.
//!
//! It never decides whether something is safe: the leader does.

use super::Global;
use super::find::{self, Whom};
use super::output::{CliError, Ui};
use crate::client::{Client, Member, Operated, Verb};
use crate::limits::printable;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// What is over sooner needs no words about its progress.
const SPEAK_AFTER: Duration = Duration::from_millis(300);
/// Between two looks at the members while something is under way.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Asks for it, says at stderr how it gets on, and answers what came of it. `others` are spoken of as well.
pub(super) async fn operate(
    global: &Global,
    ui: &Ui,
    name: &str,
    verb: Verb,
    others: &[&str],
) -> Result<Operated, CliError> {
    let client = find::client(global, Whom::Any)?;
    let about: Vec<&str> = std::iter::once(name).chain(others.iter().copied()).collect();
    let done = tokio::select! {
        done = client.operate(name, verb) => done,
        () = watch(&client, ui, &about) => unreachable!("it watches for ever"),
    };
    client.close().await;
    done.map_err(find::error_of_wish)
}

/// Tells of every change of leader and seats, until it is dropped.
async fn watch(client: &Client, ui: &Ui, about: &[&str]) {
    let mut before: Option<Picture> = None;
    sleep(SPEAK_AFTER).await;
    loop {
        if let Ok(members) = client.members().await {
            let now = Picture::of(&members, about);
            for line in now.news(before.as_ref()) {
                ui.note(&line);
            }
            before = Some(now);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// What a person wants to know while waiting.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    leader: Option<String>,
    /// By name: its seat, and how many entries it is behind.
    seats: BTreeMap<String, (String, Option<u64>)>,
}

impl Picture {
    fn of(members: &[Member], about: &[&str]) -> Self {
        let leader = members.iter().find(|m| m.raft == "leader").map(|m| m.name.clone());
        // A former disk of the same name may be listed beside the one that is here.
        let is_here = |m: &&Member| matches!(m.state.as_str(), "alive" | "suspect");
        let meant = || members.iter().filter(|m| about.contains(&m.name.as_str()));
        let meant = meant().filter(|m| !is_here(m)).chain(meant().filter(is_here));
        Self { leader, seats: meant.map(|m| (m.name.clone(), (m.raft.clone(), m.lag))).collect() }
    }

    fn news(&self, before: Option<&Self>) -> Vec<String> {
        let mut news = Vec::new();
        if before.is_none_or(|b| b.leader != self.leader) {
            news.push(match &self.leader {
                Some(leader) => format!("{} leads", printable(leader)),
                None => "no leader".to_owned(),
            });
        }
        for (name, (raft, lag)) in &self.seats {
            let same = before.and_then(|b| b.seats.get(name)).is_some_and(|(r, l)| r == raft && l == lag);
            // A leader says of itself what has been said.
            if !same && raft != "leader" {
                let behind = match lag {
                    Some(lag) if *lag > 0 => format!(", {lag} entries behind"),
                    _ => String::new(),
                };
                let seat = if raft == "none" { "neither voter nor learner" } else { raft };
                news.push(format!("{} is {}{behind}", printable(name), printable(seat)));
            }
        }
        news
    }
}

/// `voters a, b and c; the cluster tolerates 1 failure now`, for the end of what a command says.
pub(super) fn tolerance(done: &Operated) -> String {
    match done.tolerates {
        0 => "the cluster tolerates 0 failures now".to_owned(),
        1 => "the cluster tolerates 1 failure now".to_owned(),
        n => format!("the cluster tolerates {n} failures now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, raft: &str, lag: Option<u64>) -> Member {
        Member {
            name: name.into(),
            id: 1,
            addr: "127.0.0.1:1".into(),
            state: "alive".into(),
            raft: raft.into(),
            lag,
            rtt_ms: None,
            version: "0.1.0".into(),
            tags: BTreeMap::new(),
            draining: false,
            pinned: None,
        }
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let picture = |members: &[Member]| Picture::of(members, &["b", "d"]);
        let first =
            picture(&[member("a", "leader", None), member("b", "voter", Some(0)), member("d", "learner", Some(9))]);
        assert_eq!(first.news(None), ["a leads", "b is voter", "d is learner, 9 entries behind"]);
        assert!(first.news(Some(&first)).is_empty());
        let next = picture(&[member("b", "none", None), member("d", "leader", None)]);
        assert_eq!(next.news(Some(&first)), ["d leads", "b is neither voter nor learner"]);
        assert_eq!(picture(&[]).news(Some(&next)), ["no leader"]);
        let former = Member { state: "failed".into(), ..member("b", "none", None) };
        let twice = picture(&[member("b", "voter", Some(0)), former]);
        assert_eq!(twice.news(None), ["no leader", "b is voter"]);
    }
}
