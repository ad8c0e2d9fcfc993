//! The loop of a media worker: one thread, one socket, its peers, no locks.
//!
//! It sleeps until a datagram, a command, the next tick or a timer of a peer is due. Everything
//! that thinks about time is below it and gets the instant as an argument.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::command::Command;
use super::conferences::Conferences;
use super::demux::Demux;
use super::originals::Originals;
use super::outbound::Tuned;
use super::peer::{Peer, PeerOutput, Sent};
use super::socket::Socket;
use super::stats::Counters;
use super::{CloseReason, Notice, PeerId};
use crate::priority::{self, Advice, Watch};
use crate::transport::{IceFragment, IceUpdate, TransportError};

/// Time between two packets of a track.
pub const TICK: Duration = Duration::from_millis(20);
/// Ticks a late worker catches up on; older ones are left out. A receiver has played silence by
/// then, and a burst would only fill its jitter buffer.
const CATCH_UP: u64 = 3;
/// Shortest sleep for a peer's timer. A timer that is always due would else keep the worker busy.
const MIN_TIMER: Duration = Duration::from_millis(1);
/// Datagrams that are read between two looks at the clock.
const READ_BURST: usize = 64;
/// Largest datagram that is read; longer ones are cut and then refused as damaged.
const DATAGRAM_BYTES: usize = 2_048;

/// What a worker is made of.
pub struct Worker {
    socket: Socket,
    wake: Arc<OwnedFd>,
    commands: Receiver<Command>,
    notices: Sender<Notice>,
    counters: Arc<Counters>,
    peers: HashMap<PeerId, Peer>,
    /// When each peer's timer is due.
    timers: HashMap<PeerId, Instant>,
    demux: Demux,
    originals: Originals,
    conferences: Conferences,
    /// Peers of the tick in progress; kept for its memory.
    order: Vec<PeerId>,
    started: Instant,
    /// Watches a worker that is, or was, in the real-time class.
    watch: Option<Watch>,
    /// Number of the next tick.
    next_tick: u64,
}

