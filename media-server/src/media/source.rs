//! A speaker of a conference whose packets may be passed on as they came.

use super::PeerId;
use super::arrivals::Arrivals;
use super::inbound::Inbound;

/// Ticks of 20 ms that a source's packets are kept while they are not passed on. It takes a few
/// packets to know that somebody speaks ([`super::activity`]); with these nothing of the first word
/// is missing when the passing on begins.
const PRE_ROLL_TICKS: u32 = 2;
/// Ticks without a packet after which nothing is expected from a source: 500 ms, more than the
/// 400 ms between two packets of an encoder that has nothing to say (RFC 7587 section 3.1.3).
const ABSENT_TICKS: u32 = 25;

/// One speaker.
#[derive(Debug)]
pub struct Source {
    id: PeerId,
    packets: Arrivals,
    is_passed_on: bool,
    ticks_without: u32,
    is_speaking: bool,
    is_pausing: bool,
}

impl Source {
    /// A speaker who was not heard yet.
    #[must_use]
    pub fn new(id: PeerId) -> Self {
        Self {
            id,
            packets: Arrivals::default(),
            is_passed_on: false,
            ticks_without: ABSENT_TICKS,
            is_speaking: false,
            is_pausing: true,
        }
    }

    /// Looks at what came since the last tick; `None` when there is no such peer.
    pub fn hear(&mut self, inbound: Option<&Inbound>) {
        if std::mem::take(&mut self.is_passed_on) {
            self.packets.clear();
        } else {
            self.packets.grow_older(PRE_ROLL_TICKS);
        }
        self.ticks_without = self.ticks_without.saturating_add(1);
        self.is_speaking = false;
        self.is_pausing = true;
        let Some(inbound) = inbound else { return };
        if !inbound.arrivals().is_empty() {
            self.packets.extend(inbound.arrivals());
            self.ticks_without = 0;
        }
        self.is_speaking = inbound.activity().is_speaking();
        self.is_pausing = inbound.activity().is_pausing();
    }

    /// Its packets are passed on in this tick.
    pub fn pass_on(&mut self) {
        self.is_passed_on = true;
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// What is to be passed on.
    #[must_use]
    pub fn packets(&self) -> &Arrivals {
        &self.packets
    }

    /// Whether it has something to say.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    /// Whether it says nothing right now.
    #[must_use]
    pub fn is_pausing(&self) -> bool {
        self.is_pausing
    }

    /// Whether packets come.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.ticks_without < ABSENT_TICKS
    }
}
