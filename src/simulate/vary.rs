//! `--vary fall=1..5`: all combinations of some values of some policy keys.

use super::MAX_POLICIES;
use super::scenario::policy_of;
use crate::core::tags::quote;

/// The values of one key: `fall=1..5` or `interval=500ms,1s,2s`.
///
/// # Errors
/// What is wrong, with an example.
pub fn values(text: &str) -> Result<Vec<String>, String> {
    let example = "as in fall=1..5 or interval=500ms,1s,2s,5s";
    let Some((key, list)) = text.split_once('=') else {
        return Err(format!("{} lacks values, {example}", quote(text)));
    };
    let single = |value: &str| {
        let pair = format!("{}={}", key.trim(), value.trim());
        policy_of(&pair).map(|_| pair)
    };
    if let Some((low, high)) = list.split_once("..") {
        let number = |text: &str| text.trim().trim_start_matches('=').parse::<u32>().ok();
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            return Err(format!("{} is no range of whole numbers, {example}", quote(text)));
        };
        if low > high {
            return Err(format!("{} ends before it begins, {example}", quote(text)));
        }
        if usize::try_from(high - low).unwrap_or(usize::MAX) >= MAX_POLICIES {
            return Err(format!("{} has more than {MAX_POLICIES} values", quote(text)));
        }
        return (low..=high).map(|value| single(&value.to_string())).collect();
    }
    list.split(',').filter(|value| !value.trim().is_empty()).map(single).collect::<Result<Vec<_>, _>>().and_then(
        |values| if values.is_empty() { Err(format!("{} lacks values, {example}", quote(text))) } else { Ok(values) },
    )
}

/// All combinations, the first list changing slowest.
///
/// # Errors
/// There are more than [`MAX_POLICIES`].
pub fn combinations(lists: &[Vec<String>]) -> Result<Vec<String>, String> {
    let count = lists.iter().map(Vec::len).fold(1, usize::saturating_mul);
    if count > MAX_POLICIES {
        return Err(format!("{count} combinations are more than {MAX_POLICIES}: vary fewer keys, or fewer values"));
    }
    let mut all = vec![String::new()];
    for list in lists {
        let longer = all.iter().flat_map(|start| {
            list.iter().map(move |pair| if start.is_empty() { pair.clone() } else { format!("{start} {pair}") })
        });
        all = longer.collect();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_lists_multiply() {
        let fall = values("fall=1..3").unwrap();
        assert_eq!(fall, ["fall=1", "fall=2", "fall=3"]);
        let interval = values("interval=500ms,1s").unwrap();
        let all = combinations(&[fall, interval]).unwrap();
        assert_eq!(all.len(), 6);
        assert_eq!((all[0].as_str(), all[5].as_str()), ("fall=1 interval=500ms", "fall=3 interval=1s"));
        assert_eq!(combinations(&[]).unwrap(), [""]);
    }

    #[test]
    fn what_cannot_be_varied_is_refused_with_a_reason() {
        for (text, part) in [
            ("fall", "lacks values, as in fall=1..5"),
            ("fall=", "lacks values"),
            ("fall=5..1", "ends before it begins"),
            ("fall=a..b", "no range of whole numbers"),
            ("fall=0..3", "'fall=0' is below 1"),
            ("fall=1..4000000000", "more than 200 values"),
            ("interval=1s,2x", "'interval=2x' is not a duration"),
            ("fal=1..3", "'fal=1' is not a policy key"),
        ] {
            let problem = values(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
        let many = values("fall=1..20").unwrap();
        let problem = combinations(&[many.clone(), many]).unwrap_err();
        assert!(problem.contains("400 combinations are more than 200"), "{problem}");
    }
}
