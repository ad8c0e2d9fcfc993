//! A bad network in virtual time: what happens to the packets of one direction of a path, decided
//! by a seed.
//!
//! [`Link`] owns no socket and no clock. Packets go in with the instant they were sent and come out
//! with the instant they arrive, so a test runs a minute of a call in a moment and the relay
//! ([`crate::relay`]) runs the same model on a real socket.
//!
//! Loss comes at random or in bursts (Gilbert 1960, Elliott 1963). Delay is a base with jitter on
//! top; jitter alone never reorders, because packets of one flow queue up behind each other.
//! Reordering is a choice of its own: a packet is held back while its followers pass.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Most packets that are on their way at once. A link that holds more drops the newest, as a full
/// queue of a router does.
const MAX_IN_FLIGHT: usize = 4_096;

/// What a path with a rate keeps waiting; a packet that would wait longer is dropped.
pub const MAX_QUEUE: Duration = Duration::from_millis(500);

/// How packets get lost. Shares are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Each packet by itself.
    Random {
        /// Share of packets lost.
        share: f64,
    },
    /// In bursts: a chain with a good state that loses nothing and a bad one that loses everything
    /// (Gilbert's model).
    Bursts {
        /// Share of packets lost in the long run.
        share: f64,
        /// Mean number of packets lost in a row, at least 1.
        mean_length: f64,
    },
}

/// What a path does to packets. The default does nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Which packets never arrive.
    pub loss: Loss,
    /// Time that every packet takes.
    pub delay: Duration,
    /// Largest time on top of it; drawn for each packet evenly from zero.
    pub jitter: Duration,
    /// Share of packets that arrive late enough for others to pass them.
    pub reordered: f64,
    /// How long those are held back.
    pub held_back: Duration,
    /// Share of packets that arrive twice.
    pub duplicated: f64,
    /// Bits per second that the path carries; more wait in a queue of [`MAX_QUEUE`].
    pub rate: Option<u32>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss: Loss::Random { share: 0.0 },
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reordered: 0.0,
            held_back: Duration::ZERO,
            duplicated: 0.0,
            rate: None,
        }
    }
}

/// Paths as they are met, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Nothing happens to any packet.
    Clean,
    /// A good wireless network: 5 ms, up to 10 ms of jitter, 0.5 % lost.
    Wifi,
    /// A wireless network at the edge of its range: up to 40 ms of jitter, 5 % lost in bursts, some
    /// packets reordered and repeated.
    WifiLossy,
    /// A moving phone: 50 ms, up to 80 ms of jitter, 2 % lost in bursts, 256 kbit/s.
    Cellular,
    /// A satellite in geostationary orbit: 280 ms, up to 20 ms of jitter, 1 % lost.
    Satellite,
}

impl Preset {
    /// What it does.
    #[must_use]
    pub fn conditions(self) -> Conditions {
        let ms = Duration::from_millis;
        let clean = Conditions::default();
        match self {
            Self::Clean => clean,
            Self::Wifi => Conditions {
                loss: Loss::Random { share: 0.005 },
                delay: ms(5),
                jitter: ms(10),
                ..clean
            },
            Self::WifiLossy => Conditions {
                loss: Loss::Bursts { share: 0.05, mean_length: 1.5 },
                delay: ms(10),
                jitter: ms(40),
                reordered: 0.02,
                held_back: ms(45),
                duplicated: 0.01,
                rate: None,
            },
            Self::Cellular => Conditions {
                loss: Loss::Bursts { share: 0.02, mean_length: 3.0 },
                delay: ms(50),
                jitter: ms(80),
                rate: Some(256_000),
                ..clean
            },
            Self::Satellite => Conditions {
                loss: Loss::Random { share: 0.01 },
                delay: ms(280),
                jitter: ms(20),
                ..clean
            },
        }
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        formatter.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

/// What became of the packets of a link so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that will never arrive.
    pub lost: u64,
    /// Packets that were held back for others to pass.
    pub reordered: u64,
    /// Packets that arrive twice.
    pub duplicated: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
    }
}

