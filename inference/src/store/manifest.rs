//! The list of models: what each consists of, its licence, and which packages carry it.
//!
//! The list is a TOML file ([`Manifest::built_in`]) that is parsed once into these types. Whatever
//! passes [`Manifest::parse`] is safe to act on: paths stay inside a model's folder, package names
//! cannot be taken for command line options, and every part comes from an archive that is listed.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;

use super::digest::Digest;
use super::error::StoreError;

const BUILT_IN: &str = include_str!("../../models.toml");
const SUPPORTED_VERSION: u32 = 1;

/// Every model that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    #[serde(rename = "model")]
    models: Vec<Model>,
}

/// One model: a folder of files, all known by size and SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The folder under the cache root, and the name on the command line.
    pub name: FileName,
    /// What Dragoman does with it, in one line.
    pub purpose: String,
    /// SPDX expression of the licence of the weights.
    pub licence: String,
    /// Who made it, and what the licence asks of those who pass it on.
    pub notice: String,
    /// Where the same bytes lie on Hugging Face, if they do.
    pub hub: Option<Hub>,
    /// The packages that carry the files.
    pub archives: Vec<Archive>,
    /// What lies in the model's folder in the end.
    pub files: Vec<ModelFile>,
}

/// A repository on Hugging Face at a fixed revision.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// `owner/name`.
    pub repository: RelativePath,
    /// The commit.
    pub revision: FileName,
}

/// A package archive as its registry serves it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The name that the registry's client gives the file.
    pub file: FileName,
    /// Bytes of the archive.
    pub size: u64,
    /// SHA-256 of the archive.
    pub sha256: Digest,
    /// What to ask the registry's client for.
    pub package: Package,
}

/// An exactly pinned package and the client that downloads it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Package {
    /// `pip download`, as `name==version`; the archive is a wheel.
    Pip(PipRequirement),
    /// `npm pack`, as `name@version` or `@scope/name@version`; the archive is a gzipped tar.
    Npm(NpmSpec),
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Where the file lies in the model's folder.
    pub path: RelativePath,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Its path in the model's repository on Hugging Face, if it is there.
    pub hub: Option<RelativePath>,
    /// Members of archives that make up the file, one after the other.
    pub parts: Vec<Part>,
}

/// A member of an archive that is a file of the model or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The [`Archive::file`] that has it.
    pub archive: FileName,
    /// The member's full name inside the archive.
    pub member: RelativePath,
}

impl Manifest {
    /// The manifest that is compiled into the program.
    pub fn built_in() -> &'static Self {
        static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
            Manifest::parse(BUILT_IN, "built into the program")
                .expect("a test holds that the built-in manifest is valid")
        });
        &MANIFEST
    }

    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] when the file cannot be read or does not hold.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| StoreError::Manifest {
            origin: origin.clone(),
            reason: error.to_string(),
        })?;
        Self::parse(&text, &origin)
    }

    /// Parses the TOML `text`; `origin` says in errors where it came from.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] when the text is not TOML of this shape, or contradicts itself.
    pub fn parse(text: &str, origin: &str) -> Result<Self, StoreError> {
        let refuse = |reason: String| StoreError::Manifest { origin: origin.to_owned(), reason };
        let manifest: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        manifest.validate().map_err(refuse)?;
        Ok(manifest)
    }

    /// All models, in the order of the file.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model called `name`.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] when there is none.
    pub fn model(&self, name: &str) -> Result<&Model, StoreError> {
        self.models.iter().find(|model| model.name.as_str() == name).ok_or_else(|| {
            StoreError::UnknownModel {
                name: name.to_owned(),
                known: self.models.iter().map(|model| model.name.to_string()).collect(),
            }
        })
    }

    fn validate(&self) -> Result<(), String> {
        if self.version != SUPPORTED_VERSION {
            return Err(format!(
                "it has version {}, this program reads version {SUPPORTED_VERSION}",
                self.version
            ));
        }
        let mut names = HashSet::new();
        // Archives of all models share one folder while they are downloaded.
        let mut archives = HashSet::new();
        for model in &self.models {
            if !names.insert(&model.name) {
                return Err(format!("the model {} is listed twice", model.name));
            }
            for archive in &model.archives {
                if !archives.insert(&archive.file) {
                    return Err(format!("the archive {} is listed twice", archive.file));
                }
            }
            model.validate().map_err(|reason| format!("model {}: {reason}", model.name))?;
        }
        Ok(())
    }
}

