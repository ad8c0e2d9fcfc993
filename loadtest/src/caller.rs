//! One participant: joins a room, speaks recordings, records what comes back.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use webrtc::peer_connection::RTCPeerConnectionState;

use crate::api::{Api, ApiError, Session};
use crate::clip::Clip;
use crate::detour::Detour;
pub use crate::microphone::SpokenSpan;
use crate::microphone::{Microphone, Speech};
use crate::peer::Peer;
use crate::recording::{Keep, Recorder, Recording};

/// Time for the candidates of this machine to be found.
const GATHER_PATIENCE: Duration = Duration::from_secs(2);
/// Speeches that may wait behind the one being said; a further one waits for its place.
const WAITING_SPEECHES: usize = 4;

/// How to join.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Address of the server, such as `http://127.0.0.1:8080`.
    pub server: String,
    /// Name of the room.
    pub room: String,
    /// The participant's access token.
    pub token: String,
    /// Local address for the media.
    pub bind: IpAddr,
    /// Time for the connection to come up.
    pub patience: Duration,
    /// What of the packets that are heard is kept.
    pub keep: Keep,
    /// A bad network on the way, when there is to be one.
    pub detour: Option<Arc<Detour>>,
}

impl JoinOptions {
    /// Media on 127.0.0.1, 15 s for the connection.
    #[must_use]
    pub fn new(server: &str, room: &str, token: &str) -> Self {
        Self {
            server: server.to_owned(),
            room: room.to_owned(),
            token: token.to_owned(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            patience: Duration::from_secs(15),
            keep: Keep::Samples,
            detour: None,
        }
    }
}

/// Why a caller could not join or speak.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The server refused the session, or cannot be reached.
    #[error("the session was not opened")]
    Session(#[from] ApiError),
    /// The offer could not be made or the answer not taken.
    #[error("the peer connection could not be set up")]
    Peer(#[from] webrtc::error::Error),
    /// The codec could not be set up.
    #[error("Opus could not be set up")]
    Opus(#[from] opus::Error),
    /// The relay of a detour got no port.
    #[error("there is no way by a detour")]
    Detour(#[from] std::io::Error),
    /// No path to the server's media address was found.
    #[error(
        "the media connection is {state} after {} s: is the server's UDP address reachable?",
        waited.as_secs()
    )]
    NotConnected {
        /// State it was in.
        state: String,
        /// How long it had.
        waited: Duration,
    },
    /// The connection went down while the caller spoke.
    #[error("the media connection was lost")]
    ConnectionLost,
    /// There is nothing to say.
    #[error("the speech holds no samples")]
    NothingToSay,
}

/// A participant in a room. It sends 50 packets a second from the moment it joined, silence
/// included, and records all it receives. Drop it and it falls silent; [`Caller::leave`] says
/// goodbye as well.
pub struct Caller {
    api: Api,
    location: String,
    peer: Peer,
    speeches: mpsc::Sender<Speech>,
    microphone: JoinHandle<()>,
    recorder: Arc<Mutex<Recorder>>,
}

impl Caller {
    /// Posts an offer to `/v1/rooms/{room}/sessions` and waits until the media is connected.
    ///
    /// # Errors
    /// [`CallerError`]; whatever was opened on the way is closed again.
    pub async fn join(options: JoinOptions) -> Result<Self, CallerError> {
        let recorder = Arc::new(Mutex::new(Recorder::new(options.keep)?));
        let mut peer = Peer::new(options.bind, Arc::clone(&recorder)).await?;
        let api = Api::new(&options.server, &options.token);
        let session = match peer.offer(GATHER_PATIENCE).await {
            Ok(offer) => open(&api, offer, &options).await,
            Err(error) => Err(error.into()),
        };
        let session = match session {
            Ok(session) => session,
            Err(error) => {
                peer.close().await;
                return Err(error);
            }
        };
        match connect(&mut peer, session.answer_sdp, options.patience).await {
            Ok(microphone) => {
                let (speeches, waiting) = mpsc::channel(WAITING_SPEECHES);
                let microphone = tokio::spawn(microphone.run(waiting));
                let location = session.location;
                Ok(Self { api, location, peer, speeches, microphone, recorder })
            }
            Err(error) => {
                peer.close().await;
                if let Err(error) = api.close_session(&session.location).await {
                    tracing::debug!(%error, "the session was not closed");
                }
                Err(error)
            }
        }
    }

    /// Says 48 kHz mono samples in real time and returns once their last packet has left.
    ///
    /// # Errors
    /// [`CallerError::NothingToSay`], or [`CallerError::ConnectionLost`].
    pub async fn speak(&self, samples_48k: &[f32]) -> Result<SpokenSpan, CallerError> {
        if samples_48k.is_empty() {
            return Err(CallerError::NothingToSay);
        }
        self.say(Clip::encode(samples_48k)?, Instant::now()).await
    }

    /// Says a clip in real time, from the first packet on that is due at or after an instant, and
    /// returns once its last packet has left. Clips are said in the order in which they are given.
    ///
    /// # Errors
    /// [`CallerError::NothingToSay`], or [`CallerError::ConnectionLost`].
    pub async fn say(&self, clip: Clip, at: Instant) -> Result<SpokenSpan, CallerError> {
        if clip.packets().is_empty() {
            return Err(CallerError::NothingToSay);
        }
        let (said, done) = oneshot::channel();
        let speech = Speech { clip, at, said };
        self.speeches.send(speech).await.map_err(|_| CallerError::ConnectionLost)?;
        let mut state = self.peer.state.clone();
        tokio::select! {
            span = done => span.map_err(|_| CallerError::ConnectionLost),
            _ = state.wait_for(is_over) => Err(CallerError::ConnectionLost),
        }
    }

    /// A copy of what was heard so far.
    #[must_use]
    pub fn recording(&self) -> Recording {
        self.with_recording(Recording::clone)
    }

    /// Looks at what was heard so far without copying it; packets wait meanwhile.
    pub fn with_recording<T>(&self, look: impl FnOnce(&Recording) -> T) -> T {
        look(self.recorder.lock().unwrap_or_else(PoisonError::into_inner).recording())
    }

    /// When the packet that holds this RTP timestamp arrived.
    #[must_use]
    pub fn arrival_of(&self, rtp_timestamp: u32) -> Option<Instant> {
        self.with_recording(|recording| recording.arrival_of(rtp_timestamp))
    }

    /// False once the media connection has failed or closed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !is_over(&self.peer.state.borrow())
    }

    /// Resolves when the media connection has failed or closed.
    pub async fn disconnected(&self) {
        // A dropped sender means that the connection is gone as well.
        let _ = self.peer.state.clone().wait_for(is_over).await;
    }

    /// Ends the session and returns what was heard.
    ///
    /// # Errors
    /// [`CallerError::Session`] when the server does not know the session any more; the
    /// connection is closed all the same.
    pub async fn leave(self) -> Result<Recording, CallerError> {
        self.microphone.abort();
        let goodbye = self.api.close_session(&self.location).await;
        self.peer.close().await;
        goodbye?;
        Ok(self.recording())
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.microphone.abort();
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Caller").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Opens a session, by the detour if there is one.
async fn open(api: &Api, offer: String, options: &JoinOptions) -> Result<Session, CallerError> {
    let Some(detour) = &options.detour else {
        return Ok(api.open_session(&options.room, offer).await?);
    };
    let offer = Detour::without_candidates(&offer);
    let mut session = api.open_session(&options.room, offer).await?;
    session.answer_sdp = detour.reroute(&session.answer_sdp).await?;
    Ok(session)
}

async fn connect(
    peer: &mut Peer,
    answer_sdp: String,
    patience: Duration,
) -> Result<Microphone, CallerError> {
    peer.accept(answer_sdp).await?;
    wait_connected(&mut peer.state, patience).await?;
    let payload_type = peer.payload_type().await?;
    Ok(Microphone::new(Arc::clone(&peer.track), peer.ssrc, payload_type)?)
}

async fn wait_connected(
    state: &mut watch::Receiver<RTCPeerConnectionState>,
    patience: Duration,
) -> Result<(), CallerError> {
    let settled = |state: &RTCPeerConnectionState| {
        *state == RTCPeerConnectionState::Connected || is_over(state)
    };
    // Whether it settled, gave up or ran out of time: the state says it.
    let _ = tokio::time::timeout(patience, state.wait_for(settled)).await;
    let reached = *state.borrow();
    if reached == RTCPeerConnectionState::Connected {
        return Ok(());
    }
    Err(CallerError::NotConnected { state: reached.to_string(), waited: patience })
}

fn is_over(state: &RTCPeerConnectionState) -> bool {
    matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
}
