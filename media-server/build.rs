//! Builds the page into the program: writes a table of the files under `web/dist`, each with its
//! contents. Without them the table is empty and the program says how to build the page.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let dist = variable("CARGO_MANIFEST_DIR")?.join("../web/dist");
    // Cargo watches only what exists: a page that is built later must be noticed, and one that was
    // not built must not start a new build each time. A read-only source tree needs neither.
    let _ = fs::create_dir_all(&dist);
    println!("cargo:rerun-if-changed={}", dist.display());

    let mut files = Vec::new();
    if dist.join("index.html").exists() {
        list(&dist.canonicalize()?, &mut files)?;
        files.sort();
    }
    let root = dist.canonicalize().unwrap_or(dist);
    let mut table = String::from("&[\n");
    for file in files {
        let path = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        writeln!(table, "    ({path:?}, include_bytes!({:?})),", file.display().to_string())
            .map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    fs::write(variable("OUT_DIR")?.join("page.rs"), table)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