impl Model {
    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The archive with this file name.
    pub(super) fn archive(&self, file: &FileName) -> Option<&Archive> {
        self.archives.iter().find(|archive| archive.file == *file)
    }

    fn validate(&self) -> Result<(), String> {
        if self.files.is_empty() {
            return Err("it has no files".to_owned());
        }
        for archive in &self.archives {
            archive.validate().map_err(|reason| format!("archive {}: {reason}", archive.file))?;
        }
        let mut paths = HashSet::new();
        for file in &self.files {
            if !paths.insert(&file.path) {
                return Err(format!("the file {} is listed twice", file.path));
            }
            if file.size == 0 {
                return Err(format!("the file {} has size 0", file.path));
            }
            if file.path.components().any(|component| component.starts_with('.')) {
                return Err(format!("the file {} is hidden; such names are ours", file.path));
            }
            if file.hub.is_some() && self.hub.is_none() {
                return Err(format!("the file {} has a hub path, the model no hub", file.path));
            }
            if let Some(part) = file.parts.iter().find(|part| self.archive(&part.archive).is_none())
            {
                return Err(format!(
                    "a part of {} comes from {}, which is not listed",
                    file.path, part.archive
                ));
            }
        }
        Ok(())
    }
}

impl Archive {
    fn validate(&self) -> Result<(), String> {
        if self.size == 0 {
            return Err("its size is 0".to_owned());
        }
        let ending = match self.package {
            Package::Pip(_) => ".whl",
            Package::Npm(_) => ".tgz",
        };
        if !self.file.as_str().ends_with(ending) {
            return Err(format!("its name should end in {ending}"));
        }
        Ok(())
    }
}

