//! An error in one line.

use std::error::Error;

/// What it says, and what it came from: each once, because many errors repeat their cause in their own words.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{says}")]
    struct Said {
        says: &'static str,
        #[source]
        from: Option<Box<Said>>,
    }

    #[test]
    fn each_cause_is_said_once() {
        let from = |says, from| Some(Box::new(Said { says, from }));
        let error = Said {
            says: "asking: connecting",
            from: from("connecting", from("nobody listens", None)),
        };
        assert_eq!(causes(&error), "asking: connecting: nobody listens");
    }
}
