//! Reads named members out of wheels (zip) and npm packages (gzipped tar).
//!
//! Nothing is ever extracted by the name that the archive gives: the caller names the members and
//! decides where their bytes go, so an archive cannot write outside its folder, and links and
//! special files are passed over. How much of a member is read is the caller's choice too.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use tar::EntryType;

use super::manifest::Package;
use super::source::SupplyError;

/// Takes the place of a member in the list of those asked for, and its content.
pub(super) type EachMember<'a> = dyn FnMut(usize, &mut dyn Read) -> Result<(), SupplyError> + 'a;

/// Calls `each` once for every one of the `wanted` members of the archive at `path`: in the order
/// of `wanted` for wheels, in the order of the archive for npm packages.
///
/// # Errors
/// [`SupplyError::Unsuitable`] when a member is not there or the archive cannot be read.
pub(super) fn read_members(
    path: &Path,
    package: &Package,
    wanted: &[&str],
    each: &mut EachMember<'_>,
) -> Result<(), SupplyError> {
    let file = File::open(path).map_err(|error| {
        SupplyError::Unsuitable(format!("cannot open {}: {error}", path.display()))
    })?;
    match package {
        Package::Pip(_) => read_zip(path, file, wanted, each),
        Package::Npm(_) => read_tar(path, file, wanted, each),
    }
}

/// Reads the `wanted` members of an archive whole, at most `limit` bytes of each: a door for the
/// fuzz targets. False when the archive cannot be read or lacks one.
#[doc(hidden)]
pub fn read_members_of(path: &Path, package: &Package, wanted: &[&str], limit: u64) -> bool {
    let mut each = |_: usize, member: &mut dyn Read| {
        std::io::copy(&mut member.take(limit), &mut std::io::sink())
            .map(drop)
            .map_err(|error| broken(path, &error))
    };
    read_members(path, package, wanted, &mut each).is_ok()
}

fn read_zip(
    path: &Path,
    file: File,
    wanted: &[&str],
    each: &mut EachMember<'_>,
) -> Result<(), SupplyError> {
    let mut archive =
        zip::ZipArchive::new(BufReader::new(file)).map_err(|error| broken(path, &error))?;
    for (index, name) in wanted.iter().enumerate() {
        let mut member = archive.by_name(name).map_err(|error| match error {
            zip::result::ZipError::FileNotFound => lacks(path, name),
            error => broken(path, &error),
        })?;
        each(index, &mut member)?;
    }
    Ok(())
}

fn read_tar(
    path: &Path,
    file: File,
    wanted: &[&str],
    each: &mut EachMember<'_>,
) -> Result<(), SupplyError> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut is_found = vec![false; wanted.len()];
    for entry in archive.entries().map_err(|error| broken(path, &error))? {
        let mut entry = entry.map_err(|error| broken(path, &error))?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let name = entry.path_bytes();
        let Some(index) = wanted.iter().position(|wanted| wanted.as_bytes() == &*name) else {
            continue;
        };
        drop(name);
        if !std::mem::replace(&mut is_found[index], true) {
            each(index, &mut entry)?;
        }
        if is_found.iter().all(|found| *found) {
            break;
        }
    }
    match is_found.iter().position(|found| !found) {
        Some(index) => Err(lacks(path, wanted[index])),
        None => Ok(()),
    }
}

fn broken(path: &Path, error: &dyn std::error::Error) -> SupplyError {
    SupplyError::Unsuitable(format!("{} is not a sound archive: {error}", path.display()))
}

fn lacks(path: &Path, name: &str) -> SupplyError {
    SupplyError::Unsuitable(format!("{} has no member {name}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{npm_package, wheel};

    fn pip() -> Package {
        Package::Pip("a==1".to_owned().try_into().unwrap())
    }

    fn npm() -> Package {
        Package::Npm("a@1".to_owned().try_into().unwrap())
    }

    fn read(path: &Path, package: &Package, wanted: &[&str]) -> Result<Vec<String>, String> {
        let mut contents = vec![String::new(); wanted.len()];
        read_members(path, package, wanted, &mut |index, reader| {
            reader.read_to_string(&mut contents[index]).unwrap();
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        Ok(contents)
    }

    #[test]
    fn members_come_out_of_both_kinds_of_archive() {
        let folder = tempfile::tempdir().unwrap();
        let members: [(&str, &[u8]); 3] = [("x/one", b"1"), ("x/two", b"22"), ("x/three", b"333")];
        let (zip, tgz) = (folder.path().join("a.whl"), folder.path().join("a.tgz"));
        wheel(&zip, &members);
        npm_package(&tgz, &members);
        for (path, package) in [(&zip, pip()), (&tgz, npm())] {
            assert_eq!(read(path, &package, &["x/three", "x/one"]).unwrap(), ["333", "1"]);
            let error = read(path, &package, &["x/one", "x/four"]).unwrap_err();
            assert!(error.contains("has no member x/four"), "{error}");
        }
    }

    #[test]
    fn a_truncated_archive_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        let members: [(&str, &[u8]); 1] = [("x", &content)];
        let (zip, tgz) = (folder.path().join("a.whl"), folder.path().join("a.tgz"));
        wheel(&zip, &members);
        npm_package(&tgz, &members);
        for (path, package) in [(&zip, pip()), (&tgz, npm())] {
            let whole = std::fs::read(path).unwrap();
            std::fs::write(path, &whole[..whole.len() / 2]).unwrap();
            let result = read_members(path, &package, &["x"], &mut |_, reader| {
                std::io::copy(reader, &mut std::io::sink())
                    .map(drop)
                    .map_err(|error| SupplyError::Unsuitable(error.to_string()))
            });
            assert!(result.is_err());
        }
    }

    #[test]
    fn a_symbolic_link_under_the_wanted_name_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tgz");
        let gzip = flate2::write::GzEncoder::new(
            File::create(&path).unwrap(),
            flate2::Compression::fast(),
        );
        let mut builder = tar::Builder::new(gzip);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "x", "/etc/passwd").unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        assert!(read(&path, &npm(), &["x"]).unwrap_err().contains("has no member x"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        #[test]
        fn a_damaged_archive_never_panics_and_never_yields_more_than_is_read(
            damage in proptest::collection::vec((0_usize..4_096, proptest::num::u8::ANY), 1..12),
            cut in 0_usize..4_096,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let content: Vec<u8> = (0..400_u32).flat_map(u32::to_le_bytes).collect();
            let members: [(&str, &[u8]); 2] = [("a", &content), ("b", b"short")];
            let (zip, tgz) = (folder.path().join("a.whl"), folder.path().join("a.tgz"));
            wheel(&zip, &members);
            npm_package(&tgz, &members);
            for (path, package) in [(&zip, pip()), (&tgz, npm())] {
                let mut bytes = std::fs::read(path).unwrap();
                for (position, value) in &damage {
                    let position = position % bytes.len();
                    bytes[position] ^= value;
                }
                bytes.truncate(bytes.len() - cut % bytes.len() / 8);
                std::fs::write(path, bytes).unwrap();
                let _ = read_members(path, &package, &["b", "a"], &mut |_, reader| {
                    let mut taken = Vec::new();
                    let _ = reader.take(10).read_to_end(&mut taken);
                    assert!(taken.len() <= 10);
                    Ok(())
                });
            }
        }
    }
}
