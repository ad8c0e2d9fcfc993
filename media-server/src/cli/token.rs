//! `dragoman token`: mints a participant's token from the API key, without a server.

use anyhow::Context;
use clap::Args;
use signaling::wire::{CreateToken, Grants};
use signaling::{ApiKey, TokenKey};

/// Options of `dragoman token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The server's API key
    #[arg(long, env = "DRAGOMAN_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: String,
    /// Room the token is for
    #[arg(long)]
    room: String,
    /// Identity of the participant, unique in the room
    #[arg(long)]
    identity: String,
    /// Display name [default: the identity]
    #[arg(long)]
    name: Option<String>,
    /// Language spoken, such as en or es
    #[arg(long)]
    language: inference::Language,
    /// Language heard [default: the one spoken]
    #[arg(long, value_name = "LANGUAGE")]
    hear: Option<inference::Language>,
    /// Voice of what is interpreted for them, one of GET /v1/voices [default: the language's]
    #[arg(long)]
    voice: Option<String>,
    /// Lifetime in seconds
    #[arg(long, default_value_t = 6 * 3600, value_name = "SECONDS")]
    ttl: u64,
    /// May only listen
    #[arg(long)]
    listen_only: bool,
    /// May mute, remove and end the room
    #[arg(long)]
    moderate: bool,
}

#[allow(clippy::print_stdout, reason = "the token is the result of the command")]
pub(super) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let request = CreateToken {
        identity: args.identity.clone(),
        name: args.name.clone(),
        language: args.language.to_string(),
        hear: args.hear.map(|language| language.to_string()),
        voice: args.voice.clone(),
        grants: Grants { speak: !args.listen_only, moderate: args.moderate, ..Grants::default() },
        ttl_s: Some(args.ttl),
    };
    // The key's own server decides whether a development key will do.
    let key = ApiKey::parse(&args.api_key, true)?;
    let token = signaling::mint_token(&TokenKey::derive(&key), &args.room, &request)
        .context("cannot mint the token")?;
    println!("{}", token.token);
    Ok(())
}