/// Makes a string type whose values all passed a check.
macro_rules! checked_string {
    ($(#[$documentation:meta])* $name:ident, $check:expr, $otherwise:literal) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(format!(concat!("{:?} ", $otherwise), text)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

checked_string!(
    /// A file name without folders: letters, digits and `.-_+`, not starting with a dot or a dash.
    FileName,
    is_file_name,
    "is not a plain file name"
);
checked_string!(
    /// A path that cannot leave its folder: names joined by `/`, none of them `.` or `..`.
    RelativePath,
    |text| text.split('/').all(is_path_component),
    "is not a relative path that stays in its folder"
);
checked_string!(
    /// `name==version` for pip.
    PipRequirement,
    |text| text.split_once("==").is_some_and(|(name, version)| {
        is_file_name(name) && is_file_name(version)
    }),
    "is not of the form name==version"
);
checked_string!(
    /// `name@version` or `@scope/name@version` for npm.
    NpmSpec,
    |text| text.rsplit_once('@').is_some_and(|(name, version)| {
        let unscoped = match name.strip_prefix('@') {
            None => name,
            Some(scoped) => match scoped.split_once('/') {
                Some((scope, unscoped)) if is_file_name(scope) => unscoped,
                _ => return false,
            },
        };
        is_file_name(unscoped) && is_file_name(version)
    }),
    "is not of the form name@version"
);

impl RelativePath {
    fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

fn is_file_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    !text.is_empty() && !text.starts_with(['.', '-']) && text.bytes().all(is_allowed)
}

/// Unlike a [`FileName`], a component of a path inside an archive may be hidden or hold a blank; it
/// may not be empty, climb, or hold what some system takes for a separator or the end of the text.
fn is_path_component(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && !text.contains(|character: char| character.is_control() || r"\:".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifest_holds_and_is_about_1_4_gigabytes() {
        let manifest = Manifest::parse(BUILT_IN, "test").unwrap();
        let names: Vec<_> = manifest.models().iter().map(|model| model.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "silero-vad",
                "whisper-base",
                "qwen2.5-coder-1.5b-instruct",
                "kokoro-82m",
                "sample-jfk"
            ]
        );
        let total: u64 = manifest.models().iter().map(Model::size).sum();
        assert!((1_300_000_000..1_500_000_000).contains(&total), "{total}");
        for model in manifest.models() {
            assert!(!model.licence.is_empty() && !model.notice.is_empty(), "{}", model.name);
            for file in &model.files {
                assert!(!file.parts.is_empty(), "no package carries {}/{}", model.name, file.path);
            }
            for archive in &model.archives {
                let is_used = model
                    .files
                    .iter()
                    .any(|file| file.parts.iter().any(|part| part.archive == archive.file));
                assert!(is_used, "{} is listed and never used", archive.file);
            }
        }
    }

    #[test]
    fn all_54_voices_are_listed_with_510_rows_of_256_floats() {
        let kokoro = Manifest::built_in().model("kokoro-82m").unwrap();
        let voices: Vec<_> =
            kokoro.files.iter().filter(|file| file.path.as_str().starts_with("voices/")).collect();
        assert_eq!(voices.len(), 54);
        assert!(voices.iter().all(|voice| voice.size == 510 * 256 * 4));
    }

    #[test]
    fn the_licence_table_at_the_top_names_every_model_with_its_licence() {
        for model in Manifest::built_in().models() {
            let licence = match model.licence.as_str() {
                "LicenseRef-Public-Domain" => "public domain",
                spdx => spdx,
            };
            let row = BUILT_IN
                .lines()
                .find(|line| line.starts_with(&format!("#   {} ", model.name)))
                .unwrap_or_else(|| panic!("{} is not in the table", model.name));
            assert!(row.contains(licence), "{row}");
        }
    }

    #[test]
    fn paths_that_climb_or_are_absolute_are_refused() {
        for path in
            ["../x", "a/../b", "/etc/passwd", "a//b", "", "a/", r"a\b", "C:/x", "./a", "a\0b"]
        {
            assert!(RelativePath::try_from(path.to_owned()).is_err(), "{path:?}");
        }
        for path in ["a", "voices/af_heart.bin", "package/cpp/.keep"] {
            assert!(RelativePath::try_from(path.to_owned()).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn package_names_that_would_read_as_options_are_refused() {
        for spec in ["--index-url==x", "a", "a==", "a==1 --pre", "-r==1", "a==1\n-r x"] {
            assert!(PipRequirement::try_from(spec.to_owned()).is_err(), "{spec:?}");
        }
        for spec in ["--registry@1", "a", "@scope@1", "a@", "a@1 b", "git+ssh://h/x@1", "../x@1"] {
            assert!(NpmSpec::try_from(spec.to_owned()).is_err(), "{spec:?}");
        }
        assert!(PipRequirement::try_from("silero-vad==6.2.3".to_owned()).is_ok());
        assert!(NpmSpec::try_from("@scope/name@1.0.0-rc.1".to_owned()).is_ok());
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused_with_the_reason() {
        let twice = BUILT_IN.replace("name = \"sample-jfk\"", "name = \"silero-vad\"");
        let unlisted = BUILT_IN.replacen("archive = \"silero", "archive = \"other", 1);
        let newer = BUILT_IN.replacen("version = 1", "version = 2", 1);
        let misspelt = BUILT_IN.replacen("purpose =", "porpoise =", 1);
        for (text, reason) in [
            (twice, "the model silero-vad is listed twice"),
            (unlisted, "which is not listed"),
            (newer, "this program reads version 1"),
            (misspelt, "porpoise"),
        ] {
            let error = Manifest::parse(&text, "test.toml").unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("test.toml"), "{error}");
        }
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_known_ones() {
        let error = Manifest::built_in().model("whisper-huge").unwrap_err().to_string();
        assert!(error.contains("whisper-huge") && error.contains("whisper-base"), "{error}");
    }
}
