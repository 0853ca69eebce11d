//! Names that an error is about: what is similar, and how much of a long one is shown.

/// At how many letters' distance a word is still close.
const CLOSE: usize = 3;

/// How many letters of a name an error repeats.
const NAME: usize = 120;

/// A name as an error repeats it: the beginning of one that is too long to be read.
pub(crate) fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}… ({} letters)", &name[..end], name.chars().count()),
        None => name.to_string(),
    }
}

/// Of some words the one that comes closest to a wrong one, if any is close.
pub(crate) fn closest<'a>(words: impl IntoIterator<Item = &'a String>, wrong: &str) -> Option<String> {
    // Words whose lengths differ by more are further apart, and a wrong one may be as long as whoever sent it likes.
    let length = wrong.chars().count();
    let alike = words.into_iter().filter(|word| word.chars().count().abs_diff(length) <= CLOSE);
    let close = alike.map(|word| (distance(word, wrong), word)).filter(|(distance, _)| *distance <= CLOSE);
    close.min().map(|(_, word)| word.clone())
}

/// The number of letters to insert, delete or replace between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b = b.chars().collect::<Vec<_>>();
    let mut row = (0..=b.len()).collect::<Vec<_>>();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The end of a sentence that names something similar, if there is something.
pub(crate) fn did_you_mean(similar: Option<String>) -> String {
    similar.map(|path| format!("; there is `{path}`")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_at_most_three_letters_away() {
        let words = ["layers.0.output".to_string(), "lm_head.output".to_string()];
        assert_eq!(closest(&words, "layer.0.outptu"), Some(words[0].clone()));
        assert_eq!(closest(&words, "head.output"), Some(words[1].clone()));
        assert_eq!(closest(&words, "hed.output"), None);
    }

    #[test]
    fn a_name_of_megabytes_is_close_to_nothing_and_is_not_repeated() {
        let words = (0..1000).map(|layer| format!("layers.{layer}.output")).collect::<Vec<_>>();
        let wrong = "é".repeat(5_000_000);
        let start = std::time::Instant::now();
        assert_eq!(closest(&words, &wrong), None);
        assert!(start.elapsed().as_secs() < 2);
        assert_eq!(shortened(&wrong), format!("{}… (5000000 letters)", "é".repeat(120)));
        assert_eq!(shortened("layers.0.output"), "layers.0.output");
    }
}
