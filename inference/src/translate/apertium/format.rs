//! Apertium's stream format at both ends of a pipeline: what has to be escaped on the way in, what
//! has to be taken out on the way back.

/// Appended to every text: a full stop, so that the tagger and the transfer stages finish the last
/// sentence, and an empty blank and a line end that keep it apart from the text itself.
const TERMINATOR: &str = ".[][\n]";

/// Bytes of text that a pipe surely takes at once, so that writing never waits for a stuck process:
/// escaping at most doubles it, and a pipe holds 64 KiB.
pub(super) const LONGEST_TEXT: usize = 16 << 10;

/// A text as a null-terminated request. Control characters, NUL above all, become spaces: they
/// carry no speech and would break the framing.
pub(super) fn request(text: &str) -> Vec<u8> {
    let mut request = String::with_capacity(text.len() * 2 + TERMINATOR.len() + 1);
    for character in text.chars() {
        match character {
            '[' | ']' | '{' | '}' | '^' | '$' | '/' | '\\' | '@' | '<' | '>' => {
                request.push('\\');
                request.push(character);
            }
            control if control.is_control() => request.push(' '),
            plain => request.push(plain),
        }
    }
    request.push_str(TERMINATOR);
    request.push('\0');
    request.into_bytes()
}

/// The text of an answer (without its NUL): blanks dropped, escapes undone, the terminating full
/// stop removed.
pub(super) fn answer(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            '[' => skip_blank(&mut characters),
            plain => text.push(plain),
        }
    }
    let trimmed = text.trim_end();
    trimmed.strip_suffix('.').unwrap_or(trimmed).to_owned()
}

fn skip_blank(characters: &mut std::str::Chars<'_>) {
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            ']' => return,
            _ => {}
        }
    }
}

/// Removes what the rules leave behind: spaces in the wrong places, marks of unknown words, a
/// small letter at the start of a sentence, whole words in capitals where `source` has none.
/// `opens_questions` adds Spanish opening marks.
pub(super) fn polish(text: &str, source: &str, opens_questions: bool) -> String {
    let keeps_capitals = source.split_whitespace().any(is_in_capitals);
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = without_mark(word);
        let lowered;
        let word = if !keeps_capitals && is_in_capitals(word) {
            lowered = word.to_lowercase();
            lowered.as_str()
        } else {
            word
        };
        match words.last_mut() {
            Some(previous) if word.starts_with([',', '.', ';', ':', '!', '?', '…', ')']) => {
                previous.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    let mut sentences = Vec::new();
    let mut sentence = Vec::new();
    for word in words {
        let ends = word.ends_with(['.', '!', '?', '…']);
        sentence.push(word);
        if ends {
            sentences.push(polish_sentence(&sentence.join(" "), opens_questions));
            sentence.clear();
        }
    }
    if !sentence.is_empty() {
        sentences.push(polish_sentence(&sentence.join(" "), opens_questions));
    }
    sentences.join(" ")
}

/// Whether a word has two letters or more, all of them capitals.
fn is_in_capitals(word: &str) -> bool {
    let mut letters = word.chars().filter(|letter| letter.is_alphabetic());
    letters.by_ref().take(2).filter(|letter| letter.is_uppercase()).count() == 2
        && letters.all(char::is_uppercase)
}

/// A word without the mark of an unknown (`*`), untranslated (`@`) or ungenerated (`#`) form.
fn without_mark(word: &str) -> &str {
    match word.strip_prefix(['*', '@', '#']) {
        Some(rest) if rest.starts_with(char::is_alphabetic) => rest,
        _ => word,
    }
}

fn polish_sentence(sentence: &str, opens_questions: bool) -> String {
    let mut polished = String::with_capacity(sentence.len() + 2);
    if opens_questions && !sentence.contains(['¿', '¡']) {
        if sentence.ends_with('?') {
            polished.push('¿');
        } else if sentence.ends_with('!') {
            polished.push('¡');
        }
    }
    let mut characters = sentence.chars();
    for character in characters.by_ref() {
        if character.is_alphanumeric() {
            polished.extend(character.to_uppercase());
            break;
        }
        polished.push(character);
    }
    polished.push_str(characters.as_str());
    polished
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn special_characters_are_escaped_and_come_back() {
        let request = request("a [b] {c} ^d$ e/f \\ g@h <i>");
        let text = std::str::from_utf8(&request).expect("text");
        assert_eq!(text, "a \\[b\\] \\{c\\} \\^d\\$ e\\/f \\\\ g\\@h \\<i\\>.[][\n]\0");
    }

    #[test]
    fn the_terminating_full_stop_is_removed_but_not_the_speakers_own() {
        assert_eq!(answer("Hola.[][\n]"), "Hola");
        assert_eq!(answer("Hola..[][\n]"), "Hola.");
        assert_eq!(answer("¿Hola?.[][\n]"), "¿Hola?");
    }

    #[test]
    fn spaces_marks_and_small_letters_are_polished() {
        assert_eq!(polish("  puedes   oírme ahora ?", "", true), "¿Puedes oírme ahora?");
        assert_eq!(polish("hola, cómo eres? bien !", "", true), "¿Hola, cómo eres? ¡Bien!");
        assert_eq!(polish("it is *thursday @today .", "", false), "It is thursday today.");
        assert_eq!(polish("#1 and * stay", "", false), "#1 and * stay");
        assert_eq!(polish("", "", true), "");
        assert_eq!(polish("EL agua", "The water", false), "El agua");
        assert_eq!(polish("EL agua de la ONU", "UN water", false), "EL agua de la ONU");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_framing(text in ".*") {
            let request = request(&text);
            let nul = request.iter().position(|byte| *byte == 0);
            prop_assert_eq!(nul, Some(request.len() - 1));
        }

        #[test]
        fn an_echoed_request_gives_the_text_back(text in ".*") {
            let request = request(&text);
            let body = std::str::from_utf8(&request[..request.len() - 1]).expect("text");
            let plain: String =
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            prop_assert_eq!(answer(body), plain);
        }

        #[test]
        fn no_answer_makes_the_reader_panic(raw in ".*") {
            polish(&answer(&raw), &raw, true);
        }
    }
}
