//! Lets a growing translation go clause by clause, each once it has passed the guard.

use super::guard::Guard;

/// A clause at least this long may be spoken on its own; a shorter one waits for company.
const SHORTEST_CLAUSE: usize = 12;
/// A clause of this many words may also end before a conjunction; the first one sooner, because
/// until then there is silence.
const LONG_CLAUSE_WORDS: usize = 8;
const LONG_FIRST_CLAUSE_WORDS: usize = 4;
/// After this many words the first piece goes wherever a word ends: whoever speaks it looks for the
/// best place to breathe in it.
const FIRST_PIECE_WORDS: usize = 8;

/// Conjunctions before which a speaker may take breath.
const CONJUNCTIONS: &[&str] = &[
    "and", "but", "because", "so", "that", "which", "when", "if", "y", "pero", "porque", "que",
    "cuando", "si", "et", "mais", "parce", "qui", "quand", "e", "ma", "perché", "che", "und",
    "aber", "weil", "dass", "wenn", "mas", "quando",
];

/// Collects the output and passes on what may be spoken.
pub(super) struct Releaser<'a> {
    guard: Guard,
    on_text: &'a mut dyn FnMut(&str),
    text: String,
    released: usize,
}

impl<'a> Releaser<'a> {
    pub(super) fn new(guard: Guard, on_text: &'a mut dyn FnMut(&str)) -> Self {
        Self { guard, on_text, text: String::new(), released: 0 }
    }

    /// Text that was passed on so far.
    pub(super) fn released(&self) -> &str {
        &self.text[..self.released]
    }

    /// Takes the output so far, which continues what it was at the last call.
    ///
    /// # Errors
    /// The guard's objection; nothing further may be released then.
    pub(super) fn update(&mut self, text: &str) -> Result<(), String> {
        let whole_characters = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if !whole_characters.starts_with(self.released()) {
            return Err("the output changed behind what was spoken".to_owned());
        }
        whole_characters.clone_into(&mut self.text);
        self.guard.check_growth(&self.text)?;
        if let Some(end) = clause_end(&self.text, self.released) {
            let text = &self.text[..end];
            self.guard.check_numbers(text)?;
            if self.guard.is_settled(text) {
                self.release(end);
            }
        }
        Ok(())
    }

    /// Checks the whole and lets the rest go.
    ///
    /// # Errors
    /// The guard's objection to the whole.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.guard.check_whole(&self.text)?;
        self.release(self.text.trim_end().len());
        Ok(())
    }

    fn release(&mut self, end: usize) {
        if end > self.released {
            (self.on_text)(&self.text[self.released..end]);
            self.released = end;
        }
    }
}

/// Where the last clause after `start` ends that is surely over: punctuation followed by a space, or
/// a conjunction after many words.
fn clause_end(text: &str, start: usize) -> Option<usize> {
    let pending = &text[start..];
    let mut end = None;
    let mut clause_start = 0;
    for (index, _) in pending.char_indices().filter(|(_, letter)| *letter == ' ') {
        let clause = &pending[clause_start..index];
        if clause.trim().chars().count() < SHORTEST_CLAUSE {
            continue;
        }
        let next_word = pending[index + 1..].split_once(' ').map(|(word, _)| word);
        let is_first = start == 0 && clause_start == 0;
        let long = if is_first { LONG_FIRST_CLAUSE_WORDS } else { LONG_CLAUSE_WORDS };
        let words = clause.split_whitespace().count();
        let breathes = words >= long && next_word.is_some_and(|word| CONJUNCTIONS.contains(&word));
        let is_overdue = is_first && words >= FIRST_PIECE_WORDS;
        if ends_clause(clause) || breathes || is_overdue {
            end = Some(start + index);
            clause_start = index;
        }
    }
    end
}

