//! The timeline that a person reads, and the bar that shows that something happens.
//!
//! It never writes to stdout when a program reads there, and shows no bar unless a person looks at stderr.

use super::output::Ui;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();

/// What has happened since the command began.
pub(crate) struct Story<'a> {
    ui: &'a Ui,
    began: Instant,
    bar: ProgressBar,
}

impl<'a> Story<'a> {
    pub(crate) fn begin(ui: &'a Ui) -> Self {
        let seen = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let story = Self { ui, began: Instant::now(), bar };
        story.wait("certificates are made");
        story
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Something happens.
    pub(crate) fn say(&self, text: &str) {
        self.line(' ', text);
    }

    /// Something was achieved.
    pub(crate) fn done(&self, text: &str) {
        self.wait("next");
        self.line('✓', text);
    }

    fn line(&self, mark: char, text: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let line = format!("{DIM}{seconds:>7.2} s{DIM:#}  {GOOD}{mark}{GOOD:#} {text}");
        self.bar.suspend(|| {
            if self.ui.is_json() {
                // stdout belongs to the report; a person may still follow.
                let _ = io::Write::write_fmt(&mut anstream::stderr(), format_args!("{line}\n"));
            } else {
                // Nobody reading is no reason to stop before the verdict.
                let _ = self.ui.line(&line).and_then(|()| self.ui.flush());
            }
        });
    }

    /// Shows that the command waits, and for what.
    pub(crate) fn wait(&self, for_what: &str) {
        if let Ok(style) = ProgressStyle::with_template("          {spinner} {msg} ...") {
            self.bar.set_style(style);
        }
        self.bar.set_message(for_what.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// Shows a bar of `total` steps.
    pub(crate) fn bar(&self, total: u64, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.set_length(total);
        if let Ok(style) = ProgressStyle::with_template("          {spinner} {msg} [{bar:32}] {human_pos}/{human_len}")
        {
            self.bar.set_style(style.progress_chars("=> "));
        }
    }

    pub(crate) fn progress(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn quiet(&self) {
        self.bar.finish_and_clear();
    }
}
