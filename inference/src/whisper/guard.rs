//! Signs that a text went wrong: loops and unlikely compressibility.
//!
//! A window with little silence after the speech makes Whisper repeat its sentence without end, and
//! with high probabilities, so only the tokens tell.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// How many copies of a block at the end of a text make a loop: short blocks occur in speech
/// ("no, no, no"), a whole sentence said twice in one segment hardly does.
fn copies_of_a_loop(block: usize) -> usize {
    match block {
        0..=1 => 8,
        2..=3 => 5,
        4..=7 => 3,
        _ => 2,
    }
}

/// When `text` ends in a loop: how many of its tokens come before the second copy.
pub fn loop_start(text: &[u32]) -> Option<usize> {
    (1..=text.len() / 2).find_map(|block| {
        let tail = &text[text.len() - block..];
        let copies = text.rchunks_exact(block).take_while(|chunk| *chunk == tail).count();
        (copies >= copies_of_a_loop(block)).then(|| text.len() - (copies - 1) * block)
    })
}

/// Characters of the text per byte of its zlib compression; speech stays below 2.4.
///
/// Each character counts as one byte, the low one of its code point. Over UTF-8, as OpenAI computes
/// it, any long Cyrillic text looks repetitive, because every other byte is the same.
pub fn compression_ratio(text: &str) -> f32 {
    let low_bytes: Vec<u8> = text.chars().map(|character| character as u32 as u8).collect();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder
        .write_all(&low_bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail");
    low_bytes.len() as f32 / compressed.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_said_twice_is_cut_to_one_copy() {
        let sentence: Vec<u32> = (100..110).collect();
        let twice = [sentence.clone(), sentence.clone()].concat();
        assert_eq!(loop_start(&twice), Some(10));
        assert_eq!(loop_start(&twice[..19]), None);
        assert_eq!(loop_start(&sentence), None);
    }

    #[test]
    fn a_word_may_be_repeated_a_few_times() {
        assert_eq!(loop_start(&[1, 7, 7, 7, 7]), None);
        assert_eq!(loop_start(&[1, 7, 7, 7, 7, 7, 7, 7, 7]), Some(2));
        assert_eq!(loop_start(&[1, 2, 3, 4, 1, 2, 3, 4]), None);
        assert_eq!(loop_start(&[1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]), Some(4));
    }

    #[test]
    fn repetition_compresses_and_speech_does_not() {
        assert!(compression_ratio(&"thank you very much ".repeat(20)) > 2.4);
        let sentence = "That agent is already logged on. Please enter your agent number.";
        assert!(compression_ratio(sentence) < 1.5);
        let russian = "Нажмите один для записи вашего сообщения при статусе недоступен. \
            Нажмите два для записи вашего сообщения при статусе занято.";
        assert!(compression_ratio(russian) < 2.0);
        assert!(compression_ratio("") < 1.0);
    }
}
