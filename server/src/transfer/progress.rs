//! How far a long import or export is: a bar at a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::Total;
use crate::runtime::clock;

/// Pause between two lines, in milliseconds.
const LINE_EVERY_MS: u64 = 10_000;

/// The display.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: Option<u64>,
    messages: u64,
    began_ms: u64,
    told_ms: u64,
}

impl Progress {
    pub(super) fn new(total: Option<Total>) -> Self {
        let total = total.and_then(|total| total.messages);
        let bar = io::stderr().is_terminal().then(|| {
            let (bar, template) = match total {
                Some(total) => (ProgressBar::new(total), "{bar:30} {pos}/{len} messages, {per_sec}, {eta} left"),
                None => (ProgressBar::new_spinner(), "{spinner} {pos} messages, {per_sec}"),
            };
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let now_ms = clock::monotonic_ms();
        Self { bar, total, messages: 0, began_ms: now_ms, told_ms: now_ms }
    }

    /// One message more.
    pub(super) fn step(&mut self) {
        self.messages += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            return;
        }
        let now_ms = clock::monotonic_ms();
        if now_ms.saturating_sub(self.told_ms) >= LINE_EVERY_MS {
            self.told_ms = now_ms;
            say(&self.line(now_ms.saturating_sub(self.began_ms).max(1)));
        }
    }

    fn line(&self, passed_ms: u64) -> String {
        let (messages, rate) = (self.messages, self.messages.saturating_mul(1_000) / passed_ms);
        match self.total.and_then(|total| total.checked_sub(messages)) {
            Some(left) => {
                let (total, left_s) = (messages + left, left.saturating_mul(passed_ms) / messages.max(1) / 1_000);
                format!("{messages} of {total} messages, {rate}/s, {left_s} s left")
            }
            None => format!("{messages} messages, {rate}/s"),
        }
    }

    /// Something to be read that is not progress.
    pub(super) fn tell(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Nobody may be reading standard error; the report at the end says it all.
fn say(text: &str) {
    writeln!(io::stderr(), "{text}").unwrap_or_default();
}
