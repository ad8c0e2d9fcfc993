//! Plain HTTP downloads through curl, for Hugging Face and for mirrors with an address. Whatever the
//! operator has configured for curl (a proxy, a certificate) holds.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::assemble::from_copy;
use super::check::check_content;
use super::client::{Clients, Running, reason};
use super::digest::{Digest, for_each_chunk};
use super::error::{Fault, StoreError};
use super::manifest::ModelFile;
use super::source::{Job, Source, SupplyError};

/// Attempts in a row that may end without a new byte.
const FRUITLESS_ATTEMPTS: u32 = 3;

/// Exit statuses of curl that mean "the server will not go on where we stopped" (RFC 9110, 14.2).
const CANNOT_RESUME: [i32; 2] = [33, 36];

/// Exit status of curl for an HTTP status of 400 and above, with `--fail`.
const HTTP_ERROR: i32 = 22;

/// Hugging Face, or the mirror of it that `HF_ENDPOINT` names.
pub(super) struct HuggingFace;

impl Source for HuggingFace {
    fn name(&self) -> String {
        "Hugging Face".to_owned()
    }

    fn supply(&self, job: &Job<'_>, missing: &[&ModelFile]) -> Result<(), SupplyError> {
        let Some(hub) = &job.model.hub else {
            return Err(SupplyError::Unsuitable("it has no copy of this model".to_owned()));
        };
        let base = hub_base(hub.repository.as_str(), hub.revision.as_str());
        let offered: Vec<_> = missing.iter().copied().filter(|file| file.hub.is_some()).collect();
        let bytes = offered.iter().map(|file| file.size).sum();
        job.ledger.plan(job.model.name.as_str(), bytes, bytes);
        for file in &offered {
            let path = file.hub.as_ref().map_or("", |path| path.as_str());
            supply_whole(job, file, &address(&base, path))?;
        }
        let lacking: Vec<_> = missing
            .iter()
            .filter(|file| file.hub.is_none())
            .map(|file| file.path.as_str())
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(SupplyError::Unsuitable(format!("it has no copy of {}", lacking.join(", "))))
    }
}

/// The address that the files of a repository lie under.
pub(super) fn hub_base(repository: &str, revision: &str) -> String {
    let endpoint = std::env::var("HF_ENDPOINT")
        .ok()
        .filter(|endpoint| !endpoint.is_empty())
        .unwrap_or_else(|| "https://huggingface.co".to_owned());
    format!("{}/{repository}/resolve/{revision}", endpoint.trim_end_matches('/'))
}

/// Downloads a finished model file and puts it into place.
pub(super) fn supply_whole(job: &Job<'_>, file: &ModelFile, url: &str) -> Result<(), SupplyError> {
    let name = format!("{}--{}", job.model.name, file.path.as_str().replace('/', "--"));
    let path = download(job, url, &name, file.size, file.sha256)?;
    let result = from_copy(job, file, &path);
    let _ = fs::remove_file(path);
    result
}

/// Downloads `url`, whose length is not known and at most `most`, to `partial`, going on where an
/// earlier attempt stopped. Each number of bytes that came is told to `received`.
pub(super) fn download_unsized(
    clients: &Clients,
    url: &str,
    partial: &Path,
    most: u64,
    received: &mut dyn FnMut(u64),
) -> Result<(), SupplyError> {
    let mut fruitless = 0;
    loop {
        let offset = fs::metadata(partial).map_or(0, |metadata| metadata.len());
        let Err(stop) = receive(clients, url, partial, (offset, most), received)? else {
            return Ok(());
        };
        if stop.is_final() {
            return Err(SupplyError::Unsuitable(stop.reason));
        }
        if stop.status.is_some_and(|status| CANNOT_RESUME.contains(&status)) && offset > 0 {
            remove(partial)?;
        }
        let now = fs::metadata(partial).map_or(0, |metadata| metadata.len());
        fruitless = if now > offset { 0 } else { fruitless + 1 };
        if fruitless == FRUITLESS_ATTEMPTS {
            return Err(SupplyError::Unsuitable(stop.reason));
        }
    }
}

