//! The disk threads: one writes and syncs in groups, two read what is no longer in memory (for this agent and its clients, and
//! for members that need much), one writes damaged segments anew, one looks for damage, one saves checkpoints.
//!
//! They decide nothing. A failed write or sync of a file in use ends the process: after it nobody knows what the disk
//! holds, and only a restart reads what is really there.

use super::fatal::fatal;
use super::mend::{self, Piece};
use super::priority;
use super::reads::{self, Fetch, Read};
use super::scrub::Scrub;
use crate::api::ScrubState;
use crate::checkpoint::{Checkpoint, Store};
use crate::node::{FetchFor, RepairFailed};
use quorate_raft::wal::{Batch, DamagedRange, Entry, Error, Proven, Queue, Reader, Repaired, Space, Writer};
use quorate_raft::{LogIndex, PersistTicket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc as async_mpsc, oneshot};

/// Writes that are synced together at most.
const GROUP_MAX: usize = 1024;
/// After so long without a write the log notes how far it is durable: long enough that a busy log never does.
const IDLE: Duration = Duration::from_millis(100);
/// Between two tries of a write that found no room.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// A write that cannot go on behind an entry that cannot be read waits so long for its repair; then the agent aborts, and its
/// next start, which reads all that a truncation can reach, knows of the damage before it follows anybody.
const REPAIR_PATIENCE: Duration = Duration::from_secs(60);
/// An idle disk is asked for its room this often: somebody else may fill it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A busy one is not asked more often than this; what the fastest disk takes meanwhile fits into the reserve.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Less of a difference is no news.
const NEWS_BYTES: u64 = 1 << 20;

/// What the disk tells the loop.
#[derive(Debug)]
pub(super) enum Done {
    /// Everything up to this write is durable.
    Written(PersistTicket),
    /// Term and vote of every write up to this one are durable; entries wait for room.
    HardStateWritten(PersistTicket),
    /// So much room there is; a write waits for more, or none does.
    Space { space: Space, waits: bool },
    /// A write contradicts the log; it and all after it were not written.
    Refused { why: String },
    /// What became of a checkpoint.
    Checkpointed { index: LogIndex, result: Result<u64, String> },
    /// The entries of a read for the node.
    Fetched { token: u64, entries: Vec<Entry> },
    /// What cannot be read has changed.
    Damaged { ranges: Vec<DamagedRange> },
    /// Entries were given back to a damaged range, or do not fit.
    Repaired { id: u64, result: Result<Repaired, RepairFailed> },
}

/// A write to be made durable.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: PersistTicket,
    pub(super) batch: Batch,
}

/// What the writing thread is told.
#[derive(Debug)]
enum Order {
    Write(Job),
    /// So that the segment which takes frames can be repaired.
    EndSegment {
        done: mpsc::Sender<Result<(), RepairFailed>>,
    },
    /// A repair is proven.
    Mend {
        id: u64,
        proven: Proven,
    },
}

/// The way to the disk threads.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    jobs: mpsc::Sender<Order>,
    checkpoints: mpsc::Sender<Box<Checkpoint>>,
    reads: mpsc::Sender<Read>,
    /// For members that need much.
    bulk_reads: mpsc::Sender<Read>,
    pieces: mpsc::Sender<Piece>,
    stopping: Arc<AtomicBool>,
    scrub: Arc<Scrub>,
}

