//! Text as it comes from a translator made fit to be spoken: without what has no sound.

/// Removes control characters, emoji, private and invisible characters, and folds white space.
/// Numbers, dates and abbreviations are left to the engine, which knows the language.
pub(super) fn speakable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if character.is_whitespace() || character.is_control() => {
                push_space(&mut clean);
            }
            // Joiners steer the reading of Indic and Perso-Arabic letters; elsewhere they glue emoji.
            '\u{200c}' | '\u{200d}' if clean.ends_with(joins) => clean.push(character),
            character if is_silent(character) => {}
            // Markup that a language model may slip in.
            '*' | '_' | '`' | '#' | '~' | '|' | '<' | '>' | '{' | '}' | '[' | ']' | '\\' | '^' => {
                push_space(&mut clean);
            }
            '’' | 'ʼ' | '‘' => clean.push('\''),
            character => clean.push(character),
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

fn push_space(text: &mut String) {
    if !text.is_empty() && !text.ends_with(' ') {
        text.push(' ');
    }
}

/// Letters and vowel signs of the scripts that use joiners.
fn joins(character: char) -> bool {
    matches!(u32::from(character), 0x0600..=0x0eff)
}

/// Emoji and symbols, variation selectors, joiners, direction marks, private use.
fn is_silent(character: char) -> bool {
    matches!(
        u32::from(character),
        0x200b..=0x200f
            | 0x2028..=0x202e
            | 0x2060..=0x206f
            | 0x2190..=0x21ff
            | 0x2300..=0x27bf
            | 0x2900..=0x2bff
            | 0xe000..=0xf8ff
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xfff0..=0xffff
            | 0x1f000..=0x1faff
            | 0xe0000..=0x10_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_sound_is_removed() {
        let text = "\u{feff}Hola 👋🏽,\tmundo!\r\n**¡Qué** bien!\u{200b} ☀️  3.5 €";
        assert_eq!(speakable(text), "Hola , mundo! ¡Qué bien! 3.5 €");
        assert_eq!(speakable("👩‍👩‍👧‍👦 \u{7}"), "");
        assert_eq!(speakable("नमस्ते, aujourd’hui"), "नमस्ते, aujourd'hui");
    }
}
