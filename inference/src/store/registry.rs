//! Package registries, through their ordinary clients: `pip download` and `npm pack`. Whatever the
//! operator has configured for them (an index of their own, a proxy, a certificate) holds.
//!
//! A package is downloaded and hashed, never installed: wheels only, no dependencies, no scripts.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use parking_lot::Mutex;

use super::assemble::from_archives;
use super::check::check_content;
use super::client::run;
use super::error::{Fault, StoreError};
use super::manifest::{Archive, ModelFile, NpmSpec, Package, PipRequirement};
use super::source::{Job, Source, SupplyError};

/// Downloads that run at the same time. Clients spend about as long starting as downloading.
pub(super) const LANES: usize = 3;

/// The package registries.
pub(super) struct Registries;

impl Source for Registries {
    fn name(&self) -> String {
        "the package registries".to_owned()
    }

    fn supply(&self, job: &Job<'_>, missing: &[&ModelFile]) -> Result<(), SupplyError> {
        let archives = job.archives_for(missing);
        if archives.is_empty() {
            return Err(SupplyError::Unsuitable("no package carries it".to_owned()));
        }
        let lacking: Vec<_> =
            archives.iter().copied().filter(|archive| !job.depot.holds(archive)).collect();
        let to_download = lacking.iter().map(|archive| archive.size).sum();
        let to_assemble = missing.iter().map(|file| file.size).sum();
        job.ledger.plan(job.model.name.as_str(), to_download, to_assemble);

        let failures = download_all(job, &lacking)?;
        let failed: Vec<_> = failures.iter().map(|(archive, _)| &archive.file).collect();
        // Some files may be whole even so.
        from_archives(job, missing, &|archive| {
            let path = job.depot.path(archive.as_str());
            (!failed.contains(&archive) && path.exists()).then_some(path)
        })?;
        if failures.is_empty() {
            return Ok(());
        }
        Err(SupplyError::Unsuitable(describe(&failures)))
    }
}

/// Tells each reason once, with the packages it holds for.
fn describe(failures: &[Failure<'_>]) -> String {
    let mut told: Vec<(&str, Vec<String>)> = Vec::new();
    for (archive, reason) in failures {
        let request = match &archive.package {
            Package::Pip(requirement) => format!("pip download {requirement}"),
            Package::Npm(spec) => format!("npm pack {spec}"),
        };
        match told.iter_mut().find(|(other, _)| other == reason) {
            Some((_, requests)) => requests.push(request),
            None => told.push((reason, vec![request])),
        }
    }
    let lines: Vec<_> = told
        .into_iter()
        .map(|(reason, requests)| format!("{}: {reason}", requests.join(", ")))
        .collect();
    lines.join("; ")
}

type Failure<'a> = (&'a Archive, String);

