//! The handle of the media workers: binds their sockets, starts their threads, sends them peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};
use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;

use super::channel::Channel;
use super::command::Command;
use super::frames::{PlayoutWriter, heard_ring, playout_ring};
use super::inbound::Inbound;
use super::outbound::{Outbound, Tuned};
use super::peer::Peer;
use super::stats::{Counters, Stats};
use super::worker::Worker;
use super::{ChannelId, ConnectPeer, Connected, MediaConfig, Notice, PeerId, Programme};
use crate::transport::{
    Flow, IceFragment, IceUpdate, PeerConnection, TransportError, host_addresses,
};

/// Frames of 20 ms that a heard ring holds: 5 s. A recogniser farther behind loses the newest.
const HEARD_FRAMES: usize = 250;
/// Frames of 20 ms that a playout ring holds: 2 s, so that little is left to say when an utterance
/// is cut short.
const PLAYOUT_FRAMES: usize = 100;
/// Commands that wait for a worker. A worker takes all of them within a tick, so a full channel
/// means that it is stuck: the command fails.
const COMMANDS: usize = 1_024;
/// Receive buffer of a socket: packets of a hundred peers over a few hundred milliseconds.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Handle of all media workers; cheap to clone. Dropping the last one stops them.
#[derive(Clone)]
pub struct MediaPlane {
    shared: Arc<Shared>,
}

struct Shared {
    workers: Vec<Handle>,
    config: MediaConfig,
}

/// One worker, seen from outside.
struct Handle {
    /// `None` only while the worker is being stopped.
    commands: Option<Sender<Command>>,
    wake: Arc<OwnedFd>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
    candidates: Vec<SocketAddr>,
}

