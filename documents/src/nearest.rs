//! "Did you mean …?"

/// `; did you mean "x"?` for the candidate that is closest to `word`, or nothing when none is close.
pub(crate) fn hint(word: &str, candidates: &[&str]) -> String {
    if word.len() > 64 {
        return String::new();
    }
    let near = candidates
        .iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min();
    near.map(|(_, candidate)| format!(" (did you mean {candidate:?}?)")).unwrap_or_default()
}

/// Levenshtein distance, in characters, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let cost = if x == *y { diagonal } else { 1 + diagonal.min(above).min(left) };
            diagonal = above;
            left = cost;
            *cell = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_and_a_far_one_is_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(hint("evry", &["name", "every"]), " (did you mean \"every\"?)");
        assert_eq!(hint("nonsense", &["name", "every"]), "");
    }
}
