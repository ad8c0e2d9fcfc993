//! Who may come into a room, and as what.
//!
//! A person is an *identity*; what they hold are sessions, each a peer of its own. An identity has
//! one session that publishes and one that listens at most, and a session that does both counts as
//! both.

use inference::Language;
use signaling::house::{Caller, HouseError, Role};
use signaling::wire::{ChangeSession, FLOOR, OWN_VOICE, OwnVoice, Participant};

use super::own_voice::Own;
use super::room::RoomState;
use crate::media::PeerId;

/// What one listens to in a conference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Station {
    /// The original sound.
    Floor,
    /// What is said in a language.
    Channel(Language),
}

/// A session of a participant, and its peer.
pub(super) struct Member {
    pub(super) peer: PeerId,
    pub(super) session: String,
    pub(super) identity: String,
    pub(super) name: String,
    /// The language spoken.
    pub(super) language: Language,
    /// The language heard.
    pub(super) hear: Language,
    /// In a call the voice of what is interpreted for them, in a conference the voice that they are
    /// interpreted with.
    pub(super) voice: Option<String>,
    /// Whether they have agreed to their own voice being learned, and ask for it.
    agrees_to_own_voice: bool,
    pub(super) wants_own_voice: bool,
    /// Whether the session was made to publish, and to listen.
    publishes: bool,
    receives: bool,
    /// Whether sound is taken from it, and sent to it.
    pub(super) speaks: bool,
    pub(super) listens: bool,
    /// The channel of a conference that they interpret into.
    pub(super) interprets: Option<Language>,
    /// What they interpret from.
    pub(super) relay: Option<Station>,
    /// What they listen to in a conference.
    pub(super) station: Option<Station>,
    /// Gain of the original under its interpretation, 0 to 1.
    pub(super) original_gain: f32,
    /// The channels that they may listen to, when not all.
    allowed: Option<Vec<String>>,
    pub(super) track: String,
    pub(super) connected: bool,
}

impl Member {
    /// Judges a caller. Nothing of the room changes.
    pub(super) fn admit(
        room: &RoomState,
        caller: &Caller,
        peer: PeerId,
        session: String,
    ) -> Result<Self, HouseError> {
        let unknown = |error: inference::UnknownLanguage| HouseError::Invalid(error.to_string());
        let spoken: Language = caller.language.parse().map_err(unknown)?;
        let hear: Language = caller.hear.parse().map_err(unknown)?;
        let gain = caller.original_gain.unwrap_or(room.original_gain);
        check_gain(gain)?;
        let (publishes, receives) = match &caller.role {
            Role::Both { .. } => (true, true),
            Role::Publish { .. } => (true, false),
            Role::Listen { .. } => (false, true),
        };
        let grants = &caller.grants;
        if matches!(caller.role, Role::Listen { .. }) && !grants.listen {
            return Err(HouseError::Forbidden("the token has no grant to listen".to_owned()));
        }
        let wants_own_voice = caller.voice.as_deref() == Some(OWN_VOICE);
        if wants_own_voice && !grants.own_voice {
            let detail =
                "the token has no grant own_voice, with which the participant agrees to it";
            return Err(HouseError::Forbidden(detail.to_owned()));
        }
        let mut member = Self {
            peer,
            session,
            identity: caller.identity.clone(),
            name: caller.name.clone(),
            language: spoken,
            hear,
            voice: caller.voice.clone().filter(|_| !wants_own_voice),
            agrees_to_own_voice: grants.own_voice,
            wants_own_voice,
            publishes,
            receives,
            speaks: publishes && grants.speak,
            listens: receives && grants.listen,
            interprets: None,
            relay: None,
            station: None,
            original_gain: gain,
            allowed: grants.channels.clone(),
            track: String::new(),
            connected: false,
        };
        match &caller.role {
            Role::Publish { channel: Some(channel), relay } => {
                member.interpret(room, channel, relay.as_deref(), &grants.interpret)?;
            }
            Role::Publish { channel: None, relay } => {
                if relay.is_some() {
                    let detail = "relay says what an interpreter hears: name their channel too";
                    return Err(HouseError::Invalid(detail.to_owned()));
                }
                if !grants.speak {
                    let detail = "the token has no grant to speak";
                    return Err(HouseError::Forbidden(detail.to_owned()));
                }
                room.check_spoken(spoken)?;
            }
            Role::Both { .. } if member.speaks => room.check_spoken(spoken)?,
            Role::Both { .. } | Role::Listen { .. } => {}
        }
        if member.listens {
            member.station = match &caller.role {
                Role::Both { channel: Some(channel) } | Role::Listen { channel: Some(channel) } => {
                    Some(room.station(channel)?)
                }
                _ if !room.is_conference() => None,
                _ if room.has_channel(hear) => Some(Station::Channel(hear)),
                _ => Some(Station::Floor),
            };
            if let Some(station) = member.station {
                member.check_allowed(station)?;
            }
        }
        Ok(member)
    }