/// One direction of a path, with the packets on their way.
#[derive(Debug)]
pub struct Link<T> {
    conditions: Conditions,
    random: StdRng,
    /// Whether the chain of [`Loss::Bursts`] is in its bad state.
    in_burst: bool,
    /// When the last packet arrives that was not held back.
    last_arrival: Option<Instant>,
    /// When the packets that were sent so far have left a path with a rate.
    free_at: Option<Instant>,
    in_flight: BinaryHeap<Reverse<InFlight<T>>>,
    tally: Tally,
    /// Orders packets that arrive at the same instant.
    number: u64,
}

#[derive(Debug)]
struct InFlight<T> {
    arrives: Instant,
    number: u64,
    packet: T,
}

impl<T: Clone> Link<T> {
    /// A link on which the same packets have the same fate for the same `seed`.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            random: StdRng::seed_from_u64(seed),
            in_burst: false,
            last_arrival: None,
            free_at: None,
            in_flight: BinaryHeap::new(),
            tally: Tally::default(),
            number: 0,
        }
    }

    /// A packet leaves at `now` that takes none of the path's rate. Time must not run backwards
    /// from call to call.
    pub fn send(&mut self, now: Instant, packet: T) {
        self.send_sized(now, 0, packet);
    }

    /// A packet of so many bytes leaves at `now`.
    pub fn send_sized(&mut self, now: Instant, bytes: usize, packet: T) {
        self.tally.sent += 1;
        // Every packet draws the same numbers, so that a change of one condition leaves the others'
        // choices as they were.
        let is_lost = self.draw_loss();
        let delay = self.conditions.delay + self.conditions.jitter.mul_f64(self.random.random());
        let is_held = self.random.random_bool(self.conditions.reordered);
        let is_doubled = self.random.random_bool(self.conditions.duplicated);
        let departs = self.departure(now, bytes);
        let Some(departs) = departs.filter(|_| !is_lost && self.in_flight.len() < MAX_IN_FLIGHT)
        else {
            self.tally.lost += 1;
            return;
        };
        let mut arrives = (departs + delay).max(self.last_arrival.unwrap_or(now));
        if is_held {
            self.tally.reordered += 1;
            arrives += self.conditions.held_back;
        } else {
            self.last_arrival = Some(arrives);
        }
        if is_doubled {
            self.tally.duplicated += 1;
            self.depart(arrives, packet.clone());
        }
        self.depart(arrives, packet);
    }

    /// The next packet that has arrived at `now`, with the instant it did.
    pub fn receive(&mut self, now: Instant) -> Option<(Instant, T)> {
        if self.next_arrival()? > now {
            return None;
        }
        self.in_flight.pop().map(|Reverse(packet)| (packet.arrives, packet.packet))
    }

    /// When the next packet arrives; `None` when none is on its way.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(packet)| packet.arrives)
    }

    /// What became of the packets.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn depart(&mut self, arrives: Instant, packet: T) {
        self.number += 1;
        self.in_flight.push(Reverse(InFlight { arrives, number: self.number, packet }));
    }

    /// When a packet has left a path with a rate; `None` when the queue is full.
    fn departure(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let begins = self.free_at.map_or(now, |free_at| free_at.max(now));
        if begins - now > MAX_QUEUE {
            return None;
        }
        let takes = Duration::from_secs_f64(8.0 * bytes as f64 / f64::from(rate.max(1)));
        self.free_at = Some(begins + takes);
        self.free_at
    }

    fn draw_loss(&mut self) -> bool {
        let drawn: f64 = self.random.random();
        match self.conditions.loss {
            Loss::Random { share } => drawn < share,
            Loss::Bursts { share, mean_length } => {
                // The bad state lasts `mean_length` packets in the mean; the good one as long as
                // makes the bad one's share of the time `share`.
                let leave = 1.0 / mean_length.max(1.0);
                let enter = leave * share / (1.0 - share).max(f64::EPSILON);
                self.in_burst = drawn < if self.in_burst { 1.0 - leave } else { enter };
                self.in_burst
            }
        }
    }
}

impl<T> PartialEq for InFlight<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for InFlight<T> {}

impl<T> PartialOrd for InFlight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for InFlight<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> InFlight<T> {
    fn key(&self) -> (Instant, u64) {
        (self.arrives, self.number)
    }
}

#[cfg(test)]
#[path = "impairment_tests.rs"]
mod tests;
