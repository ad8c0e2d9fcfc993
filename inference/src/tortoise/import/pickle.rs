//! The part of Python's pickle format that checkpoints of weights are made of, and nothing else.
//!
//! A pickle is a program for a stack machine, and a general reader of it runs whatever function the
//! file names (pickletools in Python's library describes every instruction). Here no function is ever
//! called: of all names, those that state dictionaries are made with are known and become plain
//! values, and every other name, and every instruction that such a dictionary does without, is an
//! error that says what was found and where. Values lie in tables and refer to each other by their
//! place, so that what refers to itself or is nested deep costs neither stack nor memory.

use std::collections::HashMap;

/// Bytes of the longest text.
const LONGEST_TEXT: usize = 64 << 10;
/// Bytes of the longest pickle: names and shapes of some ten thousand tensors take one of them.
pub const LONGEST_PICKLE: usize = 16 << 20;
/// Entries of the memo, values of all containers, and values on the stack, each.
const MOST_VALUES: usize = 1 << 18;
/// Tensors, and storages.
const MOST_TENSORS: usize = 1 << 14;
/// Bytes of the longest name of a storage.
const LONGEST_KEY: usize = 64;
/// Dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// Why a pickle was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It names something that is no part of a dictionary of tensors; loading it elsewhere might run
    /// code. Save the state dictionary alone.
    #[error("it asks for {name} (at byte {at}), which a dictionary of tensors has no need of")]
    Refused {
        /// The module and the name, or what else was asked for.
        name: String,
        /// Where.
        at: usize,
    },
    /// It is cut short or makes no sense.
    #[error("{reason} (at byte {at})")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
        /// Where.
        at: usize,
    },
    /// It is larger than any checkpoint of weights.
    #[error("it has more {what} than any checkpoint of weights (at byte {at})")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// What the numbers of a storage are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// 16 bits with the exponent of 32-bit floating point.
    Bf16,
    /// 64-bit integers.
    I64,
    /// 32-bit integers.
    I32,
    /// 16-bit integers.
    I16,
    /// 8-bit integers.
    I8,
    /// Bytes.
    U8,
    /// Truth values, a byte each.
    Bool,
}

impl Kind {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }
}

/// A name that a pickle may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

impl Known {
    fn of(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", storage) => Kind::of_storage(storage).map(Self::Storage),
            _ => None,
        }
    }
}

/// A value on the stack. Those with parts are places in the machine's tables.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'p> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'p str),
    Tuple { start: u32, length: u32 },
    List,
    Dict(u32),
    Known(Known),
    Storage(u32),
    Tensor(u32),
}

/// A run of numbers in a member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRef {
    /// The member's name under `data/`.
    pub key: String,
    /// What the numbers are.
    pub kind: Kind,
    /// How many there are.
    pub length: u64,
}

/// A tensor: which numbers of which storage it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRef {
    /// Where its numbers are.
    pub storage: StorageRef,
    /// The first one.
    pub offset: u64,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How far apart neighbours lie in each dimension, in numbers.
    pub strides: Vec<u64>,
}

/// What a name of a dictionary stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A tensor, by its place: see [`Pickle::tensor`].
    Tensor(usize),
    /// A dictionary within, by its place: see [`Pickle::entries`].
    Dictionary(usize),
    /// Something that holds no weights.
    Other,
}

/// A pickle that was read: dictionaries of tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pickle<'p> {
    dictionaries: Vec<Vec<(&'p str, Entry)>>,
    tensors: Vec<TensorRef>,
    root: usize,
}

impl<'p> Pickle<'p> {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// It holds anything but a dictionary of tensors, numbers and texts, is cut short, or is larger
    /// than any checkpoint.
    pub fn read(bytes: &'p [u8]) -> Result<Self, PickleError> {
        if bytes.len() > LONGEST_PICKLE {
            return Err(PickleError::TooLarge { what: "bytes", at: LONGEST_PICKLE });
        }
        Machine::new(bytes).run()
    }

