//! A history as lines of text, for whoever looks for what went wrong.
//!
//! It never sorts what is to be found: by the time at which it was asked for, as it happened.

use crate::history::{History, Level, Outcome};
use std::fmt::Write as _;
use std::time::Duration;

/// One operation a line: when it was asked for and when it ended, in milliseconds, what, and what was told.
pub(super) fn lines(history: &History<u64>) -> String {
    let mut all: Vec<(Duration, String)> = Vec::new();
    let ms = |at: Duration| at.as_secs_f64() * 1e3;
    let level = |level: Level| match level {
        Level::Committed => "committed".to_owned(),
        Level::After(offset) => format!("after={offset}"),
        Level::Linear => "linear".to_owned(),
    };
    for append in &history.appends {
        let told = match append.outcome {
            Outcome::Acked(first) => format!("acked {first}"),
            Outcome::NotApplied => "not-applied".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
        };
        let (asked, ended) = (append.span.asked, append.span.ended);
        all.push((asked, format!("{:.3} {:.3} append {:x?} {told}", ms(asked), ms(ended), append.values)));
    }
    for read in &history.reads {
        let (asked, ended) = (read.span.asked, read.span.ended);
        let line = format!("{:.3} {:.3} read {} next {}", ms(asked), ms(ended), level(read.level), read.next);
        all.push((asked, line));
    }
    for tail in &history.tails {
        let ended = tail.ended.map_or_else(|| "-".into(), |at| format!("{:.3}", ms(at)));
        let mut line = format!("{:.3} {ended} tail {} from {:?}", ms(tail.asked), level(tail.level), tail.from);
        for seen in &tail.seen {
            let _ = write!(line, " {}:{:x}@{:.3}", seen.offset, seen.value, ms(seen.at));
        }
        all.push((tail.asked, line));
    }
    all.sort();
    all.into_iter().fold(String::new(), |text, (_, line)| text + &line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Append, Read, Seen, Span, Tail};

    #[test]
    fn a_history_is_told_as_it_happened() {
        let at = Duration::from_millis;
        let span = |asked, ended| Span { asked: at(asked), ended: at(ended) };
        let seen = vec![Seen { offset: 0, value: 0xa, at: at(8) }];
        let history = History {
            appends: vec![Append { values: vec![0xa, 0xb], span: span(2, 5), outcome: Outcome::Acked(0) }],
            reads: vec![Read { session: None, span: span(1, 3), level: Level::After(4), next: 9 }],
            tails: vec![Tail { asked: at(7), level: Level::Linear, from: Some(0), seen, ended: None }],
            is_closed: true,
        };
        let lines = lines(&history);
        assert_eq!(
            lines,
            "1.000 3.000 read after=4 next 9\n2.000 5.000 append [a, b] acked 0\n7.000 - tail linear from Some(0) 0:a@8.000\n"
        );
    }
}