fn ends_clause(clause: &str) -> bool {
    let last_word = clause.rsplit(' ').next().unwrap_or_default();
    let abbreviation = last_word.strip_suffix('.').is_some_and(|word| {
        word.chars().count() <= 3 && word.chars().next().is_some_and(char::is_uppercase)
    });
    clause.ends_with(['.', ',', ';', ':', '!', '?', '…']) && !abbreviation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Language;

    /// Feeds the words of `output` one by one; returns the pieces and the outcome.
    fn stream(source: &str, output: &str) -> (Vec<String>, Result<(), String>) {
        let mut pieces = Vec::new();
        let mut on_text = |piece: &str| pieces.push(piece.to_owned());
        let mut releaser =
            Releaser::new(Guard::new(source, Language::EN, Language::ES), &mut on_text);
        let ends = output.match_indices(' ').map(|(index, _)| index + 1).chain([output.len()]);
        let outcome = ends
            .map(|end| releaser.update(&output[..end]))
            .find(Result::is_err)
            .unwrap_or_else(|| releaser.finish());
        (pieces, outcome)
    }

    #[test]
    fn clauses_are_released_as_they_end() {
        let output = "Si llueve mañana, nos quedaremos en casa. Hasta luego.";
        let (pieces, outcome) = stream("If it rains tomorrow, we stay at home. Bye.", output);
        assert_eq!(outcome, Ok(()));
        assert_eq!(pieces, ["Si llueve mañana,", " nos quedaremos en casa.", " Hasta luego."]);
        assert_eq!(pieces.concat(), output);
    }

    #[test]
    fn a_short_clause_waits_for_company() {
        let (pieces, _) = stream("Hello, how are you?", "Hola, ¿cómo estás?");
        assert_eq!(pieces, ["Hola, ¿cómo estás?"]);
    }

    #[test]
    fn a_title_is_no_end_of_a_clause() {
        let (pieces, _) = stream("Good morning Dr. Smith.", "Buenos días, doctor Sr. López.");
        assert_eq!(pieces, ["Buenos días,", " doctor Sr. López."].map(str::to_owned));
    }

    #[test]
    fn a_first_clause_breathes_before_a_conjunction() {
        let output = "Deberíamos hablar mañana mismo porque es importante.";
        let (pieces, outcome) = stream("We should talk tomorrow because it matters.", output);
        assert_eq!(outcome, Ok(()));
        assert_eq!(pieces, ["Deberíamos hablar mañana mismo", " porque es importante."]);
    }

    #[test]
    fn a_long_first_clause_does_not_wait_for_its_end() {
        let output = "Creo que deberíamos hablar con todo el equipo mañana porque es importante.";
        let (pieces, outcome) =
            stream("I think we should talk to the team tomorrow because it matters.", output);
        assert_eq!(outcome, Ok(()));
        assert_eq!(pieces[0].split_whitespace().count(), FIRST_PIECE_WORDS);
        assert_eq!(pieces.concat(), output);
    }

    #[test]
    fn nothing_is_released_of_an_output_that_loops() {
        let (pieces, outcome) = stream("Not at all, sir.", "No, no, no, no, no, no, no.");
        assert!(outcome.is_err());
        assert!(pieces.is_empty(), "{pieces:?}");
    }

    #[test]
    fn a_wrong_number_is_held_back_and_what_was_right_stands() {
        let (pieces, outcome) =
            stream("On Monday at 9, room 12.", "El lunes a las 9, en la sala 21, primera puerta.");
        assert!(outcome.is_err());
        assert_eq!(pieces, ["El lunes a las 9,"]);
    }

    #[test]
    fn half_a_character_is_not_shown() {
        let mut pieces = Vec::new();
        let mut on_text = |piece: &str| pieces.push(piece.to_owned());
        let guard = Guard::new("Tomorrow.", Language::EN, Language::ES);
        let mut releaser = Releaser::new(guard, &mut on_text);
        assert_eq!(releaser.update("Ma\u{fffd}"), Ok(()));
        assert_eq!(releaser.update("Mañana."), Ok(()));
        assert_eq!(releaser.finish(), Ok(()));
        assert_eq!(pieces, ["Mañana."]);
    }
}
