//! The disk threads: one writes and syncs in groups, one reads what is no longer in memory.
//!
//! They decide nothing. A failed write or sync of a file in use ends the process: after it nobody knows what the disk
//! holds, and only a restart reads what is really there.

use quorate_raft::wal::{Batch, Entry, Error, Reader, Writer};
use quorate_raft::{LogIndex, PersistTicket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc as async_mpsc, oneshot};

/// Writes that are synced together at most.
const GROUP_MAX: usize = 1024;
/// Between two tries to get room for the next segment.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// What the disk tells the loop.
#[derive(Debug)]
pub(super) enum Done {
    /// Everything up to this write is durable.
    Written(PersistTicket),
    /// A write contradicts the log; it and all after it were not written.
    Refused { why: String },
    /// The entries of a read for the node.
    Fetched { token: u64, entries: Vec<Entry> },
}

/// A write to be made durable.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: PersistTicket,
    pub(super) batch: Batch,
}

/// A read.
pub(super) enum Read {
    /// For the node.
    Fetch { token: u64, from: LogIndex, to: LogIndex, bytes_max: usize },
    /// For a tail: any question to the reader.
    Query(Box<dyn FnOnce(&Reader) + Send>),
}

/// The way to the disk threads.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    jobs: mpsc::Sender<Job>,
    reads: mpsc::Sender<Read>,
    stopping: Arc<AtomicBool>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Read")
    }
}

impl Disk {
    /// Starts both threads. They end when every handle is dropped.
    pub(super) fn start(
        writer: Writer,
        reader: Reader,
        done: async_mpsc::UnboundedSender<Done>,
    ) -> std::io::Result<(Self, Vec<thread::JoinHandle<()>>)> {
        let (jobs, job_queue) = mpsc::channel();
        let (reads, read_queue) = mpsc::channel();
        let told = done.clone();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let write =
            thread::Builder::new().name("disk".into()).spawn(move || write_loop(writer, &job_queue, &told, &stop))?;
        let read =
            thread::Builder::new().name("reader".into()).spawn(move || read_loop(&reader, &read_queue, &done))?;
        Ok((Self { jobs, reads, stopping }, vec![write, read]))
    }

    /// The agent stops: a write that waits for room is given up. It was never acknowledged.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Queues a write.
    pub(super) fn write(&self, job: Job) {
        // The thread lives as long as this handle; if it died, the process is about to.
        let _ = self.jobs.send(job);
    }

    /// Queues a read.
    pub(super) fn read(&self, read: Read) {
        let _ = self.reads.send(read);
    }

    /// Asks the reader something and waits for the answer.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, waiting) = oneshot::channel();
        self.read(Read::Query(Box::new(move |reader| drop(answer.send(question(reader))))));
        waiting.await.unwrap_or(Err(Error::Missing))
    }
}

/// How a write ended.
enum Ended {
    Written,
    /// The agent stopped first.
    GivenUp,
    /// The log would contradict itself.
    Refused(String),
}

fn write_loop(
    mut writer: Writer,
    jobs: &mpsc::Receiver<Job>,
    done: &async_mpsc::UnboundedSender<Done>,
    stopping: &AtomicBool,
) {
    while let Ok(first) = jobs.recv() {
        let mut newest = None;
        let mut end = None;
        // Whatever came while the last sync ran shares the next one.
        for job in std::iter::once(first).chain(jobs.try_iter().take(GROUP_MAX)) {
            // What is written before one that has to wait for room is not made to wait along.
            let meanwhile = |writer: &mut Writer| make_durable(writer, newest.take(), done);
            match write_one(&mut writer, &job.batch, stopping, meanwhile) {
                Ended::Written => newest = Some(job.ticket),
                other => {
                    end = Some(other);
                    break;
                }
            }
        }
        make_durable(&mut writer, newest, done);
        match end {
            // A later write must not stand on one that is missing: this thread writes no more.
            Some(Ended::Refused(why)) => {
                let _ = done.send(Done::Refused { why });
                return;
            }
            Some(_) => return,
            None => {}
        }
    }
}

/// One sync for all that was written, and only then a word about it.
fn make_durable(writer: &mut Writer, newest: Option<PersistTicket>, done: &async_mpsc::UnboundedSender<Done>) {
    let Some(newest) = newest else { return };
    if let Err(error) = writer.sync() {
        fatal("sync the log", &error);
    }
    // A loop that is gone has nobody to tell.
    let _ = done.send(Done::Written(newest));
}

fn write_one(
    writer: &mut Writer,
    batch: &Batch,
    stopping: &AtomicBool,
    mut meanwhile: impl FnMut(&mut Writer),
) -> Ended {
    let mut told = false;
    loop {
        match writer.write(batch) {
            Ok(()) => return Ended::Written,
            // Nothing was written: the same batch can be tried again once there is room.
            Err(error) if error.is_retriable() => {
                if stopping.load(Ordering::Relaxed) {
                    return Ended::GivenUp;
                }
                meanwhile(writer);
                if !told {
                    tracing::error!("{error}; appends wait until then");
                    told = true;
                }
                thread::sleep(FULL_PAUSE);
            }
            Err(error @ (Error::Refused(_) | Error::RefusedEntry { .. })) => return Ended::Refused(error.to_string()),
            Err(error) => fatal("write the log", &error),
        }
    }
}

/// Nothing after this point may be acknowledged, so nothing runs after this point.
fn fatal(action: &str, error: &Error) -> ! {
    tracing::error!(
        "cannot {action}: {error}; the agent aborts and reads what the disk really holds at its next start"
    );
    std::process::abort();
}

fn read_loop(reader: &Reader, reads: &mpsc::Receiver<Read>, done: &async_mpsc::UnboundedSender<Done>) {
    while let Ok(read) = reads.recv() {
        match read {
            Read::Query(question) => question(reader),
            Read::Fetch { token, from, to, bytes_max } => {
                let entries = reader.read(from, to, bytes_max).unwrap_or_else(|error| {
                    tracing::error!("cannot read entries {from}..={to}: {error}");
                    Vec::new()
                });
                if done.send(Done::Fetched { token, entries }).is_err() {
                    return;
                }
            }
        }
    }
}
