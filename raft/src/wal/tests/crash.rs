//! Every crash of a scripted workload: after every step of IO, with every subset of up to six unsynced things.
//!
//! Each image is opened, judged, opened again, crashed inside that opening, and written to.

use super::model::{Model, check_summary};
use super::*;
use crate::wal::sim::SimDisk;
use crate::{HardState, Position};

pub(super) enum Act {
    Write(Batch),
    Sync,
    /// The log notes how far it is durable.
    Idle,
    /// A clean end, and a start.
    Close,
    Restart,
}

/// Rotation, a batch larger than a segment, truncations within a segment and across some, votes, restarts, group
/// commits of several writes, and syncs with nothing to do.
pub(super) fn script() -> Vec<Act> {
    let mut log: Vec<Entry> = Vec::new();
    let mut acts = Vec::new();
    let mut term = 1;
    let extend = |log: &mut Vec<Entry>, term: u64, sizes: &[usize]| {
        let entries = chain_of(log.last().map(|e| *e.header()), term, sizes.iter().copied());
        log.extend(entries.iter().cloned());
        entries
    };
    let vote = |term, node| Some(HardState { term: Term(term), vote: NodeId::new(node) });
    let first = extend(&mut log, term, &[0, 300]);
    acts.push(Act::Write(Batch { hard_state: vote(1, 42), ..append(first) }));
    acts.push(Act::Sync);
    acts.push(Act::Write(append(extend(&mut log, term, &[700]))));
    acts.push(Act::Write(append(extend(&mut log, term, &[10, 20]))));
    acts.push(Act::Sync);
    // Full: the next one begins a segment; the one after that is larger than a segment.
    acts.push(Act::Write(append(extend(&mut log, term, &[1500, 900]))));
    acts.push(Act::Write(append(extend(&mut log, term, &[2200]))));
    acts.push(Act::Sync);
    acts.push(Act::Idle);
    acts.push(Act::Sync);
    acts.push(Act::Write(append(extend(&mut log, term, &[9000]))));
    acts.push(Act::Write(Batch { hard_state: vote(2, 0), ..Batch::default() }));
    // A conflict of a new leader, over unsynced entries.
    term = 3;
    log.truncate(6);
    let append_3 = extend(&mut log, term, &[100, 600]);
    let truncate =
        |at, hard_state, append| Batch { hard_state, truncate_from: Some(LogIndex(at)), append, ..Batch::default() };
    acts.push(Act::Write(truncate(7, vote(3, 7), append_3)));
    acts.push(Act::Sync);
    acts.push(Act::Restart);
    let suspect = Position { index: LogIndex(99), term: Term(3) };
    acts.push(Act::Write(Batch { suspect: Some(Some(suspect)), ..Batch::default() }));
    acts.push(Act::Write(append(extend(&mut log, term, &[50]))));
    acts.push(Act::Write(Batch { hard_state: vote(4, 42), ..Batch::default() }));
    acts.push(Act::Sync);
    acts.push(Act::Close);
    acts.push(Act::Write(Batch { suspect: Some(None), ..Batch::default() }));
    // Nothing is appended in place of what is dropped; then the first entry of all goes.
    log.truncate(3);
    acts.push(Act::Write(truncate(4, None, Vec::new())));
    term = 4;
    acts.push(Act::Write(append(extend(&mut log, term, &[5, 5, 5]))));
    acts.push(Act::Restart);
    log.clear();
    let again = extend(&mut log, term, &[333, 1]);
    acts.push(Act::Write(truncate(1, vote(5, 0), again)));
    acts.push(Act::Sync);
    acts
}

/// Runs the script until it ends or the power goes; says what was being done then.
pub(super) struct Run {
    pub(super) model: Model,
    in_flight: Option<Batch>,
    finished: bool,
}

pub(super) fn run(disk: &SimDisk, script: &[Act]) -> Run {
    let mut model = Model::default();
    let cut = |model: Model, in_flight| Run { model, in_flight, finished: false };
    if create(&disk.attach(), meta()).is_err() {
        return cut(model, None);
    }
    let Ok(mut log) = open(disk.attach(), small(1)) else { return cut(model, None) };
    model.boot_epoch = 1;
    for act in script {
        match act {
            Act::Write(batch) => {
                if log.writer.write(batch).is_err() {
                    return cut(model, Some(batch.clone()));
                }
                model.wrote(batch);
            }
            Act::Sync => {
                if log.writer.sync().is_err() {
                    return cut(model, None);
                }
                model.synced();
            }
            Act::Idle => log.writer.mark_idle(),
            Act::Close | Act::Restart => {
                let Opened { writer, .. } = log;
                // The lock goes with it.
                if !matches!(act, Act::Close) {
                    drop(writer);
                } else if writer.close().is_err() {
                    return cut(model, None);
                }
                log = match open(disk.attach(), small(2)) {
                    Ok(log) => log,
                    Err(_) => return cut(model, None),
                };
                // The process ended in peace: everything was in the cache, and an opening makes it durable.
                model.synced();
                model.boot_epoch = log.meta.boot_epoch;
            }
        }
    }
    drop(log);
    Run { model, in_flight: None, finished: true }
}

