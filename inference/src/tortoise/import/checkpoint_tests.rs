use super::*;

use crate::tortoise::import::pickling::{self, Pickler, archive};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tortoise/checkpoint.pth")
}

fn floats(checkpoint: &mut Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensor(name).unwrap();
    let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    tensor.to_vec1().unwrap()
}

/// The entry of row `row` and column `column` in the matrix that the fixture is made of.
fn base(row: usize, column: usize) -> f32 {
    (row * 6 + column) as f32 / 2.0
}

fn matrix(rows: std::ops::Range<usize>, columns: &[usize]) -> Vec<f32> {
    rows.flat_map(|row| columns.iter().map(move |column| base(row, *column))).collect()
}

/// A checkpoint of one tensor `a` of six numbers.
fn small(folder: &Path, numbers: &[f32], kind: &str, length: i64) -> PathBuf {
    let path = folder.join("small.pth");
    let pickle =
        Pickler::new().raw(b"}").text("a").tensor((kind, "0", length), 0, &[2, 3], &[3, 1]);
    let pickle = pickle.raw(b"s").stop();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    archive(&path, &[("data.pkl", &pickle), ("byteorder", b"little"), ("data/0", &bytes)]);
    path
}

#[test]
fn every_kind_of_tensor_that_pytorch_saves_is_read() {
    let mut checkpoint = Checkpoint::open(&fixture(), Some("model_g")).unwrap();
    let all = matrix(0..4, &[0, 1, 2, 3, 4, 5]);
    for name in ["single", "half", "brain", "double"] {
        assert_eq!(floats(&mut checkpoint, name), all, "{name}");
        assert_eq!(checkpoint.tensor(name).unwrap().dims(), [4, 6]);
    }
    assert_eq!(checkpoint.tensor("half").unwrap().dtype(), DType::F16);
    assert_eq!(checkpoint.tensor("brain").unwrap().dtype(), DType::BF16);
    assert_eq!(checkpoint.tensor("double").unwrap().dtype(), DType::F32);
    assert_eq!(floats(&mut checkpoint, "parameter"), matrix(0..2, &[0, 1, 2, 3, 4, 5]));
    assert_eq!(floats(&mut checkpoint, "scalar"), [0.25]);
    assert_eq!(checkpoint.tensor("scalar").unwrap().rank(), 0);
    assert_eq!(checkpoint.tensor("empty").unwrap().dims(), [0, 3]);
    let whole: Vec<i64> = checkpoint.tensor("whole").unwrap().to_vec1().unwrap();
    assert_eq!(whole, [-3, -2, -1, 0, 1, 2]);
    let short: Vec<i64> = checkpoint.tensor("short").unwrap().to_vec1().unwrap();
    assert_eq!(short, whole);
    assert_eq!(floats(&mut checkpoint, "mask"), [1.0, 0.0, 1.0]);
    assert!(checkpoint.tensor("nothing").is_err());
    assert_eq!(checkpoint.kind("mask"), Some(Kind::Bool));
}

#[test]
fn tensors_that_share_a_storage_and_lie_apart_in_it_are_gathered() {
    let mut checkpoint = Checkpoint::open(&fixture(), Some("model_g")).unwrap();
    assert_eq!(checkpoint.shapes()["transposed"], [6, 4]);
    let transposed: Vec<f32> =
        (0..6).flat_map(|column| (0..4).map(move |row| base(row, column))).collect();
    assert_eq!(floats(&mut checkpoint, "transposed"), transposed);
    assert_eq!(floats(&mut checkpoint, "every_other_column"), matrix(0..4, &[0, 2, 4]));
    assert_eq!(floats(&mut checkpoint, "last_rows"), matrix(2..4, &[0, 1, 2, 3, 4, 5]));
    // Of [2, 3, 4], the last dimension first.
    let turned: Vec<f32> =
        (0..4).flat_map(|c| (0..6).map(move |ab| (ab * 4 + c) as f32 / 2.0)).collect();
    assert_eq!(checkpoint.shapes()["flat_reversed_dims"], [4, 2, 3]);
    assert_eq!(floats(&mut checkpoint, "flat_reversed_dims"), turned);
}

#[test]
fn both_names_of_weight_norm_are_as_pytorch_writes_them() {
    let checkpoint = Checkpoint::open(&fixture(), Some("model_g")).unwrap();
    let shapes = checkpoint.shapes();
    assert_eq!(shapes["0.weight_g"], [2, 1, 1]);
    assert_eq!(shapes["0.weight_v"], [2, 1, 3]);
    assert_eq!(shapes["1.parametrizations.weight.original0"], [1, 1, 1]);
    assert_eq!(shapes["1.parametrizations.weight.original1"], [1, 2, 1]);
}

#[test]
fn dictionaries_of_the_usual_names_are_found_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    let tensors = [("x".to_owned(), vec![1], vec![1.0])];
    for (within, asked) in [
        (None, None),
        (None, Some("model_g")),
        (Some("state_dict"), None),
        (Some("model"), None),
        (Some("model_g"), Some("model_g")),
    ] {
        pickling::save(&path, within, &tensors);
        let checkpoint = Checkpoint::open(&path, asked).unwrap();
        assert_eq!(checkpoint.shapes()["x"], [1], "{within:?} {asked:?}");
    }
    pickling::save(&path, Some("generator"), &tensors);
    let error = Checkpoint::open(&path, None).unwrap_err().to_string();
    assert!(error.contains("no tensors"), "{error}");
}

