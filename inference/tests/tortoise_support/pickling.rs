//! Writes checkpoints as `torch.save` does: a pickle of protocol 2 and the numbers, in a zip archive.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// A pickle that is being written.
#[derive(Clone, Debug)]
pub struct Pickler(pub Vec<u8>);

impl Pickler {
    /// Begins one of protocol 2.
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    /// Adds instructions as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Pushes a text.
    pub fn text(self, text: &str) -> Self {
        let length = (text.len() as u32).to_le_bytes();
        self.raw(b"X").raw(&length).raw(text.as_bytes())
    }

    /// Pushes a whole number.
    pub fn int(self, number: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&number.to_le_bytes())
    }

    /// Pushes what a module calls a name.
    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// Pushes a tuple of numbers.
    pub fn numbers(self, numbers: &[i64]) -> Self {
        numbers.iter().fold(self.raw(b"("), |pickler, number| pickler.int(*number)).raw(b"t")
    }

    /// Pushes a tensor.
    pub fn tensor(
        self,
        (storage, key, length): (&str, &str, i64),
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"((")
            .text("storage")
            .global("torch", storage)
            .text(key)
            .text("cpu")
            .int(length)
            .raw(b"tQ")
            .int(offset)
            .numbers(shape)
            .numbers(strides)
            .raw(b"\x89")
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    /// Ends it.
    pub fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// Writes an archive with these members in the folder `archive`, stored as they are.
pub fn archive(path: &Path, members: &[(&str, &[u8])]) {
    let mut writer = zip::ZipWriter::new(File::create(path).expect("a file"));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in members {
        writer.start_file(format!("archive/{name}"), options).expect("a member");
        writer.write_all(content).expect("room");
    }
    writer.finish().expect("room");
}

/// Saves a dictionary of tensors of single precision, each in a storage of its own, within the
/// dictionary `within` if that is named.
pub fn save(path: &Path, within: Option<&str>, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let mut pickler = Pickler::new();
    if let Some(within) = within {
        pickler = pickler.raw(b"}").text(within);
    }
    pickler = pickler.global("collections", "OrderedDict").raw(b")R(");
    let mut members = Vec::new();
    for (index, (name, shape, numbers)) in tensors.iter().enumerate() {
        let key = index.to_string();
        let length = numbers.len() as i64;
        let shape: Vec<_> = shape.iter().map(|size| *size as i64).collect();
        let mut strides: Vec<_> =
            (0..shape.len()).map(|from| shape[from + 1..].iter().product()).collect();
        strides.iter_mut().for_each(|stride: &mut i64| *stride = (*stride).max(1));
        pickler = pickler.text(name).tensor(("FloatStorage", &key, length), 0, &shape, &strides);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        members.push((format!("data/{key}"), bytes));
    }
    pickler = pickler.raw(b"u");
    if within.is_some() {
        pickler = pickler.raw(b"s");
    }
    let pickle = pickler.stop();
    let mut all: Vec<(&str, &[u8])> = vec![("data.pkl", &pickle), ("byteorder", b"little")];
    all.extend(members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    all.push(("version", b"3\n"));
    archive(path, &all);
}