impl Disk {
    /// Starts the threads. They end when every handle is dropped, and the one that scrubs at the latest when told to stop.
    /// `scrub_rate`: bytes a second that may be read to look for damage; zero for none.
    pub(super) fn start(
        writer: Writer,
        reader: Reader,
        scrub_rate: u64,
        store: Result<Store, String>,
        done: async_mpsc::UnboundedSender<Done>,
    ) -> std::io::Result<(Self, Vec<thread::JoinHandle<()>>)> {
        let (jobs, job_queue) = mpsc::channel();
        let (reads, read_queue) = mpsc::channel();
        let (bulk_reads, bulk_queue) = mpsc::channel();
        let (pieces, piece_queue) = mpsc::channel();
        let (checkpoints, checkpoint_queue) = mpsc::channel();
        let (told, saved, mended) = (done.clone(), done.clone(), done.clone());
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let damage = Arc::new(Damage::new(reader.clone(), done.clone()));
        let scrub = Arc::new(Scrub::new(scrub_rate));
        let (written, seen) = (Arc::clone(&damage), Arc::clone(&damage));
        let syncs = Arc::clone(&scrub);
        let repairer = writer.repairer();
        let mut threads = Vec::with_capacity(6);
        if scrub_rate > 0 {
            // It holds nothing that keeps the agent alive.
            let (state, alive, reader) = (Arc::clone(&scrub), Arc::downgrade(&stopping), reader.clone());
            let body = move || {
                priority::give_way();
                state.run(&reader, &alive, || damage.look());
            };
            threads.push(thread::Builder::new().name("scrub".into()).spawn(body)?);
        }
        let body = move || {
            let (damage, syncs, done) = (&*written, &*syncs, told);
            let queue = Queue::default();
            let writing =
                Writing { writer, queue, damage, syncs, done, retry_at: None, stuck: None, told: None, looked: None };
            write_loop(writing, &job_queue, &stop);
        };
        threads.push(thread::Builder::new().name("disk".into()).spawn(body)?);
        for (name, queue) in [("reader", read_queue), ("bulk", bulk_queue)] {
            let (reader, seen, done) = (reader.clone(), Arc::clone(&seen), done.clone());
            let fetched = move |token, entries| done.send(Done::Fetched { token, entries }).is_ok();
            let body = move || {
                if name == "bulk" {
                    priority::give_way();
                }
                reads::serve(&reader, &queue, || seen.look(), fetched);
            };
            threads.push(thread::Builder::new().name(name.into()).spawn(body)?);
        }
        let writing = Mending(jobs.clone());
        let body = move || {
            priority::give_way();
            mend::serve(repairer, &piece_queue, &writing, |id, result| {
                let _ = mended.send(Done::Repaired { id, result: result.map(Repaired::Wants) });
            });
        };
        threads.push(thread::Builder::new().name("repair".into()).spawn(body)?);
        let body = move || save_loop(&store, &checkpoint_queue, &saved);
        threads.push(thread::Builder::new().name("checkpoint".into()).spawn(body)?);
        Ok((Self { jobs, checkpoints, reads, bulk_reads, pieces, stopping, scrub }, threads))
    }

    /// How the scrubber gets on.
    pub(super) fn scrubbed(&self) -> ScrubState {
        self.scrub.state()
    }

    /// Queues a repair.
    pub(super) fn repair(&self, id: u64, entries: Vec<Entry>) {
        let _ = self.pieces.send(Piece { id, entries });
    }

    /// The agent stops: a write that waits for room is given up. It was never acknowledged.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Queues a write.
    pub(super) fn write(&self, job: Job) {
        // The thread lives as long as this handle; if it died, the process is about to.
        let _ = self.jobs.send(Order::Write(job));
    }

    /// Queues a checkpoint.
    pub(super) fn checkpoint(&self, checkpoint: Box<Checkpoint>) {
        let _ = self.checkpoints.send(checkpoint);
    }