impl Worker {
    /// A worker that has not started. The socket must be non-blocking.
    pub fn new(
        socket: UdpSocket,
        wake: Arc<OwnedFd>,
        commands: Receiver<Command>,
        notices: Sender<Notice>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            socket: Socket::new(socket),
            wake,
            commands,
            notices,
            counters,
            peers: HashMap::new(),
            timers: HashMap::new(),
            demux: Demux::default(),
            originals: Originals::default(),
            conferences: Conferences::default(),
            order: Vec::new(),
            started: Instant::now(),
            watch: None,
            next_tick: 0,
        }
    }

    /// Runs until the plane is dropped, then says goodbye to every peer. With `real_time`, in the
    /// system's real-time class where it allows that.
    pub fn run(mut self, real_time: bool) {
        if real_time {
            self.enter_real_time();
        }
        let mut datagram = [0; DATAGRAM_BYTES];
        loop {
            if self.obey() {
                break;
            }
            self.read(&mut datagram);
            self.run_timers(Instant::now());
            self.run_ticks();
            let slept = self.sleep();
            self.keep_watch(slept);
        }
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.farewell(id, CloseReason::Requested);
        }
    }

    /// Carries out commands; true when there will be no more.
    fn obey(&mut self) -> bool {
        // The counter must be read to fall silent; it may be zero already.
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Add(peer, ufrag)) => {
                    let id = peer.id();
                    self.farewell(id, CloseReason::Requested);
                    self.demux.insert(id, ufrag);
                    self.peers.insert(id, *peer);
                    self.counters.peers.store(self.peers.len() as u64, Ordering::Relaxed);
                    self.with(id, |_| ());
                }
                Ok(Command::Remove(id)) => self.farewell(id, CloseReason::Requested),
                Ok(Command::UpdateIce { peer, expected, fragment, reply }) => {
                    let update = self.update_ice(peer, expected.as_deref(), &fragment);
                    // Whoever asked may have gone away meanwhile.
                    let _ = reply.send(update);
                }
                Ok(Command::SetRoute { listener, source, gain, duck }) => {
                    if let Some(outbound) = self.peers.get_mut(&listener).and_then(Peer::outbound)
                        && listener != source
                    {
                        outbound.set_route(source, gain, duck);
                    }
                }
                Ok(Command::SetVoiceGain { listener, gain }) => {
                    if let Some(peer) = self.peers.get_mut(&listener) {
                        peer.set_voice_gain(gain);
                    }
                }
                Ok(Command::ClearRoute { listener, source }) => {
                    if let Some(outbound) = self.peers.get_mut(&listener).and_then(Peer::outbound) {
                        outbound.clear_route(source);
                    }
                }
                Ok(Command::Tune { listener, tuned }) => self.tune(listener, tuned),
                Ok(Command::OpenChannel { room, channel }) => {
                    self.conferences.with(room, |conference| conference.open(channel));
                }
                Ok(Command::CloseChannel { room, channel }) => {
                    self.conferences.with(room, |conference| conference.close(channel));
                }
                Ok(Command::SetOnFloor { room, source, on_floor }) => {
                    self.conferences.with(room, |conference| {
                        conference.set_on_floor(source, on_floor);
                    });
                }
                Ok(Command::SetInterpreter { room, channel, source }) => {
                    self.conferences.with(room, |conference| {
                        conference.set_interpreter(channel, source);
                    });
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn tune(&mut self, listener: PeerId, tuned: Tuned) {
        if let Some(outbound) = self.peers.get_mut(&listener).and_then(Peer::outbound) {
            outbound.tune(tuned);
            self.conferences.with(tuned.room, |_| ());
        }
    }

    fn update_ice(
        &mut self,
        id: PeerId,
        expected: Option<&str>,
        fragment: &IceFragment,
    ) -> Result<IceUpdate, TransportError> {
        let now = Instant::now();
        let mut update = Err(TransportError::NoSuchPeer);
        self.with(id, |peer| update = peer.update_ice(now, expected, fragment));
        if let Ok(IceUpdate::Restarted { ice_ufrag, .. }) = &update {
            self.demux.restarted(id, ice_ufrag.clone());
        }
        update
    }

    fn read(&mut self, buffer: &mut [u8; DATAGRAM_BYTES]) {
        for _ in 0..READ_BURST {
            let (length, from) = match self.socket.udp.recv_from(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // An ICMP answer to something sent earlier; it concerns one peer at most.
                    tracing::debug!(%error, "socket");
                    continue;
                }
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let now = Instant::now();
            self.counters.datagrams_in.add(1);
            let datagram = &buffer[..length];
            let peers = &self.peers;
            let is_alive = |id| peers.get(&id).is_some_and(|peer: &Peer| peer.is_alive(now));
            match self.demux.route(from, datagram, is_alive) {
                Some(id) => {
                    let is_fair = self.peers.get_mut(&id).is_some_and(|peer| peer.is_fair(now));
                    if is_fair {
                        self.with(id, |peer| peer.handle_datagram(now, from, datagram));
                    } else {
                        self.counters.throttled.add(1);
                    }
                }
                None => self.counters.garbage.add(1),
            }
        }
    }

    fn run_timers(&mut self, now: Instant) {
        self.order.clear();
        self.order.extend(self.timers.iter().filter(|(_, due)| **due <= now).map(|(id, _)| *id));
        for index in 0..self.order.len() {
            let id = self.order[index];
            self.with(id, |peer| peer.handle_timeout(now));
        }
    }

    fn run_ticks(&mut self) {
        loop {
            let now = Instant::now();
            let elapsed = now.saturating_duration_since(self.started);
            let current = u64::try_from(elapsed.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
            if current < self.next_tick {
                return;
            }
            let behind = current - self.next_tick;
            if behind > CATCH_UP {
                self.counters.ticks_skipped.add(behind - CATCH_UP);
                self.next_tick = current - CATCH_UP;
            }
            let lateness = now.saturating_duration_since(self.deadline());
            self.counters.tick_lateness.record(lateness);
            self.tick(now);
            self.next_tick += 1;
        }
    }

    fn tick(&mut self, now: Instant) {
        let tick = self.next_tick;
        let mut originals = std::mem::take(&mut self.originals);
        originals.clear();
        self.order.clear();
        self.order.extend(self.peers.keys());
        for index in 0..self.order.len() {
            let id = self.order[index];
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            // This sends nothing, so the connection needs no polling after it.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                originals.add(id, |block| peer.listen_to(now, block, &self.counters));
            }));
            if outcome.is_err() {
                self.remove_panicked(id);
            }
        }
        let mut conferences = std::mem::take(&mut self.conferences);
        conferences.tick(&self.peers, &originals, &self.counters);
        for index in 0..self.order.len() {
            let id = self.order[index];
            let counters = Arc::clone(&self.counters);
            let mut outcome = Ok(None);
            self.with(id, |peer| {
                let original = |source| originals.get(source);
                outcome = match peer.tuned() {
                    None => peer.speak_to(now, tick, original, &counters),
                    Some(tuned) => match conferences.get(tuned.room) {
                        Some(conference) => {
                            peer.speak_to_tuned(now, tick, conference, original, &counters)
                        }
                        None => Ok(None),
                    },
                };
            });
            match outcome {
                Ok(Some(sent)) => self.tell_progress(id, sent),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(peer = id.0, %error, "peer failed");
                    self.farewell(id, CloseReason::Failed);
                }
            }
        }
        self.originals = originals;
        self.conferences = conferences;
        if self.peers.len() < self.order.len() {
            let is_gone = |id: &&PeerId| !self.peers.contains_key(*id);
            self.order.iter().filter(is_gone).for_each(|id| self.conferences.forget(*id));
        }
    }

    fn tell_progress(&self, peer: PeerId, sent: Sent) {
        let now = Instant::now();
        if let Some(utterance) = sent.progress.spoken {
            let rtp_timestamp = sent.rtp_timestamp;
            self.tell(Notice::Spoken { peer, utterance, rtp_timestamp, sent: now });
        }
        if let Some(utterance) = sent.progress.finished {
            self.tell(Notice::Finished { peer, utterance, sent: now });
        }
    }

    /// Does something with a peer and sends what comes of it. A peer that panics is ended, like
    /// one that fails; the others go on.
    fn with(&mut self, id: PeerId, act: impl FnOnce(&mut Peer)) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let now = Instant::now();
        let mut closed = None;
        let mut connected = None;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            act(peer);
            while let Some(output) = peer.poll(now, &self.counters) {
                match output {
                    PeerOutput::Transmit { to, bytes } => {
                        self.demux.sent(id, to, &bytes);
                        self.socket.send(to, &bytes, &self.counters);
                    }
                    PeerOutput::Connected(after) => connected = Some(after),
                    PeerOutput::Closed(reason) => {
                        closed = Some(reason);
                        break;
                    }
                }
            }
            peer.poll_timeout()
        }));
        match outcome {
            Ok(Some(due)) => {
                self.timers.insert(id, due.max(now + MIN_TIMER));
            }
            Ok(None) => {
                self.timers.remove(&id);
            }
            Err(_) => {
                self.remove_panicked(id);
                return;
            }
        }
        if let Some(after) = connected {
            self.counters.connect_time.record(after);
            self.tell(Notice::PeerConnected { peer: id, after });
        }
        if let Some(reason) = closed {
            self.farewell(id, reason);
        }
    }

    /// Says goodbye to a peer and removes it.
    fn farewell(&mut self, id: PeerId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let now = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            peer.close();
            while let Some(output) = peer.poll(now, &self.counters) {
                match output {
                    PeerOutput::Transmit { to, bytes } => {
                        self.socket.send(to, &bytes, &self.counters);
                    }
                    PeerOutput::Connected(_) => {}
                    PeerOutput::Closed(_) => break,
                }
            }
        }));
        let reason = if outcome.is_ok() { reason } else { CloseReason::Failed };
        self.remove(id, reason);
    }

    fn remove_panicked(&mut self, id: PeerId) {
        tracing::error!(peer = id.0, "the state machine of a peer panicked");
        self.remove(id, CloseReason::Failed);
    }

    fn remove(&mut self, id: PeerId, reason: CloseReason) {
        self.demux.remove(id);
        self.timers.remove(&id);
        self.peers.remove(&id);
        self.conferences.forget(id);
        self.counters.peers.store(self.peers.len() as u64, Ordering::Relaxed);
        if reason == CloseReason::Failed {
            self.counters.peers_failed.add(1);
        }
        self.tell(Notice::PeerClosed { peer: id, reason });
    }

    fn tell(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            self.counters.notices_dropped.add(1);
            tracing::warn!("the house does not take notices fast enough; one is dropped");
        }
    }

    /// When the next tick is due.
    fn deadline(&self) -> Instant {
        let ticks = u32::try_from(self.next_tick).unwrap_or(u32::MAX);
        self.started + TICK * ticks
    }

    /// Sleeps until something is due and says for how long it did.
    fn sleep(&self) -> Duration {
        let due = self.timers.values().copied().fold(self.deadline(), Instant::min);
        let before = Instant::now();
        let wait = due.saturating_duration_since(before);
        if wait.is_zero() {
            return Duration::ZERO;
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.min(TICK).subsec_nanos()) };
        let mut sources =
            [PollFd::new(&self.socket.udp, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        // Interrupted or not, the loop looks at everything.
        let _ = poll(&mut sources, Some(&timeout));
        before.elapsed()
    }

    fn enter_real_time(&mut self) {
        match priority::enter_real_time() {
            Ok(()) => {
                self.counters.real_time.store(1, Ordering::Relaxed);
                self.watch.get_or_insert_with(|| Watch::new(Instant::now()));
            }
            Err(error) => tracing::warn!(
                %error,
                remedy = priority::HOW_TO_ALLOW,
                "this media worker gets no real-time priority: sound may stutter under load"
            ),
        }
    }

    /// Leaves the real-time class while the worker is busy all the time, so that nothing starves.
    fn keep_watch(&mut self, slept: Duration) {
        let Some(watch) = &mut self.watch else { return };
        match watch.slept(Instant::now(), slept) {
            None => {}
            Some(Advice::Return) => {
                tracing::info!("this media worker is calm again and takes real-time priority");
                self.enter_real_time();
            }
            Some(Advice::Leave) => {
                tracing::warn!("this media worker is too busy for real-time priority");
                if let Err(error) = priority::leave_real_time() {
                    tracing::error!(%error, "and cannot leave it");
                }
                self.counters.real_time.store(0, Ordering::Relaxed);
            }
        }
    }
}
