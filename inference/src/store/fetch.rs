//! Fetches what is missing: one process at a time, model after model, source after source.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::Store;
use super::check::{Depth, check_model, temporary_path};
use super::error::{Attempt, Fault, StoreError, format_bytes};
use super::manifest::{Model, ModelFile};
use super::mirror::Mirror;
use super::progress::{Event, Ledger, Progress};
use super::registry::{LANES, Registries};
use super::source::{Depot, Job, Source, SupplyError};
use super::web::HuggingFace;

/// Space that is left alone beyond what a fetch needs.
pub(super) const RESERVE_BYTES: u64 = 64 << 20;

/// A model and its files that have to be fetched.
struct Wanted<'a> {
    model: &'a Model,
    missing: Vec<&'a ModelFile>,
}

pub(super) fn fetch(
    store: &Store,
    models: &[&Model],
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    if wanted(store, models, progress).is_empty() {
        return Ok(());
    }
    let root = store.root();
    fs::create_dir_all(root).map_err(|error| StoreError::io("create", root, error))?;
    let _lock = lock(root, progress)?;
    // Another process may have fetched them while this one waited.
    let wanted = wanted(store, models, progress);
    if wanted.is_empty() {
        return Ok(());
    }
    let depot = Depot::new(root);
    clean_up_after_interruption(store, &depot, &wanted)?;
    check_space(store, &depot, &wanted)?;

    let ledger = Ledger::new(progress);
    for Wanted { model, missing } in &wanted {
        let (to_download, to_assemble) = estimate(&depot, store.mirror(), model, missing);
        ledger.plan(model.name.as_str(), to_download, to_assemble);
    }
    for Wanted { model, missing } in &wanted {
        fetch_model(store, &depot, &ledger, model, missing)?;
    }
    // Only an empty folder goes: archives of models that were not asked for stay.
    let _ = fs::remove_dir(depot.folder());
    Ok(())
}

fn wanted<'a>(store: &Store, models: &[&'a Model], progress: &dyn Progress) -> Vec<Wanted<'a>> {
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for model in models {
        if !seen.insert(&model.name) {
            continue;
        }
        progress.report(Event::Checking { model: model.name.as_str() });
        let missing = missing_files(model, &store.folder_of(model));
        if !missing.is_empty() {
            wanted.push(Wanted { model, missing });
        }
    }
    wanted
}

fn missing_files<'a>(model: &'a Model, folder: &Path) -> Vec<&'a ModelFile> {
    check_model(model, folder, Depth::Cheap)
        .into_iter()
        .map(|(index, _)| &model.files[index])
        .collect()
}

/// Waits until no other process fetches into `root`. The lock ends with the process that holds it,
/// however that ends.
pub(super) fn lock(root: &Path, progress: &dyn Progress) -> Result<File, StoreError> {
    let path = root.join(".lock");
    let refuse = |error| StoreError::io("lock", &path, error);
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(refuse)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress.report(Event::Waiting { lock: &path });
            file.lock().map_err(refuse)?;
        }
        Err(TryLockError::Error(error)) => return Err(refuse(error)),
    }
    Ok(file)
}

fn fetch_model(
    store: &Store,
    depot: &Depot,
    ledger: &Ledger<'_>,
    model: &Model,
    missing: &[&ModelFile],
) -> Result<(), StoreError> {
    let folder = store.folder_of(model);
    for folder in [&folder, depot.folder()] {
        fs::create_dir_all(folder).map_err(|error| StoreError::io("create", folder, error))?;
    }
    let job = Job { model, folder: &folder, depot, clients: store.clients(), ledger };
    let name = model.name.as_str();
    let mut missing = missing.to_vec();
    let mut attempts = Vec::new();
    for source in sources(store.mirror()) {
        let source_name = source.name();
        ledger.report(Event::Asking { model: name, source: &source_name });
        let reason = match source.supply(&job, &missing) {
            Ok(()) => "it does not have every file".to_owned(),
            Err(SupplyError::Unsuitable(reason)) => reason,
            Err(SupplyError::Store(error)) => return Err(error),
        };
        // The folder is asked, not the source: only what is there and sound counts.
        missing = missing_files(model, &folder);
        if missing.is_empty() {
            for archive in &model.archives {
                let _ = fs::remove_file(depot.path(archive.file.as_str()));
            }
            ledger.plan(name, 0, 0);
            ledger.report(Event::Fetched { model: name });
            return Ok(());
        }
        ledger.report(Event::Failed { model: name, source: &source_name, reason: &reason });
        attempts.push(Attempt { source: source_name, reason });
    }
    Err(StoreError::NoSource { model: name.to_owned(), attempts })
}