    /// Their sound goes into a channel. What they hear themselves is up to their listening session;
    /// `relay` says what it is, for others to know.
    fn interpret(
        &mut self,
        room: &RoomState,
        channel: &str,
        relay: Option<&str>,
        granted: &[String],
    ) -> Result<(), HouseError> {
        let Station::Channel(language) = room.station(channel)? else {
            let detail = "one interprets into a language: the floor is spoken on without a channel";
            return Err(HouseError::Invalid(detail.to_owned()));
        };
        let is_granted = |tag: &String| tag.parse::<Language>().is_ok_and(|own| own == language);
        if !granted.iter().any(is_granted) {
            let detail = format!("the token has no grant to interpret into {language}");
            return Err(HouseError::Forbidden(detail));
        }
        self.relay = relay.map(|relay| room.station(relay)).transpose()?;
        if self.relay == Some(Station::Channel(language)) {
            let detail = "an interpreter cannot take their own channel as relay";
            return Err(HouseError::Invalid(detail.to_owned()));
        }
        self.interprets = Some(language);
        self.language = language;
        self.speaks = true;
        Ok(())
    }

    /// Whether they may listen to it.
    pub(super) fn check_allowed(&self, station: Station) -> Result<(), HouseError> {
        let Some(allowed) = &self.allowed else { return Ok(()) };
        let fits = |name: &String| match station {
            Station::Floor => name == FLOOR,
            Station::Channel(language) => name.parse().is_ok_and(|own: Language| own == language),
        };
        if allowed.iter().any(fits) {
            return Ok(());
        }
        let allowed = allowed.join(", ");
        Err(HouseError::Forbidden(format!("the token does not allow {station}, only: {allowed}")))
    }

    /// Whether both sessions would publish, or both listen, for one identity.
    fn collides(&self, other: &Self) -> bool {
        self.identity == other.identity
            && (self.publishes && other.publishes || self.receives && other.receives)
    }

    /// Whether their sound is on the floor, were they connected and not muted.
    pub(super) fn is_on_floor(&self) -> bool {
        self.speaks && self.interprets.is_none()
    }
}

impl RoomState {
    /// Reserves a place in the room, so that two offers at once cannot both take the last one.
    pub(super) fn reserve(&mut self, member: Member) -> Result<(), HouseError> {
        if self.members.iter().any(|other| other.collides(&member)) {
            return Err(HouseError::IdentityTaken(member.identity));
        }
        if let Some(channel) = member.interprets
            && let Some(other) = self.members.iter().find(|other| other.interprets == Some(channel))
        {
            let by = other.identity.clone();
            return Err(HouseError::ChannelTaken { channel: channel.to_string(), by });
        }
        let is_new = !self.members.iter().any(|other| other.identity == member.identity);
        if is_new && self.identities() >= self.max_participants {
            return Err(HouseError::RoomFull(self.max_participants));
        }
        self.members.push(member);
        Ok(())
    }

    fn identities(&self) -> usize {
        let mut identities: Vec<&str> =
            self.members.iter().map(|member| member.identity.as_str()).collect();
        identities.sort_unstable();
        identities.dedup();
        identities.len()
    }