    /// The place of the outermost dictionary.
    pub fn root(&self) -> usize {
        self.root
    }

    /// What the dictionary at `place` holds, in the file's order. Entries whose names are no texts are
    /// left out; of equal names the last one counts.
    pub fn entries(&self, place: usize) -> &[(&'p str, Entry)] {
        self.dictionaries.get(place).map_or(&[], Vec::as_slice)
    }

    /// The tensor at `place`, if there is one.
    pub fn tensor(&self, place: usize) -> Option<&TensorRef> {
        self.tensors.get(place)
    }
}

struct Dict<'p> {
    is_ordered: bool,
    entries: Vec<(Value<'p>, Value<'p>)>,
}

struct Machine<'p> {
    bytes: &'p [u8],
    at: usize,
    stack: Vec<Value<'p>>,
    /// Heights of the stack where the open marks are.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'p>>,
    /// The parts of all tuples.
    parts: Vec<Value<'p>>,
    dicts: Vec<Dict<'p>>,
    /// Entries in all dictionaries.
    held: usize,
    storages: Vec<StorageRef>,
    tensors: Vec<TensorRef>,
}

impl<'p> Machine<'p> {
    fn new(bytes: &'p [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            parts: Vec::new(),
            dicts: Vec::new(),
            held: 0,
            storages: Vec::new(),
            tensors: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Pickle<'p>, PickleError> {
        if self.byte()? != 0x80 || !(2..=5).contains(&self.byte()?) {
            return Err(self.malformed("it is no pickle of protocol 2 to 5"));
        }
        loop {
            let at = self.at;
            let code = self.byte()?;
            if code == b'.' {
                break;
            }
            self.step(code, at)?;
            if self.stack.len() > MOST_VALUES {
                return Err(self.too_large("values at a time"));
            }
        }
        if self.at != self.bytes.len() {
            return Err(self.malformed("something follows its end"));
        }
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.malformed("values are left over at its end"));
        }
        let Value::Dict(root) = root else {
            return Err(self.malformed("what it holds is no dictionary"));
        };
        Ok(self.finish(root as usize))
    }

    fn finish(self, root: usize) -> Pickle<'p> {
        let entry = |(name, value): &(Value<'p>, Value<'p>)| {
            let Value::Text(name) = *name else { return None };
            Some((
                name,
                match value {
                    Value::Tensor(place) => Entry::Tensor(*place as usize),
                    Value::Dict(place) => Entry::Dictionary(*place as usize),
                    _ => Entry::Other,
                },
            ))
        };
        let dictionaries =
            self.dicts.iter().map(|dict| dict.entries.iter().filter_map(entry).collect()).collect();
        Pickle { dictionaries, tensors: self.tensors, root }
    }

    fn step(&mut self, code: u8, at: usize) -> Result<(), PickleError> {
        match code {
            b'(' => {
                if self.marks.len() >= MOST_VALUES {
                    return Err(self.too_large("marks"));
                }
                self.marks.push(self.stack.len());
            }
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.byte()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'G' => {
                self.array::<8>()?;
                self.stack.push(Value::Float);
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?;
            }
            0x8c => {
                let length = self.byte()?;
                self.text(length.into())?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(length)?;
            }
            b')' => self.tuple(0)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let length = self.above_mark()?;
                self.tuple(length)?;
            }
            b']' => self.stack.push(Value::List),
            b'a' => {
                self.pop()?;
                self.expect_list()?;
            }
            b'e' => {
                let length = self.above_mark()?;
                self.stack.truncate(self.stack.len() - length);
                self.expect_list()?;
            }
            b'}' => self.dict(false)?,
            b's' => {
                let (value, name) = (self.pop()?, self.pop()?);
                self.set(&[name, value])?;
            }
            b'u' => {
                let length = self.above_mark()?;
                let pairs = self.stack.split_off(self.stack.len() - length);
                self.set(&pairs)?;
            }
            b'q' => {
                let index = self.byte()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)?;
            }
            // As many as there are: no entry is ever forgotten.
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let index = self.byte()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }
            0x95 => {
                let length = u64::from_le_bytes(self.array()?);
                if length > (self.bytes.len() - self.at) as u64 {
                    return Err(self.malformed("it is cut short"));
                }
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(module, name, at)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.name(module, name, at)?,
                _ => return Err(self.malformed("a name is no text")),
            },
            b'Q' => self.persistent(at)?,
            b'R' => self.reduce(at)?,
            b'b' => self.build(at)?,
            other => return Err(PickleError::Refused { name: instruction(other), at }),
        }
        Ok(())
    }

    /// Of the names that may be asked for, this one.
    fn name(&mut self, module: &str, name: &str, at: usize) -> Result<(), PickleError> {
        match Known::of(module, name) {
            Some(known) => self.stack.push(Value::Known(known)),
            None => {
                let name = format!("{module}.{name}").chars().take(200).collect();
                return Err(PickleError::Refused { name, at });
            }
        }
        Ok(())
    }

    /// `("storage", kind, key, device, length)`.
    fn persistent(&mut self, at: usize) -> Result<(), PickleError> {
        let id = self.pop()?;
        let &[
            Value::Text("storage"),
            Value::Known(Known::Storage(kind)),
            Value::Text(key),
            Value::Text(_),
            Value::Int(length),
        ] = self.parts_of(id)
        else {
            return Err(PickleError::Refused { name: "something kept outside".to_owned(), at });
        };
        let Ok(length) = u64::try_from(length) else {
            return Err(self.malformed("a storage has a negative length"));
        };
        if key.len() > LONGEST_KEY || self.storages.len() >= MOST_TENSORS {
            return Err(self.too_large("storages"));
        }
        self.storages.push(StorageRef { key: key.to_owned(), kind, length });
        self.stack.push(Value::Storage((self.storages.len() - 1) as u32));
        Ok(())
    }

    /// Calls nothing: makes of a known name and its arguments what they stand for.
    fn reduce(&mut self, at: usize) -> Result<(), PickleError> {
        let (arguments, name) = (self.pop()?, self.pop()?);
        let made = match name {
            Value::Known(Known::OrderedDict)
                if matches!(arguments, Value::Tuple { length: 0, .. }) =>
            {
                return self.dict(true);
            }
            Value::Known(Known::RebuildTensor) => self.tensor(arguments)?,
            // The tensor, whether it is trained, and hooks.
            Value::Known(Known::RebuildParameter) => match *self.parts_of(arguments) {
                [Value::Tensor(place), Value::Bool(_), Value::Dict(_)] => Value::Tensor(place),
                _ => return Err(self.malformed("a parameter is made of something else")),
            },
            _ => return Err(PickleError::Refused { name: "a call".to_owned(), at }),
        };
        self.stack.push(made);
        Ok(())
    }

    /// `(storage, offset, shape, strides, is trained, hooks)`, and of late metadata that may be none.
    fn tensor(&mut self, arguments: Value<'p>) -> Result<Value<'p>, PickleError> {
        let not_a_tensor = self.malformed("a tensor is made of something else");
        let (&[storage, offset, shape, strides, trained, hooks], rest) =
            self.parts_of(arguments).split_first_chunk().ok_or_else(|| not_a_tensor.clone())?;
        let (Value::Storage(storage), Value::Int(offset)) = (storage, offset) else {
            return Err(not_a_tensor);
        };
        let is_plain = matches!((trained, hooks), (Value::Bool(_), Value::Dict(_)))
            && matches!(rest, [] | [Value::None]);
        let numbers = |value| {
            let parts = self.parts_of(value).iter();
            let numbers = parts.map(|part| match part {
                Value::Int(number) => u64::try_from(*number).ok(),
                _ => None,
            });
            numbers.collect::<Option<Vec<_>>>()
        };
        let (Some(shape), Some(strides), Ok(offset)) =
            (numbers(shape), numbers(strides), u64::try_from(offset))
        else {
            return Err(not_a_tensor);
        };
        let shape: Option<Vec<_>> =
            shape.into_iter().map(|length| usize::try_from(length).ok()).collect();
        let (Some(shape), Some(storage)) = (shape, self.storages.get(storage as usize)) else {
            return Err(not_a_tensor);
        };
        if !is_plain || shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
            return Err(not_a_tensor);
        }
        if !is_within(&shape, &strides, offset, storage.length) {
            return Err(self.malformed("a tensor reaches beyond its storage"));
        }
        if self.tensors.len() >= MOST_TENSORS {
            return Err(self.too_large("tensors"));
        }
        let tensor = TensorRef { storage: storage.clone(), offset, shape, strides };
        self.tensors.push(tensor);
        Ok(Value::Tensor((self.tensors.len() - 1) as u32))
    }

    /// Attributes may be given to ordered dictionaries only, where PyTorch puts the versions of
    /// modules.
    fn build(&mut self, at: usize) -> Result<(), PickleError> {
        let state = self.pop()?;
        let target = self.top()?;
        let dict = |value| match value {
            Value::Dict(place) => self.dicts.get(place as usize),
            _ => None,
        };
        let is_ordered = dict(target).is_some_and(|dict| dict.is_ordered);
        let is_metadata = dict(state).is_some_and(|state| {
            state.entries.iter().all(|(name, _)| *name == Value::Text("_metadata"))
        });
        if is_ordered && is_metadata {
            return Ok(());
        }
        Err(PickleError::Refused { name: "the state of an object".to_owned(), at })
    }

    fn dict(&mut self, is_ordered: bool) -> Result<(), PickleError> {
        if self.dicts.len() >= MOST_VALUES {
            return Err(self.too_large("dictionaries"));
        }
        self.dicts.push(Dict { is_ordered, entries: Vec::new() });
        self.stack.push(Value::Dict((self.dicts.len() - 1) as u32));
        Ok(())
    }

    /// Puts names and values, in turn, into the dictionary on top.
    fn set(&mut self, pairs: &[Value<'p>]) -> Result<(), PickleError> {
        let (pairs, rest) = pairs.as_chunks::<2>();
        self.held += pairs.len();
        if self.held > MOST_VALUES {
            return Err(self.too_large("entries"));
        }
        match self.top()? {
            Value::Dict(place) if rest.is_empty() => {
                if let Some(dict) = self.dicts.get_mut(place as usize) {
                    dict.entries.extend(pairs.iter().map(|&[name, value]| (name, value)));
                }
                Ok(())
            }
            _ => Err(self.malformed("entries belong to no dictionary")),
        }
    }

    /// What lies in lists is no weight and is forgotten.
    fn expect_list(&self) -> Result<(), PickleError> {
        match self.top()? {
            Value::List => Ok(()),
            _ => Err(self.malformed("something is added to what is no list")),
        }
    }

    fn tuple(&mut self, length: usize) -> Result<(), PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(length).filter(|start| *start >= floor);
        let Some(start) = start else { return Err(self.malformed("the stack is empty")) };
        if self.parts.len() + length > MOST_VALUES {
            return Err(self.too_large("parts of tuples"));
        }
        let first = self.parts.len() as u32;
        self.parts.extend(self.stack.drain(start..));
        self.stack.push(Value::Tuple { start: first, length: length as u32 });
        Ok(())
    }

    /// The parts of a tuple; nothing of another value.
    fn parts_of(&self, value: Value<'p>) -> &[Value<'p>] {
        match value {
            Value::Tuple { start, length } => {
                let start = start as usize;
                self.parts.get(start..start + length as usize).unwrap_or(&[])
            }
            _ => &[],
        }
    }

    fn remember(&mut self, index: u32) -> Result<(), PickleError> {
        let value = self.top()?;
        if self.memo.len() >= MOST_VALUES {
            return Err(self.too_large("remembered values"));
        }
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), PickleError> {
        let Some(value) = self.memo.get(&index) else {
            return Err(self.malformed("it recalls what it has not remembered"));
        };
        self.stack.push(*value);
        Ok(())
    }

    /// An integer of as many bytes as the first one says, the lowest first, in two's complement.
    fn long(&mut self) -> Result<(), PickleError> {
        let length = self.byte()?;
        if length > 8 {
            return Err(self.too_large("digits in a number"));
        }
        let bytes = self.take(length.into())?;
        let sign = bytes.last().map_or(0, |highest| if *highest >= 0x80 { 0xff } else { 0 });
        let mut padded = [sign; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(padded)));
        Ok(())
    }

    fn text(&mut self, length: u64) -> Result<(), PickleError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LONGEST_TEXT {
            return Err(self.too_large("characters in a text"));
        }
        let bytes = self.take(length)?;
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(self.malformed("a text is not UTF-8"));
        };
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// A text up to the end of the line.
    fn line(&mut self) -> Result<&'p str, PickleError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(LONGEST_TEXT).position(|byte| *byte == b'\n');
        let Some(length) = length else { return Err(self.malformed("a name has no end")) };
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    /// How many values lie above the last mark, which goes.
    fn above_mark(&mut self) -> Result<usize, PickleError> {
        match self.marks.pop().and_then(|mark| self.stack.len().checked_sub(mark)) {
            Some(length) => Ok(length),
            None => Err(self.malformed("there is no mark")),
        }
    }

    fn top(&self) -> Result<Value<'p>, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(value) if self.stack.len() > floor => Ok(*value),
            _ => Err(self.malformed("the stack is empty")),
        }
    }

    fn pop(&mut self) -> Result<Value<'p>, PickleError> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let Some(bytes) = self.bytes[self.at..].first_chunk() else {
            return Err(self.malformed("it is cut short"));
        };
        self.at += N;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'p [u8], PickleError> {
        let Some(bytes) = self.bytes[self.at..].get(..length) else {
            return Err(self.malformed("it is cut short"));
        };
        self.at += length;
        Ok(bytes)
    }

    fn malformed(&self, reason: &'static str) -> PickleError {
        PickleError::Malformed { reason, at: self.at }
    }

    fn too_large(&self, what: &'static str) -> PickleError {
        PickleError::TooLarge { what, at: self.at }
    }
}