/// All sources, in the order in which they are asked.
fn sources(mirror: Option<&Mirror>) -> Vec<Box<dyn Source + '_>> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    if let Some(mirror) = mirror {
        sources.push(Box::new(mirror.clone()));
    }
    sources.push(Box::new(Registries));
    sources.push(Box::new(HuggingFace));
    sources
}

/// Removes what a fetch that was killed left half done. Whole archives stay, and so do unfinished
/// downloads that can be gone on with.
fn clean_up_after_interruption(
    store: &Store,
    depot: &Depot,
    wanted: &[Wanted<'_>],
) -> Result<(), StoreError> {
    for Wanted { model, missing } in wanted {
        for file in missing {
            let target = store.folder_of(model).join(file.path.as_str());
            let _ = fs::remove_file(temporary_path(&target));
        }
    }
    let Ok(entries) = fs::read_dir(depot.folder()) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(".work-") {
            fs::remove_dir_all(&path).map_err(|error| StoreError::io("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Bytes to download and to assemble for a model, if the mirror or else the registries have it.
fn estimate(
    depot: &Depot,
    mirror: Option<&Mirror>,
    model: &Model,
    missing: &[&ModelFile],
) -> (u64, u64) {
    let name = model.name.as_str();
    let is_downloaded =
        |file: &&ModelFile| mirror.and_then(|mirror| mirror.file_path(name, file)).is_none();
    let unfinished: Vec<_> = missing.iter().copied().filter(is_downloaded).collect();
    let has = |path: PathBuf, size| fs::metadata(path).is_ok_and(|found| found.len() == size);
    let to_download = model
        .archives
        .iter()
        .filter(|archive| {
            unfinished.iter().any(|file| file.parts.iter().any(|part| part.archive == archive.file))
        })
        .filter(|archive| !has(depot.path(archive.file.as_str()), archive.size))
        .filter(|archive| {
            mirror.and_then(|mirror| mirror.archive_path(name, &archive.file)).is_none()
        })
        .map(|archive| archive.size)
        .sum();
    (to_download, missing.iter().map(|file| file.size).sum())
}

fn check_space(store: &Store, depot: &Depot, wanted: &[Wanted<'_>]) -> Result<(), StoreError> {
    let root = store.root();
    let free = free_space(root)?;
    let needed = needed_space(
        wanted
            .iter()
            .map(|Wanted { model, missing }| estimate(depot, store.mirror(), model, missing)),
    );
    if needed <= free {
        return Ok(());
    }
    let models: Vec<_> = wanted.iter().map(|wanted| wanted.model.name.as_str()).collect();
    tracing::debug!(needed = %format_bytes(needed), free = %format_bytes(free), "disk too full");
    Err(StoreError::NoSpace { models: models.join(", "), folder: root.to_owned(), needed, free })
}

/// Bytes on the disk at the worst moment: archives go when their model is assembled.
fn needed_space(estimates: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut assembled = 0;
    let mut peak = 0;
    for (to_download, to_assemble) in estimates {
        // Clients copy a finished download from their temporary folder, so the archives under way
        // exist twice for a moment.
        let twice = to_download.min(LANES as u64 * RESERVE_BYTES);
        assembled += to_assemble;
        peak = peak.max(assembled + to_download + twice);
    }
    peak + RESERVE_BYTES
}

pub(super) fn free_space(folder: &Path) -> Result<u64, StoreError> {
    let status = rustix::fs::statvfs(folder)
        .map_err(|error| StoreError::io("look at", folder, error.into()))?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// What is wrong with a model after a full or a cheap look.
pub(super) fn faults(model: &Model, folder: &Path, depth: Depth) -> Vec<Fault> {
    check_model(model, folder, depth).into_iter().map(|(_, fault)| fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_needed_is_the_worst_moment_not_the_sum_of_everything() {
        let gigabyte = 1_000_000_000;
        let doubled = 3 * RESERVE_BYTES;
        // Archives of the first model are gone when those of the second come.
        let needed = needed_space([(gigabyte, gigabyte), (gigabyte, gigabyte)].into_iter());
        assert_eq!(needed, 3 * gigabyte + doubled + RESERVE_BYTES);
        assert_eq!(needed_space(std::iter::empty()), RESERVE_BYTES);
    }

    #[test]
    fn the_free_space_of_a_folder_is_told() {
        assert!(free_space(Path::new("/")).unwrap() > 0);
        assert!(free_space(Path::new("/no/such/folder")).is_err());
    }
}
