//! The list of models: what is accepted cannot lead out of a model's folder.

#![no_main]

use dragoman_fuzz::bounded;
use inference::store::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limit = (1 << 20) + 512 * data.len();
    let Ok(manifest) = bounded(limit, || Manifest::parse(text, "the fuzzer")) else { return };
    for model in manifest.models() {
        let _ = model.size();
        for file in &model.files {
            let path = std::path::Path::new(file.path.as_str());
            let is_plain = |part| matches!(part, std::path::Component::Normal(_));
            assert!(path.components().all(is_plain), "{}", file.path);
        }
        for archive in &model.archives {
            assert!(!archive.file.as_str().starts_with(['-', '.']), "{}", archive.file);
        }
    }
});