    /// Queues a read.
    pub(super) fn read(&self, read: Read) {
        let is_bulk = matches!(&read, Read::Fetch(Fetch { whom: FetchFor::CatchUp | FetchFor::Repair, .. }));
        let _ = if is_bulk { &self.bulk_reads } else { &self.reads }.send(read);
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

/// What the node was last told of the damage.
struct Damage {
    reader: Reader,
    told: Mutex<Vec<DamagedRange>>,
    done: async_mpsc::UnboundedSender<Done>,
}

impl Damage {
    fn new(reader: Reader, done: async_mpsc::UnboundedSender<Done>) -> Self {
        let told = Mutex::new(reader.damaged());
        Self { reader, told, done }
    }

    /// Tells the node if something has changed.
    fn look(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = self.reader.damaged();
        if *told != ranges {
            told.clone_from(&ranges);
            let _ = self.done.send(Done::Damaged { ranges });
        }
    }
}

/// The thread that writes.
struct Writing<'a> {
    writer: Writer,
    queue: Queue,
    damage: &'a Damage,
    syncs: &'a Scrub,
    done: async_mpsc::UnboundedSender<Done>,
    /// The first write waits for room, and is tried again then.
    retry_at: Option<Instant>,
    /// It waits for a repair instead, since then.
    stuck: Option<Instant>,
    /// What the loop was told last, and when the system was asked last.
    told: Option<(Space, bool)>,
    looked: Option<Instant>,
}

fn write_loop(mut writing: Writing<'_>, orders: &mpsc::Receiver<Order>, stopping: &AtomicBool) {
    let mut idle = true;
    loop {
        writing.look();
        let patience = match (writing.retry_at, idle) {
            (Some(_), _) => FULL_PAUSE,
            (None, false) => IDLE,
            (None, true) => LOOK_EVERY,
        };
        let first = match orders.recv_timeout(patience) {
            Ok(first) => Some(first),
            Err(mpsc::RecvTimeoutError::Timeout) if writing.queue.is_empty() => {
                if !std::mem::replace(&mut idle, true) {
                    writing.writer.mark_idle();
                }
                continue;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            // What waits for room when the agent stops was never acknowledged.
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        idle = false;
        let mut aside = None;
        // Whatever came while the last sync ran shares the next one.
        for order in first.into_iter().chain(orders.try_iter().take(GROUP_MAX)) {
            match order {
                Order::Write(Job { ticket, batch }) => writing.queue.push(ticket, batch),
                other => {
                    aside = Some(other);
                    break;
                }
            }
        }
        if let Err(why) = writing.turn() {
            // A later write must not stand on one that is missing: this thread writes no more.
            let _ = writing.done.send(Done::Refused { why });
            return;
        }
        if let Some(order) = aside {
            writing.help_to_repair(order);
        }
        if writing.retry_at.is_some() && stopping.load(Ordering::Relaxed) {
            break;
        }
    }
    // Whatever is damaged at the next start was durable before. If this fails, the next start is one after a crash.
    if let Err(error) = writing.writer.close() {
        tracing::warn!("the log is not closed: {error}");
    }
}

impl Writing<'_> {
    /// Writes what can be written, syncs it, and lets votes overtake what cannot. An error says why the log refuses.
    fn turn(&mut self) -> Result<(), String> {
        if self.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.write()?;
        }
        if self.retry_at.is_some() {
            match self.queue.overtake(&mut self.writer) {
                Ok(Some((ticket, _))) => drop(self.done.send(Done::HardStateWritten(ticket))),
                Ok(None) => {}
                Err(error) => fatal("write term and vote", &error),
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        let waited = self.retry_at.take().is_some();
        let (mut newest, mut refused, mut truncated) = (None, None, false);
        let stuck = self.stuck.take();
        while let Some(written) = self.queue.write_next(&mut self.writer) {
            match written {
                Ok((ticket, batch)) => {
                    newest = Some(ticket);
                    truncated |= batch.truncate_from.is_some();
                }
                // Nothing of it was written: the entry before the truncation is read again once it is repaired.
                Err(Error::Corrupt { entries: Some(_), .. })
                    if stuck.is_none_or(|since| since.elapsed() < REPAIR_PATIENCE) =>
                {
                    truncated = true;
                    self.stuck = stuck.or(Some(Instant::now()));
                    self.retry_at = Some(Instant::now() + FULL_PAUSE);
                    break;
                }
                // Nothing of it was written: it can be tried again once there is room.
                Err(error) if error.is_retriable() => {
                    if !waited {
                        tracing::error!("{error}; it is tried again until it passes, and votes do not wait for it");
                    }
                    self.retry_at = Some(Instant::now() + FULL_PAUSE);
                    break;
                }
                Err(error @ (Error::Refused(_) | Error::RefusedEntry { .. })) => {
                    refused = Some(error.to_string());
                    break;
                }
                Err(error) => fatal("write the log", &error),
            }
        }
        // What is written before one that waits or is refused is not made to wait along.
        self.make_durable(newest);
        if truncated {
            // What cannot be read may have been found, or dropped.
            self.damage.look();
        }
        refused.map_or(Ok(()), Err)
    }

    /// One sync for all that was written, and only then a word about it.
    fn make_durable(&mut self, newest: Option<PersistTicket>) {
        let Some(newest) = newest else { return };
        let begun = Instant::now();
        if let Err(error) = self.writer.sync() {
            fatal("sync the log", &error);
        }
        self.syncs.synced(begun.elapsed());
        // A loop that is gone has nobody to tell.
        let _ = self.done.send(Done::Written(newest));
    }

    /// Between two groups of writes.
    fn help_to_repair(&mut self, order: Order) {
        match order {
            Order::Write(Job { ticket, batch }) => self.queue.push(ticket, batch),
            Order::EndSegment { done } => {
                let ended = self.writer.end_segment();
                let _ = done.send(ended.map_err(|error| mend::unrepaired(&error)));
            }
            Order::Mend { id, proven } => {
                let result = self.writer.put_in_place(proven).map_err(|error| mend::unrepaired(&error));
                self.damage.look();
                let _ = self.done.send(Done::Repaired { id, result });
            }
        }
    }

    /// Tells the loop what room there is, if that is news.
    fn look(&mut self) {
        let waits = self.retry_at.is_some() && self.stuck.is_none();
        let changed = self.told.is_none_or(|(_, told)| told != waits);
        if !changed && self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        self.looked = Some(Instant::now());
        // Where the system does not tell, a write that waits still does.
        let unknown = Space { free: u64::MAX, total: u64::MAX };
        let space = self.writer.space().unwrap_or(unknown);
        let is_news = |told: Space| told.total != space.total || told.free.abs_diff(space.free) >= NEWS_BYTES;
        if changed || self.told.is_none_or(|(told, _)| is_news(told)) {
            self.told = Some((space, waits));
            let _ = self.done.send(Done::Space { space, waits });
        }
    }
}

/// The thread that writes, for the one that repairs.
struct Mending(mpsc::Sender<Order>);

impl mend::Writing for Mending {
    fn end_segment(&self) -> Result<(), RepairFailed> {
        let (done, ended) = mpsc::channel();
        let _ = self.0.send(Order::EndSegment { done });
        // A thread that writes no more has said why.
        ended.recv().unwrap_or_else(|_| Err(RepairFailed::NoRoom("the log takes no more writes".into())))
    }

    fn put_in_place(&self, id: u64, proven: Proven) {
        let _ = self.0.send(Order::Mend { id, proven });
    }
}

/// A thread of its own: a large state takes seconds, and neither a write nor a read waits for it.
fn save_loop(
    store: &Result<Store, String>,
    checkpoints: &mpsc::Receiver<Box<Checkpoint>>,
    done: &async_mpsc::UnboundedSender<Done>,
) {
    while let Ok(checkpoint) = checkpoints.recv() {
        let store = store.as_ref().map_err(Clone::clone);
        let result = store.and_then(|store| store.save(&checkpoint).map_err(|trouble| trouble.to_string()));
        if let Ok(bytes) = result {
            tracing::debug!("the state of entry {} is saved, {bytes} bytes", checkpoint.index());
        }
        // A loop that is gone has nobody to tell; the last one of a life is saved all the same.
        let _ = done.send(Done::Checkpointed { index: checkpoint.index(), result });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::wal::{self, CHAIN_GENESIS, EntryFields, EntryHeader, EntryKind, Meta, OsDisk};
    use quorate_raft::{NodeId, Position, Term, Wall};

    fn entry(last: Option<&EntryHeader>, term: u64) -> Entry {
        let fields = EntryFields {
            seed: crate::node::log_seed(&[3; 16]),
            index: last.map_or(LogIndex(1), |last| last.index.next()),
            term: Term(term),
            kind: EntryKind::Normal,
            base_offset: last.map_or(0, EntryHeader::next_offset),
            count: 1,
            time: Wall(1),
            lamport: 1,
            shard: 0,
            session: 0,
            seq: 0,
        };
        Entry::seal(fields, last.map_or(CHAIN_GENESIS, |last| last.chain), &[7; 200])
    }

    fn heard(done: &mut async_mpsc::UnboundedReceiver<Done>, mut is_it: impl FnMut(&Done) -> bool) -> Done {
        loop {
            let news = done.blocking_recv().expect("the threads live");
            assert!(!matches!(news, Done::Space { waits: true, .. }), "no room is missing");
            if is_it(&news) {
                return news;
            }
        }
    }

    /// The entry before a truncation has rotted: the agent neither aborts nor calls its disk full. The damage is told, and
    /// the write ends when the repair has given the entry back.
    #[test]
    fn a_write_behind_damage_waits_for_the_repair() {
        let directory = tempfile::tempdir().expect("a directory");
        let os: Arc<dyn wal::Disk> = Arc::new(OsDisk::open(directory.path()).expect("it opens"));
        wal::create(&os, Meta::new([1; 16], NodeId::new(9).expect("not zero"))).expect("a log");
        let mut opened = wal::open(Arc::clone(&os), wal::Options::default()).expect("it opens");
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..4 {
            entries.push(entry(entries.last().map(Entry::header), 1));
        }
        let first = Batch { log_id: Some([3; 16]), append: entries.clone(), ..Batch::default() };
        opened.writer.write(&first).and_then(|()| opened.writer.sync()).expect("written");
        let names = std::fs::read_dir(directory.path()).expect("a directory").map(|file| file.expect("a file").path());
        let segment = names.into_iter().find(|path| path.extension().is_some_and(|e| e == "wal")).expect("one");
        let mut bytes = std::fs::read(&segment).expect("it reads");
        let second = entries[1].bytes();
        let at = bytes.windows(second.len()).position(|window| window == &second[..]).expect("it is there");
        bytes[at + 150] ^= 1;
        std::fs::write(&segment, bytes).expect("written");
        let (tell, mut done) = async_mpsc::unbounded_channel();
        let none = Err("no checkpoints here".into());
        let (disk, threads) = Disk::start(opened.writer, opened.reader, 0, none, tell).expect("threads");
        let other = entry(Some(entries[1].header()), 2);
        let batch = Batch { truncate_from: Some(LogIndex(3)), append: vec![other], ..Batch::default() };
        disk.write(Job { ticket: PersistTicket(1), batch });
        let damaged = heard(&mut done, |done| matches!(done, Done::Damaged { .. }));
        let is_second =
            |ranges: &[DamagedRange]| ranges.iter().all(|r| (r.first, r.last) == (LogIndex(2), LogIndex(2)));
        assert!(matches!(damaged, Done::Damaged { ranges } if is_second(&ranges)));
        disk.repair(5, vec![entries[1].clone()]);
        heard(&mut done, |done| matches!(done, Done::Repaired { id: 5, result: Ok(Repaired::Whole { .. }) }));
        heard(&mut done, |done| matches!(done, Done::Written(PersistTicket(1))));
        drop(disk);
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        let opened = wal::open(os, wal::Options::default()).expect("it opens");
        let last = opened.recovered.last.map(|last| last.position());
        assert_eq!(last, Some(Position { index: LogIndex(3), term: Term(2) }));
    }
}
