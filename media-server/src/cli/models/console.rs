//! Shows on standard error how a fetch or an import goes on: a bar on a terminal, now and then a line
//! elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use inference::store::{Event, Meter, Progress, format_bytes};
use parking_lot::Mutex;

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

const BAR_TEMPLATE: &str = "{prefix}  [{bar:24}] {percent:>3}%  {msg}";

/// Progress of a fetch or an import on standard error.
pub struct Console {
    started: Instant,
    /// `None` where standard error is no terminal.
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    meter: Meter,
    model: String,
    last_line: Option<Instant>,
}

impl Console {
    /// Shows nothing until the first event.
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
            let style = ProgressStyle::with_template(BAR_TEMPLATE)
                .expect("the template is well formed")
                .progress_chars("=> ");
            bar.set_style(style);
            bar
        });
        Self { started: Instant::now(), bar, state: Mutex::default() }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Says how far the work on `what` is, in bytes.
    pub fn work(&self, what: &str, done: u64, all: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
            bar.set_prefix(what.to_owned());
            return;
        }
        let mut state = self.state.lock();
        let last = *state.last_line.get_or_insert_with(Instant::now);
        if last.elapsed() >= LINE_INTERVAL && done < all {
            state.last_line = Some(Instant::now());
            let percent = (done * 100).checked_div(all).unwrap_or(100);
            let (done, all) = (format_bytes(done), format_bytes(all));
            self.line(&format!("{what}: {percent}%, {done} of {all}"));
        }
    }

    /// Says `text` on a line of its own.
    pub fn line(&self, text: &str) {
        // Whether or not anybody sees how it goes on, it goes on.
        match &self.bar {
            Some(bar) => bar.suspend(|| {
                let _ = writeln!(io::stderr(), "{text}");
            }),
            None => {
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
    }

    fn show(&self, state: &mut State) {
        let totals = state.meter.totals();
        let done = totals.downloaded + totals.assembled;
        let all = totals.to_download + totals.to_assemble;
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
            bar.set_prefix(state.model.clone());
            bar.set_message(describe(&state.meter));
            return;
        }
        let is_due = state.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL);
        if is_due && done > 0 {
            state.last_line = Some(Instant::now());
            let percent = (done * 100).checked_div(all).unwrap_or(100);
            self.line(&format!("{}: {percent}%, {}", state.model, describe(&state.meter)));
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Console {
    fn report(&self, event: Event<'_>) {
        let mut state = self.state.lock();
        match event {
            Event::Bytes(totals) => {
                state.meter.update(totals, self.started.elapsed());
                self.show(&mut state);
            }
            Event::Waiting { lock } => self.line(&format!(
                "another process is fetching models (it holds {}); waiting for it",
                lock.display()
            )),
            Event::Asking { model, source } => {
                model.clone_into(&mut state.model);
                self.line(&format!("{model}: asking {source}"));
            }
            Event::Failed { model, source, reason } => {
                self.line(&format!("{model}: {source} could not supply it: {reason}"));
            }
            Event::Fetched { model } => self.line(&format!("{model}: fetched and verified")),
            _ => {}
        }
    }
}

/// "412.3 MB of 1.3 GB, 61.0 MB/s, 15 s left", as far as that is known.
fn describe(meter: &Meter) -> String {
    let totals = meter.totals();
    let mut text = if totals.downloaded < totals.to_download {
        let (done, all) = (format_bytes(totals.downloaded), format_bytes(totals.to_download));
        let rate = meter.download_rate().map(|rate| format!(", {}/s", format_bytes(rate as u64)));
        format!("{done} of {all}{}", rate.unwrap_or_default())
    } else {
        let (done, all) = (format_bytes(totals.assembled), format_bytes(totals.to_assemble));
        format!("assembling, {done} of {all}")
    };
    if let Some(left) = meter.time_left() {
        text = format!("{text}, {} left", format_duration(left));
    }
    text
}

fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().ceil() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use inference::store::Totals;

    use super::*;

    #[test]
    fn rate_and_time_left_are_told_for_the_whole_job() {
        let mut meter = Meter::default();
        let mut totals = Totals { to_download: 1_300_000_000, to_assemble: 0, ..Totals::default() };
        meter.update(totals, Duration::ZERO);
        assert_eq!(describe(&meter), "0 B of 1.3 GB");
        totals.downloaded = 100_000_000;
        meter.update(totals, Duration::from_secs(1));
        assert_eq!(describe(&meter), "100.0 MB of 1.3 GB, 100.0 MB/s, 12 s left");
    }

    #[test]
    fn assembly_is_told_when_everything_is_downloaded() {
        let mut meter = Meter::default();
        let totals = Totals {
            downloaded: 10,
            to_download: 10,
            assembled: 500_000_000,
            to_assemble: 1_400_000_000,
        };
        meter.update(totals, Duration::ZERO);
        assert_eq!(describe(&meter), "assembling, 500.0 MB of 1.4 GB, 9 s left");
    }

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        assert_eq!(format_duration(Duration::from_millis(14_100)), "15 s");
        assert_eq!(format_duration(Duration::from_secs(80)), "1 min 20 s");
        assert_eq!(format_duration(Duration::from_secs(3_780)), "1 h 3 min");
    }
}
