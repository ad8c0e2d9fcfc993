//! `dragoman token`: mints a token from the API key, without a server: a participant's, or one that
//! administers.

use anyhow::Context;
use clap::Args;
use signaling::wire::{CreateToken, Grants, OWN_VOICE};
use signaling::{ApiKey, TokenKey};

/// Options of `dragoman token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The server's API key
    #[arg(long, env = "DRAGOMAN_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: String,
    /// Administers rooms and mints tokens, as the key does; names no room
    #[arg(long, conflicts_with_all = ["room", "language"])]
    admin: bool,
    /// Room the token is for
    #[arg(long, required_unless_present = "admin")]
    room: Option<String>,
    /// Identity of the participant, unique in the room, or whom an admin token is given to
    #[arg(long)]
    identity: String,
    /// Display name [default: the identity]
    #[arg(long)]
    name: Option<String>,
    /// Language spoken, such as en or es
    #[arg(long, required_unless_present = "admin")]
    language: Option<inference::Language>,
    /// Language heard [default: the one spoken]
    #[arg(long, value_name = "LANGUAGE")]
    hear: Option<inference::Language>,
    /// Voice of what is interpreted for them, one of GET /v1/voices [default: the language's]
    #[arg(long)]
    voice: Option<String>,
    /// Others hear what they say in their own voice, as soon as it is learned: they have agreed to
    /// that
    #[arg(long, conflicts_with = "voice")]
    own_voice: bool,
    /// Lifetime in seconds
    #[arg(long, default_value_t = 6 * 3600, value_name = "SECONDS")]
    ttl: u64,
    /// May only listen
    #[arg(long)]
    listen_only: bool,
    /// Channels of a conference that may be listened to, separated by commas [default: every one]
    #[arg(long, value_delimiter = ',', value_name = "CHANNELS")]
    channels: Option<Vec<String>>,
    /// Channels of a conference that may be interpreted into, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "CHANNELS")]
    interpret: Vec<String>,
    /// May mute, remove and end the room
    #[arg(long)]
    moderate: bool,
}

#[allow(clippy::print_stdout, reason = "the token is the result of the command")]
pub(super) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    // The key's own server decides whether a development key will do.
    let key = TokenKey::derive(&ApiKey::parse(&args.api_key, true)?);
    let token = if args.admin {
        signaling::mint_admin_token(&key, &args.identity, Some(args.ttl))
    } else {
        let room = args.room.as_ref().context("no room: name one with --room")?;
        let language = args.language.context("no language: name one with --language")?;
        let request = CreateToken {
            identity: args.identity.clone(),
            name: args.name.clone(),
            language: language.to_string(),
            hear: args.hear.map(|language| language.to_string()),
            voice: args.voice.clone().or(args.own_voice.then(|| OWN_VOICE.to_owned())),
            grants: Grants {
                speak: !args.listen_only,
                listen: true,
                channels: args.channels.clone(),
                interpret: args.interpret.clone(),
                moderate: args.moderate,
                own_voice: args.own_voice,
            },
            ttl_s: Some(args.ttl),
        };
        signaling::mint_token(&key, room, &request)
    };
    println!("{}", token.context("cannot mint the token")?.token);
    Ok(())
}