/// Downloads several archives at a time. After a failure of a client it is asked for no more: what
/// fails once, mostly fails for all, after long patience each.
fn download_all<'a>(
    job: &Job<'_>,
    archives: &[&'a Archive],
) -> Result<Vec<Failure<'a>>, StoreError> {
    let queue: Mutex<VecDeque<&Archive>> = Mutex::new(archives.iter().copied().collect());
    let failures: Mutex<Vec<Failure<'a>>> = Mutex::default();
    let broken: Mutex<Option<StoreError>> = Mutex::default();
    let work = |lane: usize| {
        loop {
            let Some(archive) = queue.lock().pop_front() else { return };
            match download(job, archive, lane) {
                Ok(()) => {}
                Err(SupplyError::Unsuitable(reason)) => {
                    queue.lock().retain(|other| !same_client(other, archive));
                    failures.lock().push((archive, reason));
                }
                Err(SupplyError::Store(error)) => {
                    queue.lock().clear();
                    broken.lock().get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for lane in 0..LANES.min(archives.len()) {
            let work = &work;
            scope.spawn(move || work(lane));
        }
    });
    match broken.into_inner() {
        Some(error) => Err(error),
        None => Ok(failures.into_inner()),
    }
}

fn same_client(one: &Archive, other: &Archive) -> bool {
    std::mem::discriminant(&one.package) == std::mem::discriminant(&other.package)
}

/// Downloads one archive into the depot, or leaves nothing there.
fn download(job: &Job<'_>, archive: &Archive, lane: usize) -> Result<(), SupplyError> {
    let work = Workplace::create(job.depot.path(&format!(".work-{lane}")))?;
    let mut command = match &archive.package {
        Package::Pip(requirement) => pip_download(job, archive, requirement, &work)?,
        Package::Npm(spec) => npm_pack(job, spec, &work)?,
    };
    // Clients keep unfinished downloads in temporary files: there, too, they shall grow on the disk
    // that was found large enough, and where their growth can be seen.
    command.current_dir(&work.0).env("TMPDIR", work.temporary());

    let model = job.model.name.as_str();
    let mut seen = 0;
    let mut see = |bytes: u64| {
        let bytes = bytes.min(archive.size);
        if bytes > seen {
            job.ledger.downloaded(model, bytes - seen);
            seen = bytes;
        }
    };
    run(&mut command, &work.errors(), || see(work.downloaded()))?;

    let downloaded = work.output().join(archive.file.as_str());
    check_content(&downloaded, archive.size, archive.sha256).map_err(|kind| {
        SupplyError::Unsuitable(Fault { path: archive.file.as_str().into(), kind }.to_string())
    })?;
    see(archive.size);
    let place = job.depot.path(archive.file.as_str());
    fs::rename(&downloaded, &place).map_err(|error| StoreError::io("create", &place, error))?;
    Ok(())
}

fn pip_download(
    job: &Job<'_>,
    archive: &Archive,
    requirement: &PipRequirement,
    work: &Workplace,
) -> Result<Command, SupplyError> {
    let requirements = work.0.join("requirements.txt");
    let line = format!("{requirement} --hash=sha256:{}\n", archive.sha256);
    fs::write(&requirements, line)
        .map_err(|error| StoreError::io("write", &requirements, error))?;
    let mut command = job.clients.pip.command()?;
    command
        .args(["download", "--no-deps", "--require-hashes", "--only-binary", ":all:"])
        // The wheels are only unpacked: which Python they were made for does not matter.
        .arg("--ignore-requires-python")
        // The archive is kept in the depot while it is needed; a second copy would be waste.
        .args(["--no-cache-dir", "--disable-pip-version-check", "--no-input"])
        .args(["--progress-bar", "off"])
        .arg("-d")
        .arg(work.output())
        .arg("-r")
        .arg(requirements);
    Ok(command)
}

fn npm_pack(job: &Job<'_>, spec: &NpmSpec, work: &Workplace) -> Result<Command, SupplyError> {
    let mut command = job.clients.npm.command()?;
    command
        .args(["pack", spec.as_str(), "--ignore-scripts", "--loglevel=error"])
        .arg("--pack-destination")
        .arg(work.output())
        .arg("--cache")
        .arg(work.temporary());
    Ok(command)
}

/// A folder for one run of a client; gone when the run is over.
struct Workplace(PathBuf);

impl Workplace {
    fn create(path: PathBuf) -> Result<Self, StoreError> {
        let _ = fs::remove_dir_all(&path);
        let workplace = Self(path);
        for folder in [workplace.output(), workplace.temporary()] {
            fs::create_dir_all(&folder)
                .map_err(|error| StoreError::io("create", &folder, error))?;
        }
        Ok(workplace)
    }

    fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    fn temporary(&self) -> PathBuf {
        self.0.join("temporary")
    }

    /// Bytes that the client has written so far.
    fn downloaded(&self) -> u64 {
        folder_size(&self.output()) + folder_size(&self.temporary())
    }

    fn errors(&self) -> PathBuf {
        self.0.join("errors.txt")
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes of all files below `folder`; what vanishes meanwhile does not count.
fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
