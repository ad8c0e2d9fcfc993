//! What the house asks of a media worker.

use tokio::sync::oneshot;

use super::channel::Channel;
use super::outbound::Tuned;
use super::peer::Peer;
use super::{ChannelId, PeerId};
use crate::transport::{IceFragment, IceUpdate, TransportError};

/// What the house asks of a worker.
pub enum Command {
    /// Serve this peer, whose ICE user fragment is the text.
    Add(Box<Peer>, String),
    /// End this peer.
    Remove(PeerId),
    /// The peer says something about its side of ICE.
    UpdateIce {
        /// Who.
        peer: PeerId,
        /// Our ICE user fragment that it goes by, when it goes by one.
        expected: Option<String>,
        /// What it says.
        fragment: IceFragment,
        /// Takes what came of it.
        reply: oneshot::Sender<Result<IceUpdate, TransportError>>,
    },
    /// `listener` hears `source`.
    SetRoute {
        /// Who hears.
        listener: PeerId,
        /// Whom.
        source: PeerId,
        /// How loud.
        gain: f32,
        /// Quieter while an interpretation plays.
        duck: bool,
    },
    /// `listener` hears interpretations at this gain.
    SetVoiceGain {
        /// Who hears.
        listener: PeerId,
        /// How loud, 0 to 1.
        gain: f32,
    },
    /// `listener` hears `source` no more.
    ClearRoute {
        /// Who.
        listener: PeerId,
        /// Whom.
        source: PeerId,
    },
    /// Open a channel of the conference in a room.
    OpenChannel {
        /// The room.
        room: u64,
        /// The channel.
        channel: Box<Channel>,
    },
    /// Close it.
    CloseChannel {
        /// The room.
        room: u64,
        /// Which.
        channel: ChannelId,
    },
    /// `listener` hears a programme.
    Tune {
        /// Who hears.
        listener: PeerId,
        /// What.
        tuned: Tuned,
    },
    /// `source` is on the floor of a conference, or not.
    SetOnFloor {
        /// The room.
        room: u64,
        /// Who.
        source: PeerId,
        /// Whether.
        on_floor: bool,
    },
    /// `source` interprets into a channel; `None` is the machine.
    SetInterpreter {
        /// The room.
        room: u64,
        /// Which channel.
        channel: ChannelId,
        /// Who.
        source: Option<PeerId>,
    },
}
