//! How eagerly the system runs our threads.
//!
//! A media worker computes for a millisecond in twenty and must do it on time; a model computes for
//! a second and nobody notices a few milliseconds more. So media workers run in the real-time class
//! (`SCHED_RR` at its lowest priority, sched(7)) where the system allows it, and everything that
//! computes with models is nice.
//!
//! A thread in the real-time class that never sleeps starves everything below it. Three things keep
//! a media worker from that: it always sleeps until something is due, [`Watch`] makes it leave the
//! class as soon as it is busy nearly all the time (a flood of datagrams, say), and behind both the
//! kernel keeps 5 % of each second for the other threads (`kernel.sched_rt_runtime_us`).
//!
//! The standard library wraps neither of the two system calls that this takes, hence the `unsafe`:
//! each passes plain numbers and one structure that the kernel reads during the call.
#![allow(unsafe_code, reason = "sched_setscheduler(2) and nice(2) have no safe wrapper")]

use std::io;
use std::time::{Duration, Instant};

/// What to do where the system refuses the real-time class.
pub const HOW_TO_ALLOW: &str = "give the program CAP_SYS_NICE (`setcap cap_sys_nice=ep`, or \
    `--cap-add SYS_NICE` for a container), or raise the limit with `ulimit -r 1` or systemd's \
    `LimitRTPRIO=1`";

/// Any real-time priority comes before every ordinary thread; the lowest leaves room for others.
const LOWEST: i32 = 1;
/// Steps of niceness: about a third of an ordinary thread's share when both want to run.
const BACKGROUND: libc::c_int = 5;

/// Puts the calling thread into the real-time class. Threads that it starts are ordinary.
///
/// # Errors
/// What the system says; [`HOW_TO_ALLOW`] is the remedy for a refusal.
pub fn enter_real_time() -> io::Result<()> {
    set_scheduler(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, LOWEST)
}

/// Makes the calling thread an ordinary one again.
///
/// # Errors
/// What the system says; nothing is known that makes it refuse.
pub fn leave_real_time() -> io::Result<()> {
    set_scheduler(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 names the calling thread, and the kernel reads the structure during the call only.
    let outcome = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the calling thread, and every thread and program that it starts from now on, give way to
/// ordinary ones. For whatever computes with models.
pub fn give_way() {
    // Being nicer is never refused, and -1 is as good an outcome as any other.
    // SAFETY: plain numbers go in and out. On Linux it is the calling thread alone that is changed.
    let _ = unsafe { libc::nice(BACKGROUND) };
}

/// Length of the windows that a worker is judged by.
const WINDOW: Duration = Duration::from_secs(1);
/// Sleeping less of a window than this, it must leave the real-time class.
const TOO_BUSY: Duration = Duration::from_millis(100);
/// Windows in a row with at least [`CALM`] of sleep before it may come back.
const CALM_WINDOWS: u32 = 5;
const CALM: Duration = Duration::from_millis(300);

/// What a worker should do about its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Leave the real-time class.
    Leave,
    /// Enter it again.
    Return,
}

/// Watches how much a real-time thread sleeps.
#[derive(Debug)]
pub struct Watch {
    since: Instant,
    slept: Duration,
    /// Calm windows still needed; `None` while in the class.
    exile: Option<u32>,
}

impl Watch {
    /// A watch over a thread that just entered the class.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, slept: Duration::ZERO, exile: None }
    }

    /// The thread slept for `slept` until `now`, possibly not at all.
    pub fn slept(&mut self, now: Instant, slept: Duration) -> Option<Advice> {
        self.slept += slept;
        if now.saturating_duration_since(self.since) < WINDOW {
            return None;
        }
        let rest = std::mem::take(&mut self.slept);
        self.since = now;
        match self.exile {
            None if rest < TOO_BUSY => {
                self.exile = Some(CALM_WINDOWS);
                Some(Advice::Leave)
            }
            None => None,
            Some(_) if rest < CALM => {
                self.exile = Some(CALM_WINDOWS);
                None
            }
            Some(windows) if windows > 1 => {
                self.exile = Some(windows - 1);
                None
            }
            Some(_) => {
                self.exile = None;
                Some(Advice::Return)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Advice in each of `seconds` seconds of which the thread sleeps `share`.
    fn live(watch: &mut Watch, now: &mut Instant, seconds: u32, share: f64) -> Vec<Advice> {
        let step = Duration::from_millis(10);
        let mut advice = Vec::new();
        for _ in 0..seconds * 100 {
            *now += step;
            advice.extend(watch.slept(*now, step.mul_f64(share)));
        }
        advice
    }

    #[test]
    fn a_thread_that_hardly_sleeps_leaves_the_class_and_returns_after_five_calm_seconds() {
        let mut now = Instant::now();
        let mut watch = Watch::new(now);
        assert_eq!(live(&mut watch, &mut now, 60, 0.2), []);
        assert_eq!(live(&mut watch, &mut now, 2, 0.05), [Advice::Leave]);
        assert_eq!(live(&mut watch, &mut now, 10, 0.2), [], "still too busy to come back");
        assert_eq!(live(&mut watch, &mut now, 4, 0.9), []);
        assert_eq!(live(&mut watch, &mut now, 2, 0.9), [Advice::Return]);
        assert_eq!(live(&mut watch, &mut now, 60, 0.9), []);
    }

    #[test]
    fn a_nice_threads_children_are_nice_and_its_siblings_are_not() {
        let own = || {
            let status = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux tells");
            // The name in parentheses may hold blanks; niceness is the 17th field after it.
            let fields = status.rsplit_once(')').expect("the name ends").1;
            fields.split_whitespace().nth(16).expect("niceness").parse::<i32>().expect("a number")
        };
        let before = own();
        let child = std::thread::spawn(move || {
            give_way();
            (own(), std::thread::spawn(own).join().expect("a niceness"))
        });
        let (parent, child) = child.join().expect("two numbers");
        let nicer = (before + BACKGROUND).min(19);
        assert_eq!((parent, child), (nicer, nicer));
        assert_eq!(own(), before);
    }
}