impl MediaPlane {
    /// Binds the sockets and starts the workers.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when a port is taken, [`TransportError::Stack`] when the system
    /// gives no thread or no list of addresses.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the workers' clones should be the last ones"
    )]
    pub fn start(config: MediaConfig, notices: Sender<Notice>) -> Result<Self, TransportError> {
        let addresses = announced(&config)?;
        let mut workers = Vec::new();
        for index in 0..config.workers.max(1) {
            workers.push(Handle::start(&config, index, &addresses, notices.clone())?);
        }
        Ok(Self { shared: Arc::new(Shared { workers, config }) })
    }

    /// Answers an offer and hands the peer to its room's worker.
    ///
    /// Never waits: the offer is judged and the answer made on the caller's thread (a millisecond
    /// or two of computing), and the worker learns of the peer through its command channel. It is
    /// fit to be called from asynchronous code, or inside `spawn_blocking` where that millisecond
    /// matters. [`Notice::PeerConnected`] follows when media flows, [`Notice::PeerClosed`] when the
    /// peer is gone, also when it never connects.
    ///
    /// # Errors
    /// [`TransportError::BadSdp`] and [`TransportError::Unacceptable`] for the offer,
    /// [`TransportError::WorkerBusy`] when the worker takes no commands,
    /// [`TransportError::Stack`] when the WebRTC stack or the codec refuses.
    pub fn connect(&self, request: ConnectPeer) -> Result<Connected, TransportError> {
        let ConnectPeer { peer, room, offer_sdp, speak, listen } = request;
        let worker = self.worker_of(room);
        let now = Instant::now();
        let wanted = Flow { speak, listen };
        let timeout = self.shared.config.peer_timeout;
        let (connection, answer) =
            PeerConnection::accept(now, &offer_sdp, wanted, &worker.candidates, timeout)?;
        let (heard_writer, heard) = heard_ring(HEARD_FRAMES);
        let (playout, playout_reader) = playout_ring(PLAYOUT_FRAMES);
        let inbound = answer.flow.speak.then(|| Inbound::new(heard_writer)).transpose()?;
        let has_originals = answer.originals_mid.is_some();
        let outbound =
            answer.flow.listen.then(|| Outbound::new(playout_reader, has_originals)).transpose()?;
        let peer = Peer::new(now, peer, connection, inbound, outbound, timeout);
        worker.command(Command::Add(Box::new(peer), answer.ice_ufrag.clone()))?;
        Ok(Connected {
            answer_sdp: answer.sdp,
            ice_ufrag: answer.ice_ufrag,
            track_mid: answer.mid,
            originals_mid: answer.originals_mid,
            heard,
            playout,
        })
    }

    /// Ends a peer; [`Notice::PeerClosed`] confirms it. Nothing happens when there is none.
    pub fn disconnect(&self, peer: PeerId) {
        self.broadcast(|| Command::Remove(peer));
    }

    /// Tells a peer's ICE agent what the peer says about its own side: candidates, or the wish to
    /// start over. `room` is the one it connected in; `expected`, when given, is the ICE user
    /// fragment of ours that the peer goes by.
    ///
    /// # Errors
    /// [`TransportError::NoSuchPeer`], [`TransportError::StaleIce`] when `expected` is not the
    /// fragment of now, [`TransportError::WorkerBusy`], or [`TransportError::Stack`] when the stack
    /// refuses.
    pub async fn update_ice(
        &self,
        room: u64,
        peer: PeerId,
        expected: Option<String>,
        fragment: IceFragment,
    ) -> Result<IceUpdate, TransportError> {
        let (reply, update) = oneshot::channel();
        self.worker_of(room).command(Command::UpdateIce { peer, expected, fragment, reply })?;
        // A worker answers within a tick, and one that is stopped drops the sender.
        update.await.unwrap_or(Err(TransportError::WorkerBusy))
    }

    /// `listener` hears the original sound of `source` at `gain` (1 is as it came) from now on,
    /// instead of what was set before for the two. With `duck` it goes down to
    /// [`super::mixer::DUCKED`] of that while an interpretation plays. A listener with a track of
    /// its own for the originals gets them there as they came. Both must be of one room;
    /// the listener must be connected already ([`connect`](Self::connect) has returned), the
    /// source may come later. Nobody hears themselves.
    pub fn set_route(&self, listener: PeerId, source: PeerId, gain: f32, duck: bool) {
        self.broadcast(|| Command::SetRoute { listener, source, gain, duck });
    }

    /// `listener` hears interpretations at `gain` from now on, 0 to 1.
    pub fn set_voice_gain(&self, listener: PeerId, gain: f32) {
        self.broadcast(|| Command::SetVoiceGain { listener, gain });
    }

    /// `listener` hears the original sound of `source` no more.
    pub fn clear_route(&self, listener: PeerId, source: PeerId) {
        self.broadcast(|| Command::ClearRoute { listener, source });
    }

    /// Opens a channel of the conference in `room` and gives the ring that what is said on it goes
    /// into: one frame of it is taken every 20 ms, whoever listens. Its reader is gone
    /// (`read_is_held` is false) when the channel is closed. A channel that has the id already is
    /// closed.
    ///
    /// [`Notice::Spoken`] and [`Notice::Finished`] tell of each utterance for each listener who is
    /// tuned to it; of one that nobody hears they tell nothing.
    ///
    /// # Errors
    /// [`TransportError::WorkerBusy`], or [`TransportError::Stack`] when the codec refuses.
    pub fn open_channel(
        &self,
        room: u64,
        channel: ChannelId,
    ) -> Result<PlayoutWriter, TransportError> {
        let (playout, reader) = playout_ring(PLAYOUT_FRAMES);
        let channel = Box::new(Channel::new(channel, reader)?);
        self.worker_of(room).command(Command::OpenChannel { room, channel })?;
        Ok(playout)
    }

    /// Closes a channel. Who listened to it hears silence until they are tuned elsewhere.
    pub fn close_channel(&self, room: u64, channel: ChannelId) {
        self.order(room, Command::CloseChannel { room, channel });
    }

    /// `listener` hears this programme from now on, on the track that it has: its sequence numbers
    /// and timestamps go on. What `own` says is left out: the
    /// listener's own sound, which another peer of the same person may bring. A listener with a
    /// track of its own for the originals has the floor there, and on the other one what is
    /// interpreted, at most.
    ///
    /// The listener must be connected already ([`connect`](Self::connect) has returned). What is set
    /// by [`set_route`](Self::set_route) and [`set_voice_gain`](Self::set_voice_gain), and what is in
    /// its own playout ring, is not heard any more.
    pub fn tune(&self, room: u64, listener: PeerId, programme: Programme, own: PeerId) {
        self.order(room, Command::Tune { listener, tuned: Tuned { room, programme, own } });
    }

    /// Whether the sound of `source` is on the floor of its conference. It leaves the floor by
    /// itself when it is gone.
    pub fn set_on_floor(&self, room: u64, source: PeerId, on_floor: bool) {
        self.order(room, Command::SetOnFloor { room, source, on_floor });
    }

    /// The sound of `source`, a human interpreter, goes into a channel; `None` gives the channel
    /// back to its ring, and so does the end of `source`. What comes through the ring meanwhile is
    /// not heard: an utterance that had begun is told as finished at its end, and of another one
    /// nothing is told.
    pub fn set_interpreter(&self, room: u64, channel: ChannelId, source: Option<PeerId>) {
        self.order(room, Command::SetInterpreter { room, channel, source });
    }

    /// What all workers counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters: Vec<&Counters> =
            self.shared.workers.iter().map(|worker| worker.counters.as_ref()).collect();
        Stats::of(&counters)
    }

    /// The addresses that worker 0 offers as candidates.
    #[must_use]
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.shared.workers[0].candidates
    }

    fn worker_of(&self, room: u64) -> &Handle {
        let workers = &self.shared.workers;
        let index = usize::try_from(room % workers.len() as u64)
            .expect("the remainder is an index of the workers");
        &workers[index]
    }

    fn order(&self, room: u64, command: Command) {
        if let Err(error) = self.worker_of(room).command(command) {
            tracing::error!(room, %error, "a command was lost");
        }
    }

    fn broadcast(&self, command: impl Fn() -> Command) {
        for worker in &self.shared.workers {
            if let Err(error) = worker.command(command()) {
                tracing::error!(%error, "a command was lost");
            }
        }
    }
}

