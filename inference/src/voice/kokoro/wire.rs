//! Whether an ONNX file is as long as it says, at every depth.
//!
//! The parser takes a message that is cut short for a shorter one, and makes room for a string
//! before it looks whether the file is that long: a few damaged bytes would ask for exabytes. So the
//! lengths are walked first (protobuf's wire format, as its encoding guide has it).

/// The messages of `onnx.proto3` that the parser reads.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    Shape,
    /// Its fields are numbers and strings.
    Leaf,
}

/// Graphs within attributes of nodes within graphs: deeper than this, no network of ours goes.
const DEEPEST: usize = 32;

/// Whether every field of the model ends within the message that holds it.
pub(super) fn is_complete(file: &[u8]) -> bool {
    fits(Message::Model, file, 0)
}

fn fits(message: Message, bytes: &[u8], depth: usize) -> bool {
    if depth > DEEPEST {
        return false;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((field, after)) = field(rest) else { return false };
        if let (Some(inner), Some(content)) = (message.inner(field.number), field.content)
            && !fits(inner, content, depth + 1)
        {
            return false;
        }
        rest = after;
    }
    true
}

impl Message {
    /// The message in a field, if it holds one.
    fn inner(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6) => Self::Graph,
            (Self::Model, 8 | 14) | (Self::Tensor, 13) | (Self::Shape, 1) => Self::Leaf,
            (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::Node, 5) => Self::Attribute,
            (Self::ValueInfo, 2) | (Self::SequenceType, 1) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::Type, 4) => Self::SequenceType,
            (Self::TensorType, 2) => Self::Shape,
            _ => return None,
        })
    }
}

struct Field<'a> {
    number: u64,
    /// Of a field that states its length.
    content: Option<&'a [u8]>,
}

/// The first field, and what follows it. `None` when it does not end within the bytes.
fn field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let mut rest = bytes;
    let key = varint(&mut rest)?;
    let (length, is_delimited) = match key & 7 {
        0 => {
            varint(&mut rest)?;
            (0, false)
        }
        1 => (8, false),
        2 => (varint(&mut rest)?, true),
        5 => (4, false),
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Field { number: key >> 3, content: is_delimited.then_some(content) }, after))
}

/// Takes a variable-length integer off the front.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_deep_inside_must_not_be_longer_than_what_holds_it() {
        // A model (field 7: graph) with a node (field 1) whose name (field 3) is "ab".
        let model = [0x3a, 6, 0x0a, 4, 0x1a, 2, b'a', b'b'];
        assert!(is_complete(&model));
        let mut lies = model;
        lies[5] = 200;
        assert!(!is_complete(&lies));
        lies[5] = 3;
        assert!(!is_complete(&lies), "longer than its node, if not than the file");
        for length in 1..model.len() {
            assert!(!is_complete(&model[..length]), "cut after {length} bytes");
        }
    }

    #[test]
    fn what_is_no_message_is_not_looked_into() {
        // The model's producer (field 2): text, whatever its bytes would mean.
        assert!(is_complete(&[0x12, 2, 0xff, 0xff]));
    }

    #[test]
    fn graphs_within_graphs_end_somewhere() {
        let mut bytes = Vec::new();
        for _ in 0..40 {
            // A graph's node's attribute's graph.
            for key in [0x32, 0x2a, 0x0a] {
                let mut outer = vec![key];
                let mut length = bytes.len();
                while length > 0x7f {
                    outer.push((length & 0x7f) as u8 | 0x80);
                    length >>= 7;
                }
                outer.push(length as u8);
                outer.append(&mut bytes);
                bytes = outer;
            }
        }
        let mut model = vec![0x3a];
        model.push((bytes.len() & 0x7f) as u8 | 0x80);
        model.push((bytes.len() >> 7) as u8);
        model.append(&mut bytes);
        assert!(!is_complete(&model));
    }
}