/// Whether every number of the tensor lies in a storage of `length` numbers, and there are no more of
/// them than that: one number that stands for many (a stride of 0) might stand for any amount.
fn is_within(shape: &[usize], strides: &[u64], offset: u64, length: u64) -> bool {
    let mut count = 1u64;
    let mut last = Some(offset);
    for (size, stride) in shape.iter().zip(strides) {
        let size = *size as u64;
        let Some(product) = count.checked_mul(size) else { return false };
        count = product;
        last = last.and_then(|last| size.saturating_sub(1).checked_mul(*stride)?.checked_add(last));
    }
    match (count, last) {
        (0, _) => true,
        (count, Some(last)) => last < length && count <= length,
        (_, None) => false,
    }
}

/// An instruction's name, for those that are met in the wild.
fn instruction(code: u8) -> String {
    let name = match code {
        b'i' | b'o' | 0x81 | 0x92 => "a new object of a class",
        0x82..=0x84 => "an extension",
        b'P' => "something kept outside",
        b'B' | b'C' | 0x8e | 0x96..=0x98 => "raw bytes",
        0x8f..=0x91 => "a set",
        b'0'..=b'2' => "what recursive values need",
        b'I' | b'L' | b'F' | b'S' | b'V' | b'T' | b'U' | b'g' | b'p' | b'd' | b'l' => {
            "an instruction of an older protocol"
        }
        0x8b => "a very long number",
        _ => return format!("the unknown instruction {code:#04x}"),
    };
    name.to_owned()
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
