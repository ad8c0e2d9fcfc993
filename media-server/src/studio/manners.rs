//! Gives a translated sentence the manners of its source: the ladder mends text for the ear (a
//! capital, a full stop), and written text should come back as it was written.

/// Marks that end a sentence.
const ENDS: &[char] = &['.', '!', '?', '…', '。', '！', '？', ':', ';', ','];

/// `translated` with the final mark, the case and the first letter's case of `source`.
pub(super) fn follow(source: &str, translated: &str) -> String {
    let mut text = translated.trim().to_owned();
    let mark = |text: &str| text.trim_end().chars().next_back().filter(|last| ENDS.contains(last));
    match (mark(source), mark(&text)) {
        // Only the stop that was put there: a question in the translation is one.
        (None, Some('.' | '。')) if !text.ends_with("..") => drop(text.pop()),
        (Some(mark @ ('.' | '!' | '?')), None) => text.push(mark),
        _ => {}
    }
    let mut cased = source.chars().filter(|letter| letter.is_lowercase() || letter.is_uppercase());
    let first_is_capital = cased.clone().next().map(char::is_uppercase);
    let letters = cased.clone().count();
    if letters > 1 && cased.clone().all(char::is_uppercase) {
        return text.to_uppercase();
    }
    if letters > 0 && cased.all(char::is_lowercase) {
        return text.to_lowercase();
    }
    match first_is_capital {
        Some(is_capital) => with_first_letter(&text, is_capital),
        None => text,
    }
}

fn with_first_letter(text: &str, is_capital: bool) -> String {
    let Some((at, first)) = text.char_indices().find(|(_, letter)| letter.is_alphabetic()) else {
        return text.to_owned();
    };
    let (before, after) = (&text[..at], &text[at + first.len_utf8()..]);
    let first: String =
        if is_capital { first.to_uppercase().collect() } else { first.to_lowercase().collect() };
    format!("{before}{first}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_mark_follows_the_source() {
        assert_eq!(follow("Good morning", "Buenos días."), "Buenos días");
        assert_eq!(follow("Good morning!", "Buenos días"), "Buenos días!");
        assert_eq!(follow("Wait", "Espera..."), "Espera...");
        assert_eq!(follow("You come", "¿Vienes?"), "¿Vienes?");
    }

    #[test]
    fn the_case_follows_the_source() {
        assert_eq!(follow("hello", "Hola."), "hola");
        assert_eq!(follow("HELLO WORLD", "Hola mundo."), "HOLA MUNDO");
        assert_eq!(follow("the Spanish word", "La palabra española."), "la palabra española");
        assert_eq!(follow("¿Qué?", "what?"), "What?");
        assert_eq!(follow("I", "Yo."), "Yo");
        assert_eq!(follow("你好", "Hello."), "Hello");
    }
}
