//! A client that appends small records on a schedule, whatever becomes of those before. It judges nothing.

use quorate::client::Client;
use quorate::record::Record;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

/// Between two appends.
const EVERY: Duration = Duration::from_millis(2);
const RECORD_BYTES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the appends.
#[derive(Default)]
pub(crate) struct Seen {
    /// When each was due, and how long after that it was acknowledged.
    acked: Vec<(Instant, Duration)>,
    pub(crate) failed: usize,
}

impl Seen {
    /// How long those took that were due in this stretch.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<Duration> {
        self.acked.iter().filter(|(due, _)| (from..to).contains(due)).map(|(_, took)| *took).collect()
    }
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Load {
    pub(crate) fn on(client: Client, handle: &Handle) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let task = handle.spawn(run(client, Arc::clone(&stop), Arc::clone(&seen)));
        Self { stop, seen, task }
    }

    /// Waits for the answers under way.
    pub(crate) fn stop(self, handle: &Handle) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        handle.block_on(self.task).unwrap();
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn run(client: Client, stop: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let mut appends = JoinSet::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due += EVERY;
        tokio::time::sleep_until(due.into()).await;
        let (client, seen) = (client.clone(), Arc::clone(&seen));
        appends.spawn(async move {
            let done = client.append_within(&[Record::of(vec![b'.'; RECORD_BYTES])], PATIENCE).await;
            let mut seen = seen.lock().unwrap();
            match done {
                Ok(_) => seen.acked.push((due, due.elapsed())),
                Err(_) => seen.failed += 1,
            }
        });
        while appends.try_join_next().is_some() {}
    }
    appends.join_all().await;
    client.close().await;
}