    /// A participant as all of their sessions together show them; `None` without any.
    pub(super) fn participant(&self, identity: &str) -> Option<Participant> {
        let mut own = self.members.iter().filter(|member| member.identity == identity);
        let first = own.clone().next()?;
        // What an interpreter speaks is said by `interprets`; their own language matters more.
        let speaker = own.clone().find(|member| member.is_on_floor()).unwrap_or(first);
        let listener = own.clone().find(|member| member.listens);
        let agrees = own.clone().any(|member| member.agrees_to_own_voice);
        let own_voice = self.own_voices.get(identity).map(Own::state);
        let interpreter = own.find(|member| member.interprets.is_some());
        let station = listener.and_then(|member| member.station);
        Some(Participant {
            identity: first.identity.clone(),
            name: first.name.clone(),
            language: speaker.language.to_string(),
            hear: listener.unwrap_or(first).hear.to_string(),
            voice: first.voice.clone(),
            own_voice: own_voice.or(agrees.then_some(OwnVoice::Granted)),
            muted: self.silenced.contains(identity),
            interprets: interpreter.and_then(|member| member.interprets).map(|own| own.to_string()),
            relay: interpreter.and_then(|member| member.relay).map(|relay| relay.to_string()),
            channel: station.map(|station| station.to_string()),
        })
    }

    /// Everybody once, in the order in which they came.
    pub(super) fn participants(&self) -> Vec<Participant> {
        let mut seen = std::collections::HashSet::new();
        let new = self.members.iter().filter(|member| seen.insert(member.identity.as_str()));
        new.filter_map(|member| self.participant(&member.identity)).collect()
    }

    /// Changes what a session listens to.
    pub(super) fn change_session(
        &mut self,
        session: &str,
        change: &ChangeSession,
    ) -> Result<(), HouseError> {
        let Some(index) = self.members.iter().position(|member| member.session == session) else {
            return Err(HouseError::NoSuchSession(session.to_owned()));
        };
        if let Some(gain) = change.original_gain {
            check_gain(gain)?;
        }
        let station = change.channel.as_deref().map(|name| self.station(name)).transpose()?;
        let member = &self.members[index];
        if !member.listens {
            return Err(HouseError::Invalid("this session listens to nothing".to_owned()));
        }
        if let Some(station) = station {
            member.check_allowed(station)?;
        }
        let member = &mut self.members[index];
        member.station = station.or(member.station);
        member.original_gain = change.original_gain.unwrap_or(member.original_gain);
        Ok(())
    }

    /// Finds `floor` or a channel by name.
    pub(super) fn station(&self, name: &str) -> Result<Station, HouseError> {
        if !self.is_conference() {
            return Err(HouseError::Invalid("this room has no channels".to_owned()));
        }
        if name == FLOOR {
            return Ok(Station::Floor);
        }
        match name.parse::<Language>() {
            Ok(language) if self.has_channel(language) => Ok(Station::Channel(language)),
            _ => {
                let channels = self.languages.iter().map(|language| language.code());
                let known: Vec<&str> = channels.chain([FLOOR]).collect();
                let channel = name.to_owned();
                Err(HouseError::NoSuchChannel { channel, known: known.join(", ") })
            }
        }
    }

    pub(super) fn has_channel(&self, language: Language) -> bool {
        self.is_conference() && self.languages.contains(&language)
    }

    /// Whether somebody may speak this language here.
    pub(super) fn check_spoken(&self, language: Language) -> Result<(), HouseError> {
        let known: Vec<_> = self.languages.iter().map(|language| language.code()).collect();
        let known = known.join(", ");
        match &self.conference {
            Some(conference) if !conference.understands(language) => Err(HouseError::Invalid(
                format!("{language} can be interpreted into none of the room's channels ({known})"),
            )),
            None if !self.languages.is_empty() && !self.languages.contains(&language) => {
                Err(HouseError::Invalid(format!("the room speaks {known}, not {language}")))
            }
            _ => Ok(()),
        }
    }
}

/// A gain of the original lies between 0 and 1.
pub(super) fn check_gain(gain: f32) -> Result<(), HouseError> {
    if (0.0..=1.0).contains(&gain) {
        return Ok(());
    }
    Err(HouseError::Invalid("original_gain lies between 0 and 1".to_owned()))
}

impl std::fmt::Display for Station {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Floor => formatter.write_str(FLOOR),
            Self::Channel(language) => write!(formatter, "{language}"),
        }
    }
}
