//! Defaults, limits and manners of rooms.

use serde::{Deserialize, Serialize};

/// Defaults and limits of rooms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomsConfig {
    /// Gain of the original speech under its interpretation, for rooms that do not say, 0 to 1.
    pub original_gain: f32,
    /// Most rooms at a time.
    pub max_rooms: usize,
    /// Most participants of a conference, for rooms that do not say.
    pub max_participants: usize,
    /// Seconds after which a room ends that nobody ever joins, for rooms that do not say; 0 keeps
    /// it.
    pub empty_timeout_s: u64,
    /// Seconds after which a room ends that everybody has left, for rooms that do not say; 0 keeps
    /// it.
    pub departure_timeout_s: u64,
    /// Whether what is said is kept, for rooms that do not say.
    pub keep_transcripts: bool,
    /// Most interpreted speech that waits for one listener of a call, in seconds.
    pub backlog_s: u64,
    /// Most interpreted speech that waits before the newest utterance of a conference's channel, in
    /// seconds.
    pub conference_backlog_s: u64,
    /// Speed of a channel's voice while more than two seconds of other utterances wait, 1 to 1.25.
    pub catch_up_speed: f32,
    /// Seconds of silence after which a human interpreter gives their channel back to the machine.
    pub interpreter_hold_s: u64,
    /// Longest that interpreted speech waits for that of somebody who began earlier, in
    /// milliseconds.
    pub order_wait_ms: u64,
    /// What becomes of an interpretation while its listener speaks.
    pub barge_in: BargeIn,
    /// Gain of a ducked interpretation, 0 to 1.
    pub barge_in_gain: f32,
    /// Who is interpreted aloud when several speak at once.
    pub overlap: Overlap,
}

/// What becomes of an interpretation while its listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BargeIn {
    /// It goes down to `rooms.barge_in_gain`.
    Duck,
    /// It stays as it is.
    Keep,
}

/// Who is interpreted aloud when several speak at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// All of them, one after the other.
    Both,
    /// Who began first; the others are captioned.
    First,
}

impl Default for RoomsConfig {
    fn default() -> Self {
        Self {
            original_gain: 0.2,
            max_rooms: 1000,
            max_participants: 100,
            empty_timeout_s: 300,
            departure_timeout_s: 20,
            keep_transcripts: true,
            backlog_s: 20,
            conference_backlog_s: 8,
            catch_up_speed: 1.25,
            interpreter_hold_s: 10,
            order_wait_ms: 1_500,
            barge_in: BargeIn::Duck,
            barge_in_gain: 0.35,
            overlap: Overlap::Both,
        }
    }
}
