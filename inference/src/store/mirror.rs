//! The operator's own copy of the models: a folder or an HTTP address, asked before all others.

use std::fmt;
use std::path::PathBuf;

use super::assemble::{from_archives, from_copy};
use super::check::check_content;
use super::error::Fault;
use super::manifest::{FileName, ModelFile};
use super::source::{Job, Source, SupplyError};
use super::web;

/// A place with finished files as `MODEL/PATH`, or with the archives (beside each other, or in a
/// folder per model). Whatever it holds is held to the hashes of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// A folder on this machine: a disk, a network share, a volume.
    Folder(PathBuf),
    /// The base address of an HTTP server.
    Url(String),
}

impl From<&str> for Mirror {
    fn from(text: &str) -> Self {
        if text.starts_with("http://") || text.starts_with("https://") {
            Self::Url(text.trim_end_matches('/').to_owned())
        } else {
            Self::Folder(text.into())
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(formatter),
            Self::Url(url) => formatter.write_str(url),
        }
    }
}

impl Mirror {
    /// Where a folder has the archive, if it does.
    pub(super) fn archive_path(&self, model: &str, archive: &FileName) -> Option<PathBuf> {
        let Self::Folder(folder) = self else { return None };
        [folder.join(archive.as_str()), folder.join(model).join(archive.as_str())]
            .into_iter()
            .find(|path| path.is_file())
    }

    /// Where a folder has the finished file, if it does.
    pub(super) fn file_path(&self, model: &str, file: &ModelFile) -> Option<PathBuf> {
        let Self::Folder(folder) = self else { return None };
        let path = folder.join(model).join(file.path.as_str());
        path.is_file().then_some(path)
    }

    fn supply_from_folder(&self, job: &Job<'_>, missing: &[&ModelFile]) -> Result<(), SupplyError> {
        let model = job.model.name.as_str();
        job.ledger.plan(model, 0, missing.iter().map(|file| file.size).sum());
        let mut reasons = Vec::new();
        let mut rest = Vec::new();
        for file in missing {
            match self.file_path(model, file).map(|path| from_copy(job, file, &path)) {
                Some(Ok(())) => {}
                Some(Err(SupplyError::Unsuitable(reason))) => {
                    reasons.push(reason);
                    rest.push(*file);
                }
                Some(Err(error)) => return Err(error),
                None => rest.push(*file),
            }
        }
        let mut sound = Vec::new();
        for archive in job.archives_for(&rest) {
            let Some(path) = self.archive_path(model, &archive.file) else { continue };
            match check_content(&path, archive.size, archive.sha256) {
                Ok(_) => sound.push((&archive.file, path)),
                Err(kind) => reasons.push(Fault { path, kind }.to_string()),
            }
        }
        let locate = |archive: &FileName| {
            sound.iter().find(|(name, _)| *name == archive).map(|(_, path)| path.clone())
        };
        from_archives(job, &rest, &locate)?;
        let is_lacking = |file: &&&ModelFile| {
            file.parts.is_empty() || file.parts.iter().any(|part| locate(&part.archive).is_none())
        };
        let lacking: Vec<_> =
            rest.iter().filter(is_lacking).map(|file| file.path.as_str()).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        reasons.push(format!("it has neither {} nor the archives for it", lacking.join(", ")));
        Err(SupplyError::Unsuitable(reasons.join("; ")))
    }

    fn supply_from_web(
        job: &Job<'_>,
        url: &str,
        missing: &[&ModelFile],
    ) -> Result<(), SupplyError> {
        let model = job.model.name.as_str();
        let bytes = missing.iter().map(|file| file.size).sum();
        job.ledger.plan(model, bytes, bytes);
        let mut rest = missing;
        // A server that lacks one finished file will have the archives: it is not asked for the
        // other files one by one.
        let refusal = loop {
            let Some((file, others)) = rest.split_first() else { return Ok(()) };
            let path = format!("{model}/{}", file.path);
            match web::supply_whole(job, file, &web::address(url, &path)) {
                Ok(()) => rest = others,
                Err(SupplyError::Unsuitable(reason)) => break reason,
                Err(error) => return Err(error),
            }
        };
        let archives = job.archives_for(rest);
        let to_download = archives.iter().map(|archive| archive.size).sum();
        job.ledger.plan(model, to_download, rest.iter().map(|file| file.size).sum());
        for archive in archives {
            if job.depot.holds(archive) {
                continue;
            }
            let file = archive.file.as_str();
            web::download(job, &web::address(url, file), file, archive.size, archive.sha256)
                .map_err(|error| match error {
                    SupplyError::Unsuitable(reason) => {
                        SupplyError::Unsuitable(format!("{refusal}; {reason}"))
                    }
                    error => error,
                })?;
        }
        from_archives(job, rest, &|archive| Some(job.depot.path(archive.as_str())))
    }
}

impl Source for Mirror {
    fn name(&self) -> String {
        format!("the mirror {self}")
    }

    fn supply(&self, job: &Job<'_>, missing: &[&ModelFile]) -> Result<(), SupplyError> {
        match self {
            Self::Folder(_) => self.supply_from_folder(job, missing),
            Self::Url(url) => Self::supply_from_web(job, url, missing),
        }
    }
}