#[test]
fn what_is_no_zip_archive_is_told_to_be_saved_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.pth");
    // The first bytes of the format before PyTorch 1.6, and files that are no checkpoints at all.
    for content in [&b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."[..], b"", b"PK", b"<html>"] {
        std::fs::write(&path, content).unwrap();
        let error = Checkpoint::open(&path, None).unwrap_err();
        assert!(matches!(error, CheckpointError::NotZip), "{error}");
        assert!(error.to_string().contains("torch.save"), "{error}");
    }
    let missing = Checkpoint::open(&folder.path().join("none.pth"), None).unwrap_err();
    assert!(matches!(missing, CheckpointError::Io(_)), "{missing}");
}

#[test]
fn a_file_that_is_cut_short_is_damaged_wherever_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pth");
    let whole = std::fs::read(fixture()).unwrap();
    for length in (4..whole.len()).step_by(211) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Checkpoint::open(&path, None).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged(_)), "of {length} bytes: {error}");
    }
}

#[test]
fn a_flipped_byte_in_a_storage_is_found_by_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = small(folder.path(), &[1.5; 6], "FloatStorage", 6);
    let mut bytes = std::fs::read(&path).unwrap();
    let number = 1.5f32.to_le_bytes();
    let at = bytes.windows(4).position(|window| window == number).unwrap();
    bytes[at + 2] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Checkpoint::open(&path, None).unwrap().tensor("a").unwrap_err().to_string();
    assert!(error.starts_with("a: the member archive/data/0 is damaged"), "{error}");
}

#[test]
fn a_storage_has_as_many_bytes_as_the_pickle_says() {
    let folder = tempfile::tempdir().unwrap();
    for (numbers, kind, length) in [
        (&[1.0; 5][..], "FloatStorage", 6),
        (&[1.0; 7], "FloatStorage", 6),
        (&[1.0; 6], "DoubleStorage", 6),
        (&[1.0; 6], "FloatStorage", i64::MAX),
    ] {
        let path = small(folder.path(), numbers, kind, length);
        let error = Checkpoint::open(&path, None).unwrap().tensor("a").unwrap_err().to_string();
        assert!(error.contains("other than it says"), "{error}");
    }
    let path = small(folder.path(), &[1.0; 6], "FloatStorage", 6);
    assert_eq!(floats(&mut Checkpoint::open(&path, None).unwrap(), "a"), [1.0; 6]);
}

#[test]
fn compressed_storages_are_refused() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.pth");
    let pickle = Pickler::new().raw(b"}").text("a");
    let pickle =
        pickle.tensor(("FloatStorage", "0", 1 << 20), 0, &[1 << 20], &[1]).raw(b"s").stop();
    let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    writer.start_file("archive/data.pkl", stored).unwrap();
    writer.write_all(&pickle).unwrap();
    let deflated = stored.compression_method(CompressionMethod::Deflated);
    writer.start_file("archive/data/0", deflated).unwrap();
    writer.write_all(&vec![0; 4 << 20]).unwrap();
    writer.finish().unwrap();
    let error = Checkpoint::open(&path, None).unwrap().tensor("a").unwrap_err().to_string();
    assert!(error.contains("is compressed"), "{error}");
}

#[test]
fn archives_of_another_kind_are_told_from_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.pth");
    let pickle = Pickler::new().raw(b"}").text("a").tensor(("FloatStorage", "0", 1), 0, &[1], &[1]);
    let pickle = pickle.raw(b"s").stop();
    for (members, reason) in [
        (&[("readme", &b"hello"[..])][..], "without a data.pkl"),
        (&[("data.pkl", &pickle), ("byteorder", b"big")], "highest byte first"),
        (&[("deep/data.pkl", &pickle)], "of another kind"),
    ] {
        archive(&path, members);
        let error = Checkpoint::open(&path, None).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    archive(&path, &[("data.pkl", &pickle)]);
    let error = Checkpoint::open(&path, None).unwrap().tensor("a").unwrap_err().to_string();
    assert!(error.contains("no member archive/data/0"), "{error}");
}

#[test]
fn checksums_that_pytorch_was_told_to_leave_out_are_not_missed() {
    // As such a file has it: 0 in the record of the member and in the list of all of them.
    let folder = tempfile::tempdir().unwrap();
    let path = small(folder.path(), &[1.5; 6], "FloatStorage", 6);
    let mut bytes = std::fs::read(&path).unwrap();
    for (signature, checksum) in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16)] {
        let places: Vec<_> =
            (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(signature)).collect();
        assert_eq!(places.len(), 3);
        for at in places {
            bytes[at + checksum..at + checksum + 4].fill(0);
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(floats(&mut Checkpoint::open(&path, None).unwrap(), "a"), [1.5; 6]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_checkpoint_never_panics(
        damage in proptest::collection::vec((0_usize..100_000, 1_u8..), 1..12),
        cut in 0_usize..10,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.pth");
        let mut bytes = std::fs::read(fixture()).unwrap();
        for (place, value) in damage {
            let place = place % bytes.len();
            bytes[place] ^= value;
        }
        bytes.truncate(bytes.len() - cut / 9 * 40);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(mut checkpoint) = Checkpoint::open(&path, Some("model_g")) {
            for name in checkpoint.shapes().into_keys() {
                let _ = checkpoint.tensor(&name);
            }
        }
    }
}
