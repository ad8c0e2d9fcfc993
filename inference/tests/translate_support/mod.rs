//! What the translator tests share: everyday sentences and the measure of quality.

use std::collections::HashMap;

/// chrF (Popović, 2015) over a corpus: character n-grams of 1 to 6 without spaces, recall weighted
/// twice; 0 to 100.
pub fn chrf(pairs: &[(String, &str)]) -> f64 {
    const ORDERS: usize = 6;
    let mut precisions = Vec::new();
    let mut recalls = Vec::new();
    for order in 1..=ORDERS {
        let (mut matched, mut in_output, mut in_reference) = (0usize, 0usize, 0usize);
        for (output, reference) in pairs {
            let (output, reference) = (ngrams(output, order), ngrams(reference, order));
            in_output += output.values().sum::<usize>();
            in_reference += reference.values().sum::<usize>();
            matched += output
                .iter()
                .map(|(gram, count)| *count.min(reference.get(gram).unwrap_or(&0)))
                .sum::<usize>();
        }
        if in_output > 0 && in_reference > 0 {
            precisions.push(matched as f64 / in_output as f64);
            recalls.push(matched as f64 / in_reference as f64);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (precision, recall) = (mean(&precisions), mean(&recalls));
    if precision + recall == 0.0 {
        return 0.0;
    }
    100.0 * 5.0 * precision * recall / (4.0 * precision + recall)
}

fn ngrams(text: &str, order: usize) -> HashMap<Vec<char>, usize> {
    let letters: Vec<char> = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let mut counts = HashMap::new();
    for gram in letters.windows(order) {
        *counts.entry(gram.to_vec()).or_default() += 1;
    }
    counts
}

/// Everyday sentences with their translations (English, Spanish).
pub const SENTENCES: [(&str, &str); 8] = [
    ("Good evening, is this seat free?", "Buenas tardes, ¿está libre este asiento?"),
    ("My flight leaves at six in the morning.", "Mi vuelo sale a las seis de la mañana."),
    (
        "We forgot to buy bread, so we need to go back to the shop.",
        "Olvidamos comprar pan, así que tenemos que volver a la tienda.",
    ),
    ("How many people work in your company?", "¿Cuántas personas trabajan en su empresa?"),
    ("The doctor says I should drink more water.", "El médico dice que debo beber más agua."),
    (
        "Can we move the call to Wednesday at 10?",
        "¿Podemos mover la llamada al miércoles a las 10?",
    ),
    ("I don't like this song, it is too loud.", "No me gusta esta canción, es demasiado ruidosa."),
    ("My brother bought a red car last year.", "Mi hermano compró un coche rojo el año pasado."),
];