impl Run {
    pub(super) fn judge(&self, log: &Opened) {
        let (found, hard_state) = (all(&log.reader), log.meta.hard_state);
        let legal = match &self.in_flight {
            Some(batch) => self.model.allows_during(batch, &found, hard_state),
            None => self.model.allows(&found, hard_state),
        };
        assert!(legal, "found {} entries and {hard_state:?}, the model says {:?}", found.len(), self.model);
        assert!(log.meta.boot_epoch > self.model.boot_epoch);
        let after = self.in_flight.as_ref().and_then(|batch| batch.suspect).unwrap_or(self.model.suspect);
        assert!([self.model.suspect, after].contains(&log.meta.suspect), "{:?}", log.meta.suspect);
        assert_eq!((log.recovered.suspect, log.recovered.damaged.len()), (log.meta.suspect, 0));
        check_summary(log);
    }
}

#[derive(Default)]
struct Tally {
    steps: u64,
    images: u64,
    openings: u64,
    recoveries_crashed: u64,
    torn_tails: u64,
    fresh: u64,
}

impl Tally {
    fn open(&mut self, disk: &SimDisk) -> Opened {
        self.openings += 1;
        open(disk.attach(), small(self.openings)).unwrap()
    }

    /// One image: judge what a start finds, and that starting twice, or not to the end, changes nothing.
    fn judge(&mut self, image: &SimDisk, run: &Run, deep: bool) {
        self.images += 1;
        if !exists(&image.attach()).unwrap() {
            assert_eq!(run.model.boot_epoch, 0, "a log that was opened is gone");
            create(&image.attach(), meta()).unwrap();
            self.fresh += 1;
        }
        let before = image.fork();
        let log = self.open(image);
        let found = all(&log.reader);
        let hard_state = log.meta.hard_state;
        run.judge(&log);
        self.torn_tails += u64::from(log.recovered.torn_bytes_cut > 0);
        drop(log);
        // What a start reported is durable: the next one finds the same, whatever a crash takes.
        image.crash_keeping(|_| false);
        let mut log = self.open(image);
        assert_eq!(all(&log.reader), found);
        assert_eq!(log.meta.hard_state, hard_state);
        assert_eq!(log.recovered.torn_bytes_cut, 0);
        if deep {
            self.crash_inside_opening(&before, run, &found, hard_state);
            let more = chain_of(found.last().map(|e| *e.header()), 9, [3, 700]);
            log.writer.write(&append(more.clone())).unwrap();
            log.writer.sync().unwrap();
            image.crash_keeping(|_| false);
            let log = self.open(image);
            assert_eq!(all(&log.reader), [found, more].concat());
        }
    }

    fn crash_inside_opening(&mut self, before: &SimDisk, run: &Run, found: &[Entry], hard_state: HardState) {
        // Where a process died but not the machine, the cache may still be lost before an opening has ended.
        let settled = before.unsynced().is_empty();
        for steps in 0.. {
            assert!(steps < 1_000, "an opening never ends well");
            let mut done = false;
            for keep in 0..3 {
                let image = before.fork();
                image.power_off_after(steps);
                done = open(image.attach(), small(77)).is_ok();
                match keep {
                    0 => image.crash_keeping(|_| false),
                    1 => image.crash_keeping(|_| true),
                    _ => image.crash(),
                }
                self.recoveries_crashed += 1;
                if run.model.boot_epoch == 0 && !exists(&image.attach()).unwrap() {
                    // Its creation had not returned, so nothing was ever promised.
                    continue;
                }
                let log = self.open(&image);
                run.judge(&log);
                if settled {
                    assert_eq!(all(&log.reader), found, "after {steps} steps of an opening");
                    assert_eq!(log.meta.hard_state, hard_state);
                }
            }
            if done {
                break;
            }
        }
    }
}

/// Synced entries, terms and votes survive every crash; the others survive whole and in order, or not at all (D1, S6).
#[test]
fn every_crash_of_a_life_is_survived() {
    let script = script();
    let mut tally = Tally::default();
    let (mut sweep, mut deep) = (Sweep::new(), Sweep::new());
    for steps in 0.. {
        assert!(steps < 2_000, "the script never ends");
        let disk = SimDisk::new(steps);
        disk.power_off_after(steps);
        let run = run(&disk, &script);
        let unsynced = disk.unsynced();
        // All subsets of the six newest, with all of the others and with none of them.
        let free = unsynced.len().min(6);
        let fixed = unsynced.len() - free;
        for others in [false, true] {
            if fixed == 0 && others {
                continue;
            }
            for subset in 0..1_u32 << free {
                if !sweep.takes() {
                    continue;
                }
                let image = disk.fork();
                image.crash_keeping(|item| match unsynced.iter().position(|u| u == item) {
                    Some(at) if at >= fixed => subset & (1 << (at - fixed)) != 0,
                    Some(_) => others,
                    None => true,
                });
                tally.judge(&image, &run, subset % 32 == 0 && deep.takes());
            }
        }
        // A draw over all of them, and a process that dies while the machine lives.
        for _ in 0..2 {
            if !sweep.takes() {
                continue;
            }
            let image = disk.fork();
            image.crash();
            tally.judge(&image, &run, false);
        }
        let image = disk.fork();
        image.kill();
        tally.judge(&image, &run, deep.takes());
        tally.steps = steps;
        if run.finished {
            break;
        }
    }
    println!(
        "{} steps of IO, {} crash images, {} openings, {} crashes inside an opening, {} torn tails, {} unborn logs",
        tally.steps, tally.images, tally.openings, tally.recoveries_crashed, tally.torn_tails, tally.fresh
    );
    let bites = tally.steps > 100 && tally.torn_tails > 100 / sweep.every && tally.fresh > 0;
    assert!(bites, "the script did not bite");
}
