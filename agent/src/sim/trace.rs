//! Trace: what happened, line by line: hashed as a whole, remembered at its end.
//!
//! It never decides anything: a world without its trace runs the same.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Lines of the end that are remembered.
const TAIL_LINES: usize = 400;

/// The lines of one run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
    all: Option<Vec<String>>,
}

impl Trace {
    /// Keeps every line, not only the end.
    pub(super) fn keep_all(&mut self) {
        self.all.get_or_insert_default();
    }

    /// One more line.
    pub(super) fn line(&mut self, at: u64, what: fmt::Arguments<'_>) {
        let mut line =
            if self.tail.len() >= TAIL_LINES { self.tail.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Writing to a string cannot fail.
        let _ = write!(line, "{:>5}.{:06} {what}", at / 1_000_000, at % 1_000_000);
        self.hash = xxh3_64_with_seed(line.as_bytes(), self.hash);
        self.lines += 1;
        if let Some(all) = &mut self.all {
            all.push(line.clone());
        }
        self.tail.push_back(line);
    }

    /// The hash of all lines so far.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines.
    pub(super) fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// All lines if they were kept, else the last ones.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.all.unwrap_or_else(|| self.tail.into())
    }
}
