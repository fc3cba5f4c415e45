//! What each agent says of itself, asked again and again, past the proxy: who leads, who is whole.
//!
//! It never judges by it: the checker believes only what clients saw.

use super::fleet::Directory;
use crate::api::Status;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Between two questions.
const EVERY: Duration = Duration::from_millis(200);
/// How long an answer may take. Who is stopped does not answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What an agent answered, and in which life.
#[derive(Clone)]
struct Answer {
    life: u64,
    status: Status,
}

/// The last answer of each agent.
pub(super) struct Watch {
    last: Arc<Mutex<Vec<Option<Answer>>>>,
    /// By agent and life, how many entries it had from others in place of damaged ones.
    repaired: Arc<Mutex<BTreeMap<(usize, u64), u64>>>,
    directory: Arc<Directory>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn begin(directory: &Arc<Directory>) -> Self {
        let agents = directory.public.len();
        let last = Arc::new(Mutex::new(vec![None; agents]));
        let repaired = Arc::new(Mutex::new(BTreeMap::new()));
        let begin = |agent| tokio::spawn(ask(agent, directory.clone(), last.clone(), repaired.clone()));
        let tasks = (0..agents).map(begin).collect();
        Self { last, repaired, directory: directory.clone(), tasks }
    }

    /// What the agents said last, those that answer. What an earlier life said is not true any more.
    fn all(&self) -> Vec<Option<Status>> {
        let last = lock(&self.last).clone();
        let now = |(agent, answer): (usize, Option<Answer>)| {
            answer.filter(|answer| answer.life == self.directory.life(agent)).map(|answer| answer.status)
        };
        last.into_iter().enumerate().map(now).collect()
    }

    /// What this agent said last in this life, if it answers.
    pub(super) fn of(&self, agent: usize) -> Option<Status> {
        self.all().swap_remove(agent)
    }

    /// Who leads: whoever says so in the highest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let all = self.all().into_iter().enumerate();
        let leaders = all.filter_map(|(agent, status)| status.filter(|s| s.raft == "leader").map(|s| (s.term, agent)));
        leaders.max().map(|(_, agent)| agent)
    }

    /// The highest commit index that any agent knows of.
    pub(super) fn committed(&self) -> u64 {
        self.all().iter().flatten().map(|status| status.committed_index).max().unwrap_or(0)
    }

    /// The end of the log that any agent knows of.
    pub(super) fn next(&self) -> u64 {
        self.all().iter().flatten().map(|status| status.next).max().unwrap_or(0)
    }

    /// Entries that agents had from others in place of damaged ones. What a life repaired just before it ended is not heard of.
    pub(super) fn repaired(&self) -> u64 {
        lock(&self.repaired).values().sum()
    }

    /// What keeps this agent from being a whole voter that holds what was committed at `goal`; `None` if nothing does.
    pub(super) fn lacks(&self, agent: usize, goal: u64) -> Option<String> {
        let Some(status) = self.of(agent) else { return Some("it does not answer".into()) };
        if status.raft != "voter" && status.raft != "leader" {
            return Some(format!("it is {}", status.raft));
        }
        if status.leader.is_none() {
            return Some("it knows no leader".into());
        }
        if status.committed_index < goal || status.applied_index < goal {
            return Some(format!("it has applied {} of {goal}", status.applied_index));
        }
        match (status.disk.damaged_ranges, status.disk.suspect) {
            (0, None) => None,
            (0, Some(end)) => Some(format!("its disk lacks the end of what it acknowledged, up to {end}")),
            (ranges, _) => Some(format!("{ranges} ranges of its log are damaged")),
        }
    }

    /// In a line: who leads in which term, and how far the log is.
    pub(super) fn line(&self, names: &[String]) -> String {
        let leader = self.leader();
        let term = leader.and_then(|leader| self.of(leader)).map_or(0, |status| status.term);
        let leader = leader.map_or("nobody", |leader| names[leader].as_str());
        format!("{leader} leads in term {term}, {} records", self.next())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(
    agent: usize,
    directory: Arc<Directory>,
    last: Arc<Mutex<Vec<Option<Answer>>>>,
    repaired: Arc<Mutex<BTreeMap<(usize, u64), u64>>>,
) {
    let mut life = directory.life(agent);
    let mut client = directory.operator(agent, ANSWER).ok();
    loop {
        let asked = Instant::now();
        let answer = match &client {
            Some(client) => client.status().await.ok(),
            None => None,
        };
        if let Some(entries) = answer.as_ref().map(|status| status.disk.repaired_entries).filter(|entries| *entries > 0)
        {
            lock(&repaired).insert((agent, life), entries);
        }
        lock(&last)[agent] = answer.map(|status| Answer { life, status });
        sleep(EVERY.saturating_sub(asked.elapsed())).await;
        // Another life may listen at another port.
        if directory.life(agent) != life || client.is_none() {
            life = directory.life(agent);
            client = directory.operator(agent, ANSWER).ok();
        }
    }
}
