//! Package archives, zip and gzipped tar: the members that are asked for, or an error.

#![no_main]

use std::sync::LazyLock;

use dragoman_fuzz::{bounded, with_file};
use inference::store::{Package, read_members_of};
use libfuzzer_sys::fuzz_target;

static PACKAGES: LazyLock<[Package; 2]> = LazyLock::new(|| {
    let good = "a valid name";
    [
        Package::Pip("a==1".to_owned().try_into().expect(good)),
        Package::Npm("a@1".to_owned().try_into().expect(good)),
    ]
});
/// A member is read in pieces and never held; most that is read of one here.
const LIMIT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    with_file(data, |path| {
        let package = &PACKAGES[usize::from(data.first() == Some(&0x1f))];
        let limit = (2 << 20) + 64 * data.len();
        bounded(limit, || read_members_of(path, package, &["x/one", "x/two"], LIMIT));
    });
});