impl Handle {
    fn start(
        config: &MediaConfig,
        index: usize,
        addresses: &[IpAddr],
        notices: Sender<Notice>,
    ) -> Result<Self, TransportError> {
        let failed = |error: std::io::Error| TransportError::Stack(error.to_string());
        let offset = u16::try_from(index).unwrap_or(u16::MAX);
        let port = if config.port == 0 { 0 } else { config.port.saturating_add(offset) };
        let address = SocketAddr::new(config.bind, port);
        let socket =
            bind_or_ipv4(address).map_err(|source| TransportError::Bind { address, source })?;
        let port = socket.local_addr().map_err(failed)?.port();
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| failed(error.into()))?;
        let wake = Arc::new(wake);
        let (commands, receiver) = crossbeam_channel::bounded(COMMANDS);
        let counters = Arc::new(Counters::default());
        let worker =
            Worker::new(socket, Arc::clone(&wake), receiver, notices, Arc::clone(&counters));
        let real_time = config.real_time;
        let thread = std::thread::Builder::new()
            .name(format!("media-{index}"))
            .spawn(move || worker.run(real_time))
            .map_err(failed)?;
        Ok(Self {
            commands: Some(commands),
            wake,
            counters,
            thread: Some(thread),
            candidates: addresses.iter().map(|address| SocketAddr::new(*address, port)).collect(),
        })
    }

    fn command(&self, command: Command) -> Result<(), TransportError> {
        let commands = self.commands.as_ref().ok_or(TransportError::WorkerBusy)?;
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => TransportError::WorkerBusy,
        })?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the worker is awake.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.commands = None;
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a media worker had panicked");
        }
    }
}

/// The addresses to offer: what the operator said, else what we bind to, else all we have.
fn announced(config: &MediaConfig) -> Result<Vec<IpAddr>, TransportError> {
    if !config.announce.is_empty() {
        return Ok(config.announce.clone());
    }
    if !config.bind.is_unspecified() {
        return Ok(vec![config.bind]);
    }
    let mut addresses =
        host_addresses().map_err(|error| TransportError::Stack(error.to_string()))?;
    if config.bind.is_ipv4() {
        addresses.retain(IpAddr::is_ipv4);
    }
    Ok(addresses)
}

/// Binds; where a machine has no IPv6, "every address" is every one of IPv4.
fn bind_or_ipv4(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let is_any_v6 = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    bind(address).or_else(|error| {
        let has_no_v6 = matches!(
            rustix::io::Errno::from_io_error(&error),
            Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
        );
        if !(is_any_v6 && has_no_v6) {
            return Err(error);
        }
        tracing::warn!("this machine has no IPv6; media go over IPv4 alone");
        bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
    })
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // The system gives what `net.core.rmem_max` allows.
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
        tracing::warn!(%error, "receive buffer stays small");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