/// Downloads `url` into the depot under `name`, going on where an earlier attempt stopped.
pub(super) fn download(
    job: &Job<'_>,
    url: &str,
    name: &str,
    size: u64,
    sha256: Digest,
) -> Result<PathBuf, SupplyError> {
    let place = job.depot.path(name);
    let partial = job.depot.path(&format!("{name}.partial"));
    let mut fruitless = 0;
    loop {
        let offset = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
        if offset == size {
            break;
        }
        if offset > size {
            remove(&partial)?;
            continue;
        }
        let Err(stop) = attempt(job, url, &partial, offset, size)? else { continue };
        if stop.is_final() {
            return Err(SupplyError::Unsuitable(stop.reason));
        }
        if stop.status.is_some_and(|status| CANNOT_RESUME.contains(&status)) && offset > 0 {
            remove(&partial)?;
        }
        let now = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
        fruitless = if now > offset { 0 } else { fruitless + 1 };
        if fruitless == FRUITLESS_ATTEMPTS {
            return Err(SupplyError::Unsuitable(stop.reason));
        }
    }
    if let Err(kind) = check_content(&partial, size, sha256) {
        remove(&partial)?;
        return Err(SupplyError::Unsuitable(Fault { path: url.into(), kind }.to_string()));
    }
    fs::rename(&partial, &place).map_err(|error| StoreError::io("create", &place, error))?;
    Ok(place)
}

/// How one run of curl ended short of the whole file.
struct Stop {
    status: Option<i32>,
    reason: String,
}

impl Stop {
    /// Whether another attempt would end the same: the server said no, or sent too much.
    fn is_final(&self) -> bool {
        self.status.is_none_or(|status| status == HTTP_ERROR)
    }
}

/// One run of curl, from `offset` on to the end at `size`.
fn attempt(
    job: &Job<'_>,
    url: &str,
    partial: &Path,
    offset: u64,
    size: u64,
) -> Result<Result<(), Stop>, SupplyError> {
    let mut note = |bytes| job.ledger.downloaded(job.model.name.as_str(), bytes);
    let received = receive(job.clients, url, partial, (offset, size), &mut note)?;
    Ok(received.and_then(|received| {
        if received == size - offset {
            return Ok(());
        }
        let reason = format!("{url} yields {} bytes, expected {size}", offset + received);
        Err(Stop { status: Some(0), reason })
    }))
}

/// One run of curl, from `offset` on, for a file of at most `most` bytes. Gives how many bytes came.
/// The outer error is ours (a full disk), the inner curl's.
fn receive(
    clients: &Clients,
    url: &str,
    partial: &Path,
    (offset, most): (u64, u64),
    note: &mut dyn FnMut(u64),
) -> Result<Result<u64, Stop>, SupplyError> {
    let room = most.saturating_sub(offset);
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(partial)
        .map_err(|error| StoreError::io("create", partial, error))?;
    let mut running = Running::start(&mut curl(clients, url, offset)?)?;
    let mut errors = running.child().stderr.take().expect("the error output is piped");
    let output = running.child().stdout.take().expect("the output is piped");
    let mut received = 0;
    // curl writes its few words of error after the last byte: the pipe cannot fill up meanwhile.
    let copied = for_each_chunk(&mut output.take(room + 1), CopyError::Read, |chunk| {
        received += chunk.len() as u64;
        if received > room {
            return Err(CopyError::TooMuch);
        }
        file.write_all(chunk).map_err(CopyError::Write)?;
        note(chunk.len() as u64);
        Ok(())
    });
    match copied {
        Ok(()) => {}
        Err(CopyError::Write(error)) => return Err(StoreError::io("write", partial, error).into()),
        Err(CopyError::Read(error)) => {
            return Ok(Err(Stop { status: Some(0), reason: error.to_string() }));
        }
        Err(CopyError::TooMuch) => {
            let reason = format!("{url} yields more than the expected {most} bytes");
            return Ok(Err(Stop { status: None, reason }));
        }
    }
    let mut words = String::new();
    let _ = errors.read_to_string(&mut words);
    let status = running
        .child()
        .wait()
        .map_err(|error| SupplyError::Unsuitable(format!("curl was lost: {error}")))?;
    if status.success() {
        return Ok(Ok(received));
    }
    Ok(Err(Stop { status: status.code(), reason: format!("{url}: {}", reason(&words, status)) }))
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
    TooMuch,
}

fn curl(clients: &Clients, url: &str, offset: u64) -> Result<Command, SupplyError> {
    let mut command = clients.curl.command()?;
    command
        .args(["--fail", "--location", "--silent", "--show-error", "--globoff"])
        // Give up on a dead line, not on a slow one.
        .args(["--connect-timeout", "20", "--speed-limit", "1000", "--speed-time", "60"])
        .args(["--continue-at", &offset.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if url.starts_with("https://") {
        command.args(["--proto", "=https", "--proto-redir", "=https"]);
    } else {
        command.args(["--proto", "=http,https", "--proto-redir", "=http,https"]);
    }
    command.args(["--url", url]);
    Ok(command)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// `base` and the relative `path` as one address, with everything but unreserved characters
/// percent-encoded (RFC 3986, section 2).
pub(super) fn address(base: &str, path: &str) -> String {
    let mut address = format!("{}/", base.trim_end_matches('/'));
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address
}
